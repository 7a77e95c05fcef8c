//! Verifies an audit log: every segment against its chain and the ledger, and the ledger against
//! its own chain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::error::AuditError;
use super::folder::{Folder, LEDGER, file_name, is_segment};
use super::ledger::{self, Ending, LedgerState, OpenSegment, OpenSegments};
use super::lock;
use super::report::{Expect, Report, SegmentReport, Verdict};
use super::scan::{Expected, Scan, scan};

/// Verifies an audit log and reports a verdict on each part, in memory bounded by the number of
/// segments. Changes nothing, and can run while other processes write.
///
/// # Errors
/// [`AuditError::Absent`] if there is no audit log, [`AuditError::Newer`] if a newer program wrote
/// it, [`AuditError::Busy`] if a process does not release the ledger, [`AuditError::Io`] if a file
/// cannot be read. Tampering is not an error but a verdict.
///
/// ```
/// use strongroom_audit::{Audit, Event, Kind, SyncMode, Verdict, verify};
///
/// let folder = tempfile::tempdir()?;
/// let dir = folder.path().join("audit");
/// let audit = Audit::open(&dir, SyncMode::Always)?;
/// let mut event = Event::default();
/// event.event = Kind::Operator;
/// let position = audit.append_blocking(event)?;
/// audit.close()?;
/// assert_eq!((position.count, verify(&dir, None)?.overall()), (2, Verdict::Intact));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(dir: &Path, expect: Option<&Expect>) -> Result<Report, AuditError> {
    verify_with(dir, expect, &[])
}

/// Verifies an audit log like [`verify`], and also against positions that were stored elsewhere,
/// such as those in run records: a segment that was completely rewritten does not match them. A
/// position whose segment neither the directory nor the ledger contains is ignored, because the log
/// may have been moved aside.
///
/// If other processes are writing, collect the positions before calling this.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_with(dir: &Path, expect: Option<&Expect>, kept: &[Expect]) -> Result<Report, AuditError> {
    let folder = Folder::open(dir)?;
    let mut positions: BTreeMap<&str, Vec<(u64, blake3::Hash)>> = BTreeMap::new();
    for position in expect.into_iter().chain(kept) {
        positions.entry(position.segment()).or_default().push((position.count, position.head));
    }
    positions.values_mut().for_each(|kept| kept.sort_unstable_by_key(|(count, _)| *count));
    let snapshot = Snapshot::take(&folder)?;
    let mut names: BTreeSet<&str> = snapshot.files.iter().map(String::as_str).collect();
    names.extend(snapshot.ledger.iter().flat_map(LedgerState::names));
    names.extend(expect.map(Expect::segment));
    let mut segments = Vec::new();
    for name in names {
        let expected = expect.is_some_and(|expect| expect.segment() == name);
        let kept = positions.remove(name).unwrap_or_default();
        segments.push(segment(&folder, name, &snapshot, (expected, kept))?);
    }
    snapshot.accept_later(&folder, &mut segments)?;
    let ledger = match &snapshot.ledger {
        None if segments.is_empty() => Verdict::Intact,
        None => Verdict::Missing,
        Some(LedgerState { altered: Some(line), .. }) => Verdict::LedgerAltered { line: *line },
        Some(LedgerState { torn: true, .. }) => Verdict::TornLastLine,
        Some(LedgerState { repaired: true, .. }) => Verdict::Recovered,
        Some(_) => Verdict::Intact,
    };
    Ok(Report { ledger, segments })
}

/// The ledger and the segments without an end at one moment, while the ledger was locked.
struct Snapshot {
    ledger: Option<LedgerState>,
    /// The file of the ledger, positioned after what was read.
    file: Option<File>,
    /// The names of files. Those that were listed later are in the ledger.
    files: Vec<String>,
    open: BTreeMap<String, Probe>,
}

/// A segment without an end.
#[derive(Clone, Copy)]
struct Probe {
    live: bool,
    /// The length of the file. A process may continue it after the ledger is unlocked.
    length: u64,
}

impl Snapshot {
    fn take(folder: &Folder) -> Result<Self, AuditError> {
        // In this order, because the first process creates the ledger before its segment: a segment
        // listed here has a ledger.
        let files = folder.segments()?;
        let Some(file) = folder.read(LEDGER)? else {
            return Ok(Self { ledger: None, file: None, files, open: BTreeMap::new() });
        };
        let path = folder.path_of(LEDGER);
        let wrap = |error| AuditError::io("read the audit ledger", &path, error);
        lock::acquire(&file, lock::Mode::Shared).map_err(|error| AuditError::locked(&path, error))?;
        let length = file.metadata().map_err(wrap)?.len();
        let (ledger, open) = match ledger::open_at_end(&file).map_err(wrap)? {
            Some(open) => {
                let open = probe(folder, &open)?;
                lock::release(&file);
                (LedgerState::read((&file).take(length), folder)?, open)
            }
            None => {
                let ledger = LedgerState::read(&file, folder)?;
                let open = probe(folder, ledger.open())?;
                lock::release(&file);
                (ledger, open)
            }
        };
        Ok(Self { ledger: Some(ledger), file: Some(file), files, open })
    }

    /// Accepts files that a process has added to the ledger since.
    fn accept_later(&self, folder: &Folder, segments: &mut [SegmentReport]) -> Result<(), AuditError> {
        let unlisted = || segments.iter().any(|segment| segment.verdict == Verdict::Unlisted);
        let Some(file) = self.file.as_ref().filter(|_| unlisted()) else { return Ok(()) };
        let started = ledger::started(file)
            .map_err(|error| AuditError::io("read the audit ledger", &folder.path_of(LEDGER), error))?;
        let later = segments.iter_mut().filter(|segment| segment.verdict == Verdict::Unlisted);
        later.filter(|segment| started.contains(&segment.segment)).for_each(|segment| segment.verdict = Verdict::Live);
        Ok(())
    }
}

