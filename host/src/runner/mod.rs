//! One run from its specification to its record.
//!
//! What can be checked is checked first, and an error there leaves nothing behind. Then the run starts: it has an identity, a record, and a
//! first event in the audit; and from there every way out ends in [`RunRecord`].

mod folders;
mod log;
mod outputs;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use folders::FolderError;

use crate::audit::{Audit, AuditError, Event, Kind};
use crate::broker::{Broker, Repeats};
use crate::ids::RunId;
use crate::policy::{Ceilings, Limits, Policy, show_duration, show_size};
use crate::record::{Blame, ComponentRef, FORMAT, Limit, LogCount, Outcome, RunRecord};
use crate::runs::{RunStore, RunStoreError};
use crate::runtime::{
    Account, Candidate, CodeStore, Compile, CompileError, Ended, EngineError, EngineOptions, Execution, Executor,
    Handover, LoadError, Loaded, Loader, Observer, Reachable, Recorder, ResolveError, Ticker,
};
use crate::spec::RunSpec;
use crate::vault::Vault;

/// How long a run that was stopped waits for whoever reads what it printed.
const READER_PATIENCE: Duration = Duration::from_secs(2);

/// What a [`Runner`] is made of.
pub struct RunnerOptions {
    /// Where every use of a secret is written.
    pub audit: Audit,
    /// Where secrets live.
    pub vault: Arc<dyn Vault>,
    /// How repeated reads are audited.
    pub repeats: Repeats,
    /// Where records and logs are kept; without one records are only returned.
    pub records: Option<Arc<RunStore>>,
    /// Where compiled code is kept; without one each process compiles anew.
    pub code_store: Option<PathBuf>,
    /// Where compilation happens.
    pub compile: Compile,
    /// What no policy may exceed.
    pub ceilings: Ceilings,
    /// Where the output of runs without an output folder is kept while they go on. It must exist.
    pub temp: PathBuf,
}

/// Runs components. One serves a whole process: engine, compiled code and cache are shared by its runs.
pub struct Runner {
    broker: Broker,
    loader: Loader,
    executor: Executor,
    ticker: Ticker,
    records: Option<Arc<RunStore>>,
    ceilings: Ceilings,
    temp: PathBuf,
}

/// Why a runner cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store of compiled code cannot be used.
    #[error(transparent)]
    Code(#[from] crate::runtime::StoreError),
    /// The interfaces cannot be linked.
    #[error("the sandbox's interfaces cannot be linked: {0}")]
    Linker(String),
}

