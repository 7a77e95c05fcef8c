//! One piece of work that many wait for. It goes on while at least one of them does, whoever began it, and is ended when the last one
//! gives up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{CompileError, Made};

type Outcome = Result<Made, CompileError>;

/// The work, for one who waits.
#[derive(Clone)]
pub(super) struct Flight {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    compiling: watch::Receiver<bool>,
}

/// The work, for one who may come to wait.
pub(super) struct WeakFlight {
    /// None for work that was over when this was made.
    outcome: Option<WeakShared<BoxFuture<'static, Outcome>>>,
    compiling: watch::Receiver<bool>,
}

impl Flight {
    /// Begins the work as a task of its own. It says through the sender that it is compiling.
    pub(super) fn start<F>(work: impl FnOnce(watch::Sender<bool>) -> F) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (sender, compiling) = watch::channel(false);
        let task = EndedWhenDropped(tokio::spawn(work(sender)));
        Self { outcome: task.boxed().shared(), compiling }
    }

    /// For the table of flights. Without it the flight lives as long as those who wait.
    pub(super) fn downgrade(&self) -> WeakFlight {
        WeakFlight { outcome: self.outcome.downgrade(), compiling: self.compiling.clone() }
    }

    /// Waits, and reports once when compiling begins and once when it has ended, also where the waiting is given up.
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

/// Reports the end of compiling whichever way the waiting ends.
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
    /// Joins those who wait; none where the work was given up.
    pub(super) fn join(&self) -> Option<Flight> {
        Some(Flight { outcome: self.outcome.as_ref()?.upgrade()?, compiling: self.compiling.clone() })
    }
}

/// A task that does not outlive this.
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
