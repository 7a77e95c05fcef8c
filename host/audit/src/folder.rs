//! The audit folder: every file in it is opened relative to it, without following links, and only if it is a regular file.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, statat};
use rustix::io::Errno;

use super::error::AuditError;

/// The ledger's file name.
pub(super) const LEDGER: &str = "ledger.jsonl";

/// How long to wait for another process that holds the ledger. It holds it for milliseconds, or while it reads what a crash
/// left behind; beyond this it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open audit folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// Opens the folder to write in it; makes it where it is not there. It has to be a real folder of this user's that nobody else
    /// may enter.
    pub(super) fn make(path: &Path) -> Result<Self, AuditError> {
        let fresh = !path.exists();
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(AuditError::io("make the audit folder", path, error));
        }
        let folder = Self::open(path)?;
        check_ours(&folder.fd, path)?;
        if fresh {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(|error| AuditError::io("sync the folder", parent, error))?;
        }
        Ok(folder)
    }

    /// Opens the folder to read. Whose it is does not matter: a reviewer may read a copy.
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path: path.to_owned(), fd }),
            Err(Errno::NOENT) => Err(AuditError::Absent(path.to_owned())),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(AuditError::Insecure {
                path: path.to_owned(),
                reason: "it is a link or no folder: name the folder itself",
            }),
            Err(error) => Err(AuditError::io("open the audit folder", path, error)),
        }
    }

    /// The path of a file in the folder, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens or makes a folder inside, under the same conditions.
    pub(super) fn inner(&self, name: &str) -> Result<Self, AuditError> {
        let path = self.path_of(name);
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(AuditError::io("make the folder", &path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty())
            .map_err(|error| AuditError::io("open the folder", &path, error))?;
        check_ours(&fd, &path)?;
        Ok(Self { path, fd })
    }

    /// What the system says of a file in a folder inside; none where there is none. Follows no link at the end.
    pub(super) fn stat_below(&self, inner: &str, name: &str) -> Option<Stat> {
        statat(&self.fd, format!("{inner}/{name}"), AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Makes a file that is not there yet, to append to.
    pub(super) fn create(&self, name: &str) -> Result<File, AuditError> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path_of(name);
        let fd = openat(&self.fd, name, flags, OWNER_ONLY)
            .map_err(|error| AuditError::io("make the audit file", &path, error))?;
        Ok(File::from(fd))
    }

    /// Opens a file to read; none where there is no regular file of that name.
    pub(super) fn read(&self, name: &str) -> Result<Option<File>, AuditError> {
        self.regular(name, OFlags::RDONLY)
    }

    /// Opens a file that is there, to read and to append; none where there is no regular file of that name.
    pub(super) fn append(&self, name: &str) -> Result<Option<File>, AuditError> {
        self.regular(name, OFlags::RDWR | OFlags::APPEND)
    }

    fn regular(&self, name: &str, access: OFlags) -> Result<Option<File>, AuditError> {
        // Without NONBLOCK a FIFO planted under the name would hang the open.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = self.path_of(name);
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR) => return Ok(None),
            Err(error) => return Err(AuditError::io("open the audit file", &path, error)),
        };
        let stat = fstat(&fd).map_err(|error| AuditError::io("look at the audit file", &path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(File::from(fd)))
    }

    /// Makes the folder's own entries durable.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        rustix::fs::fsync(&self.fd).map_err(|error| AuditError::io("sync the audit folder", &self.path, error))
    }

    /// Puts a complete file under a name, in place of what stood there. `scratch` is a name nobody else uses.
    pub(super) fn replace(&self, scratch: &str, name: &str) -> Result<(), AuditError> {
        rustix::fs::renameat(&self.fd, scratch, &self.fd, name)
            .map_err(|error| AuditError::io("put in place", &self.path_of(name), error))
    }

    /// Removes a file that was made in vain; that it stays behind harms nothing.
    pub(super) fn discard(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::empty());
    }

    /// The names of all `.jsonl` files but the ledger, without that ending, sorted: segments, and what somebody put beside them.
    pub(super) fn segments(&self) -> Result<Vec<String>, AuditError> {
        let wrap = |error| AuditError::io("list the audit folder", &self.path, error);
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

    /// Whether a process holds a segment.
    ///
    /// The probe is a shared lock, so that two probes do not take each other for a writer. Where the file cannot be probed the
    /// answer is yes: nobody is declared dead without proof.
    pub(super) fn is_live(&self, segment: &str) -> bool {
        match self.read(&file_name(segment)) {
            Ok(Some(file)) => !matches!(flock(file.as_fd(), FlockOperation::NonBlockingLockShared), Ok(())),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Waits for a lock on the ledger, which ends when the file is dropped.
    pub(super) fn lock_ledger(&self, file: &File, exclusive: bool) -> Result<(), AuditError> {
        let operation =
            if exclusive { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
        let begun = Instant::now();
        loop {
            match flock(file.as_fd(), operation) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
                Err(Errno::WOULDBLOCK) => return Err(AuditError::Busy(self.path_of(LEDGER))),
                Err(error) => return Err(AuditError::io("lock the audit ledger", &self.path_of(LEDGER), error)),
            }
        }
    }
}

/// The file name of a segment.
pub(super) fn file_name(segment: &str) -> String {
    format!("{segment}.jsonl")
}

/// Whether a text is a segment's name as this program writes it. Nothing else becomes part of a path.
pub(super) fn is_segment(text: &str) -> bool {
    ulid::Ulid::from_string(text).is_ok_and(|id| id.to_string() == text)
}

fn check_ours(fd: &OwnedFd, path: &Path) -> Result<(), AuditError> {
    let stat = fstat(fd).map_err(|error| AuditError::io("look at the audit folder", path, error))?;
    let insecure = |reason| Err(AuditError::Insecure { path: path.to_owned(), reason });
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return insecure("it belongs to another user: use a folder of your own");
    }
    if stat.st_mode & 0o077 != 0 {
        return insecure("others may enter it: run `chmod 700` on it, after a look at what is in it");
    }
    Ok(())
}
