//! The run store: one JSON file per run in a dedicated directory (`docs/run-record.md` describes
//! both).
//!
//! A record is written when its run begins and replaced when it ends, each time atomically: a
//! temporary file is written and synced, renamed over the old one, and the directory is synced. A
//! reader sees the old record or the new one, whatever happens in between.
//!
//! The directory `active` has a *note*, `<id>.open`, for each run in progress, written first and
//! removed last. It names the audit segment of the process and the staging directory. Files that are
//! being written are there too. [`RunStore::mark_lost`] reads only this directory, so runs that
//! ended normally cost nothing when the program starts, and a crash at any point leaves enough
//! information to clean up.
//!
//! A run's output is stored in `<id>.log` while the run is in progress ([`LogWriter`]). A log
//! without a record is removed. The link `.last` names the run that began last.

mod log;
mod lost;
mod note;
mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use strongroom_audit::lock::LockError;
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
const NOT_REGULAR: &str = "it is not a regular file";

/// The prefix of temporary files, followed by the audit segment of the writer.
const TEMP_PREFIX: &str = ".new-";

/// The directory of notes and temporary files.
const ACTIVE: &str = "active";

/// The link to the record of the run that began last.
const LAST: &str = ".last";

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
    #[error("could not {what} `{}`: {cause}{}", .path.display(), hint(.cause))]
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
    #[error("there is no run `{0}`")]
    Absent(String),
    /// Another process holds the lock of the store.
    #[error("the run records `{}` are busy: {}", .path.display(), LockError::Busy(*.holder))]
    Busy {
        /// The file that is locked.
        path: PathBuf,
        /// The process that holds the lock, if the system says so.
        holder: Option<u32>,
    },
    /// Several run IDs begin with the same text.
    #[error("{count} run IDs begin with `{text}`")]
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
            return Err(RunStoreError::io("create the directory", dir, cause));
        }
        let meta = fs::symlink_metadata(dir).map_err(|cause| RunStoreError::io("open", dir, cause))?;
        let refuse = |reason| Err(RunStoreError::Folder { path: dir.to_owned(), reason });
        if !meta.is_dir() {
            return refuse("it is not a directory");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if meta.mode() & 0o022 != 0 {
            return refuse("other users may write to it");
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
                    std::path::absolute(path).map_err(|cause| RunStoreError::io("find the directory", path, cause))?;
                // Store the path without links, because the cleanup follows none.
                let real = path.parent().and_then(|parent| parent.canonicalize().ok());
                Some(real.zip(path.file_name()).map(|(parent, name)| parent.join(name)).unwrap_or(path))
            }
            None => None,
        };
        let note = Note { segment: record.segment.clone(), staging };
        self.replace(&record.segment, &self.note_path(&record.id), &note.to_bytes())?;
        let written = self.point_to(record).and_then(|()| self.write(&record.segment, record));
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
            let reason = format!("it is the record of run {}", record.id);
            return Err(RunStoreError::Damaged { path, reason });
        }
        Ok(record)
    }

    /// Returns the runs, newest first. Each record is read when the iterator reaches it, and a
    /// record that cannot be read does not end the list. Removes logs without a record.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(
        &self,
    ) -> Result<impl ExactSizeIterator<Item = (RunId, Result<RunRecord, RunStoreError>)> + '_, RunStoreError> {
        let (ids, logs) = self.ids()?;
        // A run's record exists before its log, but may have been created after the directory was
        // read.
        let absent =
            |path: &Path| fs::symlink_metadata(path).is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound);
        for id in logs.iter().filter(|id| ids.binary_search_by(|other| (*id).cmp(other)).is_err()) {
            if absent(&self.record_path(id)) {
                let _ = fs::remove_file(self.log_path(id));
            }
        }
        Ok(ids.into_iter().map(|id| (id, self.get(&id))))
    }

    /// Returns the record of the run that began last (`last`), or whose ID is or uniquely begins
    /// with this text (case does not matter).
    ///
    /// # Errors
    /// No run or several runs match the text, or the record cannot be read.
    pub fn find_by_prefix(&self, text: &str) -> Result<RunRecord, RunStoreError> {
        if text == "last" {
            // Not the newest ID: the clock may have been wrong.
            let id = fs::read_link(self.dir.join(LAST)).ok().and_then(|link| id_of(link.to_str()?));
            return match id.map(|id| self.get(&id)) {
                None | Some(Err(RunStoreError::Absent(_))) => match self.ids()?.0.first() {
                    Some(id) => self.get(id),
                    None => Err(RunStoreError::Absent(text.to_owned())),
                },
                Some(found) => found,
            };
        }
        let wanted = text.to_ascii_uppercase();
        if let Some(id) = id_of(&wanted) {
            return self.get(&id);
        }
        let (ids, _) = self.ids()?;
        let mut found = ids.iter().filter(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted));
        match (found.next(), found.count()) {
            (Some(id), 0) => self.get(id),
            (Some(_), more) => Err(RunStoreError::Ambiguous { text: text.to_owned(), count: more + 1 }),
            (None, _) => Err(RunStoreError::Absent(text.to_owned())),
        }
    }

    /// Returns the run IDs of all records, newest first, and of all logs.
    fn ids(&self) -> Result<(Vec<RunId>, Vec<RunId>), RunStoreError> {
        let (mut records, mut logs) = (Vec::new(), Vec::new());
        for_each_name(&self.dir, |name| match name.split_once('.') {
            Some((id, "json")) => records.extend(id_of(id)),
            Some((id, "log")) => logs.extend(id_of(id)),
            _ => {}
        })?;
        records.sort_unstable_by(|a, b| b.cmp(a));
        Ok((records, logs))
    }

    /// Records that this run began last.
    fn point_to(&self, record: &RunRecord) -> Result<(), RunStoreError> {
        let link = |path: &Path| std::os::unix::fs::symlink(record.id.to_string(), path);
        let temp = tempfile::Builder::new().prefix(&temp_prefix(&record.segment)).make_in(self.active(), link);
        let path = self.dir.join(LAST);
        let done = temp.and_then(|temp| temp.persist(&path).map_err(|error| error.error));
        done.map(drop).map_err(|cause| RunStoreError::io("write", &path, cause))
    }

    fn active(&self) -> PathBuf {
        self.dir.join(ACTIVE)
    }

    /// Creates the directory of notes if it is missing, and moves notes and temporary files into it
    /// that an earlier version has created beside the records. `_lock` is the lock on the store, if
    /// the caller holds it.
    fn make_active(&self, lock: Option<&File>) -> Result<(), RunStoreError> {
        if self.active().is_dir() {
            return Ok(());
        }
        let _own = if lock.is_none() { Some(self.lock()?) } else { None };
        let new = self.dir.join(".new-active");
        let make = || -> io::Result<()> {
            if self.active().is_dir() {
                return Ok(());
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if (name.ends_with(".open") || name.starts_with(TEMP_PREFIX)) && entry.path() != new {
                    fs::rename(entry.path(), new.join(name))?;
                }
            }
            // Renamed last: after a crash the next process continues.
            fs::rename(&new, self.active())?;
            File::open(&self.dir)?.sync_all()
        };
        make().map_err(|cause| RunStoreError::io("create the directory", &self.active(), cause))
    }

    fn record_path(&self, id: &RunId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    fn note_path(&self, id: &RunId) -> PathBuf {
        self.active().join(format!("{id}.open"))
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
        self.make_active(None)?;
        let replace = || -> io::Result<()> {
            let mut temp = tempfile::Builder::new().prefix(&temp_prefix(writer)).tempfile_in(self.active())?;
            temp.write_all(bytes)?;
            temp.as_file().sync_all()?;
            temp.persist(path).map_err(|error| error.error)?;
            File::open(path.parent().unwrap_or(&self.dir))?.sync_all()
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
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space on that disk",
        io::ErrorKind::FileTooLarge => "; raise the limit on the size of files (`ulimit -f`)",
        io::ErrorKind::ReadOnlyFilesystem => "; the run records must be on a writable disk",
        io::ErrorKind::PermissionDenied => "; the directory must belong to the user who runs this",
        _ => "",
    }
}

/// Calls a function with the name of each entry of a directory that is valid UTF-8, as all names of
/// the store are. Allocates nothing for each: the directory may have very many.
fn for_each_name(dir: &Path, mut each: impl FnMut(&str)) -> Result<(), RunStoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut list = || -> io::Result<()> {
        let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
        let mut buffer = Vec::with_capacity(256 * 1024);
        let mut entries = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => each(name),
            }
        }
        Ok(())
    };
    list().map_err(|cause| RunStoreError::io("read the directory", dir, cause))
}

