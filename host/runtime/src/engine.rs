//! The engine: one wasmtime configuration for the host and for the process that compiles, and the clock that ends endless loops.
//!
//! What decides about machine code (features, memory layout, epoch checks) is set in one place, `base`, so that code compiled in a child
//! process loads in the host; a test holds that against the compatibility hash. How instances are allocated is added on top and does not
//! change code.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, RegallocAlgorithm, WasmBacktraceDetails,
    WasmFeatures,
};

use super::{compile, error_text, features};

/// The stack that a component's own calls may use, in bytes. Deeper recursion is a trap. An interpreter needs more than the engine's
/// default of 512 KiB.
pub const WASM_STACK: usize = 1024 * 1024;

/// The whole stack of a run, in bytes: what is beyond [`WASM_STACK`] is for host functions.
pub const RUN_STACK: usize = 2 * 1024 * 1024;

/// The address space of one linear memory, in bytes: everything that 32 bits reach, so that no access needs a bounds check. It is
/// reserved, not used; how much a run may use is the limiter's.
pub const MEMORY_RESERVATION: u64 = 4 * 1024 * 1024 * 1024;

/// The unmapped address space behind each linear memory, in bytes, which catches offsets past its end.
pub const MEMORY_GUARD: u64 = 32 * 1024 * 1024;

/// How many runs the pool has room for, unless [`EngineOptions::max_runs`] says otherwise. Each costs address space when the engine is
/// made, and memory only while it is alive.
pub const MAX_RUNS: u32 = 1_000;

/// The most core instances of one component. A packed Python interpreter has 16.
pub const CORE_INSTANCES: u32 = 64;

/// The most linear memories of one component: more than one only where programs were composed.
pub const MEMORIES: u32 = 4;

/// The most tables of one component.
pub const TABLES: u32 = 32;

/// The most elements that a table may have. A packed Python interpreter has 5,808.
pub const TABLE_ELEMENTS: usize = 100_000;

/// The most linear memories alive at once, whatever the number of runs: 64 TiB of the 128 TiB of address space that a process has. With so
/// many runs that [`MEMORIES`] for each would be more, they share.
const MEMORIES_TOTAL: u32 = 16_384;

/// Bookkeeping of one core instance and of one component with all its core instances, in bytes, at most.
const CORE_INSTANCE_SIZE: usize = 2 * 1024 * 1024;
const COMPONENT_INSTANCE_SIZE: usize = 4 * 1024 * 1024;

/// How many of a component's calls a trap's message names, innermost first.
const BACKTRACE_FRAMES: usize = 20;

/// How often the epoch moves while a run is alive: a run past its time ends within this and a little.
pub const TICK: Duration = Duration::from_millis(10);

/// What an engine is for.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How many runs may be alive at once where the pool can be had; one more is told that the host is busy.
    pub max_runs: u32,
    /// Whether to allocate instances from a pool made beforehand: faster, and what a run can take is bounded. Where the address
    /// space for the pool cannot be had, the engine allocates on demand.
    pub pooling: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { max_runs: MAX_RUNS, pooling: true }
    }
}

/// How an engine allocates instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool.
    Pool,
    /// One by one, because that was asked for or because there is not enough address space for the pool.
    OnDemand,
}

/// There is no engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// wasmtime refuses the configuration or the machine.
    #[error("the sandbox engine cannot be made: {0}")]
    Wasmtime(String),
    /// The thread that ends endless loops cannot be started, and nothing runs without it.
    #[error(
        "the thread that keeps the sandbox's time cannot be started: {0}; raise the limit on processes and threads"
    )]
    Ticker(std::io::Error),
}

/// Makes the engine of a host process.
///
/// # Errors
/// [`EngineError::Wasmtime`], where this processor or system cannot run wasmtime.
pub fn engine(options: &EngineOptions) -> Result<Engine, EngineError> {
    engine_and_allocation(options).map(|(engine, _)| engine)
}

/// Makes the engine of a host process, and tells how it allocates.
///
/// # Errors
/// As [`engine`].
pub fn engine_and_allocation(options: &EngineOptions) -> Result<(Engine, Allocation), EngineError> {
    if options.pooling {
        let mut config = base();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options.max_runs)));
        match Engine::new(&config) {
            Ok(engine) => return Ok((engine, Allocation::Pool)),
            Err(error) => tracing::info!(%error, "no pool for the sandbox: instances are allocated one by one"),
        }
    }
    let engine = Engine::new(&base())
        .map_err(|error| EngineError::Wasmtime(error_text::format(&error, compile::MESSAGE_MAX)))?;
    Ok((engine, Allocation::OnDemand))
}

/// The engine of the process that compiles: it makes the same code and runs nothing.
pub(super) fn compiling_engine() -> Result<Engine, EngineError> {
    engine(&EngineOptions { pooling: false, max_runs: 0 })
}

/// Everything that the host and the compiling process have in common.
fn base() -> Config {
    let mut config = Config::new();
    config
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(features::enabled(), true)
        // Without WASI 0.3 nothing uses it, and calls to imports are a third faster.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(RUN_STACK)
        // Host functions handle secrets on these stacks, and the next run gets the same memory.
        .async_stack_zeroing(true)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .relaxed_simd_deterministic(true)
        // Function names in a trap's message; but debug information is the component's own and would be parsed here.
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking);
    config
}

