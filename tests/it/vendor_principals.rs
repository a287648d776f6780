//! The service principals of vendors against their token endpoints: what is minted, and what each refusal says.

use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::github::{APP_ID, INSTALLATION_ID, app_key as app_file, github};
use crate::support::lowcode_families::{MockVendor, json_response_with};
use crate::support::minting::Minting;
use crate::support::vendors::{encrypted_vendor_key as encrypted_vendor_file, vendor_key as vendor_file, *};
use aam::model::{Class, Failure};
use aam::providers::Reading;
use serde_json::json;

/// The keys on one line, as many environments have them. The redactor learns each line of a file, which takes a debug build
/// some seconds.
fn vendor_key() -> String {
    vendor_file().replace('\n', "\\n")
}

fn encrypted_vendor_key() -> String {
    encrypted_vendor_file().replace('\n', "\\n")
}

fn app_key() -> String {
    app_file().replace('\n', "\\n")
}

fn assert_refusal(failure: &Failure, class: Class, title: &str, fix: &str, said: &str) {
    assert_eq!(failure.class, class, "{failure:?}");
    assert!(failure.title.contains(title), "{title}: {failure:?}");
    assert!(failure.fix.contains(fix), "{fix}: {failure:?}");
    assert!(failure.detail.contains(said), "{said}: {failure:?}");
    assert!(!failure.title.contains('{') && !failure.fix.contains('{'), "a text is not filled: {failure:?}");
}

#[tokio::test]
async fn zoom_mints_one_token_for_all_and_tells_its_refusals_apart() {
    let vendor = zoom().await;
    let principal = |account: &str| {
        format!(
            "{{kind: zoom, account_id: \"{account}\", client_id: {CLIENT_ID}, secret: env:S, token_url: \"{}/oauth/token\"}}",
            vendor.base
        )
    };
    let minting = Minting::new(&principal(ZOOM_ACCOUNT), &[("S", CLIENT_SECRET)]);
    let provided = minting.mint().await.expect("a token");
    assert_eq!(provided.credential.field("token").expect("a token").expose(), ZOOM_TOKEN);
    assert_eq!(provided.facts.evidence["scopes"], "user:read:list_users:admin");
    let life = provided.facts.valid_until.expect("an end").since(aam::clock::from_env().now()).as_secs();
    assert!((3500..=3599).contains(&life), "{life}");
    assert!(minting.mint().await.expect("a token").facts.evidence["cached"] == true);
    assert_eq!(vendor.calls(), ["POST /oauth/token"], "a new token would end the one before");
    let wrong = Minting::new(&principal(ZOOM_ACCOUNT), &[("S", "another-secret")]).refused().await;
    assert_refusal(
        &wrong,
        Class::CredentialRejected,
        "client id and client secret of service principal it",
        CLIENT_ID,
        "\"invalid_client: Invalid client_id or client_secret\"",
    );
    let account = Minting::new(&principal("other"), &[("S", CLIENT_SECRET)]).refused().await;
    assert_refusal(&account, Class::Misconfigured, "account id of service principal it", "App Credentials", "Bad Request");
    let disabled = Minting::new(&principal("disabled"), &[("S", CLIENT_SECRET)]).refused().await;
    assert_refusal(&disabled, Class::PermissionDenied, "is deactivated", "Activation", "The app has been disabled");
    let unsupported = MockVendor::start(|_, _| {
        json_response_with(400, &[], &json!({"reason": "unsupported grant type", "error": "unsupported_grant_type"}))
    });
    let url = unsupported.await.base;
    let other = Minting::new(&principal(ZOOM_ACCOUNT).replace(&vendor.base, &url), &[("S", CLIENT_SECRET)]).refused().await;
    assert_refusal(
        &other,
        Class::Misconfigured,
        "is not a Server-to-Server OAuth app",
        "Build Server-to-Server App",
        "unsupported grant type",
    );
    // The texts of the codes 4702, 4704, 4705 and 4706, for which the response names no OAuth error.
    for (message, class, title) in [
        ("Invalid client.", Class::CredentialRejected, "client id and client secret of service principal it"),
        ("Invalid client secret.", Class::CredentialRejected, "client id and client secret of service principal it"),
        (
            "Client ID or client secret is missing.",
            Class::CredentialRejected,
            "client id and client secret of service principal it",
        ),
        ("Grant type is not supported from token endpoint.", Class::Misconfigured, "is not a Server-to-Server OAuth app"),
    ] {
        let answers =
            MockVendor::start(move |_, _| json_response_with(400, &[], &json!({"code": 4702, "message": message}))).await;
        let coded = Minting::new(&principal(ZOOM_ACCOUNT).replace(&vendor.base, &answers.base), &[("S", CLIENT_SECRET)]);
        // The redactor hides what may be the secret itself, so only the beginning is compared.
        let begin = message.split(' ').take(2).collect::<Vec<_>>().join(" ").replace('.', "");
        assert_refusal(&coded.refused().await, class, title, "marketplace.zoom.us", &begin);
    }
}

