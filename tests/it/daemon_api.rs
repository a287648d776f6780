//! Scopes of the API, agreement of the funnel in every view, and the effect of a changed policy.

use crate::support::daemon::{ApiResponse, Daemon, Workspace, intent, stdout, until};
use crate::support::leaky_service::{Canary, LeakyService};
use aam::credentials::Secret;
use serde_json::{Value, json};

/// A token and its entry for the policy, as `aam token new` prints them.
fn token(workspace: &Workspace, name: &str, scopes: &str, namespace: &str) -> (Secret, String) {
    let output = workspace.run(&["token", "new", "--name", name, "--format", "json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let entry = format!(
        "{{name: {name}, sha256: \"{}\", scopes: [{scopes}], namespaces: [{namespace}]}}",
        value["sha256"].as_str().expect("a digest")
    );
    (Secret::new(value["token"].as_str().expect("a token").to_string()), entry)
}

/// The scope that each endpoint requires; `None` if the endpoint does not require a token.
const ENDPOINTS: [(&str, &str, Option<&str>); 37] = [
    ("post", "/connections/onboard", Some("intents:write")),
    ("post", "/connections/onboard/batch", Some("intents:write")),
    ("get", "/connections", Some("registry:read")),
    ("post", "/connections/heal", Some("ops:heal")),
    ("post", "/connections/{id}/heal", Some("ops:heal")),
    ("post", "/connections/{id}/health-check", Some("ops:heal")),
    ("get", "/connections/health", Some("registry:read")),
    ("get", "/connections/health/{id}", Some("registry:read")),
    ("get", "/connections/{id}", Some("registry:read")),
    ("get", "/connections/{id}/health", Some("registry:read")),
    ("get", "/connections/{id}/versions", Some("registry:read")),
    ("get", "/connections/{id}/calls", Some("registry:read")),
    ("get", "/connections/{id}/catalog", Some("registry:read")),
    ("get", "/connections/{id}/drift", Some("registry:read")),
    ("post", "/connections/{id}/drift/acknowledge", Some("ops:confirm")),
    ("get", "/drift", Some("registry:read")),
    ("get", "/privileges", Some("registry:read")),
    ("get", "/catalogs", Some("registry:read")),
    ("get", "/plan", Some("registry:read")),
    ("delete", "/connections/{id}", Some("intents:write")),
    ("post", "/api/handoff/aod/receive", Some("intents:write")),
    ("get", "/api/handoff/aod", Some("registry:read")),
    ("get", "/api/handoff/aod/{handoff_id}", Some("registry:read")),
    ("get", "/holds", Some("registry:read")),
    ("post", "/holds/{digest}/confirm", Some("ops:confirm")),
    ("get", "/families", Some("registry:read")),
    ("get", "/families/{name}", Some("registry:read")),
    ("get", "/metrics/funnel", Some("registry:read")),
    ("get", "/metrics", Some("registry:read")),
    ("get", "/dashboard.json", Some("registry:read")),
    ("get", "/healthz", None),
    ("get", "/readyz", None),
    ("get", "/health", None),
    ("get", "/api/health", None),
    ("get", "/version", None),
    ("get", "/openapi.json", None),
    ("get", "/schemas/connection_intent.json", None),
];

/// The pages for people who have a link instead of a token; see `src/server/tests/consent.rs`. The endpoint for assistants,
/// whose tools have scopes of their own, is tested in `mcp.rs`.
const PAGES: [&str; 3] = ["/consent/{id}", "/consent/callback", "/mcp"];

/// The streams, which do not end by themselves; see `tests/it/events.rs`.
const STREAMS: [&str; 1] = ["/events"];

#[tokio::test]
async fn every_endpoint_requires_its_scope_and_tokens_are_reloaded() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    let mut daemon = workspace.serve().await;
    let id = daemon.push(&intent("filesource", &path)).await.body["connection_id"].as_str().expect("id").to_string();
    let second = intent("filesource", &workspace.csv("deleted.csv", 3));
    let deleted = daemon.push(&second).await.body["connection_id"].as_str().expect("id").to_string();
    let admin = std::mem::replace(&mut daemon.token, Secret::new(String::new()));
    let all = "intents:write, registry:read, ops:heal";
    let (writer, writes) = token(&workspace, "writer", "intents:write", "autonomy");
    let (reader, reads) = token(&workspace, "reader", "registry:read", "autonomy");
    let (healer, heals) = token(&workspace, "healer", "ops:heal", "autonomy");
    let (foreign, elsewhere) = token(&workspace, "foreign", all, "elsewhere");
    workspace.write_policy(&format!("api: {{tokens: [{writes}, {reads}, {heals}, {elsewhere}]}}\n"));
    daemon.token = reader.clone();
    until("the tokens are in force", || async {
        let status = daemon.get("/connections").await.status;
        (status == 200, status.to_string())
    })
    .await;
    let known = daemon.get("/openapi.json").await.body["paths"].clone();
    let methods = |item: &Value| item.as_object().map_or(0, serde_json::Map::len);
    let pages: usize = PAGES.iter().map(|path| methods(&known[*path])).sum();
    assert_eq!(
        known.as_object().into_iter().flatten().map(|(_, item)| methods(item)).sum::<usize>(),
        ENDPOINTS.len() + pages + STREAMS.len(),
        "every endpoint of the API description is in ENDPOINTS, PAGES or STREAMS: {known}"
    );
    assert!(PAGES.iter().chain(&STREAMS).all(|path| known.get(path).is_some()), "{known}");
    let unknown = Secret::new("aam_no-policy-has-this-token-0000000000000".to_string());
    let callers = [
        ("writer", &writer),
        ("reader", &reader),
        ("healer", &healer),
        ("foreign", &foreign),
        ("unknown", &unknown),
        ("admin", &admin),
    ];
    for (name, secret) in callers {
        daemon.token = secret.clone();
        for (method, path, scope) in ENDPOINTS {
            let target = path
                .replace("{id}", if method == "delete" { &deleted } else { &id })
                .replace("{name}", "github")
                .replace("{handoff_id}", "run");
            let response = call(&daemon, method, &target, &path_body(path, &workspace)).await;
            let has = match name {
                "writer" => scope == Some("intents:write"),
                "reader" => scope == Some("registry:read"),
                "healer" => scope == Some("ops:heal"),
                _ => true,
            };
            let what = format!("{name} {method} {path}: {} {}", response.status, response.body);
            match (scope, name) {
                (None, _) => assert_eq!(response.status, 200, "{what}"),
                (Some(_), "unknown" | "admin") => {
                    assert_eq!((response.status, &response.body["code"]), (401, &json!("TOKEN_UNKNOWN")), "{what}")
                }
                (Some(_), "foreign") if path == "/connections/onboard/batch" => {
                    assert_eq!((response.status, &response.body["results"][0]["http_status"]), (200, &json!(403)), "{what}");
                }
                // The metrics contain only the namespaces of the token.
                (Some(_), "foreign") if path == "/metrics" => {
                    assert!(!response.body.to_string().contains("namespace=\\\"autonomy\\\""), "{what}")
                }
                // What AAM knows about families is the same for all namespaces.
                (Some(_), "foreign") if path.starts_with("/families") => assert_eq!(response.status, 200, "{what}"),
                (Some(_), "foreign") => assert!(matches!(response.status, 403 | 404), "{what}"),
                (Some(_), _) if has => assert!(response.status < 400, "{what}"),
                (Some(scope), _) => {
                    assert_eq!((response.status, &response.body["code"]), (403, &json!("SCOPE_MISSING")), "{what}");
                    assert!(response.body["detail"].as_str().is_some_and(|detail| detail.contains(scope)), "{what}");
                }
            }
        }
    }
    // A token removed from the policy stops working at once; when no token is left, the admin token works again.
    workspace.write_policy("");
    daemon.token = admin;
    until("the admin token works again", || async {
        let status = daemon.get("/connections").await.status;
        (status == 200, status.to_string())
    })
    .await;
    daemon.token = reader;
    assert_eq!(daemon.get("/connections").await.status, 401);
}

