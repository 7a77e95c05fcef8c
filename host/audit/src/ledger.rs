//! The ledger: the list of segments and how each ended. It distinguishes a log that was cut from a
//! complete one.
//!
//! Each entry is one line, chained like a segment's, and appended under a lock on the file. A
//! process that dies while it appends leaves a partial line. Nothing is ever removed: the next
//! writer completes that line with a `torn` entry that states how many bytes before it to ignore.
//! The file only grows, and writing can resume after any prefix of it.
//!
//! Each line also states what was open before it (`checkpoint`), so that a process that starts
//! reads only the last line, however long the ledger is. The chain covers the checkpoints, and
//! `verify` compares each with the entries before it: a wrong one is an altered line.

use std::collections::{BTreeMap, BTreeSet};
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
use super::{FORMAT, SyncMode, lock, now};

/// Start of every line. Quotation marks in JSON strings are escaped, so it cannot occur elsewhere.
const LINE_START: &[u8] = b"{\"seq\":";

/// An entry. Unknown fields make a line invalid: otherwise a changed name could remove the
/// checkpoint of the last line, which no later line protects.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", deny_unknown_fields)]
enum Entry {
    /// A process started a segment.
    Start { segment: String, format: u32 },
    /// A process left a shared segment, which another one may continue.
    Pause { segment: String, count: u64, head: Hex },
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
    /// Absent in lines of format 1, and if it would exceed the maximum length of a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Checkpoint>,
    prev: Hex,
}

/// A number of lines of a segment, and the hash of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) count: u64,
    pub(super) head: Hex,
}

/// A segment without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenSegment {
    /// Expected `prev` hash of its first line.
    pub(super) genesis: Hex,
    /// Where the last process left it, if several processes share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) paused: Option<Position>,
}

/// Segments without an end, by name.
pub(super) type OpenSegments = BTreeMap<String, OpenSegment>;

/// What a process needs to know of the lines before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    /// The newest format that a segment has.
    format: u32,
    open: OpenSegments,
}

impl Checkpoint {
    /// Applies the entry of a line with this hash. Returns `false` if no writer could have written
    /// it here.
    fn apply(&mut self, entry: &Entry, hash: Hash) -> bool {
        match entry {
            Entry::Torn { .. } => true,
            Entry::Start { segment, format } => {
                let genesis = Hex(chain::segment_genesis(segment, &hash));
                self.format = self.format.max(*format);
                *format > 0
                    && is_segment(segment)
                    && self.open.insert(segment.clone(), OpenSegment { genesis, paused: None }).is_none()
            }
            Entry::Pause { segment, count, head } => {
                let position = Position { count: *count, head: *head };
                self.open.get_mut(segment).map(|open| open.paused = Some(position)).is_some()
            }
            Entry::End { segment, .. } | Entry::Recovered { segment, .. } => self.open.remove(segment).is_some(),
        }
    }
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

/// Contents of the ledger.
#[derive(Debug)]
pub(super) struct LedgerState {
    /// Segments with an end, by name.
    pub(super) ended: BTreeMap<String, (OpenSegment, Ending)>,
    /// The first altered line. Later lines are still read, but are not trustworthy.
    pub(super) altered: Option<u64>,
    /// Whether a writer died while appending and a later one completed its line.
    pub(super) repaired: bool,
    /// Whether it ends in a partial line.
    pub(super) torn: bool,
    checkpoint: Checkpoint,
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
        let mut state = Self {
            ended: BTreeMap::new(),
            altered: None,
            repaired: false,
            torn: false,
            checkpoint: Checkpoint::default(),
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
                        state.note_altered(altered);
                    }
                    if !line.is_some_and(|line| state.apply(line, hash)) {
                        state.note_altered(Altered(number));
                    }
                    if state.checkpoint.format > FORMAT {
                        return Err(AuditError::Newer(state.checkpoint.format));
                    }
                }
                Next::Long => {
                    number = number.saturating_add(1);
                    if !broken {
                        broken = true;
                        state.note_altered(checker.reject());
                    }
                }
                Next::Tail(tail) => torn = tail.bytes,
                Next::End => break,
            }
        }
        if !broken && let Err(altered) = checker.finish(None) {
            state.note_altered(altered);
        }
        state.torn = torn > 0;
        state.end = LedgerEnd { lines: checker.lines(), head: checker.head(), torn };
        Ok(state)
    }

    /// Returns the segments without an end.
    pub(super) fn open(&self) -> &OpenSegments {
        &self.checkpoint.open
    }

    /// Returns the names of all segments.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.ended.keys().chain(self.checkpoint.open.keys()).map(String::as_str)
    }

    fn note_altered(&mut self, Altered(line): Altered) {
        self.altered = Some(self.altered.map_or(line, |first| first.min(line)));
    }

    /// Applies a line. Returns `false` if no writer could have written it here.
    fn apply(&mut self, line: Line, hash: Hash) -> bool {
        let genuine = line.checkpoint.is_none_or(|checkpoint| checkpoint == self.checkpoint);
        let ending = match &line.entry {
            Entry::Start { segment, .. } if self.ended.contains_key(segment) => return false,
            Entry::End { segment, count, head } => {
                Some((segment, Ending { closed: true, count: *count, head: head.0, tail: None, altered: None }))
            }
            Entry::Recovered { segment, count, head, torn, altered } => {
                let tail = torn.map(|torn| Tail { bytes: torn.bytes, hash: torn.hash.0 });
                Some((segment, Ending { closed: false, count: *count, head: head.0, tail, altered: *altered }))
            }
            Entry::Torn { .. } => {
                self.repaired = true;
                None
            }
            _ => None,
        };
        if let Some((segment, ending)) = ending
            && let Some(open) = self.checkpoint.open.get(segment)
        {
            self.ended.insert(segment.clone(), (*open, ending));
        }
        self.checkpoint.apply(&line.entry, hash) && genuine
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

/// Returns the segments that a ledger starts, from the file's current position on.
pub(super) fn started(file: &File) -> io::Result<BTreeSet<String>> {
    let mut lines = Lines::new(BufReader::new(file));
    let mut segments = BTreeSet::new();
    loop {
        match lines.next()? {
            Next::Line => {
                if let Some(Line { entry: Entry::Start { segment, .. }, .. }) = parse(lines.line()) {
                    segments.insert(segment);
                }
            }
            Next::Long => {}
            Next::Tail(_) | Next::End => return Ok(segments),
        }
    }
}

/// Returns the segments without an end according to the last line alone; `None` if it does not
/// state them.
pub(super) fn open_at_end(file: &File) -> io::Result<Option<OpenSegments>> {
    Ok(last_state(file)?.map(|(_, checkpoint)| checkpoint.open))
}

fn last_state(file: &File) -> io::Result<Option<(LedgerEnd, Checkpoint)>> {
    let (line, torn) = chain::last_line(file)?;
    let Some(Line { seq, entry, checkpoint: Some(mut checkpoint), .. }) = parse(&line) else { return Ok(None) };
    let head = chain::ledger_line(&line);
    let end = LedgerEnd { lines: seq, head, torn };
    Ok(checkpoint.apply(&entry, head).then_some((end, checkpoint)))
}

/// The ledger, locked for writing until it is dropped.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    folder: &'a Folder,
    file: File,
    end: LedgerEnd,
    checkpoint: Checkpoint,
}

