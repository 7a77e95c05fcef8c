//! The one writer of a segment.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::Hash;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::chain::{self, Hex, LINE_MAX};
use super::commit::{Commit, Sink};
use super::error::{AuditError, Hint};
use super::event::{Event, Kind};
use super::folder::{Folder, file_name};
use super::ledger::{Ledger, View};
use super::policies::Kept;
use super::scan::{Known, scan};
use super::{FORMAT, SyncMode, now};
use strongroom_core::record::AuditPosition;

/// The audit of this process: one segment, to which all clones append.
///
/// Close it with [`Audit::close`] at the end; the last clone that is dropped tries to. A segment that was not closed is reported
/// as recovered, never as intact.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Folder,
    segment: String,
    mode: SyncMode,
    /// Holds the lock that says this segment is alive.
    file: Arc<File>,
    sink: Arc<dyn Sink>,
    commit: Arc<Commit>,
    state: Mutex<State>,
    policies: Kept,
    /// Held while the segment is being closed, so that a second closing waits for the first.
    closing: Mutex<()>,
}

struct State {
    written: Written,
    phase: Phase,
    /// The line being written. Kept for its room.
    line: Vec<u8>,
}

/// How far a segment is written.
#[derive(Clone, Copy)]
struct Written {
    count: u64,
    head: Hash,
}

enum Phase {
    Open,
    /// The last event is written, the ledger does not say so yet.
    Ended,
    Closed,
    Failed(Arc<str>),
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
    prev: Hex,
}

impl Audit {
    /// Begins a segment in a folder, which is made where it is not there. What processes left that are gone is recorded in the
    /// ledger first. Blocks for some syncs of the disk.
    ///
    /// # Errors
    /// Where the folder is not this user's alone ([`AuditError::Insecure`]), its ledger was altered or is held by a process that
    /// hangs, or something cannot be read or written.
    pub fn open(dir: &Path, sync: SyncMode) -> Result<Self, AuditError> {
        Self::open_with(dir, sync, |file| file)
    }

    /// Opens with a sink that may fail.
    pub(super) fn open_with(
        dir: &Path,
        mode: SyncMode,
        wrap: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Sink>,
    ) -> Result<Self, AuditError> {
        let folder = Folder::make(dir)?;
        let (mut ledger, view) = Ledger::open(&folder)?;
        recover(&folder, &mut ledger, &view, mode)?;
        // The file is made and locked before the ledger names it: whoever reads the ledger finds a live segment. A process that
        // dies in between leaves an empty file that nobody misses.
        let segment = ulid::Ulid::generate().to_string();
        let file = folder.create(&file_name(&segment))?;
        let path = folder.path_of(&file_name(&segment));
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| AuditError::io("lock the audit segment", &path, error))?;
        if mode == SyncMode::Always {
            folder.sync()?;
        }
        let genesis = ledger.start(&segment)?;
        ledger.sync(mode)?;
        drop(ledger);

        let file = Arc::new(file);
        let sink = wrap(Arc::clone(&file) as Arc<dyn Sink>);
        let inner = Inner {
            folder,
            segment,
            mode,
            file,
            commit: Arc::new(Commit::new(Arc::clone(&sink))),
            sink,
            state: Mutex::new(State {
                written: Written { count: 0, head: genesis },
                phase: Phase::Open,
                line: Vec::new(),
            }),
            policies: Kept::default(),
            closing: Mutex::new(()),
        };
        let first = inner.write(&first_event())?;
        inner.settle(first.count)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends an event and answers once it is durable, as far as the mode asks for it. Concurrent appends share a sync.
    ///
    /// The line is written at the first poll; a future that is dropped later leaves a complete event behind.
    ///
    /// # Errors
    /// [`AuditError::Failed`] where this or an earlier event could not be written; [`AuditError::Closed`] after the end;
    /// [`AuditError::TooLong`] and [`AuditError::Reserved`] where nothing was written and the segment is as before. In each case
    /// what was to be audited must not happen.
    pub async fn append(&self, event: Event) -> Result<AuditPosition, AuditError> {
        Ok(self.inner.position(self.write(&event).await?))
    }

