//! Remedies: each test does what a message says and gets out of the state.

use crate::support::daemon::{Workspace, intent, intent_with_locator, stderr, stdout};
use serde_json::{Value, json};

/// The arguments of `text` from `start` on, up to the end of the sentence part.
fn after<'t>(text: &'t str, start: &str) -> &'t str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start:?} is not in {text:?}")).1;
    rest.split([';', ',', ')']).next().unwrap_or(rest).trim()
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_set_by_stopping_and_starting_the_daemon() {
    let mut workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent_with_locator("filesource", &path, "env:SHOP_READER"));
    let daemon = workspace.serve().await;
    let waiting = daemon.until_state(&path, "AWAITING_CREDENTIALS").await;
    let fix = waiting["error"]["fix"].as_str().expect("a fix").to_string();
    // A stored secret needs no restart; `secrets_command.rs` follows that fix.
    assert!(fix.starts_with("aam secret set SHOP_READER"), "{fix}");
    // The second `aam serve` says how to stop the first, and that it changed nothing itself.
    let port = daemon.port.to_string();
    workspace.set("SHOP_READER", "canary-fix-texts");
    let second = workspace.run(&["serve", "--port", &port]);
    let printed = stdout(&second);
    assert!(second.status.success() && printed.contains("this command changed nothing"), "{printed}");
    let registry = after(&printed, "aam stop --registry ");
    let stopped = workspace.run(&["stop", "--registry", registry]);
    assert!(stopped.status.success(), "the port is found in the lock: {}", stderr(&stopped));
    daemon.ended().await;
    let daemon = workspace.serve().await;
    let id = waiting["connection_id"].as_str().expect("an id");
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    daemon.until_state(&path, "ACTIVE").await;
}

#[tokio::test]
async fn what_aam_test_says_of_a_variable_works() {
    let mut workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent_with_locator("filesource", &path, "env:SHOP_READER"));
    let file = workspace.path("intents/a.json").display().to_string();
    let before = workspace.run(&["test", &file]);
    assert_eq!(before.status.code(), Some(2));
    let text = stdout(&before);
    assert!(text.contains("run the command again: export SHOP_READER=..."), "{text}");
    workspace.set("SHOP_READER", "canary-fix-texts");
    assert_eq!(workspace.run(&["test", &file]).status.code(), Some(0));
}

/// Every failure before the first call, with the change that its fix asks for.
#[tokio::test]
async fn the_fixes_of_the_steps_before_the_first_call_get_out_of_the_state() {
    let mut workspace = Workspace::new();
    workspace.set("SHOP_READER", "canary-fix-texts");
    let csv = |name: &str| workspace.csv(name, 2);
    let with = |mut document: Value, change: &dyn Fn(&mut Value)| {
        change(&mut document);
        document
    };
    let document = |name: &str| intent("filesource", &csv(name));
    let state = |document: &Value| {
        workspace.intent_file("case.json", document);
        let output = workspace.run(&["test", &workspace.path("intents/case.json").display().to_string()]);
        stdout(&output)
    };
    // Before, a part of the fix, and after.
    let cases = [
        (with(document("a.csv"), &|it| it["source_type"] = json!("filesorce")), "did you mean filesource?", document("a.csv")),
        (
            with(document("b.csv"), &|it| it["evidence"]["status"] = json!("Shadow")),
            "have this source sanctioned",
            with(document("b.csv"), &|it| it["evidence"]["status"] = json!("Sanctioned")),
        ),
        (
            with(document("b.csv"), &|it| it["evidence"]["source"] = json!("spreadsheet")),
            "write IdP, CMDB, Procurement or CASB as evidence.source",
            with(document("b.csv"), &|it| it["evidence"]["source"] = json!("Procurement")),
        ),
        (
            with(document("b.csv"), &|it| it["owner"]["why"] = json!("a guess")),
            "write oauth_consenter, admin, usage, expense or idp_owner as owner.why",
            with(document("b.csv"), &|it| it["owner"]["why"] = json!("idp_owner")),
        ),
        (
            with(document("b.csv"), &|it| it["risk_level"] = json!("apocalyptic")),
            "write low, med or high as risk_level",
            with(document("b.csv"), &|it| it["risk_level"] = json!("high")),
        ),
        (
            with(document("c.csv"), &|it| it["credential_locator"] = json!("vault:kv/shop")),
            "write env:NAME instead of vault:kv/shop",
            with(document("c.csv"), &|it| it["credential_locator"] = json!("env:SHOP_READER")),
        ),
        (
            with(document("d.csv"), &|it| it["credential_locator"] = json!("env:HOME")),
            "set credential_locator to env:FILESOURCE_TOKEN",
            with(document("d.csv"), &|it| it["credential_locator"] = json!("env:SHOP_READER")),
        ),
    ];
    for (before, part, after) in &cases {
        let text = state(before);
        assert!(!text.contains("would be ACTIVE") && text.contains(part), "{part}: {text}");
        let text = state(after);
        assert!(text.contains("would be ACTIVE"), "{part}: {text}");
    }
    // Changes of the policy.
    let file = workspace.csv("e.csv", 2);
    let risky = with(intent("filesource", &file), &|it| {
        it["risk_level"] = json!("high");
        it["owner"]["confidence"] = json!(0.2);
    });
    for (tight, part, wide) in [
        ("allowlist: [jdbc]\n", "add filesource to allowlist in the policy", "allowlist: [jdbc, filesource]\n"),
        ("eligibility: {max_risk: med}\n", "raise eligibility.max_risk", "eligibility: {max_risk: high}\n"),
        ("eligibility: {min_confidence: 0.5}\n", "lower eligibility.min_confidence", "eligibility: {min_confidence: 0.1}\n"),
    ] {
        workspace.write_policy(tight);
        let text = state(&risky);
        assert!(!text.contains("would be ACTIVE") && text.contains(part), "{part}: {text}");
        workspace.write_policy(wide);
        assert!(state(&risky).contains("would be ACTIVE"), "{part}");
    }
}

