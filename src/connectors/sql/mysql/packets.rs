//! Packets over a stream whose other end is not trusted.
//!
//! A packet has at most the length that the caller accepts, memory grows only with the bytes that really arrive, and a
//! connection reads a limited number of bytes in total.

use super::fields::FieldReader;
use crate::memory_budget::MemoryBound;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// The stream below the packets: TCP or TLS.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Limit on an error packet, in bytes. MySQL's own messages have at most 512.
const MAX_ERROR_BYTES: usize = 4096;
/// The length at which a payload continues in the next packet.
const CONTINUED: usize = 0xFF_FFFF;
/// The number of bytes by which a buffer grows.
const CHUNK_BYTES: usize = 16 << 10;

/// Why an exchange with the server failed.
#[derive(Debug)]
pub enum PacketError {
    Io(io::Error),
    /// The message of the server.
    Server(ServerError),
    /// The first packet is not a greeting of MySQL.
    NotMysql,
    /// The server breaks the protocol. The text names the rule.
    Malformed(&'static str),
    /// A packet, a row or the whole connection exceeds a limit of AAM. The text names what and the limit.
    TooLarge(String),
    /// The rows need more memory than one attempt may hold.
    Memory(MemoryBound),
}

impl From<MemoryBound> for PacketError {
    fn from(bound: MemoryBound) -> PacketError {
        PacketError::Memory(bound)
    }
}

impl From<io::Error> for PacketError {
    fn from(error: io::Error) -> PacketError {
        PacketError::Io(error)
    }
}

/// An error packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub code: u16,
    /// The SQLSTATE; empty before the login of old servers.
    pub state: String,
    pub message: String,
}

impl ServerError {
    /// Parses an error packet, including its first byte.
    pub(super) fn parse(payload: &[u8]) -> Option<ServerError> {
        let mut fields = FieldReader::new(payload);
        fields.byte()?;
        let code = u16::try_from(fields.integer(2)?).ok()?;
        let rest = fields.rest();
        let (state, message) = match rest.strip_prefix(b"#").and_then(|rest| rest.split_at_checked(5)) {
            Some((state, message)) => (state, message),
            None => (&[][..], rest),
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(ServerError { code, state: text(state), message: text(message) })
    }
}

/// One packet of a result.
#[derive(Debug, PartialEq, Eq)]
pub enum ResultPacket {
    Row(Vec<u8>),
    /// A row that was read but not kept.
    Passed,
    /// The end of the columns or of the rows, with the status flags of the server.
    End(u16),
}

/// Reads and writes packets.
pub struct Packets {
    stream: BufReader<Box<dyn Transport>>,
    /// The number of the next packet in this exchange.
    sequence: u8,
    /// Bytes in both directions.
    bytes: Arc<AtomicU64>,
    /// Limit on `bytes`.
    limit: u64,
}

impl Packets {
    /// Reads from `stream` until the counter `bytes` exceeds `limit`.
    #[must_use]
    pub fn new(stream: Box<dyn Transport>, bytes: Arc<AtomicU64>, limit: u64) -> Packets {
        Packets { stream: BufReader::with_capacity(CHUNK_BYTES, stream), sequence: 0, bytes, limit }
    }

    /// Gives the stream back, so that it can be encrypted.
    ///
    /// # Errors
    /// `Malformed` if the server has sent bytes that it must not send yet. They would be taken for encrypted ones.
    pub fn into_stream(self) -> Result<Box<dyn Transport>, PacketError> {
        if !self.stream.buffer().is_empty() {
            return Err(PacketError::Malformed("the server sent data before TLS was established"));
        }
        Ok(self.stream.into_inner())
    }

    /// Continues the numbers of the packets after the stream was encrypted.
    #[must_use]
    pub fn continued_at(mut self, sequence: u8) -> Packets {
        self.sequence = sequence;
        self
    }

    /// The number of the next packet.
    #[must_use]
    pub fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Begins a new exchange.
    pub fn begin(&mut self) {
        self.sequence = 0;
    }

    fn count(&self, read: usize) -> Result<(), PacketError> {
        let read = read as u64;
        if self.bytes.fetch_add(read, Ordering::Relaxed).saturating_add(read) > self.limit {
            return Err(PacketError::TooLarge(format!("the data of the connection (limit {} MiB)", self.limit >> 20)));
        }
        Ok(())
    }

    /// Sends a payload of less than 16 MiB as one packet.
    ///
    /// # Errors
    /// `Io`, and `TooLarge` if the payload is longer.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), PacketError> {
        if payload.len() >= CONTINUED {
            return Err(PacketError::TooLarge("the statement (limit 16 MiB)".to_string()));
        }
        let mut packet = Vec::with_capacity(payload.len() + 4);
        packet.extend(payload.len().to_le_bytes().iter().take(3));
        packet.push(self.sequence);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        self.stream.flush().await?;
        self.count(packet.len())
    }

