//! No secret appears in any output, whatever a service sends back.

use crate::support::daemon::{ApiResponse, Daemon, Workspace, intent, intent_with_locator, page_paths, until};
use crate::support::leaky_service::{Canary, LeakMode, LeakyService, postgres};
use serde_json::{Value, json};
use std::process::Output;

/// Every output of AAM that a person or a program can read, with a name for each.
#[derive(Default)]
struct Outputs(Vec<(String, Vec<u8>)>);

impl Outputs {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((name.into(), bytes.into()));
    }

    fn output(&mut self, name: &str, output: Output) {
        self.add(format!("{name}: stdout"), output.stdout);
        self.add(format!("{name}: stderr"), output.stderr);
    }

    /// Adds the body and headers of each read endpoint.
    async fn api_responses(&mut self, daemon: &Daemon, ids: &[String]) {
        let mut paths: Vec<String> = [
            "/connections?namespace=autonomy&limit=1000",
            "/metrics/funnel?namespace=autonomy",
            "/metrics",
            "/dashboard.json",
            "/healthz",
            "/readyz",
            "/version",
            "/openapi.json",
            "/schemas/connection_intent.json",
            "/nowhere",
        ]
        .map(String::from)
        .into();
        for id in ids {
            paths.extend(["", "/health", "/versions?limit=1000", "/catalog"].map(|rest| format!("/connections/{id}{rest}")));
        }
        paths.extend(page_paths(ids));
        for path in paths {
            let response = daemon.get(&path).await;
            self.response(&path, &response);
        }
    }

    fn response(&mut self, name: &str, response: &ApiResponse) {
        let text = match &response.body {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        self.add(format!("body of {name}"), text);
        self.add(format!("headers of {name}"), format!("{:?}", response.headers));
    }

    fn assert_free_of(&self, canary: &Canary) {
        for (name, bytes) in &self.0 {
            if let Some(form) = canary.found_in(bytes) {
                let text = String::from_utf8_lossy(bytes);
                let at = text.find(&form).unwrap_or(0);
                let around: String = text.chars().skip(text[..at].chars().count().saturating_sub(200)).take(500).collect();
                panic!("{name} contains the secret as {form}:\n{around}");
            }
        }
    }
}

/// A source whose service sends its secret back in every response.
struct Case {
    canary: Canary,
    variable: &'static str,
    credential: String,
    source_type: &'static str,
    resource_id: String,
    service: Option<LeakyService>,
}

