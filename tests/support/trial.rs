//! A host in this process for trying many components in sequence. If it panics on a component, the
//! test fails.

use std::path::PathBuf;
use std::sync::Arc;

use strongroom::audit::{Audit, SyncMode};
use strongroom::policy::Policy;
use strongroom::record::RunRecord;
use strongroom::runner::{Runner, RunnerOptions, StartError};
use strongroom::runtime::{Compile, Silent};
use strongroom::spec::RunSpec;
use strongroom::vault::local::{LocalVault, Protection};
use tempfile::TempDir;

/// A host with one policy for all its runs.
pub(crate) struct Trial {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    runner: Runner,
    policy: Arc<Policy>,
}

impl Trial {
    pub(crate) fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads");
        let vault = LocalVault::create(&folder.path().join("vault"), Protection::KeyFile).expect("a vault");
        let audit = Audit::open(&folder.path().join("audit"), SyncMode::Os).expect("an audit");
        let temp = folder.path().join("tmp");
        std::fs::create_dir(&temp).expect("a folder");
        // In this process, so that a panic of the compiler fails the test too.
        let options = RunnerOptions::new(Arc::new(vault), audit, Compile::InProcess).temp(temp);
        let runner = {
            let _context = runtime.enter();
            Runner::new(options).expect("a runner")
        };
        Self { folder, runtime, runner, policy: Arc::new(Policy::parse(policy, "policy.toml").expect("a policy")) }
    }

    /// Runs a component, given as bytes.
    pub(crate) fn run(&self, component: &[u8]) -> Result<RunRecord, StartError> {
        let path: PathBuf = self.folder.path().join("tried.wasm");
        std::fs::write(&path, component).expect("a file can be written");
        let run =
            self.runner.run(RunSpec::new(&path), Arc::clone(&self.policy), Arc::new(Silent), std::future::pending());
        self.runtime.block_on(run)
    }
}
