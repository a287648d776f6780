//! Connectors of Airbyte as processes, through the whole daemon: what they read arrives, what they write is refused, and their
//! calls are listed like those of AAM's own engines.

use crate::calls::calls;
use crate::support::airbyte::{TOKEN, TestConnector, connect, evidence, processes, vendor, whole};
use crate::support::daemon::{Workspace, intent_with_locator, until};
use serde_json::{Value, json};

fn connector<'a>(name: &'a str, script: &'a str, config: Value, more: &'a str) -> TestConnector<'a> {
    TestConnector { name, script, config, more }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_becomes_active_and_each_of_its_calls_is_listed() {
    let (mut workspace, vendor) = (Workspace::new(), vendor().await);
    let config = json!({"url": vendor.base, "token": "{credential.token}"});
    connect(&mut workspace, &[connector("acme", "well_behaved", config, "")], &[&vendor.base], "");
    let daemon = workspace.serve().await;
    let active = daemon.until_state("acme", "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 3, "{active}");
    let id = active["connection_id"].as_str().expect("an id");
    let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body.to_string();
    assert!(catalog.contains("\"items\"") && catalog.contains("integer"), "{catalog}");
    let upsert = evidence(&daemon, &active, "upsert").await;
    assert_eq!(upsert["check"], "succeeded", "{upsert}");
    assert_eq!(upsert["not_confined"], Value::Null, "this machine confines nothing or not all: {upsert}");
    daemon.stop().await;
    assert_eq!(
        vendor.calls(),
        ["GET /me", "GET /schema", "GET /items?page=1", "GET /items?page=2"],
        "one command for each step; the health step uses the check of the step upsert"
    );
    let host = vendor.base.trim_start_matches("http://");
    let listed = calls(&workspace, &["--host", host]);
    let shown: Vec<String> = listed
        .iter()
        .map(|call| format!("{} {}", call["method"].as_str().unwrap_or(""), call["path"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(shown.len(), 4, "{listed:#?}");
    assert!(["GET /me", "GET /schema", "GET /items"].iter().all(|call| shown.iter().any(|one| one == call)), "{shown:?}");
    assert_eq!(processes(&workspace), Vec::<String>::new());
    for (path, bytes) in workspace.files() {
        assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "the token is in {}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_token_and_a_missing_program_are_named() {
    let (mut workspace, vendor) = (Workspace::new(), vendor().await);
    let config = json!({"url": vendor.base, "token": "wrong-{credential.token}"});
    let missing = json!({"token": "{credential.token}", "more": "{credential.api_key}"});
    let connectors = [
        connector("acme", "well_behaved", config, ""),
        connector("fields", "well_behaved", missing, ""),
        connector(
            "changed",
            "well_behaved",
            json!({}),
            "sha256: \"0000000000000000000000000000000000000000000000000000000000000000\"",
        ),
    ];
    connect(&mut workspace, &connectors, &[&vendor.base], "");
    let daemon = workspace.serve().await;
    let rejected = daemon.until_state("acme", "AWAITING_CREDENTIALS").await;
    let rejected = whole(&daemon, &rejected).await.to_string();
    assert!(rejected.contains("acme rejects the credential of acme"), "{rejected}");
    assert!(rejected.contains("/me: status 401"), "{rejected}");
    let fields = daemon.until_state("fields", "AWAITING_CREDENTIALS").await.to_string();
    assert!(fields.contains("the credential of fields does not have api_key"), "{fields}");
    let changed = daemon.until_state("changed", "ERROR").await.to_string();
    assert!(changed.contains("its SHA-256 differs"), "{changed}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_writes_is_refused_and_named_and_nothing_is_sent() {
    let (mut workspace, vendor, other) = (Workspace::new(), vendor().await, vendor().await);
    let write = |url: String, method: &str| json!({"url": url, "token": "{credential.token}", "method": method});
    let get =
        |headers: Value| json!({"url": format!("{}/items", vendor.base), "method": "GET", "no_body": true, "headers": headers});
    let connectors = [
        connector("posts", "attempts_post", write(format!("{}/items", vendor.base), "POST"), ""),
        connector("deletes", "attempts_post", write(format!("{}/items/1", vendor.base), "DELETE"), ""),
        connector("elsewhere", "attempts_post", write(format!("{}/items", other.base), "GET"), ""),
        connector("underscores", "attempts_post", get(json!({"X_HTTP_Method_Override": "DELETE"})), ""),
        connector("rewrites", "attempts_post", get(json!({"X-Original-URL": "/items/1"})), ""),
        connector(
            "fails",
            "spends_token",
            json!({"url": format!("{}/token", vendor.base), "refresh_token": "single-use-token-000"}),
            "",
        ),
    ];
    connect(&mut workspace, &connectors, &[&vendor.base], "");
    let daemon = workspace.serve().await;
    for (name, refused) in [
        ("posts", format!("POST {}/items was not sent", vendor.base)),
        ("deletes", format!("DELETE {}/items/1 was not sent: AAM only reads", vendor.base)),
        ("elsewhere", format!("GET {}/items was not sent: the policy does not list this host", other.base)),
        (
            "underscores",
            format!("GET {}/items was not sent: the name of its header x_http_method_override has an underscore", vendor.base),
        ),
        ("rewrites", "the header x-original-url is never sent".to_string()),
    ] {
        // The check of this connector passes only if it gets 403.
        let connection = daemon.until_connection(name, "checked", |one| one["status"] != "PENDING" && !one.is_null()).await;
        let upsert = evidence(&daemon, &connection, "upsert").await;
        assert!(upsert["refused"].to_string().contains(&refused), "{name}: {upsert} {connection}");
    }
    let failed = daemon.until_state("fails", "NETWORK_BLOCKED").await.to_string();
    assert!(failed.contains(&format!("POST {}/token was not sent", vendor.base)), "{failed}");
    assert!(failed.contains("airbyte.connectors.fails.posts in the policy"), "{failed}");
    daemon.stop().await;
    let sent: Vec<String> = [vendor.calls(), other.calls()].concat();
    assert!(sent.is_empty(), "a request was sent: {sent:?}");
    let listed = calls(&workspace, &[]);
    assert!(listed.is_empty(), "{listed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_waits_after_a_refusal_is_ended_with_the_reason() {
    let (mut workspace, vendor) = (Workspace::new(), vendor().await);
    let config = json!({"url": format!("{}/items", vendor.base), "token": "{credential.token}", "wait_seconds": 600});
    // The step may take longer than this test waits.
    let more = "safe_mode: {step_timeout: 200s, attempt_timeout: 300s}\n";
    connect(&mut workspace, &[connector("waits", "attempts_post", config, "")], &[&vendor.base], more);
    let daemon = workspace.serve().await;
    let waits = daemon.until_state("waits", "NETWORK_BLOCKED").await.to_string();
    assert!(waits.contains(&format!("POST {}/items was not sent", vendor.base)), "{waits}");
    daemon.stop().await;
    assert_eq!((vendor.calls(), processes(&workspace)), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_works_once_is_replaced_also_when_the_check_fails() {
    let (mut workspace, vendor) = (Workspace::new(), vendor().await);
    let rule = format!(
        "posts: [{{url: \"{}/token\", why: exchanges a token, body: {{form: {{grant_type: {{is: refresh_token}}, refresh_token: any}}}}}}]",
        vendor.base
    );
    let config = |fail: bool| json!({"url": format!("{}/token", vendor.base), "refresh_token": "{credential.refresh_token}", "fail": fail});
    connect(&mut workspace, &[connector("acme", "spends_token", config(true), &rule)], &[&vendor.base], "");
    workspace.set("VENDOR", &json!({"refresh_token": "single-use-token-000"}).to_string());
    let daemon = workspace.serve().await;
    let failed = daemon.until_state("acme", "ERROR").await;
    let failed = whole(&daemon, &failed).await.to_string();
    assert!(failed.contains("The account is suspended"), "{failed}");
    connect(&mut workspace, &[connector("acme", "spends_token", config(false), &rule)], &[&vendor.base], "");
    workspace.set("VENDOR", &json!({"refresh_token": "single-use-token-000"}).to_string());
    let active = daemon.until_state("acme", "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 1, "{active}");
    let upsert = evidence(&daemon, &active, "upsert").await;
    assert_eq!(upsert["replaced_by_the_connector"], json!(["/refresh_token"]), "{upsert}");
    daemon.stop().await;
    assert!(vendor.calls().len() >= 4, "{:?}", vendor.calls());
    for (path, bytes) in workspace.files() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("single-use-token-"), "a token is in {}", path.display());
    }
}

/// The check of this connector passes only if it cannot read any of the files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_in_the_folder_of_aam_cannot_read_what_is_beside_it() {
    let mut workspace = Workspace::new();
    let secrets = [
        "var/secrets/VENDOR",
        ".aws/credentials",
        "var/aam.db",
        "policy/policy.yaml",
        "intents/acme.json",
        "airbyte/runs/1/config.json",
    ];
    for file in ["var/secrets/VENDOR", ".aws/credentials", "airbyte/runs/1/config.json"] {
        let path = workspace.path(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, "secret").expect("written");
    }
    let script = include_str!("../airbyte/connectors/reads_files.py");
    let modules = workspace.path("connectors").display().to_string();
    std::fs::write(workspace.path("acme.py"), format!("import sys\nsys.path.insert(0, \"{modules}\")\n{script}"))
        .expect("written");
    let config = json!({"files": secrets.map(|file| workspace.path(file))});
    connect(&mut workspace, &[connector("acme", "../acme", config, "")], &[], "");
    let daemon = workspace.serve().await;
    let checked = daemon.until_connection("acme", "checked", |one| one["status"] != "PENDING" && !one.is_null()).await;
    assert_eq!(checked["status"], "ACTIVE", "{checked}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_could_read_the_files_of_aam_does_not_run() {
    let mut workspace = Workspace::new();
    let whole = format!("readable: [{}]", workspace.dir.path().display());
    let intents = format!("readable: [{}, {}]", workspace.path("connectors").display(), workspace.path("intents").display());
    let connectors = [
        connector("whole", "well_behaved", json!({}), &whole),
        connector("intents", "well_behaved", json!({}), &intents),
        connector("system", "well_behaved", json!({}), "readable: [/etc]"),
        connector("missing", "well_behaved", json!({}), "readable: [/opt/not-there-of-aam]"),
    ];
    connect(&mut workspace, &connectors, &[], "");
    let daemon = workspace.serve().await;
    for (name, said) in [
        ("whole", "which contains the registry"),
        ("intents", "which is the intents"),
        ("system", "which is a folder of the whole system"),
        ("missing", "of airbyte.connectors.missing.readable was not found"),
    ] {
        let failed = daemon.until_state(name, "ERROR").await.to_string();
        assert!(failed.contains(said), "{name}: {failed}");
    }
    daemon.stop().await;
    assert_eq!(processes(&workspace), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_changes_in_its_config_stays_with_its_connection_and_hides_no_stream() {
    let mut workspace = Workspace::new();
    let config = |pages: u32| json!({"site": "{resource_id}", "token": "{credential.token}", "pages": pages});
    connect(&mut workspace, &[connector("acme", "migrates_site", config(1), "")], &[], "");
    let daemon = workspace.serve().await;
    let north = daemon.until_state("acme", "ACTIVE").await;
    assert_eq!(evidence(&daemon, &north, "upsert").await["message"], "sites: acme; pages: 1", "{north}");
    let catalog =
        daemon.get(&format!("/connections/{}/catalog", north["connection_id"].as_str().expect("an id"))).await.body.to_string();
    assert!(catalog.contains("\"items\"") && !catalog.contains("[redacted]"), "{catalog}");
    // The policy changes a value, and another connection uses the same credential.
    connect(&mut workspace, &[connector("acme", "migrates_site", config(2), "")], &[], "");
    workspace.intent_file("south.json", &intent_with_locator("acme", "south", "env:VENDOR"));
    for (name, expected) in [("south", "sites: south; pages: 2"), ("acme", "sites: acme; pages: 2")] {
        until(&format!("{name} has {expected}"), || async {
            let all = daemon.connections().await;
            let found = all.into_iter().find(|one| is_of(one, name));
            let message = match &found {
                Some(found) => evidence(&daemon, found, "upsert").await["message"].to_string(),
                None => "not there".to_string(),
            };
            (message.contains(expected), message)
        })
        .await;
    }
    daemon.stop().await;
}

/// Whether the connection is that of this resource.
fn is_of(connection: &Value, resource: &str) -> bool {
    connection["resource_ids"].as_array().is_some_and(|ids| ids.iter().any(|id| id == resource))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_records_of_the_stream_that_was_asked_for_count() {
    let mut workspace = Workspace::new();
    connect(&mut workspace, &[connector("acme", "other_streams", json!({}), "")], &[], "");
    let daemon = workspace.serve().await;
    let active = daemon.until_state("acme", "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 1, "{active}");
    let read = whole(&daemon, &active).await.to_string();
    assert!(read.contains("\"records_of_other_streams\":5"), "{read}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connectors_share_the_memory_of_the_policy() {
    let (mut workspace, vendor) = (Workspace::new(), vendor().await);
    let names: Vec<String> = (0..6).map(|number| format!("acme_{number}")).collect();
    let config = json!({"url": vendor.base, "token": "{credential.token}"});
    let connectors: Vec<TestConnector<'_>> =
        names.iter().map(|name| connector(name, "well_behaved", config.clone(), "memory: 2GiB")).collect();
    connect(&mut workspace, &connectors, &[&vendor.base], "");
    let daemon = workspace.serve().await;
    until("no more than two connectors run at a time, and all become active", || async {
        let running = processes(&workspace).len();
        assert!(running <= 2, "{running} connectors of 2 GiB run, and the limit is 4 GiB");
        let active = daemon.connections().await.iter().filter(|one| one["status"] == "ACTIVE").count();
        (active == names.len(), format!("{active} are active"))
    })
    .await;
    daemon.stop().await;
}
