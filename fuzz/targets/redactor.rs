//! See `check`, which the tests of the host put each seed through as well.
#![no_main]

#[path = "../checks/redactor.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
