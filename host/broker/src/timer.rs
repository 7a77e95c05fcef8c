//! Measures where a run's time goes: `RunRecord::timings`.
//!
//! The stages of a run follow each other: each lap adds the time since the one before to its stage.
//! The time that a run waits for the audit log and for the vault lies within a stage; it is counted
//! separately and subtracted from the stage around it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_core::record::Timings;

/// The timer of one run. Clones share it.
#[derive(Clone, Debug)]
pub struct Timer(Arc<Mutex<Laps>>);

#[derive(Debug)]
struct Laps {
    /// When the current stage began.
    last: Instant,
    /// The part of the current stage that was counted separately.
    separate: Duration,
    timings: Timings,
}

/// Selects a field of the timings.
type Stage = fn(&mut Timings) -> &mut u64;

impl Timer {
    /// Starts a timer.
    pub fn start() -> Self {
        let laps = Laps { last: Instant::now(), separate: Duration::ZERO, timings: Timings::default() };
        Self(Arc::new(Mutex::new(laps)))
    }

    /// Ends a stage.
    pub fn lap(&self, stage: Stage) {
        let mut laps = self.laps();
        let now = Instant::now();
        let separate = std::mem::take(&mut laps.separate);
        let took = now.duration_since(laps.last).saturating_sub(separate);
        laps.last = now;
        add(stage(&mut laps.timings), took);
    }

    /// Begins a stage now: the time since the last lap is not counted.
    pub fn resume(&self) {
        let mut laps = self.laps();
        laps.last = Instant::now();
        laps.separate = Duration::ZERO;
    }

    /// Waits for work within a stage, and counts its time separately.
    pub async fn separately<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = work.await;
        let took = started.elapsed();
        let mut laps = self.laps();
        laps.separate = laps.separate.saturating_add(took);
        add(stage(&mut laps.timings), took);
        result
    }

    /// Returns the times so far.
    pub fn timings(&self) -> Timings {
        self.laps().timings
    }

    // Ignoring poisoning is sound: every change is complete before the lock is released.
    fn laps(&self) -> MutexGuard<'_, Laps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(to: &mut u64, took: Duration) {
    *to = to.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn separate_time_is_not_counted_twice() {
        let started = Instant::now();
        let timer = Timer::start();
        timer.separately(|timings| &mut timings.audit, async { std::thread::sleep(Duration::from_millis(2)) }).await;
        timer.lap(|timings| &mut timings.guest);
        timer.lap(|timings| &mut timings.finish);
        let timings = timer.timings();
        assert!(timings.audit >= 2_000_000);
        let total: u64 = timings.stages().iter().map(|(_, nanos)| nanos).sum();
        assert!(u128::from(total) <= started.elapsed().as_nanos(), "{timings:?}");
    }

    #[test]
    fn paused_time_belongs_to_no_stage() {
        let timer = Timer::start();
        timer.lap(|timings| &mut timings.load);
        std::thread::sleep(Duration::from_millis(20));
        timer.resume();
        let resumed = Instant::now();
        timer.lap(|timings| &mut timings.start);
        assert!(u128::from(timer.timings().start) <= resumed.elapsed().as_nanos());
    }
}
