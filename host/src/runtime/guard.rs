//! A call into a guest under the run's limits, and what became of it.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;

use super::limits::{HOST_CALL_BYTES_MAX, RESOURCES_MAX};
use super::stop::StopCell;
use super::training::TrainingView;
use crate::broker::{Ended, RunBroker};
use crate::record::Limit;

/// The longest text of a component that a record keeps as the reason of its failure, in characters.
const REASON_MAX: usize = 4 * 1024;

/// Puts a store under its run's limits: memory, tables and instances, handles, what one call may carry; and lets the engine's clock
/// interrupt its code, so that an endless loop comes back to the executor. The engine has to be one of [`engine`](super::engine()), and a
/// [`Ticker`](super::Ticker) has to be running while the store's code does.
///
/// The resource table is the state's own: give it [`RESOURCES_MAX`] with `ResourceTable::set_max_capacity`.
pub fn contain<T: TrainingView + 'static>(store: &mut Store<T>) {
    store.limiter(|state| state.training().limiter());
    store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
    store.set_max_component_handles(4 * RESOURCES_MAX);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(1);
}

/// What has to stand around the calls into a guest. Made by [`Training::guard`](super::Training::guard), and apart from the store, so that the
/// store is free for the call.
#[derive(Clone, Debug)]
pub struct Guard {
    broker: Arc<RunBroker>,
    stop: StopCell,
    time: Duration,
}

impl Guard {
    pub(super) fn new(broker: Arc<RunBroker>, stop: StopCell, time: Duration) -> Self {
        Self { broker, stop, time }
    }

    /// Waits for a call into the guest, instantiation included, at most for the run's `time` and until `cancelled` is ready. After an error the
    /// store is not to be used again.
    ///
    /// One run is one call of this: each begins with the whole time.
    ///
    /// # Errors
    /// [`Ended`]: what became of the run where the call did not come back. Its text is redacted and escaped.
    pub async fn call<R>(
        &self,
        call: impl Future<Output = wasmtime::Result<R>>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<R, Ended> {
        let run = tokio::time::timeout(self.time, AssertUnwindSafe(call).catch_unwind());
        let called = match select(pin!(run), pin!(cancelled)).await {
            Either::Left((called, _)) => called,
            Either::Right(((), _)) => return Err(Ended::Cancelled),
        };
        match called {
            Err(_elapsed) => Err(Ended::Limit(self.stop.limit().unwrap_or(Limit::Time))),
            Ok(Err(_panic)) => Err(Ended::HostFault("the host panicked while it served the component".to_owned())),
            // A limit counts even where the guest, or a layer between, has swallowed its trap.
            Ok(Ok(result)) => match self.stop.limit() {
                Some(limit) => Err(Ended::Limit(limit)),
                None => result.map_err(|error| self.classify(&error)),
            },
        }
    }

    /// Text that may hold a component's words, as it may stand in a record: redacted, escaped, and shortened, without a copy of
    /// what may be as long as the component's memory.
    pub fn shown(&self, text: &str) -> String {
        self.broker.redactor().shown_start(text, REASON_MAX)
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
