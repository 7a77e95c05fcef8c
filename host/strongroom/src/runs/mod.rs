//! The run store: one JSON file per run in a dedicated directory (`docs/run-record.md` describes
//! both).
//!
//! A record is written when its run begins and replaced when it ends, each time atomically: a
//! temporary file is written and synced, renamed over the old one, and the directory is synced. A
//! reader sees the old record or the new one, whatever happens in between.
//!
//! Beside the record of a run in progress there is a *note*, `<id>.open`, written first and removed
//! last. It names the audit segment of the process and the staging directory.
//! [`RunStore::mark_lost`] reads only notes, so runs that ended normally cost nothing when the
//! program starts, and a crash at any point leaves enough information to clean up.
//!
//! A run's output is stored in `<id>.log` while the run is in progress ([`LogWriter`]). A log is
//! removed with its record, and a log without a record is removed.

mod log;
mod lost;
mod note;
mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use strongroom_core::ids::RunId;
use strongroom_core::record::{FORMAT, RunRecord};

pub use log::{LOG_DEFAULT, LOG_MAX, LOG_MIN, LogLine, LogStream, LogWriter};
use note::Note;
pub(crate) use tree::empty_tree;
#[cfg(test)]
pub(crate) use tree::remove_tree;

/// The maximum size of a stored record: 16 MiB. A larger one is shortened when it is written, and
/// rejected when it is read.
pub const RECORD_MAX: usize = 16 * 1024 * 1024;

/// The error text for a link, a FIFO or a directory in place of a file.
const NOT_REGULAR: &str = "it is no regular file";

/// The prefix of temporary files, followed by the audit segment of the writer.
const TEMP_PREFIX: &str = ".new-";

/// A directory of run records.
#[derive(Debug)]
pub struct RunStore {
    dir: PathBuf,
    log_max: u64,
}

/// Why a record was not stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunStoreError {
    /// The file system returned an error.
    #[error("cannot {what} `{}`: {cause}{}", .path.display(), hint(.cause))]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// Its file or directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The path is not a directory, belongs to another user, or is writable by others.
    #[error("`{}` cannot hold run records: {reason}", .path.display())]
    Folder {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file is not a run record.
    #[error("the run record `{}` is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is not a run log.
    #[error("the log `{}` is damaged: {reason}", .path.display())]
    DamagedLog {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "the run record `{}` has format {found}, and this version of strongroom reads up to {FORMAT}: use a newer one",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u64,
    },
    /// No such run exists.
    #[error("there is no run `{0}`: `strongroom runs list` shows those there are")]
    Absent(String),
    /// Several run IDs begin with the same text.
    #[error("{count} runs begin with `{text}`: give more of the identity")]
    Ambiguous {
        /// The requested text.
        text: String,
        /// How many run IDs begin with it.
        count: usize,
    },
}

impl RunStore {
    /// Opens the directory and creates it, accessible only to its owner, if it is missing.
    ///
    /// # Errors
    /// The directory cannot be created, is not a directory, belongs to another user, or is writable
    /// by others.
    pub fn open(dir: &Path) -> Result<RunStore, RunStoreError> {
        if let Err(cause) = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            return Err(RunStoreError::io("make the folder", dir, cause));
        }
        let meta = fs::symlink_metadata(dir).map_err(|cause| RunStoreError::io("open", dir, cause))?;
        let refuse = |reason| Err(RunStoreError::Folder { path: dir.to_owned(), reason });
        if !meta.is_dir() {
            return refuse("it is a link or a file, not a folder");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if meta.mode() & 0o022 != 0 {
            return refuse("others may write to it; `chmod 700` it");
        }
        Ok(RunStore { dir: dir.to_owned(), log_max: LOG_DEFAULT })
    }

    /// Sets how many bytes of each run's output are kept: none, or from [`LOG_MIN`] to [`LOG_MAX`],
    /// to which other values are raised or lowered. The default is [`LOG_DEFAULT`].
    pub fn keeping(self, log_max: u64) -> RunStore {
        RunStore { log_max, ..self }
    }

