//! Where a run's time goes, for who asks: `strongroom run --timings`.
//!
//! The stages of a run follow each other, and each takes the time since the one before. What the run waits for the audit and for secrets lies within
//! them; it is measured apart and is not counted in the stage around it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_core::record::Timings;

/// A meter of one run. By default it measures nothing, and looks at no clock.
#[derive(Clone, Debug, Default)]
pub struct Meter(Option<Arc<Mutex<Laps>>>);

#[derive(Debug)]
struct Laps {
    last: Instant,
    /// What was measured apart since then.
    apart: Duration,
    timings: Timings,
}

/// A stage of a run, or what is measured apart.
type Stage = fn(&mut Timings) -> &mut u64;

/// What a wait began with: the time, and how much of the audit's there had been. None where nothing is measured.
#[must_use]
pub struct Begun(Option<(Instant, u64)>);

impl Meter {
    /// A meter whose first stage begins now.
    pub fn started() -> Self {
        let laps = Laps { last: Instant::now(), apart: Duration::ZERO, timings: Timings::default() };
        Self(Some(Arc::new(Mutex::new(laps))))
    }

    /// Ends a stage.
    pub fn lap(&self, stage: Stage) {
        let Some(mut laps) = self.laps() else { return };
        let now = Instant::now();
        let apart = std::mem::take(&mut laps.apart);
        let took = now.duration_since(laps.last).saturating_sub(apart);
        laps.last = now;
        add(stage(&mut laps.timings), took);
    }

    /// Adds to a stage what it took before this meter began.
    pub fn add(&self, stage: Stage, took: Duration) {
        if let Some(mut laps) = self.laps() {
            add(stage(&mut laps.timings), took);
        }
    }

    /// Begins something that is measured apart.
    pub fn begin(&self) -> Begun {
        Begun(self.laps().map(|laps| (Instant::now(), laps.timings.audit)))
    }

    /// The run has waited for its audit.
    pub fn audited(&self, Begun(begun): Begun) {
        if let (Some(mut laps), Some((begun, _))) = (self.laps(), begun) {
            let took = begun.elapsed();
            laps.apart = laps.apart.saturating_add(took);
            add(&mut laps.timings.audit, took);
        }
    }

    /// The run has waited for a secret; what of it was the audit's is counted already.
    pub fn served(&self, Begun(begun): Begun) {
        if let (Some(mut laps), Some((begun, audit))) = (self.laps(), begun) {
            let audited = Duration::from_nanos(laps.timings.audit.saturating_sub(audit));
            let took = begun.elapsed().saturating_sub(audited);
            laps.apart = laps.apart.saturating_add(took);
            add(&mut laps.timings.secrets, took);
        }
    }

    /// The times so far; none where nothing is measured.
    pub fn timings(&self) -> Option<Timings> {
        self.laps().map(|laps| laps.timings)
    }

    // Every change is complete before the lock is given back.
    fn laps(&self) -> Option<MutexGuard<'_, Laps>> {
        self.0.as_ref().map(|laps| laps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn add(to: &mut u64, took: Duration) {
    *to = to.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_apart_is_not_counted_twice() {
        let begun = Instant::now();
        let meter = Meter::started();
        let (secret, event) = (meter.begin(), meter.begin());
        std::thread::sleep(Duration::from_millis(2));
        meter.audited(event);
        meter.served(secret);
        meter.lap(|timings| &mut timings.guest);
        meter.lap(|timings| &mut timings.finish);
        let timings = meter.timings().unwrap();
        assert!(timings.audit >= 2_000_000);
        let sum: u64 = timings.stages().iter().map(|(_, nanos)| nanos).sum();
        assert!(u128::from(sum) <= begun.elapsed().as_nanos(), "{timings:?}");
    }

    #[test]
    fn what_came_before_is_added() {
        let meter = Meter::started();
        meter.add(|timings| &mut timings.load, Duration::from_secs(1000));
        meter.lap(|timings| &mut timings.load);
        meter.lap(|timings| &mut timings.start);
        let timings = meter.timings().unwrap();
        assert!(timings.load >= 1_000_000_000_000 && timings.start < 1_000_000_000_000, "{timings:?}");
    }

    #[test]
    fn without_being_asked_nothing_is_measured() {
        let meter = Meter::default();
        meter.audited(meter.begin());
        meter.lap(|timings| &mut timings.load);
        meter.add(|timings| &mut timings.load, Duration::from_secs(1));
        assert_eq!(meter.timings(), None);
    }
}
