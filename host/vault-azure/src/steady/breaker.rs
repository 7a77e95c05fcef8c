//! What keeps callers from a vault that is down: after some failures in a row nobody calls for a while, then one tries.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    rest: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many attempts have failed since one succeeded.
    failed: u32,
    /// Until when nobody calls.
    until: Option<Instant>,
    /// Whether one is trying.
    trying: bool,
}

/// Leave to make one attempt. Whoever lets it go without a result has not shown that the vault is well.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    is_trial: bool,
    ended: bool,
}

impl Breaker {
    pub(super) fn new(failures: u32, rest: Duration) -> Self {
        Self { failures: failures.max(1), rest, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave for an attempt, or what to say.
    pub(super) fn pass(&self) -> Result<Pass<'_>, String> {
        let mut state = self.state();
        let Some(until) = state.until else { return Ok(Pass { breaker: self, is_trial: false, ended: false }) };
        let now = Instant::now();
        if now < until || state.trying {
            let failed = state.failed;
            return Err(format!(
                "the vault has failed {failed} times in a row, and is asked again {}",
                if now < until {
                    format!("in {} ms", until.duration_since(now).as_millis())
                } else {
                    "when the attempt under way has ended".to_owned()
                }
            ));
        }
        state.trying = true;
        Ok(Pass { breaker: self, is_trial: true, ended: false })
    }

    /// Counts a failure.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.failed = state.failed.saturating_add(1);
        if state.failed >= self.failures {
            let now = Instant::now();
            state.until = now.checked_add(self.rest).or(Some(now));
        }
    }
}

impl Pass<'_> {
    /// Ends the attempt: the vault is well, or it is not.
    pub(super) fn end(mut self, well: bool) {
        self.ended = true;
        if well {
            *self.breaker.state() = State::default();
        } else {
            self.breaker.failed();
            if self.is_trial {
                self.breaker.state().trying = false;
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended && self.is_trial {
            self.breaker.state().trying = false;
        }
    }
}
