//! The vendor's own rate limit, as reported in its response headers. AAM uses a share of it and leaves the rest to
//! the account's other clients.

use super::family_spec::{Limit, Usage};
use super::privilege::fits;
use crate::egress::{MAX_WAIT, MIN_WAIT, moment};
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
/// The number of windows of one account and bucket that are counted at the same time. A vendor whose reset time moves with
/// each response opens a new window each time.
const MAX_WINDOWS: usize = 16;
/// The wait if the vendor's calls are used up and it does not say until when.
const WAIT_WITHOUT_RESET: Duration = Duration::from_secs(3600);

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

/// What the headers of one response say about a limit.
struct Reported {
    limit: u64,
    left: Option<u64>,
    /// `None` if the vendor does not say when the window ends.
    ends: Option<Timestamp>,
    /// The name of the bucket; empty if the vendor has only one.
    bucket: String,
}

impl Windows {
    /// Counts one call of `account` by the `headers` of its response. Returns `Some` once AAM's share is used up.
    pub fn count(&self, limit: &Limit, account: &str, headers: &[(String, String)], now: Timestamp) -> Option<Spent> {
        let Reported { limit: most, left, ends, bucket } = reported(limit, headers, now)?;
        let key = format!("{account}|{}|{bucket}", limit.window);
        let (used, window_ends) = self.add(&key, ends, (limit.lasts, now));
        let share = share(most, limit.share);
        if used < share && left != Some(0) {
            return None;
        }
        let reason = match left {
            Some(0) => format!("all {most} calls of this {} are used", limit.window),
            _ => format!("aam used its {share} of the {most} calls of this {}", limit.window),
        };
        let by_source = left == Some(0);
        let wait = match ends {
            None if by_source => window_ends.since(now).min(WAIT_WITHOUT_RESET),
            _ => window_ends.since(now),
        };
        Some(Spent { wait: wait.clamp(MIN_WAIT, MAX_WAIT), by_source, reason })
    }

    /// Counts a call in the window that ends at `ends`, or in the current one, which lasts `lasts` seconds, if the vendor
    /// does not say when it ends. Returns the calls of the window and its end.
    fn add(&self, key: &str, ends: Option<Timestamp>, (lasts, now): (Option<u64>, Timestamp)) -> (u64, Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > MAX_KEYS {
            all.retain(|_, windows| windows.iter().any(|window| window.ends > now));
        }
        let windows = all.entry(key.to_string()).or_default();
        windows.retain(|window| window.ends > now);
        let is_same =
            |window: &&mut Window| ends.is_none_or(|ends| window.ends.since(ends).max(ends.since(window.ends)) <= END_TOLERANCE);
        if let Some(window) = windows.iter_mut().find(is_same) {
            window.used += 1;
            return (window.used, window.ends);
        }
        if windows.len() >= MAX_WINDOWS {
            windows.remove(0);
        }
        let ends = ends.unwrap_or_else(|| now.plus(Duration::from_secs(lasts.unwrap_or_default())));
        windows.push(Window { ends, used: 1 });
        (1, ends)
    }
}

/// Returns what `headers` say about `limit`, or `None` if they do not say enough to count by them.
fn reported(limit: &Limit, headers: &[(String, String)], now: Timestamp) -> Option<Reported> {
    let says = |value: &str, text: &String| value.to_lowercase().contains(&text.to_lowercase());
    let named = |(name, texts): (&String, &Vec<String>)| {
        find(headers, name).is_some_and(|value| texts.is_empty() || texts.iter().any(|text| says(value, text)))
    };
    if !limit.when.iter().all(named) {
        return None;
    }
    let (most, left, reset, bucket) = match (&limit.usage, limit.size) {
        (Some(usage), _) => used(usage, headers)?,
        (None, Some(size)) => {
            let left = number(find(headers, &limit.remaining)?)?;
            (size, Some(left), find(headers, &limit.reset), find(headers, &limit.bucket).unwrap_or_default())
        }
        (None, None) => {
            let most = number(find(headers, &limit.limit)?)?;
            let bucket = find(headers, &limit.bucket).unwrap_or_default();
            (most, find(headers, &limit.remaining).and_then(number), find(headers, &limit.reset), bucket)
        }
    };
    // [K] Okta reports a limit of 0 with 0 calls left when too many calls run at the same time. That says nothing about the
    // window.
    if most == 0 {
        return None;
    }
    let ends = match limit.lasts {
        Some(_) => None,
        None => Some(moment(reset?, now).filter(|at| *at > now)?),
    };
    Some(Reported { limit: most, left, ends, bucket: bucket.to_string() })
}

