//! The families entra and m365_sharepoint and their sandbox, checked by software of others: Graph's own API description through
//! prism, and azure-identity.
//!
//! prism as a mock answers with made-up examples and refuses calls that the description does not have. As a proxy it does the
//! same before the sandbox, and also refuses answers of the sandbox that do not fit. azure-identity logs in to the sandbox with
//! Microsoft's own client. None of them knows which permission a call needs; the sandbox has that from Microsoft's data.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use serde_json::{Value, json};
use tokio::process::Command;

const TENANT: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
const CLIENT: &str = "535fb089-9ff3-47b6-9bfb-4f1264799801";

peer_tests! {
    [Graph]: all_calls_of_entra_fit_the_description_of_graph, all_calls_of_sharepoint_fit_the_description_of_graph,
        the_sandbox_answers_as_the_description_says, prism_refuses_what_the_description_does_not_have,
        azure_identity_accepts_the_sandbox, azure_identity_is_refused_with_the_codes_of_microsoft;
}

async fn all_calls_of_entra_fit_the_description_of_graph() {
    let fixture = EngineFixture::at("entra", &variable("GRAPH", "MOCK"));
    for id in ["84841066-274d-4ec0-a5c1-276be684bdd3", "contoso.onmicrosoft.com"] {
        let opened = fixture.open("entra", id, Some("a-token-of-the-test")).await.unwrap();
        assert_eq!(opened.identity["id"], "84841066-274d-4ec0-a5c1-276be684bdd3");
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(stream_names(&discovery), ["applications", "groups", "servicePrincipals", "users"]);
        assert_eq!(discovery.catalog.skipped, []);
        assert_eq!(sample.rows, 3, "the description has one example for each list");
    }
}

async fn all_calls_of_sharepoint_fit_the_description_of_graph() {
    let fixture = EngineFixture::at("m365_sharepoint", &variable("GRAPH", "MOCK"));
    let opened = fixture.open("m365_sharepoint", "https://contoso.sharepoint.com", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(opened.identity["webUrl"], "https://contoso.sharepoint.com");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    // The list of the description's example has an empty id, which cannot be part of an address.
    let skipped: Vec<&str> = discovery.catalog.skipped.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(skipped, ["list:"]);
    assert_eq!(sample.evidence["streams"], json!({"drives": 1, "items": 1, "lists": 1}));
}

async fn the_sandbox_answers_as_the_description_says() {
    let base = variable("GRAPH", "CHECKED");
    let opened = EngineFixture::at("entra", &base).open("entra", TENANT, Some("entra-sandbox-reader")).await.unwrap();
    assert_eq!(opened.identity["displayName"], "Acme");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(discovery.catalog.skipped, []);
    assert_eq!(sample.evidence["streams"], json!({"users": 12, "groups": 8}));

    let fixture = EngineFixture::at("m365_sharepoint", &base);
    let opened = fixture.open("m365_sharepoint", "acme.sharepoint.com", Some("sharepoint-sandbox-reader")).await.unwrap();
    assert_eq!(opened.identity["tenant"], TENANT);
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(discovery.catalog.skipped, []);
    assert_eq!(sample.evidence["streams"], json!({"drives": 6, "items": 6, "lists": 6}));
    let list = discovery.catalog.streams.iter().find(|stream| stream.name == "list:List2").expect("a list");
    assert_eq!(list.json_schema["properties"]["Amount"]["type"], json!(["number", "null"]));
}

async fn prism_refuses_what_the_description_does_not_have() {
    for base in [variable("GRAPH", "MOCK"), variable("GRAPH", "CHECKED")] {
        let status = |path: &str, token: Option<&str>| {
            let mut request = http_client().get(format!("{base}{path}"));
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            async move { request.send().await.unwrap().status().as_u16() }
        };
        assert_eq!(status("/organization", Some("entra-sandbox-reader")).await, 200);
        assert_eq!(status("/organization", None).await, 401);
        assert_eq!(status("/organisation", Some("entra-sandbox-reader")).await, 404);
        assert!((400..500).contains(&status("/users?$top=many", Some("entra-sandbox-reader")).await));
        assert!((400..500).contains(&status("/users?$select=password_of_the_user", Some("entra-sandbox-reader")).await));
    }
}

/// Runs the script of the peer and returns what it prints.
async fn azure_identity(client: &str, secret: &str, paths: &[&str]) -> Value {
    let ran = Command::new(variable("GRAPH", "PYTHON"))
        .arg(variable("GRAPH", "SCRIPT"))
        .args([TENANT, client, secret])
        .args(paths)
        .env("HTTPS_PROXY", variable("GRAPH", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("GRAPH", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn azure_identity_accepts_the_sandbox() {
    let users = "/users?$select=id,accountEnabled,userType&$top=5";
    let read = azure_identity(CLIENT, "entra-sandbox-secret", &["/organization", users]).await;
    assert_eq!(read["answers"]["/organization"]["items"][0]["id"], TENANT);
    assert_eq!(
        (&read["answers"][users]["pages"], read["answers"][users]["items"].as_array().map(Vec::len)),
        (&json!(3), Some(12))
    );
    let groups = azure_identity("535fb089-9ff3-47b6-9bfb-4f1264799806", "entra-sandbox-secret", &["/users"]).await;
    assert_eq!(groups["answers"]["/users"], json!({"status": 403, "pages": 0, "items": ["Authorization_RequestDenied"]}));
    let site = "/sites/acme.sharepoint.com:/sites/Marketing";
    let client = "64a5e1f2-7c31-4e0d-9b52-7d3c8a2f1004";
    let selected = azure_identity(client, "sharepoint-sandbox-secret", &[site, "/sites/root"]).await;
    assert_eq!(selected["answers"][site]["items"][0]["webUrl"], "https://acme.sharepoint.com/sites/Marketing");
    assert_eq!(selected["answers"]["/sites/root"]["items"], json!(["accessDenied"]));
}

async fn azure_identity_is_refused_with_the_codes_of_microsoft() {
    for (client, secret, code) in [
        (CLIENT, "not-the-secret", "AADSTS7000215"),
        ("535fb089-9ff3-47b6-9bfb-4f1264799803", "entra-sandbox-secret", "AADSTS7000222"),
        ("00000000-1111-4222-8333-444444444444", "entra-sandbox-secret", "AADSTS700016"),
    ] {
        let refused = azure_identity(client, secret, &[]).await;
        assert!(refused["refused"].as_str().is_some_and(|text| text.contains(code)), "{code}: {refused}");
    }
}
