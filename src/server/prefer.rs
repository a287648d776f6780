//! `Prefer: wait=N` and `Prefer: respond-async` (RFC 7240). Pure.

use axum::http::{HeaderMap, HeaderName};
use std::time::Duration;

/// The request header.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The response header.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long a response waits if the client does not ask for anything. One second is left for
/// reading the request and writing the response, so that a client with a timeout of 10 s gets it.
const DEFAULT_WAIT: Duration = Duration::from_secs(9);
const MAX_WAIT_SECONDS: u64 = 300;

/// How long a response may wait for the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitPreference {
    pub limit: Duration,
    /// The preference that was honoured.
    pub applied: Option<String>,
}

impl Default for WaitPreference {
    fn default() -> WaitPreference {
        WaitPreference { limit: DEFAULT_WAIT, applied: None }
    }
}

impl WaitPreference {
    /// Parses the header. `respond-async` alone means that the response does not wait; together with `wait=N` it waits
    /// N seconds. A preference that is not valid is ignored, as RFC 7240 requires.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> WaitPreference {
        let (mut seconds, mut asynchronous) = (None, false);
        let values = headers.get_all(PREFER).iter();
        let preferences = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        for preference in preferences {
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                asynchronous = true;
            } else if name.trim().eq_ignore_ascii_case("wait") && seconds.is_none() {
                seconds = value.trim().trim_matches('"').parse::<u64>().ok().map(|seconds| seconds.min(MAX_WAIT_SECONDS));
            }
        }
        match (seconds, asynchronous) {
            (Some(seconds), _) => {
                WaitPreference { limit: Duration::from_secs(seconds), applied: Some(format!("wait={seconds}")) }
            }
            (None, true) => WaitPreference { limit: Duration::ZERO, applied: Some("respond-async".to_string()) },
            (None, false) => WaitPreference::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn parsed(value: &str) -> (u64, Option<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(PREFER, HeaderValue::from_str(value).expect("a header"));
        let wait = WaitPreference::from_headers(&headers);
        (wait.limit.as_secs(), wait.applied)
    }

    #[test]
    fn the_header_is_read_as_the_rfc_writes_it() {
        assert_eq!(parsed("wait=5"), (5, Some("wait=5".to_string())));
        assert_eq!(parsed("Wait=\"7\"; x=y, handling=lenient"), (7, Some("wait=7".to_string())));
        assert_eq!(parsed("respond-async"), (0, Some("respond-async".to_string())));
        assert_eq!(parsed("respond-async, wait=2"), (2, Some("wait=2".to_string())));
        assert_eq!(parsed("wait=100000"), (300, Some("wait=300".to_string())));
        for ignored in ["wait=soon", "wait=-1", "return=minimal", ""] {
            assert_eq!(parsed(ignored), (9, None), "{ignored}");
        }
    }
}
