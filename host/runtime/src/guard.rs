//! Calls into a guest under the run's limits, and classifies the outcome.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;

use super::limits::{HOST_CALL_BYTES_MAX, RESOURCES_MAX};
use super::preopens::Unopened;
use super::stop::StopCell;
use super::training::TrainingView;
use super::{error_text, text};
use strongroom_broker::{Ended, RunBroker};
use strongroom_core::record::Limit;

/// The longest text from a component that a record keeps as its failure reason, in characters.
const REASON_MAX: usize = 4 * 1024;

/// How much of an error's innermost cause is examined to classify it, in characters.
const CAUSE_MAX: usize = 200;

/// Applies the run's limits to a store: memory, tables and instances, handles, and the size of one
/// call. The engine's epoch can then interrupt its code, so that an endless loop returns to the
/// executor. The engine must come from [`engine`](super::engine()), and a [`Ticker`](super::Ticker)
/// must be running while the store's code runs.
///
/// The resource table belongs to the state: set its capacity to [`RESOURCES_MAX`] with
/// `ResourceTable::set_max_capacity`.
pub fn contain<T: TrainingView + 'static>(store: &mut Store<T>) {
    store.limiter(|state| state.training().limiter());
    store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
    store.set_max_component_handles(4 * RESOURCES_MAX);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(1);
}

/// Applies a run's time limit and cancellation to calls into a guest.
/// [`Training::guard`](super::Training::guard) returns it. It is separate from the store so that
/// the store is free for the call.
#[derive(Clone, Debug)]
pub struct Guard {
    broker: Arc<RunBroker>,
    stop: StopCell,
    time: Duration,
    deadline: Deadline,
}

/// When a run reaches its `time` limit; `None` until its guard is in use. Shared between a run's
/// guard and its state, which tells the component.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadline(Arc<Mutex<Option<Instant>>>);

impl Deadline {
    fn set(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(time);
    }

    /// Returns the time that is left, and zero afterwards. `None` if there is no limit yet, or if it
    /// is beyond the range of the clock.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let deadline = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Guard {
    pub(super) fn new(broker: Arc<RunBroker>, stop: StopCell, time: Duration, deadline: Deadline) -> Self {
        Self { broker, stop, time, deadline }
    }

    /// Waits for a call into the guest, instantiation included, until the run's `time` has passed
    /// or `cancelled` is ready. After an error the store must not be used again.
    ///
    /// Use one call of this per run: each call starts with the whole time.
    ///
    /// # Errors
    /// [`Ended`] if the call did not return: how the run ended. Its text is redacted and escaped.
    pub async fn call<R>(
        &self,
        call: impl Future<Output = wasmtime::Result<R>>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<R, Ended> {
        self.deadline.set(self.time);
        let run = tokio::time::timeout(self.time, AssertUnwindSafe(call).catch_unwind());
        let called = match select(pin!(run), pin!(cancelled)).await {
            Either::Left((called, _)) => called,
            Either::Right(((), _)) => return Err(Ended::Cancelled),
        };
        match called {
            Err(_elapsed) => Err(Ended::Limit(self.stop.limit().unwrap_or(Limit::Time))),
            Ok(Err(_panic)) => Err(Ended::HostFault("the host panicked while it served the component".to_owned())),
            // A recorded limit counts even if the guest, or a layer between, swallowed the trap.
            Ok(Ok(result)) => match self.stop.limit() {
                Some(limit) => Err(Ended::Limit(limit)),
                None => result.map_err(|error| self.classify(&error)),
            },
        }
    }

    /// Returns text that may contain a component's words in the form for a record: redacted,
    /// escaped and shortened. It makes no full copy, because the text may be as long as the
    /// component's memory.
    pub fn shown(&self, text: &str) -> String {
        self.broker.redactor().sanitize_prefix(text, REASON_MAX)
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
        if let Some(busy) = exhausted(error) {
            return busy;
        }
        if let Some(unopened) = error.downcast_ref::<Unopened>() {
            return Ended::HostFault(unopened.to_string());
        }
        if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
            return Ended::Limit(Limit::Resources);
        }
        if matches!(error.downcast_ref(), Some(Trap::StackOverflow)) {
            return Ended::Limit(Limit::Stack);
        }
        // The engine does not export these two error types, so they are matched by text; tests with
        // real guests check the texts. Only the cause is examined, because the context around it
        // contains function names, which the component chooses.
        let cause = text::bounded(error.root_cause(), CAUSE_MAX);
        if cause.contains("fuel allocated for hostcalls has been exhausted") {
            return Ended::Limit(Limit::HostCall);
        }
        if cause.contains("store handle limit exceeded") {
            return Ended::Limit(Limit::Resources);
        }
        let reason = match error.downcast_ref::<Trap>() {
            // A panic ends in this trap in most languages; the component has written the details to
            // its standard error.
            Some(trap @ Trap::UnreachableCodeReached) => format!("it panicked or aborted (trap: {trap})"),
            Some(trap) => format!("trap: {trap}"),
            None => error_text::format(error, REASON_MAX),
        };
        Ended::Failed { exit_code: None, reason: self.shown(&reason) }
    }
}

