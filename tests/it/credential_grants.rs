//! Who may send which credential where, against the built binary. The attacker is a service that asks every caller for a
//! bearer token and keeps what it receives.

use crate::support::daemon::{ApiResponse, Daemon, Workspace, intent, intent_with_locator, stdout, until};
use crate::support::leaky_service::{Canary, LeakyService};
use crate::support::manifests::things_manifest;
use aam::credentials::Secret;
use serde_json::{Value, json};

/// A token of the policy.
struct PushToken {
    secret: Secret,
    name: &'static str,
    entry: String,
}

impl PushToken {
    fn new(workspace: &Workspace, name: &'static str, namespaces: &str) -> PushToken {
        let output = workspace.run(&["token", "new", "--name", name, "--format", "json"]);
        let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let sha256 = value["sha256"].as_str().expect("a digest");
        PushToken {
            secret: Secret::new(value["token"].as_str().expect("a token").to_string()),
            name,
            entry: format!(
                "name: {name}, sha256: \"{sha256}\", scopes: [intents:write, registry:read, ops:heal], namespaces: [{namespaces}]"
            ),
        }
    }
}

/// Puts the tokens with these further keys into force.
async fn put_in_force(workspace: &Workspace, daemon: &mut Daemon, tokens: &[(&PushToken, &str)], more: &str) {
    let entries: Vec<String> = tokens.iter().map(|(token, grant)| format!("{{{}{grant}}}", token.entry)).collect();
    workspace.write_policy(&format!("api:\n  tokens: [{}]\n{more}", entries.join(", ")));
    let file = aam::model::Digest::from_bytes(&std::fs::read(workspace.path("policy/policy.yaml")).expect("the policy"));
    let check = workspace.run(&["check"]);
    assert!(check.status.success(), "{}", stdout(&check));
    daemon.token = tokens[0].0.secret.clone();
    let daemon: &Daemon = daemon;
    until("the policy is in force", || async move {
        let shown = daemon.get("/dashboard.json").await.body["policy"]["digest"].clone();
        (shown == file.to_string(), shown.to_string())
    })
    .await;
}

fn fix(response: &ApiResponse) -> String {
    response.body["error"]["fix"].as_str().unwrap_or_default().to_string()
}

/// The part of a fix that is to be added to the entry of the token.
fn line(fix: &str, token: &PushToken) -> String {
    let start = format!("in the policy under api.tokens, add to the entry of the token {}: ", token.name);
    format!(", {}", fix.strip_prefix(&start).unwrap_or_else(|| panic!("{fix:?} does not begin with {start:?}")))
}