/// Returns limit, calls left, reset and bucket as the header of `usage` names them; of several headers, those of the one with
/// the fewest calls left.
fn used<'h>(usage: &Usage, headers: &'h [(String, String)]) -> Option<(u64, Option<u64>, Option<&'h str>, &'h str)> {
    let read = |(name, value): &'h (String, String)| {
        let found = usage.pattern.0.captures(value)?;
        let first = |group: usize| number(found.get(group)?.as_str());
        let named = |group: &str| Some(found.name(group)?.as_str());
        Some(match usage.pattern.is_named() {
            true => (number(named("limit")?)?, number(named("remaining")?), named("reset"), name.as_str()),
            false => (first(2)?, Some(first(2)?.saturating_sub(first(1)?)), None, ""),
        })
    };
    let fitting = headers.iter().filter(|(name, _)| fits(&usage.header, &name.to_ascii_lowercase()));
    fitting.filter_map(read).min_by_key(|(_, left, ..)| *left)
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Parses a number of calls. Some vendors add the policy behind it: `100, 100;w=60`.
fn number(text: &str) -> Option<u64> {
    text.split([',', ';']).next()?.trim().parse().ok()
}

/// Returns how many of the vendor's `most` calls AAM may make.
fn share(most: u64, share: f64) -> u64 {
    // A limit is far below 2^53, and the share is between 0 and 1, so the casts are exact enough.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let part = (most as f64 * share.clamp(0.0, 1.0)) as u64;
    part.max(MIN_SHARE)
}

#[cfg(test)]
mod tests {
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
            size: None,
            lasts: None,
            when: [].into(),
            share: 0.10,
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    /// The wait after one response with `reset` and no call left.
    fn wait(reset: &str) -> Option<u64> {
        let headers = headers(&[("x-limit", "600"), ("x-left", "0"), ("x-reset", reset)]);
        Windows::default().count(&limit(), "a", &headers, NOW).map(|spent| spent.wait.as_secs())
    }

    #[test]
    fn every_form_of_a_reset_is_read_and_clamped() {
        for (reset, expected) in [
            ("1794160830", Some(30)),
            ("1794160830000", Some(30)),
            ("30", Some(30)),
            ("30.0", Some(30)),
            ("2026-11-08T18:00:30Z", Some(30)),
            ("2026-11-08T18:01Z", Some(60)),
            ("2026-11-08T20:00:30+02:00", Some(30)),
            ("Sun, 08 Nov 2026 18:00:30 GMT", Some(30)),
            ("900000000", Some(86_400)),
            ("9999-01-01T00:00:00Z", Some(86_400)),
            ("99999999999999999999999999", Some(86_400)),
            ("1794160800", None),
            ("0", None),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(wait(reset), expected, "{reset}");
        }
    }

