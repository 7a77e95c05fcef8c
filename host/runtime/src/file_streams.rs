//! Streams of files in `/output`. Growth is charged before each write, and a removed file stays
//! charged while a stream has it open.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::quota::OpenFile;

/// Where a stream writes.
pub(super) enum Position {
    /// From this offset.
    At(u64),
    /// Always at the end of the file.
    End,
}

/// A writing stream under the quota.
pub(super) struct GuardedWrite {
    inner: Inner,
    file: Arc<File>,
    open: Arc<OpenFile>,
    position: Position,
}

/// The engine's stream. Each write runs in a separate task, which notifies the quota when it
/// completes: a file must not be shortened before that.
enum Inner {
    Idle(DynOutputStream),
    Writing(JoinHandle<DynOutputStream>),
    /// The task failed.
    Gone,
}

impl GuardedWrite {
    pub(super) fn new(inner: DynOutputStream, file: Arc<File>, open: Arc<OpenFile>, position: Position) -> Self {
        Self { inner: Inner::Idle(inner), file, open, position }
    }

    /// Charges the next `length` bytes.
    fn charge(&mut self, length: u64) -> StreamResult<()> {
        let growth = match &mut self.position {
            Position::End => length,
            Position::At(offset) => {
                let end = offset.saturating_add(length);
                let size = self.file.metadata().map_err(|error| StreamError::LastOperationFailed(error.into()))?.len();
                *offset = end;
                // A write of another stream may still be in progress, so the file may grow beyond
                // `size`. Counting its bytes twice errs on the safe side.
                end.saturating_sub(size).min(end)
            }
        };
        self.open.charge(growth).map_err(|stop| StreamError::Trap(stop.into()))
    }

    /// Handles a write that has completed.
    fn look(&mut self) {
        if let Inner::Writing(task) = &mut self.inner
            && let Some(ended) = task.now_or_never()
        {
            self.inner = ended.map_or(Inner::Gone, Inner::Idle);
        }
    }

    /// Starts a write of `length` bytes.
    fn begin(&mut self, length: u64, write: impl FnOnce(&mut DynOutputStream) -> StreamResult<()>) -> StreamResult<()> {
        self.look();
        if !matches!(self.inner, Inner::Idle(_)) {
            return Err(StreamError::trap("a write that `check-write` did not permit"));
        }
        self.charge(length)?;
        let under_way =
            self.open.begin_write().ok_or_else(|| StreamError::trap("a write while a file is shortened"))?;
        if let Inner::Idle(inner) = &mut self.inner {
            write(inner)?;
        }
        if let Inner::Idle(mut inner) = std::mem::replace(&mut self.inner, Inner::Gone) {
            // The task does not end with the stream: the write is in progress until the system
            // reports that it has completed.
            self.inner = Inner::Writing(tokio::spawn(async move {
                inner.ready().await;
                drop(under_way);
                inner
            }));
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for GuardedWrite {
    async fn ready(&mut self) {
        if let Inner::Writing(task) = &mut self.inner {
            self.inner = task.await.map_or(Inner::Gone, Inner::Idle);
        }
        if let Inner::Idle(inner) = &mut self.inner {
            inner.ready().await;
        }
    }
}

#[async_trait]
impl OutputStream for GuardedWrite {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.begin(bytes.len() as u64, |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.look();
        match &mut self.inner {
            Inner::Idle(inner) => inner.flush(),
            Inner::Writing(_) => Ok(()),
            Inner::Gone => Err(StreamError::Closed),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.look();
        match &mut self.inner {
            Inner::Idle(inner) => inner.check_write(),
            Inner::Writing(_) => Ok(0),
            Inner::Gone => Err(StreamError::Closed),
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.charge(bytes.len() as u64)?;
        match &mut self.inner {
            Inner::Idle(inner) => inner.blocking_write_and_flush(bytes).await,
            Inner::Writing(_) | Inner::Gone => Err(StreamError::Closed),
        }
    }

    fn write_zeroes(&mut self, length: usize) -> StreamResult<()> {
        self.begin(length as u64, |inner| inner.write_zeroes(length))
    }

    async fn cancel(&mut self) {
        self.ready().await;
        if let Inner::Idle(inner) = &mut self.inner {
            inner.cancel().await;
        }
    }
}

/// A reading stream that keeps its file's quota entry open.
pub(super) struct GuardedRead {
    inner: DynInputStream,
    _open: Arc<OpenFile>,
}

impl GuardedRead {
    pub(super) fn new(inner: DynInputStream, open: Arc<OpenFile>) -> Self {
        Self { inner, _open: open }
    }
}

#[async_trait]
impl Pollable for GuardedRead {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl InputStream for GuardedRead {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.blocking_read(size).await
    }

    fn skip(&mut self, count: usize) -> StreamResult<usize> {
        self.inner.skip(count)
    }

    async fn blocking_skip(&mut self, count: usize) -> StreamResult<usize> {
        self.inner.blocking_skip(count).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
