//! Fuzz target: see `check`. `tests/seeds.rs` runs the seeds through the same check.
#![no_main]
#![allow(dead_code, reason = "a part of another crate")]

// Included by path, because the crate depends on the engine.
#[path = "../../host/runtime/src"]
mod runtime {
    #[rustfmt::skip]
    pub(crate) mod imports;
    #[rustfmt::skip]
    mod text;
}

#[path = "../checks/component.rs"]
mod check;

use runtime::imports;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
