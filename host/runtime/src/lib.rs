//! The sandbox: engine, component loading, linking, limits, the guest-facing interfaces, and output.
//!
//! Only this module knows wasmtime, and it does not know the vault: a run's way to secrets is the broker.
//!
//! The [`Runner`](crate::runner::Runner) is all that most hosts need of it. One with a WebAssembly world of its own puts these together, as the example
//! `own_world` does: [`engine()`] and a [`Ticker`] once for a process; a linker with [`add_to_linker`] or [`add_secrets_to_linker`]; and for each run a
//! state with a [`Training`] and an [`Output`], a store under [`contain`], and its calls in a [`Guard`].

pub mod compile;
pub mod component;
mod context;
pub mod engine;
mod error_text;
mod execute;
mod features;
mod file_streams;
mod files;
mod guard;
pub mod imports;
mod limits;
mod linker;
mod network;
mod observer;
mod output;
mod preopens;
mod quota;
#[cfg(test)]
mod session_for_tests;
mod state;
mod stop;
pub mod store;
mod text;
mod training;

pub use compile::{ChildCompiler, Compile, CompileError};
pub use component::{Candidate, LoadError, Loaded, Loader};
pub use context::{MESSAGE_MAX, METRIC_NAME_MAX};
pub use engine::{EngineError, EngineOptions, Ticker, engine};
pub use guard::{Guard, contain};
pub use limits::{HOST_CALL_BYTES_MAX, INSTANCES_MAX, RESOURCES_MAX, TABLE_ELEMENTS_MAX};
pub use network::{Reachable, ResolveError};
pub use observer::{Observer, Silent, Stream};
pub use output::{GuestStream, Handover, Output};
pub use stop::Stop;
pub use store::{CodeStore, StoreError};
pub use training::{Training, TrainingView, add_secrets_to_linker, add_to_linker};
// The engine's types stand in this module's interface: whoever uses it needs the same version.
pub use {wasmtime, wasmtime_wasi};

pub use execute::{Account, Execution, Executor};
pub use output::Recorder;
pub use wasmtime::Engine;
