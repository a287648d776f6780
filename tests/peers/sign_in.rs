//! Signing in to the pages in a real browser: with a token, and at oidc-provider.
//!
//! AAM is opened as `localhost` and the issuer as 127.0.0.1, which are two sites for the browser: it sends the cookie of the
//! session (`SameSite=Strict`) only where it should.

use crate::consent::browser::Browser;
use crate::harness::{http_client, variable};
use crate::support::daemon::{Daemon, Workspace, intent, stdout};

peer_tests! {
    [Chromium]: a_reader_signs_in_with_a_token_and_signs_out;
    [Chromium, Oidc]: a_person_signs_in_at_the_issuer_lands_on_home_and_signs_out, signing_in_works_without_scripts,
        a_person_without_a_role_reads_which_claim_is_missing, the_issuers_refusal_is_shown;
}

/// The secret file of the peer.
fn secret(name: &str) -> String {
    std::fs::read_to_string(variable("OIDC", &format!("{name}_FILE"))).expect("the file of the peer")
}

/// A daemon whose policy lets the operators of the issuer sign in.
async fn daemon(workspace: &mut Workspace) -> Daemon {
    workspace.set("PAGE_CLIENT_SECRET", &secret("PAGE_SECRET"));
    workspace.write_policy(&format!(
        "api:\n  oidc:\n    issuer: \"{}\"\n    client_id: {}\n    client_secret: env:PAGE_CLIENT_SECRET\n    scopes: [email, groups]\n    \
         roles: [{{claim: groups, value: aam-operators, scopes: [\"registry:read\", \"ops:heal\"], namespaces: [autonomy]}}]\n",
        variable("OIDC", "URL"),
        variable("OIDC", "PAGE_ID"),
    ));
    let check = workspace.run(&["check"]);
    assert!(check.status.success(), "{}", stdout(&check));
    workspace.serve().await
}

/// The address of a page under the name that is another site than the issuer.
fn page(daemon: &Daemon, path: &str) -> String {
    format!("http://localhost:{}{path}", daemon.port)
}

/// Goes from the page to the issuer, and signs in there as `user`.
async fn sign_in(browser: &Browser, daemon: &Daemon, user: &str) {
    browser.open(&page(daemon, "/")).await;
    browser.until_shown("or with a token").await;
    browser.click("#issuer").await;
    browser.until_shown("Password").await;
    browser.fill("input[name=user]", &variable("OIDC", user)).await;
    browser.fill("input[name=password]", &secret("PASSWORD")).await;
    browser.click("button[value=login]").await;
    browser.until_shown("Allow access").await;
}

/// The messages of the pages of AAM in the console, such as violations of the content security policy.
async fn complaints(browser: &Browser, daemon: &Daemon) -> Vec<String> {
    let own = format!("localhost:{}", daemon.port);
    browser.console().await.into_iter().filter(|line| line.contains(&own) && !line.contains("401")).collect()
}

async fn a_reader_signs_in_with_a_token_and_signs_out() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let browser = Browser::start().await;
    browser.open(&page(&daemon, "/ui/about")).await;
    browser.until_shown("Sign in").await;
    browser.fill("#token", "not-the-token").await;
    browser.click("form button.primary").await;
    browser.until_shown("This is not the admin token.").await;
    browser.fill("#token", daemon.token.expose()).await;
    browser.click("form button.primary").await;
    browser.until_shown("Sign out").await;
    assert!(browser.address().await.ends_with("/ui/about"), "{}", browser.address().await);
    let cookies = browser.run("return document.cookie").await;
    assert_eq!(cookies, "", "scripts do not see the cookie");
    browser.click("form[action^='/ui/sign-out'] button").await;
    browser.until_shown("You are signed out.").await;
    browser.open(&page(&daemon, "/")).await;
    browser.until_shown("Token").await;
    assert_eq!(complaints(&browser, &daemon).await, Vec::<String>::new());
    assert!(!daemon.log().contains(daemon.token.expose()));
}

async fn a_person_signs_in_at_the_issuer_lands_on_home_and_signs_out() {
    let mut workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = daemon(&mut workspace).await;
    let browser = Browser::start().await;
    sign_in(&browser, &daemon, "ACME_USER").await;
    browser.click("button[value=allow]").await;
    browser.until_shown("Sign out").await;
    assert_eq!(browser.address().await, page(&daemon, "/"), "home, without the code in the address");
    browser.until_shown(&variable("OIDC", "ACME_USER")).await;
    // A link on another site leads to the page, and not to another sign-in.
    browser.open(&format!("{}/.well-known/openid-configuration", variable("OIDC", "URL"))).await;
    browser.run(&format!("location.href = '{}'", page(&daemon, "/ui/about"))).await;
    browser.until_shown("Sign out").await;
    assert_eq!(browser.address().await, page(&daemon, "/ui/about"));
    browser.click("form[action^='/ui/sign-out'] button").await;
    browser.until_shown("You may still be signed in at").await;
    browser.open(&page(&daemon, "/ui/about")).await;
    browser.until_shown("or with a token").await;
    assert_eq!(complaints(&browser, &daemon).await, Vec::<String>::new());
    let (client_secret, log) = (secret("PAGE_SECRET"), daemon.log());
    assert!(!log.contains(&client_secret) && !log.contains("code="), "no secret is in the log");
    daemon.stop().await;
    let calls = stdout(&workspace.run(&["calls", "--purpose", "token"]));
    for part in ["/.well-known/openid-configuration", "/token", "/jwks"] {
        assert!(calls.contains(part), "{part} is not recorded:\n{calls}");
    }
}

async fn signing_in_works_without_scripts() {
    let mut workspace = Workspace::new();
    let daemon = daemon(&mut workspace).await;
    let browser = Browser::without_scripts().await;
    sign_in(&browser, &daemon, "ACME_USER").await;
    browser.click("button[value=allow]").await;
    browser.until_shown("Sign out").await;
    assert_eq!(browser.address().await, page(&daemon, "/"));
}

async fn a_person_without_a_role_reads_which_claim_is_missing() {
    let mut workspace = Workspace::new();
    let daemon = daemon(&mut workspace).await;
    let browser = Browser::start().await;
    sign_in(&browser, &daemon, "GLOBEX_USER").await;
    browser.click("button[value=allow]").await;
    browser.until_shown("You do not have a role in AAM").await;
    let text = browser.text().await;
    assert!(text.contains("claim groups: missing") && text.contains(&variable("OIDC", "GLOBEX_USER")), "{text}");
    assert!(!text.contains("aam-operators"), "{text}");
    browser.open(&page(&daemon, "/")).await;
    browser.until_shown("or with a token").await;
}

async fn the_issuers_refusal_is_shown() {
    let mut workspace = Workspace::new();
    let daemon = daemon(&mut workspace).await;
    let browser = Browser::start().await;
    sign_in(&browser, &daemon, "ACME_USER").await;
    browser.click("button[value=deny]").await;
    browser.until_shown("You are not signed in").await;
    let text = browser.text().await;
    assert!(text.contains("the issuer says: \"access_denied\""), "{text}");
    // A made-up answer is refused before anything is sent to the issuer.
    let answer = http_client().get(daemon.url("/ui/oidc/callback?state=x&code=y")).send().await.expect("a response");
    assert_eq!(answer.status(), 400);
}
