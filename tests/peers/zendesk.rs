//! The sandbox's Zendesk, checked by two programs that read Zendesk for others, zenpy and airbyte-source-zendesk-support, and by prism with
//! Zendesk's description where it is provided. No server of Zendesk was found.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use tokio::process::Command;

const READER: &str = "zendesk-sandbox-reader";
const API_TOKEN: &str = "sandboxApiTokenSandboxApiTokenSandbox0001";

mod judges {
    use super::{airbyte_s_connector_accepts_the_sandbox, tickets_are_described_and_never_read, zenpy_accepts_the_sandbox};
    peer_tests! {
        [Zendesk]: zenpy_accepts_the_sandbox, airbyte_s_connector_accepts_the_sandbox, tickets_are_described_and_never_read;
    }
}

mod described {
    use super::all_calls_fit_zendesk_s_description;
    peer_tests! {
        [Zendesk]: all_calls_fit_zendesk_s_description;
    }
}

/// The tests. Zendesk's description is in no package registry, so its test runs where it is provided.
pub fn tests() -> Vec<crate::harness::PeerTest> {
    let described = std::env::var_os("AAM_ZENDESK_DESCRIPTION").map(|_| described::tests());
    judges::tests().into_iter().chain(described.unwrap_or_default()).collect()
}

/// Runs zenpy and returns what it prints.
async fn package(arguments: &[&str]) -> Value {
    let ran = Command::new(variable("ZENDESK", "PYTHON"))
        .arg(variable("ZENDESK", "SCRIPT"))
        .args(arguments)
        .env("HTTPS_PROXY", variable("ZENDESK", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("ZENDESK", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn zenpy_accepts_the_sandbox() {
    for login in [vec!["acme", "oauth", READER], vec!["acme", "api_token", API_TOKEN, "reader@acme.example"]] {
        let read = package(&login).await;
        assert_eq!(read["user"]["url"], "https://acme.zendesk.com/api/v2/users/15001.json", "{read}");
        for (list, count) in [("groups", 12), ("pages", 12), ("ticket_fields", 19), ("user_fields", 12), ("brands", 1)] {
            assert_eq!(read[list].as_array().map(Vec::len), Some(count), "{list}: {read}");
        }
    }
    // An API token that is sent as an OAuth token is refused as a token that has ended.
    let token = package(&["acme", "oauth", API_TOKEN]).await;
    assert_eq!(token["groups"]["error"], 401);
    assert!(token["groups"]["message"].as_str().unwrap().contains("invalid_token"), "{token}");
    // The call for the user answers a wrong login as an anonymous one; all others refuse it.
    let stranger = package(&["acme", "api_token", "wrong", "reader@acme.example"]).await;
    assert_eq!((&stranger["user"]["id"], &stranger["groups"]["error"]), (&Value::Null, &json!(401)), "{stranger}");
    let narrow = package(&["acme", "oauth", "zendesk-sandbox-tickets-only"]).await;
    assert!(narrow["ticket_fields"]["message"].as_str().unwrap().contains("missing the following required scopes: read"));
    let nowhere = package(&["nobody", "oauth", READER]).await;
    assert_eq!(nowhere["groups"]["error"], 404);
}

async fn airbyte_s_connector_accepts_the_sandbox() {
    for (credentials, status) in [
        (json!({"credentials": "oauth2.0", "access_token": READER}), "SUCCEEDED"),
        (json!({"credentials": "api_token", "email": "reader@acme.example", "api_token": API_TOKEN}), "SUCCEEDED"),
        (json!({"credentials": "oauth2.0", "access_token": "zendesk-sandbox-wrong"}), "FAILED"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"subdomain": "acme", "start_date": "2024-01-01T00:00:00Z", "credentials": credentials});
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let ran = Command::new(variable("ZENDESK", "CONNECTOR"))
            .args(["check", "--config"])
            .arg(&path)
            .env("PYTHONPATH", variable("ZENDESK", "PYTHONPATH"))
            .env("HTTPS_PROXY", variable("ZENDESK", "SANDBOX"))
            .env("REQUESTS_CA_BUNDLE", variable("ZENDESK", "CA"))
            .output()
            .await
            .unwrap();
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = messages.rfind(|message| message["type"] == "CONNECTION_STATUS");
        assert_eq!(found.map(|message| message["connectionStatus"]["status"].clone()), Some(json!(status)), "{lines}");
    }
}

/// The sandbox has no tickets, users and organizations, so a call for them would fail.
async fn tickets_are_described_and_never_read() {
    for base in [variable("ZENDESK", "PLAIN"), format!("{}/api/v2", variable("ZENDESK", "PLAIN"))] {
        let opened = EngineFixture::at("zendesk", &base).open("zendesk", "acme", Some(READER)).await.unwrap();
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!((discovery.catalog.skipped.len(), sample.rows), (0, 20));
        let schema = |name: &str| {
            let stream = discovery.catalog.streams.iter().find(|stream| stream.name == name);
            stream.unwrap_or_else(|| panic!("{name}: {:?}", stream_names(&discovery))).json_schema["properties"].clone()
        };
        let fields = schema("tickets")["fields"]["properties"].clone();
        assert_eq!(
            (&fields["Subject"]["type"], &fields["Custom field 2"]["type"]),
            (&json!(["null", "string"]), &json!(["null", "boolean"]))
        );
        assert_eq!(fields["Custom field 5"]["format"], "date");
        assert_eq!(schema("users")["user_fields"]["properties"]["user_field_2"]["type"], json!(["null", "integer"]));
        let organizations = schema("organizations");
        assert_eq!(organizations["organization_fields"]["properties"]["organization_field_1"]["format"], "date");
        assert_eq!(organizations["created_at"]["format"], "date-time");
    }
}

async fn all_calls_fit_zendesk_s_description() {
    let fixture = EngineFixture::at("zendesk", &variable("ZENDESK", "CHECKED"));
    let opened = fixture.open("zendesk", "acme", Some(READER)).await.unwrap();
    assert_eq!((&opened.identity["role"], &opened.privilege), (&json!("agent"), &Privilege::Ok));
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    let streams =
        ["brands", "groups", "organization_fields", "organizations", "ticket_fields", "tickets", "user_fields", "users"];
    assert_eq!((stream_names(&discovery).as_slice(), sample.rows), (streams.as_slice(), 20));
    let failure = fixture.open("zendesk", "acme", Some("zendesk-sandbox-wrong")).await.err().unwrap();
    assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
}
