//! The ledger: the list of segments and how each ended. It distinguishes a log that was cut from a
//! complete one.
//!
//! Each entry is one line, chained like a segment's, and appended under a lock on the file. A
//! process that dies while it appends leaves a partial line. Nothing is ever removed: the next
//! writer completes that line with a `torn` entry that states how many bytes before it to ignore.
//! The file only grows, and writing can resume after any prefix of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;

use blake3::Hash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::{self, Altered, Checker, Hex, LINE_MAX, Lines, Link, Next, Tail};
use super::error::AuditError;
use super::folder::{Folder, LEDGER, is_segment};
use super::scan::Scan;
use super::{FORMAT, SyncMode, now};

/// Start of every line. Quotation marks in JSON strings are escaped, so it cannot occur elsewhere.
const LINE_START: &[u8] = b"{\"seq\":";

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
enum Entry {
    /// A process started a segment.
    Start { segment: String, format: u32 },
    /// The process closed it normally.
    End { segment: String, count: u64, head: Hex },
    /// The process ended without closing it; a later process recorded what it found.
    Recovered {
        segment: String,
        count: u64,
        head: Hex,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        torn: Option<Torn>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        altered: Option<u64>,
    },
    /// The bytes of this line before this entry are what a writer left that died; ignore them.
    Torn { bytes: u64 },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Torn {
    bytes: u64,
    hash: Hex,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    seq: u64,
    time: Timestamp,
    #[serde(flatten)]
    entry: Entry,
    prev: Hex,
}

/// How a segment ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Whether its own process closed it; otherwise a later process recovered it.
    pub(super) closed: bool,
    /// Number of lines.
    pub(super) count: u64,
    /// Hash of the last line.
    pub(super) head: Hash,
    /// Bytes after the last newline.
    pub(super) tail: Option<Tail>,
    /// The first line that was already altered when the segment was recovered.
    pub(super) altered: Option<u64>,
}

/// A segment according to the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct LedgerSegment {
    /// Expected `prev` hash of its first line.
    pub(super) genesis: Hash,
    /// How it ended; `None` if the ledger has no entry for that.
    pub(super) ending: Option<Ending>,
}

/// Contents of the ledger.
#[derive(Debug)]
pub(super) struct LedgerState {
    /// Segments by name.
    pub(super) segments: BTreeMap<String, LedgerSegment>,
    /// The first altered line. Later lines are still read, but are not trustworthy.
    pub(super) altered: Option<u64>,
    /// Whether a writer died while appending and a later one completed its line.
    pub(super) repaired: bool,
    /// Whether it ends in a partial line.
    pub(super) torn: bool,
    end: LedgerEnd,
}

/// Position of the next line.
#[derive(Clone, Copy, Debug)]
struct LedgerEnd {
    lines: u64,
    head: Hash,
    torn: u64,
}

impl LedgerState {
    /// Reads a ledger in memory bounded by the number of segments.
    pub(super) fn read(input: impl Read, folder: &Folder) -> Result<Self, AuditError> {
        let wrap = |error| AuditError::io("read the audit ledger", &folder.path_of(LEDGER), error);
        let mut lines = Lines::new(BufReader::with_capacity(LINE_MAX, input));
        let mut checker = Checker::new(Some(chain::ledger_genesis()));
        let (mut number, mut torn, mut broken) = (0u64, 0, false);
        let mut view = Self {
            segments: BTreeMap::new(),
            altered: None,
            repaired: false,
            torn: false,
            end: LedgerEnd { lines: 0, head: checker.head(), torn: 0 },
        };
        loop {
            match lines.next().map_err(wrap)? {
                Next::Line => {
                    number = number.saturating_add(1);
                    let hash = chain::ledger_line(lines.line());
                    let line = parse(lines.line());
                    let link = line.as_ref().map(|line| Link { seq: line.seq, prev: line.prev });
                    // After a broken link only the entries are still read.
                    if !broken && let Err(altered) = checker.push(link.as_ref(), hash) {
                        broken = true;
                        view.note_altered(altered);
                    }
                    let valid = match line {
                        Some(line) => view.apply(line.entry, hash)?,
                        None => false,
                    };
                    if !valid {
                        view.note_altered(Altered(number));
                    }
                }
                Next::Long => {
                    number = number.saturating_add(1);
                    if !broken {
                        broken = true;
                        view.note_altered(checker.reject());
                    }
                }
                Next::Tail(tail) => torn = tail.bytes,
                Next::End => break,
            }
        }
        if !broken && let Err(altered) = checker.finish(None) {
            view.note_altered(altered);
        }
        view.torn = torn > 0;
        view.end = LedgerEnd { lines: checker.lines(), head: checker.head(), torn };
        Ok(view)
    }

