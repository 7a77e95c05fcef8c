//! The wasmtime configuration, shared by the host and the process that compiles.
//!
//! Everything that affects machine code (features, memory layout, epoch checks) is set in one
//! place, `base`, so that code compiled in a child process loads in the host. A test compares the
//! compatibility hashes. The allocation strategy is added on top and does not change the code.

mod hash;
mod ticker;

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, RegallocAlgorithm, WasmBacktraceDetails,
    WasmFeatures,
};

use super::{compile, error_text, features};
pub use hash::EngineHash;
pub use ticker::{Running, TICK, Ticker};

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
        // The engine unwinds by frame pointers. Tables for other unwinders, and offsets within
        // functions, would be a part of the code that every run hashes and maps.
        .native_unwind_info(false)
        .generate_address_map(false)
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
    fn default_options_allocate_from_a_pool() {
        assert_eq!(engine_and_allocation(&EngineOptions::default()).unwrap().1, Allocation::Pool);
    }

    #[test]
    fn engine_without_address_space_allocates_on_demand() {
        // 4 GiB each for 100,000 runs is more than a process can address.
        let (_, allocation) = engine_and_allocation(&EngineOptions { max_runs: 100_000, pooling: true }).unwrap();
        assert_eq!(allocation, Allocation::OnDemand);
    }
}
