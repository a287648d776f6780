//! `aam consent`: its texts, and its effect on a running daemon.

use crate::support::consents::{Consents, KEY, OTHER_KEY};
use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout};
use crate::support::oauth_vendor::CLIENT_SECRET;
use crate::support::snapshot::assert_snapshot;
use serde_json::Value;

/// Compares the texts with `snapshots/consent_command_NAME.snap`.
fn assert_texts(name: &str, text: &str) {
    let filters = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
        (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"http://127\.0\.0\.1:\d+/openapi", "http://VENDOR/openapi"),
        (r"/consent/[A-Za-z0-9_-]{43}", "/consent/LINK"),
        (r"(consent revoke) [0-9a-f]{8}", "$1 START"),
    ];
    assert_snapshot(&format!("consent_command_{name}"), text, &filters);
}

fn workspace(consents: &Consents, policy: impl FnOnce(String) -> String) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.write_policy(&policy(consents.vendor.policy(&consents.store().display().to_string())));
    workspace.set("CONSENT_KEY", KEY);
    workspace.set("THINGS_SECRET", CLIENT_SECRET);
    workspace.intent_file("things.json", &intent_with_locator("openapi", &consents.request.resource_ids[0], "consent:things"));
    workspace
}

// The vendor has to answer while the test waits for a command.
#[tokio::test(flavor = "multi_thread")]
async fn grants_are_listed_and_revoked_beside_a_running_daemon() {
    let consents = Consents::new().await;
    let workspace = workspace(&consents, |text| text);
    let run = |arguments: &[&str]| {
        let output = workspace.run(arguments);
        format!("$ aam {}\n{}{}", arguments.join(" "), stdout(&output), stderr(&output))
    };
    let mut text = run(&["consent", "list"]);
    let daemon = workspace.serve().await;
    let resource = &consents.request.resource_ids[0];
    let waiting = daemon.until_state(resource, "AWAITING_CREDENTIALS").await;
    let fix = waiting["error"]["fix"].as_str().unwrap_or_default().to_string();
    let id = waiting["connection_id"].as_str().expect("an id").to_string();
    text.push_str(&run(&["consent", "link", &id]));
    let url: Value = serde_json::from_slice(&workspace.run(&["consent", "link", &id, "--format", "json"]).stdout).expect("JSON");
    assert!(fix.contains(url["url"].as_str().expect("a URL")), "{fix} {url}");
    text.push_str(&run(&["consent", "list"]));
    consents.give().await;
    daemon.post(&format!("/connections/{id}/heal"), &serde_json::json!({})).await;
    daemon.until_state(resource, "ACTIVE").await;
    text.push_str(&run(&["consent", "list"]));
    text.push_str(&run(&["consent", "list", "--format", "json"]));
    text.push_str(&run(&["consent", "revoke", &id[..8]]));
    assert_eq!(consents.vendor.state().revoked.len(), 1);
    daemon.post(&format!("/connections/{id}/heal"), &serde_json::json!({})).await;
    let revoked = daemon.until_state(resource, "AWAITING_CREDENTIALS").await;
    let new = revoked["error"]["fix"].as_str().unwrap_or_default().to_string();
    assert!(new.contains("/consent/") && new != fix, "{new}");
    text.push_str(&run(&["consent", "revoke", "ffffffff"]));
    text.push_str(&run(&["consent", "link", "ffffffff"]));
    assert!(!text.contains("refresh-") && !text.contains("access-"), "{text}");
    assert_texts("beside_a_daemon", &text);
    consents.assert_no_misuse();
}

