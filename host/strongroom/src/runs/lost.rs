//! Cleans up after processes that ended during a run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use strongroom_audit::lock::{self, LockError};
use strongroom_core::ids::RunId;
use strongroom_core::record::{Blame, Outcome, RunRecord};

use super::note::Note;
use super::tree::empty_tree;
use super::{NOT_REGULAR, RunStore, RunStoreError, TEMP_PREFIX, id_of, names, open_regular};

/// The writer's name in the sweep's own temporary files. The sweep holds the lock, so any existing
/// file with this name is left over.
const SWEEP: &str = "sweep";

/// The maximum number of bytes that are read of a note. A path has at most 4,096.
const NOTE_MAX: u64 = 16 * 1024;

impl RunStore {
    /// Marks every run as `lost` that is still `running` in the audit segment of a process that has
    /// ended, and removes the run's staging directory. Returns the runs that it marked. The cost
    /// depends on the number of runs in progress, not on the number of records.
    ///
    /// `is_live` returns whether the process that writes a segment still exists.
    ///
    /// A directory is removed only if its name is exactly `.strongroom-<id>` and it is a real
    /// directory of this user; links are never followed.
    ///
    /// # Errors
    /// [`RunStoreError::Busy`] if another process does not release the store, or the file system
    /// returned an error. Runs that were marked before stay marked.
    ///
    /// ```
    /// use strongroom::audit;
    /// use strongroom::runs::RunStore;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let home = folder.path();
    /// // At the start of a process, before its first run.
    /// let records = RunStore::open(&home.join("runs"))?;
    /// for run in records.mark_lost(|segment| audit::is_live(&home.join("audit"), segment))? {
    ///     eprintln!("run {run} was cut off");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mark_lost(&self, is_live: impl Fn(&str) -> bool) -> Result<Vec<RunId>, RunStoreError> {
        let lock = self.lock()?;
        self.make_active(Some(&lock))?;
        let (mut lost, mut swept) = (Vec::new(), Vec::new());
        for name in names(&self.active())? {
            if let Some(id) = name.strip_suffix(".open").and_then(id_of) {
                let Some(note) = read_note(&self.note_path(&id))?.filter(|note| !is_live(&note.segment)) else {
                    continue;
                };
                if self.mark_if_running(&id)? {
                    lost.push(id);
                }
                swept.push((id, note.staging));
            } else if let Some(rest) = name.strip_prefix(TEMP_PREFIX) {
                let writer = rest.split('-').next().unwrap_or_default();
                if writer == SWEEP || !is_live(writer) {
                    let _ = fs::remove_file(self.active().join(name));
                }
            }
        }
        // Removing a large tree takes long, and must not keep other processes waiting.
        drop(lock);
        for (id, staging) in swept {
            // A directory that cannot be removed must not block every later command. Its note is
            // kept, so that the removal is tried again.
            match staging.as_deref().map_or(Ok(()), |staging| remove_staging(&id, staging)) {
                Ok(()) => self.remove_note(&id)?,
                Err(error) => {
                    tracing::warn!(run = %id, path = ?staging, %error, "could not remove the staging directory of a lost run");
                }
            }
        }
        lost.sort_unstable();
        Ok(lost)
    }

    /// Marks a run whose process has ended as lost, unless it ended normally. Returns whether it
    /// did.
    fn mark_if_running(&self, id: &RunId) -> Result<bool, RunStoreError> {
        // Read the record only now: the run may have ended normally after the note was read, but
        // its process has since ended and writes nothing more.
        match self.get(id) {
            Ok(record) if record.outcome == Outcome::Running => self.replace_lost(record).map(|()| true),
            // The run ended normally and only its note remained, or it never had a record. A
            // damaged or newer record is reported by `list`.
            Ok(_) | Err(RunStoreError::Absent(_) | RunStoreError::Damaged { .. } | RunStoreError::Newer { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn replace_lost(&self, mut record: RunRecord) -> Result<(), RunStoreError> {
        record.outcome = Outcome::Lost;
        record.blame = Some(Blame::Host);
        record.ended = None;
        record.reason = Some("the process that ran it ended without writing how the run ended".to_owned());
        self.write(SWEEP, &record)
    }

    /// Locks the store until the file is dropped. Waits for a bounded time.
    pub(super) fn lock(&self) -> Result<File, RunStoreError> {
        let path = self.dir.join(".lock");
        let open = || -> io::Result<File> {
            let mut options = File::options();
            options.create(true).write(true).truncate(false).mode(0o600);
            // `NONBLOCK` avoids blocking on a FIFO in its place.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = options.custom_flags(flags.bits().cast_signed()).open(&path)?;
            if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(NOT_REGULAR)) }
        };
        let file = open().map_err(|cause| RunStoreError::io("open", &path, cause))?;
        match lock::acquire(&file, lock::Mode::Exclusive) {
            Ok(()) => Ok(file),
            Err(LockError::Busy(holder)) => Err(RunStoreError::Busy { path, holder }),
            Err(LockError::Io(cause)) => Err(RunStoreError::io("lock", &path, cause)),
        }
    }
}

/// Reads the note at a path; `None` if another process has just removed it or the file is not a
/// note.
fn read_note(path: &Path) -> Result<Option<Note>, RunStoreError> {
    let read = || -> io::Result<Option<Note>> {
        let Some(file) = open_regular(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(NOTE_MAX).read_to_end(&mut bytes)?;
        Ok(Note::from_bytes(&bytes))
    };
    match read() {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map_err(|cause| RunStoreError::io("read", path, cause)),
    }
}

/// Removes a staging directory if it is certain to be one. Anything else is left alone silently,
/// because it is not ours. No link in its path is followed either: the path had none when the run
/// began, so a link that is there now leads elsewhere.
fn remove_staging(id: &RunId, path: &Path) -> io::Result<()> {
    let name = format!(".strongroom-{id}");
    if path.file_name().and_then(|name| name.to_str()) != Some(name.as_str()) {
        return Ok(());
    }
    let gone = |cause: &io::Error| {
        matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            || cause.raw_os_error() == Some(Errno::LOOP.raw_os_error())
    };
    let opened = path.parent().map_or(Err(io::ErrorKind::NotFound.into()), open_without_links);
    let opened = opened.and_then(|parent| Ok((open_below(&parent, OsStr::new(&name), OFlags::RDONLY)?, parent)));
    let (folder, parent) = match opened {
        Ok(opened) => opened,
        Err(cause) if gone(&cause) => return Ok(()),
        Err(cause) => return Err(cause),
    };
    if rustix::fs::fstat(&folder)?.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    empty_tree(&folder)?;
    match rustix::fs::unlinkat(&parent, name.as_str(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory component by component, so that a link anywhere in its path is an error.
fn open_without_links(path: &Path) -> io::Result<OwnedFd> {
    let mut folder = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => folder = open_below(&folder, name, OFlags::PATH)?,
            // The store does not write paths of this form.
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
    }
    Ok(folder)
}

fn open_below(folder: &OwnedFd, name: &OsStr, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}
