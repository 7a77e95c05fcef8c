//! See `check`, which the tests of the host put each seed through as well.
#![no_main]

#[path = "../checks/record.rs"]
mod check;

use strongroom_fuzz as shared;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
