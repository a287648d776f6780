//! Determines how long to wait after a throttled response, and when to retry within one call. This module is pure.
//!
//! Egress retries after a failure below HTTP, namely a dropped connection. It retries gateway errors only for engines
//! that do not handle errors themselves; see [`super::Session::without_status_retries`].
//!
//! `Retry-After` is a number of seconds or an HTTP date (RFC 9110, section 10.2.3). Reset headers contain epoch seconds
//! (GitHub, Okta, ServiceNow), seconds from now (Datadog, PagerDuty, SharePoint) or an ISO 8601 time (Jira). Each form is
//! accepted in each header, because vendors and proxies in front of them confuse the headers.

use crate::model::Timestamp;
use std::time::Duration;

/// The minimum wait after a throttled response, even if the source asks for less.
pub const MIN_WAIT: Duration = Duration::from_secs(1);
/// The maximum wait after a throttled response, even if the source asks for more.
pub const MAX_WAIT: Duration = Duration::from_secs(86_400);
/// The maximum number of retries within one call.
pub const MAX_RETRIES: u32 = 2;
/// The wait after a 429 that does not say how long to wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// The maximum wait before the first retry. It doubles with each further retry.
const BASE_WAIT: Duration = Duration::from_millis(200);

/// Headers that give the time when a used-up quota is reset.
const RESETS: [&str; 4] = ["x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset", "x-ratelimit-requests-reset"];
const REMAINING: [&str; 3] = ["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"];
/// The header that gives both in the IETF's draft-ietf-httpapi-ratelimit-headers: `limit=100, remaining=0, reset=30` up to
/// version 7, and `"default";r=0;t=30` from then on.
const COMBINED: &str = "ratelimit";

/// Headers that give the number of calls of a window.
const LIMITS: [&str; 3] = ["x-ratelimit-limit", "x-rate-limit-limit", "ratelimit-limit"];

/// What a throttled response asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRequest {
    /// The wait that a header names, from [`MIN_WAIT`] to [`MAX_WAIT`].
    pub named: Option<Duration>,
    /// False for a 403 without `Retry-After` whose headers say that no call is left. That may also be a denial that used the
    /// last call of the window.
    pub is_certain: bool,
}

impl WaitRequest {
    /// Returns the wait that the response names, or the default one.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.named.unwrap_or(DEFAULT_WAIT)
    }
}

/// Returns what a throttled response asks for, or `None` if the response is not throttled. A response is throttled if it is
/// a 429, a 503 with `Retry-After`, or a 403 with `Retry-After` or a used-up quota. GitHub sends such 403 responses.
#[must_use]
pub fn wait_request(status: u16, headers: &[(String, String)], now: Timestamp) -> Option<WaitRequest> {
    let find = |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    let asked = find("retry-after").and_then(|value| moment(value, now)).map(|at| at.since(now));
    let combined = find(COMBINED).unwrap_or_default();
    let reset = RESETS.iter().find_map(|name| find(name)).or_else(|| parameter(combined, &["t", "reset"]));
    let left: Vec<&str> =
        REMAINING.iter().filter_map(|name| find(name)).chain(parameter(combined, &["r", "remaining"])).collect();
    let spent = left.contains(&"0");
    // The reset is that of a window which has nothing to do with the response if calls of the window are left (GitHub's
    // secondary limits), and if the limit is 0. [K] Okta reports a limit of 0 when too many calls run at the same time.
    let is_of_window = (spent || left.is_empty()) && !LIMITS.iter().filter_map(|name| find(name)).any(|limit| limit == "0");
    let reset = reset.filter(|_| is_of_window).and_then(|value| moment(value, now)).map(|at| at.since(now));
    let named = match status {
        429 => asked.or(reset),
        503 => Some(asked?),
        403 => Some(asked.or(reset.filter(|_| spent))?),
        _ => return None,
    };
    let named = named.map(|wait| wait.clamp(MIN_WAIT, MAX_WAIT));
    Some(WaitRequest { named, is_certain: status != 403 || asked.is_some() })
}

/// Returns the wait that the body of a throttled response names. Google's APIs name it in the details of an error, as a
/// duration in seconds with the suffix `s`.
/// Others name it as a number of seconds.
/// \[V\] googleapis/googleapis, google/rpc/error_details.proto (`RetryInfo`) and the JSON form of `Duration`.
/// \[V\] dropbox/dropbox-api-spec, auth.stone: `RateLimitError.retry_after` is in seconds.
#[must_use]
pub fn in_body(body: &[u8]) -> Option<Duration> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let seconds = |pointer: &&str| match body.pointer(pointer)? {
        serde_json::Value::Number(number) => whole_seconds(&number.to_string()),
        serde_json::Value::String(text) => whole_seconds(text.trim()),
        _ => None,
    };
    if let Some(wait) = ["/error/retry_after", "/retry_after", "/error/retryAfter", "/retryAfter"].iter().find_map(seconds) {
        return Some(wait.clamp(MIN_WAIT, MAX_WAIT));
    }
    let mut details = body.pointer("/error/details")?.as_array()?.iter();
    let delay = details.find_map(|detail| detail.get("retryDelay")?.as_str())?;
    Some(whole_seconds(delay.strip_suffix('s')?)?.clamp(MIN_WAIT, MAX_WAIT))
}

