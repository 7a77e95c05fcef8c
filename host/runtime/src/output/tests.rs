use std::time::Duration;

use wasmtime_wasi::p2::{OutputStream as _, Pollable as _};

use super::delivery::HandOn;
use super::stream::WRITE_MAX;
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
async fn finished_delivery_leaves_later_output_to_its_successor() {
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
async fn value_across_the_limit_does_not_leak_its_beginning() {
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
async fn write_without_permit_is_not_queued() {
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
async fn stopped_run_does_not_wait_for_a_reader() {
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
    assert_eq!(*recorded.lock().unwrap(), [(Stream::Stdout, b"abc\n".to_vec()), (Stream::Stderr, b"def\n".to_vec())]);
    drop(open);
}

#[tokio::test]
async fn writer_waits_for_a_slow_observer() {
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
async fn panicking_observer_blocks_no_writer() {
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
fn write_during_shutdown_does_not_block() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let context = runtime.enter();
    let output = Output::start(&Redactor::new(), u64::MAX, Arc::new(Collect::default()));
    drop(context);
    runtime.shutdown_background();
    output.shared.write(Stream::Stdout, b"late");
    assert!(output.shared.state().phase == Phase::Broken);
}
