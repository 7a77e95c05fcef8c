//! A run's private staging directory, and other directories that are held open.
//!
//! A descriptor keeps referring to the same directory whatever happens to its path. Each check
//! compares the directory that a name leads to with the one that is held open.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The identity of a file or directory, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl From<Stat> for Identity {
    fn from(stat: Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl Identity {
    pub(super) fn of(folder: impl AsFd) -> io::Result<Self> {
        Ok(rustix::fs::fstat(folder)?.into())
    }
}

pub(super) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FOLDER, Mode::empty())?)
}

/// Returns a path to an open directory that stays valid if the directory is moved. It is valid only
/// in this process.
pub(super) fn path_of(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Returns the status of a directory's entry, if it exists. Does not follow a link.
pub(super) fn stat(folder: impl AsFd, name: &OsString) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A directory in which private directories are created.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub(super) folder: Arc<OwnedFd>,
    /// Its path, with links resolved.
    pub(super) path: PathBuf,
}

impl Beside {
    pub(super) fn new(folder: OwnedFd) -> io::Result<Self> {
        let path = real_path(&folder)?;
        Ok(Self { folder: Arc::new(folder), path })
    }

    /// Returns whether its path still leads to it.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        leads_to(&self.path, &self.folder)
    }
}

/// Returns the path of an open directory, without links.
pub(super) fn real_path(folder: &OwnedFd) -> io::Result<PathBuf> {
    let path = std::fs::read_link(path_of(folder))?;
    // For a directory that was removed, the system returns a path that leads elsewhere or nowhere.
    if leads_to(&path, folder)? { Ok(path) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn leads_to(path: &Path, folder: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::stat(path) {
        Ok(stat) => Ok(Identity::from(stat) == Identity::of(folder)?),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The temporary directory. All runs whose output is discarded share one descriptor of it.
#[derive(Debug)]
pub(super) struct Temp {
    pub(super) path: PathBuf,
    open: Mutex<Option<(Identity, Beside)>>,
}

impl Temp {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: Mutex::default() }
    }

    /// Returns the current temporary directory, opening it again if it has been replaced since the
    /// last call.
    pub(super) fn get(&self) -> io::Result<Beside> {
        let now = Identity::from(rustix::fs::stat(&self.path)?);
        // Ignoring poisoning is sound: no change is left incomplete.
        let mut open_one = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((identity, beside)) = &*open_one
            && *identity == now
        {
            return Ok(beside.clone());
        }
        let beside = Beside::new(open(&self.path)?)?;
        *open_one = Some((Identity::of(&*beside.folder)?, beside.clone()));
        Ok(beside)
    }
}

/// A private directory, held open. Dropping it removes the directory with its contents, unless it
/// was published.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) folder: OwnedFd,
    pub(super) name: OsString,
    pub(super) beside: Beside,
    /// Whether it was renamed to its destination and is no longer private.
    pub(super) placed: bool,
}

impl Private {
    pub(super) fn make(beside: Beside, name: OsString) -> io::Result<Self> {
        rustix::fs::mkdirat(&*beside.folder, name.as_os_str(), Mode::RWXU)?;
        let folder = rustix::fs::openat(&*beside.folder, name.as_os_str(), FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        let stat = rustix::fs::fstat(&folder)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other("somebody has put another folder in its place"));
        }
        Ok(Self { folder, name, beside, placed: false })
    }

    /// Returns whether its name still leads to it.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        let there = stat(&*self.beside.folder, &self.name)?;
        Ok(there.map(Identity::from) == Some(Identity::of(&self.folder)?))
    }

    /// Removes the directory and its contents. If somebody has moved it, its contents are removed
    /// where it is now, and whatever has replaced it is left alone.
    fn remove(&self) -> io::Result<()> {
        crate::runs::empty_tree(&self.folder)?;
        if !self.is_in_place()? {
            return Err(io::Error::other("it was moved, and is empty now"));
        }
        Ok(rustix::fs::unlinkat(&*self.beside.folder, self.name.as_os_str(), AtFlags::REMOVEDIR)?)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = self.remove()
        {
            let path = self.beside.path.join(&self.name);
            tracing::warn!(path = %path.display(), %error, "a run's private output folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_for_temporary_files_is_opened_once_and_again_where_it_was_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tmp");
        let folder = Temp::new(path.clone());
        assert!(folder.get().is_err());
        std::fs::create_dir(&path).unwrap();
        let first = folder.get().unwrap();
        assert!(Arc::ptr_eq(&first.folder, &folder.get().unwrap().folder));
        std::fs::rename(&path, temp.path().join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        let second = folder.get().unwrap();
        assert!(!Arc::ptr_eq(&first.folder, &second.folder) && !first.is_in_place().unwrap());
        drop(Private::make(second, "private".into()).unwrap());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }
}
