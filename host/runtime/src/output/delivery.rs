//! Delivery of queued output to the observer, on a thread for blocking work.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::{Phase, Shared};
use crate::observer::Stream;

/// Output of a run that its observer has not yet received.
#[must_use = "wait for it, so that the observer has seen all output"]
pub struct Handover(Arc<Shared>);

impl Handover {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Waits until the observer has everything, for at most `patience`. A stopped run need not wait
    /// for a reader that may never read. After that time the observer still receives the rest when
    /// it reads again.
    pub async fn wait(self, patience: Option<Duration>) {
        match patience {
            Some(patience) => drop(tokio::time::timeout(patience, self.handed_on()).await),
            None => self.handed_on().await,
        }
        if self.0.state().phase == Phase::Broken {
            tracing::error!("the observer of a run's output panicked: output was lost");
        }
    }

    async fn handed_on(&self) {
        loop {
            // Register before the check, so that a notification between the two is not missed.
            let drained = self.0.drained.notified();
            if !self.0.state().handing_on {
                return;
            }
            drained.await;
        }
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("queued", &self.0.queued).finish_non_exhaustive()
    }
}

/// The exclusive right to deliver to the observer.
pub(super) struct HandOn {
    shared: Arc<Shared>,
    /// Whether the right was given up. From then on `handing_on` belongs to another thread.
    over: bool,
}

impl HandOn {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), over: false }
    }

    pub(super) fn run(mut self) {
        while let Some((stream, bytes)) = self.next() {
            if let Some(recording) = &self.shared.recording {
                recording.drain();
            }
            self.shared.observer.output(stream, &bytes);
            self.shared.queued.fetch_sub(bytes.len(), Ordering::AcqRel);
            self.shared.drained.notify_waiters();
        }
    }

    /// Returns the next write. If there is none, gives up the right in the same step, so that a
    /// later writer starts delivery again.
    pub(super) fn next(&mut self) -> Option<(Stream, Bytes)> {
        let mut state = self.shared.state();
        let next = state.waiting.pop_front();
        state.handing_on = next.is_some();
        self.over = next.is_none();
        next
    }
}

impl Drop for HandOn {
    fn drop(&mut self) {
        if !self.over {
            // The observer panicked, or this task never ran.
            let mut state = self.shared.state();
            state.handing_on = false;
            state.phase = Phase::Broken;
            state.waiting.clear();
            self.shared.queued.store(0, Ordering::Release);
        }
        self.shared.drained.notify_waiters();
    }
}