    /// \[V\] developer.salesforce.com, "Limit Info Header" of the REST API.
    #[test]
    fn a_usage_header_has_no_reset() {
        let pattern = r"(?:^|[^-])api-usage=(\d+)/(\d+)";
        let daily: Limit = serde_json::from_value(serde_json::json!({
            "window": "day", "usage": {"header": "sforce-limit-info", "pattern": pattern}, "lasts": 86_400, "share": 0.10,
        }))
        .unwrap();
        daily.check().unwrap();
        let windows = Windows::default();
        let count = |value: &str, now: Timestamp| windows.count(&daily, "a", &headers(&[("Sforce-Limit-Info", value)]), now);
        let hour = NOW.plus(Duration::from_secs(3600));
        assert!((1..=19).all(|_| count("api-usage=18/200; per-app-api-usage=17/250(appName=aam)", NOW).is_none()));
        let spent = count("per-app-api-usage=17/250(appName=aam); api-usage=18/200", hour).unwrap();
        assert_eq!((spent.by_source, spent.wait.as_secs()), (false, 23 * 3600), "{spent:?}");
        let all = Windows::default();
        let spent = all.count(&daily, "a", &headers(&[("sforce-limit-info", "api-usage=5003/5000")]), NOW).unwrap();
        assert_eq!((spent.by_source, spent.wait.as_secs()), (true, 3600), "tries again after an hour");
        for odd in ["api-usage=18", "per-app-api-usage=17/250", "api-usage=x/y", ""] {
            assert_eq!(Windows::default().count(&daily, "a", &headers(&[("sforce-limit-info", odd)]), NOW), None, "{odd}");
        }
    }

    /// \[V\] learn.microsoft.com, "Understand how Azure Resource Manager throttles requests": only the remaining calls are sent.
    #[test]
    fn a_documented_limit_needs_only_the_remaining_calls() {
        let reads: Limit = serde_json::from_value(serde_json::json!({
            "window": "10 seconds", "size": 250, "remaining": "x-left", "lasts": 10, "share": 0.10,
        }))
        .unwrap();
        reads.check().unwrap();
        let windows = Windows::default();
        let count = |left: &str| windows.count(&reads, "a", &headers(&[("X-Left", left)]), NOW);
        assert!((0..24).all(|call| count(&(11_999 - call).to_string()).is_none()));
        assert_eq!(count("11975").map(|spent| (spent.by_source, spent.wait.as_secs())), Some((false, 10)));
        let spent = Windows::default().count(&reads, "a", &headers(&[("x-left", "0")]), NOW).unwrap();
        assert_eq!((spent.by_source, spent.wait.as_secs()), (true, 10));
        assert_eq!(Windows::default().count(&reads, "a", &[], NOW), None);
    }

    /// \[V\] developer.zendesk.com, "List Ticket Fields": a header of its own for each endpoint.
    #[test]
    fn each_endpoint_may_have_a_header_of_its_own() {
        let pattern = r"total=(?P<limit>\d+); *remaining=(?P<remaining>\d+); *resets=(?P<reset>\d+)";
        let endpoint: Limit = serde_json::from_value(serde_json::json!({
            "window": "minute", "usage": {"header": "x-limit-*", "pattern": pattern}, "share": 0.10,
        }))
        .unwrap();
        endpoint.check().unwrap();
        let windows = Windows::default();
        let count = |name: &str, value: &str| windows.count(&endpoint, "a", &headers(&[(name, value)]), NOW);
        assert_eq!(count("X-Limit-Fields", "total=100; remaining=99; resets=41"), None);
        let spent = count("X-Limit-Fields", "total=100; remaining=0; resets=41").unwrap();
        assert_eq!((spent.by_source, spent.wait.as_secs()), (true, 41), "{spent:?}");
        assert_eq!(count("X-Limit-Users", "total=100; remaining=99; resets=41"), None, "another bucket");
        assert_eq!(count("X-Limit-Users", "total=100"), None);
        let both = headers(&[
            ("x-limit-fields", "total=500; remaining=400; resets=10"),
            ("x-limit-deep", "total=5; remaining=0; resets=20"),
        ]);
        assert_eq!(windows.count(&endpoint, "a", &both, NOW).map(|spent| spent.wait.as_secs()), Some(20), "the tighter one");
    }

