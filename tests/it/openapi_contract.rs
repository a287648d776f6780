//! Real responses of the daemon against its own OpenAPI document, and the export of catalogs over a real socket.

use crate::support::daemon::{Daemon, Workspace, intent};
use serde_json::{Value, json};

/// A response with its media type and its text.
async fn fetch(daemon: &Daemon, method: &str, path: &str) -> (u16, String, String) {
    let client = reqwest::Client::new();
    let url = daemon.url(path);
    let request = if method == "get" { client.get(url) } else { client.post(url).json(&json!({})) };
    let answer = request.bearer_auth(daemon.token.expose()).send().await.expect("an answer");
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_string();
    (answer.status().as_u16(), kind, answer.text().await.expect("a whole body"))
}

/// Returns what is wrong with a response, according to the document.
fn problems(document: &Value, operation: &Value, status: u16, kind: &str, text: &str) -> Vec<String> {
    let described = operation["responses"].get(status.to_string()).unwrap_or(&operation["responses"]["default"]);
    let Some(content) = described["content"].get(kind) else { return vec![format!("{status} {kind} is not described")] };
    if !kind.contains("json") {
        return Vec::new();
    }
    let mut schema = json!({"components": document["components"], "allOf": [content["schema"]]});
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    // JSON lines are documents of their own.
    let bodies: Vec<&str> = if kind.contains("ndjson") { text.lines().collect() } else { vec![text] };
    let values = bodies.into_iter().map(|body| serde_json::from_str::<Value>(body).expect("JSON"));
    values
        .flat_map(|value| {
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_of_the_daemon_have_the_documented_form() {
    let workspace = Workspace::new();
    let (good, bad) = (workspace.csv("good.csv", 3), workspace.path("data/missing.csv").display().to_string());
    workspace.intent_file("good.json", &intent("filesource", &good));
    workspace.intent_file("bad.json", &intent("filesource", &bad));
    workspace.intent_file("unknown.json", &intent("slak", "acme"));
    let daemon = workspace.serve().await;
    let mut ids = Vec::new();
    for (resource, state) in [(good.as_str(), "ACTIVE"), (bad.as_str(), "ERROR"), ("acme", "UNSUPPORTED")] {
        ids.push(daemon.until_state(resource, state).await["connection_id"].as_str().expect("an id").to_string());
    }
    ids.push("8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e".to_string());
    let document = daemon.get("/openapi.json").await.body;
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        // An endless stream of events is tested elsewhere.
        for (method, operation) in
            item.as_object().expect("methods").iter().filter(|(method, _)| *method == "get" || path.ends_with("heal"))
        {
            if path == "/events" {
                continue;
            }
            let names = ["github", "nothing"].map(String::from);
            let values = if path.contains("{name}") { &names[..] } else { &ids[..] };
            for value in values {
                let target = path.replace("{id}", value).replace("{name}", value);
                let (status, kind, text) = fetch(&daemon, method, &target).await;
                let found = problems(&document, operation, status, &kind, &text);
                assert!(found.is_empty(), "{method} {target}: {status} {found:?}\n{text}");
                checked += 1;
            }
        }
    }
    assert!(checked > 80, "{checked} responses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_catalog_pulls_every_stream_and_the_response_ends_cleanly() {
    let workspace = Workspace::new();
    let files: Vec<String> = (0..12).map(|n| workspace.csv(&format!("f{n}.csv"), n + 1)).collect();
    for (n, file) in files.iter().enumerate() {
        workspace.intent_file(&format!("{n}.json"), &intent("filesource", file));
    }
    let daemon = workspace.serve().await;
    for file in &files {
        daemon.until_state(file, "ACTIVE").await;
    }
    let (status, kind, text) = fetch(&daemon, "get", "/catalogs?source_type=filesource").await;
    assert_eq!((status, kind.as_str()), (200, "application/x-ndjson; catalog=v1"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let mut streams: Vec<&str> = lines.iter().filter_map(|line| line["stream"].as_str()).collect();
    streams.sort_unstable();
    let mut expected: Vec<String> = (0..12).map(|n| format!("f{n}.csv")).collect();
    expected.sort();
    assert_eq!(streams, expected);
    let one = lines.iter().find(|line| line["stream"] == "f4.csv").expect("a line");
    assert_eq!(
        (&one["transport"], &one["health"]["status"], &one["last_sync"]["rows"]),
        (&json!("file"), &json!("ACTIVE"), &json!(5))
    );
    let names: Vec<&str> = one["fields"].as_array().into_iter().flatten().filter_map(|field| field["name"].as_str()).collect();
    assert_eq!(names, ["id", "name"]);
    // A source that is not ACTIVE any more is not exported.
    std::fs::remove_file(&files[4]).expect("removed");
    let path = format!("/connections/{}/heal", one["connection_id"].as_str().expect("an id"));
    let healed = daemon.post(&path, &json!({})).await;
    assert_ne!(healed.body["status"], "ACTIVE", "{}", healed.body);
    let (_, _, text) = fetch(&daemon, "get", "/catalogs").await;
    assert_eq!(text.lines().count(), 11);
    assert_eq!(daemon.stop().await, Some(0));
}
