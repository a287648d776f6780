//! Every answer of the API holds only what its token may read: token kind by route, and what must not appear.

use crate::support::daemon::{Daemon, Workspace, intent, page_paths, stdout, until};
use aam::credentials::Secret;
use serde_json::{Value, json};

const ROUTES: [(&str, &str); 14] = [
    ("post", "/connections/onboard"),
    ("post", "/connections/onboard/batch"),
    ("get", "/connections"),
    ("post", "/connections/heal"),
    ("post", "/connections/{id}/heal"),
    ("get", "/connections/{id}"),
    ("get", "/connections/{id}/health"),
    ("get", "/connections/{id}/versions"),
    ("get", "/connections/{id}/catalog"),
    ("get", "/metrics/funnel"),
    ("get", "/metrics"),
    ("get", "/"),
    ("get", "/dashboard.json"),
    ("get", "/openapi.json"),
];

/// A token of the namespace `team_b` with these scopes.
fn token(workspace: &Workspace, name: &str, scopes: &str, namespaces: &str) -> (Secret, String) {
    let output = workspace.run(&["token", "new", "--name", name, "--format", "json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let sha256 = value["sha256"].as_str().expect("a digest");
    let entry = format!("{{name: {name}, sha256: \"{sha256}\", scopes: [{scopes}], namespaces: [{namespaces}]}}");
    (Secret::new(value["token"].as_str().expect("a token").to_string()), entry)
}

/// The status, headers and body of a response, as text.
async fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> (u16, String, Value) {
    let answer = if method == "get" { daemon.get(path).await } else { daemon.post(path, body).await };
    (answer.status, format!("{:?} {}", answer.headers, answer.body), answer.body)
}

#[tokio::test]
async fn no_answer_holds_what_another_namespace_or_scope_may_read() {
    let workspace = Workspace::new();
    // The connections of the policy's namespace have names and reasons that appear nowhere else.
    let hidden = workspace.csv("hidden_alpha.csv", 3);
    let missing = workspace.path("data/hidden_beta.csv").display().to_string();
    let mut waiting = intent("filesource", &workspace.csv("hidden_gamma.csv", 1));
    waiting["credential_locator"] = json!("env:HIDDEN_DELTA");
    waiting["owner"]["user"] = json!("hidden-epsilon@acme.example");
    let mut own = intent("filesource", &workspace.csv("own.csv", 2));
    own["namespace"] = json!("team_b");
    own["owner"]["user"] = json!("own-owner@acme.example");
    workspace.intent_file("hidden_zeta.json", &json!({ "source_type": "hidden_eta" }));
    workspace.intent_file("own.json", &own);
    let mut daemon = workspace.serve().await;
    for document in [&intent("filesource", &hidden), &intent("filesource", &missing), &waiting] {
        daemon.push(document).await;
    }
    daemon.until_state(&hidden, "ACTIVE").await;
    let ids: Vec<String> =
        daemon.connections().await.iter().map(|one| one["connection_id"].as_str().expect("id").into()).collect();
    until("the connection of team_b is ACTIVE", || async {
        let page = daemon.get("/connections?namespace=team_b").await.body;
        (page["connections"][0]["status"] == "ACTIVE", page.to_string())
    })
    .await;
    let own_id = daemon.get("/connections?namespace=team_b").await.body["connections"][0]["connection_id"].clone();
    let own_id = own_id.as_str().expect("id").to_string();

    let kinds = [
        ("writer", "intents:write"),
        ("reader", "registry:read"),
        ("healer", "ops:heal"),
        ("all", "intents:write, registry:read, ops:heal"),
    ];
    let tokens: Vec<(&str, Secret, String)> = kinds
        .iter()
        .map(|(name, scopes)| {
            let (secret, entry) = token(&workspace, name, scopes, "team_b");
            (*name, secret, entry)
        })
        .collect();
    let (main_reader, main_entry) = token(&workspace, "main_reader", "registry:read", "autonomy");
    let entries: Vec<&str> = tokens.iter().map(|(_, _, entry)| entry.as_str()).chain([main_entry.as_str()]).collect();
    workspace.write_policy(&format!("api: {{tokens: [{}]}}\n", entries.join(", ")));
    daemon.token = main_reader;
    until("the tokens are in force", || async {
        let status = daemon.get("/connections").await.status;
        (status == 200, status.to_string())
    })
    .await;
    // The cache must not give one caller what it rendered for another.
    let dashboard = daemon.get("/dashboard.json?namespace=autonomy").await.body.to_string();
    assert!(dashboard.contains("hidden_zeta.json") && dashboard.contains("hidden_alpha"), "the control: {dashboard}");

    for (kind, secret, _) in &tokens {
        daemon.token = secret.clone();
        for path in page_paths(&[&ids[..], std::slice::from_ref(&own_id)].concat()) {
            for query in ["", "?namespace=autonomy", "?namespace=team_b", "?namespace=team_b&all=true"] {
                let (status, text, _) = call(&daemon, "get", &format!("{path}{query}"), &json!({})).await;
                for secret in ["hidden_", "hidden-", "HIDDEN_"] {
                    assert!(!text.contains(secret), "{kind} {path}{query}: {status} {text}");
                }
            }
        }
        for (method, route) in ROUTES {
            for id in ids.iter().chain([&own_id]) {
                for query in ["", "?namespace=autonomy", "?namespace=team_b"] {
                    let takes_namespace = ["/connections", "/metrics/funnel", "/", "/dashboard.json"].contains(&route);
                    if !query.is_empty() && !takes_namespace {
                        continue;
                    }
                    let path = format!("{}{query}", route.replace("{id}", id));
                    let body = match route {
                        "/connections/onboard" => own.clone(),
                        "/connections/onboard/batch" => json!({ "intents": [own, intent("filesource", &hidden)] }),
                        "/connections/heal" => json!({ "namespace": "team_b", "state": "ACTIVE" }),
                        _ => json!({}),
                    };
                    let (status, text, value) = call(&daemon, method, &path, &body).await;
                    let what = format!("{kind} {method} {path}: {status} {text}");
                    for secret in ["hidden_", "hidden-", "HIDDEN_"] {
                        assert!(!text.contains(secret), "{what}");
                    }
                    assert!(value["funnel"].is_null() || value["funnel"]["namespace"] == "team_b", "{what}");
                    if *kind == "healer" {
                        assert!(!text.contains("own.csv") && !text.contains("own-owner"), "{what}");
                    }
                    if *kind == "writer" {
                        let one = if value["results"].is_array() { &value["results"][0] } else { &value };
                        let steps = one["steps"].as_array().cloned().unwrap_or_default();
                        assert!(steps.iter().all(|step| step["evidence"] == json!({})), "{what}");
                    }
                }
            }
        }
    }
    // What the tokens may do still works.
    daemon.token = tokens[0].1.clone();
    let batch = daemon.post("/connections/onboard/batch", &json!({ "intents": [own] })).await.body;
    assert_eq!((&batch["succeeded"], &batch["funnel"]), (&json!(1), &Value::Null), "{batch}");
    assert_eq!(batch["results"][0]["status"], "ACTIVE", "{batch}");
    daemon.token = tokens[2].1.clone();
    let healed = daemon.post(&format!("/connections/{own_id}/heal"), &json!({})).await.body;
    assert_eq!((&healed["status"], &healed["connection_id"]), (&json!("ACTIVE"), &json!(own_id)), "{healed}");
}
