//! Signatures for NetSuite against oauthlib, which others wrote: of the kind `netsuite`, with which the whole binary connects a
//! source by `sp:NAME`, and of the family. Wrong secrets are refused. The sandbox's NetSuite is checked by Airbyte's connector.

use crate::harness::{get_json, variable};
use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use tokio::process::Command;

peer_tests! {
    [Oauthlib]: signed_requests_are_accepted_and_wrong_secrets_are_refused, a_family_signs_every_call;
    [Netsuite]: airbyte_s_connector_accepts_the_sandbox;
}

const NAMES: [&str; 4] = ["CONSUMER_KEY", "CONSUMER_SECRET", "TOKEN_ID", "TOKEN_SECRET"];

async fn signed_requests_are_accepted_and_wrong_secrets_are_refused() {
    let (url, account) = (variable("OAUTHLIB", "URL"), variable("OAUTHLIB", "ACCOUNT"));
    let mut workspace = Workspace::new();
    let mut principals = String::new();
    let mut add = |name: &str, account: &str, wrong: &str| {
        let locator = |key: &str| format!("env:{}{key}", if key == wrong { "WRONG_" } else { "" });
        principals.push_str(&format!(
            "    {name}: {{kind: netsuite, account: \"{account}\", url: \"{url}\", consumer_key: {}, consumer_secret: {}, token_id: {}, token_secret: {}}}\n",
            locator(NAMES[0]), locator(NAMES[1]), locator(NAMES[2]), locator(NAMES[3])
        ));
    };
    add("right", &account.to_lowercase().replace('_', "-"), "");
    add("other-account", "7654321", "");
    NAMES.iter().for_each(|name| add(&format!("wrong-{}", name.to_lowercase()), &account, name));
    for name in NAMES {
        workspace.set(name, &variable("OAUTHLIB", name));
        // As long as the right value, so that only the comparison can tell them apart.
        workspace.set(&format!("WRONG_{name}"), &"0123456789abcdef".repeat(4));
    }
    workspace.write_policy(&format!("allowlist: [openapi]\ncredentials:\n  principals:\n{principals}"));
    // The name of a case cannot be part of the address, because it looks like one of a secret.
    let id = |name: &str| format!("{url}/openapi.json?case{}", name.bytes().map(u32::from).sum::<u32>());
    let names: Vec<String> = ["right", "other-account"]
        .map(String::from)
        .into_iter()
        .chain(NAMES.iter().map(|name| format!("wrong-{}", name.to_lowercase())))
        .collect();
    for name in &names {
        workspace.intent_file(&format!("{name}.json"), &intent_with_locator("openapi", &id(name), &format!("sp:{name}")));
    }
    let daemon = workspace.serve().await;
    let active = daemon.until_state(&id("right"), "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 2, "{active}");
    for name in names.iter().filter(|name| *name != "right") {
        let refused = daemon.until_state(&id(name), "AWAITING_CREDENTIALS").await;
        let title = refused["error"]["title"].as_str().unwrap_or_default();
        assert_eq!(title, format!("NetSuite does not accept the access token of service principal {name}"), "{refused}");
    }
    let counts = get_json(&format!("{url}/counts")).await;
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    assert!(number("accepted") >= 2 && number("refused") >= 5, "{counts}");
    assert_eq!(number("replays_refused"), number("accepted"), "each nonce is accepted once: {counts}");
    daemon.stop().await;
    for (path, bytes) in workspace.files() {
        let text = String::from_utf8_lossy(&bytes);
        NAMES.iter().for_each(|name| assert!(!text.contains(&variable("OAUTHLIB", name)), "{name} in {}", path.display()));
    }
}

async fn a_family_signs_every_call() {
    let (url, account) = (variable("OAUTHLIB", "URL"), variable("OAUTHLIB", "ACCOUNT"));
    let credential = |wrong: &str| {
        let value = |name: &str| match name == wrong {
            true => "0123456789abcdef".repeat(4),
            false => variable("OAUTHLIB", name),
        };
        json!({"consumer_key": value(NAMES[0]), "consumer_secret": value(NAMES[1]), "token_id": value(NAMES[2]), "token_secret": value(NAMES[3])}).to_string()
    };
    let before = get_json(&format!("{url}/counts")).await;
    let fixture = EngineFixture::at("netsuite", &url);
    for id in [account.clone(), account.to_lowercase().replace('_', "-")] {
        let opened = fixture.open("netsuite", &id, Some(&credential(""))).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(opened.identity["auth"], "token_based", "{:?}", opened.identity);
        assert!(matches!(opened.privilege, Privilege::Unknown { .. }), "{:?}", opened.privilege);
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(stream_names(&discovery), ["account", "customer", "invoice"]);
        let changed = &discovery.catalog.streams[0].json_schema["properties"]["lastModifiedDate"];
        assert_eq!(changed["format"], "date-time", "{changed}");
        assert_eq!(sample.rows, 9);
    }
    for name in NAMES {
        let failure = fixture.open("netsuite", &account, Some(&credential(name))).await.err().expect("a refusal");
        assert_eq!(failure.class, Class::CredentialRejected, "{name}: {failure:?}");
    }
    let other = fixture.open("netsuite", "7654321", Some(&credential(""))).await.err().expect("a refusal");
    assert_eq!(other.class, Class::CredentialRejected, "the realm is the account: {other:?}");
    let counts = get_json(&format!("{url}/counts")).await;
    let more = |name: &str| counts[name].as_u64().unwrap_or_default() - before[name].as_u64().unwrap_or_default();
    assert!(more("accepted") >= 16 && more("replays_refused") == more("accepted"), "{before} {counts}");
}

/// Airbyte's connector signs with requests-oauthlib. It lists the records of the sandbox and reads their schemas.
async fn airbyte_s_connector_accepts_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |command: &str, token_secret: &str| {
        let config = json!({
            "realm": "1234567", "object_types": ["customer", "vendor"], "start_datetime": "2026-01-01T00:00:00Z", "window_in_days": 30,
            "consumer_key": "sandbox-consumer-key-of-aam-00000001", "consumer_secret": "sandbox-consumer-secret-of-aam-0001",
            "token_key": "1f5d0c7b0d6b4b3a9a2e7c41e8f0sandbox-token-reader", "token_secret": token_secret,
        });
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut program = Command::new(variable("NETSUITE", "CONNECTOR"));
        let program = program.args([command, "--config"]).arg(&path);
        let program = program.env("HTTPS_PROXY", variable("NETSUITE", "SANDBOX"));
        let ran = program.env("REQUESTS_CA_BUNDLE", variable("NETSUITE", "CA")).output().await.unwrap();
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<Value>>()
    };
    let secret = "sandbox-token-secret-of-the-reader-0001";
    for (secret, status) in [(secret, "SUCCEEDED"), ("sandbox-token-secret-that-is-wrong", "FAILED")] {
        let said = run("check", secret).await;
        let found = said.iter().rfind(|message| message["type"] == "CONNECTION_STATUS");
        assert_eq!(found.map(|message| message["connectionStatus"]["status"].clone()), Some(json!(status)), "{said:?}");
    }
    let said = run("discover", secret).await;
    let catalog = said.iter().find(|message| message["type"] == "CATALOG").unwrap_or_else(|| panic!("{said:?}"));
    let streams = catalog["catalog"]["streams"].as_array().expect("streams");
    let names: Vec<&str> = streams.iter().filter_map(|stream| stream["name"].as_str()).collect();
    assert_eq!(names, ["customer", "vendor"], "{catalog}");
    assert!(streams[0]["json_schema"]["properties"]["lastModifiedDate"].is_object(), "{catalog}");
}
