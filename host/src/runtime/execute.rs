//! One execution: a store, its limits, the call, and what became of it.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use wasmtime::component::{Component, Instance, InstancePre, Linker, ResourceTableError};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx};

use super::context::Context;
use super::imports::{Entry, Interfaces};
use super::limits::HOST_CALL_BYTES_MAX;
use super::network::Reachable;
use super::observer::{Observer, Stream};
use super::output::{Handover, Output};
use super::quota::Quota;
use super::state::RunState;
use super::stop::StopCell;
use crate::broker::RunBroker;
use crate::policy::Limits;
use crate::record::{Limit, LogCount, Metric, Progress};
use crate::spec::RunSpec;

/// The longest text of a component that a record keeps as the reason of its failure, in characters.
const REASON_MAX: usize = 4 * 1024;

/// What a run is made of, besides its component.
pub(crate) struct Execution<'a> {
    pub(crate) spec: &'a RunSpec,
    pub(crate) limits: &'a Limits,
    pub(crate) environment: &'a std::collections::BTreeMap<String, String>,
    pub(crate) reachable: Reachable,
    /// The folder that the component sees as `/output`.
    pub(crate) output: &'a Path,
    pub(crate) broker: Arc<RunBroker>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The component ended with success.
    Finished,
    /// The component ended with failure, or trapped.
    Failed {
        /// Its exit code, where it got that far.
        exit_code: Option<i32>,
        /// Redacted and escaped.
        reason: String,
    },
    /// Stopped at a limit.
    Limit(Limit),
    /// It needs something that is not linked.
    Refused(String),
    /// Ended from outside.
    Cancelled,
    /// The host failed.
    HostFault(String),
}

/// What was seen of it.
pub(crate) struct Account {
    pub(crate) ended: Ended,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) cpu: Duration,
    pub(crate) metrics: std::collections::BTreeMap<String, Metric>,
    pub(crate) progress: Option<Progress>,
    pub(crate) log: LogCount,
    /// What the observer has not yet seen.
    pub(crate) handover: Handover,
}

/// Runs components on one engine.
pub(crate) struct Executor {
    engine: Engine,
    linker: Linker<RunState>,
}

impl Executor {
    pub(crate) fn new(engine: Engine) -> wasmtime::Result<Self> {
        let linker = super::linker::linker(&engine)?;
        Ok(Self { engine, linker })
    }

    /// Runs a component to its end, a limit, or cancellation. The engine's epoch must be ticking.
    pub(crate) async fn execute(
        &self,
        component: &Component,
        interfaces: &Interfaces,
        execution: Execution<'_>,
        cancelled: impl Future<Output = ()>,
    ) -> Account {
        let stop = StopCell::default();
        let broker = Arc::clone(&execution.broker);
        let output = Output::start(broker.redactor(), execution.limits.log_bytes, Arc::clone(&execution.observer));
        let limits = execution.limits;
        let quota = Quota::new(limits.output_bytes, limits.output_files, stop.clone());
        let mut cpu = Duration::ZERO;
        let set_up = self.store(&execution, &output, quota.clone(), stop.clone());
        let (ended, peak_memory_bytes, (metrics, progress)) = match set_up {
            Err(error) => (Ended::HostFault(format!("the sandbox cannot be set up: {error:#}")), 0, Default::default()),
            Ok(mut store) => {
                let ended = self.drive(component, interfaces, &execution, &mut store, &stop, cancelled, &mut cpu).await;
                let state = store.data_mut();
                let seen = (ended, state.limiter.peak(), state.training.context().take_reports());
                // The store goes before the output is closed: a print that the guest left under way goes nowhere. A write to a
                // file that it left under way lands before its outputs are looked at.
                drop(store);
                drop(quota.settled().await);
                seen
            }
        };
        let (log, handover) = output.close();
        Account { ended, peak_memory_bytes, cpu, metrics, progress, log, handover }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one call, borrowed apart")]
    async fn drive(
        &self,
        component: &Component,
        interfaces: &Interfaces,
        execution: &Execution<'_>,
        store: &mut Store<RunState>,
        stop: &StopCell,
        cancelled: impl Future<Output = ()>,
        cpu: &mut Duration,
    ) -> Ended {
        let pre = match self.linker.instantiate_pre(component) {
            Ok(pre) => pre,
            Err(error) => return Ended::Refused(execution.shown(&format!("{error:#}"))),
        };
        let called = {
            let run = AssertUnwindSafe(call(&pre, interfaces, store)).catch_unwind();
            let run = with_cpu_time(tokio::time::timeout(execution.limits.time, run), cpu);
            let cancelled = pin!(cancelled);
            match futures_util::future::select(pin!(run), cancelled).await {
                futures_util::future::Either::Left((called, _)) => Some(called),
                futures_util::future::Either::Right(((), _)) => None,
            }
        };
        match called {
            None => Ended::Cancelled,
            Some(Err(_elapsed)) => Ended::Limit(stop.limit().unwrap_or(Limit::Time)),
            Some(Ok(Err(_panic))) => Ended::HostFault("the host panicked while it served the component".to_owned()),
            Some(Ok(Ok(result))) => match stop.limit() {
                Some(limit) => Ended::Limit(limit),
                None => result.unwrap_or_else(|error| execution.classify(&error)),
            },
        }
    }

    fn store(
        &self,
        execution: &Execution<'_>,
        output: &Output,
        quota: Quota,
        stop: StopCell,
    ) -> wasmtime::Result<Store<RunState>> {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(output.stream(Stream::Stdout)).stderr(output.stream(Stream::Stderr));
        let program = execution.spec.component.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
        wasi.arg(program).args(&execution.spec.args);
        for (name, value) in execution.environment {
            wasi.env(name, value);
        }
        if let Some(input) = &execution.spec.input {
            wasi.preopened_dir(input, "/input", FsPerms::ReadOnly)?;
        }
        wasi.preopened_dir(execution.output, "/output", FsPerms::ReadWrite)?;
        execution.reachable.configure(&mut wasi);
        let limits = execution.limits;
        let context = Context::new(
            execution.broker.run_id(),
            execution.spec.parameters.clone(),
            execution.broker.redactor().clone(),
            Arc::clone(&execution.observer),
            limits.metrics,
            stop.clone(),
        );
        let state = RunState::new(
            wasi.build(),
            limits.memory,
            execution.reachable.clone(),
            quota,
            Arc::clone(&execution.broker),
            context,
            stop,
        );
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        store.set_max_component_handles(4 * super::limits::RESOURCES_MAX);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        Ok(store)
    }
}

impl Execution<'_> {
    /// Text that may hold a component's words, as it may stand in a record.
    fn shown(&self, text: &str) -> String {
        shown(&self.broker, text)
    }

