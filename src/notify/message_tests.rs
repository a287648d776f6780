use super::*;
use crate::events::{EventConnection, EventId};
use crate::model::{ConnectionId, Timestamp};

fn event(seq: u64, kind: EventType, data: Value) -> Arc<Event> {
    let of_connection = matches!(
        kind,
        EventType::IntentAccepted
            | EventType::StateChanged
            | EventType::Retired
            | EventType::Drift
            | EventType::CredentialExpiring
    );
    let registry_wide = data.get("policy").is_some() || data.get("problems").is_some() || data.get("file").is_some();
    let id = ConnectionId::derive("autonomy", "github", &["acme".to_string()]);
    let connection = of_connection.then(|| EventConnection { id, source_type: "github".into(), document: 1 });
    let Value::Object(data) = data else { panic!("an object") };
    let namespace = if registry_wide { "" } else { "autonomy" }.into();
    let (id, at) = (EventId { seq, index: 1 }, Timestamp(1_794_000_000_000 + i64::try_from(seq).unwrap()));
    Arc::new(Event { id, kind, at, namespace, connection, data })
}

/// One event of each type.
fn bundle() -> Bundle {
    let problem =
        json!({"file": "intents/a.json", "pointer": "/owner", "line": 3, "message": "the key user is missing", "hint": "add it"});
    let slo =
        |active: u64, coverage: f64| json!({"eligible": 10, "active": active, "pending": 0, "coverage": coverage, "target": 0.9});
    let events = vec![
        event(1, EventType::IntentAccepted, json!({"change": "created", "origin": "folder:a.json", "state": "PENDING"})),
        event(2, EventType::StateChanged, json!({"from": "PENDING", "to": "ACTIVE"})),
        event(
            3,
            EventType::StateChanged,
            json!({"from": "ACTIVE", "to": "HEALING", "class": "credential_rejected", "failed_step": "upsert",
                "title": "GitHub rejects the token <!channel> & more", "fix": "create a new token"}),
        ),
        event(
            4,
            EventType::Drift,
            json!({"catalog_version": 2, "streams": 3, "kind": "breaking", "breaking": ["repos: field id removed"], "breaking_total": 1,
                "additive": [], "additive_total": 0}),
        ),
        event(
            5,
            EventType::CredentialExpiring,
            json!({"ends_at": "2026-12-01T00:00:00Z", "nearness": "urgent",
            "title": "urgent: the credential ends in 2 days, on 2026-12-01", "fix": "create a new one"}),
        ),
        event(6, EventType::SloMissed, slo(8, 0.8)),
        event(7, EventType::SloMet, slo(9, 0.9)),
        event(8, EventType::PolicyRejected, json!({"problems": [problem], "problems_total": 1})),
        event(9, EventType::PolicyAccepted, json!({"policy": "0123456789abcdef", "after_rejection": true})),
        event(10, EventType::IntentProblem, json!({"file": "intents/a.json", "problems": [problem], "problems_total": 2})),
        event(11, EventType::IntentProblemResolved, json!({"file": "intents/a.json", "problems": [], "problems_total": 0})),
        event(12, EventType::Retired, json!({"state_before": "ACTIVE"})),
    ];
    Bundle { events, resource_ids: HashMap::from([(1, vec!["acme".to_string()])]) }
}

#[test]
fn messages_of_all_forms() {
    let bundle = bundle();
    let all: Vec<String> = WebhookForm::ALL
        .map(|form| serde_json::to_string_pretty(&bundle.body("ops", form)).unwrap().replace("\\n", "\n"))
        .to_vec();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("webhook_messages", all.join("\n----\n"));
    });
}

#[test]
fn many_events_are_one_short_message() {
    let change = |seq| event(seq, EventType::StateChanged, json!({"from": "PENDING", "to": "ACTIVE"}));
    let mut events: Vec<Arc<Event>> = (1..=499).map(change).collect();
    events.push(event(
        500,
        EventType::SloMissed,
        json!({"eligible": 10, "active": 1, "pending": 0, "coverage": 0.1, "target": 0.9}),
    ));
    let bundle = Bundle { events, resource_ids: HashMap::new() };
    let text = bundle.body("ops", WebhookForm::Slack)["text"].as_str().unwrap().to_string();
    assert!(text.starts_with("*AAM: 500 events (499 state_changed, 1 slo_missed)*\n• autonomy: 1 of 10"), "{text}");
    assert!(text.ends_with("and 485 more") && text.len() < 4000, "{text}");
    let standard = bundle.body("ops", WebhookForm::Standard);
    assert_eq!((&standard["data"]["total"], &standard["data"]["counts"]["state_changed"]), (&json!(500), &json!(499)));
    let teams = bundle.body("ops", WebhookForm::Teams).to_string();
    assert!(teams.len() < 28_000, "Teams accepts messages of up to 28 KB: {}", teams.len());
}

#[test]
fn the_id_is_that_of_the_events() {
    let (one, mut other) = (bundle(), bundle());
    assert_eq!(one.id("ops"), other.id("ops"));
    assert_ne!(one.id("ops"), one.id("dev"));
    other.events.pop();
    assert_ne!(one.id("ops"), other.id("ops"));
}