#[tokio::test]
async fn a_missing_locator_is_asked_for_and_one_that_is_named_is_not() {
    let mut workspace = Workspace::new();
    workspace.set("POSTGRES_TOKEN", r#"{"user":"reader","password":"canary-fix-texts"}"#);
    let id = "postgresql://127.0.0.1:9/shop";
    let file = workspace.path("intents/a.json").display().to_string();
    workspace.intent_file("a.json", &intent("postgres", id));
    let text = stdout(&workspace.run(&["test", &file]));
    assert!(text.contains("set credential_locator, for example env:POSTGRES_TOKEN"), "{text}");
    workspace.intent_file("a.json", &intent_with_locator("postgres", id, "env:POSTGRES_TOKEN"));
    let text = stdout(&workspace.run(&["test", &file]));
    assert!(text.contains("would be NETWORK_BLOCKED") && !text.contains("credential_locator"), "{text}");
}

#[tokio::test]
async fn a_source_type_that_is_not_known_becomes_one_where_the_fix_says() {
    let workspace = Workspace::new();
    let manifests = workspace.path("manifests");
    std::fs::create_dir(&manifests).expect("a folder");
    let dir = format!("manifests: {{dir: {}}}\n", manifests.display());
    workspace.write_policy(&dir);
    let file = workspace.path("intents/a.json").display().to_string();
    workspace.intent_file("a.json", &intent("acme_crm", "127.0.0.1:9"));
    let text = stdout(&workspace.run(&["test", &file]));
    let path = after(&text, "put its manifest into ").to_string();
    let manifest = "version: 0.90.0\ntype: DeclarativeSource\ncheck: {type: CheckStream, stream_names: [things]}\nstreams:\n  - type: DeclarativeStream\n    name: things\n    retriever:\n      type: SimpleRetriever\n      requester: {type: HttpRequester, url_base: \"http://127.0.0.1:9\", path: /things}\n      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}\n";
    std::fs::write(&path, manifest).expect("the manifest");
    let text = stdout(&workspace.run(&["test", &file]));
    assert!(text.contains("add acme_crm to allowlist in the policy"), "{text}");
    workspace.write_policy(&format!("{dir}allowlist: [acme_crm]\n"));
    let text = stdout(&workspace.run(&["test", &file]));
    assert!(text.contains("would be NETWORK_BLOCKED"), "the manifest is used: {text}");
}
