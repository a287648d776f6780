//! A stream that counts its bytes and limits what it reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts the bytes in both directions. Reading more than `limit` bytes is an error, and so is a first byte that no
/// PostgreSQL server sends. Without this check, an HTTP response would be read as the start of a message of one gigabyte.
pub struct Meter<S> {
    inner: S,
    bytes: Arc<AtomicU64>,
    limit: u64,
    /// The values that are valid for the first byte, or `None` after it has been checked.
    first: Option<&'static [u8]>,
}

/// Valid first bytes after a startup message: authentication, error, notice or protocol negotiation.
const FIRST_IN_CLEAR: &[u8] = b"RENv";
/// Valid first bytes after a request for TLS.
const FIRST_OF_TLS: &[u8] = b"SNE";

/// The error message if the limit is exceeded. `errors` searches for this text.
pub const TOO_LONG: &str = "the response exceeds the limit of AAM";
/// The error message if the first byte belongs to another protocol. `errors` searches for this text.
pub const NOT_POSTGRES: &str = "the first byte of the response is not valid in the PostgreSQL protocol";

impl<S> Meter<S> {
    /// Creates a stream that adds its bytes to the counter `bytes`.
    pub fn new(inner: S, bytes: Arc<AtomicU64>, limit: u64, encrypted: bool) -> Meter<S> {
        Meter { inner, bytes, limit, first: Some(if encrypted { FIRST_OF_TLS } else { FIRST_IN_CLEAR }) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Meter<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = outcome {
            if let (Some(known), Some(first)) = (this.first, buf.filled().get(before)) {
                if !known.contains(first) {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, NOT_POSTGRES)));
                }
                this.first = None;
            }
            let read = (buf.filled().len() - before) as u64;
            if this.bytes.fetch_add(read, Ordering::Relaxed) + read > this.limit {
                return Poll::Ready(Err(io::Error::other(TOO_LONG)));
            }
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Meter<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = outcome {
            this.bytes.fetch_add(written as u64, Ordering::Relaxed);
        }
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
