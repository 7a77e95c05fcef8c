//! What the other crates of strongroom share: names, digests, secret values, run specifications and run records.
//!
//! Everything here is pure: no input or output, and no clock.

#![warn(missing_debug_implementations)]

pub mod escape;
pub mod ids;
pub mod record;
pub mod secret;
pub mod spec;
