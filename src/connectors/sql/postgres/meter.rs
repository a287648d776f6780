//! A stream that counts its bytes and limits what it reads.

use crate::memory_budget::{AttemptMemory, Reservation};
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
    memory: Option<ReadMemory>,
}

/// The memory of what is read: the messages, and the rows that are made from them.
struct ReadMemory {
    attempt: Arc<AttemptMemory>,
    reserved: Vec<Reservation>,
    /// The bytes that may be read before more memory is reserved.
    left: u64,
}

/// The bytes that are read before more memory is reserved.
const CHUNK_BYTES: u64 = 64 << 10;
/// The memory that a byte takes: in the buffer of the driver, in a row, and in the catalog.
const MEMORY_PER_BYTE: u64 = 3;

/// Valid first bytes after a startup message: authentication, error, notice or protocol negotiation.
const FIRST_IN_CLEAR: &[u8] = b"RENv";
/// Valid first bytes after a request for TLS.
const FIRST_OF_TLS: &[u8] = b"SNE";

/// The error message if the limit is exceeded. `errors` searches for this text.
pub const TOO_LONG: &str = "the response exceeds the limit of AAM";
/// The error message if no memory is free. `errors` searches for this text.
pub const NO_MEMORY: &str = "the memory for the response is in use";
/// The error message if the response needs more memory than one attempt may use. `errors` searches for this text.
pub const TOO_MUCH_MEMORY: &str = "the response is too large: it";
/// The error message if the first byte belongs to another protocol. `errors` searches for this text.
pub const NOT_POSTGRES: &str = "the first byte of the response is not valid in the PostgreSQL protocol";

impl<S> Meter<S> {
    /// Creates a stream that adds its bytes to the counter `bytes`.
    pub fn new(inner: S, bytes: Arc<AtomicU64>, limit: u64, encrypted: bool) -> Meter<S> {
        let first = Some(if encrypted { FIRST_OF_TLS } else { FIRST_IN_CLEAR });
        Meter { inner, bytes, limit, first, memory: None }
    }

    /// Reserves memory for what is read. Reading fails if no memory is free: a session that waited would hold its slot of
    /// the account meanwhile.
    #[must_use]
    pub fn with_memory(self, attempt: Arc<AttemptMemory>) -> Meter<S> {
        Meter { memory: Some(ReadMemory { attempt, reserved: Vec::new(), left: 0 }), ..self }
    }
}

impl<S> Meter<S> {
    /// Counts the bytes that were just read.
    fn check(&mut self, read: &[u8]) -> io::Result<()> {
        if let (Some(known), Some(first)) = (self.first, read.first()) {
            if !known.contains(first) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, NOT_POSTGRES));
            }
            self.first = None;
        }
        let length = read.len() as u64;
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > self.limit {
            return Err(io::Error::other(TOO_LONG));
        }
        self.memory.as_mut().map_or(Ok(()), |memory| memory.count(length))
    }
}

impl ReadMemory {
    fn count(&mut self, read: u64) -> io::Result<()> {
        while self.left < read {
            match self.attempt.try_reserve(CHUNK_BYTES * MEMORY_PER_BYTE) {
                Ok(Some(more)) => self.reserved.push(more),
                Ok(None) => return Err(io::Error::other(NO_MEMORY)),
                Err(bound) => return Err(io::Error::other(format!("{TOO_MUCH_MEMORY} {bound}"))),
            }
            self.left += CHUNK_BYTES;
        }
        self.left -= read;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Meter<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = outcome
            && let Err(error) = this.check(buf.filled().get(before..).unwrap_or_default())
        {
            // A reader that fails must not have filled the buffer.
            buf.set_filled(before);
            return Poll::Ready(Err(error));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::MemoryBudget;
    use tokio::io::AsyncReadExt;

    async fn read(server: &[u8], memory: Arc<AttemptMemory>) -> io::Result<Vec<u8>> {
        let mut meter = Meter::new(server, Arc::default(), 1 << 30, false).with_memory(memory);
        let mut bytes = Vec::new();
        meter.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    #[tokio::test]
    async fn what_is_read_takes_memory_and_stops_where_there_is_none() {
        let budget = Arc::new(MemoryBudget::new(32 << 20));
        let mut server = vec![0; 3 << 20];
        server[0] = b'R';
        assert_eq!(read(&server, budget.attempt(32 << 20)).await.unwrap().len(), server.len());
        assert_eq!(budget.held(), 0, "given back with the connection");
        server.resize(6 << 20, 0);
        let error = read(&server, budget.attempt(32 << 20)).await.unwrap_err().to_string();
        assert!(error.starts_with(TOO_MUCH_MEMORY) && error.contains("one attempt may use 16 MiB"), "{error}");
        let (other, third) = (budget.attempt(32 << 20), budget.attempt(32 << 20));
        let held = (other.reserve(16 << 20).await.unwrap(), third.reserve(8 << 20).await.unwrap());
        let error = read(&server, budget.attempt(32 << 20)).await.unwrap_err().to_string();
        assert_eq!(error, NO_MEMORY);
        drop(held);
    }
}