    /// [`Audit::append`] for who does not ask where the event stands.
    pub async fn put(&self, event: &Event) -> Result<(), AuditError> {
        self.write(event).await.map(drop)
    }

    async fn write(&self, event: &Event) -> Result<Written, AuditError> {
        check(event)?;
        let written = self.inner.write(event)?;
        if self.inner.mode == SyncMode::Always {
            self.inner.commit.wait(written.count).await.map_err(|cause| self.inner.failed(cause))?;
        }
        Ok(written)
    }

    /// [`Audit::append`] for callers that may block.
    ///
    /// # Errors
    /// As [`Audit::append`].
    pub fn append_blocking(&self, event: Event) -> Result<AuditPosition, AuditError> {
        check(&event)?;
        let written = self.inner.write(&event)?;
        self.inner.settle(written.count)?;
        Ok(self.inner.position(written))
    }

    /// Where the segment stands: after the last event written, which another caller may still be making durable.
    pub fn position(&self) -> AuditPosition {
        let written = self.inner.lock().written;
        self.inner.position(written)
    }

    /// The segment's name, a ULID.
    pub fn segment(&self) -> &str {
        &self.inner.segment
    }

    /// Ends the segment and records head and count in the ledger. Blocks; closing again does nothing.
    ///
    /// # Errors
    /// [`AuditError::Failed`] where the segment has failed, and whatever keeps the ledger from being written. The segment then counts
    /// as not closed, and the next process records it as recovered.
    pub fn close(&self) -> Result<(), AuditError> {
        self.inner.close()
    }

    /// Keeps a policy's text by its digest as `policies/<hex>.toml`, complete or not at all. Blocks.
    ///
    /// # Errors
    /// [`AuditError::PolicyDigest`] where the digest is not the text's; [`AuditError::Io`] where it cannot be written.
    pub fn keep_policy(&self, digest: &strongroom_core::ids::Digest, text: &str) -> Result<(), AuditError> {
        self.inner.policies.keep(&self.inner.folder, self.inner.mode, digest, text)
    }
}

#[cfg(test)]
impl Audit {
    /// What `kill -9` leaves: the file is let go of and nothing more is written. Of a program that another test starts at this moment, the
    /// beginnings have the file too, and for so long the segment is alive.
    pub(super) fn kill(self) {
        let (dir, segment) = (self.inner.folder.path_of(""), self.segment().to_owned());
        self.inner.lock().phase = Phase::Failed(Arc::from("killed by a test"));
        drop(self);
        while super::is_live(&dir, &segment) {
            std::thread::yield_now();
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("segment", &self.inner.segment).finish_non_exhaustive()
    }
}

/// The first event: what program this is, and who runs it. Nothing of it comes from the environment.
fn first_event() -> Event {
    let detail: [(_, Cow<'static, str>); _] = [
        ("program", concat!("strongroom ", env!("CARGO_PKG_VERSION")).into()),
        ("format", FORMAT.to_string().into()),
        ("pid", std::process::id().to_string().into()),
        ("uid", rustix::process::getuid().as_raw().to_string().into()),
        ("euid", rustix::process::geteuid().as_raw().to_string().into()),
    ];
    let detail = detail.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Event { event: Kind::SegmentStart, detail, ..Event::default() }
}

/// The first and the last event of a segment are the writer's; a caller that forgot to say what happened gets an error.
fn check(event: &Event) -> Result<(), AuditError> {
    match event.event {
        Kind::SegmentStart | Kind::SegmentEnd => Err(AuditError::Reserved),
        _ => Ok(()),
    }
}

/// Records every segment that was begun and not closed and whose process is gone, as it was found.
fn recover(folder: &Folder, ledger: &mut Ledger<'_>, view: &View, mode: SyncMode) -> Result<(), AuditError> {
    let open = view.segments.iter().filter(|(_, listed)| listed.ending.is_none());
    for (segment, listed) in open {
        if folder.is_live(segment) {
            continue;
        }
        // A file that is not there stays missing: `verify` says so.
        let Some(file) = folder.read(&file_name(segment))? else { continue };
        let path = folder.path_of(&file_name(segment));
        // What the ledger says must not be ahead of what the disk has.
        if mode == SyncMode::Always {
            file.sync_data().map_err(|error| AuditError::io("sync the audit segment", &path, error))?;
        }
        let known = Known { genesis: Some(listed.genesis), ..Known::default() };
        let scan = scan(&file, known).map_err(|error| AuditError::io("read the audit segment", &path, error))?;
        ledger.recovered(segment, &scan)?;
    }
    Ok(())
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| {
            // Somebody panicked while writing: what the file holds is not known.
            let mut state = PoisonError::into_inner(broken);
            state.phase = Phase::Failed(Arc::from("a panic while writing"));
            state
        })
    }

