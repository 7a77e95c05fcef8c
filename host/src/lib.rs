//! strongroom runs training components that nobody trusts and lets them use secrets of a vault under a policy written for one
//! run.

pub mod audit;
pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
pub mod ids;
pub mod policy;
pub mod record;
pub mod redact;
#[cfg(feature = "runtime")]
pub mod runner;
pub mod runs;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod secret;
pub mod spec;
pub mod vault;
