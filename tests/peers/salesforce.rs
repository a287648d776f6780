//! The family `salesforce` against recorded answers of Salesforce, and the sandbox's Salesforce against those answers and against
//! the client simple-salesforce.
//!
//! cumulusci ships the recordings. Their organization, versions and hosts are replaced by placeholders, and most of their headers
//! are left out; the recorded row of Organization was read by its id, so it is put into the envelope of a query here.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, MockVendor, ReceivedRequest, remaining_steps, stream_names};
use crate::support::openapi::{MockResponse, json_response};
use aam::model::Privilege;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

peer_tests! {
    [Salesforce]: recorded_answers_become_a_connection, the_sandbox_answers_as_recorded, simple_salesforce_accepts_the_sandbox;
}

/// The organization of the recordings.
const ORGANIZATION: &str = "00D0xORGID00000000";

/// The recorded answers: the path below the version with its query, and the body.
fn recordings() -> BTreeMap<String, String> {
    let path = variable("SALESFORCE", "RECORDINGS");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let calls: Vec<Value> = serde_json::from_str(&text).unwrap();
    let part = |call: &Value, name: &str| call[name].as_str().unwrap_or_default().to_string();
    let below =
        |uri: &str| uri.split("/services/data/").nth(1).and_then(|rest| rest.split_once('/')).map(|(_, rest)| rest.to_string());
    let fine =
        calls.iter().filter(|call| call["status"] == 200 && !call["recording"].as_str().unwrap().contains("PersonAccount"));
    fine.filter_map(|call| Some((below(&part(call, "uri"))?, part(call, "body")))).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The recorded rows of a query for `object`, of which the family reads the ids.
fn rows(recordings: &BTreeMap<String, String>, object: &str) -> Vec<Value> {
    let of_object = |path: &str| {
        let query = path.strip_prefix("query/?q=").map(|query| query.replace("%20", "+").replace("%2C", ",").to_lowercase());
        query.is_some_and(|query| query.starts_with("select+id") && query.ends_with(&format!("+from+{}", object.to_lowercase())))
    };
    let found = recordings.iter().find(|(path, _)| of_object(path));
    found.map(|(_, body)| parsed(body)["records"].as_array().cloned().unwrap_or_default()).unwrap_or_default()
}

fn answer(recordings: &BTreeMap<String, String>, request: &ReceivedRequest) -> MockResponse {
    let Some(below) = request.call.strip_prefix("GET /services/data/v60.0/") else {
        return (
            404,
            vec![("content-type", "application/json".into())],
            r#"[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]"#.into(),
        );
    };
    if request.token != "00D0xORGID00000!recorded.token.of.the.test" {
        return (
            401,
            vec![("content-type", "application/json".into())],
            r#"[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]"#.into(),
        );
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(below.split_once('?').map_or("", |(_, query)| query).as_bytes()).into_owned().collect();
    if below.starts_with("query") {
        let object = query["q"].split(" FROM ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_string();
        let records = match object.as_str() {
            "Organization" => vec![parsed(&recordings[&format!("sobjects/Organization/{ORGANIZATION}")])],
            other => rows(recordings, other).into_iter().take(20).collect(),
        };
        return json_response(json!({"totalSize": records.len(), "done": true, "records": records}).to_string());
    }
    match recordings.get(below) {
        Some(body) => json_response(body),
        None => (
            404,
            vec![("content-type", "application/json".into())],
            r#"[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]"#.into(),
        ),
    }
}

async fn recorded_answers_become_a_connection() {
    let recordings = Arc::new(recordings());
    let replayed = Arc::clone(&recordings);
    let vendor = MockVendor::start(move |_, request| answer(&replayed, request)).await;
    let fixture = EngineFixture::at("salesforce", &vendor.base);
    let token = "00D0xORGID00000!recorded.token.of.the.test";
    let opened = fixture.open("salesforce", &format!("org_{ORGANIZATION}"), Some(token)).await.unwrap();
    assert_eq!(opened.identity["Name"], "CumulusCI - Dev Workspace");
    assert_eq!(opened.identity["OrganizationType"], "Developer Edition");
    // The recorded user may change accounts.
    let Privilege::Over { grants } = &opened.privilege else { panic!("{:?}", opened.privilege) };
    assert!(grants.contains(&"Account=write".to_string()), "{grants:?}");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    let described: BTreeSet<&str> = ["Account", "Contact", "Opportunity", "Lead", "Case"].into();
    let found = stream_names(&discovery);
    assert!(described.iter().all(|name| found.iter().any(|found| found == name)), "{found:?}");
    assert!(discovery.catalog.truncated, "the organization has more objects than are described");
    for stream in &discovery.catalog.streams {
        let recorded = parsed(&recordings[&format!("sobjects/{}/describe", stream.name)]);
        let fields: BTreeSet<&str> =
            recorded["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect();
        let columns: BTreeSet<&str> = stream.json_schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(columns, fields, "{}", stream.name);
        for field in recorded["fields"].as_array().unwrap() {
            let column = &stream.json_schema["properties"][field["name"].as_str().unwrap()]["type"][1];
            let expected = match field["type"].as_str().unwrap() {
                "boolean" => "boolean",
                "int" => "integer",
                "double" | "currency" | "percent" => "number",
                "address" | "location" => "object",
                _ => "string",
            };
            assert_eq!(column, expected, "{}.{field}", stream.name);
        }
    }
    // The tiny sync reads at most 20 rows of three objects.
    let counts = &sample.evidence["streams"];
    assert_eq!(counts["Account"], rows(&recordings, "Account").len().min(20), "{counts}");
    assert!(sample.rows > 0 && sample.rows <= 20, "{counts}");
    let mut calls = vendor.calls();
    let count = calls.len();
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), count, "no call is made twice: {calls:?}");
}

/// What `value` is made of: the types of its keys. A null may stand for any type.
fn is_like(sandbox: &Value, recorded: &Value, place: &str) {
    match (sandbox, recorded) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(own), Value::Object(real)) => {
            for (name, value) in own {
                let real = real.get(name).unwrap_or_else(|| panic!("{place}/{name} is in no recorded answer"));
                is_like(value, real, &format!("{place}/{name}"));
            }
        }
        (Value::Array(own), Value::Array(real)) => {
            if let (Some(own), Some(real)) = (own.first(), real.first()) {
                is_like(own, real, &format!("{place}/0"));
            }
        }
        (own, real) => assert_eq!(std::mem::discriminant(own), std::mem::discriminant(real), "{place}: {own} and {real}"),
    }
}

