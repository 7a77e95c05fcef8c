//! The library in this process: a runner as a host that embeds it would have.

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

/// A host process within the test's own.
pub(crate) struct Inside {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    runner: Arc<Runner>,
    /// What goes past the cache, and what goes to the cache.
    pub(crate) asked: Arc<Counted>,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) record: RunRecord,
    pub(crate) shown: String,
}

impl Inside {
    /// A host whose vault holds these secrets.
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
        Self::make(local, compiler, |options, folder| {
            let records = RunStore::open(&folder.join("runs")).expect("a folder for records");
            options.records(Arc::new(records)).code_store(folder.join("code"))
        })
    }

    /// A host with another vault, which brings its cache, and room for so many runs at once. It keeps neither records nor compiled code.
    pub(crate) fn around(vault: Arc<dyn Vault>, max_runs: u32) -> Self {
        Self::make(|_, _| vault, compiler(), |options, _| options.max_runs(max_runs))
    }

    fn make(
        vault: impl FnOnce(&tokio::runtime::Runtime, &Path) -> Arc<dyn Vault>,
        compiler: ChildCompiler,
        more: impl FnOnce(RunnerOptions, &Path) -> RunnerOptions,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Threads for blocking work end soon after it, so that those that are there can be counted.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).thread_keep_alive(Duration::from_millis(20)).enable_all().build();
        let runtime = runtime.expect("threads");
        let (runner, asked) = {
            let _context = runtime.enter();
            let inner = vault(&runtime, folder.path());
            let asked = Arc::new(Counted { inner, calls: AtomicUsize::new(0), looks: AtomicUsize::new(0) });
            let temp = folder.path().join("tmp");
            std::fs::create_dir(&temp).expect("a folder");
            let audit = Audit::open(&folder.path().join("audit"), SyncMode::Os).expect("an audit");
            let vault = Arc::clone(&asked) as Arc<dyn Vault>;
            let options = RunnerOptions::new(vault, audit, Compile::Child(compiler)).temp(temp);
            (Arc::new(Runner::new(more(options, folder.path())).expect("a runner")), asked)
        };
        Self { folder, runtime, runner, asked }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a guest to its end.
    pub(crate) fn run(&self, component: &str, policy: &str, args: &[&str]) -> Seen {
        self.runtime.block_on(self.start(component, policy, args))
    }

    /// Runs many guests, `at_once` of them at any time. Each answer comes with the run's place in the list.
    pub(crate) fn run_all(&self, runs: &[Work], at_once: usize) -> Vec<Seen> {
        use futures_util::StreamExt as _;
        let started = runs.iter().map(|(component, policy, args)| {
            let run = self.start(component, policy, args);
            // A task each, so that both of the runtime's threads work.
            let task = self.runtime.spawn(run);
            async move { task.await.expect("no run panics") }
        });
        let _context = self.runtime.enter();
        self.runtime.block_on(futures_util::stream::iter(started).buffered(at_once).collect())
    }

    /// The runtime, for what a test does beside the runs.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// A run's events in the audit.
    pub(crate) fn events(&self, record: &RunRecord) -> Vec<serde_json::Value> {
        super::host::events_in(&self.folder.path().join("audit"), record)
    }

    /// A run that begins when it is first polled.
    pub(crate) fn start(
        &self,
        component: &str,
        policy: &str,
        args: &[&str],
    ) -> impl Future<Output = Seen> + Send + use<> {
        let mut spec = RunSpec::new(guest(component));
        spec.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let policy = Arc::new(Policy::parse(policy, "policy.toml").expect("a policy"));
        let (runner, collected) = (Arc::clone(&self.runner), Arc::new(Collected::default()));
        async move {
            let observer = Arc::clone(&collected) as Arc<dyn Observer>;
            let record = runner.run(spec, policy, observer, std::future::pending()).await.expect("the run starts");
            let shown = String::from_utf8_lossy(&collected.0.lock().expect("no panic")).into_owned();
            Seen { record, shown }
        }
    }
}

/// One run of many: a guest, its policy and its arguments.
pub(crate) type Work = (&'static str, String, &'static [&'static str]);

/// The compiler of the real program.
pub(crate) fn compiler() -> ChildCompiler {
    ChildCompiler::new(PathBuf::from(env!("CARGO_BIN_EXE_strongroom")))
}

impl Seen {
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

/// A vault behind its cache, and how often it was asked for anything.
pub(crate) struct Counted {
    inner: Arc<dyn Vault>,
    calls: AtomicUsize,
    looks: AtomicUsize,
}

impl Counted {
    /// How often the vault was called, and how often the cache was looked into.
    pub(crate) fn so_far(&self) -> (usize, usize) {
        (self.calls.load(Ordering::SeqCst), self.looks.load(Ordering::SeqCst))
    }

    fn call(&self) -> &dyn Vault {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &*self.inner
    }
}

#[async_trait]
impl Vault for Counted {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn cached(&self, grant: &Grant) -> Option<Result<Stored, VaultError>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
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
