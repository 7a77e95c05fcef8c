//! Executes one run: creates its store, applies its limits, calls the component, and reports the
//! outcome.

use std::fs::File;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi::cli::InputFile;
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::compile::MESSAGE_MAX;
use super::component::Loaded;
use super::context::{Context, Reports};
use super::error_text;
use super::guard::{Guard, contain, exhausted};
use super::imports::{Entry, Interfaces};
use super::network::{Network, Reachable};
use super::observer::{Observer, Stream};
use super::output::{Handover, Output, Recorder};
use super::preopens::Preopens;
use super::quota::Quota;
use super::state::RunState;
use super::stop::StopCell;
use super::training::Training;
use strongroom_broker::{Ended, RunBroker, Timer};
use strongroom_core::record::LogCount;
use strongroom_core::spec::RunSpec;
use strongroom_policy::Limits;

/// The inputs of a run besides its component.
pub struct Execution<'a> {
    /// The run's specification.
    pub spec: &'a RunSpec,
    /// The run's limits.
    pub limits: &'a Limits,
    /// The run's environment variables.
    pub environment: &'a std::collections::BTreeMap<String, String>,
    /// The addresses that the run may connect to.
    pub reachable: Reachable,
    /// The directory that the component sees as `/input`. It is the directory that was checked,
    /// even if the specification's path now leads elsewhere.
    pub input: Option<&'a Path>,
    /// The file that the component reads as its standard input. Reading it must not block.
    pub stdin: Option<File>,
    /// The directory that the component sees as `/output`.
    pub output: &'a Path,
    /// The broker through which the run reads secrets.
    pub broker: Arc<RunBroker>,
    /// Receives the run's output, metrics and progress.
    pub observer: Arc<dyn Observer>,
    /// Stores the run's output.
    pub recorder: Option<Box<dyn Recorder>>,
}

/// What the host measured and collected during a run.
pub struct Account {
    /// How the run ended.
    pub ended: Ended,
    /// The peak total size of the run's linear memories, in bytes.
    pub peak_memory_bytes: u64,
    /// CPU time spent polling the run.
    pub cpu: Duration,
    /// Metrics, tags, logged parameters and progress.
    pub reports: Reports,
    /// Bytes of log text kept and dropped.
    pub log: LogCount,
    /// Output that the observer has not yet received.
    pub handover: Handover,
}

/// A linked component with its entry point. It is the same for every run, so a component that stays
/// in memory is linked only once.
#[derive(Clone, Default)]
pub(super) struct Linked(Arc<OnceLock<Result<Ready, String>>>);

struct Ready {
    pre: InstancePre<RunState>,
    entry: Start,
}

/// The component's entry point.
enum Start {
    Run(ComponentExportIndex),
    Train(ComponentExportIndex),
    Missing(String),
}

/// Runs components on one engine.
pub struct Executor {
    engine: Engine,
    linker: Linker<RunState>,
}

impl Executor {
    /// Links the guest interfaces for an engine.
    ///
    /// # Errors
    /// The linker's error if an interface is defined twice.
    pub fn new(engine: Engine) -> wasmtime::Result<Self> {
        let linker = super::linker::linker(&engine)?;
        Ok(Self { engine, linker })
    }

    /// Runs a component until it ends, reaches a limit, or is cancelled. The engine's epoch must be
    /// ticking.
    pub async fn execute(
        &self,
        loaded: &Loaded,
        mut execution: Execution<'_>,
        cancelled: impl Future<Output = ()>,
    ) -> Account {
        let stop = StopCell::default();
        let broker = Arc::clone(&execution.broker);
        let recorder = execution.recorder.take();
        let observer = Arc::clone(&execution.observer);
        let output = Output::recorded(broker.redactor(), execution.limits.log_bytes, observer, recorder);
        let limits = execution.limits;
        let quota = Quota::new(limits.output_bytes, limits.output_files, stop.clone());
        let mut cpu = Duration::ZERO;
        let set_up = self.store(&execution, &output, quota.clone(), stop.clone());
        broker.timer().lap(|timings| &mut timings.start);
        let (ended, peak_memory_bytes, reports) = match set_up {
            Err(error) => {
                let broken = || {
                    Ended::HostFault(format!(
                        "the sandbox cannot be set up: {}",
                        error_text::format(&error, MESSAGE_MAX)
                    ))
                };
                let ended = exhausted(&error).unwrap_or_else(broken);
                (ended, 0, Reports::default())
            }
            Ok(mut store) => {
                let ended = self.drive(loaded, &mut store, broker.timer(), cancelled, &mut cpu).await;
                broker.timer().lap(|timings| &mut timings.guest);
                let training = &mut store.data_mut().training;
                let (peak, reports) = (training.peak_memory(), training.take_reports());
                // Drop the store before closing the output: a print that the guest left in progress
                // is discarded, and a file write that it left in progress completes before its
                // outputs are examined.
                drop(store);
                drop(quota.settled().await);
                (ended, peak, reports)
            }
        };
        let (log, handover) = output.close().await;
        Account { ended, peak_memory_bytes, cpu, reports, log, handover }
    }

