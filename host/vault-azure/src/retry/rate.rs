//! Rate limiter that allows bursts of one second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Slots of a rate, in the order of requests.
#[derive(Debug)]
pub(super) struct Rate {
    /// Time per slot.
    step: Duration,
    /// When the next slot is due at an even rate.
    due: Mutex<Option<Instant>>,
}

/// How long before it is due a slot may be used.
const AHEAD: Duration = Duration::from_secs(1);

impl Rate {
    /// Creates a limiter for a number of slots per second, at least one.
    pub(super) fn new(per_second: u32) -> Self {
        Self { step: Duration::from_secs(1) / per_second.max(1), due: Mutex::new(None) }
    }

    /// Waits for a slot. A slot whose waiter is dropped is lost, so the rate is a ceiling.
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
