//! The store's directory. It is opened once without following links, checked to belong to this user
//! alone, and accessed through its descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::StoreError;
use super::entry::{KEY_LEN, Key};

const KEY_NAME: &str = "store.key";

/// The prefix of the names of files that are being written.
const PARTIAL: &str = ".partial-";

/// If files cannot be locked, the age at which a partial file is assumed to belong to a process
/// that has ended.
const PARTIAL_AGE: Duration = Duration::from_secs(60 * 60);

/// The permission bits for everyone but the owner.
const OTHERS: u32 = 0o077;

/// An open directory that belongs to this user alone.
pub(super) struct Folder {
    path: PathBuf,
    dir: OwnedFd,
}

/// A file in a listing of the directory.
pub(super) struct Listed {
    pub(super) name: std::ffi::CString,
    pub(super) bytes: u64,
    pub(super) used: (i64, i64),
}

impl Folder {
    /// Opens the directory; `None` if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(StoreError::NotOurs { path: path.to_owned(), why: "it is a link or no folder" });
            }
            Err(error) => return Err(StoreError::io(path, error)),
        };
        let stat = rustix::fs::fstat(&dir).map_err(|error| StoreError::io(path, error))?;
        if let Some(why) = not_ours(&stat) {
            return Err(StoreError::NotOurs { path: path.to_owned(), why });
        }
        Ok(Some(Self { path: path.to_owned(), dir }))
    }

    /// Opens the directory and creates it if missing.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = Self::open(path)? {
            return Ok(folder);
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|cause| StoreError::Io { path: path.to_owned(), cause })?;
        let gone = || StoreError::Io { path: path.to_owned(), cause: ErrorKind::NotFound.into() };
        Self::open(path)?.ok_or_else(gone)
    }

    /// Returns the key; `None` if it does not exist yet.
    pub(super) fn key(&self) -> Result<Option<Key>, StoreError> {
        let bad = |why| StoreError::NotOurs { path: self.path.join(KEY_NAME), why };
        let Some((mut file, stat)) = self.file(KEY_NAME).map_err(|why| match why {
            Unusable::Io(cause) => StoreError::Io { path: self.path.join(KEY_NAME), cause },
            Unusable::NotOurs(why) => bad(why),
        })?
        else {
            return Ok(None);
        };
        let mut key = Zeroizing::new([0; KEY_LEN]);
        if stat.st_size != KEY_LEN as i64 || file.read_exact(key.as_mut()).is_err() {
            return Err(bad("it has the wrong length"));
        }
        Ok(Some(key))
    }

    /// Returns the key and creates it if missing. If several processes create it at once, all use
    /// the first.
    pub(super) fn make_key(&self) -> Result<Key, StoreError> {
        if let Some(key) = self.key()? {
            return Ok(key);
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(key.as_mut()).map_err(|error| StoreError::Random(error.to_string()))?;
        let io = |cause| StoreError::Io { path: self.path.join(KEY_NAME), cause };
        let (partial, file) = self.write_partial(&[key.as_ref()]).map_err(io)?;
        // Entries can be compiled again, but a key that a power failure truncates would have to be
        // removed by hand.
        let synced = file.sync_all();
        // Unlike a rename, a link does not replace a key that another process has created
        // meanwhile.
        let linked = match synced {
            Ok(()) => rustix::fs::linkat(&self.dir, &partial, &self.dir, KEY_NAME, AtFlags::empty()),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        };
        let _ = rustix::fs::unlinkat(&self.dir, &partial, AtFlags::empty());
        match linked {
            Ok(()) | Err(Errno::EXIST) => self.key()?.ok_or_else(|| io(ErrorKind::NotFound.into())),
            Err(error) => Err(io(error.into())),
        }
    }

    /// Opens a file that belongs to this user; `None` if it does not exist. Never follows a link
    /// and never blocks.
    pub(super) fn file(&self, name: &str) -> Result<Option<(File, Stat)>, Unusable> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Unusable::NotOurs("it is a link")),
            Err(error) => return Err(Unusable::Io(error.into())),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| Unusable::Io(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Unusable::NotOurs("it is no regular file"));
        }
        if let Some(why) = not_ours(&stat) {
            return Err(Unusable::NotOurs(why));
        }
        Ok(Some((File::from(fd), stat)))
    }

    /// Writes a file atomically: readers see the old or the new one. It need not survive a power
    /// failure.
    pub(super) fn replace(&self, name: &str, parts: &[&[u8]]) -> std::io::Result<()> {
        let (partial, _held) = self.write_partial(parts)?;
        let renamed = rustix::fs::renameat(&self.dir, &partial, &self.dir, name);
        if renamed.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, &partial, AtFlags::empty());
        }
        Ok(renamed?)
    }

    /// Writes a file under a temporary name. The file is locked as long as the returned handle is
    /// open; an unlocked file was left behind.
    fn write_partial(&self, parts: &[&[u8]]) -> std::io::Result<(String, File)> {
        loop {
            let name = format!("{PARTIAL}{}", ulid::Ulid::generate());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(fd);
            // On a file system without locks, a leftover file is removed by its age.
            let _ = rustix::fs::flock(&file, FlockOperation::LockExclusive);
            // Another process removed the file between creating and locking it.
            if rustix::fs::fstat(&file)?.st_nlink == 0 {
                continue;
            }
            let written = parts.iter().try_for_each(|part| file.write_all(part));
            if let Err(error) = written {
                let _ = rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty());
                return Err(error);
            }
            return Ok((name, file));
        }
    }

    /// Removes partial files of processes that were killed.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_str().is_ok_and(|text| text.starts_with(PARTIAL)) {
                // The lock is held until the file is removed. If its writer still exists after all,
                // it then notices the removal.
                let _held = self.left_behind(name).inspect(|_| self.remove(name));
            }
        }
        Ok(())
    }

    /// Opens a partial file whose writer has ended, locked if the file system supports locks.
    fn left_behind(&self, name: &CStr) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Another process may have removed it since the listing.
        let fd = rustix::fs::openat(&self.dir, name, flags, Mode::empty()).ok()?;
        let left = match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::WOULDBLOCK) => false,
            Err(_) => rustix::fs::fstat(&fd).is_ok_and(|stat| is_old(&stat)),
        };
        left.then_some(fd)
    }

    /// Removes a file if it still exists.
    pub(super) fn remove(&self, name: &CStr) {
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// Lists the regular files whose names end in `suffix`.
    pub(super) fn list(&self, suffix: &str) -> std::io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Ok(text) = name.to_str() else { continue };
            if !text.ends_with(suffix) {
                continue;
            }
            // Another process may have removed it since the listing.
            let Ok(stat) = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
                listed.push(Listed { name: name.to_owned(), bytes, used: (stat.st_mtime, nanos) });
            }
        }
        Ok(listed)
    }
}

/// Why an existing file cannot be used.
pub(super) enum Unusable {
    Io(std::io::Error),
    NotOurs(&'static str),
}

fn not_ours(stat: &Stat) -> Option<&'static str> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Some("it belongs to another user");
    }
    if stat.st_mode & OTHERS != 0 {
        return Some("other users have access to it");
    }
    None
}

fn is_old(stat: &Stat) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let written = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    now.saturating_sub(written) > PARTIAL_AGE
}