async fn the_sandbox_answers_as_recorded() {
    let recordings = recordings();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = std::fs::read(variable("SALESFORCE", "CA")).unwrap();
    let client = reqwest::Client::builder()
        .proxy(reqwest::Proxy::https(format!("http://{}", variable("SALESFORCE", "SANDBOX"))).unwrap())
        .add_root_certificate(reqwest::Certificate::from_pem(&authority).unwrap())
        .build()
        .unwrap();
    let get = |below: &'static str| {
        let request = client.get(format!("https://acme.my.salesforce.com/services/data/v60.0/{below}"));
        async move {
            let response = request.bearer_auth("00D5g000004XyZa!AQsandboxReader0000000001").send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/json;charset=UTF-8");
            parsed(&response.text().await.unwrap())
        }
    };
    is_like(&get("sobjects").await, &parsed(&recordings["sobjects"]), "sobjects");
    is_like(&get("sobjects/Account/describe").await, &parsed(&recordings["sobjects/Account/describe"]), "describe");
    let organization = get("query?q=SELECT+Id,+Name,+OrganizationType,+InstanceName+FROM+Organization+LIMIT+1").await;
    let recorded = parsed(&recordings[&format!("sobjects/Organization/{ORGANIZATION}")]);
    is_like(&organization["records"][0], &recorded, "Organization");
    let query = recordings.iter().find(|(path, _)| path.starts_with("query/?q=SELECT+Id%2CName+FROM+Account")).unwrap().1;
    is_like(&get("query?q=SELECT+Id+FROM+Account+LIMIT+20").await, &parsed(query), "query");
}

/// A client that others wrote reads what the family reads, and sees the refusals of the sandbox as those of Salesforce.
const JUDGE: &str = r#"
import sys
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceExpiredSession, SalesforceRefusedRequest, SalesforceResourceNotFound

good = "00D5g000004XyZa!AQsandboxReader0000000001"

def client(host, token=good):
    return Salesforce(instance=host, session_id=token, version="60.0")

sf = client("acme.my.salesforce.com")
row = sf.query("SELECT Id, Name, OrganizationType, InstanceName FROM Organization LIMIT 1")["records"][0]
assert row["Id"] == "00D5g000004XyZaEAK", row
names = [item["name"] for item in sf.describe()["sobjects"]]
assert "Account" in names and "Invoice__c" in names, names
fields = {field["name"]: field["type"] for field in sf.Account.describe()["fields"]}
assert fields["AnnualRevenue"] == "currency", fields
assert len(sf.query_all("SELECT Id FROM Account LIMIT 20")["records"]) == 12
assert sf.api_usage["api-usage"].total == 15000, sf.api_usage
assert sf.limits()["DailyApiRequests"]["Max"] == 15000

def refused(kind, call):
    try:
        call()
    except kind as refusal:
        return str(refusal)
    raise AssertionError("not refused")

assert "INVALID_SESSION_ID" in refused(SalesforceExpiredSession, lambda: client("acme.my.salesforce.com", "nobody").describe())
assert "REQUEST_LIMIT_EXCEEDED" in refused(SalesforceRefusedRequest, lambda: client("limited-acme.my.salesforce.com").describe())
assert "API_DISABLED_FOR_ORG" in refused(SalesforceRefusedRequest, lambda: client("edition-acme.my.salesforce.com").describe())
assert "NOT_FOUND" in refused(SalesforceResourceNotFound, lambda: sf.Nothing__c.describe())
print("accepted")
"#;

async fn simple_salesforce_accepts_the_sandbox() {
    let output = Command::new(variable("SALESFORCE", "PYTHON"))
        .args(["-c", JUDGE])
        .env("HTTPS_PROXY", format!("http://{}", variable("SALESFORCE", "SANDBOX")))
        .env("REQUESTS_CA_BUNDLE", variable("SALESFORCE", "CA"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stdout).trim(), "accepted", "{}", text(&output.stderr));
}
