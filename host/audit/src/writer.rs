//! The writer of a segment.

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
use super::commit::{GroupCommit, Sink};
use super::error::{AuditError, Hint};
use super::event::{Event, Kind};
use super::folder::{Folder, file_name};
use super::ledger::{Ledger, LedgerState};
use super::policies::PolicyStore;
use super::scan::{Expected, scan};
use super::{FORMAT, SyncMode, now};
use strongroom_core::record::AuditPosition;

/// The audit log of this process: one segment, to which all clones append.
///
/// Close it with [`Audit::close`]; otherwise dropping the last clone tries to. A segment that was
/// not closed is reported as recovered, never as intact.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Folder,
    segment: String,
    mode: SyncMode,
    /// Holds the lock that marks this segment as live.
    file: Arc<File>,
    sink: Arc<dyn Sink>,
    commit: Arc<GroupCommit>,
    state: Mutex<State>,
    policies: PolicyStore,
    /// Held while the segment is being closed, so that a second call waits for the first.
    closing: Mutex<()>,
}

struct State {
    written: Written,
    phase: Phase,
    /// Buffer for the line, reused to avoid allocations.
    line: Vec<u8>,
}

/// Position after the last event written.
#[derive(Clone, Copy)]
struct Written {
    count: u64,
    head: Hash,
}

enum Phase {
    Open,
    /// The last event is written, but not recorded in the ledger.
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
    /// Starts a segment in a directory, which is created if missing. First records segments that
    /// other processes did not close in the ledger. Blocks for several disk syncs.
    ///
    /// # Errors
    /// [`AuditError::Insecure`] if other users own or can access the directory; other errors if the
    /// ledger was altered, another process does not release it, or a file cannot be read or
    /// written.
    pub fn open(dir: &Path, sync: SyncMode) -> Result<Self, AuditError> {
        Self::open_with(dir, sync, |file| file)
    }

    /// Opens with another sink, which may fail.
    pub(super) fn open_with(
        dir: &Path,
        mode: SyncMode,
        wrap: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Sink>,
    ) -> Result<Self, AuditError> {
        let folder = Folder::make(dir)?;
        let (mut ledger, view) = Ledger::open(&folder)?;
        recover(&folder, &mut ledger, &view, mode)?;
        // The file is created and locked before the ledger lists it, so that readers of the ledger
        // see a live segment. A process that dies in between leaves only an empty file.
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
            commit: Arc::new(GroupCommit::new(Arc::clone(&sink))),
            sink,
            state: Mutex::new(State {
                written: Written { count: 0, head: genesis },
                phase: Phase::Open,
                line: Vec::new(),
            }),
            policies: PolicyStore::default(),
            closing: Mutex::new(()),
        };
        let first = inner.write(&first_event())?;
        inner.settle(first.count)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends an event and returns once it is durable, as far as the mode requires. Concurrent
    /// calls share a sync.
    ///
    /// The line is written at the first poll; dropping the future later leaves a complete event.
    ///
    /// # Errors
    /// [`AuditError::Failed`] if this or an earlier event could not be written;
    /// [`AuditError::Closed`] after the end; [`AuditError::TooLong`] and [`AuditError::Reserved`]
    /// if nothing was written and the segment can still be used. After any error the caller must
    /// not perform the action.
    pub async fn append(&self, event: Event) -> Result<AuditPosition, AuditError> {
        Ok(self.inner.position(self.write(&event).await?))
    }

    /// Appends an event like [`Audit::append`], without returning its position.
    ///
    /// # Errors
    /// Those of [`Audit::append`].
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

    /// Appends an event like [`Audit::append`], for callers that may block.
    ///
    /// # Errors
    /// Those of [`Audit::append`].
    pub fn append_blocking(&self, event: Event) -> Result<AuditPosition, AuditError> {
        check(&event)?;
        let written = self.inner.write(&event)?;
        self.inner.settle(written.count)?;
        Ok(self.inner.position(written))
    }

    /// Returns the position after the last event written, which may not be durable yet.
    pub fn position(&self) -> AuditPosition {
        let written = self.inner.lock().written;
        self.inner.position(written)
    }

    /// Returns the segment's name, a ULID.
    pub fn segment(&self) -> &str {
        &self.inner.segment
    }

    /// Ends the segment and records head and count in the ledger. Blocks. Closing again does
    /// nothing.
    ///
    /// # Errors
    /// [`AuditError::Failed`] if the segment has failed, and any error that prevents writing the
    /// ledger. The segment then counts as not closed, and the next process records it as recovered.
    pub fn close(&self) -> Result<(), AuditError> {
        self.inner.close()
    }

    /// Stores a policy's text atomically as `policies/<hex>.toml`, named by its digest. Blocks.
    ///
    /// # Errors
    /// [`AuditError::PolicyDigest`] if the digest does not match the text; [`AuditError::Io`] if it
    /// cannot be written.
    pub fn keep_policy(&self, digest: &strongroom_core::ids::Digest, text: &str) -> Result<(), AuditError> {
        self.inner.policies.keep(&self.inner.folder, self.inner.mode, digest, text)
    }
}

#[cfg(test)]
impl Audit {
    /// Simulates `kill -9`: closes the file without writing anything. A child process that another
    /// test is just starting may hold the file a little longer, and so keep the segment live.
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

/// Returns the first event: the program and its user. Nothing in it comes from the environment.
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

/// Rejects the kinds of the first and last event of a segment, which only the writer itself may
/// use.
fn check(event: &Event) -> Result<(), AuditError> {
    match event.event {
        Kind::SegmentStart | Kind::SegmentEnd => Err(AuditError::Reserved),
        _ => Ok(()),
    }
}

/// Records every segment that was not closed and whose process has ended.
fn recover(folder: &Folder, ledger: &mut Ledger<'_>, view: &LedgerState, mode: SyncMode) -> Result<(), AuditError> {
    let open = view.segments.iter().filter(|(_, listed)| listed.ending.is_none());
    for (segment, listed) in open {
        if folder.is_live(segment) {
            continue;
        }
        // A missing file stays unrecorded: `verify` reports it.
        let Some(file) = folder.read(&file_name(segment))? else { continue };
        let path = folder.path_of(&file_name(segment));
        // Sync first: the ledger must not be ahead of the disk.
        if mode == SyncMode::Always {
            file.sync_data().map_err(|error| AuditError::io("sync the audit segment", &path, error))?;
        }
        let expected = Expected { genesis: Some(listed.genesis), ..Expected::default() };
        let scan = scan(&file, expected).map_err(|error| AuditError::io("read the audit segment", &path, error))?;
        ledger.recovered(segment, &scan)?;
    }
    Ok(())
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| {
            // After a panic while writing, the content of the file is unknown.
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

    /// Writes a line with one `write(2)`. Nothing is ever written after a partial line.
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
            // Not retried: the entry may be in the ledger, and a second one would look like
            // tampering.
            Err(error) => Phase::Failed(Arc::from(error.to_string())),
        };
        // From here on the segment is not live. Unlocking fails only if there is no lock.
        let _ = flock(self.file.as_ref(), FlockOperation::Unlock);
        recorded
    }

    fn record_end(&self, count: u64) -> Result<(), AuditError> {
        // In every mode: the ledger must not be ahead of the disk.
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
            tracing::error!(segment = %self.segment, %error, "could not close the audit segment");
        }
    }
}
