//! Cleaning up after processes that ended in the middle of a run.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::ids::RunId;
use crate::record::{Blame, Outcome, RunRecord};

use super::note::Note;
use super::{RunStore, RunStoreError, TEMP_PREFIX, id_of, nofollow, remove_tree};

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
        for name in self.names()? {
            if let Some(id) = name.strip_suffix(".open").and_then(id_of) {
                if self.sweep_run(&id, &is_live)? {
                    lost.push(id);
                }
            } else if let Some(id) = name.strip_suffix(".log").and_then(id_of) {
                self.sweep_log(&id);
            } else if let Some(rest) = name.strip_prefix(TEMP_PREFIX) {
                let writer = rest.split('-').next().unwrap_or_default();
                if writer == SWEEP || !is_live(writer) {
                    let _ = fs::remove_file(self.dir.join(&name));
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
            let file = File::options()
                .create(true)
                .write(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nofollow())
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|cause| RunStoreError::io("lock", &path, cause))
    }
}

/// The note at a path; none where another process has just removed it or it is none of ours.
fn read_note(path: &Path) -> Result<Option<Note>, RunStoreError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::options().read(true).custom_flags(nofollow()).open(path)?;
        file.take(NOTE_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Note::from_bytes(&bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(RunStoreError::io("read", path, cause)),
    }
}

/// Removes a staging folder if it is surely one. What is not stays, silently: it is nothing of ours.
fn remove_staging(id: &RunId, path: &Path) -> io::Result<()> {
    if path.file_name().and_then(|name| name.to_str()) != Some(format!(".strongroom-{id}").as_str()) {
        return Ok(());
    }
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(cause) => return Err(cause),
    };
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    match remove_tree(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
