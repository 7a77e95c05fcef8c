//! Stub.
mod event;
pub use event::{Decision, Event, Kind};
