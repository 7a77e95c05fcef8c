//! Each documented behaviour of the services, over the wire, in one short test.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod access;
mod authority;
mod binary;
mod control;
mod faults;
mod metadata;
mod secrets;
mod support;
