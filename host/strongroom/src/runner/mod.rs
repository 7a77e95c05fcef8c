//! Executes a run, from its specification to its record.
//!
//! Everything that can be checked is checked first, and an error at that stage leaves nothing
//! behind. Then the run starts with a run ID, a record, and a first audit event. From there every
//! path ends in a [`RunRecord`].

mod directories;
mod error;
mod log;
mod open_dir;
mod options;
mod outputs;
mod prepare;
mod run;
mod staging;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use directories::DirectoryError;
pub use error::{RunnerError, StartError};
pub use options::RunnerOptions;
pub use prepare::{Checks, PreparedRun};

use crate::runs::RunStore;
use strongroom_broker::Broker;
use strongroom_core::record::RunRecord;
use strongroom_core::spec::RunSpec;
use strongroom_policy::Policy;
use strongroom_runtime::{CodeStore, EngineOptions, Executor, LoadError, Loader, Observer, Ticker, engine};

/// Runs components. One runner serves a whole process: its runs share the engine, the compiled code
/// and the cache.
pub struct Runner {
    broker: Broker,
    loader: Loader,
    executor: Executor,
    ticker: Ticker,
    records: Option<Arc<RunStore>>,
    checks: Checks,
    temp: PathBuf,
    room: Arc<Semaphore>,
    timings: bool,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("broker", &self.broker).field("loader", &self.loader).finish_non_exhaustive()
    }
}

impl Runner {
    /// Creates the engine and everything that depends on it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RunnerError`].
    pub fn new(options: RunnerOptions) -> Result<Self, RunnerError> {
        let engine = engine(&EngineOptions { max_runs: options.max_runs, ..EngineOptions::default() })?;
        let executor = Executor::new(engine.clone()).map_err(|error| RunnerError::Linker(format!("{error:#}")))?;
        let store = options.code_store.as_deref().map(CodeStore::open).transpose()?;
        let ticker = Ticker::new(&engine)?;
        let loader = Loader::new(engine, options.compile, store);
        Ok(Self {
            broker: Broker::new(options.vault, options.audit, options.repeats),
            loader,
            executor,
            ticker,
            records: options.records,
            checks: options.checks,
            temp: options.temp,
            timings: options.timings,
            room: Arc::new(Semaphore::new((options.max_runs as usize).min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Checks a run without starting it: reads the component, checks it against the policy, and
    /// checks limits and directories. Creates nothing.
    ///
    /// # Errors
    /// [`StartError`], as [`Checks::prepare`].
    pub async fn prepare(&self, spec: RunSpec, policy: Arc<Policy>) -> Result<PreparedRun, StartError> {
        let (checks, component) = (self.checks.clone(), spec.component.clone());
        let preparing = tokio::task::spawn_blocking(move || checks.prepare(spec, policy));
        preparing.await.unwrap_or_else(|_panic| Err(LoadError::Interrupted { path: component }.into()))
    }

    /// Runs a component under a policy until it ends, is stopped at a limit, or `cancel` is ready.
    ///
    /// Dropping the returned future ends the run immediately. Its record stays at `running` until
    /// the next process marks it `lost`: use `cancel` for an orderly end.
    ///
    /// # Errors
    /// [`StartError`] if the run did not start. Once it has started, there is always a record.
    pub async fn run(
        &self,
        spec: RunSpec,
        policy: Arc<Policy>,
        observer: Arc<dyn Observer>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<RunRecord, StartError> {
        let room = self.admit()?;
        let prepared = self.prepare(spec, policy).await?;
        self.run_prepared(room, prepared, observer, cancel).await
    }

    /// Reserves a slot for one run.
    fn admit(&self) -> Result<SemaphorePermit<'_>, StartError> {
        self.room.try_acquire().map_err(|_| StartError::Busy)
    }
}
