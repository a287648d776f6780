//! Sources that accept a connection and then send nothing, or something unexpected: the wait is bounded, the failure is
//! explained, and other connections do not wait.

use crate::support::daemon::{Daemon, Workspace, intent};
use crate::support::network::silent_address;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.write_policy("safe_mode: {max_items: 20, step_timeout: 2s, attempt_timeout: 6s}\nbackoff: {initial: 1h, max: 2h, jitter: 0.0}\nbreaker: {failures: 2, open_for: 1h}\n");
    workspace.set("DB_LOGIN", "reader:not-a-real-one");
    workspace
}

async fn until_failed(daemon: &Daemon, resource_id: &str) -> Value {
    let one = daemon.until_connection(resource_id, "it fails", |one| one["error"].is_object()).await;
    for field in ["title", "fix"] {
        assert!(one["error"][field].as_str().is_some_and(|text| text.len() > 10), "{one}");
    }
    one
}

#[tokio::test]
async fn a_source_that_never_answers_is_network_blocked_and_delays_no_other() {
    let workspace = workspace();
    let ((web, _), (database, _)) = (silent_address().await, silent_address().await);
    let web = format!("http://{web}/openapi.json");
    let database = format!("postgresql://{database}/app");
    let mut login = intent("postgres", &database);
    login["credential_locator"] = json!("env:DB_LOGIN");
    workspace.intent_file("web.json", &intent("openapi", &web));
    workspace.intent_file("database.json", &login);
    let good = workspace.csv("good.csv", 3);
    let daemon = workspace.serve().await;
    let waits = |one: &Value| one["checking"] == true;
    daemon.until_connection(&web, "its attempt is in flight", waits).await;
    workspace.intent_file("good.json", &intent("filesource", &good));
    daemon.until_state(&good, "ACTIVE").await;
    let all = daemon.connections().await;
    let in_flight = all.iter().filter(|one| one["checking"] == true).count();
    assert!(in_flight >= 1, "the good source waited for the silent ones: {all:?}");
    for resource in [&web, &database] {
        let one = until_failed(&daemon, resource).await;
        assert_eq!((&one["status"], &one["error"]["class"]), (&json!("NETWORK_BLOCKED"), &json!("network")), "{one}");
    }
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["network_blocked"], &funnel["active"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn after_repeated_failures_the_circuit_breaker_opens_and_the_failure_says_so() {
    let workspace = workspace();
    let (address, accepted) = silent_address().await;
    let daemon = workspace.serve().await;
    let resource = |n: usize| format!("http://{address}/{n}/openapi.json");
    for n in 0..2 {
        let response = daemon.push(&intent("openapi", &resource(n))).await;
        assert_eq!(response.body["status"], "NETWORK_BLOCKED", "{}", response.body);
    }
    let before = accepted.load(Ordering::SeqCst);
    assert!(before >= 2, "the source was not called");
    let response = daemon.push(&intent("openapi", &resource(2))).await.body;
    assert_eq!(
        (&response["status"], &response["error"]["class"]),
        (&json!("NETWORK_BLOCKED"), &json!("breaker_open")),
        "{response}"
    );
    let error = response["error"].to_string();
    assert!(
        error.contains("circuit breaker open") && error.contains(&address.to_string()),
        "the failure does not name the breaker and its host: {error}"
    );
    assert_eq!(accepted.load(Ordering::SeqCst), before, "the source was called although the breaker is open");
}

#[tokio::test]
async fn a_web_server_that_answers_every_path_is_not_an_openapi_service() {
    let workspace = workspace();
    let path = workspace.csv("a.csv", 2);
    let app = axum::Router::new().fallback(|| async { "<html><body>200, and welcome</body></html>" });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/openapi.json", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let daemon = workspace.serve().await;
    let response = daemon.push(&intent("openapi", &url)).await.body;
    assert_eq!(response["status"], "ERROR", "{response}");
    assert!(until_failed(&daemon, &url).await["error"]["class"] != "network");
    assert_eq!(daemon.push(&intent("filesource", &path)).await.body["status"], "ACTIVE");
}
