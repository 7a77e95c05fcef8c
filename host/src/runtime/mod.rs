//! The sandbox: engine, component loading, linking, limits, the guest-facing interfaces, and output.
//!
//! Only this module knows wasmtime, and it does not know the vault: a run's way to secrets is the broker.

pub mod compile;
pub mod component;
mod context;
pub mod engine;
mod execute;
mod file_streams;
mod files;
pub mod imports;
mod limits;
mod linker;
mod network;
mod observer;
mod output;
mod quota;
mod state;
mod stop;
pub mod store;
mod training;

pub use compile::{ChildCompiler, Compile, CompileError};
pub use component::{Candidate, LoadError, Loaded, Loader};
pub use context::{Context, MESSAGE_MAX, METRIC_NAME_MAX};
pub use engine::{EngineError, EngineOptions, Ticker, engine};
pub use limits::{HOST_CALL_BYTES_MAX, INSTANCES_MAX, RESOURCES_MAX, TABLE_ELEMENTS_MAX};
pub use network::{Reachable, ResolveError};
pub use observer::{Observer, Silent, Stream};
pub use stop::{Stop, StopCell};
pub use store::{CodeStore, StoreError};
pub use training::{Training, TrainingView, add_to_linker};

pub(crate) use execute::{Account, Ended, Execution, Executor};
pub(crate) use output::{Handover, Recorder};
