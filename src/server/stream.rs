//! The socket of one client: a deadline for clients that do not read their responses, and a lingering close.
//!
//! A request may be refused while its body is still arriving. If the socket were closed then, the kernel would answer
//! further bytes with a reset, and a client that writes its whole request before it reads would never see the response.
//! Therefore only the sending direction is closed first, and what still arrives is read and discarded within bounds
//! (RFC 9112, section 9.6).

use super::Linger;
use super::connections::ClientConnection;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// The number of bytes that a client must take within the write deadline while a response waits for it.
const MIN_BYTES_IN_DEADLINE: usize = 64 << 10;

/// The number of bytes that are discarded in one read.
const DISCARD_BYTES: usize = 16 << 10;
/// The number of reads after which other connections get their turn.
const MAX_READS: usize = 16;

/// A socket whose writes fail if the client takes too little for too long.
pub struct ClientStream {
    stream: TcpStream,
    connection: Arc<ClientConnection>,
    deadline: Duration,
    /// Set while a response waits for the client to read.
    stall: Option<Stall>,
    linger: Linger,
    /// Set once the sending direction is closed.
    rest: Option<Rest>,
}

/// The rest of a request, which is discarded.
struct Rest {
    end: Pin<Box<Sleep>>,
    idle: Pin<Box<Sleep>>,
    bytes: usize,
}

struct Stall {
    end: Pin<Box<Sleep>>,
    /// What the client took since the deadline began.
    bytes: usize,
}

impl ClientStream {
    /// Wraps `stream`. A client that takes less than 64 KiB of a waiting response within `deadline` is disconnected.
    #[must_use]
    pub fn new(stream: TcpStream, connection: Arc<ClientConnection>, deadline: Duration, linger: Linger) -> ClientStream {
        ClientStream { stream, connection, deadline, stall: None, linger, rest: None }
    }

    /// Reads and discards what the client still sends, until it closes its side or a bound is reached.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Linger { time, idle, bytes: limit } = self.linger;
        let rest = self.rest.get_or_insert_with(|| Rest {
            end: Box::pin(tokio::time::sleep(time)),
            idle: Box::pin(tokio::time::sleep(idle)),
            bytes: 0,
        });
        if rest.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut memory = [0; DISCARD_BYTES];
        for _ in 0..MAX_READS {
            let mut buffer = ReadBuf::new(&mut memory);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    rest.bytes = rest.bytes.saturating_add(buffer.filled().len());
                    if rest.bytes >= limit {
                        return Poll::Ready(());
                    }
                    rest.idle.as_mut().reset(Instant::now() + idle);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return rest.idle.as_mut().poll(cx),
            }
        }
        // Other connections get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes on the result of a write, unless the deadline has passed.
    fn written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.connection.wrote();
                if let Some(stall) = &mut self.stall {
                    stall.bytes += bytes;
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                self.connection.stalled();
                let deadline = self.deadline;
                let stall = self.stall.get_or_insert_with(|| Stall { end: Box::pin(tokio::time::sleep(deadline)), bytes: 0 });
                while stall.end.as_mut().poll(cx).is_ready() {
                    if stall.bytes < MIN_BYTES_IN_DEADLINE {
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "the client does not read its response",
                        )));
                    }
                    stall.bytes = 0;
                    stall.end.as_mut().reset(Instant::now() + deadline);
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        // Without this, the kernel keeps what the client did not read and goes on trying to deliver it.
        if self.stall.is_some() {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The buffers above are empty when a flush is asked for, so the whole response is with the kernel.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.stall = None;
            self.connection.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_discard(cx).map(Ok)
    }
}
