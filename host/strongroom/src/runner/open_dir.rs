//! Directories that are held open.
//!
//! A descriptor keeps referring to the same directory whatever happens to its path. Each check
//! compares the directory that a name leads to with the one that is held open.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The identity of a file or directory, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl From<Stat> for FileIdentity {
    fn from(stat: Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl FileIdentity {
    pub(super) fn of(directory: impl AsFd) -> io::Result<Self> {
        Ok(rustix::fs::fstat(directory)?.into())
    }
}

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

/// Returns a path to an open directory that stays valid if the directory is moved. It is valid only
/// in this process.
pub(super) fn path_of(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Returns the status of a directory's entry, if it exists. Does not follow a link.
pub(super) fn stat(directory: impl AsFd, name: &OsString) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An open directory and its path.
#[derive(Debug)]
pub(super) struct OpenDir {
    pub(super) fd: OwnedFd,
    /// Its path, with links resolved.
    pub(super) path: PathBuf,
}

impl OpenDir {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let path = real_path(&fd)?;
        Ok(Self { fd, path })
    }

    /// Returns whether its path still leads to it.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        leads_to(&self.path, &self.fd)
    }
}

/// Returns the path of an open directory, without links.
pub(super) fn real_path(directory: &OwnedFd) -> io::Result<PathBuf> {
    let path = std::fs::read_link(path_of(directory))?;
    // For a directory that was removed, the system returns a path that leads elsewhere or nowhere.
    if leads_to(&path, directory)? { Ok(path) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn leads_to(path: &Path, directory: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::stat(path) {
        Ok(stat) => Ok(FileIdentity::from(stat) == FileIdentity::of(directory)?),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
