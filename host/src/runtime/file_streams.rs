//! The streams of files in `/output`: growth is charged before each write, and a removed file stays charged while a stream has it open.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::quota::OpenFile;

/// Where a stream writes.
pub(super) enum Position {
    /// From this offset on.
    At(u64),
    /// Always at the end of the file.
    End,
}

/// A writing stream under the quota.
pub(super) struct GuardedWrite {
    inner: DynOutputStream,
    file: Arc<File>,
    open: Arc<OpenFile>,
    position: Position,
}

impl GuardedWrite {
    pub(super) fn new(inner: DynOutputStream, file: Arc<File>, open: Arc<OpenFile>, position: Position) -> Self {
        Self { inner, file, open, position }
    }

    /// Charges the next `length` bytes.
    fn charge(&mut self, length: u64) -> StreamResult<()> {
        let growth = match &mut self.position {
            Position::End => length,
            Position::At(offset) => {
                let end = offset.saturating_add(length);
                let size = self.file.metadata().map_err(|error| StreamError::LastOperationFailed(error.into()))?.len();
                *offset = end;
                // A write of this stream may still be under way, and the file shorter than it will be. Counting its bytes
                // twice errs on the safe side.
                end.saturating_sub(size).min(end)
            }
        };
        self.open.charge(growth).map_err(|stop| StreamError::Trap(stop.into()))
    }
}

#[async_trait]
impl Pollable for GuardedWrite {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for GuardedWrite {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.charge(bytes.len() as u64)?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.charge(bytes.len() as u64)?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    fn write_zeroes(&mut self, length: usize) -> StreamResult<()> {
        self.charge(length as u64)?;
        self.inner.write_zeroes(length)
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        self.inner.write_ready().await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// A reading stream that keeps its file's account open.
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