    /// Writes the record of a run that begins. `staging` is the directory, named
    /// `.strongroom-<id>`, in which its outputs will be staged. [`RunStore::mark_lost`] removes it
    /// if this process ends before [`RunStore::finish`].
    ///
    /// Call this before the directory is created.
    ///
    /// # Errors
    /// The file system returned an error. The run must not start then.
    pub fn begin(&self, record: &RunRecord, staging: Option<&Path>) -> Result<(), RunStoreError> {
        let staging = match staging {
            Some(path) => {
                let path =
                    std::path::absolute(path).map_err(|cause| RunStoreError::io("find the folder", path, cause))?;
                // Store the path without links, because the cleanup follows none.
                let real = path.parent().and_then(|parent| parent.canonicalize().ok());
                Some(real.zip(path.file_name()).map(|(parent, name)| parent.join(name)).unwrap_or(path))
            }
            None => None,
        };
        let note = Note { segment: record.segment.clone(), staging };
        self.replace(&record.segment, &self.note_path(&record.id), &note.to_bytes())?;
        let written = self.write(&record.segment, record);
        if written.is_err() {
            // The run does not start, so nothing is staged. A note that cannot be removed is
            // removed by the next sweep.
            let _ = fs::remove_file(self.note_path(&record.id));
        }
        written
    }

    /// Replaces the record of a run with its final form. If that exceeds [`RECORD_MAX`], metric
    /// points and then outputs are left out of what is stored, and a warning in the record says so.
    ///
    /// # Errors
    /// The file system returned an error; the stored record still says that the run is in progress.
    pub fn finish(&self, record: &RunRecord) -> Result<(), RunStoreError> {
        self.write(&record.segment, record)?;
        self.remove_note(&record.id)
    }

    /// Returns the record of one run.
    ///
    /// # Errors
    /// It does not exist, or it is damaged or of a newer format.
    pub fn get(&self, id: &RunId) -> Result<RunRecord, RunStoreError> {
        let path = self.record_path(id);
        let file = match open_regular(&path) {
            Ok(Some(file)) => file,
            Ok(None) => return Err(RunStoreError::Damaged { path, reason: NOT_REGULAR.to_owned() }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(RunStoreError::Absent(id.to_string())),
            Err(cause) => return Err(RunStoreError::io("open", &path, cause)),
        };
        let mut bytes = Vec::new();
        let limit = RECORD_MAX as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(|cause| RunStoreError::io("read", &path, cause))?;
        let record = parse(&path, &bytes)?;
        if record.id != *id {
            let reason = format!("it says that it is of run {}", record.id);
            return Err(RunStoreError::Damaged { path, reason });
        }
        Ok(record)
    }

    /// Returns the runs, newest first. Each record is read when the iterator reaches it, and a
    /// record that cannot be read does not end the list.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<impl Iterator<Item = (RunId, Result<RunRecord, RunStoreError>)> + '_, RunStoreError> {
        Ok(self.ids()?.into_iter().map(|id| (id, self.get(&id))))
    }

