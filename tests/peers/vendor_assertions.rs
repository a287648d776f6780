//! The assertions of the kinds `salesforce`, `box` and `netsuite` against Authlib, which verifies signature, issuer, audience, subject and
//! end. What it refuses, AAM does not call minted.

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::minting::Minting;
use serde_json::{Value, json};

peer_tests! {
    [Authlib]: assertions_of_salesforce_and_box_are_verified, wrong_keys_audiences_subjects_and_times_are_refused,
        assertions_of_netsuite_are_verified;
}

fn authlib(name: &str) -> String {
    variable("AUTHLIB", name)
}

/// The private key in a key file of the peer.
fn key(name: &str) -> String {
    let path = authlib(name);
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("a key file")).expect("JSON");
    file["private_key"].as_str().expect("a key").to_string()
}

fn salesforce(issuer: &str, user: &str, more: &str) -> String {
    format!(
        "{{kind: salesforce, domain: \"{}\", client_id: \"{issuer}\", username: \"{user}\", key: env:K{more}}}",
        authlib("URL")
    )
}

fn box_platform(user: &str) -> String {
    format!("{{kind: box, config: env:C, user_id: \"{user}\", token_url: \"{}/oauth2/token\"}}", authlib("URL"))
}

fn settings(issuer: &str, key: &str) -> String {
    let auth = json!({"publicKeyID": "pk1", "privateKey": key, "passphrase": ""});
    let app = json!({"clientID": issuer, "clientSecret": "secret-of-the-box-app", "appAuth": auth});
    json!({"boxAppSettings": app, "enterpriseID": "1"}).to_string()
}

async fn assertions_of_salesforce_and_box_are_verified() {
    let (account, user) = (authlib("ACCOUNT"), authlib("USER"));
    let mut workspace = Workspace::new();
    workspace.write_policy(&format!(
        "allowlist: [openapi]\ncredentials:\n  principals:\n    sf: {}\n    box: {}\n",
        salesforce(&account, &user, ""),
        box_platform(&user)
    ));
    workspace.set("K", &key("KEY_FILE"));
    workspace.set("C", &settings(&account, &key("KEY_FILE")));
    let id = |name: &str| format!("{}/openapi.json?{name}", authlib("URL"));
    for name in ["sf", "box"] {
        workspace.intent_file(&format!("{name}.json"), &intent_with_locator("openapi", &id(name), &format!("sp:{name}")));
    }
    let daemon = workspace.serve().await;
    daemon.until_state(&id("sf"), "ACTIVE").await;
    daemon.until_state(&id("box"), "ACTIVE").await;
}

async fn wrong_keys_audiences_subjects_and_times_are_refused() {
    let (account, user) = (authlib("ACCOUNT"), authlib("USER"));
    let (right, stranger) = (key("KEY_FILE"), key("STRANGER_KEY_FILE"));
    let test_audience = ", audience: \"https://test.salesforce.com\"";
    for (principal, key) in [
        (salesforce(&account, &user, ""), &stranger),
        (salesforce("stranger@acme.iam.example", &user, ""), &right),
        (salesforce(&account, "nobody@acme.example", ""), &right),
        (salesforce(&account, &user, test_audience), &right),
    ] {
        let refused = Minting::new(&principal, &[("K", key)]).refused().await;
        assert!(refused.detail.contains("Salesforce answered HTTP 4"), "{principal}: {refused:?}");
    }
    for (user, issuer, key) in
        [(&user, &account, &stranger), (&"nobody".to_string(), &account, &right), (&user, &"other".to_string(), &right)]
    {
        let refused = Minting::new(&box_platform(user), &[("C", &settings(issuer, key))]).refused().await;
        assert!(refused.detail.contains("Box answered HTTP 4"), "{user} {issuer}: {refused:?}");
    }
    // More than an hour behind, so that the assertion has ended when it is made.
    let late = Minting::at(-3_630_000, &salesforce(&account, &user, ""), &[("K", &right)]).refused().await;
    assert!(late.title.contains("the clock of this machine is 60 minutes behind that of Salesforce"), "{late:?}");
}

/// A principal of the kind `netsuite` that signs with the key `K`.
fn netsuite(client_id: &str, certificate_id: &str, path: &str) -> String {
    format!(
        "{{kind: netsuite, account: \"1234567\", client_id: \"{client_id}\", key: env:K, certificate_id: {certificate_id}, token_url: \"{}{path}\", scopes: [rest_webservices]}}",
        authlib("URL")
    )
}

async fn assertions_of_netsuite_are_verified() {
    const PATH: &str = "/services/rest/auth/oauth2/v1/token";
    let (client, right, stranger) = (authlib("ACCOUNT"), key("KEY_FILE"), key("STRANGER_KEY_FILE"));
    let minting = Minting::new(&netsuite(&client, "certificate-1", PATH), &[("K", &right)]);
    let first = minting.field("token").await;
    assert_eq!(first, minting.field("token").await, "a token is used until its end, which is a text");
    for (principal, key) in [
        (netsuite(&client, "certificate-1", PATH), &stranger),
        (netsuite("stranger", "certificate-1", PATH), &right),
        (netsuite(&client, "certificate-2", PATH), &right),
    ] {
        let refused = Minting::new(&principal, &[("K", key)]).refused().await;
        assert!(refused.title.contains("NetSuite does not accept the certificate"), "{principal}: {refused:?}");
        assert!(refused.fix.contains("M2M) Setup") && refused.fix.contains("1234567"), "{refused:?}");
    }
    let late = Minting::at(-7_200_000, &netsuite(&client, "certificate-1", PATH), &[("K", &right)]).refused().await;
    assert!(late.title.contains("behind that of NetSuite"), "{late:?}");
}
