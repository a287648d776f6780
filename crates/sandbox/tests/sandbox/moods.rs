//! What an account does because of the mood in its name.

use crate::support::{Answer, start};
use sandbox::moods::SLOW;
use std::time::{Duration, Instant};

fn users(account: &str) -> String {
    format!("https://{account}.vendor.test/v1/users")
}

#[tokio::test]
async fn a_mood_keeps_account_and_credential() {
    let running = start().await;
    let answer = running.get("https://slow-acme.vendor.test/v1/org", "").await;
    assert_eq!((answer.json["name"].as_str(), answer.json["key"].as_str()), (Some("acme"), Some("slow-acme")));
    assert_eq!(running.get(&users("slow-acme"), "other-token").await.error(), "other_account");
    assert_eq!(running.get(&users("slow-stranger"), "reader-token").await.status, 404);
    // A mood does not lend a caller rights.
    assert_eq!(running.get(&users("many-acme"), "narrow-token").await.status, 403);
}

#[tokio::test]
async fn a_numbered_account_is_another_one_that_is_like_it() {
    let running = start().await;
    for (account, status) in
        [("n7-acme", 200), ("slow-n7-acme", 200), ("n7-slow-acme", 200), ("n-acme", 404), ("n7-stranger", 404)]
    {
        assert_eq!(running.get(&users(account), "reader-token").await.status, status, "{account}");
    }
    let answer = running.get("https://n7-acme.vendor.test/v1/org", "").await;
    assert_eq!((answer.json["name"].as_str(), answer.json["key"].as_str()), (Some("acme"), Some("n7-acme")));
}

#[tokio::test]
async fn slow_answers_late_wherever_the_mood_comes_from() {
    let running = start().await;
    let ways = [
        ("https://slow-acme.vendor.test/v1/users", "reader-token"),
        ("https://api.vendor.test/v1/accounts/0F6BD7C2-2f6c-4d6d-8b7a-5f1c2d3e4f50/name", "reader-token"),
        ("https://api.vendor.test/v1/users", "slow-token"),
    ];
    for (url, token) in ways {
        let began = Instant::now();
        assert_eq!(running.get(url, token).await.status, 200, "{url}");
        assert!(began.elapsed() >= SLOW, "{url}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn hanging_never_answers_and_cut_ends_in_the_body() {
    let running = start().await;
    let request = running.request("GET", &users("hanging-acme")).timeout(Duration::from_millis(300));
    assert!(request.bearer_auth("reader-token").send().await.unwrap_err().is_timeout());

    let response = running.request("GET", &users("cut-acme")).bearer_auth("reader-token").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 100);
    let error = response.text().await.unwrap_err();
    assert!(error.is_body() || error.is_decode(), "{error:?}");
}

#[tokio::test]
async fn page_moved_and_down_are_not_the_api() {
    let running = start().await;
    let page = running.get(&users("page-acme"), "wrong").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let moved = running.get(&users("moved-acme"), "reader-token").await;
    assert_eq!((moved.status, moved.header("location")), (302, "https://elsewhere.invalid/v1/users"));
    for _ in 0..4 {
        assert_eq!(running.get(&users("down-acme"), "reader-token").await.status, 503);
    }
}

#[tokio::test]
async fn busy_and_limited_end_after_their_calls() {
    let running = start().await;
    let statuses = async |account: &str| {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(running.get(&users(account), "reader-token").await.status);
        }
        statuses
    };
    assert_eq!(statuses("busy500-acme").await, [500, 500, 200, 200]);
    assert_eq!(statuses("busy502-acme").await, [502, 502, 200, 200]);
    assert_eq!(statuses("busy503-acme").await, [503, 503, 200, 200]);
    assert_eq!(statuses("limited-acme").await, [429, 429, 200, 200]);
    // A form of waiting has a name of its own, which hosts write with a hyphen.
    assert_eq!(statuses("limited-date-acme").await, [503, 503, 200, 200]);
    let answer = running.get(&users("limited-other"), "other-token").await;
    assert_eq!((answer.error(), answer.header("retry-after")), ("throttled", "2"));
    let answer = running.get(&users("limited_date-other"), "other-token").await;
    assert!(answer.header("retry-after").ends_with(" GMT"), "{answer:?}");
    // A limit does not hide that the caller is not known.
    assert_eq!(running.get(&users("limited-acme"), "wrong").await.status, 401);
}

#[tokio::test]
async fn lists_are_empty_long_or_blind() {
    let running = start().await;
    let total = |answer: Answer| answer.json["total"].as_u64();
    assert_eq!(total(running.get(&users("acme"), "reader-token").await), Some(12));
    assert_eq!(total(running.get(&users("empty-acme"), "reader-token").await), Some(0));
    assert_eq!(total(running.get(&users("many-acme"), "reader-token").await), Some(45));
    assert_eq!(total(running.get(&users("blind-acme"), "reader-token").await), Some(0));
    for account in ["empty-acme", "many-acme"] {
        let fixed = running.get(&format!("https://{account}.vendor.test/v1/kinds"), "reader-token").await;
        assert_eq!(fixed.json.as_array().unwrap().len(), 2);
    }
    let strayed = running.get(&users("strayed-acme"), "reader-token").await;
    assert!(strayed.header("link").starts_with("<https://elsewhere.invalid/v1/users?after="), "{strayed:?}");
}

#[tokio::test]
async fn moods_of_the_vendor_and_several_at_once() {
    let running = start().await;
    assert_eq!(running.get(&users("suspended-acme"), "reader-token").await.error(), "suspended");
    assert_eq!(running.get(&users("suspended-acme"), "wrong").await.status, 401);
    assert_eq!(running.get("https://suspended-acme.vendor.test/v1/kinds", "reader-token").await.status, 200);
    assert_eq!(running.get(&users("walled-acme"), "wrong").await.status, 402);
    assert_eq!(running.get(&users("walled-acme"), "wrong").await.status, 401);
    let began = Instant::now();
    let both = running.get(&users("slow-many-acme"), "reader-token").await;
    assert_eq!(both.json["total"], 45);
    assert!(began.elapsed() >= SLOW);
    assert_eq!(running.get(&users("slow-slow-acme"), "reader-token").await.status, 404);
}