#[tokio::test]
async fn salesforce_jwt_bearer_is_verified_and_each_refusal_has_its_fix() {
    let vendor = salesforce("").await;
    let principal = |client: &str, user: &str, more: &str| {
        format!("{{kind: salesforce, domain: \"{}\", client_id: {client}, username: {user}, key: env:K{more}}}", vendor.base)
    };
    let key = vendor_key();
    let mint = |client: &str, user: &str, more: &str, key: &str| {
        Minting::new(&principal(client, user, more), &[("K", key), ("P", PASSPHRASE)])
    };
    let minting = mint(CLIENT_ID, SALESFORCE_USER, "", &key);
    let provided = minting.mint().await.expect("a token");
    assert_eq!(provided.credential.field("token").expect("a token").expose(), SALESFORCE_TOKEN);
    assert_eq!(provided.credential.field("instance_url").expect("an instance").expose(), vendor.base);
    // The response has no lifetime, so the shortest timeout of a session is assumed.
    let life = provided.facts.valid_until.expect("an end").since(aam::clock::from_env().now()).as_secs();
    assert!((800..=900).contains(&life), "{life}");
    let encrypted = mint(CLIENT_ID, SALESFORCE_USER, ", passphrase: env:P", &encrypted_vendor_key());
    assert_eq!(encrypted.field("token").await, SALESFORCE_TOKEN);
    for (client, user, more, key, class, title, fix) in [
        (
            CLIENT_ID,
            SALESFORCE_USER,
            "",
            app_key(),
            Class::CredentialRejected,
            "the key does not belong to the app's certificate",
            "ten minutes",
        ),
        (
            CLIENT_ID,
            SALESFORCE_USER,
            ", audience: \"https://test.salesforce.com\"",
            key.clone(),
            Class::Misconfigured,
            "does not accept the audience",
            "https://login.salesforce.com for production",
        ),
        (
            CLIENT_ID,
            "other@acme.example",
            "",
            key.clone(),
            Class::PermissionDenied,
            "the user other@acme.example may not use",
            "Admin approved users are pre-authorized",
        ),
        (CLIENT_ID, "inactive@acme.example", "", key.clone(), Class::PermissionDenied, "does not let the user", "Login History"),
        (
            "other-client",
            SALESFORCE_USER,
            "",
            key.clone(),
            Class::CredentialRejected,
            "does not know the client id",
            "takes up to ten minutes to work: wait for that first",
        ),
    ] {
        let failure = mint(client, user, more, &key).refused().await;
        assert_refusal(&failure, class, title, fix, "Salesforce answered HTTP 400: \"invalid_");
    }
}

#[tokio::test]
async fn salesforce_client_credentials_need_the_own_host_and_a_run_as_user() {
    let vendor = salesforce("").await;
    let principal =
        |domain: &str, client: &str| format!("{{kind: salesforce, domain: \"{domain}\", client_id: {client}, secret: env:S}}");
    let mint = |client: &str, secret: &str| Minting::new(&principal(&vendor.base, client), &[("S", secret)]);
    assert_eq!(mint(CLIENT_ID, CLIENT_SECRET).field("token").await, SALESFORCE_TOKEN);
    let wrong = mint(CLIENT_ID, "another-secret").refused().await;
    assert_refusal(
        &wrong,
        Class::CredentialRejected,
        "client secret",
        "a new or changed app takes up to ten minutes to work: wait for that first",
        "invalid client credentials",
    );
    assert!(
        wrong.fix.find("ten minutes") < wrong.fix.find("store the Consumer Secret again"),
        "waiting comes before a new secret"
    );
    let user = mint("no-run-as", CLIENT_SECRET).refused().await;
    assert_refusal(
        &user,
        Class::PermissionDenied,
        "has no user for client credentials",
        "Run As",
        "no client credentials user enabled",
    );
    let domain = mint("foreign-host", CLIENT_SECRET).refused().await;
    assert_refusal(&domain, Class::Misconfigured, "do not work on the host", "My Domain", "request not supported on this domain");
    let calls = vendor.calls().len();
    let shared = Minting::new(&principal("https://login.salesforce.com", CLIENT_ID), &[("S", CLIENT_SECRET)]).refused().await;
    assert_refusal(
        &shared,
        Class::Misconfigured,
        "login.salesforce.com, which all organizations share",
        "MYDOMAIN.my.salesforce.com",
        "",
    );
    assert_eq!(vendor.calls().len(), calls);
    let foreign = salesforce("https://evil.my.salesforce.com").await;
    let failure = Minting::new(&principal(&foreign.base, CLIENT_ID), &[("S", CLIENT_SECRET)]).refused().await;
    assert_refusal(
        &failure,
        Class::WrongService,
        "https://evil.my.salesforce.com, which is not a host of the same",
        "My Domain",
        "",
    );
}

