//! Reading run records and their `.open` files does not panic. Cleaning up removes only
//! strongroom's own files. A record that was read is written unchanged.

use arbitrary::{Arbitrary as _, Unstructured};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::host::ids::RunId;
use super::host::record::RunRecord;
use super::runs::RunStore;

const ID: &str = "01J0000000000000000000000A";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| super::edits::scratch().keep());

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(data) = <(bool, &[u8])>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (is_note, bytes) = data;
    let runs = FOLDER.join("runs");
    let store = RunStore::open(&runs).expect("a folder");
    let kept = FOLDER.join("kept");
    fs::write(&kept, "kept").expect("a file");
    let ending = if is_note { "open" } else { "json" };
    fs::write(runs.join(format!("{ID}.{ending}")), bytes).expect("a file");
    let id = RunId::parse(ID).expect("a run ID");
    if let Ok(record) = store.get(&id) {
        let written = serde_json::to_vec(&record).expect("a record is JSON");
        let again: RunRecord = serde_json::from_slice(&written).expect("a written record can be read");
        assert_eq!(serde_json::to_vec(&again).expect("a record is JSON"), written);
    }
    let _ = store.list().expect("the folder is readable").count();
    let _ = store.find_by_prefix("last");
    let _ = store.mark_lost(|_| false);
    assert_eq!(fs::read(&kept).expect("the file still exists"), b"kept");
    let _ = fs::remove_file(runs.join(format!("{ID}.{ending}")));
}
