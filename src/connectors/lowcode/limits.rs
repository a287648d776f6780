//! The vendor's own rate limit, as reported in its response headers. AAM uses a share of it and leaves the rest to
//! the account's other clients.

use super::family_spec::Limit;
use crate::model::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The smallest share, in calls. Onboarding a connection needs about this many calls and could not finish with fewer.
const MIN_SHARE: u64 = 12;
/// The reset times in two responses of the same window may differ by this much.
const END_TOLERANCE: Duration = Duration::from_secs(3);
/// The number of accounts and buckets above which those whose windows have ended are removed.
const MAX_KEYS: usize = 4096;

/// The longest wait for the calls of other clients to leave a window that moves with time.
const MAX_WAIT_FOR_OTHERS: Duration = Duration::from_secs(3600);

/// One window of one rate limit.
struct Window {
    ends: Timestamp,
    used: u64,
}

/// The calls that AAM has made in the current windows, by account and bucket.
#[derive(Default)]
pub struct Windows(Mutex<HashMap<String, Vec<Window>>>);

/// The verdict that no call may be made for the rest of the window.
#[derive(Debug, PartialEq)]
pub struct Spent {
    pub wait: Duration,
    /// True if the source allows no further call. False if AAM has used its own share.
    pub by_source: bool,
    /// The reason as people read it.
    pub reason: String,
}

impl Windows {
    /// Counts one call of `account` by the `headers` of its response. Returns `Some` once AAM's share is used up.
    pub fn count(&self, limit: &Limit, account: &str, headers: &[(String, String)], now: Timestamp) -> Option<Spent> {
        let find = |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let (most, left) = match &limit.usage {
            Some(usage) => usage_of(find(&usage.header)?, &usage.name)?,
            None => (find(&limit.limit)?.parse().ok()?, find(&limit.remaining).and_then(|text| text.parse::<u64>().ok())),
        };
        let bucket = find(&limit.bucket).unwrap_or_default();
        let key = format!("{account}|{}|{bucket}", limit.window);
        let ends = match limit.seconds.map(Duration::from_secs) {
            Some(length) => self.current(&key, now).unwrap_or(now.plus(length)),
            None => ends(find(&limit.reset)?, now)?,
        };
        let used = self.add(&key, ends, now);
        let share = share(most, limit.share);
        if used < share && left != Some(0) {
            return None;
        }
        let reason = match left {
            Some(0) => format!("all {most} calls of this {} are used", limit.window),
            _ => format!("aam used its {share} of the {most} calls of this {}", limit.window),
        };
        // Without a reset time, calls of other clients leave the window one by one, so the budget is checked again after an hour at most.
        let wait = match (limit.seconds, left) {
            (Some(_), Some(0)) => ends.since(now).min(MAX_WAIT_FOR_OTHERS),
            _ => ends.since(now),
        };
        Some(Spent { wait, by_source: left == Some(0), reason })
    }

    /// Returns the end of the window that is open for `key`.
    fn current(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key)?.iter().map(|window| window.ends).find(|ends| *ends > now)
    }

    fn add(&self, key: &str, ends: Timestamp, now: Timestamp) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > MAX_KEYS {
            all.retain(|_, windows| windows.iter().any(|window| window.ends > now));
        }
        let windows = all.entry(key.to_string()).or_default();
        windows.retain(|window| window.ends > now);
        match windows.iter_mut().find(|window| window.ends.since(ends).max(ends.since(window.ends)) <= END_TOLERANCE) {
            Some(window) => window.used += 1,
            None => windows.push(Window { ends, used: 1 }),
        }
        windows
            .iter()
            .find(|window| window.ends.since(ends).max(ends.since(window.ends)) <= END_TOLERANCE)
            .map_or(1, |window| window.used)
    }
}

/// Returns how many of the vendor's `most` calls AAM may make.
fn share(most: u64, share: f64) -> u64 {
    // A limit is far below 2^53, and the share is between 0 and 1, so the casts are exact enough.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let part = (most as f64 * share.clamp(0.0, 1.0)) as u64;
    part.max(MIN_SHARE)
}

/// Parses the limit and what is left of it from a header such as `api-usage=18/15000; per-app-api-usage=2/250(appName=x)`.
fn usage_of(text: &str, name: &str) -> Option<(u64, Option<u64>)> {
    let parts = text.split([';', ',']).filter_map(|part| part.trim().split_once('='));
    let (_, value) = parts.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    let (used, most) = value.split_once('/')?;
    let digits = |text: &str| text.trim().split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse::<u64>().ok());
    let (used, most) = (digits(used)?, digits(most)?);
    Some((most, Some(most.saturating_sub(used))))
}

