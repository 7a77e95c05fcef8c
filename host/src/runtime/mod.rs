//! The sandbox: engine, component loading, linking, limits, the guest-facing interfaces, and output.
//!
//! Only this module knows wasmtime, and it does not know the vault: a run's way to secrets is the broker.

pub mod compile;
pub mod component;
pub mod engine;
pub mod imports;
mod observer;
pub mod store;

pub use compile::{ChildCompiler, Compile, CompileError};
pub use component::{Candidate, LoadError, Loaded, Loader};
pub use engine::{EngineError, EngineOptions, Ticker, engine};
pub use observer::{Observer, Silent, Stream};
pub use store::{CodeStore, StoreError};