    /// \[V\] developers.zoom.us, "Rate limits": X-RateLimit-Type says which window X-RateLimit-Limit is about.
    #[test]
    fn a_header_says_which_window_is_meant() {
        let daily: Limit = serde_json::from_value(serde_json::json!({
            "window": "day", "limit": "x-limit", "remaining": "x-left", "lasts": 86_400, "when": {"x-type": ["daily"]}, "share": 0.10,
        }))
        .unwrap();
        daily.check().unwrap();
        let count = |kind: &str| {
            let headers = headers(&[("x-type", kind), ("x-limit", "1000"), ("x-left", "0")]);
            Windows::default().count(&daily, "a", &headers, NOW)
        };
        assert!(count("Daily-limit").is_some_and(|spent| spent.by_source));
        assert_eq!(count("QPS"), None);
        assert_eq!(Windows::default().count(&daily, "a", &headers(&[("x-limit", "1000"), ("x-left", "0")]), NOW), None);
    }

    #[test]
    fn a_limit_of_zero_says_nothing_about_the_window() {
        let okta = headers(&[("x-limit", "0"), ("x-left", "0"), ("x-reset", "30")]);
        assert_eq!(Windows::default().count(&limit(), "a", &okta, NOW), None);
    }

    #[test]
    fn a_limit_with_its_policy_is_a_number() {
        let drafted = headers(&[("x-limit", "100, 100;w=60"), ("x-left", "0"), ("x-reset", "30")]);
        let spent = Windows::default().count(&limit(), "a", &drafted, NOW).unwrap();
        assert_eq!(spent.reason, "all 100 calls of this hour are used");
    }

    #[test]
    fn reset_times_that_move_do_not_fill_the_memory() {
        let windows = Windows::default();
        for call in 0..100_u64 {
            let now = NOW.plus(Duration::from_secs(10 * call));
            windows.count(&limit(), "a", &headers(&[("x-limit", "100"), ("x-reset", "900000000")]), now);
        }
        assert_eq!(windows.0.lock().unwrap().values().map(Vec::len).collect::<Vec<_>>(), [MAX_WINDOWS]);
    }

    #[test]
    fn keys_of_a_limit_go_together() {
        let check = |keys: serde_json::Value| {
            serde_json::from_value::<Limit>(keys).map_err(|error| error.to_string()).and_then(|limit| limit.check())
        };
        let usage = |pattern: &str| serde_json::json!({"header": "x", "pattern": pattern});
        for (keys, expected) in [
            (serde_json::json!({"window": "day", "share": 0.1, "reset": "x"}), "one of limit, usage and size"),
            (serde_json::json!({"window": "day", "share": 0.1, "size": 250, "lasts": 5}), "needs remaining"),
            (serde_json::json!({"window": "day", "share": 0.1, "limit": "x"}), "either reset or lasts"),
            (serde_json::json!({"window": "day", "share": 0.0, "limit": "x", "reset": "y"}), "not between 0 and 1"),
            (serde_json::json!({"window": "day", "share": 0.1, "usage": usage("(a)"), "lasts": 5}), "does not have 2 groups"),
            (serde_json::json!({"window": "day", "share": 0.1, "usage": usage("("), "lasts": 5}), "unclosed group"),
        ] {
            let error = check(keys.clone()).unwrap_err();
            assert!(error.contains(expected), "{keys}: {error}");
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

    proptest! {
        #[test]
        fn any_header_is_survived(limit_text in "\\PC{0,24}", reset in "\\PC{0,24}", left in "-?[0-9]{0,24}") {
            let headers: Vec<(String, String)> = [("x-limit", limit_text), ("x-reset", reset), ("x-left", left)].map(|(k, v)| (k.to_string(), v)).to_vec();
            let _ = Windows::default().count(&limit(), "a", &headers, NOW);
        }
    }
}
