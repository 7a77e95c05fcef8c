//! Types that the other crates of strongroom share: names, digests, secret values, run
//! specifications and run records.
//!
//! The crate does no I/O and reads no clock.

#![warn(missing_debug_implementations)]

pub mod escape;
pub mod ids;
pub mod record;
pub mod secret;
pub mod spec;