impl<'a> Ledger<'a> {
    /// Locks the ledger, and creates it if missing. Reads only its last line, or all of it if that
    /// line has no valid checkpoint.
    pub(super) fn open(folder: &'a Folder) -> Result<Self, AuditError> {
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
        let Some(file) = folder.append(LEDGER)? else {
            return Err(AuditError::Insecure { path, reason: "the ledger is not a regular file" });
        };
        lock::acquire(&file, lock::Mode::Exclusive).map_err(|error| AuditError::locked(&path, error))?;
        let last = last_state(&file).map_err(|error| AuditError::io("read the audit ledger", &path, error))?;
        let (end, checkpoint) = match last {
            Some((_, checkpoint)) if checkpoint.format > FORMAT => return Err(AuditError::Newer(checkpoint.format)),
            Some(last) => last,
            None => {
                let state = LedgerState::read(&file, folder)?;
                if let Some(line) = state.altered {
                    return Err(AuditError::LedgerAltered { path, line });
                }
                (state.end, state.checkpoint)
            }
        };
        Ok(Self { folder, file, end, checkpoint })
    }

    /// Returns the segments without an end.
    pub(super) fn open_segments(&self) -> &OpenSegments {
        &self.checkpoint.open
    }

    /// Records the start of a segment. Returns the `prev` hash of its first line.
    pub(super) fn start(&mut self, segment: &str) -> Result<Hash, AuditError> {
        let announced = self.add(Entry::Start { segment: segment.to_owned(), format: FORMAT })?;
        Ok(chain::segment_genesis(segment, &announced))
    }

    /// Records where a shared segment was left.
    pub(super) fn pause(&mut self, segment: &str, count: u64, head: Hash) -> Result<(), AuditError> {
        self.add(Entry::Pause { segment: segment.to_owned(), count, head: Hex(head) }).map(drop)
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

    /// Releases the lock, and then makes the entries durable if the mode requires it.
    pub(super) fn release(self, mode: SyncMode) -> Result<(), AuditError> {
        lock::release(&self.file);
        match mode {
            SyncMode::Always => self.file.sync_data().map_err(|error| self.failed("sync the audit ledger", error)),
            SyncMode::Os => Ok(()),
        }
    }

    fn failed(&self, what: &'static str, error: io::Error) -> AuditError {
        AuditError::io(what, &self.folder.path_of(LEDGER), error)
    }

    fn add(&mut self, entry: Entry) -> Result<Hash, AuditError> {
        if self.end.torn > 0 {
            let bytes = self.end.torn;
            self.write(Entry::Torn { bytes })?;
        }
        self.write(entry)
    }

    fn write(&mut self, entry: Entry) -> Result<Hash, AuditError> {
        let seq = self.end.lines.saturating_add(1);
        let torn = usize::try_from(self.end.torn).unwrap_or(usize::MAX);
        let checkpoint = Some(self.checkpoint.clone());
        let mut line = Line { seq, time: now(), entry, checkpoint, prev: Hex(self.end.head) };
        let mut bytes = line.to_bytes()?;
        if bytes.len().saturating_add(torn) > LINE_MAX {
            line.checkpoint = None;
            bytes = line.to_bytes()?;
        }
        if bytes.len().saturating_add(torn) > LINE_MAX {
            return Err(AuditError::LedgerAltered { path: self.folder.path_of(LEDGER), line: seq });
        }
        // The hash covers the torn part too, which is part of the line from now on.
        let mut full_line = vec![0; torn];
        if torn > 0 {
            let length = self.file.metadata().map_err(|error| self.failed("read the audit ledger", error))?.len();
            self.file
                .read_exact_at(&mut full_line, length.saturating_sub(self.end.torn))
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
        let head = chain::ledger_line(&full_line);
        self.end = LedgerEnd { lines: seq, head, torn: 0 };
        self.checkpoint.apply(&line.entry, head);
        Ok(head)
    }
}

impl Line {
    fn to_bytes(&self) -> Result<Vec<u8>, AuditError> {
        let mut bytes = serde_json::to_vec(self).map_err(AuditError::Encode)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
