//! Reads a response body up to a size limit and reports precisely how it ended.

use super::transport;
use crate::credentials::redact;
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

/// Whether `failure` is that of [`BodyError::TooLong`], so that a connector can say what its limit is for.
#[must_use]
pub fn is_too_long(failure: &Failure) -> bool {
    failure.class == Class::Remote && failure.title.contains(LONGER_THAN)
}

/// How the title of [`BodyError::TooLong`] says it.
const LONGER_THAN: &str = " is longer than ";

/// The maximum number of bytes that are read from a throttled response for the detail of the failure.
pub const MAX_THROTTLE_BODY_BYTES: u64 = 64 << 10;

/// Reads at most `max_bytes` bytes until `deadline`. The limit applies to decompressed bytes, so that a small response
/// cannot expand into a large one. `announced` is the `Content-Length`, if the body is not compressed.
///
/// # Errors
/// Returns the number of bytes received and the reason why reading stopped.
pub async fn read(
    mut body: Incoming,
    gzip: bool,
    announced: Option<u64>,
    max_bytes: u64,
    deadline: Instant,
) -> Result<Bytes, (u64, BodyError)> {
    let mut kept = match gzip {
        true => ReceivedBody::Gzip(None),
        false => ReceivedBody::Plain(Vec::with_capacity(
            usize::try_from(announced.unwrap_or(0).min(max_bytes)).map_or(0, |all| all.min(INITIAL_CAPACITY)),
        )),
    };
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err((kept.len(), BodyError::Timeout)),
            Ok(None) => return kept.end(),
            Ok(Some(Err(error))) => {
                let reason = transport::message(&error);
                let error = if transport::cut(&error) { BodyError::Cut(announced, reason) } else { BodyError::Other(reason) };
                return Err((kept.len(), error));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(piece) = frame.into_data() {
            kept.take(&piece, max_bytes)?;
        }
    }
}

/// The maximum number of bytes allocated for a body before any of it is received.
const INITIAL_CAPACITY: usize = 64 << 10;

enum ReceivedBody {
    Plain(Vec<u8>),
    /// The decoder is created with the first byte, because responses to HEAD and responses with 204 or 304 have no body
    /// to decompress.
    Gzip(Option<Box<MultiGzDecoder<Bounded>>>),
}

impl ReceivedBody {
    fn len(&self) -> u64 {
        match self {
            ReceivedBody::Plain(bytes) => bytes.len() as u64,
            ReceivedBody::Gzip(packed) => packed.as_ref().map_or(0, |packed| packed.get_ref().bytes.len() as u64),
        }
    }

    fn take(&mut self, piece: &[u8], max_bytes: u64) -> Result<(), (u64, BodyError)> {
        let had = self.len();
        match self {
            ReceivedBody::Plain(bytes) if had + piece.len() as u64 > max_bytes => {
                Err((bytes.len() as u64, BodyError::TooLong(max_bytes)))
            }
            ReceivedBody::Plain(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
            ReceivedBody::Gzip(packed) => {
                let packed =
                    packed.get_or_insert_with(|| MultiGzDecoder::new(Bounded { max_bytes, ..Bounded::default() }).into());
                packed.write_all(piece).map_err(|error| decompression_error(packed.get_ref(), &error))
            }
        }
    }

    fn end(self) -> Result<Bytes, (u64, BodyError)> {
        match self {
            ReceivedBody::Plain(bytes) => Ok(bytes.into()),
            ReceivedBody::Gzip(None) => Ok(Bytes::new()),
            ReceivedBody::Gzip(Some(mut packed)) => match packed.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut packed.get_mut().bytes).into()),
                Err(error) => Err(decompression_error(packed.get_ref(), &error)),
            },
        }
    }
}

/// Collects the output of a decompressor up to a size limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: u64,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + piece.len()) as u64 > self.max_bytes {
            self.over = true;
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decompression_error(out: &Bounded, error: &io::Error) -> (u64, BodyError) {
    let error = match error.kind() {
        _ if out.over => BodyError::TooLong(out.max_bytes),
        io::ErrorKind::UnexpectedEof => BodyError::Cut(None, error.to_string()),
        _ => BodyError::Other(error.to_string()),
    };
    (out.bytes.len() as u64, error)
}

/// Returns the beginning of a body, short enough for one line of a report.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    // Scrub before shortening, because a part of a secret would not be recognized.
    let text = redact::scrub(&text);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
