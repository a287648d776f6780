//! `GET /events`: what happens, as server-sent events.

use crate::support::bearer_service::BearerService;
use crate::support::daemon::{Daemon, Workspace, intent, intent_with_locator, until};
use crate::support::sse::{EventReader, ReceivedEvent, open};
use aam::model::Digest;
use serde_json::{Value, json};

fn is(event: &ReceivedEvent, kind: &str, data: &Value) -> bool {
    event.kind == kind && data.as_object().expect("an object").iter().all(|(key, value)| event.data["data"][key] == *value)
}

fn became(state: &'static str) -> impl Fn(&ReceivedEvent) -> bool {
    move |event| is(event, "state_changed", &json!({"to": state}))
}

fn ids(events: &[ReceivedEvent]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

async fn all(daemon: &Daemon, fits: impl Fn(&ReceivedEvent) -> bool) -> Vec<ReceivedEvent> {
    EventReader::new(daemon, "/events?since=0", None).await.until("the last known event", fits).await
}

#[tokio::test]
async fn a_reader_that_is_cut_continues_and_the_events_are_the_same_after_a_restart() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let mut reader = EventReader::new(&daemon, "/events", None).await;
    let csv = workspace.csv("people.csv", 3);
    workspace.intent_file("people.json", &intent("filesource", &csv));
    let mut events = reader.until("ACTIVE", became("ACTIVE")).await;
    let first = &events[0];
    assert_eq!((first.kind.as_str(), &first.data["data"]["change"]), ("intent_accepted", &json!("created")), "{first:#?}");
    let last = events.last().expect("an event").clone();
    assert_eq!((&last.data["namespace"], &last.data["resource_ids"]), (&json!("autonomy"), &json!([csv])), "{last:#?}");
    assert_eq!((&last.data["id"], &last.data["schema_version"]), (&json!(last.id), &json!(1)));
    let last_id = last.id.clone();
    drop(reader);

    // What happens while nobody reads.
    std::fs::write(workspace.path("data/people.csv"), "key,name\n1,a\n").expect("written");
    let id = last.data["connection_id"].as_str().expect("an id").to_string();
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    std::fs::remove_file(workspace.path("intents/people.json")).expect("removed");
    daemon.until_connection(&csv, "retired", |found| found["status"] == "RETIRED").await;

    let mut reader = EventReader::new(&daemon, "/events?since=0", Some(&last_id)).await;
    let rest = reader.until("RETIRED", became("RETIRED")).await;
    assert_eq!(reader.comments, [format!("events after {last_id}")], "the header takes precedence over since");
    for kind in ["drift", "retired"] {
        assert!(rest.iter().any(|event| event.kind == kind), "{kind} is missing: {rest:#?}");
    }
    events.extend(rest);
    let since = EventReader::new(&daemon, &format!("/events?since={}", last_id.split('-').next().expect("a number")), None).await;
    drop(since);

    let whole = all(&daemon, became("RETIRED")).await;
    let from_the_reader: Vec<&ReceivedEvent> = whole.iter().filter(|event| events.iter().any(|own| own.id == event.id)).collect();
    assert_eq!(from_the_reader, events.iter().collect::<Vec<_>>(), "nothing is missing and nothing came twice");
    assert!(daemon.stop().await == Some(0), "an open stream does not keep the daemon from stopping");

    let daemon = workspace.serve().await;
    assert_eq!(all(&daemon, became("RETIRED")).await, whole);
    assert!(whole.windows(2).all(|pair| pair[0].id != pair[1].id), "{:?}", ids(&whole));
}