#[tokio::test]
async fn a_caller_cannot_have_any_variable_of_the_daemon_sent_to_its_own_host() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("deputy");
    workspace.set("CRM_TOKEN", &canary.value);
    workspace.set("HOME", &canary.value);
    let evil = LeakyService::bearer(&canary).await;
    let token = PushToken::new(&workspace, "aod", "autonomy");
    let mut daemon = workspace.serve().await;
    put_in_force(&workspace, &mut daemon, &[(&token, "")], "").await;
    let url = format!("{}/openapi.json", evil.base);
    let pushed = daemon.push(&intent_with_locator("openapi", &url, "env:CRM_TOKEN")).await;
    assert_eq!((pushed.status, &pushed.body["status"]), (201, &json!("AWAITING_CREDENTIALS")), "{}", pushed.body);
    assert!(evil.calls().is_empty(), "nothing is sent, not even without the credential: {:?}", evil.calls());
    let unset = daemon.push(&intent_with_locator("openapi", &format!("{url}?x"), "env:NOT_SET_AT_ALL")).await;
    let same = |response: &ApiResponse, name: &str| response.body["error"].to_string().replace(name, "NAME");
    assert_eq!(same(&pushed, "CRM_TOKEN"), same(&unset, "NOT_SET_AT_ALL"), "the answer does not say what is set");

    // A grant for the locator alone, or for another host, is not enough.
    for grant in [", locators: [\"env:CRM_*\"]", ", locators: [\"env:CRM_*\"], hosts: [\"*.acme.example\", \"127.0.0.1\"]"] {
        put_in_force(&workspace, &mut daemon, &[(&token, grant)], "").await;
        let id = pushed.body["connection_id"].as_str().expect("an id");
        let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
        assert_eq!(healed.body["status"], "AWAITING_CREDENTIALS", "{grant}: {}", healed.body);
        assert!(evil.calls().is_empty(), "{grant}");
    }

    // The printed line works, and takes back what it gave when it is removed.
    put_in_force(&workspace, &mut daemon, &[(&token, "")], "").await;
    let pushed = daemon.push(&intent_with_locator("openapi", &url, "env:CRM_TOKEN")).await;
    let grant = line(&fix(&pushed), &token);
    put_in_force(&workspace, &mut daemon, &[(&token, &grant)], "").await;
    daemon.until_state(&url, "ACTIVE").await;
    let before = evil.calls().len();
    put_in_force(&workspace, &mut daemon, &[(&token, "")], "").await;
    daemon.until_state(&url, "AWAITING_CREDENTIALS").await;
    assert_eq!(evil.calls()[before..], [""; 0], "losing the grant sends nothing");

    // A token that is renamed or removed has no grant, also for what it pushed before.
    put_in_force(&workspace, &mut daemon, &[(&token, &grant)], "").await;
    daemon.until_state(&url, "ACTIVE").await;
    let other = PushToken::new(&workspace, "other", "autonomy");
    put_in_force(&workspace, &mut daemon, &[(&other, &grant)], "").await;
    let left = daemon.until_state(&url, "AWAITING_CREDENTIALS").await;
    assert!(left["error"]["title"].as_str().is_some_and(|title| title.contains("is not in the policy")), "{left}");

    // The variables of the process are never credentials, whoever names them.
    put_in_force(&workspace, &mut daemon, &[(&token, ", locators: [\"env:*\"], hosts: [\"*:*\"]")], "").await;
    daemon.until_state(&url, "ACTIVE").await;
    let before = evil.calls().len();
    for name in ["HOME", "PATH", "AAM_REGISTRY"] {
        let home = daemon.push(&intent_with_locator("openapi", &format!("{url}?{name}"), &format!("env:{name}"))).await;
        assert_eq!(home.body["status"], "AWAITING_CREDENTIALS", "{}", home.body);
    }
    workspace.intent_file("home.json", &intent_with_locator("openapi", &format!("{url}?folder"), "env:HOME"));
    daemon.until_state(&format!("{url}?folder"), "AWAITING_CREDENTIALS").await;
    assert_eq!(evil.calls().len(), before);
}

#[tokio::test]
async fn the_origin_of_the_document_in_force_decides() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("origins");
    workspace.set("CRM_TOKEN", &canary.value);
    let service = LeakyService::bearer(&canary).await;
    let url = format!("{}/openapi.json", service.base);
    let document = intent_with_locator("openapi", &url, "env:CRM_TOKEN");
    let token = PushToken::new(&workspace, "aod", "autonomy");
    let mut daemon = workspace.serve().await;

    // What the admin token pushed stays granted when tokens are configured.
    assert_eq!(daemon.push(&document).await.body["status"], "ACTIVE");
    put_in_force(&workspace, &mut daemon, &[(&token, "")], "").await;
    daemon.until_state(&url, "ACTIVE").await;

    // The folder may name every locator. A push of the same document asks for nothing else and changes nothing.
    workspace.intent_file("crm.json", &document);
    let connection = daemon.until_state(&url, "ACTIVE").await;
    until("the file is accepted", || async {
        let history = serde_json::json!(daemon.history(&connection).await).to_string();
        (history.contains("folder:crm.json"), history)
    })
    .await;
    assert_eq!(daemon.push(&document).await.body["status"], "ACTIVE");

    // A different document of a token without a grant is in force and has no right.
    let mut other = document.clone();
    other["risk_level"] = json!("high");
    let calls = service.calls().len();
    let pushed = daemon.push(&other).await;
    assert_eq!(pushed.body["status"], "AWAITING_CREDENTIALS", "{}", pushed.body);
    assert_eq!(service.calls().len(), calls);

    // The file with another document is in force again.
    let mut newer = document.clone();
    newer["owner"]["user"] = json!("new@acme.example");
    workspace.intent_file("crm.json", &newer);
    daemon.until_state(&url, "ACTIVE").await;

    // Once the file is gone, the document that is left belongs to the token.
    std::fs::remove_file(workspace.path("intents/crm.json")).expect("remove");
    daemon.until_state(&url, "AWAITING_CREDENTIALS").await;
}

