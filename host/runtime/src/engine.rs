//! The wasmtime configuration, shared by the host and the process that compiles, and the ticker
//! that interrupts endless loops.
//!
//! Everything that affects machine code (features, memory layout, epoch checks) is set in one
//! place, `base`, so that code compiled in a child process loads in the host. A test compares the
//! compatibility hashes. The allocation strategy is added on top and does not change the code.

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

/// The stack size for a component's own calls, in bytes. Deeper recursion is a trap. An interpreter
/// needs more than the engine's default of 512 KiB.
pub const WASM_STACK: usize = 1024 * 1024;

/// The whole stack of a run, in bytes. The part beyond [`WASM_STACK`] is for host functions.
pub const RUN_STACK: usize = 2 * 1024 * 1024;

/// The address space of one linear memory, in bytes. It covers all 32-bit addresses, so that no
/// access needs a bounds check. It is only reserved; the limiter decides how much a run may use.
pub const MEMORY_RESERVATION: u64 = 4 * 1024 * 1024 * 1024;

/// The unmapped address space behind each linear memory, in bytes, which catches offsets past its
/// end.
pub const MEMORY_GUARD: u64 = 32 * 1024 * 1024;

/// The default number of runs in the pool; see [`EngineOptions::max_runs`]. Each slot costs address
/// space when the engine is created, and memory only while a run uses it.
pub const MAX_RUNS: u32 = 1_000;

/// The maximum of core instances in one component. A packed Python interpreter has 16.
pub const CORE_INSTANCES: u32 = 64;

/// The maximum of linear memories in one component. Only a composed component has more than one.
pub const MEMORIES: u32 = 4;

/// The maximum of tables in one component.
pub const TABLES: u32 = 32;

/// The maximum of elements in a table. A packed Python interpreter has 5,808.
pub const TABLE_ELEMENTS: usize = 100_000;

/// The maximum of linear memories in the pool, for any number of runs: 64 TiB of the 128 TiB of
/// address space of a process. If [`MEMORIES`] for each run would be more, the runs share them.
const MEMORIES_TOTAL: u32 = 16_384;

/// The maximum size of the bookkeeping of one core instance, and of one component with all its core
/// instances, in bytes.
const CORE_INSTANCE_SIZE: usize = 2 * 1024 * 1024;
const COMPONENT_INSTANCE_SIZE: usize = 4 * 1024 * 1024;

/// How many of a component's calls a trap's message names, innermost first.
const BACKTRACE_FRAMES: usize = 20;

/// How often the epoch advances while a run is alive. A run that exceeds its time ends within
/// slightly more than this.
pub const TICK: Duration = Duration::from_millis(10);

/// Options of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How many runs may be alive at once if the pool is available. Another run fails with an error
    /// that the host is busy.
    pub max_runs: u32,
    /// Whether to allocate instances from a preallocated pool. The pool is faster, and it bounds
    /// what a run can take. If there is not enough address space for it, the engine allocates on
    /// demand.
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
    /// One by one, because the options ask for it or because there is not enough address space for
    /// the pool.
    OnDemand,
}

/// Why an engine could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// wasmtime rejects the configuration or the machine.
    #[error("the sandbox engine cannot be made: {0}")]
    Wasmtime(String),
    /// The thread that advances the epoch cannot be started. Nothing runs without it.
    #[error(
        "the thread that keeps the sandbox's time cannot be started: {0}; raise the limit on processes and threads"
    )]
    Ticker(std::io::Error),
}

/// Creates the engine of a host process.
///
/// # Errors
/// [`EngineError::Wasmtime`] if this processor or system cannot run wasmtime.
pub fn engine(options: &EngineOptions) -> Result<Engine, EngineError> {
    engine_and_allocation(options).map(|(engine, _)| engine)
}

/// Creates the engine of a host process and returns how it allocates.
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

/// Creates the engine of the process that compiles. It generates the same code and runs nothing.
pub(super) fn compiling_engine() -> Result<Engine, EngineError> {
    engine(&EngineOptions { pooling: false, max_runs: 0 })
}

/// Returns the settings that the host and the compiling process share.
fn base() -> Config {
    let mut config = Config::new();
    config
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(features::enabled(), true)
        // Only WASI 0.3 uses this. Without it, calls to imports are a third faster.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(RUN_STACK)
        // Host functions handle secrets on these stacks, and the next run reuses the memory.
        .async_stack_zeroing(true)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .relaxed_simd_deterministic(true)
        // Traps name functions. Debug information is off: the component supplies it, and the host
        // would have to parse it.
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

/// A hash of everything that compiled code depends on besides the component: processor features,
/// engine version and settings.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineHash([u8; 32]);

impl EngineHash {
    /// Returns the hash of an engine. Code that was compiled under an equal hash loads in it.
    pub fn of(engine: &Engine) -> Self {
        let mut hasher = Blake3(blake3::Hasher::new_derive_key("strongroom 2026 engine compatibility"));
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EngineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A hasher that keeps its whole input. The standard hashers keep 64 bits and are not stable across
/// releases.
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

/// Advances the engine's epoch every [`TICK`] while at least one run is alive, so that guest code
/// returns control to the host.
///
/// It uses a dedicated thread, because an executor whose threads are all busy with guests could not
/// keep time. The thread sleeps while nothing runs. It goes to sleep one [`TICK`] after the last
/// run ends, so that a run that follows immediately need not wake it. The thread ends when the last
/// clone and the last [`Running`] are dropped.
#[derive(Clone)]
pub struct Ticker(Arc<Clock>);

/// Marks a run as alive. The epoch advances until this is dropped.
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
    /// Whether the thread waits to be woken because no run is alive.
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
    /// [`EngineError::Ticker`] if the system cannot start another thread.
    pub fn new(engine: &Engine) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let thread = std::thread::Builder::new().name("sandbox-time".to_owned()).spawn({
            let (shared, engine) = (Arc::clone(&shared), engine.clone());
            move || shared.tick(|| engine.increment_epoch())
        });
        let thread = Some(thread.map_err(EngineError::Ticker)?);
        Ok(Self(Arc::new(Clock { shared, thread })))
    }

    /// Keeps the epoch advancing until the returned value is dropped.
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
    // Ignoring poisoning is sound: no code that holds the lock can panic.
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
        // 4 GiB each for 100,000 runs is more than a process can address.
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
        // The first may have been due already; the next ones come because a run is alive.
        (0..3).for_each(|_| seen.recv().unwrap());
        drop(second);
        // The loop ends only when the thread has dropped the sender.
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