    fn position(&self, Written { count, head }: Written) -> AuditPosition {
        AuditPosition { segment: self.segment.clone(), count, head: head.to_hex().to_string() }
    }

    fn failed(&self, cause: Arc<str>) -> AuditError {
        AuditError::Failed { segment: self.segment.clone(), cause }
    }

    fn write(&self, event: &Event) -> Result<Written, AuditError> {
        let mut state = self.lock();
        let State { written, phase, line: bytes } = &mut *state;
        match &*phase {
            Phase::Open => {}
            Phase::Ended | Phase::Closed => return Err(AuditError::Closed(self.segment.clone())),
            Phase::Failed(cause) => return Err(self.failed(Arc::clone(cause))),
        }
        if let Some(cause) = self.commit.failure() {
            return Err(self.failed(cause));
        }
        let line = Line { seq: written.count.saturating_add(1), time: now(), event, prev: Hex(written.head) };
        bytes.clear();
        serde_json::to_writer(&mut *bytes, &line).map_err(AuditError::Encode)?;
        bytes.push(b'\n');
        if bytes.len() > LINE_MAX {
            let length = bytes.len();
            *bytes = Vec::new();
            return Err(AuditError::TooLong(length));
        }
        if let Err(error) = self.write_once(bytes) {
            let cause: Arc<str> = Arc::from(format!("cannot write it: {error}{}", Hint(&error)));
            *phase = Phase::Failed(Arc::clone(&cause));
            return Err(self.failed(cause));
        }
        *written = Written { count: line.seq, head: chain::segment_line(bytes) };
        self.commit.written(written.count);
        if event.event == Kind::SegmentEnd {
            *phase = Phase::Ended;
        }
        Ok(*written)
    }

    /// One line, one `write(2)`. A part of a line is never followed by anything.
    fn write_once(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            return match self.sink.write(bytes) {
                Ok(count) if count == bytes.len() => Ok(()),
                Ok(_) => Err(io::Error::from(io::ErrorKind::StorageFull)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    fn settle(&self, line: u64) -> Result<(), AuditError> {
        match self.mode {
            SyncMode::Always => self.commit.sync_to(line).map_err(|cause| self.failed(cause)),
            SyncMode::Os => Ok(()),
        }
    }

    fn close(&self) -> Result<(), AuditError> {
        let _closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(self.lock().phase, Phase::Closed) {
            return Ok(());
        }
        let end = self.write(&Event { event: Kind::SegmentEnd, ..Event::default() })?;
        let recorded = self.record_end(end.count);
        let mut state = self.lock();
        state.phase = match &recorded {
            Ok(()) => Phase::Closed,
            // Not tried again: the entry may stand in the ledger, and a second one would look like an edit.
            Err(error) => Phase::Failed(Arc::from(error.to_string())),
        };
        // From here nobody takes this process for one that still writes; that fails only where there is no lock to give up.
        let _ = flock(self.file.as_ref(), FlockOperation::Unlock);
        recorded
    }

    fn record_end(&self, count: u64) -> Result<(), AuditError> {
        // Also where the system syncs as it likes: the ledger must not say more than the disk has.
        self.commit.sync_to(count).map_err(|cause| self.failed(cause))?;
        let head = self.lock().written.head;
        let mut ledger = Ledger::open_end(&self.folder)?;
        ledger.end(&self.segment, count, head)?;
        ledger.sync(SyncMode::Always)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let open = matches!(self.lock().phase, Phase::Open);
        if open && let Err(error) = self.close() {
            tracing::error!(segment = %self.segment, %error, "the audit segment could not be closed");
        }
    }
}
