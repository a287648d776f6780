//! Reads a response body up to a size limit and reports precisely how it ended.

use super::transport;
use crate::credentials::redact;
use crate::memory_budget::{MemoryBound, Reservation, size_text};
use crate::model::{Class, Failure};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::{self, Write};
use std::time::Duration;
use tokio::time::Instant;

/// Why a body was not read to its end.
pub enum BodyError {
    /// The body is longer than this number of bytes, which is the limit.
    TooLong(u64),
    /// The body ended too early. Holds the announced length, if there was one, and the message of the error.
    Cut(Option<u64>, String),
    Timeout,
    /// The body needs this much memory, which is not free now.
    NeedsMemory(u64),
    /// The body needs more memory than one attempt may use.
    TooMuchMemory(MemoryBound),
    Other(String),
}

impl BodyError {
    /// Returns the failure to report. `bytes` is the number of bytes received, and `timeout` is the response timeout.
    pub fn failure(&self, at: &str, bytes: u64, timeout: Duration) -> Failure {
        match self {
            BodyError::TooLong(max_bytes) => {
                let fix = "check that the address is the right one; the response was discarded";
                Failure::new(Class::Remote, format!("the response of {at}{LONGER_THAN}{max_bytes} bytes"), fix)
            }
            BodyError::TooMuchMemory(bound) => bound.failure(&format!("the response of {at}")),
            BodyError::NeedsMemory(needed) => {
                let title = format!("the response of {at} needs {}, which AAM does not have now", size_text(*needed));
                Failure::new(Class::Throttled, title, "raise reconcile.memory in the policy")
            }
            BodyError::Cut(announced, reason) => {
                let of = announced.map(|length| format!(" of {length}")).unwrap_or_default();
                let fix = "AAM tries again; if it happens again, check the service's log and any proxy in between";
                Failure::new(Class::Remote, format!("the response of {at} was cut off after {bytes}{of} bytes"), fix)
                    .detail(redact::scrub(reason))
            }
            BodyError::Timeout => {
                let title =
                    format!("{at} did not finish its response within {} s ({bytes} bytes received)", timeout.as_secs_f64());
                let fix =
                    "check whether the service is overloaded; if it is only slow, raise safe_mode.step_timeout in the policy";
                Failure::new(Class::Network, title, fix)
            }
            BodyError::Other(reason) => {
                let fix = "see the detail; the service or a proxy in between sent a malformed body";
                Failure::new(Class::Remote, format!("the response of {at} cannot be read"), fix).detail(redact::scrub(reason))
            }
        }
    }
}

/// Whether `failure` is that of `BodyError::TooLong`, so that a connector can say what its limit is for.
#[must_use]
pub fn is_too_long(failure: &Failure) -> bool {
    failure.class == Class::Remote && failure.title.contains(LONGER_THAN)
}

/// How the title of [`BodyError::TooLong`] says it.
const LONGER_THAN: &str = " is longer than ";

/// The maximum number of bytes that are read from a throttled response for the detail of the failure.
pub const MAX_THROTTLE_BODY_BYTES: u64 = 64 << 10;

/// Reads the body into `buffer` until `deadline`. The limits of the buffer apply to decompressed bytes, so that a small
/// response cannot expand into a large one. `announced` is the `Content-Length`, if the body is not compressed.
///
/// The body holds the reservation of the buffer until the last copy of it is dropped.
///
/// # Errors
/// Returns the number of bytes received and the reason why reading stopped.
pub async fn read(
    mut body: Incoming,
    gzip: bool,
    announced: Option<u64>,
    mut buffer: BodyBuffer,
    deadline: Instant,
) -> Result<Bytes, (u64, BodyError)> {
    // A body that will not fit is not received in vain.
    if let Some(announced) = announced.filter(|announced| *announced <= buffer.max_bytes) {
        buffer.grow_to(announced).map_err(|error| (0, error))?;
    }
    let mut received = if gzip { ReceivedBody::Gzip(Packed::Empty(buffer)) } else { ReceivedBody::Plain(buffer) };
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err((received.len(), BodyError::Timeout)),
            Ok(None) => return received.end(),
            Ok(Some(Err(error))) => {
                let reason = transport::message(&error);
                let error = if transport::cut(&error) { BodyError::Cut(announced, reason) } else { BodyError::Other(reason) };
                return Err((received.len(), error));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(piece) = frame.into_data() {
            received = received.take(&piece)?;
        }
    }
}

/// The number of bytes that are reserved before anything is received.
pub const FIRST_BYTES: u64 = 16 << 10;

/// The received part of a body, within the limit of its size and within the memory that the attempt has reserved.
pub struct BodyBuffer {
    bytes: Vec<u8>,
    max_bytes: u64,
    memory: Reservation,
    /// Why the last write failed.
    stopped: Option<BodyError>,
}

