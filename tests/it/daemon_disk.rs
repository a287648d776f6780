//! The registry's disk fills up (SQLite's own SQLITE_FULL), and has space again.

use crate::daemon_support::{Daemon, Place, intent, stderr, until};
use crate::daemon_vendor::{Mood, Vendor};
use serde_json::{Value, json};

/// A place whose registry can be bounded by [`fill`] and [`free`].
fn place() -> Place {
    let mut place = Place::new();
    place.set("AAM_TEST_MAX_PAGES", &place.path("pages").display().to_string());
    place
}

/// SQLite takes a limit below its size as its size: from now on no page more.
fn fill(place: &Place) {
    place.replace("pages", b"1");
}

fn free(place: &Place) {
    place.replace("pages", b"1000000");
}

/// An intent that needs pages of its own.
fn big(resource_id: &str) -> Value {
    let mut document = intent("filesource", resource_id);
    document["note"] = json!("filler ".repeat(20_000));
    document
}

async fn until_ready(daemon: &Daemon, status: u16) -> Value {
    let seen = std::cell::RefCell::new(Value::Null);
    until(&format!("/readyz is {status}"), || async {
        let told = daemon.get("/readyz").await;
        let text = told.body.to_string();
        seen.replace(told.body);
        (told.status == status, text)
    })
    .await;
    seen.into_inner()
}

/// How often a transaction failed.
fn refusals(daemon: &Daemon) -> usize {
    daemon.log().matches("nothing of this transaction was written").count()
}

#[tokio::test]
async fn a_full_disk_is_told_everywhere_calls_nobody_and_is_got_over_without_a_restart() {
    let place = place();
    let vendor = Vendor::start(Mood::Well).await;
    let daemon = place.serve().await;
    assert_eq!(daemon.push(&intent("filesource", &place.csv("a.csv", 3))).await.status, 201);
    fill(&place);
    let pushed = place.csv("b.csv", 3);
    let told = daemon.push(&big(&pushed)).await;
    assert_eq!(told.status, 503, "{}", told.body);
    assert!(told.body["detail"].as_str().is_some_and(|words| words.contains("disk")), "{}", told.body);
    assert_eq!(told.headers["content-type"], "application/problem+json");
    let reason = until_ready(&daemon, 503).await;
    assert!(reason["detail"].as_str().is_some_and(|words| words.contains("disk is full")), "{reason}");
    let shown = daemon.get("/dashboard.json").await.body;
    assert!(shown["trouble"].to_string().contains("disk is full"), "{}", shown["trouble"]);
    assert!(daemon.get("/").await.body.to_string().contains("disk is full"), "on the page too");
    place.intent_file("v.json", &intent("openapi", &vendor.url));
    let before = refusals(&daemon);
    until("it was tried again and again", || async { (refusals(&daemon) >= before + 3, String::new()) }).await;
    assert_eq!(vendor.hits(), 0, "no row, no call");
    free(&place);
    daemon.until_state(&vendor.url, "ACTIVE").await;
    until_ready(&daemon, 200).await;
    assert_eq!(daemon.push(&big(&pushed)).await.status, 201);
    assert_eq!(daemon.funnel().await["active"], 3);
    place.rows();
}

#[tokio::test]
async fn an_outcome_that_does_not_fit_is_kept_and_written_when_there_is_space() {
    let place = place();
    let vendor = Vendor::start(Mood::Silent).await;
    place.intent_file("v.json", &intent("openapi", &vendor.url));
    let daemon = place.serve().await;
    until("the source is called", || async { (vendor.hits() > 0, String::new()) }).await;
    fill(&place);
    vendor.turn(Mood::Well);
    until_ready(&daemon, 503).await;
    let before = refusals(&daemon);
    until("it was tried again", || async { (refusals(&daemon) >= before + 3, String::new()) }).await;
    let hits = vendor.hits();
    let all = daemon.connections().await;
    assert_eq!((&all[0]["status"], &all[0]["checking"]), (&json!("PENDING"), &json!(true)), "{}", all[0]);
    free(&place);
    let one = daemon.until_state(&vendor.url, "ACTIVE").await;
    assert_eq!(vendor.hits(), hits, "the attempt that was in flight is the one recorded");
    assert_eq!(daemon.entries(&one, "attempt_begun").await.len(), 1);
    until_ready(&daemon, 200).await;
    place.rows();
}

#[tokio::test]
async fn once_ends_with_the_reason_when_the_disk_is_full() {
    let place = place();
    let first = place.csv("a.csv", 3);
    place.intent_file("a.json", &intent("filesource", &first));
    assert_eq!(place.run(&["once"]).status.code(), Some(0));
    fill(&place);
    let second = place.csv("b.csv", 3);
    place.intent_file("b.json", &big(&second));
    let output = place.run(&["once"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("disk is full"), "{}", stderr(&output));
    free(&place);
    assert_eq!(place.run(&["once"]).status.code(), Some(0));
}
