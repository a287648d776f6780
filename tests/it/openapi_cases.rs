//! The `openapi` engine with descriptions and responses that real services have: the files of `tests/data/openapi` and
//! their siblings.

use crate::support::openapi::{MockResponse, OpenApiRun, case, family, json_response, serve};
use aam::model::{Class, Failure};
use aam::policy::FamilyPolicy;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const ROWS: &str = r#"[{"id":1},{"id":2}]"#;

fn plain() -> FamilyPolicy {
    FamilyPolicy::default()
}

fn status(code: u16) -> MockResponse {
    (code, vec![("content-type", "application/json".to_string())], r#"{"message":"a message of the service"}"#.to_string())
}

/// Serves the case `name` at `/openapi.json`, and everything else with `answer`, which receives the path and the value of the
/// header `authorization`.
async fn serve_case(name: &str, answer: impl Fn(&str, Option<&str>) -> MockResponse + Clone + Send + Sync + 'static) -> String {
    serve_description(case(name), answer).await
}

async fn serve_description(
    description: String,
    answer: impl Fn(&str, Option<&str>) -> MockResponse + Clone + Send + Sync + 'static,
) -> String {
    serve(move |path, request| match path {
        "/openapi.json" => json_response(description.clone()),
        path => answer(path, request.headers().get("authorization").and_then(|value| value.to_str().ok())),
    })
    .await
}

/// Opens the service, and runs discovery, the health check and the tiny sync. Returns the number of rows.
async fn rows(run: &OpenApiRun) -> Result<u64, Failure> {
    run.health().await?;
    Ok(run.tiny(20).await?.rows)
}

/// A description whose paths are lists of objects with an id.
fn lists(paths: &[&str]) -> String {
    let schema = json!({"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}});
    let get = json!({"get": {"responses": {"200": {"description": "all", "content": {"application/json": {"schema": schema}}}}}});
    let paths: serde_json::Map<String, Value> = paths.iter().map(|path| ((*path).to_string(), get.clone())).collect();
    json!({"openapi": "3.0.3", "info": {"title": "T", "version": "1"}, "paths": paths}).to_string()
}

#[tokio::test]
async fn o1_a_challenge_says_how_to_send_the_credential() {
    for (challenge, credential, expected) in [
        ("Bearer realm=\"x\"", "a-token-1", "Bearer a-token-1"),
        ("Basic realm=\"x\"", "u:p", "Basic dTpw"),
        ("Negotiate, Basic realm=\"Bearer, x\"", "u:p", "Basic dTpw"),
    ] {
        let base = serve_case("O1-no-security-401", move |_, authorization| match authorization {
            Some(value) if value == expected => json_response(ROWS),
            _ => (401, vec![("www-authenticate", challenge.to_string())], String::new()),
        })
        .await;
        let run = OpenApiRun::open(&base, Some(credential), plain()).await;
        assert_eq!(rows(&run).await, Ok(2), "{challenge}");
        // The first call shows that a credential is needed; the later ones send it at once.
        let sent = Some(expected.to_string());
        assert_eq!(run.headers("/items", "authorization"), [None, sent.clone(), sent], "{challenge}");
        assert_eq!(run.headers("/openapi.json", "authorization"), [None]);
        assert!(run.health().await.unwrap()["security"].as_str().unwrap().ends_with("of WWW-Authenticate"));
        let wrong = OpenApiRun::open(&base, Some("wr:ong"), plain()).await.health().await.unwrap_err();
        assert_eq!(wrong.class, Class::CredentialRejected, "{wrong:?}");
        let missing = OpenApiRun::open(&base, None, plain()).await.health().await.unwrap_err();
        assert_eq!(missing.class, Class::CredentialMissing, "{missing:?}");
    }
}

#[tokio::test]
async fn o1_a_scheme_that_is_declared_but_not_required_is_used_after_a_refusal() {
    let mut description: Value = serde_json::from_str(&case("O1-no-security-401")).unwrap();
    description["components"] = json!({"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}}});
    let description = description.to_string();
    let base = serve(move |path, request| match path {
        "/openapi.json" => json_response(description.clone()),
        _ if request.headers().get("x-api-key").is_some_and(|value| value == "k1") => json_response(ROWS),
        _ => status(403),
    })
    .await;
    let run = OpenApiRun::open(&base, Some("k1"), plain()).await;
    assert_eq!(rows(&run).await, Ok(2));
}

#[tokio::test]
async fn o1_the_policy_says_how_to_send_the_credential_of_one_service() {
    let base = serve(|path, request| match path {
        "/openapi.json" => json_response(case("O1-no-security-401")),
        _ if request.headers().get("x-api-key").is_some_and(|value| value == "k1") => json_response(ROWS),
        _ => status(401),
    })
    .await;
    let policy = |text: &str| family(&format!("families: {{openapi: {{services: [{{match: \"{base}/*\", {text}}}]}}}}"));
    let run = OpenApiRun::open(&base, Some("k1"), policy("auth: {header: X-Api-Key}")).await;
    assert_eq!(rows(&run).await, Ok(2));
    assert!(run.headers("/items", "x-api-key").iter().all(|value| value.as_deref() == Some("k1")));
    assert_eq!(run.headers("/openapi.json", "x-api-key"), [None], "the description is public");
    let bearer = OpenApiRun::open(&base, Some("k1"), policy("auth: bearer")).await.health().await.unwrap_err();
    assert_eq!(bearer.class, Class::CredentialRejected, "{bearer:?}");
    let missing = OpenApiRun::open(&base, None, policy("auth: basic")).await.health().await.unwrap_err();
    assert_eq!(missing.class, Class::CredentialMissing, "{missing:?}");
    let unnamed = OpenApiRun::open(&base, Some("k1"), plain()).await.health().await.unwrap_err();
    assert!(unnamed.title.contains("neither its description nor its response says how"), "{unnamed:?}");
}

#[tokio::test]
async fn o1_the_credential_is_never_sent_to_another_host() {
    let leaked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&leaked);
    let other = serve(move |_, request| {
        counter.fetch_add(usize::from(request.headers().contains_key("authorization")), Ordering::SeqCst);
        (401, vec![("www-authenticate", "Bearer".to_string())], String::new())
    })
    .await;
    let target = other.clone();
    let redirecting =
        serve_case("O1-no-security-401", move |_, _| (302, vec![("location", format!("{target}/items"))], String::new())).await;
    let run = OpenApiRun::open(&redirecting, Some("a-token-1"), plain()).await;
    assert_eq!(run.health().await.unwrap_err().class, Class::EgressRefused);
    let elsewhere = case("O1-no-security-401").replace("\"./\"", &format!("\"{other}\""));
    let base = serve_description(elsewhere, |_, _| status(404)).await;
    assert_eq!(OpenApiRun::open(&base, Some("a-token-1"), plain()).await.opened.err().unwrap().class, Class::EgressRefused);
    assert_eq!(leaked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn o2_o3_responses_without_a_described_structure_are_read() {
    for (name, path) in [("O2-no-content", "/items"), ("O3-default-error", "/a")] {
        for (body, expected) in
            [(ROWS, 2), (r#"{"items":[{"id":1}],"a":[{"id":1}]}"#, 1), (r#"{"id":1,"name":"x"}"#, 1), ("[]", 0), ("null", 0)]
        {
            let base = serve_case(name, move |found, _| if found == path { json_response(body) } else { status(404) }).await;
            let run = OpenApiRun::open(&base, None, plain()).await;
            assert_eq!(rows(&run).await, Ok(expected), "{name} {body}");
        }
        let html = serve_case(name, |_, _| (200, vec![("content-type", "text/html".into())], "<html>".into())).await;
        let failure = OpenApiRun::open(&html, None, plain()).await.health().await.unwrap_err();
        assert_eq!(failure.class, Class::WrongService, "any web server would pass: {failure:?}");
    }
}

#[tokio::test]
async fn o3_the_error_of_default_does_not_describe_a_success() {
    let mut description: Value = serde_json::from_str(&case("O3-default-error")).unwrap();
    description["paths"]["/a"]["get"]["responses"].as_object_mut().unwrap().remove("200");
    for description in [case("O3-default-error"), description.to_string()] {
        let base = serve_description(description, |_, _| json_response(r#"{"other":1}"#)).await;
        assert_eq!(rows(&OpenApiRun::open(&base, None, plain()).await).await, Ok(1));
    }
}

#[tokio::test]
async fn o4_header_parameters_that_the_specification_ignores_are_not_needed() {
    for name in ["Authorization", "accept", "Content-Type"] {
        let description = case("O4-authorization-parameter").replace("\"Authorization\"", &format!("\"{name}\""));
        let base = serve_description(description, |_, authorization| match authorization {
            Some("Bearer a-token-1") => json_response(ROWS),
            _ => status(401),
        })
        .await;
        let run = OpenApiRun::open(&base, Some("a-token-1"), plain()).await;
        assert_eq!(rows(&run).await, Ok(2), "{name}");
    }
}

#[tokio::test]
async fn o5_operations_with_side_effects_are_never_called() {
    let base = serve_case("O5-logout-first", |_, _| json_response(ROWS)).await;
    let run = OpenApiRun::open(&base, None, plain()).await;
    assert_eq!(rows(&run).await, Ok(2));
    assert_eq!(run.paths(), ["/openapi.json", "/items", "/items"]);
    let catalog = run.discover().await.unwrap().catalog;
    let logout = catalog.streams.iter().find(|stream| stream.name == "logout").unwrap();
    assert_eq!(logout.json_schema["x-aam"]["callable"], false);
    // The names count wherever they are, and the first words of a summary count too.
    let mut description: Value =
        serde_json::from_str(&lists(&["/a-reset/x", "/b", "/c", "/cart", "/d", "/exports-list", "/session/sign-out"])).unwrap();
    description["paths"]["/b"]["get"]["operationId"] = "rotateApiKey".into();
    description["paths"]["/c"]["get"]["summary"] = "Deletes the current user".into();
    description["paths"]["/d"]["get"]["deprecated"] = true.into();
    let base = serve_description(description.to_string(), |_, _| json_response(ROWS)).await;
    let run = OpenApiRun::open(&base, None, plain()).await;
    assert_eq!(rows(&run).await, Ok(2));
    assert_eq!(run.paths(), ["/openapi.json", "/exports-list", "/exports-list"]);
}

#[tokio::test]
async fn the_description_is_not_taken_for_data() {
    let mut description: Value = serde_json::from_str(&lists(&["/items"])).unwrap();
    description["paths"]["/openapi.json"] = description["paths"]["/items"].clone();
    description["paths"]["/openapi.json"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = json!({});
    description["paths"]["/items"]["get"]["responses"] = json!({});
    let base = serve_description(description.to_string(), |_, _| json_response(ROWS)).await;
    let run = OpenApiRun::open(&base, None, plain()).await;
    assert_eq!((rows(&run).await, run.paths().last().unwrap().as_str()), (Ok(2), "/items"));
    let base = serve_description(description.to_string(), |_, _| status(500)).await;
    assert_eq!(OpenApiRun::open(&base, None, plain()).await.health().await.unwrap_err().class, Class::Remote);
}

#[tokio::test]
async fn o6_a_response_may_be_an_object_or_a_list() {
    for (body, expected) in [(ROWS, 2), (r#"{"e":1}"#, 1), ("[]", 0), ("null", 0)] {
        let base = serve_case("O6-oneof", move |_, _| json_response(body)).await;
        assert_eq!(rows(&OpenApiRun::open(&base, None, plain()).await).await, Ok(expected), "{body}");
    }
    let base = serve_case("O6-oneof", |_, _| json_response("7")).await;
    assert_eq!(OpenApiRun::open(&base, None, plain()).await.health().await.unwrap_err().class, Class::WrongService);
}

#[tokio::test]
async fn o8_two_services_have_their_own_addresses() {
    let api = |prefix: &'static str| {
        serve(move |path, _| if path == format!("{prefix}/items") { json_response(ROWS) } else { status(404) })
    };
    let (api_a, api_b) = (api("/v1").await, api("/rest").await);
    let description = |server: &str| case("O2-no-content").replace("\"./\"", &format!("\"{server}\""));
    let a = serve_description(description(&format!("{api_a}/v1")), |_, _| status(404)).await;
    let b = serve_description(description(&format!("{api_b}/rest")), |_, _| status(404)).await;
    let policy = family(&format!(
        "families: {{openapi: {{services: [{{match: \"{a}/*\", base_url: \"{api_a}/v1\"}}, {{match: \"{b}/openapi.json\", base_url: \"{api_b}/rest\", health_path: /items}}]}}}}"
    ));
    for (url, called) in [(&a, format!("{api_a}/v1/items")), (&b, format!("{api_b}/rest/items"))] {
        let run = OpenApiRun::open(url, None, policy.clone()).await;
        assert_eq!(rows(&run).await, Ok(2), "{url}");
        assert!(run.calls().contains(&format!("GET {called}")), "{:?}", run.calls());
    }
}

#[tokio::test]
async fn o9_an_operation_that_fails_is_skipped() {
    let html = || (200, vec![("content-type", "text/html".to_string())], "<html>".to_string());
    let long = || json_response(format!("[\"{}\"]", "x".repeat(5 << 20)));
    let away = || (302, vec![("location", "https://login.example.net/sso".to_string())], String::new());
    let answers: Vec<(&str, MockResponse)> = vec![
        ("403", status(403)),
        ("404", status(404)),
        ("410", status(410)),
        ("422", status(422)),
        ("500", status(500)),
        ("401 without a credential", status(401)),
        ("a web page", html()),
        ("nothing", (204, Vec::new(), String::new())),
        ("truncated JSON", json_response("[{\"id\":1},{")),
        ("another structure", json_response(r#"{"hello":"world"}"#)),
        ("a long response", long()),
        ("a redirect to another host", away()),
    ];
    let case = serve_case("O9-first-403", |path, _| if path == "/items" { json_response(ROWS) } else { status(403) }).await;
    assert_eq!(rows(&OpenApiRun::open(&case, None, plain()).await).await, Ok(2));
    for (what, answer) in answers {
        // The path of the case would come last because of its name.
        let base = serve_description(lists(&["/accounts", "/items"]), move |path, _| {
            if path == "/items" { json_response(ROWS) } else { answer.clone() }
        })
        .await;
        let run = OpenApiRun::open(&base, None, plain()).await;
        let health = run.health().await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert_eq!((&health["operation"], &health["failed_operations"]), (&json!("/items"), &json!(1)), "{what}");
        assert!(health["failed"][0].as_str().unwrap().starts_with("/accounts: "), "{what}: {health:?}");
        assert_eq!(run.tiny(20).await.unwrap().rows, 2, "{what}");
        // The tiny sync does not repeat what failed in the health check.
        let calls = run.paths().iter().filter(|path| *path == "/accounts").count();
        assert_eq!(calls, 1, "{what}");
    }
}

#[tokio::test]
async fn o9_a_refused_login_and_a_rate_limit_end_the_search() {
    for (answer, class) in [(status(401), Class::CredentialRejected), (status(429), Class::Throttled)] {
        let mut description: Value = serde_json::from_str(&lists(&["/a", "/b", "/c"])).unwrap();
        description["security"] = json!([{"b": []}]);
        description["components"] = json!({"securitySchemes": {"b": {"type": "http", "scheme": "bearer"}}});
        let base = serve_description(description.to_string(), move |_, _| answer.clone()).await;
        let run = OpenApiRun::open(&base, Some("a-token-1"), plain()).await;
        assert_eq!(run.health().await.unwrap_err().class, class);
        assert_eq!(run.paths(), ["/openapi.json", "/a"]);
    }
}

#[tokio::test]
async fn o9_a_credential_without_permission_is_not_tried_in_another_scheme() {
    let mut description: Value = serde_json::from_str(&lists(&["/a", "/b", "/c"])).unwrap();
    description["security"] = json!([{"b": []}]);
    description["paths"]["/c"]["get"]["security"] = json!([{"k": []}]);
    description["components"] = json!({"securitySchemes": {
        "b": {"type": "http", "scheme": "bearer"}, "k": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
    }});
    let base = serve_description(description.to_string(), |path, _| status(if path == "/c" { 401 } else { 403 })).await;
    let run = OpenApiRun::open(&base, Some("a-token-1"), plain()).await;
    assert_eq!(run.health().await.unwrap_err().class, Class::PermissionDenied);
    assert_eq!(run.paths(), ["/openapi.json", "/a", "/b"]);
}

#[tokio::test]
async fn o9_an_operation_that_does_not_answer_leaves_time_for_others() {
    let description = lists(&["/a", "/b"]);
    let app = axum::Router::new()
        .route("/openapi.json", axum::routing::get(move || std::future::ready(axum::response::Json(json_of(&description)))))
        .route("/a", axum::routing::get(std::future::pending::<&str>))
        .route("/b", axum::routing::get(|| std::future::ready(axum::response::Json(json_of(ROWS)))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let run = OpenApiRun::open(&base, None, plain()).await;
    let health = run.health().await.unwrap();
    assert!(health["failed"][0].as_str().unwrap().contains("there was no response"), "{health:?}");
    assert_eq!(run.tiny(20).await.unwrap().rows, 2);
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn every_empty_list_is_passed_on_the_way_to_the_first_with_rows() {
    let paths: Vec<String> = (0..20).map(|number| format!("/list{number:02}")).collect();
    let description = lists(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let base = serve_description(description.clone(), |path, _| json_response(if path == "/list19" { ROWS } else { "[]" })).await;
    let run = OpenApiRun::open(&base, None, plain()).await;
    run.health().await.unwrap();
    let sample = run.tiny(20).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["operation"]), (2, &json!("/list19")));
    assert_eq!(sample.evidence["empty_operations"], 19);
    let empty = serve_description(description, |_, _| json_response("[]")).await;
    let sample = OpenApiRun::open(&empty, None, plain()).await.tiny(20).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["empty_operations"]), (0, &json!(19)));
    assert!(sample.evidence["note"].as_str().unwrap().contains("empty list"));
}

#[tokio::test]
async fn o10_a_reference_that_cannot_be_resolved_leaves_the_operation() {
    let foreign =
        case("O10-bare-ref").replace("\"Pet\"", "\"https://b.example.net/s.json#/S\"").replace("\"components\"", "\"x\"");
    let gone = case("O10-bare-ref").replace("\"$ref\": \"Pet\"", "\"$ref\": \"#/components/schemas/Gone\"");
    let response = foreign.replace("\"content\"", "\"$ref\": \"https://b.example.net/r.json\", \"x\"");
    for description in [case("O10-bare-ref"), foreign, gone, response] {
        let base =
            serve_description(description.clone(), |path, _| if path == "/items" { json_response(ROWS) } else { status(404) })
                .await;
        let run = OpenApiRun::open(&base, None, plain()).await;
        assert_eq!(rows(&run).await, Ok(2), "{description}");
        assert_eq!(run.paths(), ["/openapi.json", "/items", "/items"], "{description}");
        assert_eq!(run.discover().await.unwrap().catalog.streams.len(), 1);
    }
}

#[tokio::test]
async fn one_odd_value_does_not_lose_the_description() {
    let yaml = "openapi: 3.0.3\ninfo: {title: T, version: '1'}\nx-a: !Ref thing\nx-b: 123456789012345678901234567890\nx-c: .inf\npaths:\n  /items:\n    get: {responses: {200: {description: !!binary b2s=}}}\n---\n";
    let json =
        case("O2-no-content").replacen('{', "{\"x-a\":123456789012345678901234567890,\"x-b\":1e999,\"x-c\":\"\\ud800\",", 1);
    for description in [yaml.to_string(), json] {
        let base = serve_description(description, |_, _| json_response(ROWS)).await;
        assert_eq!(rows(&OpenApiRun::open(&base, None, plain()).await).await, Ok(2));
    }
}

#[tokio::test]
async fn the_usual_addresses_of_frameworks_are_tried() {
    for path in ["/v3/api-docs", "/swagger/v1/swagger.json", "/api/schema/", "/api-docs", "/api/openapi.json", "/api-json"] {
        // Other paths need a login, which does not hide the description.
        let base = serve(move |found, _| match found {
            found if found == path => json_response(case("O2-no-content").replace("\"./\"", "\"/\"")),
            "/items" => json_response(ROWS),
            "/openapi.json" => status(401),
            _ => status(404),
        })
        .await;
        let run = OpenApiRun::open(&base, None, plain()).await;
        assert_eq!(rows(&run).await, Ok(2), "{path}");
    }
}

#[tokio::test]
async fn a_redirect_to_an_action_is_not_followed() {
    for target in ["/auth/logout", "/delete-all", "/items2?action=delete", "/a%2Flogout", "/deleteaccount"] {
        let to = move || (302, vec![("location", target.to_string())], String::new());
        let answer = move |path: &str, _: Option<&str>| if path == "/zoos" { json_response(ROWS) } else { to() };
        let base = serve_description(lists(&["/items", "/zoos"]), answer).await;
        let run = OpenApiRun::open(&base, None, plain()).await;
        assert_eq!(rows(&run).await, Ok(2), "{target}");
        assert_eq!(run.paths(), ["/openapi.json", "/items", "/zoos", "/zoos"], "{target}");
        // The same for the description.
        let base = serve(move |_, _| to()).await;
        let run = OpenApiRun::open(&format!("{base}/openapi.json"), None, plain()).await;
        let failure = run.opened.as_ref().err().unwrap();
        assert!(failure.title.contains("its name suggests a side effect"), "{failure:?}");
        assert_eq!(run.paths(), ["/openapi.json"], "{target}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_harmless_path_is_followed() {
    let base = serve_description(lists(&["/items"]), |path, _| match path {
        "/items" => (307, vec![("location", "/items/".to_string())], String::new()),
        _ => json_response(ROWS),
    })
    .await;
    assert_eq!(rows(&OpenApiRun::open(&base, None, plain()).await).await, Ok(2));
}

#[tokio::test]
async fn the_values_in_a_url_are_judged_before_the_call() {
    let mut description = json_of(&lists(&["/a/{verb}", "/b", "/zoos"]));
    description["paths"]["/a/{verb}"]["get"]["parameters"] =
        json!([{"name": "verb", "in": "path", "required": true, "example": "logout", "schema": {"type": "string"}}]);
    description["paths"]["/b"]["get"]["parameters"] =
        json!([{"name": "action", "in": "query", "required": true, "schema": {"type": "string", "default": "delete"}}]);
    let base = serve_description(description.to_string(), |_, _| json_response(ROWS)).await;
    let run = OpenApiRun::open(&base, None, plain()).await;
    assert_eq!(rows(&run).await, Ok(2));
    assert_eq!(run.paths(), ["/openapi.json", "/zoos", "/zoos"]);
}

#[tokio::test]
async fn an_undefined_scheme_follows_the_challenge() {
    for scheme in [json!({}), json!({"gone": {"$ref": "#/components/securitySchemes/other"}})] {
        let mut description = json_of(&lists(&["/items"]));
        description["security"] = json!([{"gone": []}]);
        description["components"] = json!({"securitySchemes": scheme});
        let base = serve_description(description.to_string(), |_, authorization| match authorization {
            Some("Token a-token-1") => json_response(ROWS),
            _ => (401, vec![("www-authenticate", "Token".to_string())], String::new()),
        })
        .await;
        let run = OpenApiRun::open(&base, Some("a-token-1"), plain()).await;
        assert_eq!(rows(&run).await, Ok(2));
        let sent = Some("Token a-token-1".to_string());
        assert_eq!(run.headers("/items", "authorization"), [None, sent.clone(), sent]);
    }
}

#[tokio::test]
async fn a_service_that_wants_basic_names_the_user_and_password() {
    let base = serve_case("O1-no-security-401", |_, _| {
        (401, vec![("www-authenticate", "Basic realm=\"x\"".to_string())], String::new())
    })
    .await;
    let failure = OpenApiRun::open(&base, Some("a-token-1"), plain()).await.health().await.unwrap_err();
    assert!(failure.fix.contains("store user:password") && !failure.fix.contains("X-Api-Key"), "{failure:?}");
}
