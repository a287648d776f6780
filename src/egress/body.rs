//! The body of an answer: bounded, and precise about how it ended.

use super::transport;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use bytes::{Bytes, BytesMut};
use std::time::Duration;

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

/// Reads at most `most` bytes, counted after decompression, so that a small answer cannot become a large one.
///
/// # Errors
/// The bytes that came and why there are no more.
pub async fn read(mut response: reqwest::Response, most: u64) -> Result<Bytes, (u64, Trouble)> {
    // Gone when the body is compressed: then its length says nothing about what is read here.
    let announced = response.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = BytesMut::new();
    loop {
        let read = body.len() as u64;
        match response.chunk().await {
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(chunk)) if read + chunk.len() as u64 > most => {
                return Err((read, Trouble::TooLong(most)));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) if error.is_timeout() => return Err((read, Trouble::Timeout)),
            Err(error) if transport::cut(&error) => {
                return Err((read, Trouble::Cut(announced, transport::words(error))));
            }
            Err(error) => return Err((read, Trouble::Other(transport::words(error)))),
        }
    }
}

/// The beginning of a body, fit for one line of a report.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    // Scrubbed before it is cut: half a secret would not be recognised.
    let text = redact::scrub(&text);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