/// Parses a reset time, which is given in seconds since 1970 or in seconds from now.
fn ends(text: &str, now: Timestamp) -> Option<Timestamp> {
    let seconds: i64 = text.parse().ok()?;
    let at = if seconds >= 1_000_000_000 {
        Timestamp(seconds.checked_mul(1000)?)
    } else {
        now.plus(Duration::from_secs(u64::try_from(seconds).ok()?))
    };
    (at > now).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::family_spec::Usage;
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_794_160_800_000);

    fn limit() -> Limit {
        let text = |text: &str| text.to_string();
        Limit {
            window: text("hour"),
            limit: text("x-limit"),
            remaining: text("x-left"),
            reset: text("x-reset"),
            bucket: text("x-bucket"),
            usage: None,
            seconds: None,
            share: 0.10,
        }
    }

    fn answer(most: u64, left: u64, ends: i64, bucket: &str) -> Vec<(String, String)> {
        [
            ("X-Limit", most.to_string()),
            ("x-left", left.to_string()),
            ("x-reset", ends.to_string()),
            ("x-bucket", bucket.to_string()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }

    #[test]
    fn a_tenth_of_the_window_is_used_and_then_waited_for() {
        let (windows, ends) = (Windows::default(), NOW.0 / 1000 + 600);
        for call in 1..=20_u64 {
            let spent = windows.count(&limit(), "a", &answer(200, 200 - call, ends + i64::from(call % 2 == 0), "core"), NOW);
            assert_eq!(spent.is_some(), call == 20, "{call}");
            if let Some(spent) = spent {
                assert_eq!(spent.reason, "aam used its 20 of the 200 calls of this hour");
                assert!((599..=601).contains(&spent.wait.as_secs()));
            }
        }
        assert_eq!(windows.count(&limit(), "a", &answer(200, 100, ends, "search"), NOW), None, "another bucket");
        assert_eq!(windows.count(&limit(), "b", &answer(200, 100, ends, "core"), NOW), None, "another account");
        assert_eq!(
            windows.count(&limit(), "a", &answer(200, 100, ends + 3600, "core"), NOW.plus(Duration::from_secs(700))),
            None,
            "the next window"
        );
    }

    #[test]
    fn a_spent_budget_and_small_ones() {
        let ends = NOW.0 / 1000 + 60;
        let spent = Windows::default().count(&limit(), "a", &answer(5000, 0, ends, ""), NOW).unwrap();
        assert_eq!(spent.reason, "all 5000 calls of this hour are used");
        let small = Windows::default();
        assert!((1..=11).all(|_| small.count(&limit(), "a", &answer(60, 50, ends, ""), NOW).is_none()), "one onboarding fits");
        assert!(small.count(&limit(), "a", &answer(60, 50, ends, ""), NOW).is_some());
        assert_eq!(Windows::default().count(&limit(), "a", &[], NOW), None);
        assert_eq!(
            Windows::default().count(&limit(), "a", &answer(10, 0, NOW.0 / 1000 - 5, ""), NOW),
            None,
            "a window that is over"
        );
        assert_eq!(Windows::default().count(&limit(), "a", &answer(10, 0, 30, ""), NOW).unwrap().wait, Duration::from_secs(30));
    }

    #[test]
    fn the_usage_of_a_moving_day_is_read_from_one_header() {
        let day = Limit {
            usage: Some(Usage { header: "sforce-limit-info".to_string(), name: "api-usage".to_string() }),
            seconds: Some(86_400),
            share: 0.01,
            ..limit()
        };
        let said = |text: &str| vec![("Sforce-Limit-Info".to_string(), text.to_string())];
        let windows = Windows::default();
        for call in 1..=150_u64 {
            let header = said(&format!("api-usage={}/15000; per-app-api-usage={call}/250(appName=aam)", 1000 + call));
            let spent = windows.count(&day, "a", &header, NOW.plus(Duration::from_secs(call)));
            assert_eq!(spent.is_some(), call == 150, "{call}");
        }
        let next = NOW.plus(Duration::from_secs(86_402));
        assert_eq!(windows.count(&day, "a", &said("api-usage=20/15000"), next), None, "the next day");
        let spent = Windows::default().count(&day, "a", &said("per-app-api-usage=1/250, api-usage=15002/15000"), NOW).unwrap();
        assert!(spent.by_source, "{spent:?}");
        assert_eq!(spent.wait, Duration::from_secs(3600));
        for text in ["", "api-usage", "api-usage=", "api-usage=x/y", "api-usage=7", "per-app-api-usage=1/2"] {
            assert_eq!(Windows::default().count(&day, "a", &said(text), NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(limit_text in "\\PC{0,24}", reset in "\\PC{0,24}", left in "-?[0-9]{0,24}") {
            let headers: Vec<(String, String)> = [("x-limit", limit_text), ("x-reset", reset), ("x-left", left)].map(|(k, v)| (k.to_string(), v)).to_vec();
            let _ = Windows::default().count(&limit(), "a", &headers, NOW);
        }
    }
}
