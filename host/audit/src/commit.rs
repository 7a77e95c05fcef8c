//! Group commit: events that wait at the same time share one sync of the file.
//!
//! Lines are written one after the other under the writer's lock. Syncing takes far longer and
//! happens outside that lock. The first event that waits starts a task that syncs until no event
//! waits. The task is independent of its callers: a run that is aborted while it waits does not
//! affect others. A failed sync is final, because the system may have discarded the data, and
//! another sync would succeed without it.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// Where lines are written. A trait so that tests can inject failures.
pub(super) trait Sink: Send + Sync {
    /// Calls `write(2)` once and returns the number of bytes written.
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
    /// The last line that a caller waits for.
    wanted: u64,
    /// Whether a task is syncing.
    running: bool,
    /// Why a sync failed, if one did.
    failed: Option<Arc<str>>,
}

/// Makes lines durable, and notifies the callers that wait for them.
pub(super) struct GroupCommit {
    sink: Arc<dyn Sink>,
    written: AtomicU64,
    /// Held during a sync: the system reports a failed write-back to only one of several callers.
    sync_lock: Mutex<()>,
    state: watch::Sender<State>,
}

impl GroupCommit {
    pub(super) fn new(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            written: AtomicU64::new(0),
            sync_lock: Mutex::new(()),
            state: watch::Sender::new(State::default()),
        }
    }

    /// Records that the lines up to this one are written. Called in the order of the lines.
    pub(super) fn written(&self, line: u64) {
        self.written.store(line, Ordering::Release);
    }

    /// Returns the failure that ended the segment, if there was one.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.state.borrow().failed.clone()
    }

    /// Makes a line durable. Blocks.
    pub(super) fn sync_to(&self, line: u64) -> Result<(), Arc<str>> {
        let _turn = self.sync_lock.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Waits until a line is durable. Cancel-safe.
    pub(super) async fn wait(self: &Arc<Self>, line: u64) -> Result<(), Arc<str>> {
        let mut changes = self.state.subscribe();
        let mut start_task = false;
        self.state.send_if_modified(|state| {
            state.wanted = state.wanted.max(line);
            start_task = !state.running && state.synced < line && state.failed.is_none();
            state.running |= start_task;
            false
        });
        if start_task {
            let task = SyncTask { commit: Arc::clone(self), done: false };
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || task.run())),
                Err(_) => task.run(),
            }
        }
        let is_settled = |state: &State| state.synced >= line || state.failed.is_some() || !state.running;
        // `self` owns the sender, so this ends only by the condition.
        drop(changes.wait_for(is_settled).await);
        match self.settled(line) {
            Some(settled) => settled,
            // The runtime shut down and dropped the task before it ran.
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

/// The single task that syncs.
struct SyncTask {
    commit: Arc<GroupCommit>,
    done: bool,
}

impl SyncTask {
    fn run(mut self) {
        let mut more = true;
        while more {
            let wanted = self.commit.state.borrow().wanted;
            more = self.commit.sync_to(wanted).is_ok();
            // Check and update under one lock: a later caller sees that no task is running and
            // starts one.
            self.commit.state.send_if_modified(|state| {
                more &= state.wanted > state.synced;
                state.running = more;
                false
            });
        }
        self.done = true;
    }
}

impl Drop for SyncTask {
    fn drop(&mut self) {
        if !self.done {
            self.commit.state.send_modify(|state| state.running = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct CountingSink(AtomicU64);

    impl Sink for CountingSink {
        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn sync(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    fn commit() -> (Arc<GroupCommit>, Arc<CountingSink>) {
        let sink = Arc::new(CountingSink(AtomicU64::new(0)));
        (Arc::new(GroupCommit::new(Arc::clone(&sink) as Arc<dyn Sink>)), sink)
    }

    #[tokio::test]
    async fn dropped_sync_task_blocks_no_caller() {
        let (commit, sink) = commit();
        commit.written(1);
        commit.state.send_modify(|state| state.running = true);
        let lost = SyncTask { commit: Arc::clone(&commit), done: false };
        let mut waiting = std::pin::pin!(commit.wait(1));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(lost);
        assert_eq!(waiting.await, Ok(()));
        assert_eq!(sink.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn wait_works_without_runtime() {
        let (commit, sink) = commit();
        commit.written(2);
        let mut waiting = std::pin::pin!(commit.wait(1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(waiting.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(())));
        // The sync covered both lines.
        assert_eq!(commit.sync_to(2), Ok(()));
        assert_eq!(sink.0.load(Ordering::SeqCst), 1);
    }
}
