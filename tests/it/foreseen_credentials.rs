//! What `aam check` and `aam plan` say about credentials without network access, and that attempts say the same.

use crate::support::daemon::{Workspace, intent_with_locator, stdout};

const PRINCIPALS: &str = "    fixed: {kind: basic, username: reader, password: \"env:FIXED\", expires: \"2020-01-01\"}\n    minted: {kind: oauth2_client, token_url: \"https://login.acme.example/token\", client_id: a, secret: \"vault:minted#secret\", scopes: [read]}\n";
const VAULT: &str = "  vault: {address: \"https://vault.acme.example:8200\", path: secret/aam, login: {method: approle, role_id: \"env:ROLE\", secret_id: \"env:SECRET\"}}\n";
const CONSENTS: &str = "  consents:\n    gh: {family: github, client_id: x, client_secret: \"env:Q\", redirect: \"https://a.example/consent/callback\"}\n";

#[test]
fn check_plan_and_attempts_agree_about_what_the_policy_alone_says() {
    let workspace = Workspace::new();
    workspace.write_policy(&format!("allowlist: [github, openapi]\ncredentials:\n  principals:\n{PRINCIPALS}{VAULT}{CONSENTS}"));
    let cases = [
        ("sp:nope", "the policy does not describe a service principal nope"),
        ("consent:nope", "the policy does not describe a consent nope"),
        ("sp:fixed", "GitHub cannot use sp:fixed, because it is a service principal of the kind basic"),
        ("consent:gh", "the policy does not name the key that encrypts consents"),
    ];
    for (at, (locator, _)) in cases.iter().enumerate() {
        workspace.intent_file(&format!("{at}.json"), &intent_with_locator("github", &format!("acme{at}"), locator));
    }
    let check = stdout(&workspace.run(&["check"]));
    let plan = stdout(&workspace.run(&["plan"]));
    workspace.run(&["once"]);
    let status = stdout(&workspace.run(&["status"]));
    for (locator, title) in cases {
        assert!(check.contains(&format!("would be AWAITING_CREDENTIALS: {title}")), "{locator}: {check}");
        assert!(plan.contains(title), "{locator}: {plan}");
        assert!(status.contains(title), "{locator}: {status}");
    }
    assert!(!plan.contains("GET "), "no call is planned for a connection that stops: {plan}");
    let ended = "/credentials/principals/fixed/expires: the key or secret of the service principal fixed ended on 2020-01-01";
    assert!(check.contains(ended), "{check}");
}

#[test]
fn plan_shows_the_calls_for_the_secret_of_a_principal_and_of_an_oauth_client() {
    let workspace = Workspace::new();
    let consents = CONSENTS.replace("env:Q", "vault:gh#secret");
    workspace.write_policy(&format!(
        "allowlist: [github, openapi]\ncredentials:\n  principals:\n{PRINCIPALS}{VAULT}{consents}  consent_store: {{key: \"vault:store#key\"}}\n"
    ));
    let planned = |family: &str, resource: &str, locator: &str| {
        workspace.intent_file("one.json", &intent_with_locator(family, resource, locator));
        stdout(&workspace.run(&["plan"]))
    };
    let of_vault = |path: &str| format!("vault.acme.example:8200 /v1/{path}");
    let minted = planned("openapi", "https://api.acme.example/openapi.json", "sp:minted");
    for call in ["auth/approle/login", "secret/data/aam/minted", "auth/token/revoke-self", "sys/leases/renew", "sys/seal-status"]
    {
        assert!(minted.contains(&of_vault(call)), "{call}: {minted}");
    }
    assert!(minted.contains("POST login.acme.example /token"), "{minted}");
    let given = planned("github", "acme", "consent:gh");
    for call in ["auth/approle/login", "secret/data/aam/gh", "secret/data/aam/store"] {
        assert!(given.contains(&of_vault(call)), "{call}: {given}");
    }
}
