//! The ledger: which segments there are, and how each ended. It is what tells a trail that was cut from one that is complete.
//!
//! One line an entry, chained like a segment, and appended under a lock on the file. A process that dies while it appends leaves
//! a piece of a line without a newline. Nothing is ever cut off: the next writer completes that very line with a `torn` entry that
//! says how many bytes before it do not count. The file only grows, and every prefix of it can be gone on with.

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

/// How every line begins; a quotation mark inside a JSON text is escaped, so it stands nowhere else.
const LINE_START: &[u8] = b"{\"seq\":";

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
enum Entry {
    /// A process begins a segment.
    Start { segment: String, format: u32 },
    /// It has closed it in good order.
    End { segment: String, count: u64, head: Hex },
    /// Its process was gone without having closed it; this is how a later process found it.
    Recovered {
        segment: String,
        count: u64,
        head: Hex,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        torn: Option<Torn>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        altered: Option<u64>,
    },
    /// The bytes of this line before this entry are what a writer left that died; they say nothing.
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
    /// Whether its own process closed it; else a later one found it so.
    pub(super) closed: bool,
    /// How many lines it had.
    pub(super) count: u64,
    /// The hash of the last.
    pub(super) head: Hash,
    /// What followed the last newline.
    pub(super) tail: Option<Tail>,
    /// The line that was altered already when it was recovered.
    pub(super) altered: Option<u64>,
}

/// A segment as the ledger knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    /// What its first line has to refer to.
    pub(super) genesis: Hash,
    /// How it ended; none where the ledger does not say yet.
    pub(super) ending: Option<Ending>,
}

/// What the ledger says.
#[derive(Debug)]
pub(super) struct View {
    /// The segments by name.
    pub(super) segments: BTreeMap<String, Listed>,
    /// The first line that is not as it was written. Later lines are still read for what they are worth.
    pub(super) altered: Option<u64>,
    /// Whether a writer died in it and a later one went on.
    pub(super) mended: bool,
    /// Whether it ends in a piece of a line.
    pub(super) torn: bool,
    end: Place,
}

/// Where the next line goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    lines: u64,
    head: Hash,
    torn: u64,
}

impl View {
    /// Reads a ledger in memory bounded by the number of segments.
    pub(super) fn read(input: impl Read, folder: &Folder) -> Result<Self, AuditError> {
        let wrap = |error| AuditError::io("read the audit ledger", &folder.path_of(LEDGER), error);
        let mut lines = Lines::new(BufReader::with_capacity(LINE_MAX, input));
        let mut checker = Checker::new(Some(chain::ledger_genesis()));
        let (mut number, mut torn, mut broken) = (0u64, 0, false);
        let mut view = Self {
            segments: BTreeMap::new(),
            altered: None,
            mended: false,
            torn: false,
            end: Place { lines: 0, head: checker.head(), torn: 0 },
        };
        loop {
            match lines.next().map_err(wrap)? {
                Next::Line => {
                    number = number.saturating_add(1);
                    let hash = chain::ledger_line(lines.line());
                    let line = parse(lines.line());
                    let link = line.as_ref().map(|line| Link { seq: line.seq, prev: line.prev });
                    // A broken chain says nothing more; the entries behind it are taken for what they are worth.
                    if !broken && let Err(altered) = checker.push(link.as_ref(), hash) {
                        broken = true;
                        view.note(altered);
                    }
                    let taken = match line {
                        Some(line) => view.take(line.entry, hash)?,
                        None => false,
                    };
                    if !taken {
                        view.note(Altered(number));
                    }
                }
                Next::Long => {
                    number = number.saturating_add(1);
                    if !broken {
                        broken = true;
                        view.note(checker.reject());
                    }
                }
                Next::Tail(tail) => torn = tail.bytes,
                Next::End => break,
            }
        }
        if !broken && let Err(altered) = checker.finish(None) {
            view.note(altered);
        }
        view.torn = torn > 0;
        view.end = Place { lines: checker.lines(), head: checker.head(), torn };
        Ok(view)
    }

    fn note(&mut self, Altered(line): Altered) {
        self.altered = Some(self.altered.map_or(line, |first| first.min(line)));
    }

