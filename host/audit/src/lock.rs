//! Locks on files, with a bounded wait. Processes hold them for microseconds, so a longer wait means
//! that the holder was stopped or hangs.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

/// How long [`acquire`] waits.
pub const WAIT: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };

/// How a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Excludes only exclusive locks.
    Shared,
    /// Excludes every other lock.
    Exclusive,
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it, and did not release it while [`acquire`] waited.
    #[error("{}", match .0 {
        Some(pid) => format!("process {pid} holds its lock"),
        None => "another process holds its lock".to_owned(),
    })]
    Busy(Option<u32>),
    /// The system returned an error.
    #[error("could not lock it")]
    Io(#[source] io::Error),
}

/// Locks a file until it is closed. Waits at most [`WAIT`].
///
/// # Errors
/// [`LockError::Busy`] if another process holds the lock all the time.
pub fn acquire(file: &File, mode: Mode) -> Result<(), LockError> {
    let started = Instant::now();
    loop {
        match try_acquire(file, mode) {
            Ok(true) => return Ok(()),
            Ok(false) if started.elapsed() < WAIT => std::thread::sleep(Duration::from_millis(5)),
            Ok(false) => return Err(LockError::Busy(holder(file))),
            Err(error) => return Err(LockError::Io(error)),
        }
    }
}

/// Locks a file until it is closed, unless another process holds the lock. Returns whether it did.
pub(super) fn try_acquire(file: &File, mode: Mode) -> io::Result<bool> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match flock(file.as_fd(), operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Releases a lock. This fails only if there is none.
pub(super) fn release(file: &File) {
    let _ = flock(file.as_fd(), FlockOperation::Unlock);
}

/// Returns the process that holds the lock on a file, if the system says so.
fn holder(file: &File) -> Option<u32> {
    let stat = fstat(file).ok()?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let id = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    // The system may leave out a line while other locks come and go.
    (0..10).find_map(|_| {
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                [_, "FLOCK", _, _, pid, file, ..] if *file == id => pid.parse().ok().filter(|pid| *pid > 0),
                _ => None,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_lock_is_reported_with_its_holder() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let (held, other) = (path.reopen().unwrap(), path.reopen().unwrap());
        acquire(&held, Mode::Shared).unwrap();
        assert!(try_acquire(&other, Mode::Shared).unwrap());
        release(&other);
        let error = acquire(&other, Mode::Exclusive).unwrap_err();
        assert!(matches!(error, LockError::Busy(Some(pid)) if pid == std::process::id()), "{error:?}");
        assert_eq!(error.to_string(), format!("process {} holds its lock", std::process::id()));
        release(&held);
        acquire(&other, Mode::Exclusive).unwrap();
    }
}