    /// Reads the header of the next packet and returns the length of its payload in bytes.
    async fn header(&mut self) -> Result<usize, PacketError> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        if sequence != self.sequence {
            return Err(PacketError::Malformed("a packet does not have the number that follows"));
        }
        self.sequence = self.sequence.wrapping_add(1);
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Ok(length)
    }

    async fn payload(&mut self, length: usize) -> Result<Vec<u8>, PacketError> {
        self.count(length + 4)?;
        let mut payload = Vec::new();
        while payload.len() < length {
            let begin = payload.len();
            payload.resize(length.min(begin + CHUNK_BYTES), 0);
            self.stream.read_exact(payload.get_mut(begin..).unwrap_or_default()).await?;
        }
        Ok(payload)
    }

    /// Reads the first packet of a connection. Its header already shows whether the server speaks MySQL.
    ///
    /// # Errors
    /// `NotMysql` if it cannot be a greeting; `Server` if the server refuses the connection.
    pub async fn greeting(&mut self, max_bytes: usize) -> Result<Vec<u8>, PacketError> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if sequence > 1 || length == 0 || length > max_bytes {
            return Err(PacketError::NotMysql);
        }
        self.sequence = sequence.wrapping_add(1);
        let payload = self.payload(length).await?;
        match payload.first() {
            Some(0xFF) => Err(ServerError::parse(&payload).map_or(PacketError::NotMysql, PacketError::Server)),
            _ => Ok(payload),
        }
    }

    /// Reads one packet of at most `max_bytes`. An error packet becomes `Server`.
    ///
    /// # Errors
    /// [`PacketError`].
    pub async fn receive(&mut self, max_bytes: usize) -> Result<Vec<u8>, PacketError> {
        let length = self.header().await?;
        if length > max_bytes {
            return Err(PacketError::Malformed("a packet is longer than this place of the protocol allows"));
        }
        let payload = self.payload(length).await?;
        match payload.first() {
            Some(0xFF) => Err(server_error(&payload)),
            _ => Ok(payload),
        }
    }

    /// Reads one packet of a result and keeps a row of at most `max_row_bytes`; with `None`, rows of any length are passed
    /// over without keeping them.
    ///
    /// # Errors
    /// [`PacketError`]; `TooLarge` for a longer row.
    pub async fn result_packet(&mut self, max_row_bytes: Option<usize>) -> Result<ResultPacket, PacketError> {
        let length = self.header().await?;
        if length == 0 {
            return Err(PacketError::Malformed("a row is empty"));
        }
        let first = *self.peek().await?;
        match first {
            0xFF if length <= MAX_ERROR_BYTES => return Err(server_error(&self.payload(length).await?)),
            0xFF => return Err(PacketError::Malformed("an error message is longer than 4 KiB")),
            0xFE if length < 9 => {
                let payload = self.payload(length).await?;
                let mut fields = FieldReader::new(&payload);
                fields.bytes(3);
                let status = fields.integer(2).and_then(|status| u16::try_from(status).ok());
                return Ok(ResultPacket::End(status.unwrap_or_default()));
            }
            _ => {}
        }
        match max_row_bytes {
            Some(max) if length > max => Err(PacketError::TooLarge(format!("a row (limit {} MiB)", max >> 20))),
            Some(_) => self.payload(length).await.map(ResultPacket::Row),
            None => self.pass(length).await.map(|()| ResultPacket::Passed),
        }
    }

    async fn peek(&mut self) -> Result<&u8, PacketError> {
        use tokio::io::AsyncBufReadExt;
        let buffered = self.stream.fill_buf().await?;
        buffered.first().ok_or_else(|| PacketError::Io(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Reads a row of any length through a small buffer.
    async fn pass(&mut self, mut length: usize) -> Result<(), PacketError> {
        let mut chunk = vec![0; CHUNK_BYTES.min(length)];
        loop {
            let mut left = length;
            self.count(4)?;
            while left > 0 {
                let part = chunk.get_mut(..left.min(CHUNK_BYTES)).unwrap_or_default();
                let read = part.len();
                self.stream.read_exact(part).await?;
                self.count(read)?;
                left -= read;
            }
            if length < CONTINUED {
                return Ok(());
            }
            length = self.header().await?;
        }
    }
}

fn server_error(payload: &[u8]) -> PacketError {
    match ServerError::parse(payload).filter(|_| payload.len() <= MAX_ERROR_BYTES) {
        Some(error) => PacketError::Server(error),
        None => PacketError::Malformed("an error packet is cut, or its message is longer than 4 KiB"),
    }
}
