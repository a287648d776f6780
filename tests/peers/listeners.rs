//! Libraries of others listen to AAM: webhooks are verified by the official library of Standard Webhooks, the metrics are parsed
//! by prometheus_client, and events are read by a client of server-sent events.

use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace, intent, until};
use crate::support::receiver::Receiver;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

peer_tests! {
    [Listeners]: the_official_library_accepts_signed_messages_only, the_official_parser_reads_the_metrics, a_client_of_events_continues;
}

/// Runs one check of the script on a thread for blocking calls.
async fn check(name: &'static str, given: Value) -> Value {
    let run = move || {
        let mut child = Command::new(variable("LISTENERS", "PYTHON"))
            .args([variable("LISTENERS", "SCRIPT").as_str(), name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        child.stdin.take().expect("stdin").write_all(given.to_string().as_bytes()).expect("written");
        let output = child.wait_with_output().expect("output");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    tokio::task::spawn_blocking(run).await.expect("the check ran")
}

/// A daemon with one webhook whose secret is `secret`, after it has sent a message.
async fn notified(secret: &str) -> (Workspace, Daemon, Receiver) {
    let (mut workspace, receiver) = (Workspace::new(), Receiver::start().await);
    workspace.set("HOOK_SECRET", secret);
    let url = receiver.url();
    workspace
        .write_policy(&format!("notify: [{{name: ops, url: \"{url}\", secret: \"env:HOOK_SECRET\", on: [state_changed]}}]\n"));
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    until("the message arrives", || async { (receiver.count() > 0, String::new()) }).await;
    (workspace, daemon, receiver)
}

async fn the_official_library_accepts_signed_messages_only() {
    let encoded = format!("whsec_{}", "QUFNIHRlc3RzIG9mIHdlYmhvb2tz");
    for (secret, raw) in [(encoded.as_str(), false), ("any other text of the tests", true)] {
        let (_workspace, _daemon, receiver) = notified(secret).await;
        let message = receiver.messages().remove(0);
        let header = |name: &str| message.headers[name].to_str().expect("text").to_string();
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: serde_json::Map<String, Value> = names.iter().map(|name| (name.to_string(), header(name).into())).collect();
        let body = String::from_utf8(message.bytes.clone()).expect("UTF-8");
        let judged = check("webhook", json!({"secret": secret, "raw": raw, "body": body, "headers": headers})).await;
        assert_eq!((&judged["type"], &judged["total"]), (&json!("aam.events"), &json!(1)), "{judged}");
        assert_eq!(judged["forged"], json!(["webhook-id", "webhook-timestamp", "body"]), "a changed message is refused");
    }
}

async fn the_official_parser_reads_the_metrics() {
    let (_workspace, daemon, _receiver) = notified("any text of the tests").await;
    let text = daemon.get("/metrics").await.body.as_str().expect("text").to_string();
    let families = check("metrics", json!({"text": text})).await["families"].clone();
    assert_eq!(families["aam_attempt_duration_seconds"][0], "histogram", "{families}");
    assert_eq!(families["aam_attempts"][0], "counter", "{families}");
    assert!(families["aam_connections"][1].as_u64() > Some(10), "{families}");
}

async fn a_client_of_events_continues() {
    let (_workspace, daemon, _receiver) = notified("any text of the tests").await;
    let url = daemon.url("/events?since=0");
    let given = |last_id: Value| json!({"url": url, "token": daemon.token.expose(), "until": "slo_met", "last_id": last_id});
    let all = check("events", given(Value::Null)).await;
    let all = all.as_array().expect("a list");
    assert!(all.len() >= 3, "{all:#?}");
    let rest = check("events", given(all[0]["id"].clone())).await;
    assert_eq!(rest.as_array().expect("a list")[..], all[1..], "the client continues after the first event");
}
