//! The body of an answer: bounded, and precise about how it ended.

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
pub enum Trouble {
    /// With the most that may be read.
    TooLong(u64),
    /// With the length that was announced.
    Cut(Option<u64>, String),
    Timeout,
    Other(String),
}

impl Trouble {
    /// The failure a person reads, after `bytes` had come.
    pub fn failure(&self, at: &str, bytes: u64, whole: Duration) -> Failure {
        match self {
            Trouble::TooLong(most) => {
                let fix = "see that the address is the one that is meant; nothing was kept of the answer";
                Failure::new(Class::Remote, format!("the answer of {at} is longer than {most} bytes"), fix)
            }
            Trouble::Cut(announced, words) => {
                let of = announced.map(|length| format!(" of {length}")).unwrap_or_default();
                let fix = "AAM tries again; if it repeats, see the service's own log and what a proxy in between does";
                Failure::new(Class::Remote, format!("the answer of {at} was cut after {bytes}{of} bytes"), fix)
                    .detail(redact::scrub(words))
            }
            Trouble::Timeout => {
                let title = format!("{at} did not finish its answer within {} s ({bytes} bytes came)", whole.as_secs_f64());
                let fix = "see whether the service is overloaded; if it is only slow, raise safe_mode.step_timeout in the policy";
                Failure::new(Class::Network, title, fix)
            }
            Trouble::Other(words) => {
                let fix = "see the detail; the service or a proxy in between sent something broken";
                Failure::new(Class::Remote, format!("the answer of {at} cannot be read"), fix).detail(redact::scrub(words))
            }
        }
    }
}

/// What is read of an answer that only says "later".
pub const WORDS: u64 = 64 << 10;

/// Reads at most `most` bytes until `deadline`, counted after decompression, so that a small answer cannot become a
/// large one. `announced` is the length of its head, if that counts what is read here.
///
/// # Errors
/// The bytes that came and why there are no more.
pub async fn read(
    mut body: Incoming,
    gzip: bool,
    announced: Option<u64>,
    most: u64,
    deadline: Instant,
) -> Result<Bytes, (u64, Trouble)> {
    let mut kept = match gzip {
        true => CachedResponse::Unpacked(None),
        false => CachedResponse::Plain(Vec::with_capacity(
            usize::try_from(announced.unwrap_or(0).min(most)).map_or(0, |all| all.min(AT_ONCE)),
        )),
    };
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err((kept.len(), Trouble::Timeout)),
            Ok(None) => return kept.end(),
            Ok(Some(Err(error))) => {
                let words = transport::words(&error);
                let trouble = if transport::cut(&error) { Trouble::Cut(announced, words) } else { Trouble::Other(words) };
                return Err((kept.len(), trouble));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(piece) = frame.into_data() {
            kept.take(&piece, most)?;
        }
    }
}

/// Room that is made for a body before it came.
const AT_ONCE: usize = 64 << 10;

enum CachedResponse {
    Plain(Vec<u8>),
    /// Empty until something comes: to HEAD, and with 204 and 304, there is nothing to unpack.
    Unpacked(Option<Box<MultiGzDecoder<Bounded>>>),
}

impl CachedResponse {
    fn len(&self) -> u64 {
        match self {
            CachedResponse::Plain(bytes) => bytes.len() as u64,
            CachedResponse::Unpacked(packed) => packed.as_ref().map_or(0, |packed| packed.get_ref().bytes.len() as u64),
        }
    }

    fn take(&mut self, piece: &[u8], most: u64) -> Result<(), (u64, Trouble)> {
        let had = self.len();
        match self {
            CachedResponse::Plain(bytes) if had + piece.len() as u64 > most => Err((bytes.len() as u64, Trouble::TooLong(most))),
            CachedResponse::Plain(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
            CachedResponse::Unpacked(packed) => {
                let packed = packed.get_or_insert_with(|| MultiGzDecoder::new(Bounded { most, ..Bounded::default() }).into());
                packed.write_all(piece).map_err(|error| unpacking(packed.get_ref(), &error))
            }
        }
    }

    fn end(self) -> Result<Bytes, (u64, Trouble)> {
        match self {
            CachedResponse::Plain(bytes) => Ok(bytes.into()),
            CachedResponse::Unpacked(None) => Ok(Bytes::new()),
            CachedResponse::Unpacked(Some(mut packed)) => match packed.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut packed.get_mut().bytes).into()),
                Err(error) => Err(unpacking(packed.get_ref(), &error)),
            },
        }
    }
}

/// What comes out of a decompressor, up to a bound.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + piece.len()) as u64 > self.most {
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

fn unpacking(out: &Bounded, error: &io::Error) -> (u64, Trouble) {
    let trouble = match error.kind() {
        _ if out.over => Trouble::TooLong(out.most),
        io::ErrorKind::UnexpectedEof => Trouble::Cut(None, error.to_string()),
        _ => Trouble::Other(error.to_string()),
    };
    (out.bytes.len() as u64, trouble)
}

/// The beginning of a body, fit for one line of a report.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    // Scrubbed before it is cut: half a secret would not be recognised.
    let text = redact::scrub(&text);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
