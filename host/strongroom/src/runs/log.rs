//! The log of a run's output, stored beside its record in `<id>.log` (`docs/run-record.md`
//! describes the file).
//!
//! The text has passed through the run's redactor and is escaped as for a terminal, so that viewing
//! the file with any tool shows what a component wrote and executes no control sequence. One file
//! holds both streams in order. Each line starts with a tag of four characters that names its
//! stream. Nothing that a component prints can be mistaken for a tag, because its line breaks start
//! new tagged lines.
//!
//! The file is written while the run is in progress. Once it is full, its first half is kept and
//! text between that and the newest text is dropped: the beginning shows what a run was about to
//! do, and the end how it failed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use strongroom_core::escape::TerminalEscaper;
use strongroom_core::ids::RunId;

use super::{NOT_REGULAR, RunStore, RunStoreError, nofollow, open_regular};

/// The default size of a run's log, in bytes of text: 1 MiB.
pub const LOG_DEFAULT: u64 = 1024 * 1024;
/// The minimum size of a run's log, in bytes of text, if one is kept: 4 KiB.
pub const LOG_MIN: u64 = 4 * 1024;
/// The maximum size of a run's log, in bytes of text: 64 MiB.
pub const LOG_MAX: u64 = 64 * 1024 * 1024;

/// The first line of a log of this format.
const MARK: &str = "strongroom log 1\n";
/// The prefix of the line that replaces dropped text.
const GAP: &str = "... ";
/// The length of a line's tag, in characters.
const TAG: usize = 4;

/// An output stream of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Stores the output of one run. [`LogWriter::finish`] returns a write error, which ends the
/// logging but never the run.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    max: u64,
    /// `None` if it could not be created.
    file: Option<File>,
    /// Zero until there is something to store.
    length: u64,
    out: Half,
    err: Half,
    /// The stream of the file's last line; the following fields hold where the line begins and
    /// whether it continues.
    last: LogStream,
    last_at: u64,
    open: bool,
    gap: Option<Gap>,
    failure: Option<io::Error>,
}

/// One stream of a log.
#[derive(Debug, Default)]
struct Half {
    escaper: TerminalEscaper,
    /// Whether its last line is incomplete, even if the other stream has written since.
    open: bool,
}

/// The dropped part of a log that was full.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// The end of the part that is always kept.
    head: u64,
    /// The beginning of the text after the gap.
    tail: u64,
    bytes: u64,
}

