//! Executes a run, from its specification to its record.
//!
//! Everything that can be checked is checked first, and an error at that stage leaves nothing
//! behind. Then the run starts with a run ID, a record, and a first audit event. From there every
//! path ends in a [`RunRecord`].

mod folders;
mod log;
mod outputs;
mod prepare;
mod private;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use folders::FolderError;
pub use prepare::{Checks, PreparedRun};

use crate::runs::{RunStore, RunStoreError};
use strongroom_audit::Audit;
use strongroom_broker::{Broker, Ended, Repeats, Session, settle};
use strongroom_core::record::{Limit, Outcome, Output, RunRecord};
use strongroom_core::spec::RunSpec;
use strongroom_policy::{Ceilings, Limits, Policy};
use strongroom_redact::Redactor;
use strongroom_runtime::engine::MAX_RUNS;
use strongroom_runtime::{
    Account, Candidate, CodeStore, Compile, CompileError, EngineError, EngineOptions, Execution, Executor, Handover,
    LoadError, Loaded, Loader, Observer, Reachable, Recorder, ResolveError, Ticker, engine,
};
use strongroom_vault::Vault;

/// How long a stopped run waits for its observer to read its output.
const READER_PATIENCE: Duration = Duration::from_secs(2);

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
    /// with [`FolderError::InputPrivate`] or [`FolderError::OutputPrivate`]. None by default: name
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

    /// Sets whether each record contains the run's timings ([`RunRecord::timings`]). The default is
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

/// Runs components. One runner serves a whole process: its runs share the engine, the compiled code
/// and the cache.
pub struct Runner {
    broker: Broker,
    loader: Loader,
    executor: Executor,
    ticker: Ticker,
    records: Option<Arc<RunStore>>,
    checks: Checks,
    temp: private::Temp,
    room: Arc<Semaphore>,
    timings: bool,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("broker", &self.broker).field("loader", &self.loader).finish_non_exhaustive()
    }
}

/// Why a runner cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The engine cannot be created.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The compiled-code cache cannot be used.
    #[error(transparent)]
    Code(#[from] strongroom_runtime::StoreError),
    /// The interfaces cannot be linked.
    #[error("the sandbox's interfaces cannot be linked: {0}")]
    Linker(String),
}

