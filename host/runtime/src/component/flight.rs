//! Single-flight work with several waiters. The work continues while at least one waiter remains,
//! whichever of them started it, and is aborted when the last one is dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{CompileError, Made};

type Outcome = Result<Made, CompileError>;

/// A waiter's handle to the work. It keeps the work alive.
#[derive(Clone)]
pub(super) struct Flight {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    compiling: watch::Receiver<bool>,
}

/// A weak handle, from which a new waiter can join the work.
pub(super) struct WeakFlight {
    /// `None` if the work had ended before this handle was made.
    outcome: Option<WeakShared<BoxFuture<'static, Outcome>>>,
    compiling: watch::Receiver<bool>,
}

impl Flight {
    /// Starts the work as a separate task. The work reports through the sender that it is
    /// compiling.
    pub(super) fn start<F>(work: impl FnOnce(watch::Sender<bool>) -> F) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (sender, compiling) = watch::channel(false);
        let task = EndedWhenDropped(tokio::spawn(work(sender)));
        Self { outcome: task.boxed().shared(), compiling }
    }

    /// Returns a weak handle for the table of flights. Only waiters keep the flight alive.
    pub(super) fn downgrade(&self) -> WeakFlight {
        WeakFlight { outcome: self.outcome.downgrade(), compiling: self.compiling.clone() }
    }

    /// Waits for the outcome. Reports once when compiling begins and once when it ends, even if the
    /// wait is cancelled.
    pub(super) async fn watched(mut self, report: impl Fn(bool)) -> Outcome {
        let mut ended = Ended { report: &report, begun: false };
        let mut outcome = self.outcome;
        let begun = self.compiling.wait_for(|compiling| *compiling);
        match futures_util::future::select(&mut outcome, std::pin::pin!(begun)).await {
            futures_util::future::Either::Left((outcome, _)) => return outcome,
            futures_util::future::Either::Right((begun, _)) => {
                if begun.is_ok() {
                    ended.begun = true;
                    report(true);
                }
            }
        }
        outcome.await
    }
}

/// Reports the end of compiling when the wait ends, whether it completed or was cancelled.
struct Ended<'a, R: Fn(bool)> {
    report: &'a R,
    begun: bool,
}

impl<R: Fn(bool)> Drop for Ended<'_, R> {
    fn drop(&mut self) {
        if self.begun {
            (self.report)(false);
        }
    }
}

impl WeakFlight {
    /// Joins the waiters; `None` if the work was aborted.
    pub(super) fn join(&self) -> Option<Flight> {
        Some(Flight { outcome: self.outcome.as_ref()?.upgrade()?, compiling: self.compiling.clone() })
    }
}

/// A task that is aborted when this is dropped.
struct EndedWhenDropped(JoinHandle<Outcome>);

impl Future for EndedWhenDropped {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.poll_unpin(context).map(|joined| {
            joined.unwrap_or_else(|_| Err(CompileError::Host("the task that compiles the component failed".to_owned())))
        })
    }
}

impl Drop for EndedWhenDropped {
    fn drop(&mut self) {
        self.0.abort();
    }
}
