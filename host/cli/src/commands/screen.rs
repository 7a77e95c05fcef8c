//! Shows a component's output.
//!
//! The output has already been redacted. Control characters are escaped, except in a log file.
//!
//! While progress is shown, other output to the terminal goes above it: the progress line is
//! removed, the text written, and the line redrawn. While the last line of text is incomplete, no
//! progress is shown.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::progress::{Line, Meter, Status};
use strongroom::escape::TerminalEscaper;
use strongroom::record::Progress;
use strongroom::runtime::{Observer, Stream};

/// Shows the output of a run as it arrives.
pub(super) struct Screen {
    state: Arc<Mutex<State>>,
    meter: Option<Meter>,
}

struct State {
    out: Sink,
    err: Sink,
    last: Option<u8>,
    failure: Option<io::Error>,
    progress: Option<ProgressArea>,
}

/// The progress line below other text on a terminal.
struct ProgressArea {
    line: Line,
    status: Status,
    /// Whether the cursor's line contains text.
    occupied: bool,
}

struct Sink {
    writer: Box<dyn Write + Send>,
    escaper: Option<TerminalEscaper>,
    on_terminal: bool,
    /// The reader is gone. The run continues without it.
    closed: bool,
}

/// The final state of the output.
pub(super) struct Finished {
    /// The last byte that was written.
    pub(super) last: Option<u8>,
    /// The first write error other than a closed pipe.
    pub(super) failure: Option<io::Error>,
}

impl Screen {
    /// Returns a screen that writes each stream to the same stream of this process.
    pub(super) fn streams() -> Self {
        Self::new(stdout(), stderr())
    }

    /// Returns a screen that writes both streams to standard error, because standard output is used
    /// for JSON.
    pub(super) fn stderr_only() -> Self {
        Self::new(stderr(), stderr())
    }

    /// Returns a screen that writes both streams to a file, unescaped.
    pub(super) fn log(file: File) -> io::Result<Self> {
        let plain = |file| Sink { writer: Box::new(file), escaper: None, on_terminal: false, closed: false };
        Ok(Self::new(plain(file.try_clone()?), plain(file)))
    }

    fn new(out: Sink, err: Sink) -> Self {
        let state = State { out, err, last: None, failure: None, progress: None };
        Self { state: Arc::new(Mutex::new(state)), meter: None }
    }

    /// Shows progress below the text. Standard error must be a terminal.
    pub(super) fn with_progress(self) -> Self {
        let screen = self.drawing(Line::new());
        *lock(&CURRENT) = Arc::downgrade(&screen.state);
        screen
    }

    fn drawing(mut self, line: Line) -> Self {
        self.lock().progress = Some(ProgressArea { line, status: Status::default(), occupied: false });
        let state = Arc::clone(&self.state);
        self.meter = Some(Meter::start(move |status| lock(&state).draw(status)));
        self
    }

