//! The fuzzers' seeds, and with them the inputs that once broke something: each goes through the check of its fuzzer at every run of the tests, with the
//! compiler as it is. Making up new ones is what `make fuzz` is for (`docs/fuzzing.md`).

#[path = "../fuzz/checks/component.rs"]
mod component;
#[path = "../fuzz/checks/policy.rs"]
mod policy;
#[path = "../fuzz/checks/record.rs"]
mod record;
#[path = "../fuzz/checks/redactor.rs"]
mod redactor;
#[allow(unreachable_pub, reason = "a crate of its own for the fuzzers")]
#[path = "../fuzz/src/lib.rs"]
mod shared;
#[path = "../fuzz/checks/trail_bytes.rs"]
mod trail_bytes;
#[path = "../fuzz/checks/trail_edits.rs"]
mod trail_edits;
#[path = "../fuzz/checks/vault.rs"]
mod vault;

use std::panic::catch_unwind;

use strongroom::runtime::imports;

use crate::support::{apart, files_below, project};

#[test]
fn every_seed_passes_the_check_of_its_fuzzer() {
    // Apart, because the checks leave folders behind.
    let scratch = tempfile::tempdir().unwrap();
    apart::passes_in(scratch.path(), "seeds::seeds_in_this_process");
}

/// Fails by panicking.
type Check = fn(&[u8]);

#[test]
#[ignore = "leaves folders behind: `every_seed_passes_the_check_of_its_fuzzer` runs it apart"]
fn seeds_in_this_process() {
    let checks: [(&str, Check); 7] = [
        ("component", component::check),
        ("policy", policy::check),
        ("record", record::check),
        ("redactor", redactor::check),
        ("trail-bytes", trail_bytes::check),
        ("trail-edits", trail_edits::check),
        ("vault", vault::check),
    ];
    let seeds = project().join("fuzz/seeds");
    let mut folders: Vec<_> = std::fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    folders.sort();
    assert_eq!(folders, checks.map(|(name, _)| name), "a fuzzer without seeds, or seeds without a fuzzer");
    for (name, check) in checks {
        let files = files_below(&seeds.join(name));
        assert!(!files.is_empty(), "{name}");
        for file in files {
            let input = std::fs::read(&file).unwrap();
            assert!(catch_unwind(|| check(&input)).is_ok(), "the seed {} breaks its check", file.display());
        }
    }
}
