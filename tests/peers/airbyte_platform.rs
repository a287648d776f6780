//! A company's own Airbyte: the sandbox's Airbyte, checked by Airbyte's own client, and with Airbyte's descriptions of its APIs by
//! prism, which stands between the built binary and the sandbox and refuses every request and answer that does not fit.

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent_with_locator};
use serde_json::{Value, json};
use tokio::process::Command;

peer_tests! {
    [AirbytePlatform]: airbyte_s_own_client_accepts_the_sandbox, every_request_fits_airbyte_s_own_descriptions;
}

const WORKSPACE: &str = "7a000000-0000-4000-8000-000000000001";
/// Nothing listens there, so AAM itself cannot read the database.
const UNREACHED: &str = "postgres://127.0.0.1:1/shop";

async fn airbyte_s_own_client_accepts_the_sandbox() {
    let served = format!("{}/api/public/v1", variable("AIRBYTE_PLATFORM", "SERVED"));
    let ran = Command::new(variable("AIRBYTE_PLATFORM", "PYTHON"))
        .arg(variable("AIRBYTE_PLATFORM", "SCRIPT"))
        .args([served.as_str(), WORKSPACE])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    let found: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&ran.stderr)));
    assert_eq!(found["workspace"], WORKSPACE);
    assert_eq!(found["definitions"], json!(["airbyte/source-faker", "airbyte/source-okta", "airbyte/source-postgres"]));
    assert_eq!(found["created"], found["read"]);
    assert_eq!(found["name"], "made by the client");
    assert!(found["listed"].as_array().unwrap().contains(&found["created"]), "{found}");
    assert_eq!(found["streams"], json!(["users"]));
    assert!(found["refused"].as_str().is_some_and(|refused| refused.contains("401")), "{found}");
}

/// Where prism is not started, the description is not there, and the script says so.
async fn every_request_fits_airbyte_s_own_descriptions() {
    if std::env::var_os("AAM_TEST_AIRBYTE_PLATFORM_CHECKED").is_none() {
        eprintln!("AAM_AIRBYTE_DESCRIPTIONS is not set, so prism does not check the requests to Airbyte");
        return;
    }
    for (checked, path, source_type, resource_id) in
        [("CHECKED", "/api/v1", "postgres", UNREACHED), ("PUBLIC", "/api/public/v1", "okta", "acme.okta.com")]
    {
        let address = variable("AIRBYTE_PLATFORM", checked);
        let mut workspace = Workspace::new();
        // The descriptions do not have the call for a token.
        workspace.set("AIRBYTE", "airbyte-sandbox-token-acme");
        workspace.set("SOURCE", r#"{"username": "aam", "password": "postgres-sandbox-password", "api_token": "00sandboxReadOnlyAdministratorToken0000000"}"#);
        workspace.write_policy(&format!(
            "allowlist: [okta, postgres]\n\
             airbyte: {{platform: {{url: \"{address}{path}\", workspace: {WORKSPACE}, credential: \"env:AIRBYTE\"}}}}\n\
             families: {{okta: {{engine: airbyte, base_url: \"http://127.0.0.1:1\"}}, postgres: {{engine: airbyte}}}}\n\
             safe_mode: {{max_items: 20, step_timeout: 20s, attempt_timeout: 60s}}\n"
        ));
        let daemon = workspace.serve().await;
        let connection = daemon.push(&intent_with_locator(source_type, resource_id, "env:SOURCE")).await.body;
        assert_eq!(connection["status"], "ACTIVE", "{checked} {connection}");
        let id = connection["connection_id"].as_str().unwrap();
        daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
        let again = daemon.get(&format!("/connections/{id}")).await.body;
        assert_eq!(again["status"], "ACTIVE", "{checked} {again}");
    }
    // prism is strict: it refuses what the description does not have.
    let address = variable("AIRBYTE_PLATFORM", "CHECKED");
    let request = crate::harness::http_client().post(format!("{address}/api/v1/sources/list"));
    let request = request.bearer_auth("airbyte-sandbox-token-acme").header("content-type", "application/json").body("{}");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 422);
}
