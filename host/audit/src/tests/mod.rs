//! Tests of the complete crate: writing, cutting files at every byte, and every edit that the
//! ledger must reveal.

mod cuts;
mod edits;
mod folders;
mod growth;
mod writing;

use std::fs;
use std::path::PathBuf;

use super::*;
use strongroom_core::ids::{RunId, SecretName};

/// A temporary audit directory.
struct TestLog {
    home: tempfile::TempDir,
}

impl TestLog {
    fn new() -> Self {
        // In memory if possible, because the tests close thousands of segments, each with a sync.
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { home }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("audit")
    }

    fn file(&self, segment: &str) -> PathBuf {
        self.dir().join(format!("{segment}.jsonl"))
    }

    fn ledger(&self) -> PathBuf {
        self.file("ledger")
    }

    fn open(&self) -> Audit {
        Audit::open(&self.dir(), SyncMode::Os).unwrap()
    }

    /// Writes and closes a segment, and returns its name.
    fn closed(&self, events: u64) -> String {
        let audit = self.open();
        fill(&audit, events);
        audit.close().unwrap();
        audit.segment().to_owned()
    }

    fn open_shared(&self) -> Audit {
        Audit::open_shared(&self.dir(), SyncMode::Os).unwrap()
    }

    /// Writes to a shared segment, and returns its name.
    fn shared(&self, events: u64) -> String {
        let audit = self.open_shared();
        fill(&audit, events);
        audit.close().unwrap();
        audit.segment().to_owned()
    }

    /// Writes a segment whose process dies, and returns its name.
    fn killed(&self, events: u64) -> String {
        let audit = self.open();
        fill(&audit, events);
        let segment = audit.segment().to_owned();
        audit.kill();
        segment
    }

    fn report(&self) -> Report {
        verify(&self.dir(), None).unwrap()
    }

    fn verdict(&self, segment: &str) -> Verdict {
        verdict_of(&self.report(), segment)
    }
}

fn verdict_of(report: &Report, segment: &str) -> Verdict {
    report.segments.iter().find(|found| found.segment == segment).map(|found| found.verdict).unwrap()
}

fn event(number: u64) -> Event {
    Event {
        event: Kind::Decision,
        run: Some(RunId::parse("01D39ZY06FGSCTVN4T2V9PKHFZ").unwrap()),
        operation: Some("get".into()),
        secret: Some(SecretName::parse("db-password").unwrap()),
        decision: Some(Decision::Allowed),
        rule: Some("\"db-*\"".into()),
        count: Some(number),
        ..Event::default()
    }
}

fn fill(audit: &Audit, events: u64) {
    for number in 0..events {
        audit.append_blocking(event(number)).unwrap();
    }
}

/// Returns the lines of a file, newlines included.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn with_log<T>(test: impl FnOnce(&TestLog) -> T) -> T {
    test(&TestLog::new())
}

#[test]
fn verdicts_are_ordered_and_described() {
    let all = [
        Verdict::Intact,
        Verdict::Live,
        Verdict::Recovered,
        Verdict::TornLastLine,
        Verdict::Unlisted,
        Verdict::Truncated,
        Verdict::Missing,
        Verdict::Altered { line: 7 },
        Verdict::LedgerAltered { line: 7 },
    ];
    assert!(all.is_sorted());
    let first_words: Vec<String> =
        all.iter().map(|verdict| verdict.to_string().split([':', ';']).next().unwrap().to_owned()).collect();
    assert_eq!(
        first_words,
        [
            "intact",
            "live",
            "recovered after a crash",
            "torn last line",
            "unlisted",
            "truncated",
            "missing",
            "altered at line 7",
            "ledger altered at line 7"
        ]
    );
    let tampering: Vec<bool> = all.iter().map(|verdict| verdict.is_tampering()).collect();
    assert_eq!(tampering, [false, false, false, false, true, true, true, true, true]);
}