/// Returns how long to wait before retry number `turn` (the first is 0), with full jitter. `draw` is a random number
/// from 0 to 1.
#[must_use]
pub fn wait_before(turn: u32, draw: f64) -> Duration {
    BASE_WAIT.saturating_mul(1 << turn.min(6)).mul_f64(draw.clamp(0.0, 1.0))
}

/// Returns whether the status is a temporary gateway error (502, 503 or 504), so that a retry may help.
#[must_use]
pub fn is_gateway_error(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// Returns the moment that a header names: in seconds from now, in seconds or milliseconds since 1970, as an HTTP date or
/// as an ISO 8601 time.
#[must_use]
pub fn moment(value: &str, now: Timestamp) -> Option<Timestamp> {
    // A billion seconds is 31 years, so a number this large is a point in time and not a wait. A number of 100 billion
    // or more is in milliseconds.
    let millis = |seconds: u64| i64::try_from(seconds).ok();
    match whole_seconds(value) {
        Some(number) if number.as_secs() >= 100_000_000_000 => Some(Timestamp(millis(number.as_secs())?)),
        Some(number) if number.as_secs() >= 1_000_000_000 => Some(Timestamp(millis(number.as_secs())?.checked_mul(1000)?)),
        Some(wait) => Some(now.plus(wait)),
        None => Timestamp::from_http_date(value).or_else(|| Timestamp::parse(value).ok()),
    }
}

/// Returns the value of the first of `names` in a header of parameters, which `,` or `;` separate.
fn parameter<'h>(header: &'h str, names: &[&str]) -> Option<&'h str> {
    let mut parameters = header.split([',', ';']).filter_map(|part| part.split_once('='));
    parameters.find(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim())
}

