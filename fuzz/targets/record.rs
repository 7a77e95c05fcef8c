//! Fuzz target: see `check`. `tests/seeds.rs` runs the seeds through the same check.
#![no_main]
#![allow(dead_code, unused_imports, reason = "a part of another crate")]

// Included by path, because the crate depends on the engine.
#[rustfmt::skip]
#[path = "../../host/strongroom/src/runs/mod.rs"]
mod runs;

#[path = "../checks/record.rs"]
mod check;

use strongroom_fuzz::{edits, host};

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
