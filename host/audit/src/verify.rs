//! Verifies a trail: every segment against its chain and the ledger, and the ledger against its own chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::AuditError;
use super::folder::{Folder, LEDGER, file_name, is_segment};
use super::ledger::{Ending, Listed, View};
use super::report::{Expect, Report, SegmentReport, Verdict};
use super::scan::{Known, Scan, scan};

/// Reads a whole trail, in memory bounded by the number of segments, and says what became of each part of it. Changes nothing,
/// and may run while other processes write.
///
/// # Errors
/// [`AuditError::Absent`] where there is no audit, [`AuditError::Newer`] where a newer program wrote it, [`AuditError::Busy`]
/// where a process holds the ledger and hangs, [`AuditError::Io`] where something cannot be read. What was altered is no
/// error but a verdict.
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

/// The same, and the trail has to agree with positions that were kept beside it, such as those of run records: a segment that was written anew as a
/// whole does not. One whose segment neither the folder nor the ledger knows says nothing: a trail may have been moved aside.
///
/// Positions that are taken while others write have to be taken before this is called.
///
/// # Errors
/// As [`verify`].
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
        Some(View { altered: Some(line), .. }) => Verdict::LedgerAltered { line: *line },
        Some(View { torn: true, .. }) => Verdict::TornLastLine,
        Some(View { mended: true, .. }) => Verdict::Recovered,
        Some(_) => Verdict::Intact,
    };
    Ok(Report { ledger, segments })
}

/// What the ledger, the folder and the locks say at one moment: while the ledger is locked no segment begins or ends.
struct Snapshot {
    ledger: Option<View>,
    /// The files, and whether a process holds them.
    files: BTreeMap<String, bool>,
}

impl Snapshot {
    fn take(folder: &Folder) -> Result<Self, AuditError> {
        // In this order: the first process of all makes the ledger before its segment, so a segment seen now has its ledger.
        let unlocked = folder.segments()?;
        let file = folder.read(LEDGER)?;
        let names = match &file {
            Some(file) => {
                folder.lock_ledger(file, false)?;
                folder.segments()?
            }
            None => unlocked,
        };
        let ledger = file.as_ref().map(|file| View::read(file, folder)).transpose()?;
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
    listed: Option<&Listed>,
    live: bool,
    (expected, kept): (bool, &[(u64, blake3::Hash)]),
) -> Result<SegmentReport, AuditError> {
    let report = |verdict, events, head| SegmentReport { segment: name.to_owned(), verdict, events, head };
    let Some(file) = folder.read(&file_name(name))? else {
        // Under a name that nobody announced there may stand a link or a folder.
        let verdict = if listed.is_none() && !expected { Verdict::Unlisted } else { Verdict::Missing };
        return Ok(report(verdict, 0, None));
    };
    let ending = listed.and_then(|listed| listed.ending);
    let known = Known {
        genesis: listed.map(|listed| listed.genesis),
        closing: ending.map(|ending| (ending.count, ending.head)),
        kept,
    };
    let scan = scan(&file, known)
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

/// An empty file is what a process leaves that dies before it has announced its segment; anything more was announced once.
fn unlisted(name: &str, scan: &Scan) -> Verdict {
    let empty = scan.lines == 0 && scan.altered.is_none() && scan.tail.is_none();
    if empty && is_segment(name) { Verdict::Recovered } else { Verdict::Unlisted }
}

/// A segment that the ledger knows to have begun and no more.
fn open(scan: &Scan, live: bool) -> Verdict {
    match (scan.altered, live, scan.tail) {
        (Some(line), ..) => Verdict::Altered { line },
        // What is behind the last newline is being written.
        (None, true, _) => Verdict::Live,
        (None, false, Some(_)) => Verdict::TornLastLine,
        (None, false, None) => Verdict::Recovered,
    }
}

/// A segment whose count and head the ledger knows.
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

/// What positions that were kept elsewhere say about a segment.
fn against(scan: &Scan, kept: &[(u64, blake3::Hash)]) -> Verdict {
    match scan.differs {
        Some(line) => Verdict::Altered { line },
        // Lines behind an altered one were not looked at, and that is a verdict already.
        None if scan.altered.is_some() => Verdict::Intact,
        None if kept.last().is_some_and(|(count, _)| *count > scan.lines) => Verdict::Truncated,
        None => Verdict::Intact,
    }
}