#[tokio::test]
async fn what_no_attempt_records_is_an_event_once_also_after_a_restart() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let good = std::fs::read(workspace.path("policy/policy.yaml")).expect("the policy");
    let mut reader = EventReader::new(
        &daemon,
        "/events?since=0&type=policy_rejected,policy_accepted,intent_problem,intent_problem_resolved",
        None,
    )
    .await;
    reader.until("the first policy", |event| event.kind == "policy_accepted").await;
    workspace.replace("policy/policy.yaml", b"version: 7\n");
    let rejected = reader.next().await.expect("an event");
    assert_eq!(rejected.kind, "policy_rejected");
    let problems = rejected.data["data"]["problems"].as_array().expect("a list");
    assert!(problems.iter().any(|problem| problem["pointer"] == "/version"), "{rejected:#?}");
    workspace.replace("intents/broken.json", b"{\"source_type\": 1}");
    let problem = reader.next().await.expect("an event");
    assert_eq!(problem.kind, "intent_problem", "{problem:#?}");
    assert!(problem.data["data"]["file"].as_str().is_some_and(|file| file.ends_with("broken.json")), "{problem:#?}");
    let rows = workspace.rows();
    drop(reader);
    assert_eq!(daemon.stop().await, Some(0));

    let daemon = workspace.serve().await;
    assert_eq!(workspace.rows(), rows, "a restart records nothing again");
    workspace.replace("policy/policy.yaml", &good);
    workspace.replace("intents/broken.json", b"[]");
    let path =
        format!("/events?type=policy_rejected,policy_accepted,intent_problem,intent_problem_resolved&since={}", problem.id);
    let mut reader = EventReader::new(&daemon, &path, None).await;
    let two = [reader.next().await.expect("an event"), reader.next().await.expect("an event")];
    let accepted = two.iter().find(|event| event.kind == "policy_accepted").expect("accepted");
    assert_eq!(accepted.data["data"]["after_rejection"], true);
    assert!(two.iter().any(|event| event.kind == "intent_problem_resolved"), "{two:#?}");
}

#[tokio::test]
async fn a_credential_that_ends_soon_is_announced_at_each_step() {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    let service = BearerService::start("T-one").await;
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    workspace.set("THINGS", &json!({"token": "T-one", "expires_at": end.to_string()}).to_string());
    let daemon = workspace.serve().await;
    workspace.intent_file("things.json", &intent_with_locator("openapi", &service.url("a"), "env:THINGS"));
    let mut reader = EventReader::new(&daemon, "/events?since=0&type=credential_expiring,state_changed", None).await;
    reader.until("ACTIVE", became("ACTIVE")).await;
    let mut seen = Vec::new();
    for (days, nearness) in [(7, "soon"), (18, "urgent"), (21, "ended")] {
        workspace.replace("clock", (days * 24 * 3600 * 1000_i64).to_string().as_bytes());
        let event = reader.until(nearness, |event| event.kind == "credential_expiring").await.pop().expect("an event");
        assert_eq!(event.data["data"]["nearness"], nearness, "{event:#?}");
        assert!(!event.data.to_string().contains("T-one"), "{event:#?}");
        seen.push(event.id);
    }
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = workspace.serve().await;
    let mut reader = EventReader::new(&daemon, "/events?since=0&type=credential_expiring", None).await;
    let again = reader.until("the last step", |event| event.id == seen[2]).await;
    assert_eq!(ids(&again), seen, "each step once");
}

/// A policy with the tokens `all` (both namespaces), `other` and `writer`.
fn with_tokens(more: &str) -> String {
    let token = |name: &str, scopes: &str, namespaces: &str| {
        let sha256 = Digest::from_bytes(format!("{name}-token").as_bytes());
        format!("    - {{name: {name}, sha256: \"{sha256}\", scopes: [{scopes}], namespaces: [{namespaces}]}}\n")
    };
    let tokens = [
        token("all", "\"registry:read\"", "autonomy, other"),
        token("other", "\"registry:read\"", "other"),
        token("writer", "\"intents:write\"", "autonomy"),
    ];
    format!("api:\n  tokens:\n{}{more}", tokens.concat())
}

