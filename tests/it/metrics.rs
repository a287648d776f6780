//! `GET /metrics`, and the dashboard and the alert rules that use it.

use crate::support::bearer_service::BearerService;
use crate::support::daemon::{Workspace, intent, intent_with_locator, until};
use crate::support::openmetrics::{Families, parse};
use crate::support::receiver::Receiver;
use crate::support::sse::EventReader;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The metrics of a daemon that has connected something, called something and notified somebody.
async fn scraped() -> (String, Families) {
    let (mut workspace, receiver) = (Workspace::new(), Receiver::start().await);
    workspace.set("HOOK_SECRET", "a secret of the tests");
    let service = BearerService::start("T-one").await;
    workspace.set("THINGS", &json!({"token": "T-one", "expires_at": "2038-01-01T00:00:00Z"}).to_string());
    workspace.write_policy(&format!(
        "notify: [{{name: ops, url: \"{}\", secret: \"env:HOOK_SECRET\", on: [state_changed]}}]\n",
        receiver.url()
    ));
    let daemon = workspace.serve().await;
    let _reader = EventReader::new(&daemon, "/events", None).await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    workspace.intent_file("things.json", &intent_with_locator("openapi", &service.url("a"), "env:THINGS"));
    daemon.until_state(&service.url("a"), "ACTIVE").await;
    let unknown: Vec<Value> = (0..50).map(|number| intent(&format!("made_up_{number}"), "x")).collect();
    workspace.intent_file("unknown.json", &json!(unknown));
    let path = workspace.path("data/one.csv").display().to_string();
    daemon.until_state(&path, "ACTIVE").await;
    until("the message is counted", || async {
        let text = daemon.get("/metrics").await.body.as_str().unwrap_or_default().to_string();
        let done = text.contains("outcome=\"accepted\"} 1") && text.contains("family=\"unknown\",outcome=\"unsupported\"} 50");
        (done, text)
    })
    .await;
    let text = daemon.get("/metrics").await.body.as_str().expect("text").to_string();
    let families = parse(&text);
    (text, families)
}

#[tokio::test]
async fn the_text_is_valid_and_the_series_are_bounded() {
    let (text, families) = scraped().await;
    let mut names = String::new();
    for (name, (kind, samples)) in &families {
        let labels: BTreeSet<&str> = samples.iter().flat_map(|sample| sample.labels.keys().map(String::as_str)).collect();
        names.push_str(&format!("{name} {kind} [{}]\n", labels.into_iter().collect::<Vec<_>>().join(" ")));
    }
    crate::support::snapshot::assert_snapshot("metric_names", &names, &[]);
    assert!(!text.contains("made_up_"), "a source type that does not exist is not a label");
    let value = |name: &str, labels: &[(&str, &str)]| {
        let wanted: BTreeMap<String, String> = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (_, samples) = families.values().find(|(_, samples)| samples.iter().any(|sample| sample.name == name)).expect(name);
        samples.iter().find(|sample| sample.name == name && sample.labels == wanted).map(|sample| sample.value)
    };
    assert_eq!(value("aam_attempts_total", &[("family", "filesource"), ("outcome", "passed")]), Some(1.0));
    assert_eq!(value("aam_attempts_total", &[("family", "unknown"), ("outcome", "unsupported")]), Some(50.0));
    assert_eq!(value("aam_step_duration_seconds_count", &[("family", "filesource"), ("step", "tiny_sync")]), Some(1.0));
    assert!(value("aam_calls_total", &[("family", "filesource"), ("outcome", "answered")]) >= Some(1.0));
    assert!(value("aam_calls_total", &[("family", "webhook"), ("outcome", "answered")]) >= Some(1.0));
    assert!(value("aam_commit_duration_seconds_count", &[]) >= Some(3.0));
    assert_eq!(
        (value("aam_event_readers", &[]), value("aam_circuit_breakers_open", &[("family", "webhook")])),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(value("aam_webhook_failing", &[("webhook", "ops")]), Some(0.0));
}

fn document(name: &str) -> String {
    std::fs::read_to_string(format!("{}/docs/grafana/{name}", env!("CARGO_MANIFEST_DIR"))).expect(name)
}

/// The names of AAM's metrics in a query.
fn metrics_of(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with("aam_"))
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_of_the_alert_rules_exists() {
    let (_, families) = scraped().await;
    let known: BTreeSet<&str> =
        families.values().flat_map(|(_, samples)| samples.iter().map(|sample| sample.name.as_str())).collect();
    let dashboard: Value = serde_json::from_str(&document("aam.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries: Vec<String> = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{panel}"));
        assert!(!targets.is_empty() && panel["title"].is_string() && panel["gridPos"].is_object(), "{panel}");
        queries.extend(targets.iter().map(|target| target["expr"].as_str().expect("a query").to_string()));
    }
    let rules: Vec<String> = document("alerts.yaml").lines().map(str::to_string).collect();
    let expressions = rules.iter().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_string);
    queries.extend(expressions);
    assert!(queries.len() > 15, "{queries:?}");
    for query in &queries {
        assert!(metrics_of(query).count() > 0, "{query}");
        for name in metrics_of(query) {
            assert!(known.contains(name), "{name} of {query} does not exist; {known:?}");
        }
    }
}