fn pool(max_runs: u32) -> PoolingAllocationConfig {
    let runs = max_runs.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(runs)
        .total_stacks(runs)
        .total_core_instances(runs.saturating_mul(CORE_INSTANCES))
        .total_memories(runs.saturating_mul(MEMORIES).min(MEMORIES_TOTAL.max(runs)))
        .total_tables(runs.saturating_mul(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_core_instance_size(CORE_INSTANCE_SIZE)
        .max_component_instance_size(COMPONENT_INSTANCE_SIZE)
        .max_memory_size(usize::try_from(MEMORY_RESERVATION).unwrap_or(usize::MAX));
    pool
}

/// What compiled code depends on besides the component: processor features, engine version and settings.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineHash([u8; 32]);

impl EngineHash {
    /// The hash of an engine. Code compiled under an equal hash loads in it.
    pub fn of(engine: &Engine) -> Self {
        let mut hasher = Blake3(blake3::Hasher::new_derive_key("strongroom 2026 engine compatibility"));
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EngineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes everything that is hashed, where the standard hashers keep 64 bits and no promise over releases.
struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// Moves the engine's epoch every [`TICK`] while at least one run is alive, so that guest code comes back to the host.
///
/// A thread of its own: an executor whose threads are all busy with guests could not keep time. It sleeps while nothing runs, from the first
/// [`TICK`] without a run on: a run that follows another at once need not wake it. It has ended when the last clone and the last [`Running`] are gone.
#[derive(Clone)]
pub struct Ticker(Arc<Clock>);

/// A run is alive. The epoch moves until this is dropped.
pub struct Running(Arc<Clock>);

struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Nothing has run for a while, and the thread waits to be woken.
    asleep: bool,
    ended: bool,
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").field("running", &self.0.shared.lock().running).finish()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl Ticker {
    /// Starts the thread, asleep.
    ///
    /// # Errors
    /// [`EngineError::Ticker`] where there can be no more threads.
    pub fn new(engine: &Engine) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let thread = std::thread::Builder::new().name("sandbox-time".to_owned()).spawn({
            let (shared, engine) = (Arc::clone(&shared), engine.clone());
            move || shared.tick(|| engine.increment_epoch())
        });
        let thread = Some(thread.map_err(EngineError::Ticker)?);
        Ok(Self(Arc::new(Clock { shared, thread })))
    }

    /// Keeps the epoch moving until the answer is dropped.
    #[must_use = "the epoch stands still when this is dropped"]
    pub fn run(&self) -> Running {
        let mut state = self.0.shared.lock();
        state.running = state.running.saturating_add(1);
        let asleep = state.asleep;
        drop(state);
        if asleep {
            self.0.shared.changed.notify_all();
        }
        Running(Arc::clone(&self.0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.shared.lock();
        state.running = state.running.saturating_sub(1);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    // No code that holds the lock can panic, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, mut increment: impl FnMut()) {
        let mut state = self.lock();
        while !state.ended {
            state.asleep = state.running == 0;
            state = if state.asleep {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                increment();
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_does_not_change_code() {
        let pooled = engine_and_allocation(&EngineOptions { max_runs: 2, pooling: true }).unwrap();
        assert_eq!(pooled.1, Allocation::Pool);
        assert_eq!(EngineHash::of(&pooled.0), EngineHash::of(&compiling_engine().unwrap()));
        let other = Engine::new(base().memory_guard_size(0)).unwrap();
        assert_ne!(EngineHash::of(&pooled.0), EngineHash::of(&other), "what changes code changes the hash");
    }

    #[test]
    fn the_default_pool_can_be_had() {
        assert_eq!(engine_and_allocation(&EngineOptions::default()).unwrap().1, Allocation::Pool);
    }

    #[test]
    fn without_address_space_for_the_pool_instances_are_allocated_on_demand() {
        // 4 GiB each for 100,000 is more than a process can address.
        let (_, allocation) = engine_and_allocation(&EngineOptions { max_runs: 100_000, pooling: true }).unwrap();
        assert_eq!(allocation, Allocation::OnDemand);
    }

    #[test]
    fn the_epoch_moves_while_a_run_is_alive_and_the_thread_ends() {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (ticks, seen) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.tick(|| {
                    let _ = ticks.send(());
                });
            }
        });
        let ticker = Ticker(Arc::new(Clock { shared, thread: Some(thread) }));
        assert!(seen.try_recv().is_err(), "nothing runs");
        let (first, second) = (ticker.run(), ticker.run());
        drop((ticker, first));
        while seen.try_recv().is_ok() {}
        // One may have been under way; the next ones come because a run is alive.
        (0..3).for_each(|_| seen.recv().unwrap());
        drop(second);
        // Ends only when the thread has let go of the sending end.
        seen.iter().for_each(drop);
    }

    #[tokio::test]
    async fn an_endless_loop_comes_back_to_the_host() {
        let engine = compiling_engine().unwrap();
        let bytes = wat::parse_str(
            r#"(component
                (core module $m (func (export "f") (loop (br 0))))
                (core instance $i (instantiate $m))
                (func $train (canon lift (core func $i "f")))
                (export "train" (func $train)))"#,
        );
        let component = wasmtime::component::Component::from_binary(&engine, &bytes.unwrap()).unwrap();
        let linker = wasmtime::component::Linker::<()>::new(&engine);
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(2);
        let _running = Ticker::new(&engine).unwrap().run();
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        let train = instance.get_typed_func::<(), ()>(&mut store, "train").unwrap();
        let error = train.call_async(&mut store, ()).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&wasmtime::Trap::Interrupt));
    }
}