/// Returns the names of all entries of a directory.
fn names(dir: &Path) -> Result<Vec<String>, RunStoreError> {
    let mut names = Vec::new();
    for_each_name(dir, |name| names.push(name.to_owned()))?;
    Ok(names)
}

/// Returns the run ID in a file's name, only if it is in canonical form.
fn id_of(text: &str) -> Option<RunId> {
    // Parsing also accepts lower case, and ignores bits beyond 128.
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && text.bytes().next().is_some_and(|first| first <= b'7');
    RunId::parse(text).ok().filter(|_| is_canonical)
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
    thin.warnings.push("the points of all metrics were dropped: the record was larger than 16 MiB".to_owned());
    let mut bytes = to_json(&thin)?;
    let outputs = thin.outputs.len();
    while bytes.len() > RECORD_MAX && !thin.outputs.is_empty() {
        thin.outputs.truncate(thin.outputs.len() / 2);
        bytes = to_json(&thin)?;
    }
    if thin.outputs.len() < outputs {
        let kept = thin.outputs.len();
        thin.outputs_omitted = outputs.saturating_sub(kept) as u64;
        thin.warnings
            .push(format!("only the first {kept} of {outputs} outputs are listed: the record was larger than 16 MiB"));
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
        return Err(damaged("it is larger than 16 MiB".to_owned()));
    }
    let format: Format = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if format.format > u64::from(FORMAT) {
        return Err(RunStoreError::Newer { path: path.to_owned(), found: format.format });
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