#[tokio::test]
async fn box_verifies_jwt_and_client_credentials() {
    let vendor = box_platform().await;
    let by_jwt = |more: &str, settings: &str| {
        Minting::new(
            &format!("{{kind: box, config: env:C, token_url: \"{}/oauth2/token\"{more}}}", vendor.base),
            &[("C", settings)],
        )
    };
    let settings = box_settings(&encrypted_vendor_key(), PASSPHRASE);
    let minting = by_jwt("", &settings);
    assert_eq!(
        (minting.field("token").await.as_str(), minting.field("enterprise_id").await.as_str()),
        (BOX_TOKEN, BOX_ENTERPRISE)
    );
    assert_eq!(by_jwt(", user_id: \"42\"", &settings).field("user_id").await, "42");
    let subject = by_jwt(", user_id: \"43\"", &settings).refused().await;
    assert_refusal(
        &subject,
        Class::Misconfigured,
        "the subject",
        "Enterprise ID of Admin Console",
        "Please check the 'sub' claim",
    );
    let key = by_jwt("", &box_settings(&app_key(), "")).refused().await;
    assert_refusal(
        &key,
        Class::CredentialRejected,
        "the signature",
        "Generate a Public/Private Keypair",
        "signature of the assertion",
    );
    let passphrase = by_jwt("", &box_settings(&encrypted_vendor_key(), "wrong")).refused().await;
    assert_refusal(&passphrase, Class::CredentialMissing, "the passphrase is wrong", "passphrase", "");
    let part = by_jwt("", "{\"boxAppSettings\": {\"clientID\": \"x\"}}").refused().await;
    assert_refusal(
        &part,
        Class::CredentialMissing,
        "boxAppSettings.clientSecret is missing",
        "Generate a Public/Private Keypair",
        "",
    );

    let by_secret = |subject: &str, secret: &str| {
        let principal = format!(
            "{{kind: box, secret: env:S, client_id: {CLIENT_ID}, {subject}, token_url: \"{}/oauth2/token\"}}",
            vendor.base
        );
        Minting::new(&principal, &[("S", secret)])
    };
    assert_eq!(by_secret(&format!("enterprise_id: \"{BOX_ENTERPRISE}\""), CLIENT_SECRET).field("token").await, BOX_TOKEN);
    let unapproved = by_secret("enterprise_id: unapproved", CLIENT_SECRET).refused().await;
    assert_refusal(
        &unapproved,
        Class::PermissionDenied,
        "is not authorized by the administrator",
        "Platform Apps Manager",
        "unauthorized_client",
    );
    let user = by_secret("user_id: \"7\"", CLIENT_SECRET).refused().await;
    assert_refusal(
        &user,
        Class::PermissionDenied,
        "may not get this token",
        "App + Enterprise Access",
        "enterprise configuration",
    );
    let secret = by_secret(&format!("enterprise_id: \"{BOX_ENTERPRISE}\""), "another-secret").refused().await;
    assert_refusal(&secret, Class::CredentialRejected, "client id and client secret", "OAuth 2.0 Credentials", "invalid_client");
}

/// Neither way to log in lets a request narrow the scopes, so the token is exchanged.
#[tokio::test]
async fn a_token_of_box_is_exchanged_for_one_with_the_familys_least_scopes() {
    let vendor = box_platform().await;
    let principal = format!(
        "{{kind: box, secret: env:S, client_id: {CLIENT_ID}, enterprise_id: \"{BOX_ENTERPRISE}\", token_url: \"{}/oauth2/token\"}}",
        vendor.base
    );
    let mut minting = Minting::new(&principal, &[("S", CLIENT_SECRET)]);
    minting.request.family = std::sync::Arc::clone(aam::families::find("box").expect("a family"));
    let provided = minting.mint().await.expect("a token");
    assert_eq!(provided.credential.field("token").expect("a token").expose(), BOX_NARROW_TOKEN);
    assert_eq!(provided.facts.evidence["scopes"], "root_readonly");
    assert_eq!(vendor.calls().len(), 2);
}

