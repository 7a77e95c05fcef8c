//! The writer of a segment.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::Hash;
use jiff::Timestamp;
use serde::Serialize;

use super::chain::{self, Hex, LINE_MAX};
use super::commit::{GroupCommit, Sink};
use super::error::{AuditError, Hint};
use super::event::{Event, Kind};
use super::folder::{Folder, file_name};
use super::ledger::{Ledger, OpenSegment, OpenSegments, Position};
use super::policies::PolicyStore;
use super::scan::{Expected, Scan, scan};
use super::{FORMAT, SyncMode, lock, now};
use strongroom_core::record::AuditPosition;

/// A shared segment with this many events is closed and not continued, so that its recovery after a
/// crash reads a bounded number of lines.
pub(super) const SHARED_MAX: u64 = 4_096;

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
    /// Whether later processes continue the segment.
    shared: bool,
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
    /// The last event is written, but its position is not in the ledger.
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
    /// other processes did not close in the ledger. Blocks for several disk syncs. The cost does
    /// not depend on the number of earlier segments.
    ///
    /// # Errors
    /// [`AuditError::Insecure`] if other users own or can access the directory;
    /// [`AuditError::Busy`] if another process does not release the ledger; other errors if the end
    /// of the ledger was altered, or a file cannot be read or written.
    pub fn open(dir: &Path, sync: SyncMode) -> Result<Self, AuditError> {
        Self::open_with(dir, sync, false, |file| file)
    }

    /// Opens the audit log like [`Audit::open`], but continues a shared segment, one that an earlier
    /// process opened through this function and left open. Starts a new segment if there is no
    /// shared one, or if other processes are writing to all of them. Use it in processes that write
    /// a few events and end.
    ///
    /// # Errors
    /// Those of [`Audit::open`].
    pub fn open_shared(dir: &Path, sync: SyncMode) -> Result<Self, AuditError> {
        Self::open_with(dir, sync, true, |file| file)
    }

    /// Opens with another sink, which may fail.
    pub(super) fn open_with(
        dir: &Path,
        mode: SyncMode,
        shared: bool,
        wrap: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Sink>,
    ) -> Result<Self, AuditError> {
        let folder = Folder::make(dir)?;
        let open = Ledger::open(&folder)?.open_segments().clone();
        // All slow work happens while the ledger is not locked.
        let resumed = if shared { resume(&folder, &open)? } else { None };
        let abandoned = find_abandoned(&folder, &open, mode)?;
        let (segment, file, resumed) = match resumed {
            Some((segment, file, position)) => (segment, file, Some(position)),
            None => create(&folder, mode).map(|(segment, file)| (segment, file, None))?,
        };
        let mut written = resumed.map(|Position { count, head }| Written { count, head: head.0 });
        if written.is_none() || !abandoned.is_empty() {
            let mut ledger = Ledger::open(&folder)?;
            for Abandoned { segment, listed, scan, .. } in &abandoned {
                // Another process may have recorded it in the meantime.
                if ledger.open_segments().get(segment) == Some(listed) {
                    ledger.recovered(segment, scan)?;
                }
            }
            if written.is_none() {
                written = Some(Written { count: 0, head: ledger.start(&segment)? });
            }
            ledger.release(mode)?;
        }
        let Some(written) = written else { return Err(AuditError::Closed(segment)) };

        let file = Arc::new(file);
        let sink = wrap(Arc::clone(&file) as Arc<dyn Sink>);
        let inner = Inner {
            folder,
            segment,
            shared,
            mode,
            file,
            commit: Arc::new(GroupCommit::new(Arc::clone(&sink))),
            sink,
            state: Mutex::new(State { written, phase: Phase::Open, line: Vec::new() }),
            policies: PolicyStore::default(),
            closing: Mutex::new(()),
        };
        if resumed.is_some() {
            // The sync of the next event covers this one.
            inner.write(&first_event(Kind::SegmentResume))?;
        } else {
            let first = inner.write(&first_event(Kind::SegmentStart))?;
            inner.settle(first.count)?;
        }
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

    /// Ends the segment, or leaves it to the next process if it is shared, and records head and count
    /// in the ledger. Blocks. Closing again does nothing.
    ///
    /// # Errors
    /// [`AuditError::Failed`] if the segment has failed, and any error that prevents writing the
    /// ledger, such as [`AuditError::Busy`]. The segment then counts as not closed, and the next
    /// process records it as recovered. Its events are durable nevertheless.
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

/// Returns a process's first event: the program and its user. Nothing in it comes from the
/// environment.
fn first_event(kind: Kind) -> Event {
    let detail: [(_, Cow<'static, str>); _] = [
        ("program", concat!("strongroom ", env!("CARGO_PKG_VERSION")).into()),
        ("format", FORMAT.to_string().into()),
        ("pid", std::process::id().to_string().into()),
        ("uid", rustix::process::getuid().as_raw().to_string().into()),
        ("euid", rustix::process::geteuid().as_raw().to_string().into()),
    ];
    let detail = detail.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Event { event: kind, detail, ..Event::default() }
}

/// Rejects the kinds of event that only the writer itself may use.
fn check(event: &Event) -> Result<(), AuditError> {
    match event.event {
        Kind::SegmentStart | Kind::SegmentResume | Kind::SegmentEnd => Err(AuditError::Reserved),
        _ => Ok(()),
    }
}

/// Creates the file of a new segment and locks it. The ledger does not list it yet: a process that
/// dies before it does leaves only an empty file.
fn create(folder: &Folder, mode: SyncMode) -> Result<(String, File), AuditError> {
    let segment = ulid::Ulid::generate().to_string();
    let file = folder.create(&file_name(&segment))?;
    file.lock()
        .map_err(|error| AuditError::io("lock the audit segment", &folder.path_of(&file_name(&segment)), error))?;
    if mode == SyncMode::Always {
        folder.sync()?;
    }
    Ok((segment, file))
}

/// Locks and returns a shared segment that can be continued, with its end.
fn resume(folder: &Folder, open: &OpenSegments) -> Result<Option<(String, File, Position)>, AuditError> {
    for (segment, listed) in open {
        let Some(position) = listed.paused else { continue };
        let Some(file) = folder.append(&file_name(segment))? else { continue };
        let wrap = |error| AuditError::io("read the audit segment", &folder.path_of(&file_name(segment)), error);
        // The position is compared after locking: another process may have continued the segment.
        if lock::try_acquire(&file, lock::Mode::Exclusive).map_err(wrap)? && ends_at(&file, position).map_err(wrap)? {
            return Ok(Some((segment.clone(), file, position)));
        }
    }
    Ok(None)
}

/// Returns whether a segment ends at this position, according to its last line alone.
fn ends_at(file: &File, Position { count, head }: Position) -> io::Result<bool> {
    let (line, torn) = chain::last_line(file)?;
    let seq = chain::Link::of(&line).map(|link| link.seq);
    Ok(torn == 0 && seq == Some(count) && chain::segment_line(&line) == head.0)
}

/// A segment whose process ended without closing it.
struct Abandoned {
    segment: String,
    listed: OpenSegment,
    scan: Scan,
    /// Holds a shared lock, so that no process continues the segment.
    _file: File,
}

/// Reads every segment that was not closed and whose process has ended.
fn find_abandoned(folder: &Folder, open: &OpenSegments, mode: SyncMode) -> Result<Vec<Abandoned>, AuditError> {
    let mut abandoned = Vec::new();
    for (segment, listed) in open {
        let path = folder.path_of(&file_name(segment));
        let wrap = |error| AuditError::io("read the audit segment", &path, error);
        // A missing file stays unrecorded: `verify` reports it.
        let Some(file) = folder.read(&file_name(segment))? else { continue };
        if !lock::try_acquire(&file, lock::Mode::Shared).map_err(wrap)? {
            continue;
        }
        if let Some(position) = listed.paused
            && ends_at(&file, position).map_err(wrap)?
        {
            continue;
        }
        // Sync first: the ledger must not be ahead of the disk.
        if mode == SyncMode::Always {
            file.sync_data().map_err(|error| AuditError::io("sync the audit segment", &path, error))?;
        }
        let expected = Expected { genesis: Some(listed.genesis.0), ..Expected::default() };
        let scan = scan(&file, expected).map_err(wrap)?;
        abandoned.push(Abandoned { segment: segment.clone(), listed: *listed, scan, _file: file });
    }
    Ok(abandoned)
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

    fn check_open(&self, phase: &Phase) -> Result<(), AuditError> {
        match phase {
            Phase::Open => {}
            Phase::Ended | Phase::Closed => return Err(AuditError::Closed(self.segment.clone())),
            Phase::Failed(cause) => return Err(self.failed(Arc::clone(cause))),
        }
        self.commit.failure().map_or(Ok(()), |cause| Err(self.failed(cause)))
    }

    fn write(&self, event: &Event) -> Result<Written, AuditError> {
        let mut state = self.lock();
        let State { written, phase, line: bytes } = &mut *state;
        self.check_open(phase)?;
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
        let pause = self.shared && self.lock().written.count < SHARED_MAX;
        let end = if pause {
            let mut state = self.lock();
            self.check_open(&state.phase)?;
            state.phase = Phase::Ended;
            state.written
        } else {
            self.write(&Event { event: Kind::SegmentEnd, ..Event::default() })?
        };
        let recorded = self.record_end(pause, end);
        let mut state = self.lock();
        state.phase = match &recorded {
            Ok(()) => Phase::Closed,
            // Not retried: the entry may be in the ledger, and a second one would look like
            // tampering.
            Err(error) => Phase::Failed(Arc::from(error.to_string())),
        };
        // From here on the segment is not live.
        lock::release(&self.file);
        recorded
    }

    fn record_end(&self, pause: bool, Written { count, head }: Written) -> Result<(), AuditError> {
        // In every mode: the ledger must not be ahead of the disk.
        self.commit.sync_to(count).map_err(|cause| self.failed(cause))?;
        let mut ledger = Ledger::open(&self.folder)?;
        if pause {
            ledger.pause(&self.segment, count, head)?;
        } else {
            ledger.end(&self.segment, count, head)?;
        }
        ledger.release(SyncMode::Always)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let open = matches!(self.lock().phase, Phase::Open);
        if open && let Err(error) = self.close() {
            tracing::error!(segment = %self.segment, %error, "could not close the audit segment");
        }
        // A child process that is just starting may hold the file a little longer than this.
        lock::release(&self.file);
    }
}
