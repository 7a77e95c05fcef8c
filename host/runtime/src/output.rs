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

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::observer::{Observer, Stream};
use strongroom_core::record::LogCount;
use strongroom_redact::{RedactStream, Redactor};

/// How many bytes may be queued before a writer waits.
const QUEUE_BYTES: usize = 256 * 1024;

/// The maximum size of one write, in bytes. A write is redacted in one step, and a run's time limit
/// is checked between writes.
const WRITE_MAX: usize = 8 * 1024;

/// Stores a run's output. It is called from one thread at a time. It may take as long as a disk
/// write, but must not wait for a user.
pub trait Recorder: Send {
    /// Called with redacted bytes that the component wrote.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
}

/// A recorder and the writes that it has not yet received.
struct Recording {
    recorder: Mutex<Box<dyn Recorder>>,
    waiting: Mutex<VecDeque<(Stream, Bytes)>>,
}

impl Recording {
    fn push(&self, stream: Stream, bytes: Bytes) {
        self.waiting().push_back((stream, bytes));
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Stream, Bytes)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether everything appears to be recorded, without waiting.
    fn is_idle(&self) -> bool {
        self.recorder.try_lock().is_ok() && self.waiting().is_empty()
    }

    /// Records what is queued. On return everything that was queued at the call is recorded, by
    /// this thread or another.
    fn drain(&self) {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // The lock is released before recording, so that a component can go on writing.
            let next = self.waiting().pop_front();
            let Some((stream, bytes)) = next else { return };
            recorder.output(stream, &bytes);
        }
    }
}

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
        let recording =
            recorder.map(|recorder| Arc::new(Recording { recorder: Mutex::new(recorder), waiting: Mutex::default() }));
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
        GuestStream { shared: Arc::clone(&self.shared), stream, permit: 0 }
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
            tracing::error!("the recorder of a run's output panicked: its log is not whole");
        }
        (count, Handover(self.shared))
    }
}

/// Output of a run that its observer has not yet received.
#[must_use = "wait for it, so that the observer has seen all output"]
pub struct Handover(Arc<Shared>);

impl Handover {
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

/// The exclusive right to deliver to the observer.
struct HandOn {
    shared: Arc<Shared>,
    /// Whether the right was given up. From then on `handing_on` belongs to another thread.
    over: bool,
}

impl HandOn {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), over: false }
    }

    fn run(mut self) {
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
    fn next(&mut self) -> Option<(Stream, Bytes)> {
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

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("queued", &self.0.queued).finish_non_exhaustive()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("count", &self.shared.state().count).finish_non_exhaustive()
    }
}

impl fmt::Debug for GuestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestStream").field("stream", &self.stream).finish_non_exhaustive()
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

/// One stream of an [`Output`], as the engine sees it. Pass it to the builder of a WASI context as
/// standard output or standard error.
pub struct GuestStream {
    shared: Arc<Shared>,
    stream: Stream,
    /// How many bytes `check_write` permitted and the component has not yet written. Writing more
    /// is an error of the component, and would grow the queue without bound.
    permit: usize,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(AsyncGuestStream { shared: Arc::clone(&self.shared), stream: self.stream })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(GuestStream { shared: Arc::clone(&self.shared), stream: self.stream, permit: 0 })
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {
        loop {
            // Register before the check, so that a notification between the two is not missed.
            let drained = self.shared.drained.notified();
            if self.shared.room() {
                return;
            }
            drained.await;
        }
    }
}

#[async_trait]
impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit = self
            .permit
            .checked_sub(bytes.len())
            .ok_or_else(|| StreamError::trap("a write that `check-write` did not permit"))?;
        self.shared.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = if self.shared.room() { WRITE_MAX } else { 0 };
        Ok(self.permit)
    }
}

/// The engine's newer interface to a stream; the linked one uses [`GuestStream`].
struct AsyncGuestStream {
    shared: Arc<Shared>,
    stream: Stream,
}

impl AsyncWrite for AsyncGuestStream {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collect(Mutex<Vec<u8>>);

    impl Observer for Collect {
        fn output(&self, _stream: Stream, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }

    /// An observer that blocks until the test releases it.
    struct Gated(Collect, Mutex<std::sync::mpsc::Receiver<()>>);

    impl Observer for Gated {
        fn output(&self, stream: Stream, bytes: &[u8]) {
            self.1.lock().unwrap().recv().unwrap();
            self.0.output(stream, bytes);
        }
    }

    #[tokio::test]
    async fn who_has_nothing_more_to_hand_on_takes_nothing_from_whoever_goes_on() {
        let (open, gate) = std::sync::mpsc::channel();
        let gated = Arc::new(Gated(Collect::default(), Mutex::new(gate)));
        let output = Output::start(&Redactor::new(), u64::MAX, gated.clone());
        let mut first = HandOn::new(&output.shared);
        assert!(first.next().is_none());
        // While `first` still exists, a write starts delivery on another thread.
        output.shared.write(Stream::Stdout, b"one ");
        output.shared.write(Stream::Stdout, b"two");
        drop(first);
        output.shared.write(Stream::Stdout, b" three");
        (0..3).for_each(|_| open.send(()).unwrap());
        let (_, handover) = output.close().await;
        handover.wait(None).await;
        assert_eq!(*gated.0.0.lock().unwrap(), b"one two three");
    }

    type Recorded = Arc<Mutex<Vec<(Stream, Vec<u8>)>>>;

    struct Lines(Recorded);