/// Returns the end of a run for which the system had no resources left. Other runs hold them and
/// will release them.
pub(super) fn exhausted(error: &wasmtime::Error) -> Option<Ended> {
    let code = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        io.or_else(|| cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error()))
    };
    let what = match rustix::io::Errno::from_raw_os_error(error.chain().find_map(code)?) {
        rustix::io::Errno::MFILE => "as many files are open as this process may have (`ulimit -n`)",
        rustix::io::Errno::NFILE => "as many files are open as this machine has room for (`fs.file-max`)",
        rustix::io::Errno::NOMEM => "there is no more memory, or room for mappings of it (`vm.max_map_count`)",
        _ => return None,
    };
    Some(Ended::HostFault(format!("the host is busy: {what}; try again later, or raise the limit")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_machine_reports_a_busy_host() {
        use rustix::io::Errno;
        for (errno, limit) in
            [(Errno::MFILE, "ulimit -n"), (Errno::NOMEM, "vm.max_map_count"), (Errno::NFILE, "fs.file-max")]
        {
            let plain = wasmtime::Error::new(errno).context("failed to make memory accessible");
            let io = wasmtime::Error::new(std::io::Error::from(errno)).context("failed to open a folder");
            for error in [plain, io] {
                let Some(Ended::HostFault(why)) = exhausted(&error) else { panic!("{error:#}") };
                assert!(why.starts_with("the host is busy: ") && why.contains(limit), "{why}");
            }
        }
        assert_eq!(exhausted(&wasmtime::Error::new(std::io::Error::from(Errno::ACCESS))), None);
        assert_eq!(exhausted(&wasmtime::Error::msg("out of memory")), None);
    }

    #[test]
    fn remaining_time_is_known_once_the_limit_runs() {
        let deadline = Deadline::default();
        assert_eq!(deadline.remaining(), None);
        deadline.set(Duration::from_secs(3600));
        let left = deadline.remaining().unwrap();
        assert!(left <= Duration::from_secs(3600) && deadline.remaining().unwrap() <= left);
        deadline.set(Duration::ZERO);
        assert_eq!(deadline.remaining(), Some(Duration::ZERO));
        deadline.set(Duration::MAX);
        assert_eq!(deadline.remaining(), None);
    }

    #[tokio::test]
    async fn function_name_with_a_limit_message_is_not_a_limit() {
        let (_home, session) = crate::session_for_tests::session_for_tests().await;
        let guard =
            Guard::new(Arc::clone(session.broker()), StopCell::default(), Duration::from_secs(1), Deadline::default());
        for text in ["fuel allocated for hostcalls has been exhausted", "store handle limit exceeded"] {
            let trap = wasmtime::Error::from(Trap::UnreachableCodeReached);
            let named = trap.context(format!("wasm backtrace: 0: 0x2a - module!{text}"));
            assert!(matches!(guard.classify(&named), Ended::Failed { exit_code: None, .. }), "{text}");
            let limit = guard.classify(&wasmtime::Error::msg(text).context("error while executing"));
            assert!(matches!(limit, Ended::Limit(_)), "{text}");
        }
    }
}