fn probe(folder: &Folder, open: &OpenSegments) -> Result<BTreeMap<String, Probe>, AuditError> {
    let mut probes = BTreeMap::new();
    for name in open.keys() {
        let Some(file) = folder.read(&file_name(name))? else { continue };
        let wrap = |error| AuditError::io("read the audit segment", &folder.path_of(&file_name(name)), error);
        let live = !lock::try_acquire(&file, lock::Mode::Shared).map_err(wrap)?;
        probes.insert(name.clone(), Probe { live, length: file.metadata().map_err(wrap)?.len() });
    }
    Ok(probes)
}

fn segment(
    folder: &Folder,
    name: &str,
    snapshot: &Snapshot,
    (expected, mut kept): (bool, Vec<(u64, blake3::Hash)>),
) -> Result<SegmentReport, AuditError> {
    let report = |verdict, events, head| SegmentReport { segment: name.to_owned(), verdict, events, head };
    let ended = snapshot.ledger.as_ref().and_then(|ledger| ledger.ended.get(name));
    let open = snapshot.ledger.as_ref().and_then(|ledger| ledger.open().get(name));
    let listed = ended.map(|(listed, _)| listed).or(open);
    let Some(file) = folder.read(&file_name(name))? else {
        // The name of a segment that was never announced may belong to a link or a directory.
        let verdict = if listed.is_none() && !expected { Verdict::Unlisted } else { Verdict::Missing };
        return Ok(report(verdict, 0, None));
    };
    // Also after its recovery: a position in the ledger stays valid, whatever was found later.
    if let Some(position) = listed.and_then(|listed| listed.paused) {
        kept.push((position.count, position.head.0));
        kept.sort_unstable_by_key(|(count, _)| *count);
    }
    let expected = Expected {
        genesis: listed.map(|listed| listed.genesis.0),
        closing: ended.map(|(_, ending)| (ending.count, ending.head)),
        kept: &kept,
    };
    let probe = open.and_then(|_| snapshot.open.get(name));
    let length = probe.filter(|probe| !probe.live).map_or(u64::MAX, |probe| probe.length);
    let scan = scan(file.take(length), expected)
        .map_err(|error| AuditError::io("read the audit segment", &folder.path_of(&file_name(name)), error))?;
    let verdict = match (ended, open) {
        (Some((_, ending)), _) => of_ended(&scan, ending),
        (None, Some(open)) => of_open(&scan, open, probe.is_some_and(|probe| probe.live)),
        (None, None) => unlisted(name, &scan),
    };
    let verdict = verdict.max(against(&scan, &kept));
    let head = (scan.lines > 0).then(|| scan.head.to_hex().to_string());
    Ok(report(verdict, scan.lines, head))
}

/// Returns the verdict on a file that the ledger does not list. A process that dies before it
/// announces its segment leaves an empty file; a file with content was announced.
fn unlisted(name: &str, scan: &Scan) -> Verdict {
    let empty = scan.lines == 0 && scan.altered.is_none() && scan.tail.is_none();
    if empty && is_segment(name) { Verdict::Recovered } else { Verdict::Unlisted }
}

/// Returns the verdict on a segment whose end the ledger does not record.
fn of_open(scan: &Scan, open: &OpenSegment, live: bool) -> Verdict {
    match (scan.altered, live, scan.tail) {
        (Some(line), ..) => Verdict::Altered { line },
        // Bytes after the last newline are being written.
        (None, true, _) => Verdict::Live,
        (None, false, Some(_)) => Verdict::TornLastLine,
        // No process is writing it, and the last one recorded this end.
        (None, false, None) if open.paused.is_some_and(|position| position.count == scan.lines) => Verdict::Intact,
        (None, false, None) => Verdict::Recovered,
    }
}

/// Returns the verdict on a segment whose count and head the ledger records.
fn of_ended(scan: &Scan, ending: &Ending) -> Verdict {
    if let Some(line) = scan.altered.into_iter().chain(ending.altered).min() {
        return Verdict::Altered { line };
    }
    if scan.lines < ending.count {
        return Verdict::Truncated;
    }
    if scan.lines > ending.count {
        return Verdict::Altered { line: ending.count.saturating_add(1) };
    }
    if scan.head != ending.head {
        return Verdict::Altered { line: ending.count };
    }
    match (ending.tail, scan.tail) {
        (None, None) if ending.closed => Verdict::Intact,
        (None, None) => Verdict::Recovered,
        (Some(then), Some(now)) if then == now => Verdict::TornLastLine,
        (Some(then), now) if now.is_none_or(|now| now.bytes < then.bytes) => Verdict::Truncated,
        _ => Verdict::Altered { line: ending.count.saturating_add(1) },
    }
}

/// Returns the verdict of positions that were stored elsewhere.
fn against(scan: &Scan, kept: &[(u64, blake3::Hash)]) -> Verdict {
    match scan.differs {
        Some(line) => Verdict::Altered { line },
        // Lines after an altered one were not read, and that is a verdict already.
        None if scan.altered.is_some() => Verdict::Intact,
        None if kept.last().is_some_and(|(count, _)| *count > scan.lines) => Verdict::Truncated,
        None => Verdict::Intact,
    }
}