impl LogWriter {
    /// Creates a log of at most `max` bytes. The file is created before the run executes guest
    /// code, which could use up the process's descriptors.
    pub(super) fn new(path: PathBuf, max: u64) -> Self {
        let max = max.clamp(LOG_MIN, LOG_MAX);
        let (out, err) = (Half::default(), Half::default());
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(nofollow());
        let (file, failure) = match options.open(&path) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(error)),
        };
        Self { path, max, file, length: 0, out, err, last: LogStream::Out, last_at: 0, open: false, gap: None, failure }
    }

    /// Stores what the component wrote. The bytes must have passed through the run's redactor.
    pub fn write(&mut self, stream: LogStream, bytes: &[u8]) {
        let mut shown = Vec::with_capacity(bytes.len());
        self.half(stream).escaper.push(bytes, &mut shown);
        self.keep(stream, &shown);
    }

    /// Finishes the log and returns the first error, if any. A run that printed nothing leaves no
    /// file.
    pub fn finish(&mut self) -> Option<io::Error> {
        for stream in [LogStream::Out, LogStream::Err] {
            let mut rest = Vec::new();
            self.half(stream).escaper.finish(&mut rest);
            self.keep(stream, &rest);
        }
        if self.open {
            self.open = false;
            self.append("\n");
        }
        if self.length == 0 && self.file.take().is_some() {
            // An empty log that remains is harmless.
            let _ = fs::remove_file(&self.path);
        }
        self.failure.take()
    }

    fn half(&mut self, stream: LogStream) -> &mut Half {
        match stream {
            LogStream::Out => &mut self.out,
            LogStream::Err => &mut self.err,
        }
    }

    /// Splits escaped text into lines of the file.
    fn keep(&mut self, stream: LogStream, shown: &[u8]) {
        if self.failure.is_some() || shown.is_empty() {
            return;
        }
        // The escaper's output is valid UTF-8.
        let shown = String::from_utf8_lossy(shown);
        let start = self.length.max(MARK.len() as u64);
        let mut text = String::with_capacity(shown.len() + 2 * TAG);
        for piece in shown.split_inclusive('\n') {
            if !self.open || self.last != stream {
                if self.open {
                    text.push('\n');
                }
                self.last_at = start.saturating_add(text.len() as u64);
                text.push_str(tag(stream, self.half(stream).open));
            }
            text.push_str(piece);
            self.open = !piece.ends_with('\n');
            self.last = stream;
            self.half(stream).open = self.open;
        }
        self.append(&text);
    }

    fn append(&mut self, text: &str) {
        if self.failure.is_some() {
            return;
        }
        if let Err(error) = self.try_append(text) {
            self.failure = Some(error);
        }
    }

    fn try_append(&mut self, text: &str) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.length == 0 {
            file.write_all_at(MARK.as_bytes(), 0)?;
            self.length = MARK.len() as u64;
        }
        file.write_all_at(text.as_bytes(), self.length)?;
        self.length = self.length.saturating_add(text.len() as u64);
        if self.length > self.max { self.shrink() } else { Ok(()) }
    }

    /// Drops the text between the first half and the newest quarter, so that each call moves a
    /// third of what was written since the last one.
    fn shrink(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let gap = match self.gap {
            Some(gap) => gap,
            None => {
                let head = head(file, self.max / 2)?;
                Gap { head, tail: head, bytes: 0 }
            }
        };
        let from = self.length.saturating_sub(self.max / 4).max(gap.tail);
        let mut tail = vec![0; usize::try_from(self.length.saturating_sub(from)).unwrap_or(0)];
        file.read_exact_at(&mut tail, from)?;
        let whole = tail.iter().position(|byte| *byte == b'\n').map(|at| at + 1).filter(|at| *at < tail.len());
        let (tag, skip) = match whole {
            Some(at) => ("", at),
            // All of it is one line, which is cut after its tag and between two characters.
            None => {
                let behind = usize::try_from((self.last_at + TAG as u64).saturating_sub(from)).unwrap_or(0);
                let within = tail.get(behind..).unwrap_or_default();
                let cut = within.iter().take_while(|byte| (0x80..0xc0).contains(*byte)).count();
                (tag(self.last, true), behind + cut)
            }
        };
        let kept = tail.get(skip..).unwrap_or_default();
        let tail_at = from.saturating_add(skip as u64);
        let bytes = gap.bytes.saturating_add(tail_at.saturating_sub(gap.tail));
        let before = read_at(file, gap.head.saturating_sub(1), 1)?;
        let line_break = if before.first() == Some(&b'\n') { "" } else { "\n" };
        let note = format!("{line_break}{GAP}{bytes} bytes left out here\n");
        let tail = gap.head.saturating_add(note.len() as u64);
        let written = [note.as_bytes(), tag.as_bytes(), kept].concat();
        // If the process ends between these two calls, the newest text is lost, but the file is
        // still valid.
        file.set_len(gap.head)?;
        file.write_all_at(&written, gap.head)?;
        self.length = gap.head.saturating_add(written.len() as u64);
        self.last_at = if whole.is_some() { tail.saturating_add(self.last_at.saturating_sub(tail_at)) } else { tail };
        self.gap = Some(Gap { head: gap.head, tail, bytes });
        Ok(())
    }
}

