//! What a run may take of the machine: memory, tables, instances. The engine asks before each growth.

use wasmtime::ResourceLimiter;

use super::stop::StopCell;
use strongroom_core::record::Limit;

/// The most elements of one table: what the pool has room for.
pub const TABLE_ELEMENTS_MAX: usize = super::engine::TABLE_ELEMENTS;

/// The most core instances of one run, and of memories and tables where no pool bounds them further: what the pool has room for.
pub const INSTANCES_MAX: usize = super::engine::CORE_INSTANCES as usize;

/// The most resources that a component may hold at once: open files, streams, sockets, timers. Sockets and files are descriptors of the
/// host, so this is what bounds those.
pub const RESOURCES_MAX: usize = 1_000;

/// The most bytes that one host call may carry as arguments.
pub const HOST_CALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A run's limiter. Memory counts over all linear memories of the run together.
pub(super) struct Limiter {
    memory_max: u64,
    memory: u64,
    peak: u64,
    last_growth: u64,
    stop: StopCell,
}

impl Limiter {
    /// A limiter with `memory_max` bytes of linear memory in all.
    pub(super) fn new(memory_max: u64, stop: StopCell) -> Self {
        Self { memory_max, memory: 0, peak: 0, last_growth: 0, stop }
    }

    /// The largest sum of linear memories so far, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The component's own declared maximum: growing beyond it fails by the rules of WebAssembly and harms nobody.
            return Ok(false);
        }
        let growth = desired.saturating_sub(current) as u64;
        let total = self.memory.saturating_add(growth);
        if total > self.memory_max {
            return Err(self.stop.stop(Limit::Memory).into());
        }
        self.memory = total;
        self.last_growth = growth;
        self.peak = self.peak.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory = self.memory.saturating_sub(std::mem::take(&mut self.last_growth));
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A maximum of its own below ours; the engine passes what the pool has room for where the component states none.
        if maximum.is_some_and(|maximum| desired > maximum && maximum < TABLE_ELEMENTS_MAX) {
            return Ok(false);
        }
        if desired > TABLE_ELEMENTS_MAX {
            return Err(self.stop.stop(Limit::Tables).into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        INSTANCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together() {
        let stop = StopCell::default();
        let mut limiter = Limiter::new(100, stop.clone());
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert!(limiter.memory_growing(0, 60, None).is_err());
        assert_eq!(stop.limit(), Some(Limit::Memory));
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.peak(), 100);
    }

    #[test]
    fn a_failed_growth_is_given_back() {
        let mut limiter = Limiter::new(100, StopCell::default());
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn tables_are_bounded() {
        let stop = StopCell::default();
        let mut limiter = Limiter::new(0, stop.clone());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, Some(10)).unwrap());
        assert_eq!(stop.limit(), None);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, Some(TABLE_ELEMENTS_MAX)).is_err());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).is_err());
        assert_eq!(stop.limit(), Some(Limit::Tables));
    }
}
