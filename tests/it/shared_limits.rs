//! What a source asked AAM not to do outlives the process: a daemon that starts again makes no call to an account that waits, or to
//! a host whose circuit breaker is open.

use crate::support::daemon::{Daemon, Workspace, intent, until};
use crate::support::openapi::serve;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

/// A source that answers every request in the same way, and counts them.
struct Source {
    resource: String,
    hits: Arc<AtomicUsize>,
    status: Arc<AtomicU16>,
}

impl Source {
    async fn start(status: u16) -> Source {
        let (hits, status) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU16::new(status)));
        let (count, answered) = (Arc::clone(&hits), Arc::clone(&status));
        let base = serve(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            (answered.load(Ordering::SeqCst), vec![("retry-after", "600".to_string())], String::new())
        })
        .await;
        Source { resource: format!("{base}/openapi.json"), hits, status }
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn workspace(source: &Source) -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy("breaker: {failures: 2, open_for: 10m}\n");
    workspace.intent_file("source.json", &intent("openapi", &source.resource));
    workspace
}

/// Checks the connection at once and returns the failure of that attempt.
async fn heal(daemon: &Daemon, connection: &Value) -> Value {
    let id = connection["connection_id"].as_str().expect("an id");
    let before = daemon.entries(connection, "attempt_finished").await.len();
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    until("the attempt has ended", || async {
        let entries = daemon.entries(connection, "attempt_finished").await;
        (entries.len() > before, format!("{} entries", entries.len()))
    })
    .await;
    let ids = connection["resource_ids"][0].as_str().expect("a resource id").to_string();
    daemon.until_connection(&ids, "an ended attempt", |one| one["checking"] == false).await["error"].clone()
}

#[tokio::test]
async fn a_daemon_that_was_asked_to_wait_and_killed_makes_no_call_after_its_restart() {
    let source = Source::start(429).await;
    let workspace = workspace(&source);
    let daemon = workspace.serve().await;
    let connection =
        daemon.until_connection(&source.resource, "a throttled attempt", |one| one["error"]["class"] == "throttled").await;
    daemon.kill();
    let hits = source.hits();
    assert!(hits > 0);
    source.status.store(200, Ordering::SeqCst);
    let daemon = workspace.serve().await;
    for _ in 0..2 {
        let error = heal(&daemon, &connection).await;
        assert_eq!(error["class"], "throttled", "{error}");
        assert!(error["title"].as_str().is_some_and(|title| title.contains("rate limited by the source")), "{error}");
    }
    assert_eq!(source.hits(), hits, "calls after the restart");
    // The mark also outlives an orderly stop, and a second start.
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = workspace.serve().await;
    assert_eq!(heal(&daemon, &connection).await["class"], "throttled");
    assert_eq!(source.hits(), hits, "calls after the second restart");
}

#[tokio::test]
async fn an_open_circuit_breaker_outlives_the_process() {
    let source = Source::start(500).await;
    let workspace = workspace(&source);
    let daemon = workspace.serve().await;
    let connection =
        daemon.until_connection(&source.resource, "an open breaker", |one| one["error"]["class"] == "breaker_open").await;
    daemon.kill();
    let hits = source.hits();
    assert!(hits >= 2, "{hits}");
    let daemon = workspace.serve().await;
    let error = heal(&daemon, &connection).await;
    assert_eq!(error["class"], "breaker_open", "{error}");
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("500")), "the reason is kept: {error}");
    assert_eq!(source.hits(), hits, "calls after the restart");
}