#[tokio::test]
async fn the_locators_of_a_namespace_are_not_used_by_another() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("namespaces");
    workspace.set("TEAM_B_TOKEN", &canary.value);
    let service = LeakyService::bearer(&canary).await;
    let url = format!("{}/openapi.json", service.base);
    let document = intent_with_locator("openapi", &url, "env:TEAM_B_TOKEN");
    workspace.write_policy("credentials:\n  namespaces:\n    team_b: [\"env:TEAM_B_*\"]\n");
    workspace.intent_file("stolen.json", &document);
    let daemon = workspace.serve().await;
    let held = daemon.until_state(&url, "AWAITING_CREDENTIALS").await;
    assert!(service.calls().is_empty());
    let fix = held["error"]["fix"].as_str().expect("a fix").to_string();
    let mut own = document.clone();
    own["namespace"] = json!("team_b");
    workspace.intent_file("own.json", &own);
    until("the namespace's own connection is ACTIVE", || async {
        let page = daemon.get("/connections?namespace=team_b").await.body;
        (page["connections"][0]["status"] == "ACTIVE", page.to_string())
    })
    .await;
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains("would be AWAITING_CREDENTIALS") && check.contains("namespace team_b: only env:TEAM_B_*"), "{check}");
    let line = fix.strip_prefix("in the policy, under credentials.namespaces, write: ").expect(&fix);
    workspace.write_policy(&format!("credentials:\n  namespaces:\n    team_b: [\"env:TEAM_B_*\"]\n    {line}\n"));
    daemon.until_state(&url, "ACTIVE").await;
}

