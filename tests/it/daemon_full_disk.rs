//! The registry's disk fills up (SQLite's own SQLITE_FULL) and has space again later.

use crate::support::daemon::{Daemon, Workspace, intent, stderr, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use serde_json::{Value, json};

/// A workspace whose registry can be bounded by [`fill`] and [`free`].
fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_MAX_PAGES", &workspace.path("pages").display().to_string());
    workspace
}

/// Sets a limit below the current size. SQLite then uses the current size as the limit, so the file cannot grow.
fn fill(workspace: &Workspace) {
    workspace.replace("pages", b"1");
}

fn free(workspace: &Workspace) {
    workspace.replace("pages", b"1000000");
}

/// An intent that is too large for the free space of the pages that exist.
fn big(resource_id: &str) -> Value {
    let mut document = intent("filesource", resource_id);
    document["note"] = json!("filler ".repeat(20_000));
    document
}

async fn until_ready(daemon: &Daemon, status: u16) -> Value {
    let last = std::cell::RefCell::new(Value::Null);
    until(&format!("/readyz is {status}"), || async {
        let response = daemon.get("/readyz").await;
        let text = response.body.to_string();
        last.replace(response.body);
        (response.status == status, text)
    })
    .await;
    last.into_inner()
}

/// The number of failed transactions so far.
fn failed_transactions(daemon: &Daemon) -> usize {
    daemon.log().matches("the transaction failed").count()
}

#[tokio::test]
async fn a_full_disk_is_reported_everywhere_stops_calls_and_recovers_without_a_restart() {
    let workspace = workspace();
    let service = DescribedService::start(ServiceMode::Healthy).await;
    let daemon = workspace.serve().await;
    assert_eq!(daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await.status, 201);
    fill(&workspace);
    let pushed = workspace.csv("b.csv", 3);
    let response = daemon.push(&big(&pushed)).await;
    assert_eq!(response.status, 503, "{}", response.body);
    assert!(response.body["detail"].as_str().is_some_and(|text| text.contains("disk")), "{}", response.body);
    assert_eq!(response.headers["content-type"], "application/problem+json");
    let reason = until_ready(&daemon, 503).await;
    assert!(reason["detail"].as_str().is_some_and(|text| text.contains("disk is full")), "{reason}");
    let shown = daemon.get("/dashboard.json").await.body;
    assert!(shown["trouble"].to_string().contains("disk is full"), "{}", shown["trouble"]);
    assert!(daemon.get("/").await.body.to_string().contains("disk is full"), "the dashboard does not show the reason");
    workspace.intent_file("v.json", &intent("openapi", &service.url));
    let before = failed_transactions(&daemon);
    until("the transaction is retried", || async { (failed_transactions(&daemon) >= before + 3, String::new()) }).await;
    let log = daemon.log();
    let errors = log.lines().filter(|line| line.contains("ERROR") && line.contains("the transaction failed"));
    assert!((1..failed_transactions(&daemon)).contains(&errors.count()), "a failure that lasts is an error once a minute: {log}");
    assert_eq!(service.hits(), 0, "the source was called before the registry recorded the attempt");
    free(&workspace);
    daemon.until_state(&service.url, "ACTIVE").await;
    until_ready(&daemon, 200).await;
    assert_eq!(daemon.push(&big(&pushed)).await.status, 201);
    assert_eq!(daemon.funnel().await["active"], 3);
    workspace.rows();
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_kept_and_written_once_there_is_space() {
    let workspace = workspace();
    let service = DescribedService::start(ServiceMode::Silent).await;
    workspace.intent_file("v.json", &intent("openapi", &service.url));
    let daemon = workspace.serve().await;
    until("the source is called", || async { (service.hits() > 0, String::new()) }).await;
    fill(&workspace);
    service.set_mode(ServiceMode::Healthy);
    until_ready(&daemon, 503).await;
    let before = failed_transactions(&daemon);
    until("the transaction is retried", || async { (failed_transactions(&daemon) >= before + 3, String::new()) }).await;
    let hits = service.hits();
    let all = daemon.connections().await;
    assert_eq!((&all[0]["status"], &all[0]["checking"]), (&json!("PENDING"), &json!(true)), "{}", all[0]);
    free(&workspace);
    let one = daemon.until_state(&service.url, "ACTIVE").await;
    assert_eq!(service.hits(), hits, "the source was called again");
    assert_eq!(daemon.entries(&one, "attempt_begun").await.len(), 1);
    until_ready(&daemon, 200).await;
    workspace.rows();
}

#[tokio::test]
async fn once_reports_a_full_disk_and_exits_with_1() {
    let workspace = workspace();
    let first = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &first));
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
    fill(&workspace);
    let second = workspace.csv("b.csv", 3);
    workspace.intent_file("b.json", &big(&second));
    let output = workspace.run(&["once"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("disk is full"), "{}", stderr(&output));
    free(&workspace);
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
}
