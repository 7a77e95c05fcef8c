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
use std::time::Instant;

use super::out;
use super::progress::{Drawer, Status};
use strongroom::escape::TerminalEscaper;
use strongroom::record::Progress;
use strongroom::runtime::{Observer, Stream};

/// The width of a terminal that does not say how wide it is.
const WIDTH_DEFAULT: usize = 80;

/// Shows the output of a run as it arrives.
pub(super) struct Screen {
    state: Arc<Mutex<State>>,
    /// The status that the drawing thread shows. Not a part of the state, which is locked while a
    /// slow terminal is written to.
    status: Arc<Mutex<Status>>,
    drawer: Option<Drawer>,
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
    terminal: Box<dyn Write + Send>,
    line: String,
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
        Self::new(escaped(io::stdout(), io::stdout().is_terminal()), stderr())
    }

    /// Returns a screen that writes both streams to standard error, because standard output is used
    /// for JSON.
    pub(super) fn stderr_only() -> Self {
        Self::new(stderr(), stderr())
    }

    /// Returns a screen that writes both streams to a file, unescaped.
    pub(super) fn log(file: File) -> io::Result<Self> {
        let plain = |file| Sink { escaper: None, ..escaped(file, false) };
        Ok(Self::new(plain(file.try_clone()?), plain(file)))
    }

    fn new(out: Sink, err: Sink) -> Self {
        let state = State { out, err, last: None, failure: None, progress: None };
        Self { state: Arc::new(Mutex::new(state)), status: Arc::default(), drawer: None }
    }

    /// Shows progress below the text. Standard error must be a terminal.
    pub(super) fn with_progress(self) -> Self {
        let screen = self.drawing(io::stderr(), || out::width(Stream::Stderr).unwrap_or(WIDTH_DEFAULT));
        *lock(&CURRENT) = Arc::downgrade(&screen.state);
        screen
    }

    fn drawing(mut self, terminal: impl Write + Send + 'static, width: fn() -> usize) -> Self {
        let terminal = Box::new(terminal);
        lock(&self.state).progress = Some(ProgressArea { terminal, line: String::new(), occupied: false });
        let (state, status) = (Arc::clone(&self.state), Arc::clone(&self.status));
        self.drawer = Some(Drawer::start(move |tick| {
            let line = lock(&status).line(tick, width());
            lock(&state).draw(line);
        }));
        self
    }

    /// Writes pending incomplete characters and removes the progress line.
    pub(super) fn finish(&self) -> Finished {
        if let Some(drawer) = &self.drawer {
            drawer.end();
        }
        let mut state = lock(&self.state);
        state.draw(String::new());
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
}