    /// Returns the record that matches `last`, a whole run ID, or a unique prefix of one (case does
    /// not matter).
    ///
    /// # Errors
    /// No run or several runs match the text, or the record cannot be read.
    pub fn find_by_prefix(&self, text: &str) -> Result<RunRecord, RunStoreError> {
        let ids = self.ids()?;
        if text == "last" {
            return match ids.first() {
                Some(id) => self.get(id),
                None => Err(RunStoreError::Absent(text.to_owned())),
            };
        }
        let wanted = text.to_ascii_uppercase();
        let mut found = ids.iter().filter(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted));
        match (found.next(), found.count()) {
            (Some(id), 0) => self.get(id),
            (Some(_), more) => Err(RunStoreError::Ambiguous { text: text.to_owned(), count: more + 1 }),
            (None, _) => Err(RunStoreError::Absent(text.to_owned())),
        }
    }

    /// Returns all run IDs, newest first.
    fn ids(&self) -> Result<Vec<RunId>, RunStoreError> {
        let mut ids: Vec<RunId> = self.names()?.iter().filter_map(|name| id_of(name.strip_suffix(".json")?)).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// Returns the names of all files in the directory that are valid UTF-8, as all names of the
    /// store are.
    fn names(&self) -> Result<Vec<String>, RunStoreError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        };
        list().map_err(|cause| RunStoreError::io("read the folder", &self.dir, cause))
    }

    fn record_path(&self, id: &RunId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    fn note_path(&self, id: &RunId) -> PathBuf {
        self.dir.join(format!("{id}.open"))
    }

    fn remove_note(&self, id: &RunId) -> Result<(), RunStoreError> {
        let path = self.note_path(id);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(RunStoreError::io("remove", &path, cause)),
            _ => Ok(()),
        }
    }

    fn write(&self, writer: &str, record: &RunRecord) -> Result<(), RunStoreError> {
        let path = self.record_path(&record.id);
        let bytes = encode(record).map_err(|cause| RunStoreError::io("write", &path, cause.into()))?;
        self.replace(writer, &path, &bytes)
    }

    /// Writes a file atomically and returns only once it will survive a power failure.
    fn replace(&self, writer: &str, path: &Path, bytes: &[u8]) -> Result<(), RunStoreError> {
        let replace = || -> io::Result<()> {
            let mut temp = tempfile::Builder::new().prefix(&temp_prefix(writer)).tempfile_in(&self.dir)?;
            temp.write_all(bytes)?;
            temp.as_file().sync_all()?;
            temp.persist(path).map_err(|error| error.error)?;
            File::open(&self.dir)?.sync_all()
        };
        replace().map_err(|cause| RunStoreError::io("write", path, cause))
    }
}

impl RunStoreError {
    fn io(what: &'static str, path: &Path, cause: io::Error) -> Self {
        RunStoreError::Io { what, path: path.to_owned(), cause }
    }
}

/// Returns a hint for an error of the file system.
fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::FileTooLarge => "; raise the limit on the size of files (`ulimit -f`)",
        io::ErrorKind::ReadOnlyFilesystem => "; the run records have to be on a disk that can be written",
        io::ErrorKind::PermissionDenied => "; the folder has to belong to the user who runs this",
        _ => "",
    }
}

/// Returns the run ID in a file's name, only if it is in canonical form.
fn id_of(text: &str) -> Option<RunId> {
    RunId::parse(text).ok().filter(|id| id.to_string() == text)
}

/// Returns the prefix of a writer's temporary files. A segment is a ULID; nothing else may become
/// part of a file's name.
fn temp_prefix(writer: &str) -> String {
    let writer: String = writer.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!("{TEMP_PREFIX}{writer}-")
}

/// Returns `O_NOFOLLOW` in the type that the standard library takes.
fn nofollow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// Opens a file of the store for reading; `None` if it is not a regular file but, for example, a
/// link or a FIFO. Never blocks on a FIFO.
fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(cause) if cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Encodes the record for storage, shortened until it fits.
fn encode(record: &RunRecord) -> Result<Vec<u8>, serde_json::Error> {
    let bytes = to_json(record)?;
    if bytes.len() <= RECORD_MAX {
        return Ok(bytes);
    }
    let mut thin = record.clone();
    for metric in thin.metrics.values_mut() {
        metric.dropped = metric.dropped.saturating_add(metric.points.len() as u64);
        metric.points = Vec::new();
    }
    thin.warnings.push("the points of all metrics were left out: the record was over 16 MiB".to_owned());
    let mut bytes = to_json(&thin)?;
    let outputs = thin.outputs.len();
    while bytes.len() > RECORD_MAX && !thin.outputs.is_empty() {
        thin.outputs.truncate(thin.outputs.len() / 2);
        bytes = to_json(&thin)?;
    }
    if thin.outputs.len() < outputs {
        let kept = thin.outputs.len();
        thin.warnings
            .push(format!("only the first {kept} of {outputs} outputs are listed: the record was over 16 MiB"));
        bytes = to_json(&thin)?;
    }
    Ok(bytes)
}

fn to_json(record: &RunRecord) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<RunRecord, RunStoreError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u64,
    }
    let damaged = |reason: String| RunStoreError::Damaged { path: path.to_owned(), reason };
    if bytes.len() > RECORD_MAX {
        return Err(damaged("it is over 16 MiB".to_owned()));
    }
    let format: Format = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if format.format > u64::from(FORMAT) {
        return Err(RunStoreError::Newer { path: path.to_owned(), found: format.format });
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