async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let bearer = Canary::new("bearer");
    let service = LeakyService::bearer(&bearer).await;
    cases.push(Case {
        credential: bearer.value.clone(),
        canary: bearer,
        variable: "CANARY_BEARER",
        source_type: "openapi",
        resource_id: format!("{}/openapi.json", service.base),
        service: Some(service),
    });
    let basic = Canary::new("basic");
    let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("svc:{}", basic.value));
    let service =
        LeakyService::openapi(&basic, r#"{"type":"http","scheme":"basic"}"#, &["authorization"], format!("Basic {pair}")).await;
    cases.push(Case {
        credential: json!({"username": "svc", "password": basic.value}).to_string(),
        canary: basic,
        variable: "CANARY_BASIC",
        source_type: "openapi",
        resource_id: format!("{}/openapi.json", service.base),
        service: Some(service),
    });
    let key = Canary::new("apikey");
    let service =
        LeakyService::openapi(&key, r#"{"type":"apiKey","in":"header","name":"X-Api-Key"}"#, &["x-api-key"], key.value.clone())
            .await;
    cases.push(Case {
        credential: json!({"it": key.value}).to_string(),
        canary: key,
        variable: "CANARY_KEY",
        source_type: "openapi",
        resource_id: format!("{}/openapi.json", service.base),
        service: Some(service),
    });
    let secret = Canary::new("store");
    let store = LeakyService::store(&secret).await;
    cases.push(Case {
        credential: json!({"access_key_id": "AKEXAMPLE", "secret_access_key": secret.value, "region": "eu-central-1"})
            .to_string(),
        canary: secret,
        variable: "CANARY_STORE",
        source_type: "s3_compat",
        resource_id: format!("{}/lake", store.base),
        service: Some(store),
    });
    let password = Canary::new("postgres");
    let address = postgres(&password).await;
    cases.push(Case {
        credential: format!("reader:{}", password.value),
        canary: password,
        variable: "CANARY_POSTGRES",
        source_type: "postgres",
        resource_id: format!("postgresql://{address}/shop?sslmode=disable"),
        service: None,
    });
    cases
}

// This thread waits for commands while the services answer on the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_any_log_file_row_response_page_or_output() {
    let mut workspace = Workspace::new();
    let cases = cases().await;
    for case in &cases {
        workspace.set(case.variable, &case.credential);
        let mut intent = intent(case.source_type, &case.resource_id);
        intent["credential_locator"] = json!(format!("env:{}", case.variable));
        workspace.intent_file(&format!("{}.json", case.variable), &intent);
    }
    workspace.set("AAM_LOG", "trace");
    let mut outputs = Outputs::default();
    let daemon = workspace.serve().await;
    for case in &cases {
        let state = if case.service.is_some() { "ACTIVE" } else { "AWAITING_CREDENTIALS" };
        daemon.until_state(&case.resource_id, state).await;
    }
    let ids: Vec<String> =
        daemon.connections().await.iter().filter_map(|one| one["connection_id"].as_str().map(String::from)).collect();
    outputs.api_responses(&daemon, &ids).await;
    for status in [401, 403, 404, 429, 500] {
        cases.iter().filter_map(|case| case.service.as_ref()).for_each(|service| service.set(LeakMode::Status(status)));
        for id in &ids {
            let response = daemon.post_with(&format!("/connections/{id}/heal"), &json!({}), "wait=5").await;
            outputs.response(&format!("heal of {id} at {status}"), &response);
        }
        outputs.api_responses(&daemon, &ids).await;
    }
    for case in &cases {
        // A secret in the place of the locator is refused, and the response does not contain it.
        let mut careless = intent(case.source_type, &case.resource_id);
        careless["credential_locator"] = json!(case.canary.value);
        let response = daemon.push(&careless).await;
        assert_eq!(response.status, 422, "{}", response.body);
        outputs.response("a push with a secret", &response);
        let batch = daemon.post("/connections/onboard/batch", &json!({"intents": [careless]})).await;
        outputs.response("a batch with a secret", &batch);
    }
    for arguments in [&["status"][..], &["report"], &["plan"], &["check", "--effective"], &["verify"]] {
        for format in ["text", "json"] {
            outputs.output(&format!("{arguments:?} {format}"), workspace.run(&[arguments, &["--format", format]].concat()));
        }
    }
    for id in &ids {
        outputs.output("status of one", workspace.run(&["status", id]));
        outputs.output("status of one, json", workspace.run(&["status", id, "--format", "json"]));
    }
    for mode in [LeakMode::Status(500), LeakMode::Authorizing] {
        for case in &cases {
            if let Some(service) = &case.service {
                service.set(mode);
            }
            let file = workspace.path(&format!("intents/{}.json", case.variable)).display().to_string();
            for format in ["text", "json"] {
                let output = workspace.run(&["test", &file, "--format", format]);
                assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
                outputs.output(&format!("test {} {format}", case.variable), output);
            }
        }
    }
    let log = daemon.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not at its most verbose level");
    daemon.stop().await;
    outputs.output("once", workspace.run(&["once"]));
    for (path, bytes) in workspace.files() {
        outputs.add(path.display().to_string(), bytes);
    }
    assert!(outputs.0.iter().any(|(name, _)| name.ends_with("aam.db")), "the registry was not searched");
    assert!(
        outputs.0.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("[redacted]")),
        "no service sent a secret back"
    );
    for case in &cases {
        outputs.assert_free_of(&case.canary);
        for call in case.service.iter().flat_map(LeakyService::calls) {
            assert_eq!(case.canary.found_in(call.as_bytes()), None, "a URL contains the secret: {call}");
        }
    }
}

#[test]
fn the_search_finds_a_planted_secret_in_every_form() {
    let canary = Canary::new("control");
    for form in canary.forms() {
        let text = format!("{{\"detail\": \"before {form} after\"}}");
        assert!(canary.found_in(text.as_bytes()).is_some(), "not found: {form}");
    }
    assert!(
        canary.found_in(format!("cut {}", &canary.value[..canary.value.len() - 2]).as_bytes()).is_some(),
        "a truncated secret was not found"
    );
    assert_eq!(canary.found_in(b"a text without the secret"), None);
    let planted = Outputs(vec![("log".into(), canary.leak().into_bytes())]);
    assert!(
        std::panic::catch_unwind(|| planted.assert_free_of(&canary)).is_err(),
        "the check does not fail for a planted secret"
    );
}

/// The message, title and fix of the connection once it has reached `state`.
async fn failure_text(daemon: &Daemon, resource_id: &str, state: &str) -> String {
    let one = daemon.until_state(resource_id, state).await;
    format!("{} {} {}", one["message"], one["error"]["title"], one["error"]["fix"])
}

