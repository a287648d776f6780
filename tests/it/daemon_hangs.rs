//! Sources that accept and say nothing, or nonsense: bounded, told in words, and nobody else waits.

use crate::daemon_support::{Daemon, Place, intent};
use crate::daemon_vendor::mute;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

fn place() -> Place {
    let mut place = Place::new();
    place.write_policy("safe_mode: {max_items: 20, step_timeout: 2s, attempt_timeout: 6s}\nbackoff: {initial: 1h, max: 2h, jitter: 0.0}\nbreaker: {failures: 2, open_for: 1h}\n");
    place.set("DB_LOGIN", "reader:not-a-real-one");
    place
}

async fn until_failed(daemon: &Daemon, resource_id: &str) -> Value {
    let one = daemon.until_connection(resource_id, "it fails", |one| one["error"].is_object()).await;
    for word in ["title", "fix"] {
        assert!(one["error"][word].as_str().is_some_and(|text| text.len() > 10), "{one}");
    }
    one
}

#[tokio::test]
async fn a_source_that_never_answers_is_network_blocked_and_delays_nobody() {
    let place = place();
    let ((web, _), (database, _)) = (mute().await, mute().await);
    let web = format!("http://{web}/openapi.json");
    let database = format!("postgresql://{database}/app");
    let mut login = intent("postgres", &database);
    login["credential_locator"] = json!("env:DB_LOGIN");
    place.intent_file("web.json", &intent("openapi", &web));
    place.intent_file("database.json", &login);
    let good = place.csv("good.csv", 3);
    let daemon = place.serve().await;
    let waits = |one: &Value| one["checking"] == true;
    daemon.until_connection(&web, "it waits", waits).await;
    place.intent_file("good.json", &intent("filesource", &good));
    daemon.until_state(&good, "ACTIVE").await;
    let all = daemon.connections().await;
    let still = all.iter().filter(|one| one["checking"] == true).count();
    assert!(still >= 1, "the good one did not wait for the mute ones: {all:?}");
    for resource in [&web, &database] {
        let one = until_failed(&daemon, resource).await;
        assert_eq!((&one["status"], &one["error"]["class"]), (&json!("NETWORK_BLOCKED"), &json!("network")), "{one}");
    }
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["network_blocked"], &funnel["active"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn after_some_failures_a_host_is_left_alone_and_the_answer_says_so() {
    let place = place();
    let (address, accepted) = mute().await;
    let daemon = place.serve().await;
    let resource = |n: usize| format!("http://{address}/{n}/openapi.json");
    for n in 0..2 {
        let told = daemon.push(&intent("openapi", &resource(n))).await;
        assert_eq!(told.body["status"], "NETWORK_BLOCKED", "{}", told.body);
    }
    let before = accepted.load(Ordering::SeqCst);
    assert!(before >= 2, "it was called");
    let told = daemon.push(&intent("openapi", &resource(2))).await.body;
    assert_eq!((&told["status"], &told["error"]["class"]), (&json!("NETWORK_BLOCKED"), &json!("breaker_open")), "{told}");
    let words = told["error"].to_string();
    assert!(words.contains("left alone") && words.contains(&address.to_string()), "the cause is repeated: {words}");
    assert_eq!(accepted.load(Ordering::SeqCst), before, "and is not called any more");
}

#[tokio::test]
async fn a_web_server_that_lies_is_no_service() {
    let place = place();
    let path = place.csv("a.csv", 2);
    let app = axum::Router::new().fallback(|| async { "<html><body>200, and welcome</body></html>" });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/openapi.json", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let daemon = place.serve().await;
    let told = daemon.push(&intent("openapi", &url)).await.body;
    assert_eq!(told["status"], "ERROR", "{told}");
    assert!(until_failed(&daemon, &url).await["error"]["class"] != "network");
    assert_eq!(daemon.push(&intent("filesource", &path)).await.body["status"], "ACTIVE");
}
