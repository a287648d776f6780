//! Consent in a real browser: the owner of a system reads the page of the link, clicks, signs in at oidc-provider, agrees,
//! comes back, and sees the connection become ACTIVE.

pub mod browser;

use crate::harness::{get_json, http_client, variable};
use crate::support::daemon::{Daemon, Workspace, intent_with_locator, until};
use browser::Browser;
use serde_json::{Value, json};

peer_tests! {
    [Chromium, Oidc]: an_owner_lets_aam_read_with_one_click, refresh_tokens_rotate_and_the_connection_stays_active,
        the_wrong_account_is_named_and_nothing_is_stored, what_the_vendor_refuses_can_be_tried_again,
        answers_that_belong_to_no_request_are_refused, a_link_survives_a_closed_tab_and_a_restart,
        a_link_that_has_ended_says_so, the_pages_work_without_scripts, a_grant_that_was_withdrawn_leads_to_a_new_link;
}

/// A workspace whose policy names the CRM of the peer, and its daemon.
struct Setup {
    workspace: Workspace,
    daemon: Daemon,
}

/// The secret file of the peer.
fn secret(name: &str) -> String {
    std::fs::read_to_string(variable("OIDC", &format!("{name}_FILE"))).expect("the file of the peer")
}

impl Setup {
    /// `client` is `CONFIDENTIAL`, `PUBLIC`, `SHORT` or `REVOKED`.
    async fn new(client: &str) -> Setup {
        let mut workspace = Workspace::new();
        std::fs::create_dir(workspace.path("policy/manifests")).expect("a folder");
        let manifest = include_str!("crm.yaml").replace("API_URL", &variable("OIDC", "API_URL"));
        std::fs::write(workspace.path("policy/manifests/acme_crm.yaml"), manifest).expect("write");
        workspace.set("CONSENT_KEY", &"6b".repeat(32));
        // An offset to the clock of the machine, in milliseconds; none until a test writes it.
        let clock = workspace.path("clock").display().to_string();
        workspace.set("AAM_TEST_CLOCK", &clock);
        let mut secret_line = String::new();
        if client != "PUBLIC" {
            workspace.set("CRM_CLIENT_SECRET", &secret(&format!("{client}_SECRET")));
            secret_line = "client_secret: env:CRM_CLIENT_SECRET, ".to_string();
        }
        let daemon = workspace.serve().await;
        let of_peer = |name: &str| variable("OIDC", name);
        workspace.write_policy(&format!(
            "allowlist: [acme_crm]\n\
             caps: {{families: {{acme_crm: {{per_second: 100, burst: 200, per_day: 20000, concurrency: 4}}}}}}\n\
             manifests: {{dir: {}, sources: {{acme_crm: {{hosts: [\"{url}\"], resource: tenant, identity: {{stream: account, field: /tenant}}}}}}}}\n\
             credentials:\n  consent_store: {{file: {}, key: env:CONSENT_KEY}}\n  consents:\n    \
             crm: {{family: acme_crm, client_id: {}, {secret_line}redirect: \"http://127.0.0.1:{}/consent/callback\", \
             scopes: [openid, offline_access, \"accounts:read\"], authorize_url: \"{}\", token_url: \"{}\", revoke_url: \"{}\", issuer: \"{url}\"}}\n",
            workspace.path("policy/manifests").display(),
            workspace.path("var/consents.json").display(),
            of_peer(&format!("{client}_ID")),
            daemon.port,
            of_peer("AUTHORIZE_URL"),
            of_peer("TOKEN_URL"),
            of_peer("REVOKE_URL"),
            url = of_peer("URL"),
        ));
        let check = workspace.run(&["check"]);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        Setup { workspace, daemon }
    }

    /// Asks for a connection and returns the address of its link.
    async fn ask(&self, tenant: &str) -> String {
        self.workspace.intent_file(&format!("{tenant}.json"), &intent_with_locator("acme_crm", tenant, "consent:crm"));
        self.link(tenant).await
    }

    /// The address of the link that the connection's owner gets.
    async fn link(&self, tenant: &str) -> String {
        let waiting = self
            .daemon
            .until_connection(tenant, "a link", |one| one["status"] == "AWAITING_CREDENTIALS" && link_in(one).is_some())
            .await;
        link_in(&waiting).expect("a link")
    }

    /// The number of grants in the store. Their tokens are encrypted.
    fn grants(&self) -> usize {
        let text = std::fs::read(self.workspace.path("var/consents.json")).expect("the store");
        let store: Value = serde_json::from_slice(&text).expect("JSON");
        store["grants"].as_array().expect("a list").len()
    }

    async fn heal(&self, connection: &Value) -> Value {
        let id = connection["connection_id"].as_str().expect("an id");
        self.daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body
    }

