//! The guest contract, linked: `strongroom:training/secrets` and `strongroom:training/context`.
//!
//! A host with a world of its own uses this the way it uses the engine's own WASI crates: its store's state owns a [`Training`], shows it
//! through [`TrainingView`], and [`add_to_linker`] adds both interfaces.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, Linker};

use super::context::Context;
use super::stop::StopCell;
use crate::broker::{GuestError, RequestError, RunBroker};
use crate::secret::Secret;
use crate::vault::Description;

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated from the documented interface in wit/")]

    // No `tracing` here: it would print the strings that pass, and those are secrets.
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "program",
        imports: { default: trappable },
    });
}

use bindings::strongroom::training::{context, secrets};

const SECRETS: &str = "strongroom:training/secrets@0.1.0";

/// One run's state behind the guest contract.
pub struct Training {
    broker: Arc<RunBroker>,
    context: Context,
    stop: StopCell,
}

impl Training {
    /// The state of a run: its way to secrets, its context, and where a limit is noted.
    pub fn new(broker: Arc<RunBroker>, context: Context, stop: StopCell) -> Self {
        Self { broker, context, stop }
    }

    /// The run's way to secrets.
    pub(super) fn broker(&self) -> Arc<RunBroker> {
        Arc::clone(&self.broker)
    }

    /// The run's context.
    pub fn context(&mut self) -> &mut Context {
        &mut self.context
    }
}

/// A store's state that owns a [`Training`].
pub trait TrainingView: Send {
    /// The run's state behind the guest contract.
    fn training(&mut self) -> &mut Training;
}

/// Adds both interfaces to a linker.
///
/// # Errors
/// Where the linker has one of them already.
pub fn add_to_linker<T: TrainingView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    context::add_to_linker::<T, TrainingData>(linker, |state| state.training())?;
    add_secrets(linker)
}

struct TrainingData;

impl HasData for TrainingData {
    type Data<'a> = &'a mut Training;
}

impl context::Host for &mut Training {
    fn run_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.run_id().to_string())
    }

    fn parameter(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.context.parameters().get(&name).cloned())
    }

    fn parameters(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.context.parameters().iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn log_metric(&mut self, name: String, value: f64, step: Option<u64>) -> wasmtime::Result<Result<(), String>> {
        Ok(self.context.log_metric(&name, value, step)?)
    }

    fn report_progress(&mut self, done: u64, total: u64, message: String) -> wasmtime::Result<Result<(), String>> {
        Ok(self.context.report_progress(done, total, &message)?)
    }
}

type Answer<T> = wasmtime::Result<(Result<T, secrets::Error>,)>;

/// The interface is defined function by function rather than by generated code for one reason: a generated signature returns a `String`, which
/// the engine frees without overwriting it. The shared text that goes out here stays owned by the [`Secret`], which overwrites it.
fn add_secrets<T: TrainingView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut secrets = linker.instance(SECRETS)?;
    secrets.func_wrap_async("get-secret", |mut store, (name,): (String,)| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.get(&name).await.map(|value| value.expose_shared())) })
    })?;
    secrets.func_wrap_async("set-secret", |mut store, (name, value): (String, String)| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.set(&name, value).await) })
    })?;
    secrets.func_wrap_async("get-secrets", |mut store, (names,): (Vec<String>,)| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let values = run.broker.get_many(&names).await;
            run.answer(values.map(|values| names.into_iter().zip(values.into_iter().map(shared)).collect::<Vec<_>>()))
        })
    })?;
    secrets.func_wrap_async("set-secrets", |mut store, (pairs,): (Vec<(String, String)>,)| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.set_many(pairs).await) })
    })?;
    secrets.func_wrap_async("list-secrets", |mut store, (): ()| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.list().await) })
    })?;
    secrets.func_wrap_async("describe-secret", |mut store, (name,): (String,)| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.describe(&name).await.map(description)) })
    })?;
    secrets.func_wrap_async("delete-secret", |mut store, (name,): (String,)| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.delete(&name).await) })
    })?;
    secrets.func_wrap_async("delete-secrets", |mut store, (names,): (Vec<String>,)| {
        let run = Run::of(&mut store);
        Box::new(async move { run.answer(run.broker.delete_many(&names).await) })
    })?;
    Ok(())
}

/// What a call takes from the store before it waits, so that it does not borrow the store while it does.
struct Run {
    broker: Arc<RunBroker>,
    stop: StopCell,
}

impl Run {
    fn of<T: TrainingView + 'static>(store: &mut StoreContextMut<'_, T>) -> Self {
        let training = store.data_mut().training();
        Self { broker: Arc::clone(&training.broker), stop: training.stop.clone() }
    }

    /// The component's answer, or the trap that ends its run.
    fn answer<T>(&self, result: Result<T, RequestError>) -> Answer<T> {
        match result {
            Ok(value) => Ok((Ok(value),)),
            Err(RequestError::Answer(answer)) => Ok((Err(to_guest(answer.into_guest())),)),
            Err(RequestError::Stop(limit)) => Err(self.stop.stop(limit).into()),
        }
    }
}

fn shared(value: Option<Arc<Secret>>) -> Option<Arc<str>> {
    value.map(|value| value.expose_shared())
}

fn to_guest(error: GuestError) -> secrets::Error {
    match error {
        GuestError::Denied(text) => secrets::Error::Denied(text),
        GuestError::NotFound(text) => secrets::Error::NotFound(text),
        GuestError::InvalidName(text) => secrets::Error::InvalidName(text),
        GuestError::InvalidValue(text) => secrets::Error::InvalidValue(text),
        GuestError::Exhausted(text) => secrets::Error::Exhausted(text),
        GuestError::Expired(text) => secrets::Error::Expired(text),
        GuestError::InvalidBatch(text) => secrets::Error::InvalidBatch(text),
        GuestError::Conflict(text) => secrets::Error::Conflict(text),
        GuestError::Partial(names) => secrets::Error::Partial(names),
        GuestError::Unavailable(text) => secrets::Error::Unavailable(text),
    }
}

fn description(description: Description) -> secrets::Description {
    let seconds = |time: jiff::Timestamp| u64::try_from(time.as_second()).ok();
    secrets::Description {
        version: description.version.to_string(),
        content_type: description.attributes.content_type,
        updated: seconds(description.updated),
        expires: description.attributes.expires.and_then(seconds),
    }
}
