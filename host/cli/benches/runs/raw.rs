//! wasmtime without strongroom: the same engine settings and WASI, without decisions, audit,
//! records and limits.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use strongroom::runtime::wasmtime;
use strongroom::runtime::wasmtime::component::{
    Component, ComponentType, InstancePre, Linker, LinkerInstance, Lower, ResourceTable,
};
use strongroom::runtime::wasmtime::{Engine, Store};
use strongroom::runtime::wasmtime_wasi::p2::bindings::CommandPre;
use strongroom::runtime::wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use strongroom::runtime::wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use strongroom::runtime::{EngineOptions, engine};
use tokio::runtime::Runtime;

pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

// The interface's error, which is never returned here.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "the type has to be that of the interface")]
enum Error {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "not-found")]
    NotFound(String),
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "invalid-value")]
    InvalidValue(String),
    #[component(name = "exhausted")]
    Exhausted(String),
    #[component(name = "expired")]
    Expired(String),
    #[component(name = "invalid-batch")]
    InvalidBatch(String),
    #[component(name = "conflict")]
    Conflict(String),
    #[component(name = "partial")]
    Partial(Vec<String>),
    #[component(name = "unavailable")]
    Unavailable(String),
}

pub(crate) struct Raw {
    engine: Engine,
    linker: Linker<State>,
    runtime: Arc<Runtime>,
}

/// A linked component, so that each run only instantiates and calls it.
pub(crate) struct Ready<P> {
    engine: Engine,
    runtime: Arc<Runtime>,
    pre: P,
}

impl Raw {
    pub(crate) fn new(runtime: &Arc<Runtime>) -> Self {
        let engine = engine(&EngineOptions::default()).unwrap();
        Self { linker: linker(&engine), engine, runtime: Arc::clone(runtime) }
    }

    /// Links a program.
    pub(crate) fn ready(&self, component: &Path) -> Ready<CommandPre<State>> {
        let component = Component::from_file(&self.engine, component).unwrap();
        let pre = CommandPre::new(self.linker.instantiate_pre(&component).unwrap()).unwrap();
        Ready { engine: self.engine.clone(), runtime: Arc::clone(&self.runtime), pre }
    }

    /// Links a component that exports `train` and uses no other import.
    pub(crate) fn ready_plugin(&self, component: &Path) -> Ready<InstancePre<State>> {
        let component = Component::from_file(&self.engine, component).unwrap();
        let pre = self.linker.instantiate_pre(&component).unwrap();
        Ready { engine: self.engine.clone(), runtime: Arc::clone(&self.runtime), pre }
    }
}

/// Returns a linker with WASI and the guest contract: one function that answers, and others that
/// the benchmarks' guests do not call.
fn linker(engine: &Engine) -> Linker<State> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    let value: Arc<str> = super::host::value(0).into();
    let mut contract = linker.instance("strongroom:training/secrets@0.1.1").unwrap();
    contract
        .func_wrap_async("get-secret", move |_, (_name,): (String,)| {
            let value = Arc::clone(&value);
            Box::new(async move { Ok((Ok::<_, Error>(value),)) })
        })
        .unwrap();
    const SECRETS: [&str; 7] = [
        "set-secret",
        "get-secrets",
        "set-secrets",
        "list-secrets",
        "describe-secret",
        "delete-secret",
        "delete-secrets",
    ];
    const CONTEXT: [&str; 10] = [
        "run-id",
        "parameter",
        "parameters",
        "log-metric",
        "report-progress",
        "set-tag",
        "remove-tag",
        "log-parameter",
        "log-text",
        "remaining-time",
    ];
    let absent = |instance: &mut LinkerInstance<'_, State>, functions: &[&str]| {
        for function in functions {
            instance.func_new(function, |_, _, _, _| Err(wasmtime::format_err!("not there"))).unwrap();
        }
    };
    absent(&mut contract, &SECRETS);
    absent(&mut linker.instance("strongroom:training/context@0.1.1").unwrap(), &CONTEXT);
    linker
}

impl<P> Ready<P> {
    fn store(&self, wasi: WasiCtx) -> Store<State> {
        let mut store = Store::new(&self.engine, State { wasi, table: ResourceTable::new() });
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }
}

impl Ready<CommandPre<State>> {
    async fn call(&self, mut store: Store<State>) {
        let command = self.pre.instantiate_async(&mut store).await.unwrap();
        command.wasi_cli_run().call_run(&mut store).await.unwrap().unwrap();
    }

    /// Runs the component to its end.
    pub(crate) fn run(&self) {
        self.runtime.block_on(self.call(self.store(WasiCtx::builder().build())));
    }

    /// Runs the component in a task.
    pub(crate) async fn run_in_task(&self, args: &[&str]) {
        self.call(self.store(WasiCtx::builder().arg("guest").args(args).build())).await;
    }

    /// Runs the component and returns its output.
    pub(crate) fn printed(&self, args: &[&str]) -> String {
        let pipe = MemoryOutputPipe::new(64 * 1024);
        let wasi = WasiCtx::builder().stdout(pipe.clone()).arg("guest").args(args).build();
        self.runtime.block_on(self.call(self.store(wasi)));
        String::from_utf8(pipe.contents().to_vec()).unwrap()
    }
}

impl Ready<InstancePre<State>> {
    /// Runs the component to its end.
    pub(crate) fn run(&self) {
        let mut store = self.store(WasiCtx::builder().build());
        self.runtime.block_on(async {
            let instance = self.pre.instantiate_async(&mut store).await.unwrap();
            let train = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, "train").unwrap();
            train.call_async(&mut store, ()).await.unwrap().0.unwrap();
        });
    }
}

/// Runs stored code in a separate process, like a minimal program around raw wasmtime. [`Raw`]
/// reserves more memory than one run needs.
pub(crate) fn run_stored(code: &Path, args: &[String]) {
    let options = EngineOptions { pooling: false, ..EngineOptions::default() };
    let engine = engine(&options).unwrap();
    let component = super::large::deserialize(&engine, code);
    let pre = CommandPre::new(linker(&engine).instantiate_pre(&component).unwrap()).unwrap();
    let ready = Ready { engine, runtime: super::host::runtime(), pre };
    let wasi = WasiCtx::builder().inherit_stdio().arg("guest").args(args).build();
    ready.runtime.block_on(ready.call(ready.store(wasi)));
}

/// The minimum cost of an audit event: one hash over a line and one append to a file.
pub(crate) struct Floor {
    file: File,
    line: Vec<u8>,
}

impl Floor {
    pub(crate) fn new(folder: &Path) -> Self {
        let file = File::options().create(true).append(true).open(folder.join("floor")).unwrap();
        Self { file, line: vec![b'x'; 400] }
    }

    pub(crate) fn event(&mut self) {
        let hash = blake3::hash(&self.line);
        self.line[..32].copy_from_slice(hash.as_bytes());
        self.file.write_all(&self.line).unwrap();
    }
}
