//! The `openapi` engine against services that misbehave.

use crate::support::network::closed_port;
use crate::support::openapi::{MockResponse, OpenApiRun, failure, json_response, raw, serve};
use crate::support::snapshot::assert_snapshot;
use aam::model::Class;
use aam::policy::FamilyPolicy;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn plain() -> FamilyPolicy {
    FamilyPolicy::default()
}

/// A description with one list at `/pets`.
fn pets(servers: &str, schema: &str) -> String {
    format!(
        r#"{{"openapi":"3.0.3","info":{{"title":"Pets","version":"1"}}{servers},"paths":{{"/pets":{{"get":{{"operationId":"listPets","security":[{{"oauth":["pets:read"]}}],"responses":{{"200":{{"content":{{"application/json":{{"schema":{schema}}}}}}}}}}}}}}},"components":{{"securitySchemes":{{"oauth":{{"type":"oauth2","flows":{{}}}}}}}}}}"#
    )
}

const LIST: &str = r#"{"type":"array","items":{"type":"object","properties":{"id":{"type":"integer"},"tag":{"type":"string","nullable":true}}}}"#;

/// Serves `description`, and `page` at `/pets`.
async fn service(description: String, page: MockResponse) -> String {
    serve(move |path, _| match path {
        "/openapi.json" => json_response(description.clone()),
        "/pets" => page.clone(),
        _ => (404, Vec::new(), String::new()),
    })
    .await
}