    fn note_altered(&mut self, Altered(line): Altered) {
        self.altered = Some(self.altered.map_or(line, |first| first.min(line)));
    }

    /// Applies an entry. Returns `false` if no writer could have written it here.
    fn apply(&mut self, entry: Entry, hash: Hash) -> Result<bool, AuditError> {
        let (segment, ending) = match entry {
            Entry::Torn { .. } => {
                self.repaired = true;
                return Ok(true);
            }
            Entry::Start { format, .. } if format > FORMAT => return Err(AuditError::Newer(format)),
            Entry::Start { segment, format } => {
                if format == 0 || !is_segment(&segment) || self.segments.contains_key(&segment) {
                    return Ok(false);
                }
                let genesis = chain::segment_genesis(&segment, &hash);
                self.segments.insert(segment, LedgerSegment { genesis, ending: None });
                return Ok(true);
            }
            Entry::End { segment, count, head } => {
                (segment, Ending { closed: true, count, head: head.0, tail: None, altered: None })
            }
            Entry::Recovered { segment, count, head, torn, altered } => {
                let tail = torn.map(|torn| Tail { bytes: torn.bytes, hash: torn.hash.0 });
                (segment, Ending { closed: false, count, head: head.0, tail, altered })
            }
        };
        match self.segments.get_mut(&segment) {
            Some(listed) if listed.ending.is_none() => {
                listed.ending = Some(ending);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Parses the entry of a line, after its torn part if it has one. Returns `None` if the torn part
/// does not match the entry.
fn parse(line: &[u8]) -> Option<Line> {
    let at = line.windows(LINE_START.len()).rposition(|window| window == LINE_START)?;
    let parsed = serde_json::from_slice::<Line>(line.get(at..)?).ok()?;
    let claimed = match parsed.entry {
        Entry::Torn { bytes } if bytes > 0 => bytes,
        Entry::Torn { .. } => return None,
        _ => 0,
    };
    (claimed == at as u64).then_some(parsed)
}

/// The ledger, locked for writing until it is dropped.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    folder: &'a Folder,
    file: File,
    end_position: LedgerEnd,
}

impl<'a> Ledger<'a> {
    /// Locks the ledger, creates it if missing, and reads all of it.
    pub(super) fn open(folder: &'a Folder) -> Result<(Self, LedgerState), AuditError> {
        let path = folder.path_of(LEDGER);
        if folder.append(LEDGER)?.is_none() {
            match folder.create(LEDGER) {
                Ok(_) => {}
                // Another process was faster, or the name is taken by something else, which opening
                // it reports.
                Err(AuditError::Io { cause, .. }) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let file = Self::locked(folder)?;
        let view = LedgerState::read(&file, folder)?;
        if let Some(line) = view.altered {
            return Err(AuditError::LedgerAltered { path, line });
        }
        let end_position = view.end;
        Ok((Self { folder, file, end_position }, view))
    }

    /// Locks the ledger and reads only its last line, to add one more entry.
    pub(super) fn open_end(folder: &'a Folder) -> Result<Self, AuditError> {
        let file = Self::locked(folder)?;
        let end_position = Self::read_end(&file, folder)?;
        Ok(Self { folder, file, end_position })
    }

    fn locked(folder: &Folder) -> Result<File, AuditError> {
        let path = folder.path_of(LEDGER);
        let Some(file) = folder.append(LEDGER)? else {
            return Err(AuditError::Insecure {
                path,
                reason: "the ledger is missing or not a regular file: run `strongroom audit verify`",
            });
        };
        folder.lock_ledger(&file, true)?;
        Ok(file)
    }

    fn read_end(file: &File, folder: &Folder) -> Result<LedgerEnd, AuditError> {
        let path = folder.path_of(LEDGER);
        let wrap = |error| AuditError::io("read the audit ledger", &path, error);
        let length = file.metadata().map_err(wrap)?.len();
        // A torn part and a line, each of bounded length, and the newline before.
        let size = length.min(2 * LINE_MAX as u64 + 1);
        let mut end = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut end, length.saturating_sub(size)).map_err(wrap)?;
        let mut parts = end.rsplit(|byte| *byte == b'\n');
        let torn = parts.next().map_or(0, <[u8]>::len) as u64;
        let Some(before) = parts.next() else {
            if length > LINE_MAX as u64 {
                return Err(AuditError::LedgerAltered { path, line: 1 });
            }
            return Ok(LedgerEnd { lines: 0, head: chain::ledger_genesis(), torn });
        };
        let from =
            end.len().saturating_sub(before.len().saturating_add(1)).saturating_sub(usize::try_from(torn).unwrap_or(0));
        let line = end.get(from..from.saturating_add(before.len()).saturating_add(1)).unwrap_or_default();
        match parse(line) {
            Some(parsed) => Ok(LedgerEnd { lines: parsed.seq, head: chain::ledger_line(line), torn }),
            None => {
                let line = line_count(file).map_err(wrap)?;
                Err(AuditError::LedgerAltered { path, line })
            }
        }
    }

    /// Records the start of a segment. Returns the `prev` hash of its first line.
    pub(super) fn start(&mut self, segment: &str) -> Result<Hash, AuditError> {
        let announced = self.add(Entry::Start { segment: segment.to_owned(), format: FORMAT })?;
        Ok(chain::segment_genesis(segment, &announced))
    }

    /// Records that a segment was closed.
    pub(super) fn end(&mut self, segment: &str, count: u64, head: Hash) -> Result<(), AuditError> {
        self.add(Entry::End { segment: segment.to_owned(), count, head: Hex(head) }).map(drop)
    }

    /// Records the state of a segment whose process ended without closing it.
    pub(super) fn recovered(&mut self, segment: &str, scan: &Scan) -> Result<(), AuditError> {
        let torn = scan.tail.map(|tail| Torn { bytes: tail.bytes, hash: Hex(tail.hash) });
        let (segment, head) = (segment.to_owned(), Hex(scan.head));
        self.add(Entry::Recovered { segment, count: scan.lines, head, torn, altered: scan.altered }).map(drop)
    }

    /// Makes the entries durable if the mode requires it.
    pub(super) fn sync(&self, mode: SyncMode) -> Result<(), AuditError> {
        match mode {
            SyncMode::Always => self.file.sync_data().map_err(|error| self.failed("sync the audit ledger", error)),
            SyncMode::Os => Ok(()),
        }
    }

    fn failed(&self, what: &'static str, error: io::Error) -> AuditError {
        AuditError::io(what, &self.folder.path_of(LEDGER), error)
    }

    fn add(&mut self, entry: Entry) -> Result<Hash, AuditError> {
        if self.end_position.torn > 0 {
            let bytes = self.end_position.torn;
            self.write(Entry::Torn { bytes })?;
        }
        self.write(entry)
    }

    fn write(&mut self, entry: Entry) -> Result<Hash, AuditError> {
        let seq = self.end_position.lines.saturating_add(1);
        let line = Line { seq, time: now(), entry, prev: Hex(self.end_position.head) };
        let mut bytes = serde_json::to_vec(&line).map_err(AuditError::Encode)?;
        bytes.push(b'\n');
        let torn = usize::try_from(self.end_position.torn).unwrap_or(usize::MAX);
        if bytes.len().saturating_add(torn) > LINE_MAX {
            return Err(AuditError::LedgerAltered { path: self.folder.path_of(LEDGER), line: seq });
        }
        // The hash covers the torn part too, which is part of the line from now on.
        let mut full_line = vec![0; torn];
        if torn > 0 {
            let length = self.file.metadata().map_err(|error| self.failed("read the audit ledger", error))?.len();
            self.file
                .read_exact_at(&mut full_line, length.saturating_sub(self.end_position.torn))
                .map_err(|error| self.failed("read the audit ledger", error))?;
        }
        full_line.extend_from_slice(&bytes);
        let written = loop {
            match self.file.write(&bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| self.failed("write the audit ledger", error))?,
            }
        };
        if written != bytes.len() {
            let cause = io::Error::from(io::ErrorKind::StorageFull);
            return Err(self.failed("write the audit ledger", cause));
        }
        self.end_position = LedgerEnd { lines: seq, head: chain::ledger_line(&full_line), torn: 0 };
        Ok(self.end_position.head)
    }
}

/// Counts the newlines of a file, for the message about a damaged last line.
fn line_count(file: &File) -> io::Result<u64> {
    let (mut offset, mut lines, mut chunk) = (0u64, 0u64, vec![0; LINE_MAX]);
    loop {
        let count = file.read_at(&mut chunk, offset)?;
        if count == 0 {
            return Ok(lines);
        }
        lines = lines.saturating_add(chunk.iter().take(count).filter(|byte| **byte == b'\n').count() as u64);
        offset = offset.saturating_add(count as u64);
    }
}
