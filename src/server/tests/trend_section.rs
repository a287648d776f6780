//! Tests of the trend on the home page: its range, its end, and who sees the changes of the policy.

use super::*;

const HOUR_MS: i64 = 3_600_000;

/// One connection passes at 18:00, and another one fails at 20:00. It is 21:00, and the policy was accepted at 18:00.
async fn evening() -> TestServer {
    let server = TestServer::new().await;
    let policy = server.handle.policy();
    server.handle.registry.accept_policy(policy.digest, policy_text(), Vec::new()).await.expect("recorded");
    let mut theirs = document("jdbc", "theirs");
    theirs["namespace"] = "other".into();
    let ids = server.accept(&[document("jdbc", "a"), theirs]).await;
    server.attempt(ids[0], passed("")).await;
    server.later(2 * HOUR_MS);
    let late = server.accept(&[document("jdbc", "b")]).await;
    server.attempt(late[0], failed(Step::Health, Failure::new(Class::Remote, "cut", "look"))).await;
    server.later(HOUR_MS);
    server
}

#[tokio::test]
async fn the_trend_shows_the_range_of_the_address() {
    let server = evening().await;
    let day = server.get("/").await;
    assert!(day.body.contains("The coverage is 50 %. It was 100 % at 8 Nov 18:00 UTC."), "{}", day.body);
    assert!(day.body.contains("<title>8 Nov 21:00: coverage 50 %, 1 active, 1 error</title>"), "{}", day.body);
    assert_eq!(day.body.matches(" data-trend=").count(), 13, "each quarter from 18:00 to 21:00");
    let week = server.get("/?range=7d").await.body;
    assert_eq!(week.matches(" data-trend=").count(), 4, "each hour from 18:00 to 21:00");
    assert!(week.contains("over 7 days"), "{week}");
    let wrong = server.get("/?range=1h").await;
    assert!(wrong.status == 400 && wrong.body.contains("range must be 24h, 7d or 30d."), "{wrong:?}");
}

#[tokio::test]
async fn the_trend_of_the_past_ends_there() {
    let server = evening().await;
    let past = server.get("/?at=2026-11-08T19:10:00Z").await.body;
    assert!(past.contains("<title>8 Nov 19:10: coverage 100 %, 1 active</title>"), "{past}");
    assert!(!past.contains("8 Nov 20:00") && past.contains("range=7d&amp;at=2026-11-08T19%3A10%3A00.000Z"), "{past}");
}

#[tokio::test]
async fn the_policy_is_not_shown_to_who_reads_another_namespace() {
    let server = evening().await;
    assert!(server.get("/").await.body.contains("Policy changed: "));
    let theirs = server.send("GET", "/?namespace=other", &[("Authorization", &bearer(OTHER))], None).await;
    assert!(theirs.status == 200 && theirs.body.contains("1 pending"), "{theirs:?}");
    assert!(!theirs.body.contains("Policy changed") && !theirs.body.contains("policy changed"), "{theirs:?}");
}
