//! The forms of a locator against the built binary: unknown forms wait, secrets are refused, and no spelling gets around a
//! right.

use crate::support::daemon::{Workspace, intent_with_locator, stdout};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_nobody_knows_is_kept_and_waits_with_the_forms_that_exist() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let cases = [
        ("vualt:aam/crm#token", "did you mean vault:aam/crm#token?"),
        ("envs:CRM_TOKEN", "did you mean env:CRM_TOKEN?"),
        ("ENV:CRM_TOKEN", "did you mean env:CRM_TOKEN?"),
        ("Vault:aam/crm", "did you mean vault:aam/crm?"),
        ("aws-sm:prod/crm", "AWS Secrets Manager"),
        ("op://vault/item/field", "`op read op://VAULT/ITEM/FIELD | aam secret set NAME`"),
        ("arn:aws:secretsmanager:eu-central-1:123456789012:secret:aam/crm-9xKdQ2", "AWS Secrets Manager"),
        ("mystore:team/crm", "one of the forms env:NAME"),
    ];
    for (at, (locator, part)) in cases.iter().enumerate() {
        let path = workspace.csv(&format!("{at}.csv"), 3);
        let pushed = daemon.push(&intent_with_locator("filesource", &path, locator)).await;
        assert_eq!((pushed.status, &pushed.body["status"]), (201, &json!("AWAITING_CREDENTIALS")), "{locator}: {}", pushed.body);
        let fix = pushed.body["error"]["fix"].as_str().unwrap_or_default();
        assert!(fix.contains(part), "{locator}: {fix}");
        assert!(fix.contains("env:NAME, file:PATH, vault:PATH#FIELD, sp:NAME or consent:NAME"), "{fix}");
        let accepted = daemon.entries(&pushed.body, "intent_accepted").await;
        assert_eq!(accepted[0]["body"]["credential_locator"], *locator, "it is kept as written: {}", accepted[0]);
    }
    let funnel = daemon.funnel().await;
    assert_eq!(funnel["awaiting_credentials"], cases.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_the_place_of_a_locator_is_refused_and_stored_nowhere() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let path = workspace.csv("a.csv", 3);
    let core = format!("{}{}", "hunter", "2canary");
    for value in [
        format!("reader:{core}"),
        format!("Bearer {core}"),
        format!("Bearer:{core}"),
        format!("acme:{core}"),
        format!("postgres://reader:{core}@db.example/shop"),
        format!("password:{core}"),
        core.clone(),
        format!("foo:{}{core}", "ghp_"),
        format!("vault:{}{core}", "hvs."),
    ] {
        let refused = daemon.push(&intent_with_locator("filesource", &path, &value)).await;
        assert_eq!(refused.status, 422, "{value}: {}", refused.body);
        let text = refused.body.to_string();
        assert!(text.contains("/credential_locator") && text.contains("env:NAME") && !text.contains(&core), "{text}");
        workspace.intent_file("pasted.json", &intent_with_locator("filesource", &path, &value));
        let check = stdout(&workspace.run(&["check"]));
        assert!(check.contains("/credential_locator") && !check.contains(&core), "{check}");
    }
    std::fs::remove_file(workspace.path("intents/pasted.json")).expect("removed");
    for (file, bytes) in workspace.files() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&core), "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_spelling_does_not_get_around_the_rights_of_a_namespace() {
    let workspace = Workspace::new();
    let files = workspace.path("creds").display().to_string();
    for team in ["team_a", "team_b"] {
        std::fs::create_dir_all(workspace.path(&format!("creds/{team}"))).expect("a folder");
        std::fs::write(workspace.path(&format!("creds/{team}/crm")), "0p9o8i7u").expect("written");
    }
    workspace.write_policy(&format!(
        "credentials:\n  files: [\"{files}\"]\n  namespaces: {{team_b: [\"file:{files}/team_b/*\", \"vault:kv/team_b#token\"]}}\n  vault: {{address: \"https://127.0.0.1:1\", path: kv, login: {{method: token, token: \"env:VAULT_READER\"}}}}\n"
    ));
    let daemon = workspace.serve().await;
    let push = |name: &str, namespace: &str, locator: String| {
        let mut intent = intent_with_locator("filesource", &workspace.csv(name, 3), &locator);
        intent["namespace"] = json!(namespace);
        let daemon = &daemon;
        async move { daemon.push(&intent).await.body }
    };
    let own = push("own.csv", "team_b", format!("file:{files}/./team_b//crm")).await;
    assert_eq!(own["status"], "ACTIVE", "every spelling of its own file works: {own}");
    for (at, locator) in [
        format!("file:{files}/team_b/crm"),
        format!("file:{files}//team_b/crm"),
        format!("file:{files}/./team_b/./crm"),
        format!("file://{files}/team_b/crm"),
        format!("file:/{files}/team_b/crm"),
        "vault:kv/team_b#token".to_string(),
        "vault:kv/team_b#other".to_string(),
        "vault:kv/team_b".to_string(),
        "vault://kv/team_b#token".to_string(),
        "vault:team_b#token".to_string(),
    ]
    .into_iter()
    .enumerate()
    {
        let theirs = push(&format!("{at}.csv"), "autonomy", locator.clone()).await;
        assert_eq!(theirs["status"], "AWAITING_CREDENTIALS", "{locator}: {theirs}");
        let title = theirs["error"]["title"].as_str().unwrap_or_default();
        let refused = title.contains("does not let the namespace autonomy use") || title.contains("names a host");
        assert!(refused, "{locator}: {title}");
    }
    let theirs = push("theirs.csv", "autonomy", format!("file:{files}/team_a/crm")).await;
    assert_eq!(theirs["status"], "ACTIVE", "what no namespace lists is free: {theirs}");
}

#[test]
fn folders_of_credentials_that_do_not_exist_are_warnings() {
    let workspace = Workspace::new();
    std::fs::write(workspace.path("a_file"), "").expect("written");
    workspace.write_policy("credentials: {secrets_dir: a_file, files: [absent, \"~/creds\", data, ./data]}\n");
    let check = workspace.run(&["check"]);
    let text = stdout(&check);
    assert!(check.status.success(), "{text}");
    for part in [
        "/credentials/files: absent does not exist",
        "/credentials/files: ~/creds is not expanded",
        "/credentials/files: data and ./data are the same folder",
        "/credentials/secrets_dir: a_file is not a folder",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
