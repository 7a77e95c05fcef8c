//! strongroom runs *training components* (WebAssembly components that somebody else wrote and nobody trusts) and lets them use secrets of a
//! vault under a policy written for one run.
//!
//! The way in is [`runner::Runner`]: it takes a [`spec::RunSpec`] and a [`policy::Policy`] and answers with a
//! [`record::RunRecord`]. A host with a WebAssembly world of its own adds the guest contract to its own linker with
//! [`runtime::add_to_linker`].
//!
//! # Rooms
//! From the bottom up; a room uses lower rooms only. `ARCHITECTURE.md` has the whole picture.
//!
//! | room | holds |
//! |---|---|
//! | [`ids`] [`secret`] [`redact`] | parsed names and digests; the zeroizing secret; the streaming redactor |
//! | [`policy`] [`spec`] [`record`] | parse and decide; what a run is; what became of it. Pure |
//! | [`audit`] [`vault`] [`runs`] | the trail; the vaults; the store of run records |
//! | [`broker`] | the choke point: every use of a secret is decided and audited there |
//! | [`runtime`] | the sandbox; the only room that knows wasmtime |
//! | [`runner`] | one run from its specification to its record |
//! | [`config`] [`cli`] | the front door; the only reader of the environment is `config` |
//!
//! # Features
//! `cli` (default) brings the command line and what only it needs; `runtime` the sandbox. Without either, the library is policy, vault,
//! broker and audit.

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
