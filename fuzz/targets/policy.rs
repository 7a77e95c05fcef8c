//! Fuzz target: see `check`. `tests/seeds.rs` runs the seeds through the same check.
#![no_main]

#[path = "../checks/policy.rs"]
mod check;

use strongroom_fuzz::host;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