#[tokio::test]
async fn a_database_and_an_object_store_need_their_host_too() {
    let mut workspace = Workspace::new();
    workspace.set("DB_LOGIN", r#"{"user":"reader","password":"canary-grants-db"}"#);
    workspace.set("S3_KEYS", r#"{"access_key_id":"canary-key-id","secret_access_key":"canary-grants-s3-secret"}"#);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("nonblocking");
    let port = listener.local_addr().expect("an address").port();
    let token = PushToken::new(&workspace, "aod", "autonomy");
    let mut daemon = workspace.serve().await;
    put_in_force(&workspace, &mut daemon, &[(&token, ", locators: [\"env:DB_LOGIN\", \"env:S3_KEYS\"]")], "").await;
    for (family, id, locator) in [
        ("postgres", format!("postgresql://127.0.0.1:{port}/shop"), "env:DB_LOGIN"),
        ("jdbc", format!("jdbc:mysql://127.0.0.1:{port}/shop"), "env:DB_LOGIN"),
        ("s3_compat", format!("http://127.0.0.1:{port}/bucket"), "env:S3_KEYS"),
    ] {
        let pushed = daemon.push(&intent_with_locator(family, &id, locator)).await;
        assert_eq!(pushed.body["status"], "AWAITING_CREDENTIALS", "{family}: {}", pushed.body);
        let title = pushed.body["error"]["title"].as_str().unwrap_or_default().to_string();
        assert!(title.contains(&format!("127.0.0.1:{port}")), "{title}");
    }
    assert!(listener.accept().is_err(), "nothing was connected");
    // With the host, the connection is tried.
    let grant = format!(", locators: [\"env:DB_LOGIN\"], hosts: [\"127.0.0.1:{port}\"]");
    put_in_force(&workspace, &mut daemon, &[(&token, &grant)], "").await;
    until("the database is called", || {
        let called = listener.accept().is_ok();
        async move { (called, String::new()) }
    })
    .await;
}

/// A custom source whose calls go to `authority`.
fn manifest(authority: &str) -> String {
    things_manifest(authority, &["api_token", "domain", "port"])
}

#[tokio::test]
async fn a_host_that_only_the_credential_completes_is_judged_before_the_first_call() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("completed");
    let service = LeakyService::bearer(&canary).await;
    let port = service.base.rsplit(':').next().expect("a port").to_string();
    workspace.set("CRM_TOKEN", &json!({ "api_token": canary.value, "port": port }).to_string());
    std::fs::create_dir(workspace.path("manifests")).expect("a folder");
    let text = manifest("{{ config['domain'] }}:{{ config['port'] }}");
    std::fs::write(workspace.path("manifests/acme_crm.yaml"), text).expect("a manifest");
    let policy = format!(
        "allowlist: [acme_crm]\nmanifests: {{dir: {}, sources: {{acme_crm: {{resource: domain}}}}}}\n",
        workspace.path("manifests").display()
    );
    let token = PushToken::new(&workspace, "aod", "autonomy");
    let mut daemon = workspace.serve().await;
    // Without the credential, the address has the default port, which is granted.
    let granted = ", locators: [\"env:CRM_TOKEN\"], hosts: [\"127.0.0.1:80\"]";
    put_in_force(&workspace, &mut daemon, &[(&token, granted)], &policy).await;
    let pushed = daemon.push(&intent_with_locator("acme_crm", "127.0.0.1", "env:CRM_TOKEN")).await;
    assert_eq!(pushed.body["status"], "AWAITING_CREDENTIALS", "{}", pushed.body);
    let title = pushed.body["error"]["title"].as_str().unwrap_or_default();
    assert!(title.contains(&format!("127.0.0.1:{port}")) && service.calls().is_empty(), "{title}");
}

#[tokio::test]
async fn a_custom_source_whose_host_the_intent_chooses_needs_a_host_or_the_hosts_of_the_policy() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("custom");
    workspace.set("CRM_TOKEN", &canary.value);
    let service = LeakyService::bearer(&canary).await;
    let host = service.base.trim_start_matches("http://").to_string();
    std::fs::create_dir(workspace.path("manifests")).expect("a folder");
    std::fs::write(workspace.path("manifests/acme_crm.yaml"), manifest("{{ config['domain'] }}")).expect("a manifest");
    let policy = |hosts: &str| {
        format!(
            "allowlist: [acme_crm, openapi, filesource]\nmanifests: {{dir: {}, sources: {{acme_crm: {{resource: domain{hosts}}}}}}}\n",
            workspace.path("manifests").display()
        )
    };
    let token = PushToken::new(&workspace, "aod", "autonomy");
    let mut daemon = workspace.serve().await;
    let granted = ", locators: [\"env:CRM_TOKEN\"]";
    put_in_force(&workspace, &mut daemon, &[(&token, granted)], &policy("")).await;
    let pushed = daemon.push(&intent_with_locator("acme_crm", &host, "env:CRM_TOKEN")).await;
    assert_eq!(pushed.body["status"], "AWAITING_CREDENTIALS", "{}", pushed.body);
    assert!(service.calls().is_empty() && fix(&pushed).contains(&host), "{}", pushed.body);
    // Hosts that the policy names for the source were reviewed.
    put_in_force(&workspace, &mut daemon, &[(&token, granted)], &policy(&format!(", hosts: [\"http://{host}\"]"))).await;
    until("the source is called", || {
        let calls = service.calls().len();
        async move { (calls > 0, String::new()) }
    })
    .await;
}

#[tokio::test]
async fn check_and_diff_say_who_may_send_what_and_mark_what_is_wider() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    let token = PushToken::new(&workspace, "aod", "autonomy");
    let policy = |grant: &str| format!("api:\n  tokens: [{{{}{grant}}}]\n", token.entry);
    workspace.write_policy(&policy(""));
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains("token aod in autonomy: no locator"), "{check}");
    workspace.replace("old.yaml", &std::fs::read(workspace.path("policy/policy.yaml")).expect("the policy"));
    workspace.write_policy(&policy(", locators: [\"env:CRM_*\"], hosts: [\"*\"]"));
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains("token aod in autonomy: env:CRM_*, to every host"), "{check}");
    let diff = stdout(&workspace.run(&["policy", "diff", "old.yaml", "policy/policy.yaml"]));
    assert!(diff.contains("token aod may now use env:CRM_* (wider)") && diff.contains("to * (wider)"), "{diff}");
    let back = stdout(&workspace.run(&["policy", "diff", "policy/policy.yaml", "old.yaml"]));
    assert!(back.contains("may no longer use env:CRM_*") && !back.contains("(wider)"), "{back}");
}