/// The family's scopes of a consent include one for refresh tokens, which a service app does not get.
#[tokio::test]
async fn a_service_app_of_okta_asks_for_the_familys_least_scopes() {
    let vendor = okta(OktaDpop::Off).await;
    let principal = format!("{{kind: okta, org: \"{}\", client_id: {CLIENT_ID}, key: env:K}}", vendor.base);
    let mut minting = Minting::new(&principal, &[("K", &vendor_key())]);
    minting.request.family = std::sync::Arc::clone(aam::families::find("okta").expect("a family"));
    let provided = minting.mint().await.expect("a token");
    assert_eq!(provided.facts.evidence["scopes"], "okta.users.read okta.groups.read okta.apps.read");
}

#[tokio::test]
async fn a_clock_that_differs_is_named_as_the_reason() {
    let vendor = MockVendor::start(|_, _| {
        json_response_with(
            400,
            &[("date", "Sun, 08 Nov 2020 18:00:00 GMT")],
            &json!({"error": "invalid_grant", "error_description": "Please check the 'exp' claim"}),
        )
    })
    .await;
    let principal = format!("{{kind: box, config: env:C, token_url: \"{}/oauth2/token\"}}", vendor.base);
    let failure = Minting::new(&principal, &[("C", &box_settings(&vendor_key(), ""))]).refused().await;
    assert_refusal(&failure, Class::CredentialRejected, "ahead of that of Box", "timedatectl set-ntp true", "'exp'");
}

#[tokio::test]
async fn okta_gets_a_token_by_assertion_and_names_its_refusals() {
    let vendor = okta(OktaDpop::Off).await;
    let principal =
        |client: &str, more: &str| format!("{{kind: okta, org: \"{}\", client_id: {client}, key: env:K{more}}}", vendor.base);
    let scopes = ", scopes: [okta.users.read, okta.groups.read]";
    let mint = |client: &str, more: &str, key: &str| Minting::new(&principal(client, more), &[("K", key)]);
    let provided = mint(CLIENT_ID, scopes, &vendor_key()).mint().await.expect("a token");
    assert_eq!(provided.facts.evidence["scopes"], "okta.users.read okta.groups.read");
    assert!(
        provided.credential.signer().is_none() && provided.credential.field("token_type").expect("a type").expose() == "Bearer"
    );
    for (client, more, key, class, title, fix) in [
        (CLIENT_ID, scopes, app_key(), Class::CredentialRejected, "does not belong to a public key of the app", "Public Keys"),
        ("other-client", scopes, vendor_key(), Class::Misconfigured, "does not know the client id", "other-client now"),
        (
            CLIENT_ID,
            ", key_id: kid-2, scopes: [okta.users.read]",
            vendor_key(),
            Class::CredentialRejected,
            "does not know the key id",
            "KID",
        ),
        (
            CLIENT_ID,
            ", scopes: [okta.users.manage]",
            vendor_key(),
            Class::PermissionDenied,
            "does not have all scopes",
            "Read-Only Administrator",
        ),
    ] {
        let failure = mint(client, more, &key).refused().await;
        assert_refusal(&failure, class, title, fix, "Okta answered HTTP 4");
    }
    let none = mint(CLIENT_ID, "", &vendor_key()).refused().await;
    assert_refusal(&none, Class::Misconfigured, "does not have scopes", "credentials.principals.it", "");
}

#[tokio::test]
async fn okta_is_asked_with_dpop_once_it_asks_for_it_and_with_its_nonce() {
    for (flag, expected) in [("", 3), (", dpop: true", 2)] {
        let vendor = okta(OktaDpop::Required).await;
        let principal = format!(
            "{{kind: okta, org: \"{}\", client_id: {CLIENT_ID}, key: env:K, scopes: [okta.users.read]{flag}}}",
            vendor.base
        );
        let provided = Minting::new(&principal, &[("K", &vendor_key())]).mint().await.expect("a token");
        assert_eq!(vendor.calls().len(), expected, "{flag}");
        let signer = provided.credential.signer().expect("a bound token");
        assert_eq!((signer.scheme(), signer.origin()), ("DPoP", vendor.base.clone()));
        assert_eq!(provided.facts.evidence["signs_requests_to"], vendor.base);
    }
}

