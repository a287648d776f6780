//! GitHub, Slack and a custom manifest through the whole daemon, from a file in the intents folder to ACTIVE.

use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout, until};
use crate::support::github::{app_credential, app_key, github};
use crate::support::lowcode_families::{CRM, CRM_CREDENTIAL, MockVendor, crm, slack};
use crate::support::shop::{Shop, TOKEN};
use serde_json::json;

/// The secrets of the test; none of them may appear in any file that the daemon writes.
const SECRETS: [&str; 4] = ["gh-token-reads-1", "xoxb-reads-1", "crm-secret-of-the-test-77", "crm-access-token-1234567890"];

struct Vendors {
    github: MockVendor,
    slack: MockVendor,
    crm: MockVendor,
}

async fn workspace_with_vendors() -> (Workspace, Vendors) {
    let mut workspace = Workspace::new();
    let vendors = Vendors {
        github: MockVendor::start(github).await,
        slack: MockVendor::start(slack).await,
        crm: MockVendor::start(crm).await,
    };
    std::fs::create_dir(workspace.path("policy/manifests")).expect("a folder");
    workspace.write_policy(&policy(&workspace, &vendors));
    workspace.set("GITHUB_TOKEN", SECRETS[0]);
    workspace.set("SLACK_TOKEN", SECRETS[1]);
    workspace.set("CRM_KEYS", CRM_CREDENTIAL);
    (workspace, vendors)
}

fn policy(workspace: &Workspace, vendors: &Vendors) -> String {
    format!(
        "allowlist: [github, slack, acme_crm]\n\
         families:\n  github: {{base_url: \"{}\"}}\n  slack: {{base_url: \"{}/api\"}}\n\
         manifests:\n  dir: {}\n  sources:\n    acme_crm:\n      posts:\n        - url: {}/oauth/token\n          why: a token\n          \
         idempotent: true\n          body: {{form: {{grant_type: {{is: client_credentials}}, client_id: any, client_secret: any}}}}\n",
        vendors.github.base,
        vendors.slack.base,
        workspace.path("policy/manifests").display(),
        vendors.crm.base
    )
}

