//! Why a runner cannot be created, or a run cannot start.

use std::path::PathBuf;

use strongroom_runtime::{EngineError, LoadError, ResolveError};

use super::DirectoryError;
use crate::runs::RunStoreError;

/// Why a runner cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The engine cannot be created.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The compiled-code cache cannot be used.
    #[error(transparent)]
    Code(#[from] strongroom_runtime::StoreError),
    /// The interfaces cannot be linked.
    #[error("the sandbox's interfaces cannot be linked: {0}")]
    Linker(String),
}

/// Why a run did not start. Nothing was created or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The maximum number of runs is already alive.
    #[error("the host is busy: as many runs are alive as it has room for; try again later")]
    Busy,
    /// The component cannot be read, or the file is not a component.
    #[error(transparent)]
    Component(#[from] LoadError),
    /// The component is not valid, or needs something that this host does not support.
    #[error("the component `{}` {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The compiler's message, escaped and bounded.
        why: String,
    },
    /// The policy is for another component.
    #[error(transparent)]
    Pin(#[from] strongroom_policy::PinMismatch),
    /// The policy exceeds the host's ceilings.
    #[error(transparent)]
    Ceiling(#[from] strongroom_policy::PolicyError),
    /// The directories cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The policy's `tcp` cannot be used.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The record cannot be written.
    #[error("could not start the run without its record")]
    Record(#[from] RunStoreError),
}

impl StartError {
    /// Returns whether the host is at fault (exit code 5) and not its input (exit code 2).
    pub fn is_host_fault(&self) -> bool {
        match self {
            Self::Record(_) | Self::Busy => true,
            Self::Component(error) => error.is_host_fault(),
            Self::Invalid { .. } | Self::Pin(_) | Self::Ceiling(_) | Self::Directory(_) | Self::Resolve(_) => false,
        }
    }
}