/// Parses a number of seconds. A fraction is rounded up.
fn whole_seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let more = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    // A number that is too large to parse means a very long wait, so use the maximum.
    Some(Duration::from_secs(whole.parse::<u64>().unwrap_or(MAX_WAIT.as_secs()).saturating_add(more)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The time 2026-11-08T18:00:00Z.
    const NOW: Timestamp = Timestamp(1_794_160_800_000);

    fn wait(status: u16, headers: &[(&str, &str)]) -> Option<u64> {
        let headers: Vec<(String, String)> = headers.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        wait_request(status, &headers, NOW).map(|asked| asked.wait().as_secs())
    }

    #[test]
    fn every_form_of_a_wait_is_read_and_clamped() {
        assert_eq!(wait(429, &[]), Some(60));
        assert_eq!(wait(429, &[("retry-after", "7")]), Some(7));
        assert_eq!(wait(429, &[("retry-after", "1.2")]), Some(2));
        assert_eq!(wait(429, &[("retry-after", "0")]), Some(1));
        assert_eq!(wait(429, &[("retry-after", "999999999999999999999999")]), Some(86_400));
        assert_eq!(wait(429, &[("retry-after", "Sun, 08 Nov 2026 18:02:00 GMT")]), Some(120));
        assert_eq!(wait(429, &[("retry-after", "Sun, 08 Nov 2020 18:02:00 GMT")]), Some(1));
        assert_eq!(wait(429, &[("retry-after", "soon")]), Some(60));
        assert_eq!(wait(429, &[("retry-after", "-5")]), Some(60));
        assert_eq!(wait(429, &[("x-ratelimit-reset", "1794160830")]), Some(30));
        assert_eq!(wait(429, &[("x-ratelimit-reset", "1794160830000")]), Some(30));
        assert_eq!(wait(429, &[("x-ratelimit-reset", "45")]), Some(45));
        assert_eq!(wait(429, &[("x-ratelimit-reset", "2026-11-08T18:01:30Z")]), Some(90));
        assert_eq!(wait(429, &[("x-ratelimit-reset", "2026-11-08T18:01Z")]), Some(60), "Jira leaves out the seconds");
        assert_eq!(wait(429, &[("retry-after", "60.0")]), Some(60));
        assert_eq!(wait(429, &[("retry-after", "1794160830")]), Some(30));
        assert_eq!(wait(429, &[("retry-after", "2026-11-08T18:01:30Z")]), Some(90));
        assert_eq!(wait(429, &[("retry-after", "Sunday, 08-Nov-26 18:02:00 GMT")]), Some(120));
        assert_eq!(wait(429, &[("retry-after", "Sun Nov  8 18:02:00 2026")]), Some(120));
        assert_eq!(wait(429, &[("ratelimit-reset", "30")]), Some(30));
        assert_eq!(wait(429, &[("ratelimit", "limit=100, remaining=0, reset=30")]), Some(30));
        assert_eq!(wait(403, &[("ratelimit", "\"default\";r=0;t=30")]), Some(30));
        assert_eq!(wait(403, &[("ratelimit", "\"default\";r=5;t=30")]), None);
        // [K] Okta's concurrency limit: a limit of 0, and the reset of a window that has nothing to do with it.
        for reset in ["1794160800", "1794160805"] {
            let okta = [("x-rate-limit-limit", "0"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", reset)];
            assert_eq!(wait(429, &okta), Some(60));
            assert_eq!(wait(429, &[&okta[..], &[("retry-after", "7")]].concat()), Some(7));
        }
        // [V] docs.github.com, "Rate limits for the REST API": with calls left, a secondary limit is met, and a minute is enough.
        assert_eq!(wait(429, &[("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "1794164400")]), Some(60));
        assert_eq!(wait(503, &[("retry-after", "7")]), Some(7));
    }

    #[test]
    fn the_wait_of_a_body_is_read() {
        let wait = |delay: &str| {
            let info = format!(r#"{{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "{delay}"}}"#);
            let body = format!(r#"{{"error": {{"code": 429, "details": [{{"reason": "RATE_LIMIT_EXCEEDED"}}, {info}]}}}}"#);
            in_body(body.as_bytes()).map(|wait| wait.as_secs())
        };
        for (delay, expected) in [
            ("34s", Some(34)),
            ("3.5s", Some(4)),
            ("0s", Some(1)),
            ("999999999999s", Some(86_400)),
            ("34", None),
            ("-1s", None),
            ("soon", None),
        ] {
            assert_eq!(wait(delay), expected, "{delay}");
        }
        for other in ["", "[]", r#"{"error": "x"}"#, r#"{"error": {"details": [{}]}}"#] {
            assert_eq!(in_body(other.as_bytes()), None, "{other}");
        }
        for (body, expected) in [
            (r#"{"error": {"reason": {".tag": "too_many_requests"}, "retry_after": 300}}"#, 300),
            (r#"{"retry_after": "1.5"}"#, 2),
        ] {
            assert_eq!(in_body(body.as_bytes()).map(|wait| wait.as_secs()), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_wait_that_no_header_names_and_a_denial_that_may_have_used_the_last_call() {
        let asked = |status: u16, headers: &[(&str, &str)]| {
            let headers: Vec<(String, String)> = headers.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
            wait_request(status, &headers, NOW).unwrap()
        };
        assert_eq!(asked(429, &[]), WaitRequest { named: None, is_certain: true });
        let spent = [("X-RateLimit-Reset", "1794160830"), ("X-RateLimit-Remaining", "0")];
        assert_eq!(asked(403, &spent), WaitRequest { named: Some(Duration::from_secs(30)), is_certain: false });
        assert!(asked(403, &[("retry-after", "7")]).is_certain && asked(429, &spent).is_certain);
    }

    #[test]
    fn other_responses_are_not_throttled() {
        assert_eq!(wait(503, &[]), None);
        assert_eq!(wait(403, &[]), None);
        assert_eq!(wait(403, &[("x-ratelimit-reset", "1794160830"), ("x-ratelimit-remaining", "12")]), None);
        assert_eq!(wait(403, &[("x-ratelimit-reset", "1794160830"), ("x-ratelimit-remaining", "0")]), Some(30));
        assert_eq!(wait(200, &[("retry-after", "7")]), None);
        assert_eq!(wait(401, &[("retry-after", "7")]), None);
    }

    proptest! {
        #[test]
        fn any_header_gives_a_wait_within_bounds(value in "\\PC{0,40}", name in 0_usize..5) {
            let name = ["retry-after", "x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset", "x-ratelimit-requests-reset"][name];
            let asked = wait_request(429, &[(name.to_string(), value)], NOW).unwrap();
            prop_assert!((MIN_WAIT..=MAX_WAIT).contains(&asked.wait()));
        }

        #[test]
        fn quick_waits_stay_short(turn: u32, draw in 0.0_f64..1.0) {
            prop_assert!(wait_before(turn % MAX_RETRIES, draw) <= Duration::from_millis(400));
        }
    }
}