#[tokio::test]
async fn snowflake_signs_for_the_account_without_region_and_hands_over_the_host() {
    let principal = "{kind: snowflake, account: xy12345.us-east-1.privatelink, user: aam_reader, key: env:K, passphrase: env:P}";
    let minting = Minting::new(principal, &[("K", &encrypted_vendor_key()), ("P", PASSPHRASE)]);
    let provided = minting.mint().await.expect("a token");
    let field = |name: &str| provided.credential.field(name).expect("a field").expose().to_string();
    let (header, claims) = rs256(&field("token")).expect("a valid signature");
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
    // The fingerprint is what OpenSSL computes of the public key (SHA-256 of its DER).
    assert_eq!(claims["iss"], "XY12345.AAM_READER.SHA256:P6IhCeLMUUCoxpMe1oFK0w1D7kJQrlK0d0a3xc6Yihw=");
    assert_eq!(claims["sub"], "XY12345.AAM_READER");
    let life = claims["exp"].as_i64().expect("an end") - claims["iat"].as_i64().expect("a start");
    assert!((1..=3600).contains(&life), "{life}");
    assert_eq!(
        (field("token_type").as_str(), field("host").as_str()),
        ("KEYPAIR_JWT", "xy12345.us-east-1.privatelink.snowflakecomputing.com")
    );
    assert_eq!((field("account").as_str(), field("user").as_str()), ("XY12345", "AAM_READER"));
    minting.set("P", "wrong");
    let mut again = minting;
    again.request.reading = Reading::Anew;
    assert_refusal(&again.refused().await, Class::CredentialMissing, "the passphrase is wrong", "passphrase", "");
    let account =
        Minting::new("{kind: snowflake, account: \"https://x\", user: u, key: env:K}", &[("K", &vendor_key())]).refused().await;
    assert_refusal(&account, Class::Misconfigured, "is not a Snowflake account identifier", "myorg-myaccount", "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_app_of_the_policy_connects_the_family_and_a_wrong_key_gets_its_text() {
    let vendor = MockVendor::start(github).await;
    let mut workspace = Workspace::new();
    workspace.write_policy(&format!(
        "allowlist: [github]\nfamilies: {{github: {{base_url: \"{}\"}}}}\ncredentials:\n  principals:\n    \
         gh: {{kind: github_app, app_id: \"{APP_ID}\", installation_id: \"{INSTALLATION_ID}\", key: env:GH_KEY}}\n    \
         wrong: {{kind: github_app, app_id: \"{APP_ID}\", installation_id: \"{INSTALLATION_ID}\", key: env:WRONG_KEY}}\n",
        vendor.base
    ));
    workspace.set("GH_KEY", &app_key());
    workspace.set("WRONG_KEY", &vendor_key());
    workspace.intent_file("good.json", &intent_with_locator("github", "acme", "sp:gh"));
    workspace.intent_file("wrong.json", &intent_with_locator("github", "acme/widgets", "sp:wrong"));
    let daemon = workspace.serve().await;
    daemon.until_state("acme", "ACTIVE").await;
    let refused = daemon.until_state("acme/widgets", "AWAITING_CREDENTIALS").await;
    assert_eq!(refused["error"]["title"], "GitHub does not accept the signature of the GitHub App", "{refused}");
}

/// The entries that the documentation offers for pasting are valid, and each of these kinds has one.
#[test]
fn the_policy_entries_of_the_documentation_are_valid() {
    let path = format!("{}/docs/credentials.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the documentation");
    let section = text.split("## Service principals\n").nth(1).expect("a section");
    let blocks = section.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<String> = blocks.flat_map(str::lines).map(|line| format!("    {line}\n")).collect();
    let places = "  files: [/etc/aam]\n  vault: {address: \"https://vault.acme.example\", login: {method: token, token: \"env:VAULT_LOGIN\"}}\n";
    let policy = format!("version: 1\nallowlist: [openapi]\ncredentials:\n{places}  principals:\n{}", lines.concat());
    let parsed = aam::policy::parse::parse(&policy, "policy.yaml").unwrap_or_else(|problems| panic!("{policy}: {problems:#?}"));
    let own = ["oauth2_client", "entra", "google", "basic", "token"];
    for kind in ["zoom", "salesforce", "box", "okta", "snowflake", "github_app", "netsuite"].into_iter().chain(own) {
        assert!(parsed.credentials.principals.values().any(|principal| principal.kind == kind), "{kind}");
    }
}