    /// Writes pending incomplete characters and removes the progress line.
    pub(super) fn finish(&self) -> Finished {
        if let Some(meter) = &self.meter {
            meter.end();
        }
        let mut state = self.lock();
        state.progress = None;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut rest = Vec::new();
            if let Some(escaper) = &mut state.sink(stream).escaper {
                escaper.finish(&mut rest);
            }
            state.write(stream, &rest);
        }
        Finished { last: state.last, failure: state.failure.take() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Locks the state. Every update leaves it consistent, so a poisoned lock can be used.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The screen that shows progress, for other writers to standard error.
static CURRENT: Mutex<Weak<Mutex<State>>> = Mutex::new(Weak::new());

/// A writer to standard error that writes above the progress line.
pub(super) struct AboveProgress;

impl Write for AboveProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let screen = lock(&CURRENT).upgrade();
        match screen {
            Some(screen) => {
                let mut state = lock(&screen);
                state.write_above(bytes, |bytes| io::stderr().write(bytes))
            }
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Observer for Screen {
    fn output(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        let mut shown = Vec::new();
        match &mut state.sink(stream).escaper {
            Some(escaper) => escaper.push(bytes, &mut shown),
            None => shown.extend_from_slice(bytes),
        }
        state.write(stream, &shown);
    }

    fn progress(&self, progress: &Progress) {
        if let Some(meter) = &self.meter {
            meter.progress(progress);
        }
    }

    fn compiling(&self, started: bool) {
        if let Some(meter) = &self.meter {
            meter.compiling(started);
        }
    }
}

impl State {
    /// Draws progress if the cursor is at the start of a line.
    fn draw(&mut self, status: &Status) {
        if let Some(below) = &mut self.progress {
            below.status.clone_from(status);
            if !below.occupied {
                below.line.draw(status);
            }
        }
    }

    /// Writes to the terminal above the progress line.
    fn write_above<T>(&mut self, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let Some(below) = &mut self.progress else { return write(bytes) };
        below.line.clear();
        let written = write(bytes);
        below.occupied = bytes.last().is_some_and(|last| *last != b'\n');
        if !below.occupied {
            below.line.draw(&below.status);
        }
        written
    }

    fn sink(&mut self, stream: Stream) -> &mut Sink {
        match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let sink = self.sink(stream);
        if bytes.is_empty() || sink.closed {
            return;
        }
        // Taken out during the write, because the progress line is part of the same state.
        let mut writer = std::mem::replace(&mut sink.writer, Box::new(io::sink()));
        let mut whole = |bytes: &[u8]| writer.write_all(bytes).and_then(|()| writer.flush());
        let written = if sink.on_terminal { self.write_above(bytes, whole) } else { whole(bytes) };
        let sink = self.sink(stream);
        sink.writer = writer;
        match written {
            Ok(()) => self.last = bytes.last().copied(),
            Err(error) => {
                sink.closed = true;
                if error.kind() != io::ErrorKind::BrokenPipe {
                    self.failure.get_or_insert(error);
                }
            }
        }
    }
}

fn stdout() -> Sink {
    Sink { on_terminal: io::stdout().is_terminal(), ..escaped(io::stdout()) }
}

fn stderr() -> Sink {
    Sink { on_terminal: io::stderr().is_terminal(), ..escaped(io::stderr()) }
}

fn escaped(writer: impl Write + Send + 'static) -> Sink {
    Sink { writer: Box::new(writer), escaper: Some(TerminalEscaper::new()), on_terminal: false, closed: false }
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn streams_are_escaped_independently() {
        let (out, err) = (Buffer::default(), Buffer::default());
        let screen = Screen::new(escaped(out.clone()), escaped(err.clone()));
        screen.output(Stream::Stdout, b"a\x1b[2J\n\xc3");
        screen.output(Stream::Stderr, b"b\xc3");
        screen.output(Stream::Stdout, b"\xa4");
        let finished = screen.finish();
        assert_eq!(*out.0.lock().unwrap(), "a\\x1b[2J\nä".as_bytes());
        assert_eq!(*err.0.lock().unwrap(), b"b\\xc3");
        assert_eq!(finished.last, Some(b'3'));
        assert!(finished.failure.is_none());
    }

    #[test]
    fn log_file_receives_unescaped_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let screen = Screen::log(File::create_new(&path).unwrap()).unwrap();
        screen.output(Stream::Stdout, b"a\x1b\xff");
        screen.output(Stream::Stderr, b"b\n");
        assert_eq!(screen.finish().last, Some(b'\n'));
        assert_eq!(std::fs::read(&path).unwrap(), b"a\x1b\xffb\n");
    }

    #[test]
    fn closed_pipe_is_ignored_but_full_disk_fails() {
        for (kind, fails) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let err = Buffer::default();
            let screen = Screen::new(escaped(Broken(kind)), escaped(err.clone()));
            screen.output(Stream::Stdout, b"a");
            screen.output(Stream::Stdout, b"a");
            screen.output(Stream::Stderr, b"b");
            assert_eq!(screen.finish().failure.is_some(), fails, "{kind}");
            assert_eq!(*err.0.lock().unwrap(), b"b");
        }
    }

    /// A terminal as a writer that maps LF to CR LF.
    struct Terminal(InMemoryTerm);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write_str(&String::from_utf8_lossy(bytes).replace('\n', "\r\n"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn drawing(width: u16) -> (InMemoryTerm, State) {
        let term = InMemoryTerm::new(10, width);
        let line = Line::on(ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255));
        let sink = || Sink { on_terminal: true, ..escaped(Terminal(term.clone())) };
        let progress = Some(ProgressArea { line, status: Status::default(), occupied: false });
        (term.clone(), State { out: sink(), err: sink(), last: None, failure: None, progress })
    }

    fn half(message: &str) -> Status {
        Status { compiling: None, progress: Some(Progress { done: 1, total: 2, message: message.to_owned() }) }
    }

    const HALF: &str = "[============>           ]  50%  1/2  half";

    #[test]
    fn text_is_written_above_progress() {
        let (term, mut state) = drawing(60);
        state.draw(&half("half"));
        state.write(Stream::Stdout, b"one\n");
        state.draw(&half("half"));
        state.write(Stream::Stderr, b"two\nthree\n");
        state.draw(&half("half"));
        assert_eq!(term.contents(), format!("one\ntwo\nthree\n{HALF}"));
        state.progress = None;
        assert_eq!(term.contents(), "one\ntwo\nthree");
    }

    // promise: The progress display does not break lines of output and does not delay a run.
    #[test]
    fn incomplete_line_suppresses_progress() {
        let (term, mut state) = drawing(60);
        state.draw(&half("half"));
        state.write(Stream::Stdout, b"epoch 1 ");
        state.draw(&half("half"));
        state.write(Stream::Stderr, b".");
        state.draw(&half("half"));
        assert_eq!(term.contents(), "epoch 1 .");
        state.write(Stream::Stdout, b" done\n");
        state.draw(&half("half"));
        assert_eq!(term.contents(), format!("epoch 1 . done\n{HALF}"));
    }

    #[test]
    fn output_to_file_keeps_progress() {
        let (term, mut state) = drawing(60);
        let file = Buffer::default();
        state.out = escaped(file.clone());
        state.draw(&half("half"));
        state.write(Stream::Stdout, b"no line end");
        state.draw(&half("half"));
        assert_eq!(term.contents(), HALF);
        assert_eq!(*file.0.lock().unwrap(), b"no line end");
    }

    #[test]
    fn screen_draws_progress_until_finish() {
        let term = InMemoryTerm::new(10, 60);
        let line = Line::on(ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255));
        let screen = Screen::new(escaped(io::sink()), escaped(io::sink())).drawing(line);
        screen.compiling(true);
        while !term.contents().ends_with("compiling the component, 0 s") {
            std::thread::yield_now();
        }
        screen.compiling(false);
        screen.progress(&Progress { done: 1, total: 2, message: "half".to_owned() });
        while term.contents() != HALF {
            std::thread::yield_now();
        }
        screen.finish();
        assert_eq!(term.contents(), "");
    }
}