    /// No token, code or secret may be in any file of the workspace, except the key in the environment.
    fn assert_no_secret(&self, secrets: &[String]) {
        for (path, bytes) in self.workspace.files() {
            let text = String::from_utf8_lossy(&bytes);
            for secret in secrets {
                assert!(!text.contains(secret.as_str()), "a secret is in {}", path.display());
            }
        }
    }
}

/// The address of the consent page in the texts of a connection.
fn link_in(connection: &Value) -> Option<String> {
    let fix = connection["error"]["fix"].as_str()?;
    let start = fix.find("http://127.0.0.1:").filter(|at| fix[*at..].contains("/consent/"))?;
    let end =
        fix[start..].find(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | ';' | ')')).map_or(fix.len(), |end| start + end);
    Some(fix[start..end].trim_end_matches('.').to_string())
}

async fn sign_in(browser: &Browser, user: &str) {
    browser.until_shown("Sign in").await;
    browser.fill("input[name=user]", &variable("OIDC", user)).await;
    browser.fill("input[name=password]", &secret("PASSWORD")).await;
    browser.click("button[value=login]").await;
    browser.until_shown("Allow access").await;
}

/// What the peer counted for the client whose access tokens live for two seconds.
async fn counters() -> Value {
    get_json(&format!("{}/test/counters?client_id={}", variable("OIDC", "URL"), variable("OIDC", "SHORT_ID"))).await
}

/// Checks that nothing on the page is wider than a desktop window or a phone. With `AAM_TEST_SCREENSHOTS`, the folder of
/// that name gets a picture of both.
async fn assert_fits(browser: &Browser, name: &str) {
    for (width, dark) in [(1280, false), (390, true)] {
        browser.screen(width, 900, dark).await;
        let wide = browser.run("return document.documentElement.scrollWidth").await;
        assert!(wide.as_u64().is_some_and(|wide| wide <= u64::from(width)), "{name} is {wide} pixels wide at {width}");
        if let Some(folder) = std::env::var_os("AAM_TEST_SCREENSHOTS") {
            browser.screenshot(&std::path::Path::new(&folder).join(format!("{name}-{width}.png"))).await;
        }
    }
}

/// Opens the link, clicks the button, signs in, agrees, and waits for the answer of AAM.
async fn give(browser: &Browser, link: &str, user: &str) {
    browser.open(link).await;
    browser.click("button").await;
    sign_in(browser, user).await;
    browser.click("button[value=allow]").await;
}

