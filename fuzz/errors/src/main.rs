//! Fuzz target: see `check`. `tests/seeds.rs` runs the seeds through the same check.
#![no_main]

#[path = "../../checks/errors.rs"]
mod check;

use strongroom as host;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
