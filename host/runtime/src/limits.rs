//! Limits on memory, tables and instances of a run. The engine calls the limiter before each
//! growth.

use wasmtime::ResourceLimiter;

use super::stop::StopCell;
use strongroom_core::record::Limit;

/// The maximum of elements in one table, which is the pool's capacity.
pub const TABLE_ELEMENTS_MAX: usize = super::engine::TABLE_ELEMENTS;

/// The maximum of core instances per run, which is the pool's capacity. Without a pool, it bounds
/// memories and tables too.
pub const INSTANCES_MAX: usize = super::engine::CORE_INSTANCES as usize;

/// The maximum of resources that a component may hold at once: open files, streams, sockets,
/// timers. It bounds the host's descriptors, because sockets and files are descriptors.
pub const RESOURCES_MAX: usize = 1_000;

/// The maximum size of one host call's arguments, in bytes.
pub const HOST_CALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The limiter of one run. Memory is the total over all linear memories of the run.
pub(super) struct Limiter {
    memory_max: u64,
    memory: u64,
    peak: u64,
    last_growth: u64,
    stop: StopCell,
}

impl Limiter {
    /// Returns a limiter that allows `memory_max` bytes of linear memory in total.
    pub(super) fn new(memory_max: u64, stop: StopCell) -> Self {
        Self { memory_max, memory: 0, peak: 0, last_growth: 0, stop }
    }

    /// Returns the peak total size of the linear memories, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The component's own declared maximum: WebAssembly makes growth beyond it fail, so it
            // is not a limit of the run.
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
        // The component's own maximum is below ours. If the component declares none, the engine
        // passes the pool's capacity.
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
    fn failed_growth_is_credited_back() {
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
