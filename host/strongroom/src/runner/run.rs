//! The course of one run, from its preparation to its record.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::SemaphorePermit;

use strongroom_broker::{Ended, Session, settle};
use strongroom_core::record::{Limit, Outcome, RunRecord};
use strongroom_core::spec::RunSpec;
use strongroom_policy::Limits;
use strongroom_runtime::{
    Account, Candidate, CompileError, Execution, Handover, Loaded, Observer, Reachable, Recorder,
};

use super::outputs::conclude;
use super::{PreparedRun, Runner, StartError, log};

/// How long a stopped run waits for its observer to read its output.
const READER_PATIENCE: Duration = Duration::from_secs(2);

impl Runner {
    /// Runs what was prepared and returns its record. Holds the slot `room` until the sandbox is
    /// gone.
    pub(super) async fn run_prepared(
        &self,
        room: SemaphorePermit<'_>,
        PreparedRun { spec, policy, candidate, limits, directories, timer }: PreparedRun,
        observer: Arc<dyn Observer>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<RunRecord, StartError> {
        timer.resume();
        let reachable = Reachable::resolve(policy.tcp()).await?;
        timer.lap(|timings| &mut timings.start);

        // Compile before the run starts: an invalid component is an input error, like a file that
        // is not a component.
        let mut cancel = std::pin::pin!(cancel.fuse());
        let loaded = self.load(&spec.component, &candidate, &limits, &*observer, cancel.as_mut()).await?;

        timer.lap(|timings| &mut timings.load);

        let component = candidate.component_ref(spec.source.as_ref().unwrap_or(&spec.component));
        let mut session = Session::prepare(&self.broker, &spec, component, policy, limits, timer.clone());
        let id = session.id();
        // Write the record before the directory is created: the store then names what a crash
        // leaves behind, and the next process removes it.
        if let Some(records) = &self.records {
            records.begin(session.record(), Some(&directories.staging_path(&id, &self.temp)))?;
        }
        let log = log::Log::of(self.records.as_deref(), &id);
        let (Ran { mut ended, handover }, staging) = match directories.stage(&id, &self.temp) {
            Ok(mut staging) => {
                let recorder = log.recorder();
                let (input, stdin, output) = (staging.input_path(), staging.take_stdin(), staging.path());
                let cancel = cancel.as_mut();
                let outside = Outside { reachable, input, stdin, output, observer, recorder, cancel };
                (self.to_end(&spec, &mut session, loaded, outside).await, Some(staging))
            }
            Err(unstaged) => (Ran::not(Ended::HostFault(unstaged.to_string())), None),
        };

        let log_failure = log.finish(&id).await;
        let record = session.record_mut();
        record.warnings.extend(log_failure.iter().map(|cause| format!("the run log is incomplete: {cause}")));
        record.log_failure = log_failure;
        // Audit before outputs are published: a run whose uses are not audited has not finished.
        if let Err(error) = session.broker().finish().await {
            ended = Ended::audit_fault(&error);
        }
        if let Some(staging) = staging {
            ended = conclude(staging, ended, &mut session, cancel).await;
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
        account.reports.store(record);
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