/// Why a run did not start. Nothing was created or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The maximum number of runs is already alive.
    #[error("the host is busy: as many runs are alive as it has room for; try again later")]
    Busy,
    /// The component cannot be read, or the file is not a component.
    #[error(transparent)]
    Component(#[from] LoadError),
    /// The component is not valid, or needs something that this host does not support.
    #[error("the component `{}` {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The compiler's message, escaped and bounded.
        why: String,
    },
    /// The policy is for another component.
    #[error(transparent)]
    Pin(#[from] strongroom_policy::PinMismatch),
    /// The policy exceeds the host's ceilings.
    #[error(transparent)]
    Ceiling(#[from] strongroom_policy::PolicyError),
    /// The directories cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The policy's `tcp` cannot be used.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The record cannot be written.
    #[error("could not start the run without its record")]
    Record(#[from] RunStoreError),
}

impl StartError {
    /// Returns whether the host is at fault (exit code 5) and not its input (exit code 2).
    pub fn is_host_fault(&self) -> bool {
        match self {
            Self::Record(_) | Self::Busy => true,
            Self::Component(error) => error.is_host_fault(),
            Self::Invalid { .. } | Self::Pin(_) | Self::Ceiling(_) | Self::Folder(_) | Self::Resolve(_) => false,
        }
    }
}

impl Runner {
    /// Creates the engine and everything that depends on it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RunnerError`].
    pub fn new(options: RunnerOptions) -> Result<Self, RunnerError> {
        let engine = engine(&EngineOptions { max_runs: options.max_runs, ..EngineOptions::default() })?;
        let executor = Executor::new(engine.clone()).map_err(|error| RunnerError::Linker(format!("{error:#}")))?;
        let store = options.code_store.as_deref().map(CodeStore::open).transpose()?;
        let ticker = Ticker::new(&engine)?;
        let loader = Loader::new(engine, options.compile, store);
        Ok(Self {
            broker: Broker::new(options.vault, options.audit, options.repeats),
            loader,
            executor,
            ticker,
            records: options.records,
            checks: options.checks,
            temp: private::Temp::new(options.temp),
            timings: options.timings,
            room: Arc::new(Semaphore::new((options.max_runs as usize).min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Checks a run without starting it: reads the component, checks it against the policy, and
    /// checks limits and directories. Creates nothing.
    ///
    /// # Errors
    /// [`StartError`], as [`Checks::prepare`].
    pub async fn prepare(&self, spec: RunSpec, policy: Arc<Policy>) -> Result<PreparedRun, StartError> {
        let (checks, component) = (self.checks.clone(), spec.component.clone());
        let preparing = tokio::task::spawn_blocking(move || checks.prepare(spec, policy));
        preparing.await.unwrap_or_else(|_panic| Err(LoadError::Interrupted { path: component }.into()))
    }

    /// Runs a component under a policy until it ends, is stopped at a limit, or `cancel` is ready.
    ///
    /// Dropping the returned future ends the run immediately. Its record stays at `running` until
    /// the next process marks it `lost`: use `cancel` for an orderly end.
    ///
    /// # Errors
    /// [`StartError`] if the run did not start. Once it has started, there is always a record.
    pub async fn run(
        &self,
        spec: RunSpec,
        policy: Arc<Policy>,
        observer: Arc<dyn Observer>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<RunRecord, StartError> {
        let room = self.admit()?;
        let prepared = self.prepare(spec, policy).await?;
        self.run_prepared(room, prepared, observer, cancel).await
    }

    /// Reserves a slot for one run.
    fn admit(&self) -> Result<SemaphorePermit<'_>, StartError> {
        self.room.try_acquire().map_err(|_| StartError::Busy)
    }

    async fn run_prepared(
        &self,
        room: SemaphorePermit<'_>,
        PreparedRun { spec, policy, candidate, limits, folders, timer }: PreparedRun,
        observer: Arc<dyn Observer>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<RunRecord, StartError> {
        timer.resume();
        let reachable = Reachable::resolve(policy.tcp()).await?;
        timer.lap(|timings| &mut timings.start);

        // Compile before the run starts: an invalid component is an input error, like a file that
        // is not a component.
        let mut cancel = std::pin::pin!(cancel);
        let loaded = self.load(&spec.component, &candidate, &limits, &*observer, cancel.as_mut()).await?;

        timer.lap(|timings| &mut timings.load);

        let component = candidate.component_ref(&spec.component);
        let mut session = Session::prepare(&self.broker, &spec, component, policy, limits, timer.clone());
        let id = session.id();
        // Write the record before the directory is created: the store then names what a crash
        // leaves behind, and the next process removes it.
        if let Some(records) = &self.records {
            records.begin(session.record(), Some(&folders.staging_path(&id, &self.temp)))?;
        }
        let log = log::Log::of(self.records.as_deref(), &id);
        let (Ran { mut ended, handover }, staging) = match folders.stage(&id, &self.temp) {
            Ok(mut staging) => {
                let recorder = log.recorder();
                let (input, stdin, output) = (staging.input_path(), staging.take_stdin(), staging.path());
                let outside = Outside { reachable, input, stdin, output, observer, recorder, cancel };
                (self.to_end(&spec, &mut session, loaded, outside).await, Some(staging))
            }
            Err(unstaged) => (Ran::not(Ended::HostFault(unstaged.to_string())), None),
        };

        session.record_mut().warnings.extend(log.finish(&id).await);
        // Audit before outputs are published: a run whose uses are not audited has not finished.
        if let Err(error) = session.broker().finish().await {
            ended = Ended::audit_fault(&error);
        }
        if let Some(staging) = staging {
            ended = conclude(staging, ended, &spec, &mut session).await;
        }
        let mut record = session.end(ended).await;
        timer.lap(|timings| &mut timings.finish);
        record.timings = self.timings.then(|| timer.timings());
        if let Some(records) = &self.records
            && let Err(error) = records.finish(&record)
        {
            tracing::error!(run = %id, %error, "a run's record could not be written");
            settle(&mut record, Ended::HostFault(format!("the record could not be written: {error}")));
        }
        // The sandbox is gone; what follows needs no slot.
        drop(room);
        // This comes last, because the observer may block for any time.
        if let Some(handover) = handover {
            let stopped = matches!(record.outcome, Outcome::Limit | Outcome::Cancelled);
            handover.wait(stopped.then_some(READER_PATIENCE)).await;
        }
        Ok(record)
    }

    /// Compiles the component, unless it is refused. The inner error is the end of a run that has
    /// yet to start.
    async fn load(
        &self,
        path: &Path,
        candidate: &Candidate,
        limits: &Limits,
        observer: &dyn Observer,
        cancel: impl Future<Output = ()> + Unpin,
    ) -> Result<Result<Loaded, NotRun>, StartError> {
        let refused = candidate.refused();
        if !refused.is_empty() {
            let ended = Ended::Refused(strongroom_runtime::imports::refusal(refused));
            return Ok(Err(NotRun { ended, reason: None }));
        }
        let compiling = std::pin::pin!(self.loader.compile(candidate, limits.compile_time, observer));
        let loaded = match futures_util::future::select(compiling, cancel).await {
            futures_util::future::Either::Left((loaded, _)) => loaded,
            futures_util::future::Either::Right(((), _)) => {
                return Ok(Err(NotRun { ended: Ended::Cancelled, reason: None }));
            }
        };
        match loaded {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(CompileError::Invalid(why)) => Err(StartError::Invalid { path: path.to_owned(), why }),
            Err(CompileError::Limit(why)) => Ok(Err(NotRun { ended: Ended::Limit(Limit::Compile), reason: Some(why) })),
            Err(CompileError::Host(why)) => Ok(Err(NotRun { ended: Ended::HostFault(why), reason: None })),
        }
    }

    async fn to_end(
        &self,
        spec: &RunSpec,
        session: &mut Session,
        loaded: Result<Loaded, NotRun>,
        outside: Outside<impl Future<Output = ()>>,
    ) -> Ran {
        // The first event binds component, policy and specification.
        if let Err(error) = session.begin().await {
            return Ran::not(Ended::audit_fault(&error));
        }
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(not_run) => {
                session.record_mut().reason = not_run.reason;
                return Ran::not(not_run.ended);
            }
        };
        let _ticking = self.ticker.run();
        let execution = Execution {
            spec,
            limits: session.limits(),
            environment: session.policy().environment(),
            reachable: outside.reachable,
            input: outside.input.as_deref(),
            stdin: outside.stdin,
            output: &outside.output,
            broker: Arc::clone(session.broker()),
            observer: outside.observer,
            recorder: outside.recorder,
        };
        let account: Account = self.executor.execute(&loaded, execution, outside.cancel).await;
        let record = session.record_mut();
        record.warnings.extend(loaded.warnings);
        record.peak_memory_bytes = account.peak_memory_bytes;
        record.cpu_micros = u64::try_from(account.cpu.as_micros()).unwrap_or(u64::MAX);
        record.metrics = account.metrics;
        record.progress = account.progress;
        record.log = account.log;
        Ran { ended: account.ended, handover: Some(account.handover) }
    }
}

/// Why a run ends before an instruction of its component is executed.
struct NotRun {
    ended: Ended,
    /// Details that `ended` does not contain.
    reason: Option<String>,
}

/// The result of executing a run.
struct Ran {
    ended: Ended,
    handover: Option<Handover>,
}

impl Ran {
    /// Returns the result of a run that executed no instruction of its component.
    fn not(ended: Ended) -> Self {
        Self { ended, handover: None }
    }
}

/// A run's connections to the outside.
struct Outside<C> {
    reachable: Reachable,
    input: Option<PathBuf>,
    stdin: Option<File>,
    output: PathBuf,
    observer: Arc<dyn Observer>,
    recorder: Option<Box<dyn Recorder>>,
    cancel: C,
}

/// Publishes or discards the contents of the run's staging directory.
async fn conclude(staging: folders::Staging, ended: Ended, spec: &RunSpec, session: &mut Session) -> Ended {
    if matches!(ended, Ended::Finished) {
        return match publish(staging, session.broker().redactor().clone()).await {
            Ok(outputs) => {
                session.record_mut().outputs = outputs;
                ended
            }
            Err(outputs::ListError::Deep) => {
                Ended::Failed { exit_code: Some(0), reason: outputs::ListError::Deep.to_string() }
            }
            Err(outputs::ListError::Io(error)) => {
                Ended::HostFault(format!("the outputs could not be put in their folder: {error}"))
            }
        };
    }
    if spec.output.is_some() {
        session.record_mut().warnings.push("outputs of a run that did not finish are discarded".to_owned());
    }
    // Removing a large tree would block the executor.
    let _ = tokio::task::spawn_blocking(move || drop(staging)).await;
    ended
}

async fn publish(staging: folders::Staging, redactor: Redactor) -> Result<Vec<Output>, outputs::ListError> {
    let published = tokio::task::spawn_blocking(move || {
        let outputs = outputs::list(staging.folder(), |name| redactor.sanitize(name))?;
        staging.publish()?;
        Ok(outputs)
    });
    published.await.unwrap_or_else(|_| Err(std::io::Error::other("the task that lists them failed").into()))
}
