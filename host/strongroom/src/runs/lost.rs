//! Cleans up after processes that ended during a run.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use strongroom_core::ids::RunId;
use strongroom_core::record::{Blame, Outcome, RunRecord};

use super::note::Note;
use super::tree::empty_tree;
use super::{NOT_REGULAR, RunStore, RunStoreError, TEMP_PREFIX, id_of, open_regular};

/// The writer's name in the sweep's own temporary files. The sweep holds the lock, so any existing
/// file with this name is left over.
const SWEEP: &str = "sweep";

/// The maximum number of bytes that are read of a note. A path has at most 4,096.
const NOTE_MAX: u64 = 16 * 1024;

impl RunStore {
    /// Marks every run as `lost` that is still `running` in the audit segment of a process that has
    /// ended, and removes the run's staging directory. Returns the runs that it marked. Concurrent
    /// calls from several processes are serialized.
    ///
    /// `is_live` returns whether the process that writes a segment still exists.
    ///
    /// A log whose record has been removed is removed too.
    ///
    /// A directory is removed only if its name is exactly `.strongroom-<id>` and it is a real
    /// directory of this user; links are never followed.
    ///
    /// # Errors
    /// The file system returned an error. Runs that were marked before stay marked.
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
        let _lock = self.lock()?;
        let mut lost = Vec::new();
        let names = self.names()?;
        // A log is examined only if its record is not in the list, so most runs that ended normally
        // cost no system call.
        let recorded: HashSet<&str> = names.iter().filter_map(|name| name.strip_suffix(".json")).collect();
        for name in &names {
            if let Some(id) = name.strip_suffix(".open").and_then(id_of) {
                if self.sweep_run(&id, &is_live)? {
                    lost.push(id);
                }
            } else if let Some(text) = name.strip_suffix(".log")
                && !recorded.contains(text)
                && let Some(id) = id_of(text)
            {
                self.sweep_log(&id);
            } else if let Some(rest) = name.strip_prefix(TEMP_PREFIX) {
                let writer = rest.split('-').next().unwrap_or_default();
                if writer == SWEEP || !is_live(writer) {
                    let _ = fs::remove_file(self.dir.join(name));
                }
            }
        }
        lost.sort_unstable();
        Ok(lost)
    }

    /// Examines one run that has a note. Returns whether it was marked lost.
    fn sweep_run(&self, id: &RunId, is_live: &impl Fn(&str) -> bool) -> Result<bool, RunStoreError> {
        let path = self.note_path(id);
        let Some(note) = read_note(&path)? else {
            return Ok(false);
        };
        if is_live(&note.segment) {
            return Ok(false);
        }
        // Read the record only now: the run may have ended normally after the note was read, but
        // its process has since ended and writes nothing more.
        let marked = match self.get(id) {
            Ok(record) if record.outcome == Outcome::Running => {
                self.replace_lost(record)?;
                true
            }
            // The run ended normally and only its note remained, or it never had a record.
            Ok(_) | Err(RunStoreError::Absent(_)) => false,
            // Damaged or newer: `list` reports it. Without the record, only the note has
            // information about the run.
            Err(RunStoreError::Damaged { .. } | RunStoreError::Newer { .. }) => false,
            Err(error) => return Err(error),
        };
        // A directory that cannot be removed must not block every later command. Its note is kept,
        // so that the removal is tried again.
        if let Some(staging) = &note.staging
            && let Err(error) = remove_staging(id, staging)
        {
            tracing::warn!(run = %id, path = ?staging, %error, "the private output folder of a lost run could not be removed");
            return Ok(marked);
        }
        self.remove_note(id)?;
        Ok(marked)
    }

    /// Removes a log that belongs to no run. A run in progress has a note, and its record exists
    /// before its log.
    fn sweep_log(&self, id: &RunId) {
        let gone = |path: std::path::PathBuf| {
            fs::symlink_metadata(path).is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
        };
        if gone(self.record_path(id)) && gone(self.note_path(id)) {
            let _ = fs::remove_file(self.log_path(id));
        }
    }

    fn replace_lost(&self, mut record: RunRecord) -> Result<(), RunStoreError> {
        record.outcome = Outcome::Lost;
        record.blame = Some(Blame::Host);
        record.ended = None;
        record.reason = Some("the process that ran it ended without writing how the run ended".to_owned());
        self.write(SWEEP, &record)
    }

    fn lock(&self) -> Result<File, RunStoreError> {
        let path = self.dir.join(".lock");
        let lock = || -> io::Result<File> {
            let mut options = File::options();
            options.create(true).write(true).truncate(false).mode(0o600);
            // `NONBLOCK` avoids blocking on a FIFO in its place.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = options.custom_flags(flags.bits().cast_signed()).open(&path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other(NOT_REGULAR));
            }
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|cause| RunStoreError::io("lock", &path, cause))
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
