//! Cleaning up after processes that ended in the middle of a run.

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

/// The writer's name in temporary files of the sweep itself, which holds the lock, so that whatever is there is left over.
const SWEEP: &str = "sweep";

/// The most bytes of a note that are read: a path has at most 4,096.
const NOTE_MAX: u64 = 16 * 1024;

impl RunStore {
    /// Gives the outcome `lost` to every run that is still `running` in the audit segment of a process that is gone, and removes
    /// the folder in which it staged outputs. Answers with the runs it marked. Processes that do this at once take turns.
    ///
    /// `is_live` tells whether the process that writes a segment is still there.
    ///
    /// A log whose record somebody has removed is removed too.
    ///
    /// A folder is removed only where its name is exactly `.strongroom-<id>` and it is a real folder of this user; links are never followed.
    ///
    /// # Errors
    /// The file system refuses. What was marked before stays marked.
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
        // A log is looked at further only where its record is not in the list: most runs that ended well cost no call.
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

    /// Looks at one run that has a note; whether it was marked lost.
    fn sweep_run(&self, id: &RunId, is_live: &impl Fn(&str) -> bool) -> Result<bool, RunStoreError> {
        let path = self.note_path(id);
        let Some(note) = read_note(&path)? else {
            return Ok(false);
        };
        if is_live(&note.segment) {
            return Ok(false);
        }
        // Read the record only now: its process may have ended well after we saw the note, but it writes nothing any more.
        let marked = match self.get(id) {
            Ok(record) if record.outcome == Outcome::Running => {
                self.replace_lost(record)?;
                true
            }
            // It ended well and only the note stayed, or it never came to have a record.
            Ok(_) | Err(RunStoreError::Absent(_)) => false,
            // Damaged or newer: the list reports it. Without the record nobody knows better than the note.
            Err(RunStoreError::Damaged { .. } | RunStoreError::Newer { .. }) => false,
            Err(error) => return Err(error),
        };
        // A folder that cannot be removed must not hold up every command from now on. Its note stays, so that it is tried again.
        if let Some(staging) = &note.staging
            && let Err(error) = remove_staging(id, staging)
        {
            tracing::warn!(run = %id, path = ?staging, %error, "the private output folder of a lost run could not be removed");
            return Ok(marked);
        }
        self.remove_note(id)?;
        Ok(marked)
    }

    /// Removes a log that nothing belongs to. A run that goes on has a note, and its record is there before its log.
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
            // A FIFO in its place is not waited for.
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

/// The note at a path; none where another process has just removed it or it is none of ours.
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

/// Removes a staging folder if it is surely one. What is not stays, silently: it is nothing of ours. No link is followed on the way to it either: the
/// path had none when the run began, so one that is there now leads somewhere else.
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

/// Opens a folder part by part, so that a link anywhere in its path is an error.
fn open_without_links(path: &Path) -> io::Result<OwnedFd> {
    let mut folder = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => folder = open_below(&folder, name, OFlags::PATH)?,
            // Not as we write it.
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
    }
    Ok(folder)
}

fn open_below(folder: &OwnedFd, name: &OsStr, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}
