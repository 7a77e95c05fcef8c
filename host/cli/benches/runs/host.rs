//! strongroom in this process, as an embedder uses it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use strongroom::audit::{Audit, SyncMode};
use strongroom::broker::Repeats;
use strongroom::ids::SecretName;
use strongroom::policy::Policy;
use strongroom::record::{Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions};
use strongroom::runtime::{Compile, Observer, Silent, Stream};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::cache::{Cache, Settings};
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{NewSecret, Operator, Vault};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The number of secrets in the vault.
pub(crate) const SECRETS: usize = 50;

/// Returns the value of a secret, of the length of a database password.
pub(crate) fn value(n: usize) -> String {
    format!("correct-horse-{n:06}")
}

pub(crate) struct Host {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) runner: Arc<Runner>,
    // Last, because the other fields write to it until they are dropped.
    pub(crate) folder: TempDir,
}

/// Returns the executor for strongroom and raw wasmtime.
pub(crate) fn runtime() -> Arc<Runtime> {
    Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap())
}

impl Host {
    /// Creates a host with a cache, a local vault, and records in memory.
    pub(crate) fn new(runtime: &Arc<Runtime>, sync: SyncMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault = LocalVault::create(&folder.path().join("vault"), Protection::KeyFile).unwrap();
        let secrets = (0..SECRETS).map(|n| {
            let value = Arc::new(Secret::new(value(n)).unwrap());
            NewSecret::new(SecretName::parse(&format!("key-{n}")).unwrap(), value)
        });
        runtime.block_on(Operator::set_many(&vault, secrets.collect())).unwrap();
        let vault: Arc<dyn Vault> = Arc::new(Cache::new(Arc::new(vault), Settings::default()));
        Self::with_vault(runtime, sync, folder, vault, |options| options)
    }

    pub(crate) fn with_vault(
        runtime: &Arc<Runtime>,
        sync: SyncMode,
        folder: TempDir,
        vault: Arc<dyn Vault>,
        more: impl FnOnce(RunnerOptions) -> RunnerOptions,
    ) -> Self {
        let _context = runtime.enter();
        let audit = Audit::open(&folder.path().join("audit"), sync).unwrap();
        let temp = folder.path().join("tmp");
        std::fs::create_dir(&temp).unwrap();
        let options = RunnerOptions::new(vault, audit, Compile::InProcess).temp(temp).repeats(Repeats::Sum);
        let runner = Arc::new(Runner::new(more(options)).unwrap());
        Self { runtime: Arc::clone(runtime), runner, folder }
    }

    /// Runs a component to its end.
    pub(crate) fn run(&self, component: &Path, policy: &Arc<Policy>, args: &[&str]) -> RunRecord {
        self.run_watched(component, policy, args, Arc::new(Silent))
    }

    fn run_watched(
        &self,
        component: &Path,
        policy: &Arc<Policy>,
        args: &[&str],
        observer: Arc<dyn Observer>,
    ) -> RunRecord {
        let spec = RunSpec::new(component).args(args.iter().copied());
        let run = self.runner.run(spec, Arc::clone(policy), observer, std::future::pending());
        let record = self.runtime.block_on(run).unwrap();
        assert_eq!(record.outcome, Outcome::Finished, "{:?}", record.reason);
        record
    }

    /// Runs a component and returns its output.
    pub(crate) fn printed(&self, component: &Path, policy: &Arc<Policy>, args: &[&str]) -> String {
        let collected = Arc::new(Collected::default());
        self.run_watched(component, policy, args, Arc::clone(&collected) as Arc<dyn Observer>);
        collected.text()
    }
}

/// The output of a run.
#[derive(Default)]
pub(crate) struct Collected(Mutex<Vec<u8>>);

impl Collected {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Observer for Collected {
    fn output(&self, _stream: Stream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

/// Parses a policy.
pub(crate) fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(&format!("version = 1\n{text}"), "policy").unwrap())
}
