//! Clients as they are: the calls of the predecessor's clients, batches and keys of a discovery tool, pages of a portal.

use crate::support::daemon::{ApiResponse, Daemon, Workspace, intent, until};
use crate::support::network::silent_address;
use aam::credentials::Secret;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Sends a request with headers of the test.
async fn send(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> ApiResponse {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let method = method.parse().expect("a method");
    let mut request = client.request(method, daemon.url(path)).bearer_auth(daemon.token.expose());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.expect("a response");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a body");
    ApiResponse { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

#[tokio::test]
async fn a_client_of_the_predecessor_finds_its_paths_and_fields() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    for path in ["/health", "/api/health", "/api/v1/aam/health", "/health/"] {
        let health = daemon.get(path).await;
        assert_eq!(
            (health.status, &health.body["status"], &health.body["ready"]),
            (200, &json!("healthy"), &json!(true)),
            "{path}"
        );
    }
    let good = intent("filesource", &workspace.csv("good.csv", 3));
    let missing = intent("filesource", &workspace.path("data/missing.csv").display().to_string());
    let pushed = daemon.post("/api/v1/aam/connections/onboard", &good).await;
    assert_eq!((pushed.status, &pushed.body["status"]), (201, &json!("ACTIVE")), "{}", pushed.body);
    let location = pushed.headers["location"].to_str().expect("a location").to_string();
    assert!(location.starts_with("/api/v1/aam/connections/"), "{location}");
    let batch = daemon.post("/api/v1/aam/connections/onboard/batch/", &json!({"intents": [good, missing]})).await;
    let counts = ["total", "succeeded", "active", "failed", "unsettled"].map(|name| batch.body[name].as_u64());
    assert_eq!((batch.status, counts), (200, [2, 2, 1, 0, 0].map(Some)), "{}", batch.body);
    let failed = &batch.body["results"][1];
    assert!(failed["error_message"].as_str().is_some_and(|text| text.contains(" Fix: ")), "{failed}");
    let listed = daemon.get("/api/v1/aam/connections?namespace=autonomy&status=active&tenant_id=7").await;
    assert_eq!((listed.status, &listed.body["total"]), (200, &json!(1)), "{}", listed.body);
    assert!(listed.headers["warning"].to_str().expect("text").contains("query parameter tenant_id is ignored"));
    let id = listed.body["connections"][0]["id"].as_str().expect("an id").to_string();
    for object in [daemon.get(&location).await.body, daemon.get(&format!("/api/v1/aam/connections/health/{id}")).await.body] {
        assert_eq!((&object["id"], &object["status"]), (&json!(id), &json!("ACTIVE")), "{object}");
        for field in ["name", "created_at", "updated_at", "last_health_check"] {
            assert!(object[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {object}");
        }
        assert!(object["error_message"].is_null() && object["error"].is_null(), "{object}");
    }
    let health = daemon.get("/connections/health?namespace=autonomy").await.body;
    assert_eq!((&health["total"], &health["healthy"]), (&json!(2), &json!(1)), "{health}");
    let before = daemon.get(&location).await.body["last_health_check"].clone();
    let checked = daemon.post(&format!("/connections/{id}/health-check"), &json!({})).await;
    assert_eq!((checked.status, &checked.body["health_status"]), (200, &json!("healthy")), "{}", checked.body);
    assert!(checked.body["last_health_check"].as_str() > before.as_str(), "{} after {before}", checked.body);
    let enforced = daemon.get("/api/v1/aam/metrics/funnel?enforce=slo").await;
    assert_eq!((enforced.status, &enforced.headers["x-slo-coverage"]), (503, &"0.5".parse().expect("a value")));
    assert_eq!(enforced.body["active"], 1, "the body is the funnel: {}", enforced.body);
    workspace.write_policy("api: {enforce_slo: true}\n");
    until("the policy enforces the SLO", || async {
        let status = daemon.get("/metrics/funnel").await.status;
        (status == 503, status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_batch_of_two_hundred_answers_within_its_time_whatever_the_sources_do() {
    let workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 500, resync: 1s}\n");
    let (silent, _) = silent_address().await;
    let fast = workspace.csv("fast.csv", 3);
    let daemon = workspace.serve().await;
    let mut intents: Vec<Value> = (0..199).map(|n| intent("openapi", &format!("http://{silent}/{n}/openapi.json"))).collect();
    intents.insert(100, intent("filesource", &fast));
    let started = Instant::now();
    let answer = send(&daemon, "POST", "/connections/onboard/batch", &[], Some(&json!({ "intents": intents }))).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let body = &answer.body;
    assert_eq!((answer.status, &answer.headers["location"]), (202, &"/connections".parse().expect("a value")));
    assert_eq!((&body["total"], &body["succeeded"], &body["failed"]), (&json!(200), &json!(200), &json!(0)), "{body}");
    assert_eq!((&body["active"], &body["unsettled"]), (&json!(1), &json!(199)), "{body}");
    let results = body["results"].as_array().expect("results");
    assert_eq!((&results[100]["http_status"], &results[100]["status"]), (&json!(201), &json!("ACTIVE")));
    for (n, item) in results.iter().enumerate().filter(|(n, _)| *n != 100) {
        assert_eq!((&item["index"], &item["http_status"], &item["status"]), (&json!(n), &json!(202), &json!("PENDING")));
        assert_eq!(item["location"], format!("/connections/{}", item["id"].as_str().expect("an id")));
    }
    let location = results[0]["location"].as_str().expect("a location");
    assert_eq!(daemon.get(location).await.body["status"], "PENDING");
    // The caller can shorten the wait.
    let started = Instant::now();
    let single = send(&daemon, "POST", "/connections/onboard", &[("prefer", "wait=0")], Some(&intents[0])).await;
    assert!(single.status == 202 && started.elapsed() < Duration::from_secs(5), "{} {:?}", single.status, started.elapsed());
}

#[tokio::test]
async fn a_key_gives_the_same_answer_also_after_a_restart_and_to_its_token_only() {
    let workspace = Workspace::new();
    let mut daemon = workspace.serve().await;
    let document = intent("filesource", &workspace.csv("a.csv", 3));
    let key = [("idempotency-key", "run-2026-11-08")];
    let first = send(&daemon, "POST", "/connections/onboard", &key, Some(&document)).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let rows = daemon.history(&first.body).await.len();
    assert_eq!(daemon.stop().await, Some(0));
    daemon = workspace.serve().await;
    let again = send(&daemon, "POST", "/connections/onboard", &key, Some(&document)).await;
    assert_eq!((again.status, &again.body), (201, &first.body), "the same answer");
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(daemon.history(&first.body).await.len(), rows, "nothing was done again");
    let other = intent("filesource", &workspace.csv("b.csv", 3));
    let refused = send(&daemon, "POST", "/connections/onboard", &key, Some(&other)).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("IDEMPOTENCY_KEY_REUSED")), "{}", refused.body);
    let fixed = send(&daemon, "POST", "/connections/onboard", &[("idempotency-key", "another")], Some(&other)).await;
    assert_eq!(fixed.status, 201, "the fix is a new key");
    daemon.kill();
    workspace.rows();
}

#[tokio::test]
async fn a_page_of_a_portal_works_once_the_policy_names_it() {
    let workspace = Workspace::new();
    let mut daemon = workspace.serve().await;
    let origin = [("origin", "https://portal.example"), ("sec-fetch-site", "cross-site")];
    let refused = send(&daemon, "GET", "/connections", &origin, None).await;
    let detail = refused.body["detail"].as_str().expect("a detail");
    assert!(refused.status == 403 && detail.contains("api.cors.origins"), "{detail}");
    workspace.write_policy("api: {cors: {origins: [\"https://portal.example\"]}, frame_ancestors: [\"https://portal.example\"], api_key_header: true}\n");
    until("the page may call", || async {
        let answer = send(&daemon, "GET", "/connections", &origin, None).await;
        (
            answer.status == 200 && answer.headers["access-control-allow-origin"] == "https://portal.example",
            answer.body.to_string(),
        )
    })
    .await;
    let asked = [origin.as_slice(), &[("access-control-request-method", "POST")]].concat();
    let token = std::mem::replace(&mut daemon.token, Secret::new("no-such-token".to_string()));
    let preflight = send(&daemon, "OPTIONS", "/connections/heal", &asked, None).await;
    assert_eq!(preflight.status, 204, "the browser sends no token with it: {}", preflight.body);
    let page = reqwest::Client::new().get(daemon.url("/")).header("x-api-key", token.expose()).send().await.expect("a page");
    assert_eq!(page.status().as_u16(), 200);
    assert!(page.headers().get("x-frame-options").is_none());
    assert!(page.headers()["content-security-policy"].to_str().expect("text").contains("frame-ancestors https://portal.example"));
    assert!(!daemon.log().contains(token.expose()), "the key is in no log");
}

#[tokio::test]
async fn lists_are_compressed_tagged_and_begin_where_the_client_stopped() {
    let workspace = Workspace::new();
    for n in 0..30 {
        workspace.intent_file(&format!("{n}.json"), &intent("filesource", &workspace.csv(&format!("{n}.csv"), 2)));
    }
    let daemon = workspace.serve().await;
    until("all are active", || async {
        let active = daemon.funnel().await["active"].clone();
        (active == 30, active.to_string())
    })
    .await;
    let path = "/connections?limit=1000";
    let plain = send(&daemon, "GET", path, &[("accept-encoding", "identity")], None).await;
    assert_eq!(plain.body["total"], 30);
    // The other client decompresses by itself.
    let raw = reqwest::Client::builder().no_proxy().no_gzip().build().expect("a client");
    let zipped = raw.get(daemon.url(path)).bearer_auth(daemon.token.expose()).header("accept-encoding", "gzip").send().await;
    let zipped = zipped.expect("a response");
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    let (bytes, mut text) = (zipped.bytes().await.expect("a body"), String::new());
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text).expect("gzip");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["total"], 30);
    let tag = plain.headers["etag"].to_str().expect("a tag").to_string();
    let again = send(&daemon, "GET", path, &[("if-none-match", &tag)], None).await;
    assert_eq!((again.status, &again.body), (304, &json!("")));
    let seq = plain.body["registry_seq"].as_u64().expect("a number");
    assert_eq!(daemon.get(&format!("/connections?updated_since={seq}")).await.body["total"], 0);
    workspace.intent_file("new.json", &intent("filesource", &workspace.csv("new.csv", 2)));
    until("the new one is listed", || async {
        let page = daemon.get(&format!("/connections?updated_since={seq}")).await.body;
        (page["total"] == 1 && page["connections"][0]["status"] == "ACTIVE", page.to_string())
    })
    .await;
    assert_eq!(send(&daemon, "GET", path, &[("if-none-match", &tag)], None).await.status, 200);
}