    fn classify(&self, error: &wasmtime::Error) -> Ended {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return match code {
                0 => Ended::Finished,
                code => Ended::Failed { exit_code: Some(*code), reason: format!("exit code {code}") },
            };
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return Ended::HostFault(
                "the host is busy: as many runs are alive as it has room for; try again later".to_owned(),
            );
        }
        if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
            return Ended::Limit(Limit::Resources);
        }
        if matches!(error.downcast_ref(), Some(Trap::StackOverflow)) {
            return Ended::Limit(Limit::Stack);
        }
        // The engine keeps the types of these two to itself; tests with real guests hold the texts.
        let text = format!("{error:#}");
        if text.contains("fuel allocated for hostcalls has been exhausted") {
            return Ended::Limit(Limit::HostCall);
        }
        if text.contains("store handle limit exceeded") {
            return Ended::Limit(Limit::Resources);
        }
        let reason = match error.downcast_ref::<Trap>() {
            // What a panic of most languages ends in; the component has said more on its standard error.
            Some(trap @ Trap::UnreachableCodeReached) => format!("it panicked or aborted (trap: {trap})"),
            Some(trap) => format!("trap: {trap}"),
            None => text,
        };
        Ended::Failed { exit_code: None, reason: self.shown(&reason) }
    }
}

/// Redacts, escapes and shortens, without a copy of what may be as long as the component's memory.
fn shown(broker: &RunBroker, text: &str) -> String {
    broker.redactor().shown_start(text, REASON_MAX)
}

/// Instantiates and calls. The result is the component's own end; an error is a trap.
async fn call(
    pre: &InstancePre<RunState>,
    interfaces: &Interfaces,
    store: &mut Store<RunState>,
) -> wasmtime::Result<Ended> {
    let instance = pre.instantiate_async(&mut *store).await?;
    match interfaces.entry() {
        Some(Entry::Run(name)) => call_run(&instance, name, store).await,
        Some(Entry::Train) => call_train(&instance, store).await,
        None => Ok(Ended::Refused("the component exports neither `wasi:cli/run` nor `train`".to_owned())),
    }
}

async fn call_run(instance: &Instance, name: &str, store: &mut Store<RunState>) -> wasmtime::Result<Ended> {
    let interface = instance.get_export_index(&mut *store, None, name);
    let function = interface.and_then(|interface| instance.get_export_index(&mut *store, Some(&interface), "run"));
    let Some(function) = function else {
        return Ok(Ended::Refused(format!("the component's `{name}` has no function `run`")));
    };
    let function = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, function)?;
    let (result,) = function.call_async(&mut *store, ()).await?;
    Ok(match result {
        Ok(()) => Ended::Finished,
        Err(()) => Ended::Failed { exit_code: Some(1), reason: "exit code 1".to_owned() },
    })
}

async fn call_train(instance: &Instance, store: &mut Store<RunState>) -> wasmtime::Result<Ended> {
    let Some(function) = instance.get_export_index(&mut *store, None, "train") else {
        return Ok(Ended::Refused("the component has no function `train`".to_owned()));
    };
    let function = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, function)?;
    let (result,) = function.call_async(&mut *store, ()).await?;
    Ok(match result {
        Ok(()) => Ended::Finished,
        Err(text) => {
            let reason = shown(&store.data().training.broker(), &text);
            Ended::Failed { exit_code: Some(1), reason }
        }
    })
}

/// Adds up the thread's CPU time over the polls of a future.
async fn with_cpu_time<F: Future>(future: F, total: &mut Duration) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let before = thread_cpu_time();
        let poll = future.as_mut().poll(context);
        *total = total.saturating_add(thread_cpu_time().saturating_sub(before));
        match poll {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
