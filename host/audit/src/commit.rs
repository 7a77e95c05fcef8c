//! Group commit: events that wait at the same time share one sync of the file.
//!
//! Lines are written under the writer's lock, one after the other; making them durable takes far longer and happens outside it.
//! The first event that waits starts a task which syncs until nobody waits any more. That task belongs to no one: a run that is
//! killed while it waits disturbs nobody else. A sync that fails is final, because the system may have dropped what it could not
//! write, and a second try would succeed without it.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// Where lines go. A trait so that tests can make it fail.
pub(super) trait Sink: Send + Sync {
    /// One `write(2)`: how many bytes were taken.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes everything written durable.
    fn sync(&self) -> io::Result<()>;
}

impl Sink for File {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        Write::write(&mut file, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Lines up to this one are durable.
    synced: u64,
    /// Somebody waits for this one.
    wanted: u64,
    /// A task is syncing.
    running: bool,
    /// A sync has failed, and why.
    failed: Option<Arc<str>>,
}

/// Makes lines durable, and tells who waits.
pub(super) struct Commit {
    sink: Arc<dyn Sink>,
    written: AtomicU64,
    /// One sync at a time: the system reports a failed write-back to one of several callers only.
    turn: Mutex<()>,
    state: watch::Sender<State>,
}

impl Commit {
    pub(super) fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, written: AtomicU64::new(0), turn: Mutex::new(()), state: watch::Sender::new(State::default()) }
    }

    /// Notes that the lines up to this one are written. Called in the order of the lines.
    pub(super) fn written(&self, line: u64) {
        self.written.store(line, Ordering::Release);
    }

    /// The failure that ended the segment, if there was one.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.state.borrow().failed.clone()
    }

    /// Makes a line durable and blocks meanwhile.
    pub(super) fn sync_to(&self, line: u64) -> Result<(), Arc<str>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(settled) = self.settled(line) {
            return settled;
        }
        let target = self.written.load(Ordering::Acquire);
        let outcome = self.sink.sync().map_err(|error| Arc::from(format!("cannot make it durable: {error}")));
        self.state.send_modify(|state| match &outcome {
            Ok(()) => state.synced = state.synced.max(target),
            Err(cause) => state.failed = Some(Arc::clone(cause)),
        });
        outcome
    }

    /// Waits until a line is durable. May be dropped at any time.
    pub(super) async fn wait(self: &Arc<Self>, line: u64) -> Result<(), Arc<str>> {
        let mut changes = self.state.subscribe();
        let mut lead = false;
        self.state.send_if_modified(|state| {
            state.wanted = state.wanted.max(line);
            lead = !state.running && state.synced < line && state.failed.is_none();
            state.running |= lead;
            false
        });
        if lead {
            let task = Lead { commit: Arc::clone(self), done: false };
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || task.run())),
                Err(_) => task.run(),
            }
        }
        let over = |state: &State| state.synced >= line || state.failed.is_some() || !state.running;
        // The sender is `self`: this ends only by the condition.
        drop(changes.wait_for(over).await);
        match self.settled(line) {
            Some(settled) => settled,
            // The task was dropped before it ran, by a runtime that shuts down.
            None => self.sync_to(line),
        }
    }

    fn settled(&self, line: u64) -> Option<Result<(), Arc<str>>> {
        let state = self.state.borrow();
        if state.synced >= line {
            return Some(Ok(()));
        }
        state.failed.clone().map(Err)
    }
}

/// The right to be the one task that syncs.
struct Lead {
    commit: Arc<Commit>,
    done: bool,
}

impl Lead {
    fn run(mut self) {
        let mut more = true;
        while more {
            let wanted = self.commit.state.borrow().wanted;
            more = self.commit.sync_to(wanted).is_ok();
            // One step under the state's lock: whoever asks later finds no task running and starts one.
            self.commit.state.send_if_modified(|state| {
                more &= state.wanted > state.synced;
                state.running = more;
                false
            });
        }
        self.done = true;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.done {
            self.commit.state.send_modify(|state| state.running = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(AtomicU64);

    impl Sink for Counting {
        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn sync(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    fn commit() -> (Arc<Commit>, Arc<Counting>) {
        let sink = Arc::new(Counting(AtomicU64::new(0)));
        (Arc::new(Commit::new(Arc::clone(&sink) as Arc<dyn Sink>)), sink)
    }

    #[tokio::test]
    async fn a_task_that_never_ran_leaves_nobody_waiting() {
        let (commit, sink) = commit();
        commit.written(1);
        commit.state.send_modify(|state| state.running = true);
        let lost = Lead { commit: Arc::clone(&commit), done: false };
        let mut waiting = std::pin::pin!(commit.wait(1));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(lost);
        assert_eq!(waiting.await, Ok(()));
        assert_eq!(sink.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn waiting_works_without_a_runtime() {
        let (commit, sink) = commit();
        commit.written(2);
        let mut waiting = std::pin::pin!(commit.wait(1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(waiting.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(())));
        // The sync took both lines.
        assert_eq!(commit.sync_to(2), Ok(()));
        assert_eq!(sink.0.load(Ordering::SeqCst), 1);
    }
}
