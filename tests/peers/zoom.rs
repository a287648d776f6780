//! The sandbox's Zoom, checked by prism with Zoom's description and by airbyte-source-zoom, and the family `zoom` through prism. No server
//! of Zoom and no recording of one was found.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::Class;
use serde_json::{Value, json};
use tokio::process::Command;

peer_tests! {
    [Zoom]: the_family_and_the_sandbox_fit_zoom_s_own_description, a_foreign_account_is_refused_behind_prism,
        airbyte_s_connector_gets_its_token_from_the_sandbox;
}

const ACCOUNT: &str = "acmeSandboxAccount0001";

async fn the_family_and_the_sandbox_fit_zoom_s_own_description() {
    let fixture = EngineFixture::at("zoom", &variable("ZOOM", "CHECKED"));
    for id in [ACCOUNT, "10009239"] {
        let opened = fixture.open("zoom", id, Some("zoom-sandbox-reader")).await.unwrap();
        assert_eq!((&opened.identity["account_id"], &opened.identity["account_number"]), (&json!(ACCOUNT), &json!("10009239")));
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(stream_names(&discovery), ["groups", "roles", "users"], "{id}");
        assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], 20));
    }
    // prism is strict: it refuses what the description does not have.
    let request = crate::harness::http_client().get(format!("{}/users?page_size=many", variable("ZOOM", "CHECKED")));
    let response = request.header("authorization", "Bearer zoom-sandbox-reader").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 422);
}

async fn a_foreign_account_is_refused_behind_prism() {
    let fixture = EngineFixture::at("zoom", &variable("ZOOM", "CHECKED"));
    let failure = fixture.open("zoom", ACCOUNT, Some("zoom-sandbox-other")).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
    // Other tests of this process teach the redactor their secrets, which may be a part of the name.
    assert!(failure.title.starts_with("this credential is for the Zoom account "), "{failure:?}");
}

async fn airbyte_s_connector_gets_its_token_from_the_sandbox() {
    for (secret, account, status) in [
        ("zoom-sandbox-client-secret", ACCOUNT, "SUCCEEDED"),
        ("zoom-sandbox-another-secret", ACCOUNT, "FAILED"),
        ("zoom-sandbox-client-secret", "otherSandboxAccount001", "FAILED"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "account_id": account, "client_id": "zoomSandboxReader0001", "client_secret": secret,
            "authorization_endpoint": "https://zoom.us/oauth/token",
        });
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let ran = Command::new(variable("ZOOM", "CONNECTOR"))
            .args(["-c", "from source_zoom.run import run; run()", "check", "--config"])
            .arg(&path)
            .env("PYTHONPATH", variable("ZOOM", "PYTHONPATH"))
            .env("HTTPS_PROXY", variable("ZOOM", "SANDBOX"))
            .env("REQUESTS_CA_BUNDLE", variable("ZOOM", "CA"))
            .output()
            .await
            .unwrap();
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = messages.rfind(|message| message["type"] == "CONNECTION_STATUS");
        let found = found.map_or(json!("FAILED"), |message| message["connectionStatus"]["status"].clone());
        assert_eq!(found, status, "{secret} {account}: {lines}");
    }
}
