//! The audit directory. Files in it are opened relative to it, without following links, and only if
//! they are regular files.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::error::AuditError;
use super::lock;

/// File name of the ledger.
pub(super) const LEDGER: &str = "ledger.jsonl";

const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open audit directory.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// Opens the directory for writing, and creates it if missing. It must be a real directory that
    /// only this user can access.
    pub(super) fn make(path: &Path) -> Result<Self, AuditError> {
        let is_new = !path.exists();
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(AuditError::io("create the audit directory", path, error));
        }
        let folder = Self::open(path)?;
        check_owner_and_mode(&folder.fd, path)?;
        if is_new {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(|error| AuditError::io("sync the folder", parent, error))?;
        }
        Ok(folder)
    }

    /// Opens the directory for reading. Its owner does not matter: a reviewer may read a copy.
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path: path.to_owned(), fd }),
            Err(Errno::NOENT) => Err(AuditError::Absent(path.to_owned())),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(AuditError::Insecure {
                path: path.to_owned(),
                reason: "it is a link or not a folder: name the folder itself",
            }),
            Err(error) => Err(AuditError::io("open the audit directory", path, error)),
        }
    }

    /// Returns the path of a file in the directory, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a subdirectory under the same conditions, and creates it if missing.
    pub(super) fn inner(&self, name: &str) -> Result<Self, AuditError> {
        let path = self.path_of(name);
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(AuditError::io("create the folder", &path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty())
            .map_err(|error| AuditError::io("open the folder", &path, error))?;
        check_owner_and_mode(&fd, &path)?;
        Ok(Self { path, fd })
    }

    /// Returns the metadata of a file in a subdirectory, or `None`. Does not follow a final
    /// symbolic link.
    pub(super) fn stat_below(&self, inner: &str, name: &str) -> Option<Stat> {
        statat(&self.fd, format!("{inner}/{name}"), AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Creates a new file for appending.
    pub(super) fn create(&self, name: &str) -> Result<File, AuditError> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path_of(name);
        let fd = openat(&self.fd, name, flags, OWNER_ONLY)
            .map_err(|error| AuditError::io("create the audit file", &path, error))?;
        Ok(File::from(fd))
    }

    /// Opens a file for reading; `None` if there is no regular file of that name.
    pub(super) fn read(&self, name: &str) -> Result<Option<File>, AuditError> {
        self.regular(name, OFlags::RDONLY)
    }

    /// Opens an existing file for reading and appending; `None` if there is no regular file of that
    /// name.
    pub(super) fn append(&self, name: &str) -> Result<Option<File>, AuditError> {
        self.regular(name, OFlags::RDWR | OFlags::APPEND)
    }

    fn regular(&self, name: &str, access: OFlags) -> Result<Option<File>, AuditError> {
        // Without `NONBLOCK`, opening a FIFO of this name would block.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = self.path_of(name);
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR) => return Ok(None),
            Err(error) => return Err(AuditError::io("open the audit file", &path, error)),
        };
        let stat = fstat(&fd).map_err(|error| AuditError::io("read the metadata of the audit file", &path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(File::from(fd)))
    }

    /// Makes the directory's entries durable.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        rustix::fs::fsync(&self.fd).map_err(|error| AuditError::io("sync the audit directory", &self.path, error))
    }

    /// Renames a complete file over another. `scratch` must be a unique name.
    pub(super) fn replace(&self, scratch: &str, name: &str) -> Result<(), AuditError> {
        rustix::fs::renameat(&self.fd, scratch, &self.fd, name)
            .map_err(|error| AuditError::io("put in place", &self.path_of(name), error))
    }

    /// Removes a file that is no longer needed. Failing to do so is harmless.
    pub(super) fn discard(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::empty());
    }

    /// Returns the names of all `.jsonl` files except the ledger, without that extension, sorted:
    /// segments, and files that others put beside them.
    pub(super) fn segments(&self) -> Result<Vec<String>, AuditError> {
        let wrap = |error| AuditError::io("list the audit directory", &self.path, error);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(wrap)? {
            let entry = entry.map_err(wrap)?;
            let name = String::from_utf8_lossy(entry.file_name().to_bytes()).into_owned();
            if name != LEDGER
                && let Some(stem) = name.strip_suffix(".jsonl")
            {
                names.push(stem.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Returns whether a process holds a segment.
    ///
    /// Probes with a shared lock, so that two probes do not take each other for a writer. Returns
    /// `true` if the file cannot be probed, so that no running process is taken for dead.
    pub(super) fn is_live(&self, segment: &str) -> bool {
        match self.read(&file_name(segment)) {
            Ok(Some(file)) => !matches!(lock::try_acquire(&file, lock::Mode::Shared), Ok(true)),
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// Returns the file name of a segment.
pub(super) fn file_name(segment: &str) -> String {
    format!("{segment}.jsonl")
}

/// Returns whether a text is a valid segment name. Nothing else becomes part of a path.
pub(super) fn is_segment(text: &str) -> bool {
    ulid::Ulid::from_string(text).is_ok_and(|id| id.to_string() == text)
}

fn check_owner_and_mode(fd: &OwnedFd, path: &Path) -> Result<(), AuditError> {
    let stat = fstat(fd).map_err(|error| AuditError::io("read the metadata of the audit directory", path, error))?;
    let insecure = |reason| Err(AuditError::Insecure { path: path.to_owned(), reason });
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return insecure("it belongs to another user: use a folder of your own");
    }
    if stat.st_mode & 0o077 != 0 {
        return insecure("others can access it: check what is in it, then run `chmod 700` on it");
    }
    Ok(())
}