#[tokio::test]
async fn a_token_sees_its_namespaces_only_and_bad_requests_are_explained() {
    let workspace = Workspace::new();
    workspace.write_policy(&with_tokens(""));
    let daemon = workspace.serve().await;
    let mut other = intent("filesource", &workspace.csv("other.csv", 1));
    other["namespace"] = json!("other");
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 1)));
    let mut reader = EventReader::with_token(&daemon, "/events?since=0", "all-token", None).await;
    reader.until("ACTIVE", became("ACTIVE")).await;
    workspace.intent_file("other.json", &other);
    reader.until("ACTIVE in other", |event| became("ACTIVE")(event) && event.data["namespace"] == "other").await;

    let mut reader = EventReader::with_token(&daemon, "/events?since=0", "other-token", None).await;
    let events = reader.until("ACTIVE", became("ACTIVE")).await;
    assert!(events.iter().all(|event| event.data["namespace"] == "other"), "{events:#?}");
    let mut reader =
        EventReader::with_token(&daemon, "/events?since=0&namespace=AUTONOMY&type=State_Changed", "all-token", None).await;
    let event = reader.next().await.expect("an event");
    assert_eq!((event.kind.as_str(), &event.data["namespace"]), ("state_changed", &json!("autonomy")));

    let mut text = String::new();
    for (path, token, last) in [
        ("/events", "", None),
        ("/events", "writer-token", None),
        ("/events?namespace=autonomy", "other-token", None),
        ("/events?type=state", "all-token", None),
        ("/events?since=x", "all-token", None),
        ("/events?since=999999", "all-token", None),
        ("/events", "all-token", Some("7-")),
    ] {
        let response = open(&daemon, path, token, last).await;
        let status = response.status().as_u16();
        let body: Value = response.json().await.expect("JSON");
        let detail = body["detail"].as_str().unwrap_or_default().to_string();
        let detail: String = detail.split("entry ").enumerate().fold(String::new(), |text, (index, part)| match index {
            0 => part.to_string(),
            _ => format!("{text}entry {}", part.trim_start_matches(|c: char| c.is_ascii_digit())),
        });
        text.push_str(&format!("{path} {status}\n  {detail}\n"));
    }
    crate::support::snapshot::assert_snapshot("events_refusals", &text, &[]);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_removed() {
    let workspace = Workspace::new();
    workspace.write_policy(&with_tokens(""));
    let daemon = workspace.serve().await;
    let mut reader = EventReader::with_token(&daemon, "/events", "other-token", None).await;
    let kept = with_tokens("").lines().filter(|line| !line.contains("name: other")).collect::<Vec<_>>().join("\n");
    workspace.write_policy(&format!("{kept}\n"));
    assert_eq!(reader.next().await, None, "the stream ends");
    assert_eq!(open(&daemon, "/events", "other-token", None).await.status(), 401);
}

#[tokio::test]
async fn readers_are_bounded_and_those_that_do_not_read_hold_nothing_up() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let mut open_readers = Vec::new();
    for _ in 0..16 {
        open_readers.push(open(&daemon, "/events?since=0", daemon.token.expose(), None).await);
    }
    assert!(open_readers.iter().all(|response| response.status() == 200));
    let refused = open(&daemon, "/events", daemon.token.expose(), None).await;
    assert_eq!(refused.status(), 503);
    let body: Value = refused.json().await.expect("JSON");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("16 connections")), "{body}");
    let many: Vec<Value> = (0..300).map(|number| intent("acme_crm", &format!("tenant-{number}"))).collect();
    workspace.intent_file("many.json", &json!(many));
    until("all are recorded", || async {
        let funnel = daemon.funnel().await;
        (funnel["unsupported_type"] == 300, funnel.to_string())
    })
    .await;
    drop(open_readers);
    until("a place is free again", || async {
        let status = open(&daemon, "/events", daemon.token.expose(), None).await.status();
        (status == 200, status.to_string())
    })
    .await;
}