    async fn drive(
        &self,
        loaded: &Loaded,
        store: &mut Store<RunState>,
        timer: &Timer,
        cancelled: impl Future<Output = ()>,
        cpu: &mut Duration,
    ) -> Ended {
        let guard = store.data_mut().training.guard();
        // Linking compares types that the component declares, so it happens inside the guard too.
        let linked_and_called = async {
            let linked = loaded.linked.0.get_or_init(|| self.link(&loaded.component, &loaded.interfaces));
            timer.lap(|timings| &mut timings.link);
            match linked {
                Ok(ready) => call(ready, store, &guard, timer).await,
                Err(error) => Ok(Ended::Refused(guard.shown(error))),
            }
        };
        guard.call(with_cpu_time(linked_and_called, cpu), cancelled).await.unwrap_or_else(|ended| ended)
    }

    fn link(&self, component: &Component, interfaces: &Interfaces) -> Result<Ready, String> {
        let pre = self.linker.instantiate_pre(component).map_err(|error| {
            let why = error_text::format(&error, MESSAGE_MAX);
            match interfaces.newer_import() {
                Some(newer) => format!("{why}; {newer}"),
                None => why,
            }
        })?;
        let entry = match interfaces.entry() {
            Some(Entry::Run(name)) => {
                let interface = component.get_export_index(None, name);
                let function = interface.and_then(|interface| component.get_export_index(Some(&interface), "run"));
                let missing = || Start::Missing(format!("the component's `{name}` has no function `run`"));
                function.map_or_else(missing, Start::Run)
            }
            Some(Entry::Train) => {
                let missing = || Start::Missing("the component has no function `train`".to_owned());
                component.get_export_index(None, "train").map_or_else(missing, Start::Train)
            }
            None => Start::Missing("the component exports neither `wasi:cli/run` nor `train`".to_owned()),
        };
        Ok(Ready { pre, entry })
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
        if let Some(file) = &execution.stdin {
            // Each read returns at most 64 KiB, whatever the component asks for.
            wasi.stdin(InputFile::new(file.try_clone()?));
        }
        let program = execution.spec.component.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
        wasi.arg(program).args(&execution.spec.args);
        for (name, value) in execution.environment {
            wasi.env(name, value);
        }
        let mut preopens = Preopens::default();
        if let Some(input) = execution.input {
            preopens.add(input.to_owned(), "/input", FsPerms::ReadOnly);
        }
        preopens.add(execution.output.to_owned(), "/output", FsPerms::ReadWrite);
        let network = Network::new(execution.reachable.clone(), Arc::clone(&execution.broker));
        network.configure(&mut wasi);
        let context = Context::new(
            execution.broker.run_id(),
            execution.spec.parameters.clone(),
            execution.broker.redactor().clone(),
            Arc::clone(&execution.observer),
            execution.limits.metrics,
            stop.clone(),
        );
        let training = Training::of(Arc::clone(&execution.broker), context, stop, execution.limits);
        let state = RunState::new(wasi.build(), preopens, network, quota, training);
        let mut store = Store::new(&self.engine, state);
        contain(&mut store);
        Ok(store)
    }
}

/// Instantiates and calls the component. `Ok` holds the component's own result; an error is a trap.
async fn call(ready: &Ready, store: &mut Store<RunState>, guard: &Guard, timer: &Timer) -> wasmtime::Result<Ended> {
    let instance = ready.pre.instantiate_async(&mut *store).await?;
    timer.lap(|timings| &mut timings.instantiate);
    match &ready.entry {
        Start::Run(function) => call_run(&instance, function, store).await,
        Start::Train(function) => call_train(&instance, function, store, guard).await,
        Start::Missing(why) => Ok(Ended::Refused(why.clone())),
    }
}

async fn call_run(
    instance: &Instance,
    function: &ComponentExportIndex,
    store: &mut Store<RunState>,
) -> wasmtime::Result<Ended> {
    let function = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, function)?;
    let (result,) = function.call_async(&mut *store, ()).await?;
    Ok(match result {
        Ok(()) => Ended::Finished,
        Err(()) => Ended::Failed { exit_code: Some(1), reason: "exit code 1".to_owned() },
    })
}

async fn call_train(
    instance: &Instance,
    function: &ComponentExportIndex,
    store: &mut Store<RunState>,
    guard: &Guard,
) -> wasmtime::Result<Ended> {
    let function = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, function)?;
    let (result,) = function.call_async(&mut *store, ()).await?;
    Ok(match result {
        Ok(()) => Ended::Finished,
        Err(text) => Ended::Failed { exit_code: Some(1), reason: guard.shown(&text) },
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
