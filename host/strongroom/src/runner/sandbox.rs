//! What a runner can be given ready-made.

use std::fmt;

use super::RunnerError;
use strongroom_runtime::{Engine, EngineOptions, Executor, engine};

/// The part of a [`Runner`](super::Runner) that depends on nothing but the machine: engine and linked interfaces. Making it takes a millisecond, which a process
/// that has other things to open first can let another thread spend.
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) executor: Executor,
    pub(super) max_runs: u32,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("max_runs", &self.max_runs).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Makes the engine, with room for so many runs at once, and links the interfaces. Opens nothing, and needs no tokio runtime.
    ///
    /// # Errors
    /// [`RunnerError::Engine`], [`RunnerError::Linker`].
    pub fn new(max_runs: u32) -> Result<Self, RunnerError> {
        let engine = engine(&EngineOptions { max_runs, ..EngineOptions::default() })?;
        let executor = Executor::new(engine.clone()).map_err(|error| RunnerError::Linker(format!("{error:#}")))?;
        Ok(Self { engine, executor, max_runs })
    }
}
