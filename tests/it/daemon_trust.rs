//! No secret leaves, whatever a service says back.

use crate::daemon_hostile::{Canary, Hostile, Mood, postgres};
use crate::daemon_support::{Daemon, Place, intent, until};
use serde_json::{Value, json};
use std::process::Output;

/// Everything that a person or a program can get to see, with a name for each piece.
#[derive(Default)]
struct Hay(Vec<(String, Vec<u8>)>);

impl Hay {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((name.into(), bytes.into()));
    }

    fn output(&mut self, name: &str, output: Output) {
        self.add(format!("{name}: stdout"), output.stdout);
        self.add(format!("{name}: stderr"), output.stderr);
    }

    /// Body and headers of an answer.
    async fn answers(&mut self, daemon: &Daemon, ids: &[String]) {
        let mut paths: Vec<String> = [
            "/connections?namespace=autonomy&limit=1000",
            "/metrics/funnel?namespace=autonomy",
            "/metrics",
            "/",
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
        for path in paths {
            let told = daemon.get(&path).await;
            self.told(&path, &told);
        }
    }

    fn told(&mut self, name: &str, told: &crate::daemon_support::Told) {
        let text = match &told.body {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        self.add(format!("answer of {name}"), text);
        self.add(format!("headers of {name}"), format!("{:?}", told.headers));
    }

    fn must_not_hold(&self, canary: &Canary) {
        for (name, bytes) in &self.0 {
            if let Some(form) = canary.found_in(bytes) {
                let text = String::from_utf8_lossy(bytes);
                let at = text.find(&form).unwrap_or(0);
                let around: String = text.chars().skip(text[..at].chars().count().saturating_sub(200)).take(500).collect();
                panic!("{name} holds the secret as {form}:\n{around}");
            }
        }
    }
}

/// One source that knows its secret and tells it to everybody.
struct Case {
    canary: Canary,
    variable: &'static str,
    credential: String,
    source_type: &'static str,
    resource_id: String,
    hostile: Option<Hostile>,
}

async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let bearer = Canary::new("bearer");
    let service =
        Hostile::openapi(&bearer, r#"{"type":"http","scheme":"bearer"}"#, &["authorization"], format!("Bearer {}", bearer.value))
            .await;
    cases.push(Case {
        credential: bearer.value.clone(),
        canary: bearer,
        variable: "CANARY_BEARER",
        source_type: "openapi",
        resource_id: format!("{}/openapi.json", service.base),
        hostile: Some(service),
    });
    let basic = Canary::new("basic");
    let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("svc:{}", basic.value));
    let service =
        Hostile::openapi(&basic, r#"{"type":"http","scheme":"basic"}"#, &["authorization"], format!("Basic {pair}")).await;
    cases.push(Case {
        credential: json!({"username": "svc", "password": basic.value}).to_string(),
        canary: basic,
        variable: "CANARY_BASIC",
        source_type: "openapi",
        resource_id: format!("{}/openapi.json", service.base),
        hostile: Some(service),
    });
    let key = Canary::new("apikey");
    let service =
        Hostile::openapi(&key, r#"{"type":"apiKey","in":"header","name":"X-Api-Key"}"#, &["x-api-key"], key.value.clone()).await;
    cases.push(Case {
        credential: json!({"it": key.value}).to_string(),
        canary: key,
        variable: "CANARY_KEY",
        source_type: "openapi",
        resource_id: format!("{}/openapi.json", service.base),
        hostile: Some(service),
    });
    let secret = Canary::new("store");
    let store = Hostile::store(&secret).await;
    cases.push(Case {
        credential: json!({"access_key_id": "AKEXAMPLE", "secret_access_key": secret.value, "region": "eu-central-1"})
            .to_string(),
        canary: secret,
        variable: "CANARY_STORE",
        source_type: "s3_compat",
        resource_id: format!("{}/lake", store.base),
        hostile: Some(store),
    });
    let password = Canary::new("postgres");
    let address = postgres(&password).await;
    cases.push(Case {
        credential: format!("reader:{}", password.value),
        canary: password,
        variable: "CANARY_POSTGRES",
        source_type: "postgres",
        resource_id: format!("postgresql://{address}/shop?sslmode=disable"),
        hostile: None,
    });
    cases
}

// Commands are waited for on this thread while the services answer on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_any_log_file_row_answer_page_or_output() {
    let mut place = Place::new();
    let cases = cases().await;
    for case in &cases {
        place.set(case.variable, &case.credential);
        let mut intent = intent(case.source_type, &case.resource_id);
        intent["credential_locator"] = json!(format!("env:{}", case.variable));
        place.intent_file(&format!("{}.json", case.variable), &intent);
    }
    place.set("AAM_LOG", "trace");
    let mut hay = Hay::default();
    let daemon = place.serve().await;
    for case in &cases {
        let state = if case.hostile.is_some() { "ACTIVE" } else { "AWAITING_CREDENTIALS" };
        daemon.until_state(&case.resource_id, state).await;
    }
    let ids: Vec<String> =
        daemon.connections().await.iter().filter_map(|one| one["connection_id"].as_str().map(String::from)).collect();
    hay.answers(&daemon, &ids).await;
    for status in [401, 403, 404, 429, 500] {
        cases.iter().filter_map(|case| case.hostile.as_ref()).for_each(|hostile| hostile.set(Mood::Status(status)));
        for id in &ids {
            let told = daemon.post_with(&format!("/connections/{id}/heal"), &json!({}), "wait=5").await;
            hay.told(&format!("heal of {id} at {status}"), &told);
        }
        hay.answers(&daemon, &ids).await;
    }
    for case in &cases {
        // A secret in the place of its locator is refused, and the refusal does not repeat it.
        let mut careless = intent(case.source_type, &case.resource_id);
        careless["credential_locator"] = json!(case.canary.value);
        let told = daemon.push(&careless).await;
        assert_eq!(told.status, 422, "{}", told.body);
        hay.told("a push with a secret", &told);
        let batch = daemon.post("/connections/onboard/batch", &json!({"intents": [careless]})).await;
        hay.told("a batch with a secret", &batch);
    }
    for arguments in [&["status"][..], &["report"], &["plan"], &["check", "--effective"], &["verify"]] {
        for format in ["text", "json"] {
            hay.output(&format!("{arguments:?} {format}"), place.run(&[arguments, &["--format", format]].concat()));
        }
    }
    for id in &ids {
        hay.output("status of one", place.run(&["status", id]));
        hay.output("status of one, json", place.run(&["status", id, "--format", "json"]));
    }
    for mood in [Mood::Status(500), Mood::Good] {
        for case in &cases {
            if let Some(hostile) = &case.hostile {
                hostile.set(mood);
            }
            let file = place.path(&format!("intents/{}.json", case.variable)).display().to_string();
            for format in ["text", "json"] {
                let output = place.run(&["test", &file, "--format", format]);
                assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
                hay.output(&format!("test {} {format}", case.variable), output);
            }
        }
    }
    let log = daemon.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is as talkative as it can be");
    daemon.stop().await;
    hay.output("once", place.run(&["once"]));
    for (path, bytes) in place.left_behind() {
        hay.add(path.display().to_string(), bytes);
    }
    assert!(hay.0.iter().any(|(name, _)| name.ends_with("aam.db")), "the registry was searched");
    assert!(hay.0.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("[redacted]")), "services did say it");
    for case in &cases {
        hay.must_not_hold(&case.canary);
        for call in case.hostile.iter().flat_map(Hostile::seen) {
            assert_eq!(case.canary.found_in(call.as_bytes()), None, "a URL holds the secret: {call}");
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
    assert!(canary.found_in(format!("cut {}", &canary.value[..canary.value.len() - 2]).as_bytes()).is_some(), "a piece is found");
    assert_eq!(canary.found_in(b"nothing of the kind"), None);
    let planted = Hay(vec![("log".into(), canary.leak().into_bytes())]);
    assert!(std::panic::catch_unwind(|| planted.must_not_hold(&canary)).is_err(), "the check fails when it must");
}

fn with_locator(source_type: &str, resource_id: &str, locator: &str) -> Value {
    let mut intent = intent(source_type, resource_id);
    intent["credential_locator"] = json!(locator);
    intent
}

async fn words(daemon: &Daemon, resource_id: &str, state: &str) -> String {
    let one = daemon.until_state(resource_id, state).await;
    format!("{} {} {}", one["message"], one["error"]["title"], one["error"]["fix"])
}

#[tokio::test]
async fn a_secret_that_is_missing_wrong_rotated_and_right_again() {
    let mut place = Place::new();
    let (first, second) = (Canary::tame("first"), Canary::tame("second"));
    let service = |canary: &Canary| {
        let canary = canary.clone();
        async move {
            Hostile::openapi(
                &canary,
                r#"{"type":"http","scheme":"bearer"}"#,
                &["authorization"],
                format!("Bearer {}", canary.value),
            )
            .await
        }
    };
    let (never, rotated) = (service(&first).await, service(&second).await);
    let (never_id, rotated_id) = (format!("{}/openapi.json", never.base), format!("{}/openapi.json", rotated.base));
    place.intent_file("never.json", &with_locator("openapi", &never_id, "env:SECRET_NEVER"));
    place.intent_file("rotated.json", &with_locator("openapi", &rotated_id, "env:SECRET_ROTATED"));
    let daemon = place.serve().await;
    let told = words(&daemon, &rotated_id, "AWAITING_CREDENTIALS").await;
    assert!(told.contains("SECRET_ROTATED") && told.contains("is not set"), "{told}");
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["awaiting_credentials"], &funnel["eligible"]), (&json!(2), &json!(0)), "{funnel}");
    daemon.stop().await;

    place.set("SECRET_NEVER", "wrong-from-the-start");
    place.set("SECRET_ROTATED", &second.value);
    let daemon = place.serve().await;
    daemon.post("/connections/heal", &json!({})).await;
    daemon.until_state(&rotated_id, "ACTIVE").await;
    let told = words(&daemon, &never_id, "AWAITING_CREDENTIALS").await;
    assert!(
        told.contains("401") || told.contains("refuse") || told.contains("reject"),
        "a wrong secret was never active: {told}"
    );
    daemon.stop().await;

    place.set("SECRET_ROTATED", "revoked-meanwhile");
    let daemon = place.serve().await;
    let id = id_of(&daemon, &rotated_id).await;
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(healed.body["status"], "HEALING", "it was active before: {}", healed.body);
    assert_eq!(healed.body["error"]["class"], "credential_rejected", "{}", healed.body);
    daemon.stop().await;

    place.set("SECRET_ROTATED", &second.value);
    rotated.set(Mood::Status(500));
    let daemon = place.serve().await;
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_ne!(healed.body["status"], "ACTIVE", "the credential is right, the service is not: {}", healed.body);
    rotated.set(Mood::Good);
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(healed.body["status"], "ACTIVE", "{}", healed.body);
    let steps = healed.body["steps"].as_array().cloned().unwrap_or_default();
    let failed: Vec<&Value> = steps
        .iter()
        .filter(|step| step["status"] == "failed" || step["reason"].as_str().is_some_and(|why| why.starts_with("not run")))
        .collect();
    assert!(steps.len() == 7 && failed.is_empty(), "promoted by seven steps only: {steps:?}");
}

