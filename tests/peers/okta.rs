//! The family `okta` against recorded answers of Okta, and the sandbox's Okta against those answers, against Okta's own API
//! description through prism, and against Okta's Python package.
//!
//! The package ships the recordings. Host names in them are replaced by test.okta.com, but not all of those in Link headers.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, MockVendor, remaining_steps, stream_names};
use crate::support::openapi::MockResponse;
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

peer_tests! {
    [Okta]: recorded_lists_become_a_connection, recorded_refusals_get_their_class, the_sandbox_fits_okta_s_own_description,
        the_sandbox_answers_as_recorded;
}

/// A token of the test, with the form of an SSWS token.
const TOKEN: &str = r#"{"api_token": "00recordedTokenOfTheTest000000000000000000"}"#;
const SANDBOX_TOKEN: &str = "00sandboxReadOnlyAdministratorToken0000000";

fn answers() -> Vec<Value> {
    let path = variable("OKTA", "ANSWERS");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The recorded answer to a call of `path`, of those of `recording` the one with the longest body.
fn recorded(answers: &[Value], recording: &str, path: &str) -> Value {
    let fits = |answer: &&Value| {
        let uri = answer["uri"].as_str().unwrap_or_default();
        answer["recording"] == recording && answer["status"] == 200 && uri.split('?').next().unwrap_or_default().ends_with(path)
    };
    let longest = answers.iter().filter(fits).max_by_key(|answer| answer["body"].as_str().map(str::len));
    longest.unwrap_or_else(|| panic!("no recording {recording} of {path}")).clone()
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

fn recorded_lists(answers: &[Value]) -> [(&'static str, Value); 3] {
    [
        ("users", recorded(answers, "test_comprehensive_user_lifecycle", "/api/v1/users")),
        ("groups", recorded(answers, "test_list_groups", "/api/v1/groups")),
        ("apps", recorded(answers, "test_auth_server_clients_lifecycle", "/api/v1/apps")),
    ]
}

/// A recorded answer as the mock sends it. `reset` replaces the time at which the limit is reset.
fn replayed(answer: &Value, reset: Option<i64>) -> MockResponse {
    let mut headers: Vec<(&'static str, String)> = vec![("content-type", "application/json".to_string())];
    for name in ["link", "x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset", "retry-after"] {
        for value in answer["headers"][name].as_array().into_iter().flatten() {
            // The hosts that the recordings kept are those of the organization that is called test here.
            let value = value.as_str().unwrap_or_default();
            let value = match (name, url::Url::parse(value.trim_start_matches('<').split('>').next().unwrap_or_default())) {
                ("link", Ok(url)) => value.replace(url.host_str().unwrap_or_default(), "test.okta.com"),
                ("x-rate-limit-reset", _) => reset.map_or(value.to_string(), |reset| reset.to_string()),
                _ => value.to_string(),
            };
            headers.push((name, value));
        }
    }
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    (status, headers, answer["body"].as_str().unwrap().to_string())
}

fn seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

async fn recorded_lists_become_a_connection() {
    let answers = Arc::new(answers());
    let lists = recorded_lists(&answers);
    let organization = recorded(&answers, "test_get_org_settings", "/api/v1/org");
    let schema = recorded(&answers, "test_get_user_schema", "/api/v1/meta/schemas/user/default");
    let roles = answers.iter().find(|answer| {
        answer["uri"].as_str().is_some_and(|uri| uri.ends_with("/roles")) && answer["body"].as_str() != Some("[]")
    });
    let roles = roles.expect("recorded roles").clone();
    let replay = (lists.clone(), organization.clone(), schema.clone(), roles);
    let vendor = MockVendor::start(move |_, request| {
        let (lists, organization, schema, roles) = &replay;
        let reset = Some(seconds() + 30);
        let path = request.call.trim_start_matches("GET ").split('?').next().unwrap_or_default();
        assert_eq!(request.header("authorization"), Some("SSWS 00recordedTokenOfTheTest000000000000000000"), "{path}");
        match path {
            "/api/v1/org" => replayed(organization, reset),
            "/api/v1/meta/schemas/user/default" => replayed(schema, reset),
            "/api/v1/users/me" => (200, vec![("content-type", "application/json".into())], r#"{"id":"00uoftest"}"#.into()),
            "/api/v1/users/00uoftest/roles" => replayed(roles, reset),
            path => match lists.iter().find(|(name, _)| path == format!("/api/v1/{name}")) {
                Some((_, answer)) => replayed(answer, reset),
                None => panic!("{path} is not a call that was recorded"),
            },
        }
    })
    .await;
    let opened = EngineFixture::at("okta", &vendor.base).open("okta", "test.okta.com", Some(TOKEN)).await.unwrap();
    assert_eq!(opened.identity["subdomain"], "test");
    assert_eq!(opened.identity["id"], body(&organization)["id"]);
    assert_eq!(opened.privilege, Privilege::Over { grants: vec!["USER_ADMIN".to_string()] }, "the recorded role");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["apps", "groups", "users"]);
    assert_eq!(discovery.catalog.skipped, []);
    for (name, answer) in &lists {
        let records = body(answer);
        let records = records.as_array().unwrap();
        if let Some(count) = sample.evidence["streams"][name].as_u64() {
            // The sample ends with 20 items of all lists together.
            assert!(count == records.len() as u64 || sample.rows == 20, "{name}: {count}");
        }
        let stream = discovery.catalog.streams.iter().find(|stream| stream.name == *name).unwrap();
        let properties = stream.json_schema["properties"].as_object().unwrap();
        for record in records {
            for (field, schema) in properties.iter().filter(|(field, _)| record.get(field.as_str()).is_some()) {
                assert!(is_of(schema, &record[field.as_str()]), "{name}.{field}: {} is not {schema}", record[field.as_str()]);
            }
        }
    }
    assert_eq!(sample.evidence["streams"]["users"], body(&lists[0].1).as_array().unwrap().len());
    let users = discovery.catalog.streams.iter().find(|stream| stream.name == "users").unwrap();
    let described = body(&schema);
    for part in ["base", "custom"] {
        for (name, field) in described["definitions"][part]["properties"].as_object().unwrap() {
            let found = &users.json_schema["properties"]["profile"]["properties"][name];
            assert!(found.to_string().contains(field["type"].as_str().unwrap()), "{name}: {found}");
        }
    }
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
    match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => true,
    }
}

async fn recorded_refusals_get_their_class() {
    let answers = answers();
    let refusals: Vec<&Value> = answers.iter().filter(|answer| answer["status"] != 200).collect();
    let mut seen = BTreeSet::new();
    for refusal in refusals {
        let code = body(refusal)["errorCode"].as_str().unwrap_or_default().to_string();
        let expected = match code.as_str() {
            "E0000047" => Class::Throttled,
            "E0000015" => Class::PermissionDenied,
            "E0000004" => Class::CredentialRejected,
            // The others refuse calls that write, which AAM does not make.
            _ => continue,
        };
        if !seen.insert(code.clone()) {
            continue;
        }
        let (answer, reset) = (refusal.clone(), seconds() + 40);
        let vendor = MockVendor::start(move |_, _| replayed(&answer, Some(reset))).await;
        let Err(failure) = EngineFixture::at("okta", &vendor.base).open("okta", "test.okta.com", Some(TOKEN)).await else {
            panic!("{code} was accepted");
        };
        assert_eq!(failure.class, expected, "{code}: {failure:?}");
        if expected == Class::Throttled {
            assert!(refusal["headers"]["retry-after"].is_null(), "Okta sends no Retry-After");
            let wait = failure.retry_after_ms.unwrap();
            assert!((30_000..=45_000).contains(&wait), "{wait} ms, although the reset is 40 s away");
        }
    }
    assert_eq!(seen, ["E0000004", "E0000015", "E0000047"].map(str::to_string).into());
}

async fn checked(path: &str) -> (u16, Vec<(String, String)>, Value) {
    let request = http_client().get(format!("{}{path}", variable("OKTA", "CHECKED")));
    let response = request.header("authorization", format!("SSWS {SANDBOX_TOKEN}")).send().await.unwrap();
    let status = response.status().as_u16();
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_string();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    (status, headers, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

async fn the_sandbox_fits_okta_s_own_description() {
    let secret = json!({"api_token": SANDBOX_TOKEN}).to_string();
    let fixture = EngineFixture::at("okta", &variable("OKTA", "CHECKED"));
    let opened = fixture.open("okta", "acme.okta.com", Some(&secret)).await.unwrap();
    assert_eq!(opened.identity["subdomain"], "acme");
    assert_eq!(opened.privilege, Privilege::Ok);
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], 20));
    // prism is strict: it refuses what the description does not have.
    assert_eq!(checked("/api/v1/users?limit=many").await.0, 422);
    assert_eq!(checked("/api/v1/people").await.0, 404);
    let anonymous = http_client().get(format!("{}/api/v1/users", variable("OKTA", "CHECKED"))).send().await.unwrap();
    assert_eq!(anonymous.status().as_u16(), 401);
}

async fn the_sandbox_answers_as_recorded() {
    let answers = answers();
    for (name, answer) in recorded_lists(&answers) {
        let (status, headers, ours) = checked(&format!("/api/v1/{name}?limit=5")).await;
        assert_eq!(status, 200, "{ours}");
        for header in ["link", "x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"] {
            assert!(!answer["headers"][header].is_null() || header == "link", "{name}: {header} was not recorded");
            assert!(headers.iter().any(|(name, _)| name == header), "{name}: {header}");
        }
        let theirs = body(&answer);
        let known: BTreeSet<&String> =
            theirs.as_array().unwrap().iter().flat_map(|record| record.as_object().unwrap().keys()).collect();
        for (field, value) in ours[0].as_object().unwrap() {
            assert!(known.contains(field), "{name}: Okta has no field {field}");
            let mut recorded = theirs.as_array().unwrap().iter().filter_map(|record| record.get(field)).peekable();
            let same = |other: &Value| {
                std::mem::discriminant(other) == std::mem::discriminant(value) || other.is_null() || value.is_null()
            };
            assert!(recorded.peek().is_none() || recorded.any(same), "{name}.{field}: {value} has another type than at Okta");
        }
    }
}