// The vendor has to answer while the test waits for a command.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_without_a_revocation_endpoint_is_named_and_the_grant_is_deleted() {
    let consents = Consents::new().await;
    consents.give().await;
    let end = format!(", revoke_url: \"{}/revoke\"", consents.vendor.base);
    let workspace = workspace(&consents, |text| text.replace(&end, ""));
    let output = workspace.run(&["consent", "revoke", &consents.request.connection.to_string()]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_texts("no_revocation_endpoint", &stdout(&output));
    let listed = workspace.run(&["consent", "list", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["grants"], serde_json::json!([]));
}

// The vendor has to answer while the test waits for a command.
#[tokio::test(flavor = "multi_thread")]
async fn aam_test_makes_no_link_and_shows_the_one_of_the_daemon() {
    let consents = Consents::new().await;
    let workspace = workspace(&consents, |text| text);
    let test = || stdout(&workspace.run(&["test", &workspace.path("intents/things.json").display().to_string()]));
    let without = test();
    assert!(
        without.contains("has not given consent:things") && without.contains("put the intent into the intents folder"),
        "{without}"
    );
    assert!(!consents.store().exists(), "a test writes nothing");
    let daemon = workspace.serve().await;
    let waiting = daemon.until_state(&consents.request.resource_ids[0], "AWAITING_CREDENTIALS").await;
    let fix = waiting["error"]["fix"].as_str().unwrap_or_default().to_string();
    assert!(fix.contains("/consent/") && test().contains(&fix), "{fix} {}", test());
}

/// While no intent asks for a connection, its owner is not asked either.
#[tokio::test(flavor = "multi_thread")]
async fn a_retired_connection_has_no_link() {
    let consents = Consents::new().await;
    let workspace = workspace(&consents, |text| text);
    let daemon = workspace.serve().await;
    let resource = &consents.request.resource_ids[0];
    let waiting = daemon.until_state(resource, "AWAITING_CREDENTIALS").await;
    let fix = waiting["error"]["fix"].as_str().expect("a fix");
    let link = fix.rsplit("/consent/").next().expect("a link").to_string();
    std::fs::remove_file(workspace.path("intents/things.json")).expect("the intent is removed");
    daemon.until_state(resource, "RETIRED").await;
    let refused = workspace.run(&["consent", "link", waiting["connection_id"].as_str().expect("an id")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("is RETIRED"), "{}", stderr(&refused));
    let page = reqwest::get(format!("http://127.0.0.1:{}/consent/{link}", daemon.port)).await.expect("a page");
    assert_eq!(page.status(), 410);
    daemon.stop().await;
}

// The vendor has to answer while the test waits for a command.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_gets_another_key_and_the_grant_survives() {
    let consents = Consents::new().await;
    consents.give().await;
    let mut workspace = workspace(&consents, |text| text);
    let old = std::fs::read_to_string(consents.store()).expect("a file");
    let rekey = |workspace: &Workspace, to: &str| workspace.run(&["consent", "rekey", "--to", to]);
    // The daemon could refresh the grant meanwhile, so it has to stop; then the commands of the message work.
    let daemon = workspace.serve().await;
    let resource = &consents.request.resource_ids[0];
    daemon.until_state(resource, "ACTIVE").await;
    workspace.set("CONSENT_KEY_2", OTHER_KEY);
    let held = rekey(&workspace, "env:CONSENT_KEY_2");
    assert!(held.status.code() == Some(1) && stderr(&held).contains("aam stop"), "{}", stderr(&held));
    let port = daemon.port.to_string();
    let stopped = workspace.run(&["stop", "--port", &port]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    daemon.ended().await;
    for (to, code, text) in [
        ("env:CONSENT_KEY", 1, "is the place of the present key"),
        ("env:MISSING", 1, "MISSING is not set"),
        (OTHER_KEY, 64, "write env:NAME"),
    ] {
        let refused = rekey(&workspace, to);
        assert!(refused.status.code() == Some(code) && stderr(&refused).contains(text), "{}", stderr(&refused));
        assert!(to != OTHER_KEY || !stderr(&refused).contains(OTHER_KEY), "the key is not repeated");
    }
    let before = std::fs::read_to_string(consents.store()).expect("a file");
    let done = rekey(&workspace, "env:CONSENT_KEY_2");
    assert!(done.status.success() && stdout(&done).starts_with("1 grant in "), "{}{}", stdout(&done), stderr(&done));
    let after = std::fs::read_to_string(consents.store()).expect("a file");
    assert!(after != before && !old.is_empty());
    // The old key is of no use any more, the new one is as soon as the policy names it.
    let policy = consents.vendor.policy(&consents.store().display().to_string());
    let wrong = workspace.run(&["test", &workspace.path("intents/things.json").display().to_string()]);
    assert!(format!("{}{}", stdout(&wrong), stderr(&wrong)).contains("was written with another key"), "{}", stdout(&wrong));
    workspace.write_policy(&policy.replace("env:CONSENT_KEY", "env:CONSENT_KEY_2"));
    let again = rekey(&workspace, "env:CONSENT_KEY_2");
    assert!(stderr(&again).contains("is the place of the present key"), "{}", stderr(&again));
    let daemon = workspace.serve().await;
    let id = daemon.until_state(resource, "ACTIVE").await["connection_id"].as_str().expect("an id").to_string();
    daemon.post(&format!("/connections/{id}/heal"), &serde_json::json!({})).await;
    daemon.until_state(resource, "ACTIVE").await;
    consents.assert_no_misuse();
}
