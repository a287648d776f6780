//! github, slack and a manifest of one's own through the whole daemon: from a dropped file to ACTIVE.

use crate::daemon_support::{Place, intent, stderr, stdout, until};
use crate::lowcode_shop::{Shop, TOKEN};
use crate::saas_support::{CRM, CRM_CREDENTIAL, Vendor, crm, github, slack};
use serde_json::{Value, json};

/// The secrets of the test, none of which may be left anywhere.
const SECRETS: [&str; 4] = ["gh-token-reads-1", "xoxb-reads-1", "crm-secret-of-the-test-77", "crm-access-token-1234567890"];

struct Vendors {
    github: Vendor,
    slack: Vendor,
    crm: Vendor,
}

async fn world() -> (Place, Vendors) {
    let mut place = Place::new();
    let vendors =
        Vendors { github: Vendor::start(github).await, slack: Vendor::start(slack).await, crm: Vendor::start(crm).await };
    std::fs::create_dir(place.path("policy/manifests")).expect("a folder");
    place.write_policy(&policy(&place, &vendors));
    place.set("GITHUB_TOKEN", SECRETS[0]);
    place.set("SLACK_TOKEN", SECRETS[1]);
    place.set("CRM_KEYS", CRM_CREDENTIAL);
    (place, vendors)
}

fn policy(place: &Place, vendors: &Vendors) -> String {
    format!(
        "allowlist: [github, slack, acme_crm]\n\
         families:\n  github: {{base_url: \"{}\"}}\n  slack: {{base_url: \"{}/api\"}}\n\
         manifests:\n  dir: {}\n  sources:\n    acme_crm:\n      posts:\n        - url: {}/oauth/token\n          why: a token\n          \
         idempotent: true\n          body: {{form: {{grant_type: {{is: client_credentials}}, client_id: any, client_secret: any}}}}\n",
        vendors.github.base,
        vendors.slack.base,
        place.path("policy/manifests").display(),
        vendors.crm.base
    )
}

fn with_secret(source_type: &str, id: &str, locator: &str) -> Value {
    let mut document = intent(source_type, id);
    document["credential_locator"] = json!(locator);
    document
}

