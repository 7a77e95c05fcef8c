//! Checks a run once, before it starts: component, policy, limits and directories.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use strongroom_broker::Timer;
use strongroom_core::record::RunRecord;
use strongroom_core::spec::RunSpec;
use strongroom_policy::{Ceilings, Limits, Policy};
use strongroom_runtime::component::COMPONENT_MAX;
use strongroom_runtime::{Candidate, Observer};

use super::directories::{self, Checked};
use super::{Runner, StartError};

/// The host's requirements for every run, independent of its policy.
///
/// A [`Runner`] has these checks in its options. A program that reports bad input before it opens a
/// vault and an audit log makes them itself, as the command line does.
///
/// A prepared run is bound by the checks that prepared it, not by those of the runner that runs it:
/// give both the same ceilings and private paths.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Checks {
    ceilings: Ceilings,
    private: Vec<PathBuf>,
}

impl Checks {
    /// Sets the limits that no policy may exceed. By default a policy may ask for anything.
    pub fn ceilings(mut self, ceilings: Ceilings) -> Self {
        self.ceilings = ceilings;
        self
    }

    /// Sets the files and directories that no component may see or change: the vault, its key, the
    /// audit log and the run records. A run whose input directory contains or is inside one of
    /// them, or whose output directory is inside one, is refused. None by default.
    pub fn private(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.private = paths.into_iter().collect();
        self
    }

    /// Reads the component and checks everything that can be checked before a run starts. Creates
    /// nothing. Blocks.
    ///
    /// # Errors
    /// [`StartError`]: the component cannot be read, the policy is for another component or exceeds
    /// a ceiling, or a directory cannot be used.
    pub fn prepare(&self, spec: RunSpec, policy: Arc<Policy>) -> Result<PreparedRun, StartError> {
        let timer = Timer::start();
        let candidate = Candidate::read(&spec.component, COMPONENT_MAX)?;
        timer.lap(|timings| &mut timings.load);
        policy.check_component(candidate.digest())?;
        let limits = policy.limits_under(&self.ceilings)?;
        let directories = directories::check(&spec, &self.private)?;
        timer.lap(|timings| &mut timings.start);
        Ok(PreparedRun { spec, policy, candidate, limits, directories, timer })
    }
}

/// A run that was checked and can start.
///
/// It runs the component's bytes that were read and checked, even if its file has changed since,
/// and uses the directories that were checked, even if their paths now lead elsewhere.
#[must_use = "a prepared run does nothing until `PreparedRun::run`"]
pub struct PreparedRun {
    pub(super) spec: RunSpec,
    pub(super) policy: Arc<Policy>,
    pub(super) candidate: Candidate,
    pub(super) limits: Limits,
    pub(super) directories: Checked,
    pub(super) timer: Timer,
}

impl fmt::Debug for PreparedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedRun")
            .field("spec", &self.spec)
            .field("candidate", &self.candidate)
            .finish_non_exhaustive()
    }
}

impl PreparedRun {
    /// Returns the component.
    pub fn component(&self) -> &Candidate {
        &self.candidate
    }

    /// Returns the limits of the run: the policy's, under the ceilings.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs the component until it ends, is stopped at a limit, or `cancel` is ready.
    ///
    /// Dropping the returned future ends the run immediately. Its record stays at `running` until
    /// the next process marks it `lost`: use `cancel` for an orderly end.
    ///
    /// # Errors
    /// [`StartError`] if the run did not start. Once it has started, there is always a record.
    pub async fn run(
        self,
        runner: &Runner,
        observer: Arc<dyn Observer>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<RunRecord, StartError> {
        let room = runner.admit()?;
        runner.run_prepared(room, self, observer, cancel).await
    }
}
