//! The secrets interface in an embedder's own world: `wit/scoring.wit` imports
//! `strongroom:training/secrets` and an interface of this program, and exports a function that is
//! neither `wasi:cli/run` nor `train`.
//!
//! The runner does not support such a world, so this program links and calls the component itself.
//! It leaves decisions, audit and redaction to a session, which provides access to secrets and
//! writes the run's first and last events.
//!
//! `cargo run --example own_world -- COMPONENT`

use std::error::Error;
use std::sync::Arc;

use strongroom::audit::{Audit, SyncMode};
use strongroom::broker::{Broker, Ended, Repeats, Session};
use strongroom::ids::SecretName;
use strongroom::policy::{Ceilings, Policy};
use strongroom::runtime::wasmtime::component::{HasSelf, Linker, ResourceTable};
use strongroom::runtime::wasmtime::{self, Engine, Store};
use strongroom::runtime::wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2};
use strongroom::runtime::{
    self, Compile, EngineOptions, Loader, Observer, Output, RESOURCES_MAX, Silent, Stream, Ticker, Training,
    TrainingView, add_secrets_to_linker, contain,
};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{NewSecret, Operator as _};

mod bindings {
    ::strongroom::runtime::wasmtime::component::bindgen!({
        path: ["../../wit", "examples/wit"],
        world: "example:scoring/scorer",
        wasmtime_crate: ::strongroom::runtime::wasmtime,
        exports: { default: async },
    });
}
use bindings::{ScorerPre, example::scoring::rows};

const POLICY: &str = "
version = 1

[secrets]
mark = ['get']

[limits]
memory = '64MiB'
time = '10s'
";

/// The data of a store: WASI, this program's own interface, and the state of `strongroom:training`.
struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    rows: std::vec::IntoIter<String>,
    training: Training,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl TrainingView for State {
    fn training(&mut self) -> &mut Training {
        &mut self.training
    }
}

impl rows::Host for State {
    fn next(&mut self) -> Option<String> {
        self.rows.next()
    }
}

/// Creates the linker once per process. Only what is added here exists for a component.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    p2::add_to_linker_async(&mut linker)?;
    add_secrets_to_linker(&mut linker)?;
    rows::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Prints the component's output, which is redacted. This program escapes control characters.
struct Screen;

impl Observer for Screen {
    fn output(&self, _stream: Stream, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            println!("component: {}", strongroom::escape::escape_controls(line));
        }
    }
}

/// Runs a component in this program's world.
async fn score(session: &mut Session, component: &ScorerPre<State>, rows: Vec<String>) -> Ended {
    let output = Output::start(session.broker().redactor(), session.limits().log_bytes, Arc::new(Screen));
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let state = State {
        // Neither folders nor network nor environment, which this world's components do not need.
        wasi: WasiCtx::builder().stdout(output.stream(Stream::Stdout)).stderr(output.stream(Stream::Stderr)).build(),
        table,
        rows: rows.into_iter(),
        training: Training::new(session, Default::default(), Arc::new(Screen)),
    };
    let mut store = Store::new(component.engine(), state);
    contain(&mut store);

    let guard = store.data().training.guard();
    let call = async {
        let scorer = component.instantiate_async(&mut store).await?;
        scorer.call_score(&mut store).await
    };
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    let scored = guard.call(call, interrupted).await;

    store.data_mut().training.report(session.record_mut());
    drop(store);
    let (log, rest) = output.close().await;
    session.record_mut().log = log;
    rest.wait(None).await;
    match scored {
        Ok(Ok(count)) => {
            println!("{count} rows carry the mark");
            Ended::Finished
        }
        Ok(Err(reason)) => Ended::Failed { exit_code: None, reason: guard.shown(&reason) },
        Err(ended) => ended,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    strongroom::process::keep_memory_private();
    let path = std::env::args().nth(1).ok_or("name a component")?;
    let home = tempfile::tempdir()?;

    // Once per process: vault, audit log and engine.
    let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile)?;
    let mark = Arc::new(Secret::new("sixteen-bytes-or-more".to_owned())?);
    vault.set_many(vec![NewSecret::new(SecretName::parse("mark")?, mark)]).await?;
    let audit = Audit::open(&home.path().join("audit"), SyncMode::Always)?;
    let broker = Broker::new(Arc::new(vault), audit.clone(), Repeats::Sum);
    let engine = runtime::engine(&EngineOptions::default())?;
    let ticker = Ticker::new(&engine)?;
    let linker = linker(&engine)?;
    let loader = Loader::new(engine, Compile::InProcess, None);

    // Checks the component before its run starts.
    let spec = RunSpec::new(path);
    let policy = Arc::new(Policy::parse(POLICY, "policy")?);
    let candidate = loader.read_for_world(&spec.component).await?;
    let loaded = loader.compile(&candidate, policy.limits().compile_time, &Silent).await?;
    let component = ScorerPre::new(linker.instantiate_pre(&loaded.component)?)?;

    // The run: its first event, the guest under the run's limits, its last event.
    let this = candidate.component_ref(&spec.component);
    let mut session = broker.start(&spec, this, policy, &Ceilings::default()).await?;
    let rows = ["1,2,sixteen-bytes-or-more", "3,4,another", "5,6,sixteen-bytes-or-more"].map(str::to_owned);
    let ended = {
        let _ticking = ticker.run();
        score(&mut session, &component, rows.into()).await
    };
    let record = session.end(ended).await;

    audit.close()?;
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(())
}
