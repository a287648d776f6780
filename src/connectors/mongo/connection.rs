//! One connection to a server that is not trusted.
//!
//! A response has at most the length that the protocol allows; its memory is reserved from the budget of the attempt before it is
//! read; a connection reads a limited number of bytes in total. A connection whose response did not arrive whole is not used again.

use super::command::{Command, NotReadOnly};
use super::message::{BrokenRule, HEADER_BYTES, Header};
use super::options::ReadPreference;
use super::reply::Reply;
use crate::memory_budget::{AttemptMemory, MemoryBound};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The stream below the messages: TCP or TLS.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The bytes by which a buffer grows, so that memory is used only for what really arrives.
const CHUNK_BYTES: usize = 16 << 10;

/// Why an exchange failed.
#[derive(Debug)]
pub enum ExchangeError {
    Io(io::Error),
    /// The server breaks the protocol.
    Broken(BrokenRule),
    /// The responses of the connection exceed its limit.
    TooMuchData,
    /// The response needs more memory than one attempt may hold.
    Memory(MemoryBound),
    /// A defect of AAM: the request is not on the list.
    NotReadOnly(NotReadOnly),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> ExchangeError {
        ExchangeError::Io(error)
    }
}

impl From<BrokenRule> for ExchangeError {
    fn from(rule: BrokenRule) -> ExchangeError {
        ExchangeError::Broken(rule)
    }
}

/// An open connection.
pub struct Connection {
    stream: Box<dyn Transport>,
    request: i32,
    /// Whether a response was not read to its end. The connection is then unusable.
    busy: bool,
    /// Bytes in both directions.
    bytes: Arc<AtomicU64>,
    limit: u64,
    memory: Arc<AttemptMemory>,
    /// The address of this machine on the connection.
    pub local: Option<IpAddr>,
    /// Whether TLS proves which server this is.
    pub encrypted: bool,
}

impl Connection {
    /// Speaks over `stream` until `bytes` exceeds `limit`.
    #[must_use]
    pub fn new(stream: Box<dyn Transport>, bytes: Arc<AtomicU64>, limit: u64, memory: Arc<AttemptMemory>) -> Connection {
        Connection { stream, request: 0, busy: false, bytes, limit, memory, local: None, encrypted: false }
    }

    /// Whether a response was not read to its end, so that the connection is unusable.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Sends a command and reads its response, which can be an error of the server.
    ///
    /// # Errors
    /// [`ExchangeError`]. The connection cannot be used again then.
    pub async fn exchange(&mut self, command: &Command<'_>, mode: Option<ReadPreference>) -> Result<Reply, ExchangeError> {
        if self.busy {
            let kind = io::ErrorKind::ConnectionAborted;
            return Err(io::Error::new(kind, "an earlier response was not read to its end").into());
        }
        self.request = self.request.wrapping_add(1);
        let request = command.encode(self.request, mode).map_err(ExchangeError::NotReadOnly)?;
        self.busy = true;
        self.stream.write_all(&request).await?;
        self.stream.flush().await?;
        self.count(request.len())?;
        let reply = self.receive().await?;
        self.busy = false;
        Ok(reply)
    }

    async fn receive(&mut self) -> Result<Reply, ExchangeError> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).await?;
        let header = Header::parse(&header, self.request)?;
        self.count(HEADER_BYTES + header.body_bytes)?;
        let memory = self.memory.reserve(header.body_bytes as u64).await.map_err(ExchangeError::Memory)?;
        let mut body = Vec::new();
        while body.len() < header.body_bytes {
            let begin = body.len();
            body.resize(header.body_bytes.min(begin + CHUNK_BYTES), 0);
            self.stream.read_exact(body.get_mut(begin..).unwrap_or_default()).await?;
        }
        Ok(Reply::new(header.document(body)?, Some(memory)))
    }

    fn count(&self, bytes: usize) -> Result<(), ExchangeError> {
        let bytes = bytes as u64;
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if total > self.limit { Err(ExchangeError::TooMuchData) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    fn answer(length: i32, opcode: i32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [length, 9, 1, opcode] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(body);
        bytes
    }

    async fn exchange(answer: &[u8], limit: u64) -> Result<Reply, ExchangeError> {
        let (client, mut server) = tokio::io::duplex(1 << 20);
        server.write_all(answer).await.unwrap();
        server.shutdown().await.unwrap();
        let mut connection = Connection::new(Box::new(client), Arc::default(), limit, AttemptMemory::alone());
        let result = connection.exchange(&Command::ConnectionStatus, None).await;
        assert_eq!(connection.is_busy(), result.is_err());
        result
    }

    #[tokio::test]
    async fn a_response_is_read_whole_or_not_at_all() {
        let body = [&[0; 5][..], rawdoc! {"ok": 1.0}.as_bytes()].concat();
        let length = i32::try_from(HEADER_BYTES + body.len()).unwrap();
        let reply = exchange(&answer(length, 2013, &body), 1 << 20).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(reply.error().is_none());
        let cut = exchange(&answer(length, 2013, &body[..8]), 1 << 20).await;
        assert!(matches!(cut, Err(ExchangeError::Io(_))));
        // An announced length of 16 MiB uses no memory before the bytes arrive.
        let announced = exchange(&answer(16 << 20, 2013, &body), 64 << 20).await;
        assert!(matches!(announced, Err(ExchangeError::Io(_) | ExchangeError::Memory(_))));
        let much = exchange(&answer(length, 2013, &body), 40).await;
        assert!(matches!(much, Err(ExchangeError::TooMuchData)));
    }
}