async fn an_owner_lets_aam_read_with_one_click() {
    let setup = Setup::new("CONFIDENTIAL").await;
    let link = setup.ask("acme").await;
    let browser = Browser::start().await;
    browser.open(&link).await;
    let page = browser.text().await;
    for shown in [
        "Let AAM read",
        "acme",
        "owner@acme.example",
        "acme.json",
        "accounts:read",
        "offline_access",
        "never writes",
        "at most 20 items",
    ] {
        assert!(page.contains(shown), "{shown} is not on the page:\n{page}");
    }
    assert_eq!(browser.run("return document.querySelectorAll('button').length").await, 1, "one button");
    assert_fits(&browser, "open").await;
    browser.click("button").await;
    sign_in(&browser, "ACME_USER").await;
    assert!(browser.text().await.contains("openid offline_access accounts:read"), "{}", browser.text().await);
    browser.click("button[value=allow]").await;
    browser.until_shown("Connected").await;
    assert_eq!(browser.address().await, link, "the code does not stay in the address");
    let active = setup.daemon.until_state("acme", "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 20, "{active}");
    assert_fits(&browser, "active").await;
    // The peer's own pages write to the console too.
    let of_aam = |line: &String| line.contains(&setup.daemon.url("/"));
    let console: Vec<String> = browser.console().await.into_iter().filter(of_aam).collect();
    assert_eq!(console, Vec::<String>::new(), "no violation of the content security policy");

    // The link was used. Its page shows the state, and its button cannot be pressed again.
    let again = http_client().post(&link).send().await.expect("a response");
    assert!(!again.url().as_str().contains("/auth"), "{}", again.url());
    assert_eq!(setup.grants(), 1, "the grant is stored");
    setup.assert_no_secret(&[secret("CONFIDENTIAL_SECRET"), secret("PASSWORD")]);
    assert!(!setup.daemon.log().contains(link.rsplit('/').next().expect("an id")), "the log contains the id of the link");
}

async fn refresh_tokens_rotate_and_the_connection_stays_active() {
    let mut setup = Setup::new("SHORT").await;
    let link = setup.ask("acme").await;
    let browser = Browser::start().await;
    give(&browser, &link, "ACME_USER").await;
    browser.until_shown("Connected").await;
    let active = setup.daemon.until_state("acme", "ACTIVE").await;
    // The access tokens of this client live for two seconds.
    let before = counters().await["refresh_tokens_used"].as_u64().expect("a number");
    until("two rotations", || async {
        let healed = setup.heal(&active).await;
        assert_eq!(healed["status"], "ACTIVE", "{healed}");
        let used = counters().await["refresh_tokens_used"].as_u64().expect("a number");
        (used >= before + 2, used.to_string())
    })
    .await;
    // The token on disk is the newest one: after a restart, the daemon uses it.
    let port = setup.daemon.port;
    setup.daemon.terminate();
    let restarted = {
        let Setup { workspace, daemon } = setup;
        daemon.ended().await;
        let daemon = workspace.serve_on(port).await;
        Setup { workspace, daemon }
    };
    setup = restarted;
    let revoked = counters().await["grants_revoked"].clone();
    let healed = setup.heal(&active).await;
    assert_eq!(healed["status"], "ACTIVE", "{healed}");
    assert_eq!(counters().await["grants_revoked"], revoked, "no refresh token was used twice");
}

async fn the_wrong_account_is_named_and_nothing_is_stored() {
    let setup = Setup::new("CONFIDENTIAL").await;
    let link = setup.ask("acme").await;
    let browser = Browser::start().await;
    give(&browser, &link, "GLOBEX_USER").await;
    browser.until_shown("another account").await;
    let page = browser.text().await;
    assert!(page.contains("globex") && page.contains("acme") && page.contains("What AAM stored\nnothing"), "{page}");
    assert_fits(&browser, "wrong-account").await;
    let waiting = setup.link("acme").await;
    assert_eq!(waiting, link, "the link still works");
    assert_eq!(setup.grants(), 0, "nothing is stored");
    let own = Browser::start().await;
    give(&own, &link, "ACME_USER").await;
    own.until_shown("Connected").await;
    setup.daemon.until_state("acme", "ACTIVE").await;
    assert_eq!(setup.grants(), 1);
}

async fn what_the_vendor_refuses_can_be_tried_again() {
    let setup = Setup::new("PUBLIC").await;
    let link = setup.ask("acme").await;
    let browser = Browser::start().await;
    browser.open(&link).await;
    browser.click("button").await;
    sign_in(&browser, "ACME_USER").await;
    browser.click("button[value=deny]").await;
    browser.until_shown("The permission was not given").await;
    let page = browser.text().await;
    assert!(page.contains("the user did not allow the access") && page.contains("What AAM stored\nnothing"), "{page}");
    assert_fits(&browser, "refused").await;
    browser.click("a.button").await;
    browser.until_shown("Let AAM read").await;
    browser.click("button").await;
    browser.until_shown("Allow access").await;
    browser.click("button[value=allow]").await;
    browser.until_shown("Connected").await;
    setup.daemon.until_state("acme", "ACTIVE").await;
}

async fn answers_that_belong_to_no_request_are_refused() {
    let setup = Setup::new("CONFIDENTIAL").await;
    let link = setup.ask("acme").await;
    let callback = setup.daemon.url("/consent/callback");
    let issuer = variable("OIDC", "URL");
    // A client that does not follow redirects, so that the addresses can be read.
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let refused = |query: String| {
        let request = client.get(format!("{callback}{query}"));
        async move {
            let answer = request.send().await.expect("a response");
            let status = answer.status().as_u16();
            assert!((400..500).contains(&status), "{status} for {query}");
            let kind = answer.headers()["content-type"].to_str().expect("text").to_string();
            assert!(kind.starts_with("text/html"), "{kind}");
            answer.text().await.expect("a page")
        }
    };
    for query in ["", "?state=forged&code=x", "?code=x", "?state=a&state=b&code=x", "?error=access_denied&state=forged"] {
        let page = refused(query.to_string()).await;
        assert!(!page.contains("forged"), "{page}");
    }
    // A forged id and an unknown one get the same answer.
    let id = link.rsplit('/').next().expect("an id");
    let mut forged = id.to_string();
    forged.replace_range(id.len() - 1.., if id.ends_with('A') { "B" } else { "A" });
    let unknown: String = id.chars().rev().collect();
    let page = |id: String| {
        let request = client.get(setup.daemon.url(&format!("/consent/{id}")));
        async move {
            let answer = request.send().await.expect("a response");
            (answer.status().as_u16(), answer.text().await.expect("a page"))
        }
    };
    let (forged, unknown, short) = (page(forged).await, page(unknown).await, page("x".to_string()).await);
    assert_eq!((forged.0, &forged), (404, &unknown));
    assert_eq!(forged, short);

    // The real answer of the vendor works once. The browser is stopped before AAM gets it.
    let begun = client.post(&link).header("origin", setup.daemon.url("")).send().await.expect("a response");
    assert_eq!(begun.status(), 303);
    let authorize = begun.headers()["location"].to_str().expect("text").to_string();
    for part in ["code_challenge_method=S256", "code_challenge=", "state=", "nonce=", "response_type=code"] {
        assert!(authorize.contains(part), "{part} is not in {authorize}");
    }
    let state = url::Url::parse(&authorize)
        .expect("a URL")
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("a state")
        .1
        .into_owned();
    let page = refused(format!("?state={state}&code=x&iss=https%3A%2F%2Fevil.example")).await;
    assert!(page.contains("another system"), "{page}");
    let browser = Browser::start().await;
    give(&browser, &link, "ACME_USER").await;
    browser.until_shown("Connected").await;
    let replayed = refused(format!("?state={state}&code=x&iss={}", issuer.replace(':', "%3A").replace('/', "%2F"))).await;
    assert!(replayed.contains("does not belong to a request"), "{replayed}");
    let cross = client.post(&link).header("origin", "https://evil.example").send().await.expect("a response");
    assert_eq!(cross.status(), 403, "the button works only on the page itself");
    setup.daemon.until_state("acme", "ACTIVE").await;
}

async fn a_link_survives_a_closed_tab_and_a_restart() {
    let mut setup = Setup::new("CONFIDENTIAL").await;
    let link = setup.ask("acme").await;
    // The reader closes the tab at the login page.
    let first = Browser::start().await;
    first.open(&link).await;
    first.click("button").await;
    first.until_shown("Sign in").await;
    drop(first);
    let browser = Browser::start().await;
    browser.open(&link).await;
    browser.until_shown("has not answered yet").await;
    browser.click("button").await;
    sign_in(&browser, "ACME_USER").await;
    // The daemon restarts while the reader is at the vendor.
    let port = setup.daemon.port;
    let Setup { workspace, daemon } = setup;
    daemon.kill();
    let daemon = workspace.serve_on(port).await;
    setup = Setup { workspace, daemon };
    browser.click("button[value=allow]").await;
    browser.until_shown("Connected").await;
    setup.daemon.until_state("acme", "ACTIVE").await;
}

async fn a_link_that_has_ended_says_so() {
    let setup = Setup::new("CONFIDENTIAL").await;
    let link = setup.ask("acme").await;
    let eight_days: u64 = 8 * 24 * 3600 * 1000;
    setup.workspace.replace("clock", eight_days.to_string().as_bytes());
    let browser = Browser::start().await;
    browser.open(&link).await;
    browser.until_shown("This link has ended").await;
    assert_eq!(browser.run("return document.querySelectorAll('form').length").await, 0, "there is no button");
    assert_fits(&browser, "ended").await;
    // The button of a page that was opened before leads to the same page.
    let pressed = http_client().post(&link).send().await.expect("a response");
    assert_eq!((pressed.status().as_u16(), pressed.url().as_str()), (410, link.as_str()));
    let waiting = setup.daemon.until_state("acme", "AWAITING_CREDENTIALS").await;
    setup.heal(&waiting).await;
    let renewed = setup.link("acme").await;
    assert_ne!(renewed, link);
    browser.open(&renewed).await;
    browser.until_shown("Let AAM read").await;
}

async fn the_pages_work_without_scripts() {
    let setup = Setup::new("CONFIDENTIAL").await;
    let link = setup.ask("acme").await;
    let browser = Browser::without_scripts().await;
    give(&browser, &link, "ACME_USER").await;
    browser.until_shown("Connected").await;
    setup.daemon.until_state("acme", "ACTIVE").await;
}

async fn a_grant_that_was_withdrawn_leads_to_a_new_link() {
    let setup = Setup::new("REVOKED").await;
    let link = setup.ask("acme").await;
    let browser = Browser::start().await;
    give(&browser, &link, "ACME_USER").await;
    browser.until_shown("Connected").await;
    let active = setup.daemon.until_state("acme", "ACTIVE").await;
    let revoke = format!("{}/test/revoke?client_id={}", variable("OIDC", "URL"), variable("OIDC", "REVOKED_ID"));
    let revoked = http_client().post(revoke).send().await.expect("a response");
    assert!(revoked.status().is_success());
    until("the grant is gone", || async {
        let healed = setup.heal(&active).await;
        (healed["status"] == "AWAITING_CREDENTIALS", healed.to_string())
    })
    .await;
    let renewed = setup.link("acme").await;
    assert_ne!(renewed, link, "a link works once");
    let fresh = Browser::start().await;
    give(&fresh, &renewed, "ACME_USER").await;
    fresh.until_shown("Connected").await;
    setup.daemon.until_state("acme", "ACTIVE").await;
}
