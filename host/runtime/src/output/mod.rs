//! Standard output and standard error of a component: counted against `log-bytes`, redacted, and
//! delivered to the observer in order.
//!
//! A write is redacted immediately and then queued. A thread for blocking work delivers it, so that
//! an observer that blocks (for example on a stopped terminal) blocks the component and not the
//! executor. The thread exists only while something is queued, so a run that prints nothing has
//! none. The queue is bounded in bytes: a component that writes faster than its observer reads
//! waits.
//!
//! A recorder gets the same bytes in the same order, before the observer, and never waits for it.
//! Everything that a run has printed by its end is recorded even if its observer is blocked.

mod delivery;
mod recording;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::observer::{Observer, Stream};
use delivery::HandOn;
pub use delivery::Handover;
pub use recording::Recorder;
use recording::Recording;
pub use stream::GuestStream;
use strongroom_core::record::LogCount;
use strongroom_redact::{RedactStream, Redactor};

/// How many bytes may be queued before a writer waits.
const QUEUE_BYTES: usize = 256 * 1024;

/// Both output streams of a run. What the component writes is redacted, counted against
/// `log-bytes`, and delivered to the run's [`Observer`].
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// How many bytes are queued for the observer.
    queued: AtomicUsize,
    /// Notified when the observer has taken something, and when it has everything.
    drained: Notify,
    recording: Option<Arc<Recording>>,
    observer: Arc<dyn Observer>,
    runtime: Handle,
}

struct State {
    redactor: Redactor,
    /// Created at the first write, because many runs write nothing.
    stdout: Option<RedactStream>,
    stderr: Option<RedactStream>,
    count: LogCount,
    max: u64,
    /// The writes that the observer has not yet received. `queued` bounds them in bytes; a bound on
    /// the number of writes would not bound memory.
    waiting: VecDeque<(Stream, Bytes)>,
    phase: Phase,
    /// Whether a thread is delivering, or is about to.
    handing_on: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Writes are delivered.
    Open,
    /// The run has ended: later writes are discarded.
    Closed,
    /// The observer panicked, or the host is shutting down: nothing more is delivered.
    Broken,
}

impl Output {
    /// Starts delivery to the observer. Must be called within a tokio runtime.
    pub fn start(redactor: &Redactor, log_bytes: u64, observer: Arc<dyn Observer>) -> Self {
        Self::recorded(redactor, log_bytes, observer, None)
    }

    /// Starts delivery to the observer and to a recorder.
    pub(super) fn recorded(
        redactor: &Redactor,
        log_bytes: u64,
        observer: Arc<dyn Observer>,
        recorder: Option<Box<dyn Recorder>>,
    ) -> Self {
        let recording = recorder.map(|recorder| Arc::new(Recording::new(recorder)));
        let state = State {
            redactor: redactor.clone(),
            stdout: None,
            stderr: None,
            count: LogCount::default(),
            max: log_bytes,
            waiting: VecDeque::new(),
            phase: Phase::Open,
            handing_on: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            queued: AtomicUsize::new(0),
            drained: Notify::new(),
            recording,
            observer,
            runtime: Handle::current(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns one of the two streams, for the engine.
    pub fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream::new(&self.shared, stream)
    }

    /// Flushes what the redactor held back, records all of it, and returns the byte counts. Queued
    /// output must still be delivered to the observer. An observer that blocks delays only callers
    /// that wait for it, and not the run's record.
    pub async fn close(self) -> (LogCount, Handover) {
        let (count, begin) = {
            let mut state = self.shared.state();
            let mut begin = false;
            let written = [(Stream::Stdout, state.stdout.take()), (Stream::Stderr, state.stderr.take())];
            for (stream, redacting) in written {
                if let Some(mut redacting) = redacting {
                    let mut rest = Vec::new();
                    redacting.finish(&mut rest);
                    begin |= self.shared.enqueue(&mut state, stream, rest);
                }
            }
            if state.phase == Phase::Open {
                state.phase = Phase::Closed;
            }
            (state.count, begin)
        };
        if begin {
            self.shared.hand_on();
        }
        if let Some(recording) = self.shared.recording.clone()
            && !recording.is_idle()
            && tokio::task::spawn_blocking(move || recording.drain()).await.is_err()
        {
            tracing::error!("the recorder of a run's output panicked: its log is incomplete");
        }
        (count, Handover::new(self.shared))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("count", &self.shared.state().count).finish_non_exhaustive()
    }
}

impl State {
    fn redact(&mut self, stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
        let redacting = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        redacting.get_or_insert_with(|| self.redactor.stream()).push(bytes, out);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts redacted bytes against the limit and queues those within it. Returns true if no
    /// thread is delivering yet: the caller must then release the lock and call
    /// [`Shared::hand_on`].
    #[must_use]
    fn enqueue(&self, state: &mut State, stream: Stream, mut bytes: Vec<u8>) -> bool {
        let room = usize::try_from(state.max.saturating_sub(state.count.kept)).unwrap_or(usize::MAX);
        let dropped = bytes.len().saturating_sub(room);
        bytes.truncate(room);
        state.count.kept = state.count.kept.saturating_add(bytes.len() as u64);
        state.count.dropped = state.count.dropped.saturating_add(dropped as u64);
        if bytes.is_empty() || state.phase == Phase::Closed {
            return false;
        }
        let bytes = Bytes::from(bytes);
        if let Some(recording) = &self.recording {
            recording.push(stream, bytes.clone());
        }
        // The record and its log are complete even without an observer.
        if state.phase == Phase::Broken {
            return false;
        }
        self.queued.fetch_add(bytes.len(), Ordering::AcqRel);
        state.waiting.push_back((stream, bytes));
        !std::mem::replace(&mut state.handing_on, true)
    }

    fn hand_on(self: &Arc<Self>) {
        let hand_on = HandOn::new(self);
        drop(self.runtime.spawn_blocking(move || hand_on.run()));
    }

    /// Redacts and queues a write. Redaction comes before truncation, and text beyond the limit is
    /// searched too, so that a value that crosses the limit does not leak its beginning.
    fn write(self: &Arc<Self>, stream: Stream, bytes: &[u8]) {
        let mut state = self.state();
        let mut decided = Vec::with_capacity(bytes.len());
        state.redact(stream, bytes, &mut decided);
        let begin = self.enqueue(&mut state, stream, decided);
        drop(state);
        if begin {
            self.hand_on();
        }
    }

    fn room(&self) -> bool {
        self.queued.load(Ordering::Acquire) < QUEUE_BYTES
    }
}
