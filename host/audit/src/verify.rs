//! Verifies an audit log: every segment against its chain and the ledger, and the ledger against
//! its own chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::AuditError;
use super::folder::{Folder, LEDGER, file_name, is_segment};
use super::ledger::{Ending, LedgerSegment, LedgerState};
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
    let mut names: BTreeSet<&str> = snapshot.files.keys().map(String::as_str).collect();
    if let Some(view) = &snapshot.ledger {
        names.extend(view.segments.keys().map(String::as_str));
    }
    names.extend(expect.map(Expect::segment));
    let mut segments = Vec::new();
    for name in names {
        let expected = expect.is_some_and(|expect| expect.segment() == name);
        let kept = positions.get(name).map_or(&[][..], Vec::as_slice);
        let listed = snapshot.ledger.as_ref().and_then(|view| view.segments.get(name));
        let live = snapshot.files.get(name).copied().unwrap_or(false);
        segments.push(segment(&folder, name, listed, live, (expected, kept))?);
    }
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

/// Ledger, files and locks at one moment: while the ledger is locked, no segment starts or ends.
struct Snapshot {
    ledger: Option<LedgerState>,
    /// Files, and whether a process holds them.
    files: BTreeMap<String, bool>,
}

impl Snapshot {
    fn take(folder: &Folder) -> Result<Self, AuditError> {
        // In this order, because the first process creates the ledger before its segment: a segment
        // listed here has a ledger.
        let unlocked = folder.segments()?;
        let file = folder.read(LEDGER)?;
        let names = match &file {
            Some(file) => {
                folder.lock_ledger(file, false)?;
                folder.segments()?
            }
            None => unlocked,
        };
        let ledger = file.as_ref().map(|file| LedgerState::read(file, folder)).transpose()?;
        let ended = |name: &str| {
            ledger.as_ref().and_then(|view| view.segments.get(name)).is_some_and(|listed| listed.ending.is_some())
        };
        let live = |name: &str| is_segment(name) && !ended(name) && folder.is_live(name);
        let files = names.into_iter().map(|name| {
            let live = live(&name);
            (name, live)
        });
        let files = files.collect();
        Ok(Self { ledger, files })
    }
}

fn segment(
    folder: &Folder,
    name: &str,
    listed: Option<&LedgerSegment>,
    live: bool,
    (expected, kept): (bool, &[(u64, blake3::Hash)]),
) -> Result<SegmentReport, AuditError> {
    let report = |verdict, events, head| SegmentReport { segment: name.to_owned(), verdict, events, head };
    let Some(file) = folder.read(&file_name(name))? else {
        // The name of a segment that was never announced may belong to a link or a directory.
        let verdict = if listed.is_none() && !expected { Verdict::Unlisted } else { Verdict::Missing };
        return Ok(report(verdict, 0, None));
    };
    let ending = listed.and_then(|listed| listed.ending);
    let expected = Expected {
        genesis: listed.map(|listed| listed.genesis),
        closing: ending.map(|ending| (ending.count, ending.head)),
        kept,
    };
    let scan = scan(&file, expected)
        .map_err(|error| AuditError::io("read the audit segment", &folder.path_of(&file_name(name)), error))?;
    let verdict = match (listed, ending) {
        (None, _) => unlisted(name, &scan),
        (Some(_), None) => open(&scan, live),
        (Some(_), Some(ending)) => ended(&scan, &ending),
    };
    let verdict = verdict.max(against(&scan, kept));
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
fn open(scan: &Scan, live: bool) -> Verdict {
    match (scan.altered, live, scan.tail) {
        (Some(line), ..) => Verdict::Altered { line },
        // Bytes after the last newline are being written.
        (None, true, _) => Verdict::Live,
        (None, false, Some(_)) => Verdict::TornLastLine,
        (None, false, None) => Verdict::Recovered,
    }
}

/// Returns the verdict on a segment whose count and head the ledger records.
fn ended(scan: &Scan, ending: &Ending) -> Verdict {
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
