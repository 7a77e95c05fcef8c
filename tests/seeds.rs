//! Replays the fuzzers' seeds, including inputs that once broke something, through the fuzzers'
//! checks.
//!
//! `make fuzz` generates new inputs: `docs/fuzzing.md`.

#[path = "../fuzz/checks/audit_bytes.rs"]
mod audit_bytes;
#[path = "../fuzz/checks/audit_edits.rs"]
mod audit_edits;
#[path = "../fuzz/checks/component.rs"]
mod component;
#[allow(unreachable_pub, reason = "a part of another crate")]
#[path = "../fuzz/src/edits.rs"]
mod edits;
#[path = "../fuzz/checks/errors.rs"]
mod errors;
#[path = "../fuzz/checks/policy.rs"]
mod policy;
#[path = "../fuzz/checks/record.rs"]
mod record;
#[path = "../fuzz/checks/redactor.rs"]
mod redactor;
#[path = "../fuzz/checks/vault.rs"]
mod vault;

use std::panic::catch_unwind;

// The checks use these names of their parent module.
use strongroom as host;
use strongroom::runs;
use strongroom::runtime::imports;

use crate::support::random::Random;
use crate::support::{files_below, isolated, project};

#[test]
fn each_seed_passes_its_fuzzers_check() {
    // In a process of its own, because the checks leave folders behind.
    let scratch = tempfile::tempdir().unwrap();
    isolated::assert_passes_in(scratch.path(), "seeds::seeds_replayed_in_this_process");
}

// attack: resources: fail in a host import, below functions with hostile names -> errors are
// formatted within bounds and never demangled
#[test]
fn component_that_fails_in_any_host_import_has_a_bounded_error() {
    let mut random = Random::for_this_test();
    for import in 0..errors::IMPORTS.len() {
        for _ in 0..3 {
            let mut input = vec![u8::try_from(import).unwrap()];
            // Mostly numbers at the edge of the memory, and then names.
            input.extend((0..12).map(|_| u8::try_from(random.below(8)).unwrap()));
            input.extend((0..400).map(|_| random.next() as u8));
            errors::check(&input);
        }
    }
}

/// Panics if the input violates an assertion.
type Check = fn(&[u8]);

#[test]
#[ignore = "leaves folders behind: `each_seed_passes_its_fuzzers_check` runs it in a process of its own"]
fn seeds_replayed_in_this_process() {
    let checks: [(&str, Check); 8] = [
        ("audit-bytes", audit_bytes::check),
        ("audit-edits", audit_edits::check),
        ("component", component::check),
        ("errors", errors::check),
        ("policy", policy::check),
        ("record", record::check),
        ("redactor", redactor::check),
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
