//! A stream on which a PostgreSQL server has to begin with a SCRAM login.
//!
//! The server chooses how a client proves who it is. `tokio-postgres` goes along with whatever is asked, so a server that only pretends to be
//! the database could ask for the password in the clear, or ask for nothing and hand out rows of its own. SCRAM does not tell it the
//! password, and makes the server prove that it knows it too; what such a server learns still lets it guess weak passwords at leisure.
//! The first message of the server decides: after it, the library accepts no other way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The tag of the server's messages about authentication.
const AUTHENTICATION: u8 = b'R';
/// The code of the one that opens SASL, of which the library knows SCRAM-SHA-256 alone.
const SASL: [u8; 4] = [0, 0, 0, 10];
/// Tag, length and code.
const HEAD: usize = 9;

/// The server asks for another login than SCRAM. It stands inside the [`io::Error`] of a read.
#[derive(Debug, thiserror::Error)]
#[error("the server does not ask for a SCRAM login")]
pub(super) struct NotScram;

/// The stream, and as much of the server's first message as it has shown.
pub(super) struct ScramOnly<S> {
    stream: S,
    head: Vec<u8>,
}

impl<S> ScramOnly<S> {
    /// Guards a fresh connection.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, head: Vec::with_capacity(HEAD) }
    }

    /// Looks at bytes before anybody else does. Other messages than those about authentication pass: an error is told as one, and any
    /// other is nothing that the library takes as a beginning.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = HEAD.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(missing));
        match (self.head.first(), self.head.get(HEAD - SASL.len()..)) {
            (Some(&AUTHENTICATION), Some(code)) if code.len() == SASL.len() && code != SASL => {
                Err(io::Error::other(NotScram))
            }
            _ => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ScramOnly<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let checked = self.check(buf.filled().get(before..).unwrap_or_default());
        if checked.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(checked)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ScramOnly<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
