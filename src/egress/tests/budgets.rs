//! Tests of caps, throttling and the circuit breaker.

use super::rig::{Reply, Server, World, answer, get};
use crate::egress::Caller;
use crate::egress::caps::{block_size, key};
use crate::model::{Class, ConnectionId, Failure};
use crate::policy::Cap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

fn snapshot(name: &str, failure: &Failure) {
    let text = format!(
        "{}: {}\n  fix: {}\n  detail: {}\n  after: {:?} ms",
        failure.class.as_str(),
        failure.title,
        failure.fix,
        failure.detail,
        failure.retry_after_ms
    );
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");
    insta::with_settings!({snapshot_path => folder, prepend_module_to_snapshot => false, omit_expression => true, filters => vec![(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT")]}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn the_key_of_an_account_can_be_stored_in_every_database() {
    let caller = Caller { account: "a\0b".to_string(), ..World::new().caller() };
    assert_eq!(key(&caller), "openapi|a\u{fffd}b");
    let long = |end: &str| key(&Caller { account: format!("{}{end}", "ä".repeat(1500)), ..caller.clone() });
    assert!(long("1").starts_with("openapi|ää") && long("1").len() < 1200, "{}", long("1"));
    assert_ne!(long("1"), long("2"));
}

#[tokio::test]
async fn throttling_holds_for_the_whole_account() {
    let world = World::new();
    let server = Server::start(vec![answer(429, &[("retry-after", "90")], b"slow  down"), answer(200, &[], b"")]).await;
    let first = world.session().http(get(&server.url("/"))).await.unwrap_err();
    snapshot("egress_throttled_by_source", &first);
    let other = Server::start(vec![answer(200, &[], b"")]).await;
    world.clock.forward(Duration::from_secs(30));
    let second = world.session().http(get(&other.url("/"))).await.unwrap_err();
    assert_eq!((second.class, second.retry_after_ms), (Class::Throttled, Some(60_000)));
    assert_eq!((server.count(), other.count()), (1, 0));
    world.clock.forward(Duration::from_secs(60));
    assert_eq!(world.session().http(get(&server.url("/"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_wait_of_a_throttled_account_is_clamped() {
    for (asked, given) in [("0", 1_000), ("99999999", 86_400_000), ("Sun, 08 Nov 2026 18:00:10 GMT", 10_000)] {
        let world = World::new();
        let server = Server::start(vec![answer(503, &[("retry-after", asked)], b"")]).await;
        let failure = world.session().http(get(&server.url("/"))).await.unwrap_err();
        assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(given)), "{asked}");
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn a_connector_may_report_throttling() {
    let world = World::new();
    let failure = world.session().throttled(Duration::from_secs(40), "SlowDown");
    assert_eq!((failure.class, failure.detail.as_str()), (Class::Throttled, "SlowDown"));
    assert_eq!(world.session().local("x").await.unwrap_err().retry_after_ms, Some(40_000));
}

#[tokio::test]
async fn a_throttled_attempt_keeps_its_turn() {
    let mut world = World::new();
    world.cap = Cap { per_second: 0.01, burst: 5, per_day: 100, concurrency: 4 };
    let connection =
        |number: u8| Caller { connection: ConnectionId::derive("autonomy", "openapi", &[number.to_string()]), ..world.caller() };
    let turn = |number: u8| world.egress.turn(&connection(number), 4);
    assert!(turn(1).is_zero());
    assert!(turn(2) > Duration::from_secs(250), "the others wait for the calls of the first attempt");
    assert!(turn(1) > turn(2), "an attempt that failed for another reason waits behind them");
    let _ = world.egress.session(connection(1)).throttled(Duration::from_secs(2), "SlowDown");
    assert!(turn(1).is_zero(), "the connection that was throttled goes on");
    assert!(turn(1) > turn(2), "and it does so once");
}

#[tokio::test]
async fn the_day_ends_at_its_limit_also_across_restarts() {
    let mut world = World::new();
    world.cap.per_day = 3;
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    for _ in 0..2 {
        world.session().http(get(&server.url("/"))).await.unwrap();
    }
    world.restart();
    world.session().http(get(&server.url("/"))).await.unwrap();
    let failure = world.session().http(get(&server.url("/"))).await.unwrap_err();
    snapshot("egress_day_spent", &failure);
    world.restart();
    assert!(world.session().http(get(&server.url("/"))).await.is_err());
    assert_eq!(server.count(), 3);
    // A raised cap takes effect at once, and the count starts again on a new day.
    world.cap.per_day = 4;
    world.session().http(get(&server.url("/"))).await.unwrap();
    assert!(world.session().http(get(&server.url("/"))).await.is_err());
    world.clock.forward(Duration::from_secs(6 * 3600));
    world.session().http(get(&server.url("/"))).await.unwrap();
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn days_are_written_in_blocks_and_never_exceeded() {
    let mut world = World::new();
    world.cap.per_day = 500;
    for _ in 0..25 {
        world.session().local("data.csv").await.unwrap();
    }
    assert_eq!((*world.budget.writes.lock().unwrap(), world.budget.total()), (3, 30));
    // A lowered cap also applies to the calls that are left in the block.
    world.cap.per_day = 25;
    assert_eq!(world.session().local("data.csv").await.unwrap_err().class, Class::Throttled);
    assert_eq!([0, 1, 49, 100, 500, 2000, 50_000, 1_000_000].map(block_size), [1, 1, 1, 2, 10, 10, 50, 100]);
}

#[tokio::test]
async fn calls_go_on_while_the_next_block_of_a_large_day_is_written() {
    let mut world = World::new();
    (world.cap.per_day, world.cap.per_second, world.cap.burst, world.cap.concurrency) = (100_000, 1e6, 1000, 100);
    for _ in 0..49 {
        world.session().local("data.csv").await.unwrap();
    }
    let disk = world.budget.disk.lock().await;
    let ahead = world.session();
    let ahead = tokio::spawn(async move { ahead.local("data.csv").await });
    while *world.budget.asked.lock().unwrap() < 2 {
        tokio::task::yield_now().await;
    }
    let all = async {
        for _ in 0..50 {
            world.session().local("data.csv").await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    assert!(!ahead.is_finished());
    assert_eq!((*world.budget.writes.lock().unwrap(), world.budget.total()), (1, 100));
    drop(disk);
    ahead.await.unwrap().unwrap();
    assert_eq!((*world.budget.writes.lock().unwrap(), world.budget.total()), (2, 200));
    // If the next block cannot be recorded ahead of time, the calls that are left in the current block are not delayed.
    for _ in 0..49 {
        world.session().local("data.csv").await.unwrap();
    }
    world.budget.full.store(true, Ordering::SeqCst);
    for _ in 0..51 {
        world.session().local("data.csv").await.unwrap();
    }
    assert_eq!(world.session().local("data.csv").await.unwrap_err().class, Class::Throttled);
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_be_written_down() {
    let world = World::new();
    world.budget.full.store(true, Ordering::SeqCst);
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    let session = world.session();
    let failure = session.http(get(&server.url("/"))).await.unwrap_err();
    snapshot("egress_unwritten", &failure);
    assert!(session.admit("127.0.0.1", server.port).await.is_err());
    assert!(session.local("x").await.is_err());
    assert_eq!((server.count(), session.traffic().calls), (0, 0));
    world.budget.full.store(false, Ordering::SeqCst);
    assert!(session.http(get(&server.url("/"))).await.is_ok());
}

#[tokio::test]
async fn the_rate_holds_and_says_when_it_would_take_too_long() {
    let mut world = World::new();
    world.cap = Cap { per_second: 0.01, burst: 2, per_day: 100, concurrency: 4 };
    for _ in 0..2 {
        world.session().local("x").await.unwrap();
    }
    let failure = world.session().local("x").await.unwrap_err();
    assert_eq!(failure.class, Class::Throttled);
    assert!((60_000..=100_000).contains(&failure.retry_after_ms.unwrap()), "{failure:?}");
    world.cap.per_second = 1000.0;
    world.session().local("x").await.unwrap();
}

#[tokio::test]
async fn slots_follow_the_policy() {
    let mut world = World::new();
    world.policy.safe_mode.step_timeout = Duration::from_millis(100);
    world.cap.concurrency = 1;
    let held = world.session().admit("127.0.0.1", 9).await.unwrap();
    let failure = world.session().admit("127.0.0.1", 9).await.err().unwrap();
    assert_eq!(
        (failure.class, failure.title.as_str()),
        (Class::Throttled, "AAM's own limit of concurrent calls for openapi account acme is reached: 1")
    );
    world.cap.concurrency = 2;
    let second = world.session().admit("127.0.0.1", 9).await.unwrap();
    world.cap.concurrency = 1;
    drop(second);
    assert!(world.session().admit("127.0.0.1", 9).await.is_err(), "the slot that was taken away is not given again");
    drop(held);
    assert!(world.session().admit("127.0.0.1", 9).await.is_ok());
}

#[tokio::test]
async fn an_open_breaker_lets_one_probe_through() {
    let mut world = World::new();
    world.policy.breaker.failures = 2;
    let probe = Arc::new(Notify::new());
    let Reply::Bytes(well) = answer(200, &[], b"well") else { panic!("an answer is bytes") };
    let server = Server::start(vec![answer(500, &[], b""), answer(500, &[], b""), Reply::When(probe.clone(), well)]).await;
    for _ in 0..2 {
        assert_eq!(world.session().http(get(&server.url("/"))).await.unwrap().status, 500);
    }
    let failure = world.session().http(get(&server.url("/"))).await.unwrap_err();
    snapshot("egress_breaker_open", &failure);
    assert_eq!(server.count(), 2);
    world.clock.forward(Duration::from_secs(30));
    let session = world.session();
    let mut probing = Box::pin(session.http(get(&server.url("/"))));
    tokio::select! {
        _ = &mut probing => panic!("the probe came back by itself"),
        () = server.seen(3) => {}
    }
    assert_eq!(world.session().http(get(&server.url("/"))).await.unwrap_err().class, Class::BreakerOpen);
    probe.notify_one();
    assert_eq!(probing.await.unwrap().status, 200);
    probe.notify_one();
    assert_eq!(world.session().http(get(&server.url("/"))).await.unwrap().status, 200);
    assert_eq!(server.count(), 4);
}

#[tokio::test]
async fn denials_never_open_the_breaker() {
    let mut world = World::new();
    world.policy.breaker.failures = 1;
    for status in [401, 403, 404] {
        let server = Server::start(vec![answer(status, &[], b"")]).await;
        for _ in 0..3 {
            assert_eq!(world.session().http(get(&server.url("/"))).await.unwrap().status, status);
        }
    }
}

#[tokio::test]
async fn settled_calls_move_the_breaker() {
    let mut world = World::new();
    world.policy.breaker.failures = 1;
    let session = world.session();
    let admitted = session.admit("127.0.0.1", 5432).await.unwrap();
    let denied = Failure::new(Class::CredentialRejected, "no", "");
    session.settle("postgres", "127.0.0.1", 10, Duration::ZERO, Some(&denied));
    drop(admitted);
    let admitted = session.admit("127.0.0.1", 5432).await.unwrap();
    session.settle("postgres", "127.0.0.1", 5, Duration::ZERO, Some(&Failure::new(Class::Network, "it hangs", "")));
    drop(admitted);
    let failure = session.admit("127.0.0.1", 5432).await.err().unwrap();
    assert_eq!((failure.class, failure.detail.as_str()), (Class::BreakerOpen, "it hangs"));
    assert!(session.admit("127.0.0.1", 5433).await.is_ok(), "another port is another service");
    assert_eq!((session.traffic().calls, session.traffic().bytes), (3, 15));
    world.clock.forward(Duration::from_secs(30));
    drop(session.admit("127.0.0.1", 5432).await.unwrap());
    let probe = session.admit("127.0.0.1", 5432).await.unwrap();
    session.settle("postgres", "127.0.0.1", 0, Duration::ZERO, None);
    drop(probe);
    assert!(session.admit("127.0.0.1", 5432).await.is_ok());
}

#[tokio::test]
async fn a_source_that_echoes_the_secret_is_not_quoted() {
    let world = World::new();
    crate::credentials::redact::learn_value("echoed-canary-3141");
    // The body is longer than the quoted excerpt, and shortening it must not leave half a secret.
    let body = format!("{} echoed-canary-3141", "x".repeat(290));
    let headers = [("retry-after", "echoed-canary-3141")];
    let server = Server::start(vec![answer(429, &headers, body.as_bytes())]).await;
    let failure = world.session().http(get(&server.url("/"))).await.unwrap_err();
    assert_eq!(failure.retry_after_ms, Some(60_000));
    assert!(failure.detail.contains("x [redacte"), "{failure:?}");
    assert!(!format!("{failure:?}").contains("echoed"), "{failure:?}");
}