async fn id_of(daemon: &Daemon, resource_id: &str) -> String {
    let all = daemon.connections().await;
    let one = all.iter().find(|one| one["resource_ids"][0] == resource_id);
    one.and_then(|one| one["connection_id"].as_str()).expect("known").to_string()
}

#[tokio::test]
async fn locators_that_are_not_served_say_so_and_none_is_fine_where_none_is_needed() {
    let place = Place::new();
    let daemon = place.serve().await;
    for locator in ["vault:kv/aam#token", "consent:acme", "sp:acme-reader", "env:NOT_SET_ANYWHERE"] {
        let path = place.csv(&format!("{}.csv", locator.len()), 3);
        let told = daemon.push(&with_locator("filesource", &path, locator)).await;
        assert_eq!((told.status, &told.body["status"]), (201, &json!("AWAITING_CREDENTIALS")), "{}", told.body);
        let scheme = locator.split(':').next().unwrap_or_default();
        let error = told.body["error"].to_string();
        assert!(error.contains(scheme) || error.contains("NOT_SET_ANYWHERE"), "{error}");
        assert!(told.body["error"]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{error}");
    }
    let csv = place.csv("plain.csv", 3);
    assert_eq!(daemon.push(&intent("filesource", &csv)).await.body["status"], "ACTIVE");
    let mut null = intent("filesource", &place.csv("null.csv", 3));
    null["credential_locator"] = Value::Null;
    assert_eq!(daemon.push(&null).await.body["status"], "ACTIVE");
    let path = place.path("data/shop.sqlite");
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