fn path_body(path: &str, workspace: &Workspace) -> Value {
    let document = intent("filesource", &workspace.path("data/a.csv").display().to_string());
    match path {
        "/connections/onboard" => document,
        "/connections/onboard/batch" => json!({ "intents": [document] }),
        "/api/handoff/aod/receive" => {
            json!({"aod_discovery_id": "run", "tenant_id": "t", "entity_id": "e", "candidates": []})
        }
        _ => json!({}),
    }
}

async fn call(daemon: &Daemon, method: &str, path: &str, body: &Value) -> ApiResponse {
    match method {
        "get"
            if matches!(
                path,
                "/connections"
                    | "/connections/health"
                    | "/api/handoff/aod"
                    | "/holds"
                    | "/metrics/funnel"
                    | "/"
                    | "/dashboard.json"
            ) =>
        {
            daemon.get(&format!("{path}?namespace=autonomy")).await
        }
        "get" => daemon.get(path).await,
        "delete" => daemon.delete(path).await,
        _ => daemon.post(path, body).await,
    }
}

/// The funnel without the time at which it was computed.
fn numbers(funnel: &Value) -> Value {
    let mut funnel = funnel.clone();
    if let Some(fields) = funnel.as_object_mut() {
        fields.remove("as_of");
    }
    funnel
}

