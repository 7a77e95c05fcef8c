//! The server's clock. It follows the machine's clock and can be set, moved and stopped. Tokens,
//! expiry, deletion and recovery use it.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::lock;

#[derive(Clone, Copy)]
enum Time {
    /// The offset from the machine's clock in seconds.
    Running(i64),
    Stopped(i64),
}

/// A clock in whole seconds since 1970, like Key Vault's attributes.
pub struct Clock(Mutex<Time>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Time::Running(0)))
    }

    /// Returns the current time.
    pub fn now(&self) -> i64 {
        match *lock(&self.0) {
            Time::Running(ahead) => machine_time() + ahead,
            Time::Stopped(at) => at,
        }
    }

    /// Moves the clock, which keeps running or stays stopped.
    pub fn advance(&self, seconds: i64) {
        let mut time = lock(&self.0);
        *time = match *time {
            Time::Running(ahead) => Time::Running(ahead + seconds),
            Time::Stopped(at) => Time::Stopped(at + seconds),
        };
    }

    /// Sets the clock, which keeps running or stays stopped.
    pub fn set(&self, to: i64) {
        let mut time = lock(&self.0);
        *time = match *time {
            Time::Running(_) => Time::Running(to - machine_time()),
            Time::Stopped(_) => Time::Stopped(to),
        };
    }

    /// Stops the clock at the current time.
    pub fn stop(&self) {
        let now = self.now();
        *lock(&self.0) = Time::Stopped(now);
    }

    /// Lets a stopped clock run again from its current time.
    pub fn run(&self) {
        let now = self.now();
        *lock(&self.0) = Time::Running(now - machine_time());
    }
}

fn machine_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2)
}
