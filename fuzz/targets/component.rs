//! See `check`, which the tests of the host put each seed through as well. The file of the sandbox that reads imports is compiled in here by
//! itself, without the engine.
#![no_main]
#![allow(dead_code, reason = "a part of another crate")]

#[path = "../../host/src/runtime"]
mod runtime {
    #[rustfmt::skip]
    pub(crate) mod imports;

    mod component {
        pub(super) mod text;
    }
}

#[path = "../checks/component.rs"]
mod check;

use runtime::imports;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
