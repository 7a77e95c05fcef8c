//! Edits of a real trail: it is never called intact when an event changed; and a position that was kept shows every change before it, whatever
//! is done to the ledger.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::shared::{edits, files, scratch};
use strongroom::audit::{Audit, Event, Expect, Kind, SyncMode, Verdict, read, verify};

struct Trail {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// The last position of each segment.
    kept: Vec<Expect>,
}

/// Two segments that were closed, with a ledger.
static TRAIL: LazyLock<Trail> = LazyLock::new(|| {
    let folder = scratch().keep();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let audit = Audit::open(&folder, SyncMode::Os).expect("an audit");
        for count in 0..4 {
            let mut event = Event::default();
            (event.event, event.count) = (Kind::Use, Some(count));
            audit.append_blocking(event).expect("an event");
        }
        audit.close().expect("closed");
        kept.push(Expect::try_from(&audit.position()).expect("a position"));
    }
    let report = verify(&folder, None).expect("a report");
    assert_eq!(report.overall(), Verdict::Intact);
    Trail { files: files(&folder), folder, kept }
});

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let trail = &*TRAIL;
    let mut now: Vec<Vec<u8>> = trail.files.iter().map(|(_, content)| content.clone()).collect();
    for (file, edit) in edits(data) {
        let file = usize::from(file) % now.len();
        edit.make(&mut now[file]);
    }
    for ((path, _), content) in trail.files.iter().zip(&now) {
        fs::write(path, content).expect("a file");
    }
    let changed = |segment: &str| {
        let mut both = trail.files.iter().zip(&now);
        both.any(|((path, before), after)| path.ends_with(format!("{segment}.jsonl")) && before != after)
    };
    if let Ok(report) = verify(&trail.folder, None) {
        for segment in &report.segments {
            if changed(&segment.segment) {
                assert_ne!(segment.verdict, Verdict::Intact, "{segment:?}");
                assert_ne!(report.overall(), Verdict::Intact);
            }
        }
    }
    for kept in &trail.kept {
        let Ok(report) = verify(&trail.folder, Some(kept)) else { continue };
        let own = report.segments.iter().find(|segment| segment.segment == kept.segment()).expect("it is expected");
        let (_, before) =
            trail.files.iter().find(|(path, _)| path.ends_with(format!("{}.jsonl", kept.segment()))).expect("a file");
        let (_, after) = trail
            .files
            .iter()
            .zip(&now)
            .find(|((path, _), _)| path.ends_with(format!("{}.jsonl", kept.segment())))
            .expect("a file");
        // Lines that were put behind the position are no change before it.
        if !after.starts_with(before) {
            assert!(own.verdict.is_tampering(), "{own:?}");
        }
    }
    read(&trail.folder).expect("the folder is there").for_each(|item| drop(item.expect("it can be read")));
}