    /// Takes an entry over. False where no writer could have written it here.
    fn take(&mut self, entry: Entry, hash: Hash) -> Result<bool, AuditError> {
        let (segment, ending) = match entry {
            Entry::Torn { .. } => {
                self.mended = true;
                return Ok(true);
            }
            Entry::Start { format, .. } if format > FORMAT => return Err(AuditError::Newer(format)),
            Entry::Start { segment, format } => {
                if format == 0 || !is_segment(&segment) || self.segments.contains_key(&segment) {
                    return Ok(false);
                }
                let genesis = chain::segment_genesis(&segment, &hash);
                self.segments.insert(segment, Listed { genesis, ending: None });
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

/// The entry in a line: all of it, or what follows a torn piece. None where a torn piece is not what the entry says it is.
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
    place: Place,
}

impl<'a> Ledger<'a> {
    /// Locks the ledger, makes it where it is not there, and reads all of it.
    pub(super) fn open(folder: &'a Folder) -> Result<(Self, View), AuditError> {
        let path = folder.path_of(LEDGER);
        if folder.append(LEDGER)?.is_none() {
            match folder.create(LEDGER) {
                Ok(_) => {}
                // Another process was faster, or something else has the name, which the next opening tells.
                Err(AuditError::Io { cause, .. }) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let file = Self::locked(folder)?;
        let view = View::read(&file, folder)?;
        if let Some(line) = view.altered {
            return Err(AuditError::LedgerAltered { path, line });
        }
        let place = view.end;
        Ok((Self { folder, file, place }, view))
    }

    /// Locks the ledger and reads its last line alone, to add one more entry.
    pub(super) fn open_end(folder: &'a Folder) -> Result<Self, AuditError> {
        let file = Self::locked(folder)?;
        let place = Self::find_end(&file, folder)?;
        Ok(Self { folder, file, place })
    }

    fn locked(folder: &Folder) -> Result<File, AuditError> {
        let path = folder.path_of(LEDGER);
        let Some(file) = folder.append(LEDGER)? else {
            return Err(AuditError::Insecure {
                path,
                reason: "the ledger is gone or no regular file: run `strongroom audit verify`",
            });
        };
        folder.lock_ledger(&file, true)?;
        Ok(file)
    }

    fn find_end(file: &File, folder: &Folder) -> Result<Place, AuditError> {
        let path = folder.path_of(LEDGER);
        let wrap = |error| AuditError::io("read the audit ledger", &path, error);
        let length = file.metadata().map_err(wrap)?.len();
        // A torn piece and a line, each within the bound, and the newline before.
        let size = length.min(2 * LINE_MAX as u64 + 1);
        let mut end = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut end, length.saturating_sub(size)).map_err(wrap)?;
        let mut parts = end.rsplit(|byte| *byte == b'\n');
        let torn = parts.next().map_or(0, <[u8]>::len) as u64;
        let Some(before) = parts.next() else {
            if length > LINE_MAX as u64 {
                return Err(AuditError::LedgerAltered { path, line: 1 });
            }
            return Ok(Place { lines: 0, head: chain::ledger_genesis(), torn });
        };
        let from =
            end.len().saturating_sub(before.len().saturating_add(1)).saturating_sub(usize::try_from(torn).unwrap_or(0));
        let line = end.get(from..from.saturating_add(before.len()).saturating_add(1)).unwrap_or_default();
        match parse(line) {
            Some(parsed) => Ok(Place { lines: parsed.seq, head: chain::ledger_line(line), torn }),
            None => {
                let line = line_count(file).map_err(wrap)?;
                Err(AuditError::LedgerAltered { path, line })
            }
        }
    }

    /// Announces a segment. Answers what its first line has to refer to.
    pub(super) fn start(&mut self, segment: &str) -> Result<Hash, AuditError> {
        let announced = self.add(Entry::Start { segment: segment.to_owned(), format: FORMAT })?;
        Ok(chain::segment_genesis(segment, &announced))
    }

    /// Records that a segment was closed.
    pub(super) fn end(&mut self, segment: &str, count: u64, head: Hash) -> Result<(), AuditError> {
        self.add(Entry::End { segment: segment.to_owned(), count, head: Hex(head) }).map(drop)
    }

    /// Records how the segment of a process that is gone was found.
    pub(super) fn recovered(&mut self, segment: &str, scan: &Scan) -> Result<(), AuditError> {
        let torn = scan.tail.map(|tail| Torn { bytes: tail.bytes, hash: Hex(tail.hash) });
        let (segment, head) = (segment.to_owned(), Hex(scan.head));
        self.add(Entry::Recovered { segment, count: scan.lines, head, torn, altered: scan.altered }).map(drop)
    }

    /// Makes the entries durable, as far as the mode asks for it.
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
        if self.place.torn > 0 {
            let bytes = self.place.torn;
            self.write(Entry::Torn { bytes })?;
        }
        self.write(entry)
    }

    fn write(&mut self, entry: Entry) -> Result<Hash, AuditError> {
        let seq = self.place.lines.saturating_add(1);
        let line = Line { seq, time: now(), entry, prev: Hex(self.place.head) };
        let mut bytes = serde_json::to_vec(&line).map_err(AuditError::Encode)?;
        bytes.push(b'\n');
        let torn = usize::try_from(self.place.torn).unwrap_or(usize::MAX);
        if bytes.len().saturating_add(torn) > LINE_MAX {
            return Err(AuditError::LedgerAltered { path: self.folder.path_of(LEDGER), line: seq });
        }
        // The line's hash covers the torn piece too: it is part of the line from now on.
        let mut whole = vec![0; torn];
        if torn > 0 {
            let length = self.file.metadata().map_err(|error| self.failed("read the audit ledger", error))?.len();
            self.file
                .read_exact_at(&mut whole, length.saturating_sub(self.place.torn))
                .map_err(|error| self.failed("read the audit ledger", error))?;
        }
        whole.extend_from_slice(&bytes);
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
        self.place = Place { lines: seq, head: chain::ledger_line(&whole), torn: 0 };
        Ok(self.place.head)
    }
}

/// How many newlines a file has: only for the message about a damaged last line.
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