fn summary(funnel: &Value) -> String {
    let lines = funnel["summary"].as_array().cloned().unwrap_or_default();
    lines.iter().map(|line| format!("{}\n", line.as_str().unwrap_or_default())).collect()
}

#[tokio::test]
async fn the_funnel_is_the_same_everywhere_and_at_every_instant() {
    let workspace = Workspace::new();
    let (good, missing) = (workspace.csv("good.csv", 3), workspace.path("data/missing.csv").display().to_string());
    let daemon = workspace.serve().await;
    let empty = daemon.funnel().await;
    workspace.intent_file("good.json", &intent("filesource", &good));
    daemon.until_state(&good, "ACTIVE").await;
    let one = daemon.funnel().await;
    workspace.intent_file("missing.json", &intent("filesource", &missing));
    daemon.until_state(&missing, "ERROR").await;
    let mut waiting = intent("filesource", &workspace.csv("waiting.csv", 1));
    waiting["credential_locator"] = json!("env:NEVER_SET");
    let mut shadow = intent("filesource", &workspace.csv("shadow.csv", 1));
    shadow["evidence"]["status"] = json!("Shadow");
    assert_eq!(daemon.push(&waiting).await.body["status"], "AWAITING_CREDENTIALS");
    assert_eq!(daemon.push(&shadow).await.body["status"], "REJECTED");
    assert_eq!(daemon.push(&intent("no_such_system", "x")).await.status, 409);
    let full = daemon.funnel().await;
    for (field, wanted) in [
        ("received", 5),
        ("eligible", 2),
        ("reachable", 1),
        ("active", 1),
        ("error", 1),
        ("awaiting_credentials", 1),
        ("rejected", 1),
        ("unsupported_type", 1),
        ("pending", 0),
    ] {
        assert_eq!(full[field], wanted, "{field} of {full}");
    }
    std::fs::remove_file(workspace.path("intents/missing.json")).expect("remove");
    until("the retired connection is not counted any more", || async {
        let funnel = daemon.funnel().await;
        (funnel["received"] == 4 && funnel["error"] == 0 && funnel["eligible"] == 1, funnel.to_string())
    })
    .await;
    let last = daemon.funnel().await;
    assert!(last["slo_met"] == true && !last["blockers"].to_string().contains("missing.csv"), "{last}");
    for then in [&empty, &one, &full, &last] {
        let at = then["as_of"].as_str().expect("an instant");
        let again = daemon.get(&format!("/metrics/funnel?namespace=autonomy&at={at}")).await;
        assert_eq!(numbers(&again.body), numbers(then), "as of {at}");
        assert_eq!(stdout(&workspace.run(&["report", "--at", at])), summary(then), "aam report --at {at}");
    }
    let bad = daemon.get("/metrics/funnel?namespace=autonomy&at=yesterday").await;
    assert_eq!(bad.status, 400, "{}", bad.body);
    let shown = daemon.get("/dashboard.json").await.body;
    assert_eq!(numbers(&shown["funnel"]), numbers(&last));
    let page = daemon.get("/").await.body.as_str().unwrap_or_default().to_string();
    let sentence = format!(
        "{} of {} eligible connections are active; {} connections received",
        last["active"], last["eligible"], last["received"]
    );
    assert!(page.contains(&sentence), "{sentence} is not on the page");
    let json: Value = serde_json::from_str(&stdout(&workspace.run(&["report", "--format", "json"]))).expect("JSON");
    assert_eq!(numbers(&json), numbers(&last));
    let log = workspace.path("log");
    daemon.stop().await;
    let printed: String = std::fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("stdout: "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(printed.ends_with(&summary(&last)), "serve printed other lines:\n{printed}");
    assert_eq!(stdout(&workspace.run(&["once"])), summary(&last));
    assert_eq!(stdout(&workspace.run(&["report"])), summary(&last));
}

#[tokio::test]
async fn a_changed_policy_moves_the_connections_that_its_diff_names() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("policy");
    let service = LeakyService::bearer(&canary).await;
    workspace.set("SERVICE_TOKEN", &canary.value);
    let (file, url) = (workspace.csv("a.csv", 3), format!("{}/openapi.json", service.base));
    let mut risky = intent("filesource", &file);
    risky["risk_level"] = json!("high");
    let mut api = intent("openapi", &url);
    api["credential_locator"] = json!("env:SERVICE_TOKEN");
    workspace.intent_file("file.json", &risky);
    workspace.intent_file("api.json", &api);
    let daemon = workspace.serve().await;
    daemon.until_state(&file, "ACTIVE").await;
    daemon.until_state(&url, "ACTIVE").await;
    std::fs::create_dir(workspace.path("data/below")).expect("folder");
    let below = workspace.path("data/below").display().to_string();
    let changes = [
        ("allowlist: [openapi]\n".to_string(), &file, "UNSUPPORTED", "allowlist"),
        ("eligibility: {max_risk: med}\n".to_string(), &file, "REJECTED", "max_risk"),
        (format!("files: {{roots: [{below}]}}\n"), &file, "ERROR", "files.roots"),
        ("network: {allow_private: []}\n".to_string(), &url, "NETWORK_BLOCKED", "allow_private"),
    ];
    for (change, resource_id, state, setting) in changes {
        let old = std::fs::read(workspace.path("policy/policy.yaml")).expect("policy");
        workspace.replace("old.yaml", &old);
        workspace.write_policy(&change);
        let output = workspace.run(&["policy", "diff", "old.yaml", "policy/policy.yaml"]);
        let diff = stdout(&output);
        if state != "NETWORK_BLOCKED" {
            assert!(diff.contains(resource_id.as_str()), "the diff of {change} names the connection: {diff}");
        }
        let one = daemon.until_state(resource_id, state).await;
        let error = one["error"].to_string();
        assert!(error.contains(setting), "the error of {state} names {setting}: {error}");
        workspace.write_policy("");
        daemon.until_state(resource_id, "ACTIVE").await;
    }
}