/// Locks a state. Every update leaves it consistent, so a poisoned lock can be used.
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
            Some(screen) => lock(&screen).write_above(bytes, |bytes| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Observer for Screen {
    fn output(&self, stream: Stream, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let mut shown = Vec::new();
        match &mut state.sink(stream).escaper {
            Some(escaper) => escaper.push(bytes, &mut shown),
            None => shown.extend_from_slice(bytes),
        }
        state.write(stream, &shown);
    }

    fn progress(&self, progress: &Progress) {
        lock(&self.status).progress = Some(progress.clone());
    }

    fn compiling(&self, started: bool) {
        lock(&self.status).compiling = started.then(Instant::now);
    }
}

impl ProgressArea {
    /// Replaces what is on the cursor's line. A terminal that cannot be written to shows nothing.
    fn show(&mut self, line: &str) {
        let _ = write!(self.terminal, "\r{line}\x1b[K").and_then(|()| self.terminal.flush());
    }
}

impl State {
    /// Draws the progress line if the cursor is at the start of a line.
    fn draw(&mut self, line: String) {
        let Some(area) = self.progress.as_mut().filter(|area| area.line != line) else { return };
        if !area.occupied {
            area.show(&line);
        }
        area.line = line;
    }

    /// Writes to the terminal above the progress line.
    fn write_above<T>(&mut self, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let Some(area) = &mut self.progress else { return write(bytes) };
        if !area.occupied && !area.line.is_empty() {
            area.show("");
        }
        let written = write(bytes);
        area.occupied = bytes.last().is_some_and(|last| *last != b'\n');
        if !area.occupied && !area.line.is_empty() {
            let line = area.line.clone();
            area.show(&line);
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

fn stderr() -> Sink {
    escaped(io::stderr(), io::stderr().is_terminal())
}

fn escaped(writer: impl Write + Send + 'static, on_terminal: bool) -> Sink {
    Sink { writer: Box::new(writer), escaper: Some(TerminalEscaper::new()), on_terminal, closed: false }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

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
        let screen = Screen::new(escaped(out.clone(), false), escaped(err.clone(), false));
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
            let screen = Screen::new(escaped(Broken(kind), false), escaped(err.clone(), false));
            screen.output(Stream::Stdout, b"a");
            screen.output(Stream::Stdout, b"a");
            screen.output(Stream::Stderr, b"b");
            assert_eq!(screen.finish().failure.is_some(), fails, "{kind}");
            assert_eq!(*err.0.lock().unwrap(), b"b");
        }
    }

    /// A terminal of 10 rows and 60 columns that maps LF to CR LF.
    #[derive(Clone)]
    struct Terminal(Arc<Mutex<vt100::Parser>>);

    impl Terminal {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(vt100::Parser::new(10, 60, 0))))
        }

        fn contents(&self) -> String {
            self.0.lock().unwrap().screen().contents()
        }
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).replace('\n', "\r\n");
            self.0.lock().unwrap().process(text.as_bytes());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn drawing() -> (Terminal, State) {
        let term = Terminal::new();
        let sink = || escaped(term.clone(), true);
        let area = ProgressArea { terminal: Box::new(term.clone()), line: String::new(), occupied: false };
        (term.clone(), State { out: sink(), err: sink(), last: None, failure: None, progress: Some(area) })
    }

    const HALF: &str = "[============>           ]  50%  1/2  half";

    #[test]
    fn text_is_written_above_progress() {
        let (term, mut state) = drawing();
        state.draw(HALF.to_owned());
        state.write(Stream::Stdout, b"one\n");
        state.draw(HALF.to_owned());
        state.write(Stream::Stderr, b"two\nthree\n");
        state.draw(HALF.to_owned());
        assert_eq!(term.contents(), format!("one\ntwo\nthree\n{HALF}"));
        state.draw(String::new());
        assert_eq!(term.contents(), "one\ntwo\nthree");
    }

    // promise: The progress display does not break lines of output and does not delay a run.
    #[test]
    fn incomplete_line_suppresses_progress() {
        let (term, mut state) = drawing();
        state.draw(HALF.to_owned());
        state.write(Stream::Stdout, b"epoch 1 ");
        state.draw(HALF.to_owned());
        state.write(Stream::Stderr, b".");
        state.draw(HALF.to_owned());
        assert_eq!(term.contents(), "epoch 1 .");
        state.write(Stream::Stdout, b" done\n");
        state.draw(HALF.to_owned());
        assert_eq!(term.contents(), format!("epoch 1 . done\n{HALF}"));
    }

    #[test]
    fn output_to_file_keeps_progress() {
        let (term, mut state) = drawing();
        let file = Buffer::default();
        state.out = escaped(file.clone(), false);
        state.draw(HALF.to_owned());
        state.write(Stream::Stdout, b"no line end");
        state.draw(HALF.to_owned());
        assert_eq!(term.contents(), HALF);
        assert_eq!(*file.0.lock().unwrap(), b"no line end");
    }

    #[test]
    fn screen_draws_progress_until_finish() {
        let term = Terminal::new();
        let screen = Screen::new(escaped(io::sink(), false), escaped(io::sink(), false)).drawing(term.clone(), || 60);
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

    #[test]
    fn line_with_echoed_interrupt_is_cleared() {
        let (mut term, mut state) = drawing();
        let progress = Progress { done: 1, total: 2, message: "x".repeat(99) };
        state.draw(Status { compiling: None, progress: Some(progress) }.line(0, 60));
        term.write_all(b"^C").unwrap();
        assert!(term.contents().ends_with("x^C"), "{}", term.contents());
        state.draw(String::new());
        assert_eq!(term.contents(), "");
    }

    /// A terminal that blocks until the gate is open.
    struct Stopped(Arc<Mutex<()>>, Arc<AtomicBool>);

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.store(true, Ordering::SeqCst);
            drop(self.0.lock());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // promise: The progress display does not break lines of output and does not delay a run.
    #[test]
    fn blocked_drawing_does_not_delay_run() {
        let (gate, entered) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let closed = gate.lock().unwrap();
        let terminal = Stopped(Arc::clone(&gate), Arc::clone(&entered));
        let screen = Screen::new(escaped(io::sink(), false), escaped(io::sink(), false)).drawing(terminal, || 60);
        screen.compiling(true);
        while !entered.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        // Both return although the drawing thread is blocked.
        screen.compiling(false);
        screen.progress(&Progress { done: 1, total: 2, message: String::new() });
        drop(closed);
        screen.finish();
    }
}
