//! The library in this process: a `Runner`, as an embedder has it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use strongroom::audit::{Audit, SyncMode};
use strongroom::ids::SecretName;
use strongroom::policy::{Grant, ListGrant, Policy};
use strongroom::record::{Limit, Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions};
use strongroom::runs::RunStore;
use strongroom::runtime::{ChildCompiler, Compile, Observer, Stream};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::cache::{Cache, Settings};
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{Abilities, Description, Missing, NewSecret, Operator, Stored, Vault, VaultError};
use tempfile::TempDir;

use super::guest;

/// A host in the test's own process.
pub(crate) struct InProcessHost {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    runner: Arc<Runner>,
    /// Counts the calls that reach the cache and the vault.
    pub(crate) vault_calls: Arc<CountingVault>,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct InProcessRun {
    pub(crate) record: RunRecord,
    pub(crate) shown: String,
}

impl InProcessHost {
    /// Creates a host whose vault contains these secrets.
    pub(crate) fn new(secrets: &[(&str, &str)]) -> Self {
        Self::with_compiler(secrets, compiler())
    }

    pub(crate) fn with_compiler(secrets: &[(&str, &str)], compiler: ChildCompiler) -> Self {
        let local = |runtime: &tokio::runtime::Runtime, folder: &Path| {
            let local = LocalVault::create(&folder.join("vault"), Protection::KeyFile).expect("a vault");
            let secrets = secrets.iter().map(|(name, value)| {
                let value = Arc::new(Secret::new((*value).to_owned()).expect("a value"));
                NewSecret::new(SecretName::parse(name).expect("a name"), value)
            });
            runtime.block_on(Operator::set_many(&local, secrets.collect())).expect("the secrets are set");
            Arc::new(Cache::new(Arc::new(local), Settings::default())) as Arc<dyn Vault>
        };
        Self::build(local, compiler, |options, folder| {
            let records = RunStore::open(&folder.join("runs")).expect("a folder for records");
            options.records(Arc::new(records)).code_store(folder.join("code"))
        })
    }

    /// Creates a host with another vault, which brings its own cache, and at most `max_runs`
    /// concurrent runs. It stores neither records nor compiled code.
    pub(crate) fn with_vault(vault: Arc<dyn Vault>, max_runs: u32) -> Self {
        Self::build(|_, _| vault, compiler(), |options, _| options.max_runs(max_runs))
    }

    fn build(
        vault: impl FnOnce(&tokio::runtime::Runtime, &Path) -> Arc<dyn Vault>,
        compiler: ChildCompiler,
        more: impl FnOnce(RunnerOptions, &Path) -> RunnerOptions,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Threads for blocking work end soon after it, so that the tests can count threads.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).thread_keep_alive(Duration::from_millis(20)).enable_all().build();
        let runtime = runtime.expect("threads");
        let (runner, vault_calls) = {
            let _context = runtime.enter();
            let inner = vault(&runtime, folder.path());
            let vault_calls =
                Arc::new(CountingVault { inner, calls: AtomicUsize::new(0), cache_lookups: AtomicUsize::new(0) });
            let temp = folder.path().join("tmp");
            std::fs::create_dir(&temp).expect("a folder");
            let audit = Audit::open(&folder.path().join("audit"), SyncMode::Os).expect("an audit");
            let vault = Arc::clone(&vault_calls) as Arc<dyn Vault>;
            let options = RunnerOptions::new(vault, audit, Compile::Child(compiler)).temp(temp);
            (Arc::new(Runner::new(more(options, folder.path())).expect("a runner")), vault_calls)
        };
        Self { folder, runtime, runner, vault_calls }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a guest to its end.
    pub(crate) fn run(&self, component: &str, policy: &str, args: &[&str]) -> InProcessRun {
        self.runtime.block_on(self.start(component, policy, args))
    }

    /// Runs many guests, at most `at_once` concurrently. Returns the results in the order of
    /// `runs`.
    pub(crate) fn run_all(&self, runs: &[RunRequest], at_once: usize) -> Vec<InProcessRun> {
        use futures_util::StreamExt as _;
        let started = runs.iter().map(|(component, policy, args)| {
            let run = self.start(component, policy, args);
            // A task for each run, so that both threads of the runtime are used.
            let task = self.runtime.spawn(run);
            async move { task.await.expect("no run panics") }
        });
        let _context = self.runtime.enter();
        self.runtime.block_on(futures_util::stream::iter(started).buffered(at_once).collect())
    }

    /// Returns the runtime, for a test's own futures.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// Returns a run's audit events.
    pub(crate) fn events(&self, record: &RunRecord) -> Vec<serde_json::Value> {
        super::host::events_in(&self.folder.path().join("audit"), record)
    }

    /// Returns a run that starts when it is first polled.
    pub(crate) fn start(
        &self,
        component: &str,
        policy: &str,
        args: &[&str],
    ) -> impl Future<Output = InProcessRun> + Send + use<> {
        let mut spec = RunSpec::new(guest(component));
        spec.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let policy = Arc::new(Policy::parse(policy, "policy.toml").expect("a policy"));
        let (runner, collected) = (Arc::clone(&self.runner), Arc::new(Collected::default()));
        async move {
            let observer = Arc::clone(&collected) as Arc<dyn Observer>;
            let record = runner.run(spec, policy, observer, std::future::pending()).await.expect("the run starts");
            let shown = String::from_utf8_lossy(&collected.0.lock().expect("no panic")).into_owned();
            InProcessRun { record, shown }
        }
    }
}

/// A guest, its policy and its arguments.
pub(crate) type RunRequest = (&'static str, String, &'static [&'static str]);

/// Returns the compiler of the real program.
pub(crate) fn compiler() -> ChildCompiler {
    ChildCompiler::new(PathBuf::from(env!("CARGO_BIN_EXE_strongroom")))
}

impl InProcessRun {
    #[track_caller]
    pub(crate) fn finished(self) -> Self {
        assert_eq!(self.record.outcome, Outcome::Finished, "{:?}\n{}", self.record.reason, self.shown);
        self
    }

    #[track_caller]
    pub(crate) fn stopped(self, limit: Limit) -> Self {
        assert_eq!(self.record.outcome, Outcome::Limit, "{:?}\n{}", self.record.reason, self.shown);
        assert_eq!(self.record.limit, Some(limit), "{:?}", self.record.reason);
        self
    }

    #[track_caller]
    pub(crate) fn shows(self, text: &str) -> Self {
        assert!(self.shown.contains(text), "`{text}` is not in:\n{}", self.shown);
        self
    }
}

#[derive(Default)]
struct Collected(Mutex<Vec<u8>>);

impl Observer for Collected {
    fn output(&self, _stream: Stream, bytes: &[u8]) {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
    }
}

/// A vault that counts its calls.
pub(crate) struct CountingVault {
    inner: Arc<dyn Vault>,
    calls: AtomicUsize,
    cache_lookups: AtomicUsize,
}

impl CountingVault {
    /// Returns how often the vault was called, and how often the cache was consulted.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.calls.load(Ordering::SeqCst), self.cache_lookups.load(Ordering::SeqCst))
    }

    fn call(&self) -> &dyn Vault {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &*self.inner
    }
}

#[async_trait]
impl Vault for CountingVault {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        self.cache_lookups.fetch_add(1, Ordering::SeqCst);
        self.inner.cached(grant)
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.call().get(grant).await
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        self.call().get_many(grants).await
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        self.call().describe(grant).await
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        self.call().set_many(secrets).await
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        self.call().delete_many(grants).await
    }

    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        self.call().list(grant).await
    }
}
