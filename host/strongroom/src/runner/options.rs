//! The options of a runner.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use strongroom_audit::Audit;
use strongroom_broker::Repeats;
use strongroom_policy::Ceilings;
use strongroom_runtime::Compile;
use strongroom_runtime::engine::MAX_RUNS;
use strongroom_vault::Vault;

use super::Checks;
#[cfg(doc)]
use super::{DirectoryError, Runner, StartError};
use crate::runs::RunStore;

/// The options of a [`Runner`]. Three have no default; the defaults of the others suit a process
/// without its own directory on disk.
#[derive(Clone)]
#[must_use]
pub struct RunnerOptions {
    pub(crate) audit: Audit,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) repeats: Repeats,
    pub(crate) records: Option<Arc<RunStore>>,
    pub(crate) code_store: Option<PathBuf>,
    pub(crate) compile: Compile,
    pub(crate) checks: Checks,
    pub(crate) temp: PathBuf,
    pub(crate) max_runs: u32,
    pub(crate) timings: bool,
}

impl RunnerOptions {
    /// Returns options with the vault, the audit log, and where compilation happens. The last
    /// depends on how far components are trusted, see [`Compile`].
    pub fn new(vault: Arc<dyn Vault>, audit: Audit, compile: Compile) -> Self {
        Self {
            audit,
            vault,
            repeats: Repeats::default(),
            records: None,
            code_store: None,
            compile,
            checks: Checks::default(),
            temp: std::env::temp_dir(),
            max_runs: MAX_RUNS,
            timings: false,
        }
    }

    /// Sets how repeated reads are audited. By default they are audited as a total.
    pub fn repeats(mut self, repeats: Repeats) -> Self {
        self.repeats = repeats;
        self
    }

    /// Sets where records and logs are stored. By default they are only returned, and a run that
    /// ends with its process leaves none.
    pub fn records(mut self, records: Arc<RunStore>) -> Self {
        self.records = Some(records);
        self
    }

    /// Sets where compiled code is cached, a directory that belongs to this user alone. By default
    /// each process compiles again.
    pub fn code_store(mut self, dir: impl Into<PathBuf>) -> Self {
        self.code_store = Some(dir.into());
        self
    }

    /// Sets the limits that no policy may exceed. By default a policy may ask for anything.
    pub fn ceilings(mut self, ceilings: Ceilings) -> Self {
        self.checks = self.checks.ceilings(ceilings);
        self
    }

    /// Sets the existing directory in which runs without an output directory stage their output.
    /// The default is the system's temporary directory.
    pub fn temp(mut self, dir: impl Into<PathBuf>) -> Self {
        self.temp = dir.into();
        self
    }

    /// Sets the files and directories that no component may see or change. A run whose input
    /// directory contains or is inside one of them, or whose output directory is inside one, fails
    /// with [`DirectoryError::InputPrivate`] or [`DirectoryError::OutputPrivate`]. None by default: name
    /// the vault, its key, the audit log and the run records.
    pub fn private(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.checks = self.checks.private(paths);
        self
    }

    /// Sets how many runs may be alive at once; another run fails with [`StartError::Busy`]. The
    /// default is [`MAX_RUNS`]. Each slot costs address space from the beginning, and memory only
    /// while a run uses it.
    pub fn max_runs(mut self, max_runs: u32) -> Self {
        self.max_runs = max_runs;
        self
    }

    /// Sets whether each record contains the run's timings ([`RunRecord::timings`](strongroom_core::record::RunRecord::timings)). The default is
    /// no.
    pub fn timings(mut self, timings: bool) -> Self {
        self.timings = timings;
        self
    }
}

impl fmt::Debug for RunnerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerOptions")
            .field("audit", &self.audit)
            .field("compile", &self.compile)
            .finish_non_exhaustive()
    }
}
