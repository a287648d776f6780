//! The family `azure_sub` against recorded answers of Azure Resource Manager, and the sandbox's Azure against those answers,
//! against Azure's own API descriptions through prism, and against Microsoft's Python client.
//!
//! The packages azure-mgmt-resource 15.0.0 and azure-mgmt-authorization 0.61.0 ship the recordings. Ids in them are replaced by
//! zeros.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, MockVendor, remaining_steps, stream_names};
use crate::support::openapi::MockResponse;
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::process::Command;

peer_tests! {
    [Azure]: recorded_answers_become_a_connection, a_recorded_refusal_gets_its_class, the_sandbox_answers_as_recorded,
        the_sandbox_fits_azure_s_own_descriptions, azure_mgmt_resource_accepts_the_sandbox;
}

/// The id of the recordings.
const RECORDED: &str = "00000000-0000-0000-0000-000000000000";
const SUBSCRIPTION: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b7a10";
const TENANT: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";

fn answers() -> Vec<Value> {
    let path = variable("AZURE", "ANSWERS");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The recorded answer to a call whose path ends with `path`, of those with status 200 the one with the longest body.
fn recorded(answers: &[Value], path: &str) -> Value {
    let fits = |answer: &&Value| {
        let uri = answer["uri"].as_str().unwrap_or_default();
        answer["status"] == 200 && answer["method"] == "GET" && uri.split('?').next().unwrap_or_default().ends_with(path)
    };
    let longest = answers.iter().filter(fits).max_by_key(|answer| answer["body"].as_str().map(str::len));
    longest.unwrap_or_else(|| panic!("no recording of {path}")).clone()
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

fn replayed(answer: &Value) -> MockResponse {
    let headers = ["content-type", "x-ms-ratelimit-remaining-subscription-reads", "x-ms-failure-cause", "www-authenticate"];
    let headers = headers.iter().filter_map(|name| Some((*name, answer["headers"][name][0].as_str()?.to_string())));
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    (status, headers.collect(), answer["body"].as_str().unwrap().to_string())
}

/// The paths of the family below the subscription, with the ends of the recorded paths.
const CALLS: [(&str, &str); 5] = [
    ("", "/subscriptions/00000000-0000-0000-0000-000000000000"),
    ("/providers/Microsoft.Authorization/permissions", "/providers/Microsoft.Authorization/permissions"),
    ("/resources", "/resources"),
    ("/resourcegroups", "/resourcegroups"),
    ("/providers", "/providers"),
];

async fn recorded_answers_become_a_connection() {
    let answers = answers();
    let known: Vec<(String, Value)> =
        CALLS.iter().map(|(path, end)| (format!("/subscriptions/{RECORDED}{path}"), recorded(&answers, end))).collect();
    let known = Arc::new(known);
    let replay = Arc::clone(&known);
    let vendor = MockVendor::start(move |_, request| {
        assert_eq!(request.token, "a-token-of-the-test", "{}", request.call);
        assert!(request.call.contains("api-version=20"), "{}", request.call);
        match replay.iter().find(|(path, _)| path == request.path()) {
            Some((_, answer)) => replayed(answer),
            None => panic!("{} is not a call that was recorded", request.call),
        }
    })
    .await;
    let opened =
        EngineFixture::at("azure_sub", &vendor.base).open("azure_sub", RECORDED, Some("a-token-of-the-test")).await.unwrap();
    let subscription = body(&known[0].1);
    assert_eq!(opened.identity["subscriptionId"], subscription["subscriptionId"]);
    assert_eq!(opened.identity["displayName"], subscription["displayName"]);
    assert_eq!(opened.identity["state"], "Enabled");
    // The recorded role is Contributor.
    assert_eq!(opened.privilege, Privilege::Over { grants: vec!["*".to_string()] });
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["providers", "resource_groups", "resources"]);
    assert_eq!(discovery.catalog.skipped, []);
    let count = |path: &str| {
        let (_, answer) = known.iter().find(|(known, _)| known.ends_with(path)).unwrap();
        body(answer)["value"].as_array().unwrap().len() as u64
    };
    assert_eq!(sample.evidence["streams"]["resources"], json!(count("/resources")));
    assert_eq!(sample.evidence["streams"]["resource_groups"], json!(count("/resourcegroups").min(20 - count("/resources"))));
    assert_eq!(vendor.calls().len(), 5, "{:?}", vendor.calls());
    for (stream, path) in [("resources", "/resources"), ("resource_groups", "/resourcegroups"), ("providers", "/providers")] {
        let schema = discovery.catalog.streams.iter().find(|found| found.name == stream).unwrap();
        let (_, answer) = known.iter().find(|(known, _)| known.ends_with(path)).unwrap();
        for record in body(answer)["value"].as_array().unwrap() {
            for (field, described) in schema.json_schema["properties"].as_object().unwrap() {
                let Some(value) = record.get(field) else { continue };
                assert!(value.is_string() && described["type"].to_string().contains("string"), "{stream}.{field}: {value}");
            }
            assert!(record.get("id").is_some(), "{stream}: {record}");
        }
    }
}

async fn a_recorded_refusal_gets_its_class() {
    let answers = answers();
    let refusals: Vec<&Value> = answers.iter().filter(|answer| answer["status"] == 401).collect();
    assert!(refusals.len() >= 2, "{}", refusals.len());
    for refusal in refusals {
        let refusal = refusal.clone();
        let vendor = MockVendor::start(move |_, _| replayed(&refusal)).await;
        let fixture = EngineFixture::at("azure_sub", &vendor.base);
        let failure = fixture.open("azure_sub", RECORDED, Some("a-token-of-the-test")).await.err().expect("a refusal");
        assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
        assert!(failure.detail.contains("The access token is invalid."), "{failure:?}");
    }
}

/// The names of the fields of `value`, with those of the objects in it.
fn fields(value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        names.push(name.clone());
        if matches!(name.as_str(), "properties" | "subscriptionPolicies" | "sku") {
            names.extend(fields(value).into_iter().map(|below| format!("{name}.{below}")));
        }
    }
    names
}

