//! Verifying and reading arbitrary bytes as a ledger and a segment does not panic, and the result
//! is never `intact`.

use arbitrary::{Arbitrary as _, Unstructured};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::host::audit::{Verdict, read, verify};

const SEGMENT: &str = "01J0000000000000000000000A";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| super::edits::scratch().keep());

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(data) = <(u16, &[u8])>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (split, bytes) = data;
    let (ledger, segment) = bytes.split_at(usize::from(split).min(bytes.len()));
    fs::write(FOLDER.join("ledger.jsonl"), ledger).expect("a file");
    fs::write(FOLDER.join(format!("{SEGMENT}.jsonl")), segment).expect("a file");
    // Only a newer format is an error.
    if let Ok(report) = verify(&FOLDER, None) {
        assert_ne!(report.overall(), Verdict::Intact, "arbitrary hashes cannot match");
    }
    for item in read(&FOLDER).expect("the folder exists") {
        let item = item.expect("the file is readable");
        assert!(item.line > 0);
    }
}