    impl Recorder for Lines {
        fn output(&mut self, stream: Stream, bytes: &[u8]) {
            self.0.lock().unwrap().push((stream, bytes.to_vec()));
        }
    }

    #[tokio::test]
    async fn output_beyond_the_limit_is_counted_and_dropped() {
        let collect = Arc::new(Collect::default());
        let output = Output::start(&Redactor::new(), 10, collect.clone());
        output.shared.write(Stream::Stdout, b"0123456");
        output.shared.write(Stream::Stdout, b"789abc");
        output.shared.write(Stream::Stderr, b"def");
        let (count, handover) = output.close().await;
        handover.wait(None).await;
        assert_eq!(count, LogCount { kept: 10, dropped: 6 });
        assert_eq!(*collect.0.lock().unwrap(), b"0123456789");
    }

    // promise: The output of a run is redacted before it is cut at its limit, so a cut value does
    // not show its beginning.
    #[tokio::test]
    async fn a_value_across_the_limit_does_not_show_its_beginning() {
        let collect = Arc::new(Collect::default());
        let redactor = Redactor::new();
        let (name, value) =
            ("key".parse().unwrap(), strongroom_core::secret::Secret::new("correct horse".to_owned()).unwrap());
        redactor.register(&name, &value);
        let output = Output::start(&redactor, 10, collect.clone());
        output.shared.write(Stream::Stdout, b"key: corr");
        output.shared.write(Stream::Stdout, b"ect horse");
        let (count, handover) = output.close().await;
        handover.wait(None).await;
        assert_eq!(*collect.0.lock().unwrap(), b"key: [reda");
        assert_eq!(count, LogCount { kept: 10, dropped: 9 });
    }

    #[tokio::test]
    async fn what_was_not_permitted_is_not_queued() {
        let output = Output::start(&Redactor::new(), u64::MAX, Arc::new(Collect::default()));
        let mut stream = output.stream(Stream::Stdout);
        assert!(stream.write(Bytes::from_static(b"x")).is_err());
        let permit = stream.check_write().unwrap();
        stream.write(Bytes::from(vec![b'x'; permit])).unwrap();
        assert!(stream.write(Bytes::from_static(b"x")).is_err());
        assert_eq!(output.close().await.0.kept, permit as u64);
    }

    // promise: A run that was stopped ends even if nobody reads its output.
    #[tokio::test]
    async fn a_stopped_run_does_not_wait_for_a_reader() {
        struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);
        impl Observer for Stuck {
            fn output(&self, _stream: Stream, _bytes: &[u8]) {
                let _ = self.0.lock().unwrap().recv();
            }
        }
        let (open, gate) = std::sync::mpsc::channel();
        let recorded = Recorded::default();
        let output = Output::recorded(
            &Redactor::new(),
            u64::MAX,
            Arc::new(Stuck(Mutex::new(gate))),
            Some(Box::new(Lines(recorded.clone()))),
        );
        output.shared.write(Stream::Stdout, b"abc\n");
        output.shared.write(Stream::Stderr, b"def\n");
        let (count, handover) = output.close().await;
        handover.wait(Some(Duration::ZERO)).await;
        assert_eq!(count.kept, 8);
        // The output was recorded nevertheless.
        assert_eq!(
            *recorded.lock().unwrap(),
            [(Stream::Stdout, b"abc\n".to_vec()), (Stream::Stderr, b"def\n".to_vec())]
        );
        drop(open);
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_slow_observer() {
        struct Slow(std::sync::mpsc::Receiver<()>);
        struct Gate(Mutex<Slow>);
        impl Observer for Gate {
            fn output(&self, _stream: Stream, _bytes: &[u8]) {
                let _ = self.0.lock().unwrap().0.recv();
            }
        }
        let (open, gate) = std::sync::mpsc::channel();
        let output = Output::start(&Redactor::new(), u64::MAX, Arc::new(Gate(Mutex::new(Slow(gate)))));
        let mut stream = output.stream(Stream::Stdout);
        while stream.check_write().unwrap() > 0 {
            stream.write(Bytes::from(vec![b'x'; WRITE_MAX])).unwrap();
        }
        assert!(output.shared.queued.load(Ordering::Acquire) <= QUEUE_BYTES + WRITE_MAX);
        drop(open);
        stream.ready().await;
        assert!(stream.check_write().unwrap() > 0);
        output.close().await.1.wait(None).await;
    }

    #[tokio::test]
    async fn what_an_observer_breaks_is_over_and_nobody_waits() {
        struct Breaks;
        impl Observer for Breaks {
            fn output(&self, _stream: Stream, _bytes: &[u8]) {
                panic!("an observer that breaks");
            }
        }
        let output = Output::start(&Redactor::new(), u64::MAX, Arc::new(Breaks));
        let mut stream = output.stream(Stream::Stdout);
        while output.shared.state().phase == Phase::Open {
            stream.ready().await;
            let _ = stream.check_write().unwrap();
            stream.write(Bytes::from_static(b"abc")).unwrap();
        }
        assert!(stream.check_write().unwrap() > 0);
        stream.write(Bytes::from_static(b"goes nowhere")).unwrap();
        output.close().await.1.wait(None).await;
    }

    #[test]
    fn what_is_written_as_the_host_ends_holds_up_nobody() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let context = runtime.enter();
        let output = Output::start(&Redactor::new(), u64::MAX, Arc::new(Collect::default()));
        drop(context);
        runtime.shutdown_background();
        output.shared.write(Stream::Stdout, b"late");
        assert!(output.shared.state().phase == Phase::Broken);
    }
}
