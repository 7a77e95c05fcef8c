//! A rate: so many a second, one second's worth at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Places in a rate, given out in the order of asking.
#[derive(Debug)]
pub(super) struct Rate {
    /// The time that one place stands for.
    step: Duration,
    /// When the next place would be due if places were given out evenly.
    due: Mutex<Option<Instant>>,
}

/// How far a place may be given out before it is due.
const AHEAD: Duration = Duration::from_secs(1);

impl Rate {
    /// So many a second, at least one.
    pub(super) fn new(per_second: u32) -> Self {
        Self { step: Duration::from_secs(1) / per_second.max(1), due: Mutex::new(None) }
    }

    /// Waits for a place. A place that was waited for in vain is not given back: the rate is a ceiling.
    pub(super) async fn take(&self) {
        let now = Instant::now();
        let until = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let mine = due.map_or(now, |due| due.max(now));
            *due = mine.checked_add(self.step);
            mine.checked_sub(AHEAD).unwrap_or(now)
        };
        if until > now {
            tokio::time::sleep_until(until).await;
        }
    }
}
