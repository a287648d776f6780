//! When pushes and batches are answered, with which status, and what a token sees that may not read the registry.

use crate::support::daemon::{Daemon, Workspace, intent, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use aam::credentials::Secret;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const BATCH: &str = "/connections/onboard/batch";

/// Intents of which none can be connected, because their credential does not exist.
fn waiting(prefix: &str, count: usize) -> Vec<Value> {
    let one = |number: usize| {
        let mut document = intent("s3", &format!("{prefix}-{number:04}"));
        document["credential_locator"] = json!("env:NO_SUCH_SECRET");
        document
    };
    (0..count).map(one).collect()
}

async fn until_token(daemon: &Daemon) {
    until("the tokens are in force", || async {
        let status = daemon.get("/connections").await.status;
        (status == 200, status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_is_answered_without_waiting_for_each_item_and_holds_up_no_other_client() {
    let workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 200, resync: 5s}\n");
    let daemon = workspace.serve().await;
    let documents = waiting("bucket", 1500);
    let (started, body) = (Instant::now(), json!(documents));
    let mut batch = Box::pin(daemon.post_with(BATCH, &body, "respond-async"));
    let mut slowest = Duration::ZERO;
    let answer = loop {
        let asked = Instant::now();
        tokio::select! {
            answer = &mut batch => break answer,
            listed = daemon.get("/connections?limit=1") => assert_eq!(listed.status, 200, "{}", listed.body),
        }
        slowest = slowest.max(asked.elapsed());
    };
    let took = started.elapsed();
    assert_eq!((answer.status, &answer.body["total"], &answer.body["failed"]), (202, &json!(1500), &json!(0)));
    // A few milliseconds of waiting for each item would take longer.
    assert!(took < Duration::from_secs(10), "answered after {took:?}");
    assert!(slowest < Duration::from_secs(5), "another client waited {slowest:?}");
    let results = answer.body["results"].as_array().cloned().unwrap_or_default();
    assert_eq!(results.len(), 1500);
    for one in &results {
        // The status and its code describe the same instant.
        assert_eq!(one["status"] == "PENDING", one["http_status"] == 202, "{one}");
        assert!(one["location"].as_str().is_some_and(|location| location.starts_with("/connections/")), "{one}");
    }
    let unsettled = results.iter().filter(|one| one["http_status"] == 202).count();
    assert_eq!(answer.body["unsettled"], json!(unsettled));
    // The connections reach their state, and the same batch is then answered with it.
    until("every connection waits for its credential", || async {
        let funnel = daemon.funnel().await;
        (funnel["awaiting_credentials"] == json!(1500), funnel.to_string())
    })
    .await;
    let again = daemon.post_with(BATCH, &json!(documents), "respond-async").await;
    assert_eq!((again.status, &again.body["unsettled"], &again.body["succeeded"]), (200, &json!(0), &json!(1500)));
}

#[tokio::test]
async fn a_push_that_has_no_result_after_a_crash_is_202() {
    let service = DescribedService::start(ServiceMode::Silent).await;
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let document = intent("openapi", &service.url);
    let first = daemon.post_with("/connections/onboard", &document, "respond-async").await;
    assert_eq!((first.status, &first.body["status"]), (202, &json!("PENDING")), "{}", first.body);
    until("the source is called", || async { (service.hits() > 0, service.hits().to_string()) }).await;
    daemon.kill();
    let daemon = workspace.serve().await;
    let again = daemon.post_with("/connections/onboard", &document, "wait=1").await;
    assert_eq!((again.status, &again.body["status"]), (202, &json!("PENDING")), "{}", again.body);
    let location = again.headers.get("location").and_then(|value| value.to_str().ok()).expect("a location").to_string();
    let batch = daemon.post_with(BATCH, &json!([document]), "wait=1").await;
    let item = &batch.body["results"][0];
    assert_eq!((batch.status, &item["http_status"], &item["status"]), (202, &json!(202), &json!("PENDING")), "{}", batch.body);
    service.set_mode(ServiceMode::Healthy);
    until("the source works", || async {
        let one = daemon.get(&location).await.body;
        (one["status"] == "ACTIVE", one.to_string())
    })
    .await;
    assert_eq!(daemon.push(&document).await.status, 200);
}

/// Checks that an answer has the ids and the state, and nothing that was read from the registry.
fn assert_state_only(what: &str, one: &Value, status: &str) {
    assert_eq!((&one["status"], one["connection_id"].is_string()), (&json!(status), true), "{what}: {one}");
    assert_eq!((&one["name"], &one["source_type"], &one["resource_ids"]), (&json!(""), &json!(""), &json!([])), "{what}: {one}");
    for hidden in ["error", "error_message", "steps", "first_sync_rows", "latency_ms", "owner", "catalog_version", "held"] {
        assert_eq!(one[hidden], Value::Null, "{what}: {hidden} in {one}");
    }
    let message = one["message"].as_str().unwrap_or_default();
    assert!(message.contains("registry:read"), "{what}: {message}");
    let text = one.to_string();
    assert!(!text.contains("items") && !text.contains("HTTP 500"), "{what}: {text}");
}

#[tokio::test]
async fn a_token_that_may_not_read_sees_ids_and_states_only_whatever_it_does() {
    let failing = DescribedService::start(ServiceMode::Failing).await;
    let workspace = Workspace::new();
    let mut daemon = workspace.serve().await;
    let good = intent("filesource", &workspace.csv("a.csv", 20));
    let bad = intent("openapi", &failing.url);
    for document in [&good, &bad] {
        assert_eq!(daemon.push(document).await.status, 201);
    }
    let (reader, first) = workspace.new_token("reader", "registry:read", "autonomy");
    let (writer, second) = workspace.new_token("writer", "intents:write, ops:heal", "autonomy");
    workspace.write_policy(&format!("api: {{tokens: [{first}, {second}]}}\n"));
    daemon.token = reader;
    until_token(&daemon).await;
    let state = daemon.until_connection(&failing.url, "the failure is known", |one| one["error"]["title"].is_string()).await;
    let state = state["status"].as_str().expect("a state").to_string();
    let before: Secret = std::mem::replace(&mut daemon.token, writer);
    for prefer in ["wait=5", "respond-async"] {
        // What others pushed, and what the token pushes itself, is the same connection.
        for (document, status) in [(&good, "ACTIVE"), (&bad, state.as_str())] {
            let pushed = daemon.post_with("/connections/onboard", document, prefer).await;
            assert_state_only("push", &pushed.body, status);
        }
        let mut misspelled = good.clone();
        misspelled["color"] = json!("blue");
        let batch = daemon.post_with(BATCH, &json!([good, bad]), prefer).await;
        assert_state_only("batch", &batch.body["results"][0], "ACTIVE");
        assert_state_only("batch", &batch.body["results"][1], &state);
        let warned = daemon.post_with("/connections/onboard", &misspelled, prefer).await;
        assert_eq!(warned.body["warnings"][0]["pointer"], "/color", "its own document is explained: {}", warned.body);
        daemon.post_with("/connections/onboard", &good, "wait=5").await;
    }
    let id = daemon.post("/connections/onboard", &good).await.body["connection_id"].as_str().expect("an id").to_string();
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_state_only("heal", &healed.body, "ACTIVE");
    let many = daemon.post("/connections/heal", &json!({ "ids": [id] })).await;
    assert_state_only("heal of ids", &many.body["results"][0], "ACTIVE");
    let failed = daemon.post("/connections/onboard", &bad).await.body;
    let failing_id = failed["connection_id"].as_str().expect("an id").to_string();
    let health = daemon.post(&format!("/connections/{failing_id}/health-check"), &json!({})).await.body;
    assert_eq!(
        (&health["name"], &health["failures_in_a_row"], &health["first_sync_rows"]),
        (&json!(""), &json!(0), &Value::Null)
    );
    let deleted = daemon.delete(&format!("/connections/{id}")).await;
    assert_state_only("delete", &deleted.body, "RETIRED");
    daemon.token = before;
    let read = daemon.get(&format!("/connections/{id}")).await.body;
    assert_eq!(read["source_type"], "filesource", "a token that may read sees it: {read}");
}
