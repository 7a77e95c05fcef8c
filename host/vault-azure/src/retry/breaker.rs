//! Circuit breaker: after several consecutive failures no calls are made for a while, then one
//! attempt is let through.

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
    /// Number of failed attempts since the last success.
    failed: u32,
    /// When the next attempt is allowed, if the breaker is open.
    until: Option<Instant>,
    /// Whether that attempt is in progress.
    trying: bool,
}

/// Permission for one attempt. Dropping it without a result does not close the breaker.
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

    /// Returns permission for an attempt, or the text of an error.
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
                    "when the current attempt has ended".to_owned()
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
    /// Ends the attempt and records whether the vault works.
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