/// The text of every problem that the dashboard shows.
async fn problems(daemon: &crate::support::daemon::Daemon) -> String {
    daemon.get("/dashboard.json").await.body["problems"].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_systems_go_from_pending_to_active() {
    let (workspace, vendors) = workspace_with_vendors().await;
    let daemon = workspace.serve().await;
    [&vendors.github, &vendors.slack].iter().for_each(|vendor| vendor.hold(true));
    let host = vendors.crm.host().to_string();
    workspace.intent_file("github.json", &intent_with_locator("github", "acme", "env:GITHUB_TOKEN"));
    workspace.intent_file("slack.json", &intent_with_locator("slack", "workspace_T0ACME", "env:SLACK_TOKEN"));
    workspace.intent_file("crm.json", &intent_with_locator("acme_crm", &host, "env:CRM_KEYS"));
    daemon.until_state("acme", "PENDING").await;
    daemon.until_state("workspace_T0ACME", "PENDING").await;
    let missing = daemon.until_state(&host, "UNSUPPORTED").await;
    assert!(missing.to_string().contains("manifests/acme_crm.yaml"), "{missing}");
    [&vendors.github, &vendors.slack].iter().for_each(|vendor| vendor.hold(false));
    workspace.replace("policy/manifests/acme_crm.yaml", CRM.as_bytes());
    let rows = [("acme", 20), ("workspace_T0ACME", 4), (host.as_str(), 3)];
    for (id, rows) in rows {
        let active = daemon.until_state(id, "ACTIVE").await;
        assert_eq!(active["first_sync_rows"], rows, "{active}");
        let id = active["connection_id"].as_str().expect("an id");
        let catalog = daemon.get(&format!("/connections/{id}/catalog")).await;
        assert_eq!(catalog.status, 200, "{}", catalog.body);
    }
    let log = daemon.log();
    assert!(
        log.contains(r#""method":"POST""#) || log.contains("method=\"POST\"") || log.contains("POST"),
        "the call log does not contain the POST"
    );
    let posts = |vendor: &MockVendor| vendor.calls().into_iter().filter(|call| !call.starts_with("GET")).collect::<Vec<_>>();
    assert_eq!(posts(&vendors.github), Vec::<String>::new());
    assert!(posts(&vendors.slack).iter().all(|call| call == "POST /api/auth.test"), "{:?}", posts(&vendors.slack));
    assert!(posts(&vendors.crm).iter().all(|call| call == "POST /oauth/token"), "{:?}", posts(&vendors.crm));
    daemon.stop().await;
    for (path, bytes) in workspace.files() {
        let text = String::from_utf8_lossy(&bytes);
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {}", path.display());
        }
    }
}

/// A connection that is ACTIVE without some of its streams says so in its steps, with every missing scope.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_a_scope_is_missing_for_are_named_in_the_steps() {
    let (mut workspace, _vendors) = workspace_with_vendors().await;
    workspace.set("SLACK_TOKEN", "xoxb-narrow-3");
    workspace.set("SLACK_OTHER", "xoxb-nothing-6");
    workspace.intent_file("slack.json", &intent_with_locator("slack", "workspace_T0ACME", "env:SLACK_TOKEN"));
    workspace.intent_file("other.json", &intent_with_locator("slack", "T0ACME", "env:SLACK_OTHER"));
    let daemon = workspace.serve().await;
    let active = daemon.until_state("workspace_T0ACME", "ACTIVE").await;
    let whole = daemon.get(&format!("/connections/{}", active["connection_id"].as_str().expect("an id"))).await.body;
    let step = whole["steps"].as_array().expect("steps").iter().find(|step| step["step"] == "discover").expect("discover");
    assert_eq!(step["status"], "warned", "{step}");
    let failure = &step["failure"];
    assert_eq!(failure["class"], "permission_denied", "{step}");
    assert_eq!(failure["title"], "2 of 3 streams are not readable: team:read, users:read are missing", "{step}");
    assert!(failure["fix"].as_str().expect("a fix").contains("team:read, users:read"), "{step}");
    assert_eq!(step["evidence"]["denied"]["missing"], json!(["team:read", "users:read"]), "{step}");
    assert_eq!(step["evidence"]["denied"]["streams"][0]["stream"], "team", "{step}");
    let warning = &active["warnings"][0];
    assert_eq!((&warning["pointer"], &warning["class"]), (&json!("/steps/discover"), &json!("permission_denied")), "{active}");
    let waiting = daemon.until_state("T0ACME", "AWAITING_CREDENTIALS").await.to_string();
    assert!(waiting.contains("none of the 3 streams is readable: channels:read, team:read, users:read are missing"), "{waiting}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_app_and_an_installation_token_become_active_and_leave_no_secret() {
    let (mut workspace, vendors) = workspace_with_vendors().await;
    workspace.set("GITHUB_TOKEN", &app_credential());
    workspace.set("GITHUB_ACTIONS", "ghs_metadata_of_a_workflow_1");
    workspace.intent_file("app.json", &intent_with_locator("github", "acme", "env:GITHUB_TOKEN"));
    workspace.intent_file("actions.json", &intent_with_locator("github", "acme/widgets", "env:GITHUB_ACTIONS"));
    let daemon = workspace.serve().await;
    let app = daemon.until_state("acme", "ACTIVE").await;
    assert_eq!((&app["first_sync_rows"], &app["warnings"]), (&json!(20), &json!([])), "{app}");
    daemon.until_state("acme/widgets", "ACTIVE").await;
    daemon.stop().await;
    let key = app_key();
    let line = key.lines().nth(3).expect("a line of the key").to_string();
    let minted = vendors.github.requests().into_iter().map(|request| request.token).filter(|token| !token.is_empty());
    let secrets: Vec<String> = minted.chain([line]).collect();
    for (path, bytes) in workspace.files() {
        let text = String::from_utf8_lossy(&bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_manifest_is_verified_again_and_an_invalid_one_leaves_the_last_valid_one_in_force() {
    let (workspace, vendors) = workspace_with_vendors().await;
    workspace.replace("policy/manifests/acme_crm.yaml", CRM.as_bytes());
    let host = vendors.crm.host().to_string();
    workspace.intent_file("crm.json", &intent_with_locator("acme_crm", &host, "env:CRM_KEYS"));
    let daemon = workspace.serve().await;
    let first = daemon.until_state(&host, "ACTIVE").await;
    assert_eq!(daemon.entries(&first, "catalog_registered").await.len(), 1);
    workspace.replace("policy/manifests/acme_crm.yaml", CRM.replace("SimpleRetriever", "SimpleRetreiver").as_bytes());
    until("the dashboard shows the problem", || async {
        let shown = problems(&daemon).await;
        (shown.contains("acme_crm.yaml") && shown.contains("SimpleRetriever"), shown)
    })
    .await;
    let check = workspace.run(&["check"]);
    assert_eq!(check.status.code(), Some(78), "{} {}", stdout(&check), stderr(&check));
    assert!(stdout(&check).contains("acme_crm.yaml:"), "{}", stdout(&check));
    let held = daemon.until_state(&host, "ACTIVE").await;
    assert_eq!(held["version"], first["version"], "an attempt ran with a manifest that is not valid");
    workspace.replace(
        "policy/manifests/acme_crm.yaml",
        CRM.replace("name: {type: string}", "name: {type: string}, phone: {type: string}").as_bytes(),
    );
    until("the new schema is registered", || async {
        let catalogs = daemon.entries(&first, "catalog_registered").await;
        (catalogs.len() == 2, json!(catalogs).to_string())
    })
    .await;
    daemon.until_state(&host, "ACTIVE").await;
    assert_eq!(problems(&daemon).await, "[]");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_names_the_calls_and_a_wrong_token_leads_to_awaiting_credentials() {
    let (mut workspace, vendors) = workspace_with_vendors().await;
    workspace.replace("policy/manifests/acme_crm.yaml", CRM.as_bytes());
    workspace.set("GITHUB_TOKEN", "gh-token-wrong");
    workspace.intent_file("github.json", &intent_with_locator("github", "acme", "env:GITHUB_TOKEN"));
    workspace.intent_file("crm.json", &intent_with_locator("acme_crm", vendors.crm.host(), "env:CRM_KEYS"));
    let plan = stdout(&workspace.run(&["plan"]));
    for expected in ["/orgs/acme/repos", "/v1/contacts", "POST", "/oauth/token", vendors.github.host(), vendors.crm.host()] {
        assert!(plan.contains(expected), "{expected}: {plan}");
    }
    assert!(vendors.github.calls().is_empty() && vendors.crm.calls().is_empty(), "aam plan called a vendor");
    let daemon = workspace.serve().await;
    let waiting = daemon.until_state("acme", "AWAITING_CREDENTIALS").await;
    assert!(waiting.to_string().contains("Bad credentials"), "{waiting}");
    daemon.stop().await;
}

/// Connections of one manifest share the compiled manifest, but each calls its own address with its own token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_manifest_use_their_own_address_and_token() {
    let mut workspace = Workspace::new();
    let (north, south) = (Shop::start(), Shop::start());
    std::fs::create_dir(workspace.path("policy/manifests")).expect("a folder");
    workspace.replace("policy/manifests/shop.yaml", include_bytes!("../data/lowcode/shop.yaml"));
    let caps = "caps: {families: {shop: {per_second: 1000, burst: 1000, per_day: 10000, concurrency: 4}}}";
    workspace.write_policy(&format!(
        "allowlist: [shop]\n{caps}\nmanifests: {{dir: {}}}\n",
        workspace.path("policy/manifests").display()
    ));
    workspace.set("NORTH", &json!({"api_key": TOKEN}).to_string());
    workspace.set("SOUTH", &json!({"api_key": "token-of-the-south-1"}).to_string());
    let id = |shop: &Shop, name: &str| format!("base_url={}/ok&start_date=2024-01-01T00:00:00Z&shop={name}", shop.url);
    let (first, wrong, last) = (id(&north, "first"), id(&south, "wrong"), id(&north, "last"));
    let daemon = workspace.serve().await;
    for (id, locator, state) in
        [(&first, "env:NORTH", "ACTIVE"), (&wrong, "env:SOUTH", "AWAITING_CREDENTIALS"), (&last, "env:NORTH", "ACTIVE")]
    {
        workspace
            .intent_file(&format!("{}.json", id.rsplit('=').next().expect("a name")), &intent_with_locator("shop", id, locator));
        daemon.until_state(id, state).await;
    }
    daemon.stop().await;
    for (shop, token) in [(&north, TOKEN), (&south, "token-of-the-south-1")] {
        let requests = shop.take_requests();
        assert!(!requests.is_empty() && requests.iter().all(|call| call.ends_with(&format!("Bearer {token}"))), "{requests:?}");
    }
}
