//! Rate limits: of each token, and of failed authentications from one address. Pure.

use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use crate::policy::ApiRate;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one address may send a credential that is not valid. A valid token from the same address always works: all
/// clients behind a proxy share its address, and none of them may lock out the others.
pub const FAILED_AUTHENTICATIONS: ApiRate = ApiRate { per_second: 5, burst: 100 };

/// How often one address may request consent links. The page asks for the state of a connection every two seconds, and all
/// readers behind a proxy share its address.
pub const LINK_REQUESTS: ApiRate = ApiRate { per_second: 20, burst: 200 };

/// The maximum number of keys of a limiter. Keys that used nothing recently are forgotten first.
const MAX_KEYS: usize = 4096;

/// One token bucket for each key.
pub struct RateLimiter<K> {
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// What is left of a limit after one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateStatus {
    rate: ApiRate,
    /// The number of requests that may follow at once.
    remaining: u32,
    /// When the bucket is full again.
    reset: Duration,
    /// When the next request is allowed, if this one was not.
    retry_after: Option<Duration>,
}

impl<K> Default for RateLimiter<K> {
    fn default() -> RateLimiter<K> {
        RateLimiter { buckets: Mutex::default() }
    }
}

impl<K: Eq + Hash + Copy> RateLimiter<K> {
    /// Takes one request of `key` from its bucket.
    pub fn take(&self, key: K, rate: ApiRate, now: Instant) -> RateStatus {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            forget(&mut buckets, rate, now);
        }
        let (per_second, burst) = (f64::from(rate.per_second), f64::from(rate.burst));
        let bucket = buckets.entry(key).or_insert(Bucket { left: burst, at: now });
        bucket.left = refilled(*bucket, rate, now);
        bucket.at = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        let wait = |missing: f64| Duration::try_from_secs_f64(missing / per_second).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a u32")]
        let remaining = bucket.left as u32;
        RateStatus { rate, remaining, reset: wait(burst - bucket.left), retry_after: (!allowed).then(|| wait(1.0 - bucket.left)) }
    }
}

fn refilled(bucket: Bucket, rate: ApiRate, now: Instant) -> f64 {
    let seconds = now.saturating_duration_since(bucket.at).as_secs_f64();
    (bucket.left + seconds * f64::from(rate.per_second)).min(f64::from(rate.burst))
}

/// Removes all keys whose buckets are full, or else half of the others.
fn forget<K: Eq + Hash + Copy>(buckets: &mut HashMap<K, Bucket>, rate: ApiRate, now: Instant) {
    buckets.retain(|_, bucket| refilled(*bucket, rate, now) < f64::from(rate.burst));
    if buckets.len() >= MAX_KEYS {
        let mut keep = false;
        buckets.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
}

impl RateStatus {
    /// Whether the request was allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.retry_after.is_none()
    }

    /// The response headers: limit, what remains of it, and the seconds until it is full again.
    #[must_use]
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 3] {
        [
            (HeaderName::from_static("ratelimit-limit"), HeaderValue::from(self.rate.burst)),
            (HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(self.remaining)),
            (HeaderName::from_static("ratelimit-reset"), HeaderValue::from(seconds(self.reset))),
        ]
    }

    /// Returns 429: `subject` may send that many `items`. `note` is a sentence about the limit.
    #[must_use]
    pub fn problem(&self, subject: &str, items: &str, note: &str) -> ApiProblem {
        let wait = seconds(self.retry_after.unwrap_or_default()).max(1);
        let (per_second, burst) = (self.rate.per_second, self.rate.burst);
        let detail = format!(
            "{subject} may send {per_second} {items} per second, and {burst} at once after a pause; repeat the request in {wait} s. {note}"
        );
        let problem = ApiProblem::new(StatusCode::TOO_MANY_REQUESTS, ProblemCode::RateLimited, "Rate limited", detail);
        let headers = self.headers().into_iter().chain([(header::RETRY_AFTER, HeaderValue::from(wait))]);
        headers.fold(problem, |problem, (name, value)| problem.header(name, value))
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The key of a client's address. A client with IPv6 usually has a whole /64 network.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_emptied_by_requests_and_filled_by_time() {
        let limiter = RateLimiter::default();
        let rate = ApiRate { per_second: 2, burst: 3 };
        let start = Instant::now();
        for left in [2, 1, 0] {
            let status = limiter.take("a", rate, start);
            assert_eq!((status.is_allowed(), status.remaining), (true, left));
        }
        let refused = limiter.take("a", rate, start);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(500)));
        let problem = refused.problem("Token a", "requests", "");
        assert_eq!(problem.status, 429);
        let header = |name: &str| problem.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        assert_eq!(header("retry-after"), Some(HeaderValue::from(1)));
        assert_eq!(header("ratelimit-limit"), Some(HeaderValue::from(3)));
        assert_eq!(header("ratelimit-reset"), Some(HeaderValue::from(2)));
        assert!(limiter.take("b", rate, start).is_allowed(), "each key has its own bucket");
        assert!(limiter.take("a", rate, start + Duration::from_millis(500)).is_allowed());
        assert!(!limiter.take("a", rate, start + Duration::from_millis(501)).is_allowed());
        let full = limiter.take("a", rate, start + Duration::from_secs(3600));
        assert_eq!(full.remaining, 2, "a long pause fills the bucket and no more");
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let limiter = RateLimiter::default();
        let (rate, now) = (FAILED_AUTHENTICATIONS, Instant::now());
        for key in 0..3 * MAX_KEYS {
            limiter.take(key, rate, now);
        }
        assert!(limiter.buckets.lock().expect("no panic").len() <= MAX_KEYS);
        let one: IpAddr = "2001:db8::1".parse().expect("an address");
        let other: IpAddr = "2001:db8::ffff:2".parse().expect("an address");
        assert_eq!(address_key(one), address_key(other));
    }
}
