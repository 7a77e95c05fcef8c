//! Integration tests: honest and hostile guests in the real host, command-line transcripts, and
//! rules for the source.
//!
//! Each test has a home directory of its own. `support::guests` builds the guests once per test
//! process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

mod assurance;
mod azure;
mod compiler;
mod containment;
mod contract;
mod disk;
mod durability;
mod examples;
mod exhaustion;
mod features;
mod files;
mod generated;
mod growth;
mod kills;
mod leaks;
mod millions;
mod mutations;
mod network;
mod patch_levels;
mod postgres;
mod python;
mod read_once;
mod refusals;
mod seeds;
mod sharing;
mod soak;
mod source_rules;
mod toolchains;
mod transcripts;
