//! The family `datadog` against recorded answers of Datadog, and the sandbox's Datadog against those answers and against Datadog's
//! Python client, which ships the recordings.
//!
//! The recordings have no headers of requests and no answer of /api/v2/validate, /api/v2/validate_keys and /api/v2/current_user: the
//! test answers these as the client's models describe them.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{
    EngineFixture, MockVendor, ReceivedRequest, json_response_with, remaining_steps, stream_names,
};
use crate::support::openapi::MockResponse;
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::process::Command;

peer_tests! {
    [Datadog]: recorded_answers_become_a_connection, an_unscoped_key_of_the_recordings_is_over_privileged,
        recorded_refusals_get_their_class, a_dead_application_key_fails_the_next_health_check,
        the_sandbox_answers_as_recorded, datadog_s_client_accepts_the_sandbox,
        datadog_s_client_is_refused_by_the_sandbox;
}

const ORG: &str = "8dee7c38-00cb-11ea-a77b-8b5a08d3b091";
const API_KEY: &str = "0000000000000000000000000000a001";
const APPLICATION_KEY: &str = "000000000000000000000000000000000000b001";

fn recordings() -> Vec<Value> {
    let path = variable("DATADOG", "RECORDINGS");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(whole["count"], 1899, "the package ships this many recordings");
    whole["answers"].as_array().unwrap().clone()
}

