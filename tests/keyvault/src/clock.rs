//! The time of the server: it runs with the machine's, and can be set, moved and stopped. Tokens, expiry, deletion and recovery go by it.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::lock;

#[derive(Clone, Copy)]
enum Time {
    /// So many seconds ahead of the machine's.
    Running(i64),
    Stopped(i64),
}

/// A clock in whole seconds since 1970, as Key Vault's attributes are.
pub struct Clock(Mutex<Time>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Time::Running(0)))
    }

    /// What the clock shows.
    pub fn now(&self) -> i64 {
        match *lock(&self.0) {
            Time::Running(ahead) => machine() + ahead,
            Time::Stopped(at) => at,
        }
    }

    /// Moves the clock. It goes on, or stands still, as before.
    pub fn advance(&self, seconds: i64) {
        let mut time = lock(&self.0);
        *time = match *time {
            Time::Running(ahead) => Time::Running(ahead + seconds),
            Time::Stopped(at) => Time::Stopped(at + seconds),
        };
    }

    /// Sets the clock. It goes on, or stands still, as before.
    pub fn set(&self, to: i64) {
        let mut time = lock(&self.0);
        *time = match *time {
            Time::Running(_) => Time::Running(to - machine()),
            Time::Stopped(_) => Time::Stopped(to),
        };
    }

    /// Stops the clock where it is.
    pub fn stop(&self) {
        let now = self.now();
        *lock(&self.0) = Time::Stopped(now);
    }

    /// Lets a stopped clock go on from where it is.
    pub fn run(&self) {
        let now = self.now();
        *lock(&self.0) = Time::Running(now - machine());
    }
}

fn machine() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2)
}
