//! Private output folders that nobody has touched, for the next run to take over.
//!
//! Making a folder and removing it again costs more than the rest of a run that does nothing. A run without an output folder, of a runner that keeps no
//! records, leaves its private folder here where nothing was ever made in it: the sandbox says so, which sees each attempt, and so does what the system
//! says of the folder, which is all that the next run could see. The folders are removed with the runner.

use std::ffi::OsString;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::Stat;

use super::private::{Beside, Identity, Private};

/// How many are kept.
const KEPT: usize = 64;

/// The folders that wait.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<(Private, Stamp)>>);

/// What the system said of an empty folder when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    mode: u32,
    links: u64,
    length: i64,
    /// Seconds and nanoseconds: of the last read, the last change of what is in it, and of what is said about it.
    times: [(i64, u64); 3],
}

impl From<Stat> for Stamp {
    fn from(stat: Stat) -> Self {
        Self {
            identity: stat.into(),
            mode: stat.st_mode,
            links: stat.st_nlink,
            length: stat.st_size,
            times: [
                (stat.st_atime, stat.st_atime_nsec),
                (stat.st_mtime, stat.st_mtime_nsec),
                (stat.st_ctime, stat.st_ctime_nsec),
            ],
        }
    }
}

impl Spares {
    /// A folder that waits, or else a new one of this name.
    pub(super) fn take(&self, beside: Beside, name: impl FnOnce() -> OsString) -> io::Result<(Private, Stamp)> {
        // One that was removed, or made in a folder which is there no longer, is nobody's: what is left of it goes. One that was moved serves as well,
        // since nothing that is made in it stays, and does not come back here.
        while let Some((private, stamp)) = self.pop() {
            let same = std::sync::Arc::ptr_eq(&private.beside.folder, &beside.folder);
            if same && rustix::fs::fstat(&private.folder)?.st_nlink > 0 {
                return Ok((private, stamp));
            }
        }
        let private = Private::make(beside, name())?;
        let stamp = rustix::fs::fstat(&private.folder)?.into();
        Ok((private, stamp))
    }

    /// Takes a folder back in which nothing was made. What is not as it was, and where it was, comes back.
    pub(super) fn give_back(&self, private: Private, made: Stamp) -> Option<Private> {
        // What has its name is the folder itself where it is the same file: one look says both.
        if !matches!(private.in_its_place(), Ok(Some(now)) if Stamp::from(now) == made) {
            return Some(private);
        }
        let mut waiting = self.lock();
        if waiting.len() >= KEPT {
            return Some(private);
        }
        waiting.push((private, made));
        None
    }

    fn pop(&self) -> Option<(Private, Stamp)> {
        self.lock().pop()
    }

    // No code that holds the lock leaves a change half done.
    fn lock(&self) -> MutexGuard<'_, Vec<(Private, Stamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::private::Temp;
    use super::*;

    fn take(spares: &Spares, temp: &Temp, name: &str) -> (Private, Stamp) {
        spares.take(temp.get().unwrap(), || name.into()).unwrap()
    }

    fn count(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn what_nobody_touched_is_taken_over_and_goes_with_the_runner() {
        let dir = tempfile::tempdir().unwrap();
        let temp = Temp::new(dir.path().to_owned());
        let spares = Spares::default();
        let (private, stamp) = take(&spares, &temp, "first");
        assert!(spares.give_back(private, stamp).is_none());
        let (private, stamp) = take(&spares, &temp, "second");
        assert_eq!((private.name.to_str().unwrap(), count(dir.path())), ("first", 1));
        assert!(spares.give_back(private, stamp).is_none());
        drop(spares);
        assert_eq!(count(dir.path()), 0);
    }

    // promise: A staging directory that a run reuses was never modified by an earlier run.
    // attack: leak: find data of an earlier run in memory, tables, globals, files or the
    // environment -> all of these are new in every run, and only a staging directory that was never
    // modified is reused
    #[test]
    fn what_was_touched_is_not_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let temp = Temp::new(dir.path().to_owned());
        let spares = Spares::default();
        let touch: [fn(&Path); 4] = [
            |path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap(),
            |path| drop(fs::File::create(path.join("made")).unwrap()),
            |path| {
                let read = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
                fs::File::open(path).unwrap().set_times(read).unwrap();
            },
            |path| fs::rename(path, path.with_extension("moved")).unwrap(),
        ];
        for (number, touch) in touch.into_iter().enumerate() {
            let (private, stamp) = take(&spares, &temp, &number.to_string());
            touch(&dir.path().join(number.to_string()));
            assert!(spares.give_back(private, stamp).is_some(), "{number}");
        }
        // The last was moved, and is empty.
        assert_eq!(count(dir.path()), 1);
    }

    // promise: A staging directory that a run reuses was never modified by an earlier run.
    #[test]
    fn what_was_removed_while_it_waited_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let temp = Temp::new(dir.path().to_owned());
        let spares = Spares::default();
        let (private, stamp) = take(&spares, &temp, "first");
        assert!(spares.give_back(private, stamp).is_none());
        fs::remove_dir(dir.path().join("first")).unwrap();
        let (private, _) = take(&spares, &temp, "second");
        assert_eq!((private.name.to_str().unwrap(), count(dir.path())), ("second", 1));
    }

    // promise: A staging directory that a run reuses was never modified by an earlier run.
    #[test]
    fn what_waits_in_a_folder_that_was_replaced_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tmp");
        fs::create_dir(&path).unwrap();
        let temp = Temp::new(path.clone());
        let spares = Spares::default();
        let (private, stamp) = take(&spares, &temp, "first");
        assert!(spares.give_back(private, stamp).is_none());
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::create_dir(&path).unwrap();
        let (private, _) = take(&spares, &temp, "second");
        assert_eq!(private.name.to_str().unwrap(), "second");
        assert_eq!((count(&path), count(&dir.path().join("moved"))), (1, 0));
    }
}