/// Every field of the sandbox exists in a recorded answer. A subscription has more fields in newer versions of the API.
async fn the_sandbox_answers_as_recorded() {
    let answers = answers();
    let base = variable("AZURE", "CHECKED");
    for (path, end) in CALLS {
        let url = format!("{base}/subscriptions/{SUBSCRIPTION}{path}?api-version=2021-04-01");
        let response = http_client().get(&url).header("authorization", "Bearer azure-sandbox-reader").send().await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        let sent: Value = response.json().await.unwrap();
        let recorded = body(&recorded(&answers, end));
        let lists = |value: &Value| value["value"].as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let known: Vec<String> = lists(&recorded).iter().flat_map(fields).collect();
        for item in lists(&sent) {
            // The recorded resource has a SKU of one field and no tags.
            let newer = ["kind", "tags", "sku.tier"];
            let unknown: Vec<String> =
                fields(&item).into_iter().filter(|name| !known.contains(name) && !newer.contains(&name.as_str())).collect();
            assert_eq!(unknown, Vec::<String>::new(), "{path}");
        }
    }
}

async fn the_sandbox_fits_azure_s_own_descriptions() {
    let base = variable("AZURE", "CHECKED");
    let fixture = EngineFixture::at("azure_sub", &base);
    let opened = fixture.open("azure_sub", SUBSCRIPTION, Some("azure-sandbox-reader")).await.unwrap();
    assert_eq!((&opened.identity["tenantId"], &opened.privilege), (&json!(TENANT), &Privilege::Ok));
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(discovery.catalog.skipped, []);
    assert_eq!(sample.evidence["streams"], json!({"resources": 12, "resource_groups": 8}));
    // A role on one resource group only: the list of subscriptions proves the id.
    let opened = fixture.open("azure_sub", SUBSCRIPTION, Some("azure-sandbox-group-reader")).await.unwrap();
    assert_eq!(opened.identity["subscriptionId"], SUBSCRIPTION);
    let denied = fixture.open("azure_sub", SUBSCRIPTION, Some("azure-sandbox-no-role")).await.err().expect("a refusal");
    assert_eq!(denied.class, Class::PermissionDenied, "{denied:?}");
    for (path, token, status) in [
        (format!("/subscriptions/{SUBSCRIPTION}?api-version=2022-12-01"), None, 401),
        (format!("/subscriptions/{SUBSCRIPTION}"), Some("azure-sandbox-reader"), 422),
        (format!("/subscriptions/{SUBSCRIPTION}/nothing?api-version=2022-12-01"), Some("azure-sandbox-reader"), 404),
    ] {
        let mut request = http_client().get(format!("{base}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{path}");
    }
}

/// Runs the script of the peer and returns what it prints.
async fn azure_mgmt_resource(client: &str, secret: &str) -> Value {
    let ran = Command::new(variable("AZURE", "PYTHON"))
        .arg(variable("AZURE", "SCRIPT"))
        .args([TENANT, client, secret, SUBSCRIPTION])
        .env("HTTPS_PROXY", variable("AZURE", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("AZURE", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn azure_mgmt_resource_accepts_the_sandbox() {
    let read = azure_mgmt_resource("535fb089-9ff3-47b6-9bfb-4f1264799811", "azure-sandbox-secret").await;
    assert_eq!(read["subscription"], json!({"subscription_id": SUBSCRIPTION, "state": "Enabled", "tenant_id": TENANT}));
    assert_eq!(read["subscriptions"], json!([SUBSCRIPTION]));
    for (list, count) in [("groups", 12), ("resources", 12), ("providers", 25)] {
        assert_eq!(read[list].as_array().map(Vec::len), Some(count), "{list}: {read}");
    }
    let no_role = azure_mgmt_resource("535fb089-9ff3-47b6-9bfb-4f1264799814", "azure-sandbox-secret").await;
    assert_eq!(no_role["subscription"], json!({"status": 403, "code": "AuthorizationFailed"}));
    assert_eq!(no_role["subscriptions"], json!([]), "the list of subscriptions is empty without a role");
    for (client, secret, code) in [
        ("535fb089-9ff3-47b6-9bfb-4f1264799811", "not-the-secret", "AADSTS7000215"),
        ("535fb089-9ff3-47b6-9bfb-4f1264799812", "azure-sandbox-secret", "AADSTS7000222"),
    ] {
        let refused = azure_mgmt_resource(client, secret).await;
        let text = refused["subscription"]["refused"].as_str().unwrap_or_default();
        assert!(text.contains(code), "{code}: {refused}");
    }
}
