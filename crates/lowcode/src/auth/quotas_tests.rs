use super::state::{Reserve, Step, step};
use crate::bounds::Bounds;
use crate::context::Limits;
use crate::script::{Turns, read, stream};
use crate::tokens::{QuotaCounters, QuotaState};

/// A stream with two tokens, and the fields `more` of its quota.
fn with_quota(more: &str, path: &str) -> String {
    let auth = format!(
        r#""path": "{path}", "authenticator": {{"type": "RateLimitedMultipleTokenAuthenticator", "tokens": ["one", "two"],
            "budget_min_reserve": 0, "budget_reserve_fraction": 0,
            "quota_status_source": {{"type": "QuotaStatusSource", "url": "https://h.example/limits"}},
            "quotas": [{{"type": "TokenQuota", "name": "q", "remaining_path": ["left"], "reset_path": ["reset"] {more}}}]}}"#
    );
    stream("s", path, "", "").replace(&format!(r#""path": "{path}""#), &auth)
}

const LATER: &str = r#"{"left": 1, "reset": 4102444800}"#;
const RECORD: &str = r#"{"r": [{"i": 1}]}"#;

fn outcome(host: &Turns, streams: &[String]) -> Result<usize, String> {
    let bounds = Bounds { time: std::time::Duration::from_secs(3600), ..Bounds::default() };
    let (records, result) = read(streams, "s", host, &bounds, Limits::default());
    result.map(|()| records.len()).map_err(|failed| failed.message.clone())
}

#[test]
fn a_spent_token_makes_place_for_the_next() {
    let host = Turns::new(&[("/limits", &[(200, vec![], LATER)]), ("/a", &[(500, vec![], ""), (200, vec![], RECORD)])]);
    assert_eq!(outcome(&host, &[with_quota("", "/a")]), Ok(1));
    assert_eq!(
        host.calls(),
        ["GET /limits Bearer one", "GET /limits Bearer two", "GET /a Bearer one", "GET /a Bearer two"],
        "the quotas are requested once, and each call takes one from a quota"
    );
}

#[test]
fn spent_tokens_wait_for_the_reset_and_no_longer_than_the_manifest_allows() {
    let soon = r#"{"left": 0, "reset": "2025-06-15T12:36:06Z"}"#;
    let host = Turns::new(&[
        ("/limits", &[(200, vec![], soon), (200, vec![], soon), (200, vec![], LATER)]),
        ("/a", &[(200, vec![], RECORD)]),
    ]);
    assert_eq!(outcome(&host, &[with_quota("", "/a")]), Ok(1));
    assert_eq!((host.waited(), host.calls().len()), (vec![70.0], 5), "the quotas are requested again after the wait");
    let never = Turns::new(&[("/limits", &[(200, vec![], r#"{"left": 0, "reset": 4102444800}"#)])]);
    let message = "Rate limit is exceeded for all provided tokens.";
    assert_eq!(outcome(&never, &[with_quota("", "/a")]), Err(message.to_owned()));
    assert_eq!(never.waited(), [0.0; 0]);
}

#[test]
fn a_response_corrects_the_count() {
    let aware = r#", "remaining_header": "Left", "reset_header": "Reset", "exhaustion_status_codes": [429]"#;
    let many = r#"{"left": 100, "reset": 4102444800}"#;
    let spent = vec![("Left", "0"), ("Reset", "4102444800")];
    let host =
        Turns::new(&[("/limits", &[(200, vec![], many)]), ("/a one", &[(429, spent, "")]), ("/a two", &[(200, vec![], RECORD)])]);
    assert_eq!(outcome(&host, &[with_quota(aware, "/a")]), Ok(1));
    assert_eq!(host.waited(), [1.1], "another token is used at once instead of waiting for the reset");
}

#[test]
fn a_quota_that_is_not_there_is_a_failure() {
    let other = Turns::new(&[("/limits", &[(200, vec![], r#"{"left": 3}"#)])]);
    let message = r#"Quota status response does not contain the configured reset path for token quota "q"."#;
    assert_eq!(outcome(&other, &[with_quota("", "/a")]), Err(message.to_owned()));
}

#[test]
fn the_last_calls_are_spread_over_the_time_that_is_left() {
    let state = |remaining| QuotaState { remaining, limit: 100, reset_at: 60_000_000, is_tracked: true };
    let reserve = Reserve { fraction: 0.1, least: 5.0 };
    let next = |counters: &mut QuotaCounters| step(counters, 0, reserve, 0);
    let mut counters = QuotaCounters { states: vec![vec![state(9)], vec![state(7)]], active: 0 };
    assert_eq!(next(&mut counters), Step::Send { token: 0, delay: 4.0 }, "60 seconds for 15 calls");
    let mut counters = QuotaCounters { states: vec![vec![state(50)], vec![state(7)]], active: 0 };
    assert_eq!(next(&mut counters), Step::Send { token: 0, delay: 0.0 });
    let mut counters = QuotaCounters { states: vec![vec![state(0)], vec![state(7)]], active: 0 };
    assert_eq!((next(&mut counters), counters.active), (Step::Rotate, 1));
    let mut counters = QuotaCounters { states: vec![vec![state(0)], vec![state(0)]], active: 0 };
    assert_eq!(next(&mut counters), Step::Wait(60.0));
}
