//! What a component prints, on its way to a person.
//!
//! By here it has been through the run's redactor. On a terminal, or wherever our own text stands beside it, control characters are
//! shown escaped; a log file gets the bytes as they are.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::redact::TerminalEscaper;
use crate::runtime::{Observer, Stream};

/// Shows a run's output while it goes on.
pub(super) struct Screen {
    state: Mutex<State>,
}

struct State {
    out: Sink,
    err: Sink,
    last: Option<u8>,
    failure: Option<io::Error>,
}

struct Sink {
    writer: Box<dyn Write + Send>,
    escaper: Option<TerminalEscaper>,
    /// Nobody reads it any more; the run goes on without.
    closed: bool,
}

/// How it ended.
pub(super) struct Finished {
    /// The last byte that was shown, where there was any.
    pub(super) last: Option<u8>,
    /// The first failure to write, other than a reader that has gone.
    pub(super) failure: Option<io::Error>,
}

impl Screen {
    /// Standard output to standard output and standard error to standard error.
    pub(super) fn streams() -> Self {
        Self::new(escaped(io::stdout()), escaped(io::stderr()))
    }

    /// Both to standard error, because standard output carries something else.
    pub(super) fn aside() -> Self {
        Self::new(escaped(io::stderr()), escaped(io::stderr()))
    }

    /// Both to a file, unescaped.
    pub(super) fn log(file: File) -> io::Result<Self> {
        let plain = |file| Sink { writer: Box::new(file), escaper: None, closed: false };
        Ok(Self::new(plain(file.try_clone()?), plain(file)))
    }

    fn new(out: Sink, err: Sink) -> Self {
        Self { state: Mutex::new(State { out, err, last: None, failure: None }) }
    }

    /// Shows what is held back of cut characters.
    pub(super) fn finish(&self) -> Finished {
        let mut state = self.lock();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut rest = Vec::new();
            if let Some(escaper) = &mut state.sink(stream).escaper {
                escaper.finish(&mut rest);
            }
            state.write(stream, &rest);
        }
        Finished { last: state.last, failure: state.failure.take() }
    }

    /// Every change is whole: a poisoned lock still holds a usable state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl State {
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
        match sink.writer.write_all(bytes).and_then(|()| sink.writer.flush()) {
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

fn escaped(writer: impl Write + Send + 'static) -> Sink {
    Sink { writer: Box::new(writer), escaper: Some(TerminalEscaper::new()), closed: false }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
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
    fn each_stream_is_escaped_by_itself() {
        let (out, err) = (Page::default(), Page::default());
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
    fn a_log_gets_the_bytes_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let screen = Screen::log(File::create_new(&path).unwrap()).unwrap();
        screen.output(Stream::Stdout, b"a\x1b\xff");
        screen.output(Stream::Stderr, b"b\n");
        assert_eq!(screen.finish().last, Some(b'\n'));
        assert_eq!(std::fs::read(&path).unwrap(), b"a\x1b\xffb\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is() {
        for (kind, fails) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let err = Page::default();
            let screen = Screen::new(escaped(Broken(kind)), escaped(err.clone()));
            screen.output(Stream::Stdout, b"a");
            screen.output(Stream::Stdout, b"a");
            screen.output(Stream::Stderr, b"b");
            assert_eq!(screen.finish().failure.is_some(), fails, "{kind}");
            assert_eq!(*err.0.lock().unwrap(), b"b");
        }
    }
}
