//! The audit's readers: any bytes as a ledger and as a segment are verified and shown without a panic, and are never called intact.

use arbitrary::{Arbitrary as _, Unstructured};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use strongroom::audit::{Verdict, read, verify};

const SEGMENT: &str = "01J0000000000000000000000A";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| super::shared::scratch().keep());

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(data) = <(u16, &[u8])>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (split, bytes) = data;
    let (ledger, segment) = bytes.split_at(usize::from(split).min(bytes.len()));
    fs::write(FOLDER.join("ledger.jsonl"), ledger).expect("a file");
    fs::write(FOLDER.join(format!("{SEGMENT}.jsonl")), segment).expect("a file");
    // Of a newer format, and nothing else, is an error.
    if let Ok(report) = verify(&FOLDER, None) {
        assert_ne!(report.overall(), Verdict::Intact, "hashes that nobody computed cannot fit");
    }
    for item in read(&FOLDER).expect("the folder is there") {
        let item = item.expect("a file that is there can be read");
        assert!(item.line > 0);
    }
}
