//! Circuit breaker: after several consecutive failures no calls are made for a while, then one
//! attempt is let through.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::CallError;

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
}

impl Breaker {
    pub(super) fn new(failures: u32, rest: Duration) -> Self {
        Self { failures: failures.max(1), rest, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails while the breaker is open. If it has been open long enough, lets this attempt through
    /// and stays open for the others: [`Breaker::record`] closes it. If the attempt is dropped,
    /// another one is let through later.
    pub(super) fn check(&self) -> Result<(), CallError> {
        let mut state = self.state();
        let Some(until) = state.until else { return Ok(()) };
        let now = Instant::now();
        if now < until {
            return Err(CallError::CircuitOpen { failed: state.failed, wait: until - now });
        }
        state.until = now.checked_add(self.rest);
        Ok(())
    }

    /// Returns whether the next attempt would fail.
    pub(super) fn is_open(&self) -> bool {
        self.state().until.is_some_and(|until| Instant::now() < until)
    }

    /// Records whether an attempt failed.
    pub(super) fn record(&self, failed: bool) {
        let mut state = self.state();
        if !failed {
            *state = State::default();
            return;
        }
        state.failed = state.failed.saturating_add(1);
        if state.failed >= self.failures {
            state.until = Instant::now().checked_add(self.rest);
        }
    }
}
