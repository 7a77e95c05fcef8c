//! A stream that requires a PostgreSQL server to start with a SCRAM login.
//!
//! The server chooses the login method, and `tokio-postgres` accepts any. A server that
//! impersonates the database could request the password in clear text, or accept the connection
//! without a login and return its own rows. SCRAM does not reveal the password and makes the server
//! prove that it knows it. An impersonator can still guess weak passwords offline. After the
//! server's first message the library accepts no other method, so only that one is checked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The tag of messages about authentication.
const AUTHENTICATION: u8 = b'R';
/// The code of a message that starts SASL, for which the library supports SCRAM-SHA-256 only.
const SASL: [u8; 4] = [0, 0, 0, 10];
/// The length of tag, length field and code.
const HEAD: usize = 9;

/// The error if the server requests another login method. It is inside the [`io::Error`] of a read.
#[derive(Debug, thiserror::Error)]
#[error("the server does not ask for a SCRAM login")]
pub(super) struct NotScram;

/// The stream, and the part of the server's first message received so far.
pub(super) struct ScramOnly<S> {
    stream: S,
    head: Vec<u8>,
}

impl<S> ScramOnly<S> {
    /// Wraps a new connection.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, head: Vec::with_capacity(HEAD) }
    }

    /// Checks received bytes before the library sees them. Messages that are not about
    /// authentication pass: the library reports errors, and rejects any other first message.
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