#[tokio::test]
async fn every_failure_has_its_class_and_its_message() {
    let html = || (200, vec![("content-type", "text/html".to_string())], "<html>sign in</html>".to_string());
    let status = |code: u16| {
        (code, vec![("content-type", "application/json".to_string())], r#"{"message":"a message of the service"}"#.to_string())
    };
    let away = || (302, vec![("location", "https://login.example.net/sso".to_string())], String::new());
    let good = || pets("", LIST);
    let (_socket, closed) = closed_port();
    let cases: Vec<(&str, Class, String, Option<&str>)> = vec![
        ("no credential", Class::CredentialMissing, service(good(), json_response("[]")).await, None),
        ("401", Class::CredentialRejected, service(good(), status(401)).await, Some("t")),
        ("403", Class::PermissionDenied, service(good(), status(403)).await, Some("t")),
        ("404", Class::NotFound, service(good(), status(404)).await, Some("t")),
        ("422", Class::Misconfigured, service(good(), status(422)).await, Some("t")),
        ("429", Class::Throttled, service(good(), status(429)).await, Some("t")),
        ("500", Class::Remote, service(good(), status(500)).await, Some("t")),
        ("503", Class::Remote, service(good(), status(503)).await, Some("t")),
        (
            "503 with a wait",
            Class::Throttled,
            service(good(), (503, vec![("retry-after", "7".to_string())], String::new())).await,
            Some("t"),
        ),
        (
            "too long",
            Class::Misconfigured,
            service(good(), json_response(format!("[\"{}\"]", "x".repeat(5 << 20)))).await,
            Some("t"),
        ),
        (
            "too many redirects",
            Class::Remote,
            service(good(), (302, vec![("location", "/pets".to_string())], String::new())).await,
            Some("t"),
        ),
        ("sign-in page", Class::WrongService, service(good(), html()).await, Some("t")),
        ("other JSON", Class::WrongService, service(good(), json_response(r#"{"hello":"world"}"#)).await, Some("t")),
        ("nothing", Class::WrongService, service(good(), (204, Vec::new(), String::new())).await, Some("t")),
        ("truncated JSON", Class::Remote, service(good(), json_response("[{\"id\":1},{\"i")).await, Some("t")),
        ("redirect to another host", Class::EgressRefused, service(good(), away()).await, Some("t")),
        (
            "server on another host",
            Class::EgressRefused,
            service(pets(r#","servers":[{"url":"https://b.example.net/v1"}]"#, LIST), json_response("[]")).await,
            Some("t"),
        ),
        ("any web server", Class::WrongService, serve(move |_, _| html()).await, None),
        ("no description", Class::NotFound, serve(|_, _| (404, vec![], String::new())).await, None),
        ("Swagger 2.0", Class::Unsupported, service(r#"{"swagger":"2.0","paths":{}}"#.into(), json_response("[]")).await, None),
        ("protected description", Class::CredentialMissing, serve(move |_, _| status(401)).await, None),
        ("truncated description", Class::Remote, service(r#"{"openapi":"3.0.3","inf"#.into(), json_response("[]")).await, None),
        ("unreachable", Class::Network, format!("http://127.0.0.1:{closed}"), None),
        ("hanging", Class::Network, raw("", true).await, None),
        (
            "closes in the middle of the response",
            Class::Remote,
            raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"open", false).await,
            None,
        ),
    ];
    let mut text = String::new();
    for (name, class, url, credential) in cases {
        let failure = failure(&url, credential, plain()).await;
        assert_eq!(failure.class, class, "{name}: {failure:?}");
        if class != Class::Network && name != "closes in the middle of the response" {
            text.push_str(&format!(
                "{name} [{}]\n  {}\n  fix: {}\n  detail: {}\n",
                class.as_str(),
                failure.title,
                failure.fix,
                failure.detail
            ));
        }
    }
    assert_snapshot("openapi_failures", &text, &[(r"127\.0\.0\.1:\d+", "HOST"), (r"after 20\S+Z", "after TIME")]);
}

#[tokio::test]
async fn a_protected_yaml_description_of_openapi_3_0_works() {
    let yaml = "openapi: 3.0.1\ninfo: {title: Pets, version: '1'}\nservers:\n- url: /v1\nx-aam-health: /pets\npaths:\n  /pets:\n    get:\n      parameters:\n      - {name: per_page, in: query, schema: {type: integer, maximum: 5}}\n      security: [{login: []}]\n      responses:\n        200:\n          content:\n            application/json:\n              schema: {type: object, properties: {data: {type: array, items: {$ref: '#/components/schemas/Pet'}}}}\ncomponents:\n  securitySchemes:\n    login: {type: http, scheme: basic}\n  schemas:\n    Pet: {type: object, properties: {name: {type: string, nullable: true}, mother: {$ref: '#/components/schemas/Pet'}}}\n";
    let base = serve(move |path, request| {
        let authorized = request.headers().get("authorization").is_some_and(|value| value == "Basic dTpw");
        match path {
            _ if !authorized => (401, vec![("www-authenticate", "Basic realm=\"x\"".into())], String::new()),
            "/docs/openapi.yaml" => (200, vec![("content-type", "application/yaml".into())], yaml.into()),
            "/v1/pets" if request.uri().query() == Some("per_page=5") => {
                json_response(r#"{"data":[{"name":"a"},{"name":"b"}],"next":"https://evil.example/next"}"#)
            }
            "/v1/pets" => json_response(r#"{"data":[]}"#),
            _ => (404, vec![], String::new()),
        }
    })
    .await;
    let run = OpenApiRun::open(&format!("{base}/docs/openapi.yaml"), Some("u:p"), plain()).await;
    assert_eq!(run.opened.as_ref().unwrap().identity["description_protected"], true);
    let catalog = run.discover().await.unwrap().catalog;
    let schema = &catalog.streams[0].json_schema;
    assert_eq!(schema["properties"]["name"]["type"], serde_json::json!(["null", "string"]));
    assert_eq!(schema["properties"]["mother"], serde_json::json!({"x-aam-cycle": true}));
    assert_eq!(schema["x-aam"]["record"], "/data");
    assert!(run.health().await.is_ok());
    assert_eq!(run.tiny(20).await.unwrap().rows, 2);
    assert!(run.calls().iter().all(|call| call.starts_with(&format!("GET {base}/"))), "{:?}", run.calls());
}

#[tokio::test]
async fn a_reference_to_another_host_is_never_fetched() {
    let touched = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&touched);
    let other = serve(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        json_response(r#"{"S":{"type":"object"}}"#)
    })
    .await;
    let far = format!(
        r##"{{"get":{{"operationId":"far","responses":{{"200":{{"content":{{"application/json":{{"schema":{{"$ref":"{other}/s.json#/S"}}}}}}}}}}}}}}"##
    );
    let near = r##"{"get":{"operationId":"near","responses":{"200":{"content":{"application/json":{"schema":{"$ref":"parts/s.yaml#/S"}}}}}}}"##;
    let root = format!(r#"{{"openapi":"3.1.0","info":{{"title":"T","version":"1"}},"paths":{{"/far":{far},"/near":{near}}}}}"#);
    let base = serve(move |path, _| match path {
        "/openapi.json" => json_response(root.clone()),
        "/parts/s.yaml" => {
            (200, vec![], "S: {type: array, items: {$ref: '#/T'}}\nT: {type: object, properties: {id: {type: integer}}}\n".into())
        }
        "/near" => json_response(r#"[{"id":1}]"#),
        _ => (404, vec![], String::new()),
    })
    .await;
    let run = OpenApiRun::open(&base, None, plain()).await;
    let catalog = run.discover().await.unwrap().catalog;
    assert_eq!(catalog.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["far", "near"]);
    assert_eq!(catalog.streams[1].json_schema["properties"]["id"]["type"], "integer");
    let note = catalog.streams[0].json_schema["x-aam"]["note"].as_str().unwrap();
    assert!(note.contains("the structure of the response is unknown") && note.contains("only documents of"), "{note}");
    assert_eq!(run.tiny(20).await.unwrap().rows, 1);
    assert_eq!(touched.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn endless_references_and_multiplying_aliases_are_bounded() {
    let base = serve(|path, _| match path.strip_prefix("/part").and_then(|rest| rest.parse::<u32>().ok()) {
        Some(number) => json_response(format!(r##"{{"S":{{"type":"array","items":{{"$ref":"/part{}#/S"}}}}}}"##, number + 1)),
        None => json_response(pets("", r##"{"$ref":"/part0#/S"}"##)),
    })
    .await;
    let run = OpenApiRun::open(&format!("{base}/openapi.json"), Some("t"), plain()).await;
    assert_eq!(run.discover().await.unwrap().catalog.streams.len(), 1);
    assert_eq!(run.calls().len(), 16);
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_string();
    for level in 1..10 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")));
    }
    let base = serve(move |_, _| (200, vec![], bomb.clone())).await;
    assert_eq!(failure(&format!("{base}/openapi.yaml"), None, plain()).await.class, Class::Unsupported);
}