impl BodyBuffer {
    /// Creates a buffer for at most `max_bytes` bytes, which grows beyond `memory` only while memory is free.
    #[must_use]
    pub fn new(max_bytes: u64, memory: Reservation) -> BodyBuffer {
        BodyBuffer { bytes: Vec::new(), max_bytes, memory, stopped: None }
    }

    /// Reserves memory for a body of `length` bytes.
    fn grow_to(&mut self, length: u64) -> Result<(), BodyError> {
        let missing = length.saturating_sub(self.memory.bytes());
        match self.memory.try_grow(missing) {
            Ok(true) => Ok(()),
            // Asks for more than is known to be needed, because each of these errors costs a call.
            Ok(false) => Err(BodyError::NeedsMemory(length.max(self.memory.bytes().saturating_mul(4)).min(self.max_bytes))),
            Err(bound) => Err(BodyError::TooMuchMemory(bound)),
        }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        let length = (self.bytes.len() + piece.len()) as u64;
        if length > self.max_bytes {
            return Err(BodyError::TooLong(self.max_bytes));
        }
        if length > self.bytes.capacity() as u64 {
            // Doubles, so that a long body is copied only a few times.
            let capacity = length.max(self.bytes.capacity() as u64 * 2).max(self.memory.bytes()).min(self.max_bytes);
            if self.grow_to(capacity).is_err() {
                self.grow_to(length)?;
            }
            let capacity = usize::try_from(self.memory.bytes().min(capacity)).unwrap_or(usize::MAX);
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The body, which holds the reservation.
    fn into_bytes(self) -> Bytes {
        if self.bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for BodyBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Write for BodyBuffer {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.push(piece) {
            Ok(()) => Ok(piece.len()),
            Err(error) => {
                self.stopped = Some(error);
                Err(io::Error::other("a limit of the body"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum ReceivedBody {
    Plain(BodyBuffer),
    Gzip(Packed),
}

enum Packed {
    /// The decoder is created with the first byte, because responses to HEAD and responses with 204 or 304 have no body
    /// to decompress.
    Empty(BodyBuffer),
    Begun(Box<MultiGzDecoder<BodyBuffer>>),
}

impl ReceivedBody {
    fn len(&self) -> u64 {
        match self {
            ReceivedBody::Plain(buffer) | ReceivedBody::Gzip(Packed::Empty(buffer)) => buffer.bytes.len() as u64,
            ReceivedBody::Gzip(Packed::Begun(decoder)) => decoder.get_ref().bytes.len() as u64,
        }
    }

    fn take(self, piece: &[u8]) -> Result<ReceivedBody, (u64, BodyError)> {
        match self {
            ReceivedBody::Plain(mut buffer) => match buffer.push(piece) {
                Ok(()) => Ok(ReceivedBody::Plain(buffer)),
                Err(error) => Err((buffer.bytes.len() as u64, error)),
            },
            ReceivedBody::Gzip(packed) => {
                let mut decoder = match packed {
                    Packed::Empty(buffer) => Box::new(MultiGzDecoder::new(buffer)),
                    Packed::Begun(decoder) => decoder,
                };
                match decoder.write_all(piece) {
                    Ok(()) => Ok(ReceivedBody::Gzip(Packed::Begun(decoder))),
                    Err(error) => Err(decompression_error(decoder.get_mut(), &error)),
                }
            }
        }
    }

    fn end(self) -> Result<Bytes, (u64, BodyError)> {
        match self {
            ReceivedBody::Plain(buffer) => Ok(buffer.into_bytes()),
            ReceivedBody::Gzip(Packed::Empty(_)) => Ok(Bytes::new()),
            ReceivedBody::Gzip(Packed::Begun(mut decoder)) => match decoder.try_finish() {
                Ok(()) => match decoder.finish() {
                    Ok(buffer) => Ok(buffer.into_bytes()),
                    Err(error) => Err((0, BodyError::Other(error.to_string()))),
                },
                Err(error) => Err(decompression_error(decoder.get_mut(), &error)),
            },
        }
    }
}

fn decompression_error(buffer: &mut BodyBuffer, error: &io::Error) -> (u64, BodyError) {
    let error = match (buffer.stopped.take(), error.kind()) {
        (Some(stopped), _) => stopped,
        (None, io::ErrorKind::UnexpectedEof) => BodyError::Cut(None, error.to_string()),
        (None, _) => BodyError::Other(error.to_string()),
    };
    (buffer.bytes.len() as u64, error)
}

/// The beginning of a body that an excerpt is made from. It is far longer than an excerpt and a secret.
const MAX_EXCERPT_BYTES: usize = 128 << 10;

/// Returns the beginning of a body, short enough for one line of a report.
pub fn excerpt(body: &[u8]) -> String {
    redact::scrub_and_cut(&String::from_utf8_lossy(body.get(..MAX_EXCERPT_BYTES).unwrap_or(body)), 300)
}
