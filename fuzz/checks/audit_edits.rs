//! An edited audit log is never `intact` if an event changed. A position that was stored elsewhere
//! reveals every change before it, whatever happens to the ledger.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::edits::{edits, files, scratch};
use super::host::audit::{Audit, Event, Expect, Kind, SyncMode, Verdict, read, verify};

struct Log {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// The last position of each segment.
    positions: Vec<Expect>,
}

/// Two closed segments and their ledger.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let folder = scratch().keep();
    let mut positions = Vec::new();
    for _ in 0..2 {
        let audit = Audit::open(&folder, SyncMode::Os).expect("an audit log");
        for count in 0..4 {
            let mut event = Event::default();
            (event.event, event.count) = (Kind::Use, Some(count));
            audit.append_blocking(event).expect("an event");
        }
        audit.close().expect("closed");
        positions.push(Expect::try_from(&audit.position()).expect("a position"));
    }
    let report = verify(&folder, None).expect("a report");
    assert_eq!(report.overall(), Verdict::Intact);
    Log { files: files(&folder), folder, positions }
});

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let log = &*LOG;
    let mut contents: Vec<Vec<u8>> = log.files.iter().map(|(_, content)| content.clone()).collect();
    for (file, edit) in edits(data) {
        let file = usize::from(file) % contents.len();
        edit.apply(&mut contents[file]);
    }
    for ((path, _), content) in log.files.iter().zip(&contents) {
        fs::write(path, content).expect("a file");
    }
    let changed = |segment: &str| {
        let mut pairs = log.files.iter().zip(&contents);
        pairs.any(|((path, before), after)| path.ends_with(format!("{segment}.jsonl")) && before != after)
    };
    if let Ok(report) = verify(&log.folder, None) {
        for segment in &report.segments {
            if changed(&segment.segment) {
                assert_ne!(segment.verdict, Verdict::Intact, "{segment:?}");
                assert_ne!(report.overall(), Verdict::Intact);
            }
        }
    }
    for position in &log.positions {
        let Ok(report) = verify(&log.folder, Some(position)) else { continue };
        let own = report
            .segments
            .iter()
            .find(|segment| segment.segment == position.segment())
            .expect("a report on the segment");
        let (_, before) =
            log.files.iter().find(|(path, _)| path.ends_with(format!("{}.jsonl", position.segment()))).expect("a file");
        let (_, after) = log
            .files
            .iter()
            .zip(&contents)
            .find(|((path, _), _)| path.ends_with(format!("{}.jsonl", position.segment())))
            .expect("a file");
        // Lines inserted after the position do not change what is before it.
        if !after.starts_with(before) {
            assert!(own.verdict.is_tampering(), "{own:?}");
        }
    }
    read(&log.folder).expect("the folder exists").for_each(|item| drop(item.expect("the file is readable")));
}