/// The words of every problem that the dashboard shows.
async fn problems(daemon: &crate::daemon_support::Daemon) -> String {
    daemon.get("/dashboard.json").await.body["problems"].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_systems_go_from_pending_to_active() {
    let (place, vendors) = world().await;
    let daemon = place.serve().await;
    [&vendors.github, &vendors.slack].iter().for_each(|vendor| vendor.hold(true));
    let host = vendors.crm.host().to_string();
    place.intent_file("github.json", &with_secret("github", "acme", "env:GITHUB_TOKEN"));
    place.intent_file("slack.json", &with_secret("slack", "workspace_T0ACME", "env:SLACK_TOKEN"));
    place.intent_file("crm.json", &with_secret("acme_crm", &host, "env:CRM_KEYS"));
    daemon.until_state("acme", "PENDING").await;
    daemon.until_state("workspace_T0ACME", "PENDING").await;
    let missing = daemon.until_state(&host, "UNSUPPORTED").await;
    assert!(missing.to_string().contains("manifests/acme_crm.yaml"), "{missing}");
    [&vendors.github, &vendors.slack].iter().for_each(|vendor| vendor.hold(false));
    place.replace("policy/manifests/acme_crm.yaml", CRM.as_bytes());
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
        "the call log names the POST"
    );
    let posts = |vendor: &Vendor| vendor.calls().into_iter().filter(|call| !call.starts_with("GET")).collect::<Vec<_>>();
    assert_eq!(posts(&vendors.github), Vec::<String>::new());
    assert!(posts(&vendors.slack).iter().all(|call| call == "POST /api/auth.test"), "{:?}", posts(&vendors.slack));
    assert!(posts(&vendors.crm).iter().all(|call| call == "POST /oauth/token"), "{:?}", posts(&vendors.crm));
    daemon.stop().await;
    for (path, bytes) in place.left_behind() {
        let text = String::from_utf8_lossy(&bytes);
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_manifest_is_a_changed_wish_and_a_broken_one_keeps_the_old() {
    let (place, vendors) = world().await;
    place.replace("policy/manifests/acme_crm.yaml", CRM.as_bytes());
    let host = vendors.crm.host().to_string();
    place.intent_file("crm.json", &with_secret("acme_crm", &host, "env:CRM_KEYS"));
    let daemon = place.serve().await;
    let first = daemon.until_state(&host, "ACTIVE").await;
    assert_eq!(daemon.entries(&first, "catalog_registered").await.len(), 1);
    place.replace("policy/manifests/acme_crm.yaml", CRM.replace("SimpleRetriever", "SimpleRetreiver").as_bytes());
    until("the problem is shown", || async {
        let shown = problems(&daemon).await;
        (shown.contains("acme_crm.yaml") && shown.contains("SimpleRetriever"), shown)
    })
    .await;
    let check = place.run(&["check"]);
    assert_eq!(check.status.code(), Some(78), "{} {}", stdout(&check), stderr(&check));
    assert!(stdout(&check).contains("acme_crm.yaml:"), "{}", stdout(&check));
    let held = daemon.until_state(&host, "ACTIVE").await;
    assert_eq!(held["version"], first["version"], "nothing was tried under a manifest that cannot be used");
    place.replace(
        "policy/manifests/acme_crm.yaml",
        CRM.replace("name: {type: string}", "name: {type: string}, phone: {type: string}").as_bytes(),
    );
    until("the new structure is registered", || async {
        let catalogs = daemon.entries(&first, "catalog_registered").await;
        (catalogs.len() == 2, json!(catalogs).to_string())
    })
    .await;
    daemon.until_state(&host, "ACTIVE").await;
    assert_eq!(problems(&daemon).await, "[]");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_waits_for_a_better_one_and_a_plan_names_the_calls() {
    let (mut place, vendors) = world().await;
    place.replace("policy/manifests/acme_crm.yaml", CRM.as_bytes());
    place.set("GITHUB_TOKEN", "gh-token-wrong");
    place.intent_file("github.json", &with_secret("github", "acme", "env:GITHUB_TOKEN"));
    place.intent_file("crm.json", &with_secret("acme_crm", vendors.crm.host(), "env:CRM_KEYS"));
    let plan = stdout(&place.run(&["plan"]));
    for words in ["/orgs/acme/repos", "/v1/contacts", "POST", "/oauth/token", vendors.github.host(), vendors.crm.host()] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(vendors.github.calls().is_empty() && vendors.crm.calls().is_empty(), "a plan calls nobody");
    let daemon = place.serve().await;
    let waiting = daemon.until_state("acme", "AWAITING_CREDENTIALS").await;
    assert!(waiting.to_string().contains("Bad credentials"), "{waiting}");
    daemon.stop().await;
}

/// Connections of one manifest share what was built of it: each still calls its own address with its own token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_of_one_manifest_keep_to_their_own_address_and_token() {
    let mut place = Place::new();
    let (north, south) = (Shop::open(), Shop::open());
    std::fs::create_dir(place.path("policy/manifests")).expect("a folder");
    place.replace("policy/manifests/shop.yaml", include_bytes!("../data/lowcode/shop.yaml"));
    let caps = "caps: {families: {shop: {per_second: 1000, burst: 1000, per_day: 10000, concurrency: 4}}}";
    place.write_policy(&format!("allowlist: [shop]\n{caps}\nmanifests: {{dir: {}}}\n", place.path("policy/manifests").display()));
    place.set("NORTH", &json!({"api_key": TOKEN}).to_string());
    place.set("SOUTH", &json!({"api_key": "token-of-the-south-1"}).to_string());
    let id = |shop: &Shop, name: &str| format!("base_url={}/ok&start_date=2024-01-01T00:00:00Z&shop={name}", shop.url);
    let (first, wrong, last) = (id(&north, "first"), id(&south, "wrong"), id(&north, "last"));
    let daemon = place.serve().await;
    for (id, locator, state) in
        [(&first, "env:NORTH", "ACTIVE"), (&wrong, "env:SOUTH", "AWAITING_CREDENTIALS"), (&last, "env:NORTH", "ACTIVE")]
    {
        place.intent_file(&format!("{}.json", id.rsplit('=').next().expect("a name")), &with_secret("shop", id, locator));
        daemon.until_state(id, state).await;
    }
    daemon.stop().await;
    for (shop, token) in [(&north, TOKEN), (&south, "token-of-the-south-1")] {
        let seen = shop.take_seen();
        assert!(!seen.is_empty() && seen.iter().all(|call| call.ends_with(&format!("Bearer {token}"))), "{seen:?}");
    }
}
