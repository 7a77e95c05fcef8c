//! Private output folders that nobody has touched, for the next run to take over.
//!
//! Making a folder and removing it again costs more than the rest of a run that does nothing. A run without an output folder, of a runner that keeps no
//! records, leaves its private folder here where nothing was ever made in it: the sandbox says so, which sees each attempt, and so does what the system
//! says of the folder, which is all that the next run could see. The folders are removed with the runner.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are kept.
const KEPT: usize = 64;

/// The folders that wait.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<Spare>>);

/// An empty folder, and what the system said of it when it was made.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    made: Stamp,
}

type Stamp = ([u64; 5], [i64; 6]);

fn stamp(metadata: &Metadata) -> Stamp {
    (
        [metadata.dev(), metadata.ino(), metadata.mode().into(), metadata.nlink(), metadata.len()],
        [
            metadata.atime(),
            metadata.atime_nsec(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ],
    )
}

impl Spares {
    /// A folder that waits, or else a new one at this path.
    pub(super) fn take(&self, path: PathBuf) -> io::Result<Spare> {
        if let Some(spare) = self.lock().pop() {
            return Ok(spare);
        }
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let made = stamp(&fs::symlink_metadata(&path)?);
        Ok(Spare { path, made })
    }

    /// Takes a folder back in which nothing was made. What is not as it was comes back.
    pub(super) fn give_back(&self, spare: Spare) -> Result<(), Spare> {
        if !fs::symlink_metadata(&spare.path).is_ok_and(|metadata| stamp(&metadata) == spare.made) {
            return Err(spare);
        }
        let mut waiting = self.lock();
        if waiting.len() >= KEPT {
            return Err(spare);
        }
        waiting.push(spare);
        Ok(())
    }

    // No code that holds the lock leaves a change half done.
    fn lock(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        for spare in self.lock().drain(..) {
            if let Err(error) = fs::remove_dir(&spare.path) {
                tracing::warn!(path = %spare.path.display(), %error, "a private output folder could not be removed");
            }
        }
    }
}

/// Where a run's private folder goes back to.
pub(super) type Home = (Arc<Spares>, Spare);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_touched_is_taken_over_and_goes_with_the_runner() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("first"), temp.path().join("second"));
        let spares = Spares::default();
        let spare = spares.take(first.clone()).unwrap();
        spares.give_back(spare).unwrap();
        let spare = spares.take(second).unwrap();
        assert_eq!(spare.path, first);
        spares.give_back(spare).unwrap();
        drop(spares);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_touched_is_not_taken_back() {
        let temp = tempfile::tempdir().unwrap();
        let spares = Spares::default();
        let spare = spares.take(temp.path().join("a")).unwrap();
        fs::set_permissions(&spare.path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let spare = spares.give_back(spare).unwrap_err();
        fs::remove_dir(&spare.path).unwrap();
        let spare = spares.take(temp.path().join("b")).unwrap();
        fs::remove_dir(&spare.path).unwrap();
        assert!(spares.give_back(spare).is_err());
    }
}
