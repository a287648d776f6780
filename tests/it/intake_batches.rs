//! The forms of lists of intents, pushed and in files: envelopes, arrays, JSON lines and documents of YAML.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use serde_json::{Value, json};

const BATCH: &str = "/connections/onboard/batch";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_an_envelope_an_array_lines_documents_or_one_intent() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let (one, two) = (intent("filesource", &workspace.csv("a.csv", 3)), intent("filesource", &workspace.csv("b.csv", 3)));
    let bodies = [
        ("application/json", json!({"intents": [one, two]}).to_string(), 2),
        ("application/json", json!([one, two]).to_string(), 2),
        ("application/json", one.to_string(), 1),
        ("application/x-ndjson", format!("{one}\n{two}\n"), 2),
        ("application/jsonl; charset=utf-8", format!("{one}\n\n{two}"), 2),
        ("application/yaml", format!("{one}\n---\n{two}\n"), 2),
        ("text/yaml", format!("intents:\n- {one}\n- {two}\n"), 2),
    ];
    for (media_type, body, count) in bodies {
        let answer = daemon.post_text(BATCH, media_type, &body).await;
        assert_eq!(answer.status, 200, "{media_type}: {}", answer.body);
        assert_eq!((&answer.body["total"], &answer.body["succeeded"]), (&json!(count), &json!(count)), "{}", answer.body);
    }
    assert_eq!(daemon.connections().await.len(), 2, "every form means the same connections");
    let lines = format!("{one}\n{{oops\n{two}\n");
    let mixed = daemon.post_text(BATCH, "application/x-ndjson", &lines).await.body;
    assert_eq!((&mixed["total"], &mixed["failed"]), (&json!(3), &json!(1)), "{mixed}");
    let refused = &mixed["results"][1];
    assert_eq!((&refused["http_status"], &refused["problems"][0]["line"]), (&json!(422), &json!(2)), "{refused}");
    for body in [json!([one, two]).to_string(), json!({"intents": [one]}).to_string()] {
        let answer = daemon.post_text("/connections/onboard", "application/json", &body).await;
        assert_eq!(answer.status, 422);
        assert!(answer.body.to_string().contains("/connections/onboard/batch"), "the answer says what to do: {}", answer.body);
    }
    let yaml = daemon.post_text("/connections/onboard", "application/yaml", &one.to_string()).await;
    assert_eq!((yaml.status, &yaml.body["status"]), (200, &json!("ACTIVE")));
    let form = daemon.post_text(BATCH, "application/x-www-form-urlencoded", &one.to_string()).await;
    assert!(form.status == 415 && form.body.to_string().contains("application/x-ndjson"), "{}", form.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_hold_lists_in_every_form_and_other_names_are_ignored() {
    let workspace = Workspace::new();
    let paths: Vec<String> = (0..7).map(|at| workspace.csv(&format!("{at}.csv"), 1)).collect();
    let documents: Vec<Value> = paths.iter().map(|path| intent("filesource", path)).collect();
    let write = |name: &str, text: String| workspace.replace(&format!("intents/{name}"), text.as_bytes());
    write("envelope.json", json!({"intents": [documents[0]]}).to_string());
    write("lines.jsonl", format!("{}\n{}\n", documents[1], documents[2]));
    write("LINES.NDJSON", format!("{}\n", documents[3]));
    write("documents.yaml", format!("---\n{}\n---\n# nothing\n---\n- {}\n", documents[4], documents[5]));
    write("envelope.YML", format!("intents:\n- {}\n", documents[6]));
    for name in ["kustomization.yaml", "connection_intent.schema.json", "README.md", "a.json~", ".hidden.json", "a.json.swp"] {
        write(name, "not: an intent".to_string());
    }
    let check = workspace.run(&["check"]);
    let text = stdout(&check);
    assert_eq!(check.status.code(), Some(0), "{text}{}", stderr(&check));
    assert!(text.contains("5 files, 7 intents, 7 connections"), "{text}");
    assert!(text.contains("kustomization.yaml") && text.contains(".schema.json") && text.contains("README.md"), "{text}");
    let plan = stdout(&workspace.run(&["plan"]));
    assert!(paths.iter().all(|path| plan.contains(path)), "{plan}");
    for name in ["envelope.json", "lines.jsonl", "documents.yaml", "envelope.YML"] {
        let test = workspace.run(&["test", &workspace.path(&format!("intents/{name}")).display().to_string()]);
        assert_eq!(test.status.code(), Some(0), "{name}: {}{}", stdout(&test), stderr(&test));
    }
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
    let daemon = workspace.serve().await;
    for path in &paths {
        daemon.until_state(path, "ACTIVE").await;
    }
    // One bad line is reported with its position. The other lines count, and nothing of the file is withdrawn.
    write("lines.jsonl", format!("{}\n{{\"source_type\": 7}}\n{{oops\n", documents[1]));
    crate::support::daemon::until("the lines are reported", || async {
        let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
        (shown.contains("lines.jsonl") && shown.contains("/1/source_type"), shown)
    })
    .await;
    assert_eq!(daemon.funnel().await["active"], 7);
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains("lines.jsonl:2:17: /1/source_type") && check.contains("lines.jsonl:3:"), "{check}");
    // The end of a line withdraws what it desired.
    write("lines.jsonl", format!("{}\n", documents[1]));
    daemon.until_state(&paths[2], "RETIRED").await;
    assert_eq!(daemon.funnel().await["active"], 6);
}

#[test]
fn problems_of_lines_and_documents_have_their_positions() {
    let workspace = Workspace::new();
    let good = intent("filesource", &workspace.csv("a.csv", 1));
    let mut bad = intent("filesource", "x");
    bad["owner"]["confidence"] = json!(2);
    workspace.replace("intents/two.yaml", format!("{good}\n---\n- {good}\n- {bad}\n").as_bytes());
    workspace.replace("intents/lines.jsonl", format!("{good}\n\n{bad}\n").as_bytes());
    workspace.replace("intents/many.json", format!("{good}\n{good}\n").as_bytes());
    let check = workspace.run(&["check"]);
    let text = stdout(&check);
    assert_eq!(check.status.code(), Some(78), "{text}");
    for part in [
        "two.yaml:4:",
        "/1/1/owner/confidence",
        "lines.jsonl:3:",
        "/1/owner/confidence",
        "name a file with one intent per line *.jsonl",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
