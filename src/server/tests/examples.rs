//! The examples of the OpenAPI document are responses of this server, and every example has the documented form.

use super::*;
use crate::server::openapi;
use crate::server::routes::{Method, ROUTES, Route};
use serde_json::Map;

/// A connection that does not exist.
const UNKNOWN_ID: &str = "/connections/8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e";

/// Validates `value` against a schema of the OpenAPI document, also its formats.
pub fn schema_errors(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut root = json!({"components": document["components"], "allOf": [schema]});
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    let validator = jsonschema::options().should_validate_formats(true).build(&root).expect("a schema");
    validator.iter_errors(value).map(|error| format!("{} {error}", error.instance_path())).collect()
}

/// Shortens lists whose items all have the same form, and replaces what differs between runs.
fn shortened(mut value: Value) -> Value {
    if let Some(families) = value.get_mut("families").and_then(Value::as_array_mut) {
        families.retain(|family| family["id"] == "github");
    }
    if value.get("port").is_some() {
        value["port"] = 5000.into();
    }
    value
}

async fn problems(server: &TestServer) -> Map<String, Value> {
    let reader = bearer(READER);
    let push = document("jdbc", "z").to_string();
    let token = bearer(FULL);
    let long = format!(
        "POST /connections/onboard HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\nConnection: close\r\n\r\n"
    );
    let all = [
        server.get("/connections?limit=0").await,
        server.send("GET", "/connections", &[], None).await,
        server
            .send(
                "POST",
                "/connections/onboard",
                &[("Authorization", &reader), ("Content-Type", "application/json")],
                Some(&push),
            )
            .await,
        server.get(UNKNOWN_ID).await,
        server.post("/connections/onboard", &document("fax", "office")).await,
        server.raw(long.as_bytes()).await,
        server.send("POST", "/connections/onboard", &[("Authorization", &token)], Some("x=1")).await,
        server.post("/connections/onboard", &json!({"source_type": "jdbc"})).await,
    ];
    let statuses: Vec<u16> = all.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [400, 401, 403, 404, 409, 413, 415, 422]);
    all.iter().map(|reply| (reply.status.to_string(), reply.json())).collect()
}

/// Sends a request for `route`. `id` is a connection.
pub async fn call(server: &TestServer, route: &Route, id: &str) -> HttpReply {
    let target = route.path.replace("{id}", id).replace("{name}", "github").replace("{handoff_id}", "run");
    match route.method {
        Method::Get => server.get(&target).await,
        Method::Post if route.path == "/mcp" => {
            let accept = [("Accept", "application/json, text/event-stream")];
            server.post_with(&target, &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}), &accept).await
        }
        Method::Post if route.path.ends_with("batch") => {
            server.post(&target, &json!({"intents": [document("fax", "b"), {}]})).await
        }
        Method::Post if route.path.ends_with("onboard") => server.post(&target, &document("s3", "c")).await,
        Method::Post if route.path.ends_with("receive") => {
            let candidates = json!([{"asset_key": "a", "vendor_name": "b"}, {"asset_key": "c", "action_type": "inventory_only"}]);
            let body = json!({"aod_discovery_id": "run", "tenant_id": "t", "entity_id": "e", "candidates": candidates});
            server.post(&target, &body).await
        }
        Method::Post => server.post(&target, &json!({})).await,
        Method::Delete => server.delete(&target).await,
    }
}

#[tokio::test]
async fn examples_are_responses_of_this_server() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let pushed = server.post("/connections/onboard", &document("jdbc", "a")).await.json();
    let id = pushed["connection_id"].as_str().unwrap_or_default().to_string();
    let mut responses = Map::new();
    for route in &ROUTES {
        let reply = call(&server, route, &id).await;
        let described = route.answers.iter().find(|(status, _, _)| *status == reply.status);
        let Some((_, kind, _)) = described.filter(|(_, _, schema)| !schema.is_empty()) else { continue };
        let body = match *kind {
            "application/json" => reply.json(),
            // The first line of the lines.
            _ => serde_json::from_str(reply.body.lines().find(|line| line.starts_with('{')).expect("a line")).expect("JSON"),
        };
        responses.insert(openapi::operation_id(route), json!({reply.status.to_string(): shortened(body)}));
    }
    let recorded = json!({"responses": responses, "problems": problems(&server).await});
    worker.abort();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/openapi/examples.json");
    if std::env::var_os("AAM_UPDATE_DOCS").is_some() {
        let text = serde_json::to_string_pretty(&recorded).expect("JSON") + "\n";
        std::fs::write(path, text).expect("written");
        return;
    }
    let text = std::fs::read_to_string(path).expect("readable");
    let known: Value = serde_json::from_str(&text).expect("JSON");
    assert!(known == recorded, "run this test with AAM_UPDATE_DOCS=1, and read the changes of examples.json");
}

#[test]
fn every_example_has_the_documented_form() {
    let document = openapi::document();
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let responses = operation["responses"].as_object().into_iter().flatten().map(|(_, response)| response);
            for body in responses.chain([&operation["requestBody"]]) {
                for (kind, content) in body["content"].as_object().into_iter().flatten() {
                    let shared = content.pointer("/examples/response/$ref").and_then(Value::as_str);
                    let shared = shared.and_then(|reference| document.pointer(&reference[1..])?.get("value"));
                    let Some(example) = shared.or(content.get("example")).filter(|_| kind.contains("json")) else { continue };
                    let errors = schema_errors(&document, &content["schema"], example);
                    assert!(errors.is_empty(), "{method} {path}: {errors:?}\n{example}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 60, "{checked} examples");
}

#[test]
fn every_limit_has_its_field() {
    let mut schemas = openapi::document()["components"]["schemas"].as_object().cloned().expect("schemas");
    assert_eq!(openapi::limits::add(&mut schemas), Vec::<String>::new());
}

#[test]
fn fixed_texts_are_enums_of_their_types() {
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    for (name, count) in [
        ("State", crate::model::State::ALL.len()),
        ("ErrorClass", Class::ALL.len()),
        ("StepName", Step::ALL.len()),
        ("FunnelStage", crate::funnel::Stage::ALL.len() + 1),
        ("ProblemCode", crate::server::problem_code::ProblemCode::ALL.len()),
        ("TokenScope", crate::policy::TokenScope::ALL.len()),
    ] {
        assert_eq!(schemas[name]["enum"].as_array().map(Vec::len), Some(count), "{name}");
    }
    for (schema, field, name) in [
        ("ConnectionResult", "status", "State"),
        ("ConnectionResult", "funnel_stage", "FunnelStage"),
        ("ErrorBody", "class", "ErrorClass"),
        ("StepBody", "step", "StepName"),
        ("StepBody", "status", "StepStatus"),
        ("Problem", "code", "ProblemCode"),
        ("VersionBody", "kind", "EntryKind"),
    ] {
        let text = schemas[schema]["properties"][field].to_string();
        assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{schema}.{field}: {text}");
    }
    let state = document["paths"]["/connections"]["get"]["parameters"].as_array().unwrap().iter().find(|p| p["name"] == "state");
    assert_eq!(state.unwrap()["schema"]["$ref"], "#/components/schemas/State");
}

#[test]
fn operations_have_readable_ids_and_a_tag_of_the_document() {
    let document = openapi::document();
    let tags: Vec<&Value> = document["tags"].as_array().into_iter().flatten().map(|tag| &tag["name"]).collect();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let id = operation["operationId"].as_str().unwrap_or_default();
            let readable = id.contains('_') && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(readable, "{method} {path}: {id}");
            assert!(tags.contains(&&operation["tags"][0]), "{method} {path}");
        }
    }
}