#[tokio::test]
async fn a_connection_follows_its_secret_from_missing_to_wrong_to_rotated_to_right() {
    let mut workspace = Workspace::new();
    let (first, second) = (Canary::alphanumeric("first"), Canary::alphanumeric("second"));
    let service = |canary: &Canary| {
        let canary = canary.clone();
        async move { LeakyService::bearer(&canary).await }
    };
    let (never, rotated) = (service(&first).await, service(&second).await);
    let (never_id, rotated_id) = (format!("{}/openapi.json", never.base), format!("{}/openapi.json", rotated.base));
    workspace.intent_file("never.json", &intent_with_locator("openapi", &never_id, "env:SECRET_NEVER"));
    workspace.intent_file("rotated.json", &intent_with_locator("openapi", &rotated_id, "env:SECRET_ROTATED"));
    let daemon = workspace.serve().await;
    let text = failure_text(&daemon, &rotated_id, "AWAITING_CREDENTIALS").await;
    assert!(text.contains("SECRET_ROTATED") && text.contains("is not set"), "{text}");
    daemon.until_state(&never_id, "AWAITING_CREDENTIALS").await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["awaiting_credentials"], &funnel["eligible"]), (&json!(2), &json!(0)), "{funnel}");
    daemon.stop().await;

    workspace.set("SECRET_NEVER", "wrong-from-the-start");
    workspace.set("SECRET_ROTATED", &second.value);
    let daemon = workspace.serve().await;
    daemon.post("/connections/heal", &json!({})).await;
    daemon.until_state(&rotated_id, "ACTIVE").await;
    let text = failure_text(&daemon, &never_id, "AWAITING_CREDENTIALS").await;
    assert!(
        text.contains("401") || text.contains("refuse") || text.contains("reject"),
        "the failure does not say that the secret was rejected: {text}"
    );
    daemon.stop().await;

    workspace.set("SECRET_ROTATED", "revoked-meanwhile");
    let daemon = workspace.serve().await;
    let id = id_of(&daemon, &rotated_id).await;
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(healed.body["status"], "HEALING", "a connection that was ACTIVE before must be HEALING: {}", healed.body);
    assert_eq!(healed.body["error"]["class"], "credential_rejected", "{}", healed.body);
    daemon.stop().await;

    workspace.set("SECRET_ROTATED", &second.value);
    rotated.set(LeakMode::Status(500));
    let daemon = workspace.serve().await;
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_ne!(healed.body["status"], "ACTIVE", "the service still fails: {}", healed.body);
    rotated.set(LeakMode::Authorizing);
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(healed.body["status"], "ACTIVE", "{}", healed.body);
    let steps = healed.body["steps"].as_array().cloned().unwrap_or_default();
    let failed: Vec<&Value> = steps
        .iter()
        .filter(|step| step["status"] == "failed" || step["reason"].as_str().is_some_and(|why| why.starts_with("not run")))
        .collect();
    assert!(steps.len() == 7 && failed.is_empty(), "a connection becomes ACTIVE only after all seven steps: {steps:?}");
}

async fn id_of(daemon: &Daemon, resource_id: &str) -> String {
    let all = daemon.connections().await;
    let one = all.iter().find(|one| one["resource_ids"][0] == resource_id);
    one.and_then(|one| one["connection_id"].as_str()).expect("known").to_string()
}

#[tokio::test]
async fn unsupported_locators_are_explained_and_sources_without_a_credential_need_no_locator() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    for locator in ["vault:kv/aam#token", "consent:acme", "sp:acme-reader", "env:NOT_SET_ANYWHERE"] {
        let path = workspace.csv(&format!("{}.csv", locator.len()), 3);
        let response = daemon.push(&intent_with_locator("filesource", &path, locator)).await;
        assert_eq!((response.status, &response.body["status"]), (201, &json!("AWAITING_CREDENTIALS")), "{}", response.body);
        let name = locator.split([':', '#']).nth(1).unwrap_or_default();
        let error = response.body["error"].to_string();
        assert!(error.contains(name), "{error}");
        assert!(response.body["error"]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{error}");
    }
    let csv = workspace.csv("plain.csv", 3);
    assert_eq!(daemon.push(&intent("filesource", &csv)).await.body["status"], "ACTIVE");
    let mut null = intent("filesource", &workspace.csv("null.csv", 3));
    null["credential_locator"] = Value::Null;
    assert_eq!(daemon.push(&null).await.body["status"], "ACTIVE");
    let path = workspace.path("data/shop.sqlite");
    rusqlite::Connection::open(&path)
        .and_then(|db| db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);"))
        .expect("a database");
    assert_eq!(daemon.push(&intent("jdbc", &format!("jdbc:sqlite:{}", path.display()))).await.body["status"], "ACTIVE");
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["active"], &funnel["awaiting_credentials"]), (&json!(3), &json!(4)), "{funnel}");
    until("no attempt is in flight", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        (shown["attempts_in_flight"] == 0, shown["attempts_in_flight"].to_string())
    })
    .await;
}
