//! Every fix that the `openapi` engine prints: each test does what the fix says and gets out of the state.

use crate::support::openapi::{MockResponse, OpenApiRun, case, family, json_response, pasted, serve};
use aam::model::{Class, Failure};
use aam::policy::FamilyPolicy;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

const ROWS: &str = r#"[{"id":1},{"id":2}]"#;

fn plain() -> FamilyPolicy {
    FamilyPolicy::default()
}

fn not_found() -> MockResponse {
    (404, vec![("content-type", "application/json".to_string())], "{}".to_string())
}

/// Opens the service and runs every step. Returns the number of rows.
async fn rows(url: &str, credential: Option<&str>, family: FamilyPolicy) -> Result<u64, Failure> {
    let run = OpenApiRun::open(url, credential, family).await;
    run.health().await?;
    Ok(run.tiny(20).await?.rows)
}

/// A description of GET operations, each with its parameters.
fn description(operations: &[(&str, Value)]) -> String {
    let schema = json!({"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}});
    let get = |parameters: &Value| json!({"get": {"parameters": parameters, "responses": {"200": {"content": {"application/json": {"schema": schema}}}}}});
    let paths: serde_json::Map<String, Value> =
        operations.iter().map(|(path, parameters)| ((*path).to_string(), get(parameters))).collect();
    json!({"openapi": "3.0.3", "info": {"title": "T", "version": "1"}, "paths": paths}).to_string()
}

/// Serves `description` at `/openapi.json`, and `answer` for everything else.
async fn serve_with(
    description: String,
    answer: impl Fn(&str, &Request<Body>) -> MockResponse + Clone + Send + Sync + 'static,
) -> String {
    serve(move |path, request| match path {
        "/openapi.json" => json_response(description.clone()),
        path => answer(path, request),
    })
    .await
}

#[tokio::test]
async fn the_server_of_another_host_is_allowed_for_one_service() {
    let api = serve(|path, _| if path == "/v1/items" { json_response(ROWS) } else { not_found() }).await;
    let text = case("O2-no-content").replace("\"./\"", &format!("\"{api}/v1\""));
    let base = serve_with(text.clone(), |_, _| not_found()).await;
    let failure = rows(&base, None, plain()).await.unwrap_err();
    assert_eq!(failure.class, Class::EgressRefused);
    let policy = pasted(&failure.fix, "base_url", &format!("{api}/v1"), &format!("{api}/v1"));
    assert_eq!(rows(&base, None, policy.clone()).await, Ok(2));
    // The fix of the first service does not change the next one, and the next fix fits the policy that now has an entry.
    let next = serve_with(text, |_, _| not_found()).await;
    let failure = rows(&next, None, policy.clone()).await.unwrap_err();
    let entry = failure.fix.split("add to families.openapi.services in the policy: ").nth(1).unwrap();
    let mut both = policy;
    both.services.extend(family(&format!("families: {{openapi: {{services: [{entry}]}}}}")).services);
    assert_eq!((rows(&base, None, both.clone()).await, rows(&next, None, both).await), (Ok(2), Ok(2)));
}

#[tokio::test]
async fn the_server_of_an_operation_is_allowed_for_one_service() {
    let api = serve(|path, _| if path == "/v1/items" { json_response(ROWS) } else { not_found() }).await;
    let mut text: Value = serde_json::from_str(&description(&[("/items", json!([]))])).unwrap();
    text["paths"]["/items"]["get"]["servers"] = json!([{"url": format!("{api}/v1")}]);
    let base = serve_with(text.to_string(), |_, _| not_found()).await;
    let failure = rows(&base, None, plain()).await.unwrap_err();
    assert!(failure.detail.contains("1 operation has a server that AAM does not call"), "{failure:?}");
    let policy = pasted(&failure.fix, "base_url", &format!("{api}/v1"), &format!("{api}/v1"));
    assert_eq!(rows(&base, None, policy).await, Ok(2));
}

#[tokio::test]
async fn servers_that_are_not_valid_are_replaced() {
    let text = case("O2-no-content").replace("\"./\"", "\"https://{tenant}.example.net\"");
    let base = serve_with(text, |path, _| if path == "/v2/items" { json_response(ROWS) } else { not_found() }).await;
    let failure = rows(&base, None, plain()).await.unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
    let policy = pasted(&failure.fix, "base_url", &format!("{base}/v1"), &format!("{base}/v2"));
    assert_eq!(rows(&base, None, policy).await, Ok(2));
}

#[tokio::test]
async fn a_wrong_base_url_is_suspected_and_replaced() {
    let text = description(&[("/a", json!([])), ("/b", json!([])), ("/c", json!([]))]);
    for page in [false, true] {
        let text = text.clone();
        let base = serve(move |path, _| match path {
            "/v3/openapi.json" => json_response(text.clone()),
            "/v3/b" => json_response(ROWS),
            path if path.starts_with("/v3/") || !page => not_found(),
            _ => (200, vec![("content-type", "text/html".to_string())], "<html>".to_string()),
        })
        .await;
        let url = format!("{base}/v3/openapi.json");
        let failure = rows(&url, None, plain()).await.unwrap_err();
        let expected = if page { "did not return what the description promises" } else { "answered 404 for all 3 operations" };
        assert!(failure.title.contains(expected), "{failure:?}");
        assert!(failure.detail.contains("/a: ") && failure.detail.contains("/c: "), "{failure:?}");
        let policy = pasted(&failure.fix, "base_url", &format!("{base}/v3\""), &format!("{base}/v3\""));
        assert_eq!(rows(&url, None, policy).await, Ok(2));
    }
}

#[tokio::test]
async fn a_single_operation_that_is_not_found_suspects_the_base_url_too() {
    let text = description(&[("/a", json!([]))]);
    let base = serve(move |path, _| match path {
        "/v3/openapi.json" => json_response(text.clone()),
        "/v3/a" => json_response(ROWS),
        _ => not_found(),
    })
    .await;
    let url = format!("{base}/v3/openapi.json");
    let failure = rows(&url, None, plain()).await.unwrap_err();
    assert_eq!(failure.class, Class::NotFound);
    assert!(failure.title.contains("answered 404 for GET /a"), "{failure:?}");
    let policy = pasted(&failure.fix, "base_url", &format!("{base}/v3\""), &format!("{base}/v3\""));
    assert_eq!(rows(&url, None, policy).await, Ok(2));
}

#[tokio::test]
async fn a_path_of_the_policy_is_checked_and_read() {
    let id = json!([{"name": "team", "in": "path", "required": true, "schema": {"type": "string"}}]);
    let operations = [
        ("/teams/{team}/items", id.clone()),
        ("/teams/{team}/users", id),
        ("/logout", json!([])),
        ("/keys", json!([{"name": "X-Api-Key", "in": "header", "required": true, "schema": {"type": "string"}}])),
    ];
    let base = serve_with(description(&operations), |path, request| match (path, request.uri().query()) {
        ("/teams/7/items", Some("state=open")) => json_response(ROWS),
        ("/inventory", _) => json_response(r#"{"data":[{"id":1},{"id":2},{"id":3}]}"#),
        ("/status", _) => json_response(r#"{"ok":true}"#),
        _ => not_found(),
    })
    .await;
    let failure = rows(&base, None, plain()).await.unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
    assert_eq!(failure.title, "none of the 4 GET operations of the description can be called");
    for reason in [
        "3 operations need a value that the description does not give (",
        "/teams/{team}/items: the path parameter team is required",
        "1 operation has a name that suggests a side effect or a secret (/logout: its name suggests",
        "auth: {header: X-Api-Key}",
    ] {
        assert!(failure.detail.contains(reason), "{reason}: {}", failure.detail);
    }
    for (path, expected) in [("\"/teams/7/items?state=open\"", 2), ("/inventory", 3), ("/status", 1)] {
        let policy = pasted(&failure.fix, "health_path", "/v1/status", path);
        assert_eq!(rows(&base, None, policy).await, Ok(expected), "{path}");
    }
    // An entry that exists is named, because a second one with the same match would not apply.
    let policy = pasted(&failure.fix, "health_path", "/v1/status", "/gone");
    let failure = rows(&base, None, policy).await.unwrap_err();
    let expected =
        format!("set health_path: /v1/status in the policy's entry of families.openapi.services with match: \"{base}/\"");
    assert!(failure.fix.contains(&expected), "{failure:?}");
}

#[tokio::test]
async fn a_path_that_the_policy_also_denies_is_replaced() {
    let base = serve_with(description(&[("/a", json!([])), ("/b", json!([]))]), |_, _| json_response(ROWS)).await;
    let denied = family("families: {openapi: {health_path: /a, deny_operations: [/a]}}");
    let failure = rows(&base, None, denied.clone()).await.unwrap_err();
    let services = pasted(&failure.fix, "health_path", "/v1/status", "/b").services;
    assert_eq!(rows(&base, None, FamilyPolicy { services, ..denied }).await, Ok(2));
}

#[tokio::test]
async fn the_policy_says_how_to_send_the_credential() {
    let keyed = |path: &str, request: &Request<Body>| match request.headers().get("x-acme-key") {
        Some(key) if key == "k1" && path == "/items" => json_response(ROWS),
        _ => (401, Vec::new(), String::new()),
    };
    let mut bearer: Value = serde_json::from_str(&case("O4-authorization-parameter")).unwrap();
    let mut query = bearer.clone();
    query["components"]["securitySchemes"]["b"] = json!({"type": "apiKey", "in": "query", "name": "key"});
    bearer["info"]["title"] = "says bearer, but expects a header".into();
    let parameter = description(&[(
        "/items",
        json!([{"name": "X-Acme-Key", "in": "header", "required": true, "schema": {"type": "string"}}]),
    )]);
    for (text, class) in [
        (case("O1-no-security-401"), Class::Misconfigured),
        (bearer.to_string(), Class::CredentialRejected),
        (query.to_string(), Class::Unsupported),
    ] {
        let base = serve_with(text, keyed).await;
        let failure = rows(&base, Some("k1"), plain()).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure:?}");
        let policy = pasted(&failure.fix, "auth: {header", "X-Api-Key", "X-Acme-Key");
        assert_eq!(rows(&base, Some("k1"), policy).await, Ok(2), "{failure:?}");
    }
    // A key that is described as a parameter is the credential if the policy says so.
    let base = serve_with(parameter, keyed).await;
    let failure = rows(&base, Some("k1"), plain()).await.unwrap_err();
    assert!(failure.detail.contains("auth: {header: X-Acme-Key}"), "{failure:?}");
    let policy = family(&format!("families: {{openapi: {{services: [{{match: \"{base}\", auth: {{header: X-Acme-Key}}}}]}}}}"));
    assert_eq!(rows(&base, Some("k1"), policy).await, Ok(2));
}

#[tokio::test]
async fn a_credential_is_named_or_replaced() {
    let base = serve_with(case("O4-authorization-parameter"), |_, request| match request.headers().get("authorization") {
        Some(value) if value == "Bearer good" => json_response(ROWS),
        _ => (401, Vec::new(), String::new()),
    })
    .await;
    let missing = rows(&base, None, plain()).await.unwrap_err();
    assert!(missing.class == Class::CredentialMissing && missing.fix.contains("set credential_locator"), "{missing:?}");
    let open = serve_with(case("O4-authorization-parameter"), |_, _| json_response(ROWS)).await;
    let failure = rows(&open, None, plain()).await.unwrap_err();
    assert_eq!(rows(&open, None, pasted(&failure.fix, "auth", "none", "none")).await, Ok(2), "the service does not need one");
    let unfit = rows(&base, Some(r#"{"client_id":"x"}"#), plain()).await.unwrap_err();
    assert!(unfit.class == Class::CredentialMissing && unfit.fix.starts_with("store where credential_locator"), "{unfit:?}");
    let wrong = rows(&base, Some("bad"), plain()).await.unwrap_err();
    assert!(wrong.class == Class::CredentialRejected && wrong.fix.starts_with("store a valid credential"), "{wrong:?}");
    assert_eq!(rows(&base, Some("good"), plain()).await, Ok(2));
}

#[tokio::test]
async fn a_response_that_is_too_long_is_replaced_by_a_shorter_one() {
    let base = serve_with(description(&[("/items", json!([]))]), |_, request| match request.uri().query() {
        Some("limit=20") => json_response(ROWS),
        _ => json_response(format!("[\"{}\"]", "x".repeat(5 << 20))),
    })
    .await;
    let failure = rows(&base, None, plain()).await.unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
    assert!(failure.title.contains("longer than 4 MiB, the limit of AAM"), "{failure:?}");
    let policy = pasted(&failure.fix, "health_path", "/items?limit=20", "/items?limit=20");
    assert_eq!(rows(&base, None, policy).await, Ok(2));
}

#[tokio::test]
async fn a_wrong_address_of_the_description_is_replaced_by_that_of_the_service() {
    let text = case("O2-no-content").replace("\"./\"", "\"/\"");
    let base = serve(move |path, _| match path {
        "/v3/api-docs" => json_response(text.clone()),
        "/items" => json_response(ROWS),
        _ => not_found(),
    })
    .await;
    let failure = rows(&format!("{base}/openapi.json"), None, plain()).await.unwrap_err();
    assert!(failure.class == Class::NotFound && failure.title.contains("answered 404"), "{failure:?}");
    assert!(failure.fix.contains(&format!("write {base}/ there")), "{failure:?}");
    assert_eq!(rows(&format!("{base}/"), None, plain()).await, Ok(2));
}

#[tokio::test]
async fn a_description_over_a_limit_is_replaced_by_a_smaller_one() {
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let many = format!("[{}]", vec!["1"; 500_001].join(","));
    let long = format!("\"{}\"", "x".repeat(9 << 20));
    for (value, limit) in [(deep, "nested deeper than 96"), (many, "more than 500000 values"), (long, "more than 8 MiB")] {
        let big = case("O2-no-content").replacen('{', &format!("{{\"x-big\":{value},"), 1);
        let small = case("O2-no-content");
        let base = serve(move |path, _| match path {
            "/openapi.json" => json_response(big.clone()),
            "/small.json" => json_response(small.clone()),
            "/items" => json_response(ROWS),
            _ => not_found(),
        })
        .await;
        let failure = rows(&format!("{base}/openapi.json"), None, plain()).await.unwrap_err();
        assert_eq!(failure.class, Class::Unsupported, "{failure:?}");
        assert!(failure.title.contains(limit) && failure.title.contains("a limit of AAM"), "{failure:?}");
        assert_eq!(rows(&format!("{base}/small.json"), None, plain()).await, Ok(2));
    }
}