/// Why a run did not start. Nothing was created or changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The component cannot be read, or is none.
    #[error(transparent)]
    Component(#[from] LoadError),
    /// The compiler finds that it is not valid.
    #[error("the component `{}` is not valid: {why}; build it again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What the compiler says, escaped and bounded.
        why: String,
    },
    /// The policy is for another component.
    #[error(transparent)]
    Pin(#[from] crate::policy::PinMismatch),
    /// The policy asks for more than the host allows.
    #[error(transparent)]
    Ceiling(#[from] crate::policy::PolicyError),
    /// The folders cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The policy's `tcp` cannot be used.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The record cannot be written.
    #[error("the run cannot be recorded, so it was not started: {0}")]
    Record(#[from] RunStoreError),
}

impl StartError {
    /// Whether the host is at fault (exit code 5) rather than what it was given (exit code 2).
    pub fn is_host_fault(&self) -> bool {
        match self {
            Self::Record(_) => true,
            Self::Component(error) => error.is_host_fault(),
            Self::Invalid { .. } | Self::Pin(_) | Self::Ceiling(_) | Self::Folder(_) | Self::Resolve(_) => false,
        }
    }
}

/// Checks the folders of a specification, for whoever wants to know before making a [`Runner`]. Creates nothing.
///
/// # Errors
/// [`FolderError`], as [`Runner::run`] would answer.
pub fn check_folders(spec: &RunSpec) -> Result<(), FolderError> {
    // Only a run without an output folder is staged elsewhere, and nothing is checked of that.
    folders::check(spec, Path::new("/")).map(drop)
}

impl Runner {
    /// Makes the engine and what goes with it. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`RunnerError`], see there.
    pub fn new(options: RunnerOptions) -> Result<Self, RunnerError> {
        let engine = crate::runtime::engine(&EngineOptions::default())?;
        let store = options.code_store.as_deref().map(CodeStore::open).transpose()?;
        let executor = Executor::new(engine.clone()).map_err(|error| RunnerError::Linker(format!("{error:#}")))?;
        let ticker = Ticker::new(&engine)?;
        let loader = Loader::new(engine, options.compile, store);
        Ok(Self {
            broker: Broker::new(options.vault, options.audit, options.repeats),
            loader,
            executor,
            ticker,
            records: options.records,
            ceilings: options.ceilings,
            temp: options.temp,
        })
    }

    /// Runs a component under a policy until it ends, is stopped at a limit, or `cancel` is ready.
    ///
    /// Dropping the returned future ends the run at once and leaves its record at `running` until the next process finds it `lost`: use
    /// `cancel` to end a run in good order.
    ///
    /// # Errors
    /// [`StartError`] where the run did not start. Once it has, there is a record, whatever happens.
    pub async fn run(
        &self,
        spec: RunSpec,
        policy: Arc<Policy>,
        observer: Arc<dyn Observer>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<RunRecord, StartError> {
        let candidate = self.loader.read(&spec.component).await?;
        policy.serves(candidate.digest())?;
        let limits = policy.limits_under(&self.ceilings)?;
        let checked = folders::check(&spec, &self.temp)?;
        let reachable = Reachable::resolve(policy.tcp()).await?;

        // Compiled before the run starts: what turns out to be no valid component is an input error, like a file that is none.
        let mut cancel = std::pin::pin!(cancel);
        let prepared = self.prepare(&spec.component, &candidate, &limits, &*observer, cancel.as_mut()).await?;

        let mut record = self.new_record(&spec, &policy, &candidate);
        let id = record.id;
        let staging_path = checked.staging_path(&id);
        // Before the folder is made: what a crash leaves behind is named in the store and cleared away by the next process.
        if let Some(records) = &self.records {
            records.begin(&record, Some(&staging_path))?;
        }
        let log = log::Log::of(self.records.as_deref(), &id);
        let redactor = crate::redact::Redactor::new();
        let broker = Arc::new(self.broker.for_run(id, Arc::clone(&policy), redactor.clone(), limits.requests));
        let ((mut ended, handover), staging) = match checked.stage(&id) {
            Ok(staging) => {
                let run = Started { runner: self, spec: &spec, policy: &policy, limits: &limits, broker: &broker };
                let recorder = log.recorder();
                let outside = Outside { reachable, output: staging.path(), observer, recorder, cancel };
                (run.to_end(&candidate, prepared, outside, &mut record).await, Some(staging))
            }
            Err(error) => {
                let path = staging_path.display();
                let why = format!("the private output folder `{path}` cannot be made: {error}");
                ((Ended::HostFault(why), None), None)
            }
        };

        record.warnings.extend(log.finish(&id).await);
        if let Err(error) = broker.finish().await {
            ended = audit_fault(&error);
        }
        record.redactions = redactor.count();
        record.secrets = broker.uses();
        record.network = broker.contacts();
        if let Some(staging) = staging {
            ended = self.conclude(staging, ended, &spec, &broker, &mut record).await;
        }
        settle(&mut record, ended);
        record.ended = Some(Timestamp::now());
        match self.broker.audit().append(end_event(&record)).await {
            Ok(position) => record.audit = Some(position),
            Err(error) => settle(&mut record, audit_fault(&error)),
        }
        if let Some(records) = &self.records
            && let Err(error) = records.finish(&record)
        {
            tracing::error!(run = %id, %error, "a run's record could not be written");
            settle(&mut record, Ended::HostFault(format!("the record could not be written: {error}")));
        }
        // Last, because the observer may take as long as it likes.
        if let Some(handover) = handover {
            let stopped = matches!(record.outcome, Outcome::Limit | Outcome::Cancelled);
            handover.wait(stopped.then_some(READER_PATIENCE)).await;
        }
        Ok(record)
    }

    /// Publishes or discards what the run has left in its folder.
    async fn conclude(
        &self,
        staging: folders::Staging,
        ended: Ended,
        spec: &RunSpec,
        broker: &Arc<crate::broker::RunBroker>,
        record: &mut RunRecord,
    ) -> Ended {
        if matches!(ended, Ended::Finished) {
            return match publish(staging, broker).await {
                Ok(outputs) => {
                    record.outputs = outputs;
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
            record.warnings.push("outputs of a run that did not finish are discarded".to_owned());
        }
        // Removing a large tree is no work for the executor.
        let _ = tokio::task::spawn_blocking(move || drop(staging)).await;
        ended
    }

    /// Compiles the component, unless it is refused. The inner error is the end of a run that has yet to start.
    async fn prepare(
        &self,
        path: &Path,
        candidate: &Candidate,
        limits: &Limits,
        observer: &dyn Observer,
        cancel: impl Future<Output = ()> + Unpin,
    ) -> Result<Result<Loaded, NotRun>, StartError> {
        let refused = candidate.refused();
        if !refused.is_empty() {
            let imports: Vec<_> = refused.iter().map(ToString::to_string).collect();
            return Ok(Err(NotRun { ended: Ended::Refused(imports.join("; ")), reason: None }));
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

    fn new_record(&self, spec: &RunSpec, policy: &Policy, candidate: &Candidate) -> RunRecord {
        let digest = *candidate.digest();
        let mut warnings = Vec::new();
        if policy.component().is_none() && !policy.text().is_empty() {
            warnings.push(format!(
                "the policy serves any component: add `component = \"{digest}\"` to serve this one alone"
            ));
        }
        RunRecord {
            format: FORMAT,
            id: RunId::generate(),
            segment: self.broker.audit().segment().to_owned(),
            component: ComponentRef {
                digest,
                path: crate::redact::escape_controls(&spec.component.to_string_lossy()),
                bytes: candidate.len(),
            },
            policy: policy.digest(),
            spec: spec.digest(&digest),
            started: Timestamp::now(),
            ended: None,
            outcome: Outcome::Running,
            blame: None,
            reason: None,
            exit_code: None,
            limit: None,
            secrets: Vec::new(),
            network: Vec::new(),
            peak_memory_bytes: 0,
            cpu_micros: 0,
            metrics: Default::default(),
            progress: None,
            outputs: Vec::new(),
            redactions: 0,
            log: LogCount::default(),
            audit: None,
            warnings,
        }
    }
}

/// Why a run ends without an instruction of its component.
struct NotRun {
    ended: Ended,
    /// More than the end says by itself.
    reason: Option<String>,
}

/// A run that has started.
struct Started<'a> {
    runner: &'a Runner,
    spec: &'a RunSpec,
    policy: &'a Policy,
    limits: &'a Limits,
    broker: &'a Arc<crate::broker::RunBroker>,
}

/// What a run has to do with the world outside it.
struct Outside<'a, C> {
    reachable: Reachable,
    output: &'a Path,
    observer: Arc<dyn Observer>,
    recorder: Option<Box<dyn Recorder>>,
    cancel: C,
}

impl Started<'_> {
    async fn to_end(
        &self,
        candidate: &Candidate,
        prepared: Result<Loaded, NotRun>,
        outside: Outside<'_, impl Future<Output = ()>>,
        record: &mut RunRecord,
    ) -> (Ended, Option<Handover>) {
        if let Err(error) = self.audit_start(record).await {
            return (audit_fault(&error), None);
        }
        let loaded = match prepared {
            Ok(loaded) => loaded,
            Err(not_run) => {
                record.reason = not_run.reason;
                return (not_run.ended, None);
            }
        };
        record.warnings.extend(loaded.warnings.iter().cloned());
        let _ticking = self.runner.ticker.run();
        let execution = Execution {
            spec: self.spec,
            limits: self.limits,
            environment: self.policy.environment(),
            reachable: outside.reachable,
            output: outside.output,
            broker: Arc::clone(self.broker),
            observer: outside.observer,
            recorder: outside.recorder,
        };
        let account: Account =
            self.runner.executor.execute(&loaded.component, candidate.interfaces(), execution, outside.cancel).await;
        record.peak_memory_bytes = account.peak_memory_bytes;
        record.cpu_micros = u64::try_from(account.cpu.as_micros()).unwrap_or(u64::MAX);
        record.metrics = account.metrics;
        record.progress = account.progress;
        record.log = account.log;
        if let Ended::Limit(limit) = account.ended {
            record.reason = Some(over(limit, self.limits));
        }
        (account.ended, Some(account.handover))
    }

    /// The first event binds what this run is.
    async fn audit_start(&self, record: &RunRecord) -> Result<(), AuditError> {
        let audit = self.runner.broker.audit();
        audit.keep_policy(&record.policy, self.policy.text())?;
        let detail = [
            ("component", record.component.digest.to_string()),
            ("policy", record.policy.to_string()),
            ("spec", record.spec.to_string()),
            ("uid", rustix::process::getuid().as_raw().to_string()),
        ];
        let detail = detail.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        audit.append(Event { event: Kind::RunStart, run: Some(record.id), detail, ..Event::default() }).await?;
        Ok(())
    }
}

async fn publish(
    staging: folders::Staging,
    broker: &Arc<crate::broker::RunBroker>,
) -> Result<Vec<crate::record::Output>, outputs::ListError> {
    let redactor = broker.redactor().clone();
    let published = tokio::task::spawn_blocking(move || {
        let outputs = outputs::list(staging.path(), |name| redactor.shown(name))?;
        staging.publish()?;
        Ok(outputs)
    });
    published.await.unwrap_or_else(|_| Err(std::io::Error::other("the task that lists them failed").into()))
}

/// What a run did that a limit stopped, and what an operator can do.
fn over(limit: Limit, limits: &Limits) -> String {
    let (did, allowed) = match limit {
        Limit::Memory => ("took more memory", show_size(limits.memory)),
        Limit::Time => ("ran longer", show_duration(limits.time)),
        Limit::OutputBytes => ("put more into `/output`", show_size(limits.output_bytes)),
        Limit::OutputFiles => ("made more files and folders", limits.output_files.to_string()),
        Limit::Requests => ("asked for secrets more often", limits.requests.to_string()),
        Limit::Metrics => ("reported more metrics and progress", limits.metrics.to_string()),
        Limit::Stack => return "it recursed deeper than the engine's stack: no policy changes that".to_owned(),
        Limit::Tables | Limit::HostCall | Limit::Resources | Limit::Compile => {
            return format!("it went over the host's fixed limit on `{}`: no policy changes that", limit.as_str());
        }
    };
    let name = limit.as_str();
    format!("it {did} than `{name}` allows ({allowed}): raise it in the policy's [limits] if the component needs more")
}

fn audit_fault(error: &AuditError) -> Ended {
    Ended::HostFault(format!("the audit could not be written: {error}"))
}

/// Writes an end into the record: outcome, blame, reason.
fn settle(record: &mut RunRecord, ended: Ended) {
    record.limit = None;
    record.exit_code = None;
    let (outcome, blame, reason) = match ended {
        Ended::Finished => {
            record.exit_code = Some(0);
            (Outcome::Finished, None, None)
        }
        Ended::Failed { exit_code, reason } => {
            record.exit_code = exit_code;
            (Outcome::Failed, Some(Blame::Guest), Some(reason))
        }
        Ended::Refused(reason) => (Outcome::Refused, Some(Blame::Policy), Some(reason)),
        Ended::Limit(limit) => {
            record.limit = Some(limit);
            let reason = record.reason.take().unwrap_or_else(|| format!("stopped at the limit `{}`", limit.as_str()));
            (Outcome::Limit, Some(Blame::Guest), Some(reason))
        }
        Ended::Cancelled => (Outcome::Cancelled, Some(Blame::Operator), None),
        Ended::HostFault(reason) => (Outcome::HostFault, Some(Blame::Host), Some(reason)),
    };
    record.outcome = outcome;
    record.blame = blame;
    record.reason = reason;
}

fn end_event(record: &RunRecord) -> Event {
    let mut detail = std::collections::BTreeMap::new();
    if let Some(blame) = record.blame {
        detail.insert("blame".to_owned(), format!("{blame:?}").to_ascii_lowercase());
    }
    if let Some(limit) = record.limit {
        detail.insert("limit".to_owned(), limit.as_str().to_owned());
    }
    let elapsed = record.ended.map(|ended| ended.duration_since(record.started));
    if let Some(elapsed) = elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok()) {
        detail.insert("milliseconds".to_owned(), elapsed.as_millis().to_string());
    }
    Event {
        event: Kind::RunEnd,
        run: Some(record.id),
        outcome: Some(record.outcome.as_str().to_owned()),
        detail,
        ..Event::default()
    }
}
