//! `Prefer: wait=N` and `Prefer: respond-async` (RFC 7240). Pure.

use axum::http::{HeaderMap, HeaderName};
use std::time::Duration;

/// The request header.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The answer header.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

const DEFAULT: Duration = Duration::from_secs(30);
const MAX: u64 = 300;

/// How long an answer may wait for the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub limit: Duration,
    /// The preference that was honoured.
    pub applied: Option<String>,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait { limit: DEFAULT, applied: None }
    }
}

impl Wait {
    /// Reads the header. `respond-async` alone is at once, with `wait=N` after N seconds.
    /// What cannot be read is ignored, as the RFC wants it.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Wait {
        let (mut seconds, mut asynchronous) = (None, false);
        let values = headers.get_all(PREFER).iter();
        let words = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        for word in words {
            let word = word.split(';').next().unwrap_or_default().trim();
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                asynchronous = true;
            } else if name.trim().eq_ignore_ascii_case("wait") && seconds.is_none() {
                seconds = value.trim().trim_matches('"').parse::<u64>().ok().map(|seconds| seconds.min(MAX));
            }
        }
        match (seconds, asynchronous) {
            (Some(seconds), _) => Wait { limit: Duration::from_secs(seconds), applied: Some(format!("wait={seconds}")) },
            (None, true) => Wait { limit: Duration::ZERO, applied: Some("respond-async".to_string()) },
            (None, false) => Wait::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn of(value: &str) -> (u64, Option<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(PREFER, HeaderValue::from_str(value).expect("a header"));
        let wait = Wait::of(&headers);
        (wait.limit.as_secs(), wait.applied)
    }

    #[test]
    fn the_header_is_read_as_the_rfc_writes_it() {
        assert_eq!(of("wait=5"), (5, Some("wait=5".to_string())));
        assert_eq!(of("Wait=\"7\"; x=y, handling=lenient"), (7, Some("wait=7".to_string())));
        assert_eq!(of("respond-async"), (0, Some("respond-async".to_string())));
        assert_eq!(of("respond-async, wait=2"), (2, Some("wait=2".to_string())));
        assert_eq!(of("wait=100000"), (300, Some("wait=300".to_string())));
        for ignored in ["wait=soon", "wait=-1", "return=minimal", ""] {
            assert_eq!(of(ignored), (30, None), "{ignored}");
        }
    }
}
