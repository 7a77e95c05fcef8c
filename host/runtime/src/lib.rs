//! The sandbox: engine, component loading, linking, limits, guest interfaces, and output.
//!
//! Only this crate depends on wasmtime. It does not depend on the vault: a run reads secrets
//! through the broker.
//!
//! Most hosts need only the `Runner` of the crate `strongroom`. A host with a WebAssembly world of
//! its own combines these parts, as the example `own_world` does: [`engine()`] and a [`Ticker`]
//! once per process; a linker with [`add_to_linker`] or [`add_secrets_to_linker`]; and for each run
//! a state with a [`Training`] and an [`Output`], a store under [`contain`], and its calls in a
//! [`Guard`].

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
mod metrics;
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
mod texts;
mod training;

pub use compile::{ChildCompiler, Compile, CompileError};
pub use component::{Candidate, LoadError, Loaded, Loader};
pub use context::{MESSAGE_MAX, METRIC_NAME_MAX, Reports, TEXT_MAX};
pub use engine::{EngineError, EngineOptions, Ticker, engine};
pub use guard::{Guard, contain};
pub use limits::{HOST_CALL_BYTES_MAX, INSTANCES_MAX, RESOURCES_MAX, TABLE_ELEMENTS_MAX};
pub use network::{Reachable, ResolveError};
pub use observer::{Observer, Silent, Stream};
pub use output::{GuestStream, Handover, Output};
pub use stop::Stop;
pub use store::{CodeStore, StoreError};
pub use training::{Training, TrainingView, add_secrets_to_linker, add_to_linker};
// The engine's types are part of this crate's interface, so callers need the same version.
pub use {wasmtime, wasmtime_wasi};

pub use execute::{Account, Execution, Executor};
pub use output::Recorder;
pub use wasmtime::Engine;
