//! The output streams as the engine sees them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::Shared;
use crate::observer::Stream;

/// The maximum size of one write, in bytes. A write is redacted in one step, and a run's time limit
/// is checked between writes.
pub(super) const WRITE_MAX: usize = 8 * 1024;

/// One stream of an [`Output`](super::Output), as the engine sees it. Pass it to the builder of a WASI context as
/// standard output or standard error.
pub struct GuestStream {
    shared: Arc<Shared>,
    stream: Stream,
    /// How many bytes `check_write` permitted and the component has not yet written. Writing more
    /// is an error of the component, and would grow the queue without bound.
    permit: usize,
}

impl GuestStream {
    pub(super) fn new(shared: &Arc<Shared>, stream: Stream) -> Self {
        Self { shared: Arc::clone(shared), stream, permit: 0 }
    }
}

impl fmt::Debug for GuestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(AsyncGuestStream { shared: Arc::clone(&self.shared), stream: self.stream })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(GuestStream::new(&self.shared, self.stream))
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {
        loop {
            // Register before the check, so that a notification between the two is not missed.
            let drained = self.shared.drained.notified();
            if self.shared.room() {
                return;
            }
            drained.await;
        }
    }
}

#[async_trait]
impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit = self
            .permit
            .checked_sub(bytes.len())
            .ok_or_else(|| StreamError::trap("a write that `check-write` did not permit"))?;
        self.shared.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = if self.shared.room() { WRITE_MAX } else { 0 };
        Ok(self.permit)
    }
}

/// The engine's newer interface to a stream; the linked one uses [`GuestStream`].
struct AsyncGuestStream {
    shared: Arc<Shared>,
    stream: Stream,
}

impl AsyncWrite for AsyncGuestStream {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