/// The recorded answer to a call of `path`, of those with the status 200 the one with the longest body.
fn recorded(answers: &[Value], path: &str) -> Value {
    let fits = |answer: &&Value| {
        let uri = answer["uri"].as_str().unwrap_or_default();
        answer["method"] == "GET" && answer["status"] == 200 && uri.split('?').next().unwrap_or_default().ends_with(path)
    };
    let longest = answers.iter().filter(fits).max_by_key(|answer| answer["body"].as_str().map(str::len));
    longest.unwrap_or_else(|| panic!("no recording of {path}")).clone()
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

fn replayed(answer: &Value) -> MockResponse {
    let mut headers: Vec<(&'static str, String)> = Vec::new();
    for name in [
        "content-type",
        "retry-after",
        "x-ratelimit-limit",
        "x-ratelimit-name",
        "x-ratelimit-period",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ] {
        headers.extend(answer["headers"][name][0].as_str().map(|value| (name, value.to_string())));
    }
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    (status, headers, answer["body"].as_str().unwrap_or_default().to_string())
}

/// The streams with their paths and where their records are.
const LISTS: [(&str, &str, &str); 3] = [
    ("monitors", "/api/v1/monitor", ""),
    ("dashboards", "/api/v1/dashboard", "/dashboards"),
    ("hosts", "/api/v1/hosts", "/host_list"),
];

fn answered(answers: &[Value], request: &ReceivedRequest) -> MockResponse {
    let user = json!({"data": {"type": "users", "id": "u", "attributes": {"handle": "frog@datadoghq.com"}, "relationships": {"org": {"data": {"type": "orgs", "id": ORG}}}}});
    match request.path() {
        "/api/v2/validate" => {
            assert_eq!((request.header("dd-api-key"), request.header("dd-application-key")), (Some(API_KEY), None));
            let data =
                json!({"id": ORG, "type": "validate_v2", "attributes": {"api_key_id": "a", "api_key_scopes": [], "valid": true}});
            json_response_with(200, &[], &json!({"data": data}))
        }
        path => {
            let both = (request.header("dd-api-key"), request.header("dd-application-key"));
            assert_eq!(both, (Some(API_KEY), Some(APPLICATION_KEY)), "{path}");
            match path {
                "/api/v2/validate_keys" => json_response_with(200, &[], &json!({"status": "ok"})),
                "/api/v2/current_user" => json_response_with(200, &[], &user),
                path => replayed(&recorded(answers, path)),
            }
        }
    }
}

fn keys() -> String {
    json!({"api_key": API_KEY, "application_key": APPLICATION_KEY}).to_string()
}

async fn recorded_answers_become_a_connection() {
    let answers = Arc::new(recordings());
    let replay = Arc::clone(&answers);
    let vendor = MockVendor::start(move |_, request| answered(&replay, request)).await;
    let opened = EngineFixture::at("datadog", &vendor.base).open("datadog", ORG, Some(&keys())).await.unwrap();
    assert_eq!(opened.identity["org"], ORG);
    // The recorded keys have the last four characters xxxx, so none of them is this one.
    let Privilege::Unknown { reason } = &opened.privilege else { panic!("{:?}", opened.privilege) };
    assert!(reason.contains("own_keys is empty"), "{reason}");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["dashboards", "hosts", "monitors"]);
    assert_eq!(discovery.catalog.skipped, []);
    let mut expected = 0;
    for (name, path, place) in LISTS {
        let records = body(&recorded(&answers, path)).pointer(place).and_then(Value::as_array).unwrap().clone();
        if let Some(count) = sample.evidence["streams"][name].as_u64() {
            assert!(count == records.len() as u64 || sample.rows == 20, "{name}: {count} of {}", records.len());
            expected += count;
        }
        let stream = discovery.catalog.streams.iter().find(|stream| stream.name == name).unwrap();
        let properties = stream.json_schema["properties"].as_object().unwrap();
        for (field, value) in records.iter().flat_map(|record| record.as_object().unwrap()) {
            let schema = properties.get(field).unwrap_or_else(|| panic!("{name}: the schema has no field {field}"));
            assert!(is_of(schema, value), "{name}.{field}: {value} is not {schema}");
        }
    }
    assert_eq!((sample.rows, expected), (20, 20));
}

/// Whether `value` has a type that `schema` names.
fn is_of(schema: &Value, value: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    schema["type"] == name || schema["type"].as_array().is_some_and(|types| types.iter().any(|one| one == name))
}

async fn an_unscoped_key_of_the_recordings_is_over_privileged() {
    let answers = Arc::new(recordings());
    // The recordings hide the last four characters of keys, so the keys of the test end with what is recorded.
    let secret = json!({"api_key": API_KEY, "application_key": "000000000000000000000000000000000000xxxx"}).to_string();
    let vendor = MockVendor::start(move |_, request| match request.path() {
        "/api/v2/validate" => answered(&answers, request),
        "/api/v2/validate_keys" => json_response_with(200, &[], &json!({"status": "ok"})),
        path => replayed(&recorded(&answers, path)),
    })
    .await;
    let opened = EngineFixture::at("datadog", &vendor.base).open("datadog", ORG, Some(&secret)).await.unwrap();
    let Privilege::Over { grants } = &opened.privilege else { panic!("{:?}", opened.privilege) };
    assert!(grants.iter().any(|grant| grant.contains("has no scopes")), "{grants:?}");
    assert!(grants.contains(&"dashboards_write".to_string()), "another recorded key has scopes: {grants:?}");
}

async fn recorded_refusals_get_their_class() {
    let answers = Arc::new(recordings());
    let refusal = |status: u64, recording: &str| {
        let found =
            answers.iter().find(|answer| answer["status"] == status && answer["recording"].as_str().unwrap().contains(recording));
        found.unwrap_or_else(|| panic!("no recorded {status}")).clone()
    };
    let key = refusal(403, "test_validate_api_key_returns_forbidden_response");
    let vendor = MockVendor::start(move |_, _| replayed(&key)).await;
    let failure = EngineFixture::at("datadog", &vendor.base).open("datadog", ORG, Some(&keys())).await.err().unwrap();
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(failure.detail.contains("API key required"), "{failure:?}");

    let (replay, forbidden) = (Arc::clone(&answers), refusal(403, "test_get_a_rum_sdk_configuration_returns_forbidden_response"));
    let vendor = MockVendor::start(move |_, request| match request.path() {
        "/api/v1/monitor" | "/api/v1/hosts" => replayed(&forbidden),
        _ => answered(&replay, request),
    })
    .await;
    let opened = EngineFixture::at("datadog", &vendor.base).open("datadog", ORG, Some(&keys())).await.unwrap();
    let (discovery, _) = remaining_steps(&opened).await.unwrap();
    let missing: Vec<_> = discovery.catalog.skipped.iter().map(|stream| stream.missing.as_deref()).collect();
    assert_eq!(missing, [Some("hosts_read"), Some("monitors_read")].as_slice(), "{:?}", discovery.catalog.skipped);

    let (replay, limited) = (Arc::clone(&answers), refusal(429, "test_retry_rate_limit"));
    assert!(limited["headers"]["retry-after"].is_null() && limited["body"] == "", "Datadog sends no Retry-After and no body");
    let vendor = MockVendor::start(move |_, request| match request.path() {
        "/api/v2/validate" => replayed(&limited),
        _ => answered(&replay, request),
    })
    .await;
    let failure = EngineFixture::at("datadog", &vendor.base).open("datadog", ORG, Some(&keys())).await.err().unwrap();
    assert_eq!(failure.class, Class::Throttled);
    // The reset beside calls that are left may be that of another window, so the family's own wait counts (decision 37).
    assert_eq!(failure.retry_after_ms, Some(60_000), "{failure:?}");
}

/// The call that names the organization needs the API key only, so a health check also asks about both keys.
async fn a_dead_application_key_fails_the_next_health_check() {
    let answers = Arc::new(recordings());
    let forbidden = answers.iter().find(|answer| answer["status"] == 403).unwrap().clone();
    let missing = json!({"errors": ["Not found"]});
    for dead in [true, false] {
        let (replay, forbidden, missing) = (Arc::clone(&answers), forbidden.clone(), missing.clone());
        let vendor = MockVendor::start(move |_, request| match request.path() {
            "/api/v2/validate_keys" if dead => replayed(&forbidden),
            "/api/v2/validate_keys" => json_response_with(404, &[], &missing),
            _ => answered(&replay, request),
        })
        .await;
        let opened = EngineFixture::at("datadog", &vendor.base).open("datadog", ORG, Some(&keys())).await.unwrap();
        match opened.connector.health().await {
            Err(failure) => {
                assert!(dead && failure.class == Class::CredentialRejected, "{failure:?}");
                assert!(failure.fix.contains("its owner was deactivated"), "{failure:?}");
            }
            // A site without this call says nothing against the keys.
            Ok(evidence) => assert!(!dead && evidence["not_readable"].get("both_keys").is_some(), "{evidence:?}"),
        }
    }
}

async fn the_sandbox_answers_as_recorded() {
    let answers = recordings();
    for (name, path, place) in LISTS {
        let request = http_client().get(format!("{}{path}", variable("DATADOG", "PLAIN")));
        let request = request.header("dd-api-key", API_KEY).header("dd-application-key", APPLICATION_KEY);
        let ours: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        let theirs = body(&recorded(&answers, path));
        let known: BTreeSet<&String> = theirs
            .pointer(place)
            .and_then(Value::as_array)
            .unwrap()
            .iter()
            .flat_map(|record| record.as_object().unwrap().keys())
            .collect();
        let records = ours.pointer(place).and_then(Value::as_array).unwrap();
        assert_eq!(records.len(), 12, "{name}");
        for field in records[0].as_object().unwrap().keys() {
            assert!(known.contains(field), "{name}: Datadog has no field {field}");
        }
    }
}

/// Runs the script of the peer and returns what it prints.
async fn client(site: &str, api_key: &str, application_key: &str) -> Value {
    let ran = Command::new(variable("DATADOG", "PYTHON"))
        .arg(variable("DATADOG", "SCRIPT"))
        .args([site, api_key, application_key])
        .env("HTTPS_PROXY", variable("DATADOG", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("DATADOG", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn datadog_s_client_accepts_the_sandbox() {
    // The keys `proven`, which may also list application keys.
    let read = client("datadoghq.com", "0000000000000000000000000000a002", "000000000000000000000000000000000000b002").await;
    assert_eq!((&read["valid"], &read["organization"], &read["user"]), (&json!(true), &json!(ORG), &json!(ORG)), "{read}");
    assert_eq!(read["both_keys"], "ok");
    assert_eq!(read["application_keys"][0], json!({"last4": "zzzz", "scopes": null}));
    assert_eq!(
        read["application_keys"][1],
        json!({"last4": "b002", "scopes": ["monitors_read", "dashboards_read", "hosts_read", "org_app_keys_read"]})
    );
    for list in ["monitors", "dashboards", "hosts"] {
        let names: BTreeSet<&str> = read[list].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(names.len(), 12, "{list}: {read}");
    }
    let europe = client("datadoghq.eu", "0000000000000000000000000000a008", "000000000000000000000000000000000000b008").await;
    assert_eq!(europe["organization"], "11ee7c38-00cb-11ea-a77b-8b5a08d3b0e1");
}

async fn datadog_s_client_is_refused_by_the_sandbox() {
    let wrong_site = client("us3.datadoghq.com", API_KEY, APPLICATION_KEY).await;
    for call in ["valid", "organization", "both_keys", "user", "application_keys", "monitors", "dashboards", "hosts"] {
        assert_eq!(wrong_site[call]["status"], 403, "{call}: {wrong_site}");
    }
    // An application key of another organization, and one without any of the scopes.
    let mixed = client("datadoghq.com", API_KEY, "000000000000000000000000000000000000b007").await;
    assert_eq!(
        (&mixed["valid"], &mixed["both_keys"]["status"], &mixed["hosts"]["status"]),
        (&json!(true), &json!(403), &json!(403))
    );
    let narrow = client("datadoghq.com", "0000000000000000000000000000a006", "000000000000000000000000000000000000b006").await;
    assert_eq!((&narrow["both_keys"], &narrow["monitors"]["status"]), (&json!("ok"), &json!(403)), "{narrow}");
}
