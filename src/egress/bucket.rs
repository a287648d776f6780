//! A token bucket with reservations. Calls are served in the order in which they reserve. This module is pure; the time
//! is a parameter.

use std::time::Duration;

/// Tokens are added at the rate `per_second`, up to `burst`. A reservation may make the number of tokens negative; the
/// call then waits until the bucket has refilled.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

/// The maximum wait. Longer waits are shortened to it.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

impl Bucket {
    /// Creates a full bucket. `now` is the current time of any monotonic clock.
    #[must_use]
    pub fn new(per_second: f64, burst: u32, now: Duration) -> Bucket {
        let burst = f64::from(burst.max(1));
        Bucket { per_second: positive(per_second), burst, tokens: burst, at: now }
    }

    /// Changes rate and burst. The bucket keeps its tokens, so that changing a policy back and forth does not grant
    /// extra calls.
    pub fn reshape(&mut self, per_second: f64, burst: u32, now: Duration) {
        self.refill(now);
        self.per_second = positive(per_second);
        self.burst = f64::from(burst.max(1));
        self.tokens = self.tokens.min(self.burst);
    }

    /// As [`Bucket::reshape`], and gives back what calls reserved that still wait. Each of them reserves again.
    pub fn reshape_waiting(&mut self, per_second: f64, burst: u32, now: Duration) {
        self.reshape(per_second, burst, now);
        self.tokens = self.tokens.max(0.0);
    }

    /// Takes all tokens but those that were added in the time `filled`.
    pub fn empty(&mut self, filled: Duration) {
        self.tokens = (filled.as_secs_f64() * self.per_second).min(self.burst);
    }

    /// Reserves one call and returns how long the caller must wait before making it.
    ///
    /// # Errors
    /// Returns the wait if it is longer than `patience`. Nothing is reserved in that case.
    pub fn reserve(&mut self, now: Duration, patience: Duration) -> Result<Duration, Duration> {
        self.refill(now);
        let after = self.tokens - 1.0;
        let wait = if after >= 0.0 { Duration::ZERO } else { seconds(-after / self.per_second) };
        if wait > patience {
            return Err(wait);
        }
        self.tokens = after;
        Ok(wait)
    }

    /// Reserves `calls` calls of one attempt, and returns how long the attempt must wait before it makes the first of them. It
    /// need not wait for more calls than a full bucket has, because it makes them one after the other.
    pub fn reserve_attempt(&mut self, now: Duration, calls: u32) -> Duration {
        self.refill(now);
        let calls = f64::from(calls);
        let missing = calls.min(self.burst) - self.tokens;
        self.tokens -= calls;
        if missing > 0.0 { seconds(missing / self.per_second) } else { Duration::ZERO }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.at = self.at.max(now);
    }
}

fn positive(rate: f64) -> f64 {
    if rate.is_finite() && rate > 0.0 { rate } else { 0.0 }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(MAX_WAIT).min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = MAX_WAIT;

    #[test]
    fn attempts_of_one_account_begin_at_the_pace_of_its_calls() {
        let mut bucket = Bucket::new(2.0, 12, Duration::ZERO);
        let waits: Vec<u128> = (0..5).map(|_| bucket.reserve_attempt(Duration::ZERO, 5).as_millis()).collect();
        assert_eq!(waits, [0, 0, 1500, 4000, 6500], "two attempts fit into the burst");
        let mut small = Bucket::new(0.5, 2, Duration::ZERO);
        let waits: Vec<u128> = (0..3).map(|_| small.reserve_attempt(Duration::ZERO, 5).as_secs().into()).collect();
        assert_eq!(waits, [0, 10, 20], "an attempt with more calls than the burst waits between its calls");
    }

    #[test]
    fn a_burst_is_free_and_the_rest_waits_in_order() {
        let mut bucket = Bucket::new(2.0, 3, Duration::ZERO);
        let waits: Vec<u128> = (0..6).map(|_| bucket.reserve(Duration::ZERO, DAY).unwrap().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000, 1500]);
    }

    #[test]
    fn too_long_a_wait_reserves_nothing() {
        let mut bucket = Bucket::new(1.0, 1, Duration::ZERO);
        bucket.reserve(Duration::ZERO, DAY).unwrap();
        for _ in 0..3 {
            assert_eq!(bucket.reserve(Duration::ZERO, Duration::from_millis(999)), Err(Duration::from_secs(1)));
        }
        assert_eq!(bucket.reserve(Duration::from_secs(1), Duration::ZERO), Ok(Duration::ZERO));
    }

    #[test]
    fn reshaping_gives_no_call_away() {
        let mut bucket = Bucket::new(1.0, 2, Duration::ZERO);
        for _ in 0..2 {
            bucket.reserve(Duration::ZERO, DAY).unwrap();
        }
        for burst in [1, 50, 2] {
            bucket.reshape(1.0, burst, Duration::ZERO);
            assert!(bucket.reserve(Duration::ZERO, Duration::ZERO).is_err());
        }
        assert_eq!(Bucket::new(f64::NAN, 0, Duration::ZERO).reserve(Duration::ZERO, DAY), Ok(Duration::ZERO));
        let mut never = Bucket::new(0.0, 1, Duration::ZERO);
        never.reserve(Duration::ZERO, DAY).unwrap();
        assert_eq!(never.reserve(DAY, Duration::from_secs(20)), Err(DAY));
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            rate in 0.1_f64..50.0, burst in 1_u32..20, pauses in proptest::collection::vec(0_u64..2_000, 1..80)
        ) {
            let mut bucket = Bucket::new(rate, burst, Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut starts: Vec<f64> = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                if let Ok(wait) = bucket.reserve(now, Duration::from_secs(5)) {
                    starts.push((now + wait).as_secs_f64());
                }
            }
            prop_assert!(starts.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6), "out of order");
            for (i, from) in starts.iter().enumerate() {
                for (j, to) in starts.iter().enumerate().skip(i) {
                    let calls = (j - i + 1) as f64;
                    prop_assert!(calls <= f64::from(burst) + rate * (to - from) + 1e-3, "{calls} calls within {}", to - from);
                }
            }
        }
    }
}