/// The number of finished attempts in the history of a connection.
async fn attempts(daemon: &Daemon, id: &str) -> usize {
    let response = daemon.get(&format!("/connections/{id}/versions?limit=1000")).await;
    response.body.to_string().matches("attempt_finished").count()
}

#[tokio::test]
async fn a_spent_daily_budget_is_reported_survives_a_restart_and_ends_at_midnight_utc() {
    let mut workspace = Workspace::new();
    let offset = workspace.path("offset");
    workspace.set("AAM_TEST_CLOCK", &offset.display().to_string());
    let canary = Canary::alphanumeric("caps");
    let service = LeakyService::bearer(&canary).await;
    workspace.set("SERVICE_TOKEN", &canary.value);
    let caps =
        |day: u32| format!("caps: {{families: {{openapi: {{per_second: 100, burst: 100, per_day: {day}, concurrency: 2}}}}}}\n");
    // An attempt makes three calls, so the budget of a day is enough for the first attempt and for one heal.
    workspace.write_policy(&caps(6));
    let url = format!("{}/openapi.json", service.base);
    let mut api = intent("openapi", &url);
    api["credential_locator"] = json!("env:SERVICE_TOKEN");
    let daemon = workspace.serve().await;
    let one = daemon.push(&api).await.body;
    assert_eq!(one["status"], "ACTIVE", "{one}");
    let id = one["connection_id"].as_str().expect("id").to_string();
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    let calls = service.calls().len();
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body;
    let steps = healed["steps"].to_string();
    assert!(steps.contains("the daily budget of") && steps.contains("per_day"), "{healed}");
    assert_eq!(healed["status"], "ACTIVE", "a spent budget does not change the state: {healed}");
    assert_eq!(service.calls().len(), calls, "no request was sent");
    daemon.stop().await;
    let daemon = workspace.serve().await;
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body;
    assert!(healed["steps"].to_string().contains("the daily budget of"), "the counter survives the restart: {healed}");
    assert_eq!(service.calls().len(), calls, "no request was sent after the restart");
    workspace.replace("offset", b"86400000");
    until("the daemon retries by itself after midnight", || async { (service.calls().len() > calls, String::new()) }).await;
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body;
    assert!(!healed["steps"].to_string().contains("the daily budget of"), "the new day has its own budget: {healed}");

    // Larger caps do not affect any result, so no attempt runs again.
    until("no attempt is in flight", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        (shown["attempts_in_flight"] == 0, shown["attempts_in_flight"].to_string())
    })
    .await;
    let (before, digest) = (attempts(&daemon, &id).await, daemon.get("/dashboard.json").await.body["policy"]["digest"].clone());
    workspace.write_policy(&caps(3000));
    until("the caps are in force", || async {
        let now = daemon.get("/dashboard.json").await.body["policy"]["digest"].clone();
        (now != digest, now.to_string())
    })
    .await;
    let csv = workspace.csv("later.csv", 1);
    assert_eq!(daemon.push(&intent("filesource", &csv)).await.body["status"], "ACTIVE");
    assert_eq!(attempts(&daemon, &id).await, before, "a change of caps does not start an attempt");
}