/// Returns the end of the part that is kept: after the last complete line within `half`, or between
/// two characters if that would leave much of the half empty.
fn head(file: &File, half: u64) -> io::Result<u64> {
    let bytes = read_at(file, 0, usize::try_from(half).unwrap_or(usize::MAX))?;
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(at) if at > bytes.len() / 2 => Ok(at as u64 + 1),
        _ => {
            let cut = bytes.iter().rev().take_while(|byte| (0x80..0xc0).contains(*byte)).count();
            // This drops the last character even if all its bytes are within the half, which is not
            // worth checking.
            Ok((bytes.len().saturating_sub(cut + 1)) as u64)
        }
    }
}

fn read_at(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Returns a line's tag. A continued line completes the stream's last line, which the other stream
/// has interrupted.
fn tag(stream: LogStream, goes_on: bool) -> &'static str {
    match (stream, goes_on) {
        (LogStream::Out, false) => "out ",
        (LogStream::Out, true) => "out+",
        (LogStream::Err, false) => "err ",
        (LogStream::Err, true) => "err+",
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLine {
    /// Text that the component wrote.
    Text {
        /// The stream.
        stream: LogStream,
        /// Whether the line continues the stream's last line.
        goes_on: bool,
        /// The text without its line break, escaped as for a terminal.
        text: String,
    },
    /// This many bytes were dropped here.
    LeftOut(u64),
}

impl RunStore {
    /// Creates a run's log; `None` if no logs are kept. The run's record must exist: a log without
    /// one is removed.
    pub fn keep_log(&self, id: &RunId) -> Option<LogWriter> {
        (self.log_max > 0).then(|| LogWriter::new(self.log_path(id), self.log_max))
    }

    /// Returns what was kept of a run's output; `None` if nothing was. While the run is in
    /// progress, this is its output so far.
    ///
    /// # Errors
    /// The file cannot be read or is not a log.
    pub fn log(&self, id: &RunId) -> Result<Option<Vec<LogLine>>, RunStoreError> {
        let path = self.log_path(id);
        let mut bytes = Vec::new();
        let file = match open_regular(&path) {
            Ok(Some(file)) => file,
            Ok(None) => return Err(RunStoreError::DamagedLog { path, reason: NOT_REGULAR.to_owned() }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(RunStoreError::io("open", &path, cause)),
        };
        // A log may exceed its limit for the duration of one write.
        let most = 2 * LOG_MAX;
        file.take(most + 1).read_to_end(&mut bytes).map_err(|cause| RunStoreError::io("read", &path, cause))?;
        let parsed = if bytes.len() as u64 > most { Err("it is too large".to_owned()) } else { parse(&bytes) };
        parsed.map(Some).map_err(|reason| RunStoreError::DamagedLog { path, reason })
    }

    pub(super) fn log_path(&self, id: &RunId) -> PathBuf {
        self.dir.join(format!("{id}.log"))
    }
}

/// Parses a log. Its last line may be incomplete if the process was killed.
fn parse(bytes: &[u8]) -> Result<Vec<LogLine>, String> {
    let text = String::from_utf8_lossy(bytes);
    let Some(body) = text.strip_prefix(MARK) else {
        return if MARK.starts_with(&*text) {
            Ok(Vec::new())
        } else {
            Err("its first line is not that of a run log".to_owned())
        };
    };
    let mut lines = Vec::new();
    for (at, line) in body.split_inclusive('\n').enumerate() {
        match parse_line(line.trim_end_matches('\n')) {
            Some(parsed) => lines.push(parsed),
            None if !line.ends_with('\n') => {}
            None => return Err(format!("line {} is not part of a log", at + 2)),
        }
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Option<LogLine> {
    let (tag, text) = line.split_at_checked(TAG)?;
    let (stream, goes_on) = match tag {
        "out " => (LogStream::Out, false),
        "out+" => (LogStream::Out, true),
        "err " => (LogStream::Err, false),
        "err+" => (LogStream::Err, true),
        GAP => return Some(LogLine::LeftOut(text.split(' ').next()?.parse().ok()?)),
        _ => return None,
    };
    Some(LogLine::Text { stream, goes_on, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(max: u64, writes: &[(LogStream, &[u8])]) -> (String, Vec<LogLine>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::new(path.clone(), max);
        for (stream, bytes) in writes {
            writer.write(*stream, bytes);
            let length = fs::metadata(&path).map_or(0, |meta| meta.len());
            assert!(length <= writer.max, "{length} bytes");
        }
        assert!(writer.finish().is_none());
        let bytes = fs::read(&path).unwrap_or_default();
        let lines = parse(&bytes).unwrap();
        (String::from_utf8(bytes).unwrap(), lines)
    }

    use LogStream::{Err as E, Out as O};

    #[test]
    fn streams_are_stored_in_order_with_tags() {
        let (file, lines) = kept(
            LOG_DEFAULT,
            &[
                (O, b"one\ntw"),
                (E, b"oops\n"),
                (O, b"o\n\nerr forged\n"),
                (E, b"\x1b[2J\r\n\xff"),
                (O, b"tail\xe2\x82"),
            ],
        );
        let expected = "strongroom log 1\nout one\nout tw\nerr oops\nout+o\nout \nout err forged\nerr \\x1b[2J\\r\nerr \\xff\n\
                        out tail\\xe2\\x82\n";
        assert_eq!(file, expected);
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[3], LogLine::Text { stream: O, goes_on: true, text: "o".into() });
    }

    // promise: The stored log of a run stays within its size limit.
    #[test]
    fn full_log_keeps_its_head_and_tail() {
        let line = |n: usize| format!("line {n} {}\n", "x".repeat(n % 50));
        let texts: Vec<String> = (0..5_000).map(line).collect();
        let writes: Vec<(LogStream, &[u8])> =
            texts.iter().enumerate().map(|(n, text)| (if n % 7 == 0 { E } else { O }, text.as_bytes())).collect();
        let (file, lines) = kept(LOG_MIN, &writes);
        let all: u64 = MARK.len() as u64 + texts.iter().map(|text| (text.len() + TAG) as u64).sum::<u64>();
        let at = lines.iter().position(|line| matches!(line, LogLine::LeftOut(_))).unwrap();
        let LogLine::LeftOut(bytes) = lines[at] else { unreachable!() };
        let note = format!("... {bytes} bytes left out here\n");
        assert_eq!(file.len() as u64 + bytes - note.len() as u64, all);
        assert_eq!(lines.iter().filter(|line| matches!(line, LogLine::LeftOut(_))).count(), 1);
        assert!(file.starts_with("strongroom log 1\nerr line 0 \nout line 1 x\n"));
        assert!(file.ends_with(&format!("out {}", texts[4_999])));
        let of = |line: &LogLine| match line {
            LogLine::Text { text, .. } => format!("{text}\n"),
            LogLine::LeftOut(_) => unreachable!(),
        };
        for (n, line) in lines[..at].iter().enumerate() {
            assert_eq!(of(line), texts[n]);
        }
        for (line, text) in lines[at + 1..].iter().rev().zip(texts.iter().rev()) {
            assert_eq!(of(line), *text);
        }
    }

    // promise: The stored log of a run stays within its size limit.
    #[test]
    fn endless_line_is_cut_between_characters() {
        let piece = "ä€𝄞".repeat(30);
        let writes: Vec<(LogStream, &[u8])> = (0..200).map(|_| (E, piece.as_bytes())).collect();
        let (file, lines) = kept(LOG_MIN, &writes);
        assert!(!file.contains('\u{fffd}'), "{file}");
        let [head, LogLine::LeftOut(bytes), tail] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(matches!(head, LogLine::Text { stream: E, goes_on: false, .. }));
        assert!(matches!(tail, LogLine::Text { stream: E, goes_on: true, text } if text.ends_with("ä€𝄞")));
        assert!(*bytes > 40_000);
    }

    #[test]
    fn empty_log_leaves_no_file() {
        assert_eq!(kept(LOG_DEFAULT, &[(O, b"")]).0, "");
    }

    #[test]
    fn log_that_cannot_be_created_reports_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::new(dir.path().join("absent/log"), LOG_DEFAULT);
        writer.write(O, b"text\n");
        writer.write(E, b"more\n");
        assert_eq!(writer.finish().unwrap().kind(), io::ErrorKind::NotFound);
        // An existing file is never written to, because somebody else put it there.
        let path = dir.path().join("log");
        fs::write(&path, "precious").unwrap();
        let mut writer = LogWriter::new(path.clone(), LOG_DEFAULT);
        writer.write(O, b"text\n");
        assert_eq!(writer.finish().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    // attack: resources: use up the descriptors of the host, so that the run leaves no log -> the log
    // is open before the component runs
    #[test]
    fn log_is_open_before_the_first_write() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("runs");
        fs::create_dir(&home).unwrap();
        let mut writer = LogWriter::new(home.join("log"), LOG_DEFAULT);
        // From now on no file can be opened there.
        let moved = dir.path().join("moved");
        fs::rename(&home, &moved).unwrap();
        writer.write(O, b"text\n");
        assert!(writer.finish().is_none());
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "strongroom log 1\nout text\n");
    }

    #[test]
    fn full_disk_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::new(dir.path().join("log"), LOG_DEFAULT);
        writer.file = Some(File::options().read(true).write(true).open("/dev/full").unwrap());
        writer.write(O, b"text\n");
        writer.write(O, b"more\n");
        assert_eq!(writer.finish().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn torn_log_is_read_and_other_files_are_not() {
        let torn = |text: &str| parse(text.as_bytes()).map(|lines| lines.len());
        assert_eq!(torn("strongroom log 1\nout one\nou"), Ok(1));
        assert_eq!(torn("strongroom log 1\nout one\nout tw"), Ok(2));
        assert_eq!(torn("strongro"), Ok(0));
        assert_eq!(torn(""), Ok(0));
        assert!(torn("strongroom log 2\n").unwrap_err().contains("first line"));
        assert!(torn("strongroom log 1\nxyz one\nout two\n").unwrap_err().contains("line 2"));
    }

    proptest! {
        #[test]
        fn written_lines_round_trip(writes in prop::collection::vec((any::<bool>(), "[a-zé\n]{0,12}"), 0..40)) {
            let writes: Vec<(LogStream, &str)> =
                writes.iter().map(|(out, text)| (if *out { O } else { E }, text.as_str())).collect();
            let bytes: Vec<(LogStream, &[u8])> = writes.iter().map(|(stream, text)| (*stream, text.as_bytes())).collect();
            let (_, lines) = kept(LOG_DEFAULT, &bytes);
            for wanted in [O, E] {
                let mut read = String::new();
                for line in &lines {
                    let LogLine::Text { stream, goes_on, text } = line else { panic!("{line:?}") };
                    if *stream == wanted {
                        if !goes_on && !read.is_empty() {
                            read.push('\n');
                        }
                        read.push_str(text);
                    }
                }
                let whole: String = writes.iter().filter(|(stream, _)| *stream == wanted).map(|(_, text)| *text).collect();
                let lines_of = |text: &str| text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
                prop_assert_eq!(lines_of(&read), lines_of(&whole));
            }
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
            let _ = parse(&[MARK.as_bytes(), &bytes].concat());
        }

        // promise: The stored log of a run stays within its size limit.
        #[test]
        fn any_writes_stay_within_the_limit(writes in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..900)), 0..60)) {
            let writes: Vec<(LogStream, &[u8])> =
                writes.iter().map(|(out, bytes)| (if *out { O } else { E }, bytes.as_slice())).collect();
            kept(LOG_MIN, &writes);
        }
    }
}
