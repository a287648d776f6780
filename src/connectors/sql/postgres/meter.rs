//! A stream that counts what it reads and refuses to read without end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes in both directions; reading more than `limit` is an error.
pub struct Meter<S> {
    inner: S,
    bytes: Arc<AtomicU64>,
    limit: u64,
}

/// The words of the error when the limit is met; `errors` looks for them.
pub const TOO_LONG: &str = "the answer is longer than AAM reads";

impl<S> Meter<S> {
    /// Counts into `bytes`.
    pub fn new(inner: S, bytes: Arc<AtomicU64>, limit: u64) -> Meter<S> {
        Meter { inner, bytes, limit }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Meter<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = outcome {
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
