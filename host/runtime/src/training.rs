//! Links the guest contract: `strongroom:training/secrets` and `strongroom:training/context`.
//!
//! A host with its own world uses this like the engine's WASI crates: its store's state owns a
//! [`Training`], exposes it through [`TrainingView`], and [`add_to_linker`] adds both interfaces.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, Linker};

use super::context::{Context, Reports};
use super::guard::{Deadline, Guard};
use super::limits::Limiter;
use super::observer::Observer;
use super::stop::StopCell;
use strongroom_broker::{Description, GuestError, RequestError, RunBroker, Session};
use strongroom_core::record::RunRecord;
use strongroom_core::secret::Secret;
use strongroom_policy::Limits;

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated from the documented interface in wit/")]

    // `tracing` stays off: it would print the strings that are passed, and those are secrets.
    wasmtime::component::bindgen!({
        path: "wit",
        world: "program",
        imports: { default: trappable },
    });
}

use bindings::strongroom::training::{context, secrets};

const SECRETS: &str = "strongroom:training/secrets@0.1.1";

/// One run's state for the guest contract: its broker, its context, and its store's limits.
pub struct Training {
    broker: Arc<RunBroker>,
    context: Context,
    stop: StopCell,
    limiter: Limiter,
    time: Duration,
    deadline: Deadline,
}

impl Training {
    /// Returns the state of a run that has begun. The component reads the parameters through
    /// `context`; its reports there go to the observer.
    pub fn new(session: &Session, parameters: BTreeMap<String, String>, observer: Arc<dyn Observer>) -> Self {
        let (broker, stop) = (session.broker(), StopCell::default());
        let (redactor, reports) = (broker.redactor().clone(), session.limits().metrics);
        let context = Context::new(session.id(), parameters, redactor, observer, reports, stop.clone());
        Self::of(Arc::clone(broker), context, stop, session.limits())
    }

    pub(super) fn of(broker: Arc<RunBroker>, context: Context, stop: StopCell, limits: &Limits) -> Self {
        let limiter = Limiter::new(limits.memory, stop.clone());
        Self { broker, context, limiter, stop, time: limits.time, deadline: Deadline::default() }
    }

    /// Returns the guard for calls into the guest.
    pub fn guard(&self) -> Guard {
        Guard::new(Arc::clone(&self.broker), self.stop.clone(), self.time, self.deadline.clone())
    }

    /// Adds the run's measurements and reports to its record: memory, metrics, tags, logged parameters,
    /// progress. Call it once, at the end.
    pub fn report(&mut self, record: &mut RunRecord) {
        record.peak_memory_bytes = self.peak_memory();
        self.take_reports().store(record);
    }

    pub(super) fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }

    pub(super) fn peak_memory(&self) -> u64 {
        self.limiter.peak()
    }

    pub(super) fn take_reports(&mut self) -> Reports {
        self.context.take_reports()
    }
}

impl fmt::Debug for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Training").field("run", &self.context.run_id()).finish_non_exhaustive()
    }
}

/// A store's state that owns a [`Training`].
pub trait TrainingView: Send {
    /// Returns the run's state for the guest contract.
    fn training(&mut self) -> &mut Training;
}

/// Adds both interfaces to a linker. Its engine must run guests asynchronously, as
/// [`engine`](super::engine()) does.
///
/// # Errors
/// The linker's error if it already has one of them.
pub fn add_to_linker<T: TrainingView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    context::add_to_linker::<T, TrainingData>(linker, |state| state.training())?;
    add_secrets_to_linker(linker)
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

    fn set_tag(&mut self, name: String, value: String) -> wasmtime::Result<Result<(), String>> {
        Ok(self.context.set_tag(&name, &value)?)
    }

    fn remove_tag(&mut self, name: String) -> wasmtime::Result<Result<(), String>> {
        Ok(self.context.remove_tag(&name)?)
    }

    fn log_parameter(&mut self, name: String, value: String) -> wasmtime::Result<Result<(), String>> {
        Ok(self.context.log_parameter(&name, &value)?)
    }

    fn log_text(&mut self, name: String, value: String, step: Option<u64>) -> wasmtime::Result<Result<(), String>> {
        Ok(self.context.log_text(&name, &value, step)?)
    }

    fn remaining_time(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(self.deadline.remaining().map(|left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
    }
}

type Answer<T> = wasmtime::Result<(Result<T, secrets::Error>,)>;

/// Adds only `strongroom:training/secrets`, for a world that has its own context.
///
/// The interface is defined function by function and not by generated code, because a generated
/// signature returns a `String`, which the engine frees without zeroizing it. The shared text that
/// is passed here stays owned by the [`Secret`], which zeroizes it.
///
/// # Errors
/// The linker's error if it already has the interface.
pub fn add_secrets_to_linker<T: TrainingView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut secrets = linker.instance(SECRETS)?;
    secrets.func_wrap_async("get-secret", |mut store, (name,): (String,)| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let answer = run.broker.get(&name).await.map(|value| released(&value));
            run.answer(answer)
        })
    })?;
    secrets.func_wrap_async("set-secret", |mut store, (name, value): (String, String)| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let answer = run.broker.set(&name, value).await;
            run.answer(answer)
        })
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
        Box::new(async move {
            let answer = run.broker.set_many(pairs).await;
            run.answer(answer)
        })
    })?;
    secrets.func_wrap_async("list-secrets", |mut store, (): ()| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let answer = run.broker.list().await;
            run.answer(answer)
        })
    })?;
    secrets.func_wrap_async("describe-secret", |mut store, (name,): (String,)| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let answer = run.broker.describe(&name).await.map(description);
            run.answer(answer)
        })
    })?;
    secrets.func_wrap_async("delete-secret", |mut store, (name,): (String,)| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let answer = run.broker.delete(&name).await;
            run.answer(answer)
        })
    })?;
    secrets.func_wrap_async("delete-secrets", |mut store, (names,): (Vec<String>,)| {
        let run = Run::of(&mut store);
        Box::new(async move {
            let answer = run.broker.delete_many(&names).await;
            run.answer(answer)
        })
    })?;
    Ok(())
}

/// What a call takes from the store before it waits, so that it does not borrow the store while it
/// waits.
struct Run {
    broker: Arc<RunBroker>,
    stop: StopCell,
}

impl Run {
    fn of<T: TrainingView + 'static>(store: &mut StoreContextMut<'_, T>) -> Self {
        let training = store.data_mut().training();
        Self { broker: Arc::clone(&training.broker), stop: training.stop.clone() }
    }

    /// Returns the component's result, or the trap that ends its run.
    fn answer<T>(self, result: Result<T, RequestError>) -> Answer<T> {
        match result {
            Ok(value) => Ok((Ok(value),)),
            Err(RequestError::Answer(answer)) => Ok((Err(to_guest(answer.into_guest())),)),
            Err(RequestError::Stop(limit)) => Err(self.stop.stop(limit).into()),
        }
    }
}

/// Returns a value as the component receives it.
fn released(value: &Secret) -> Arc<str> {
    value.expose_shared()
}

fn shared(value: Option<Arc<Secret>>) -> Option<Arc<str>> {
    value.map(|value| released(&value))
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
