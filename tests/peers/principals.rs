//! Service principals against servers that AAM did not write: Authlib verifies JWT bearer assertions, and oidc-provider
//! verifies clients by secret and by private_key_jwt. The whole binary runs, from the intent to ACTIVE.

use crate::harness::{get_json, variable};
use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::token_endpoint::{assert_active, attempt, failure};

peer_tests! {
    [Authlib]: a_service_account_and_its_delegated_user_are_verified, what_authlib_refuses_is_fixed_as_the_message_says;
    [Oidc]: a_client_proves_itself_in_each_way_of_the_server, what_the_server_refuses_is_fixed_as_the_message_says,
        connections_share_one_token_of_the_server;
}

fn authlib(name: &str) -> String {
    variable("AUTHLIB", name)
}

fn oidc(name: &str) -> String {
    variable("OIDC", name)
}

/// Reads a file whose path the peer names.
fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A workspace with the key files of Authlib as variables.
fn google_workspace() -> Workspace {
    let mut workspace = Workspace::new();
    for name in ["KEY", "STRANGER_KEY", "UNKNOWN_KEY"] {
        workspace.set(&format!("GOOGLE_{name}"), &file(&authlib(&format!("{name}_FILE"))));
    }
    workspace
}

fn google(workspace: &Workspace, token_url: &str, key: &str, more: &str) {
    workspace.write_policy(&format!(
        "credentials:\n  principals:\n    reader: {{kind: google, token_url: \"{token_url}\", key: \"env:{key}\", scopes: \
         [\"things:read\"]{more}}}\n"
    ));
}

fn description() -> String {
    format!("{}/openapi.json", authlib("URL"))
}

async fn a_service_account_and_its_delegated_user_are_verified() {
    let workspace = google_workspace();
    google(&workspace, &authlib("TOKEN_URL"), "GOOGLE_KEY", "");
    let daemon = workspace.serve().await;
    let pushed = daemon.push(&intent_with_locator("openapi", &description(), "sp:reader")).await;
    assert_eq!(pushed.body["status"], "ACTIVE", "{}", pushed.body);
    google(&workspace, &authlib("TOKEN_URL"), "GOOGLE_KEY", &format!(", subject: {}", authlib("USER")));
    assert_active(&attempt(&workspace, "openapi", &description(), "sp:reader"));
}

async fn what_authlib_refuses_is_fixed_as_the_message_says() {
    let mut workspace = google_workspace();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    let (url, other) = (authlib("TOKEN_URL"), authlib("OTHER_TOKEN_URL"));
    let nobody = ", subject: nobody@acme.example";
    for (token_url, key, more, clock, class, title, fix) in [
        (&url, "GOOGLE_STRANGER_KEY", "", 0, "credential_rejected", "does not accept the assertion", "create a new key there"),
        (&url, "GOOGLE_UNKNOWN_KEY", "", 0, "credential_rejected", "does not find the service account", "IAM > Service accounts"),
        (&other, "GOOGLE_KEY", "", 0, "misconfigured", "is made for another token endpoint", "correct it"),
        (&url, "GOOGLE_KEY", nobody, 0, "credential_rejected", "does not find the delegated user nobody@", "an active user"),
        (&url, "GOOGLE_KEY", "", -7_260_000, "credential_rejected", "is 2 hours behind that of Google", "timedatectl"),
    ] {
        google(&workspace, token_url, key, more);
        std::fs::write(workspace.path("clock"), clock.to_string()).expect("write");
        let refused = failure(&attempt(&workspace, "openapi", &description(), "sp:reader"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "{key}{more}: {refused:#?}");
        // What the fix says: the server's own key, account, endpoint, user and time.
        google(&workspace, &url, "GOOGLE_KEY", "");
        std::fs::write(workspace.path("clock"), "0").expect("write");
        assert_active(&attempt(&workspace, "openapi", &description(), "sp:reader"));
    }
}

/// The API of the server as a custom source.
const MANIFEST: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [items]}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [host, access_token]
    properties: {host: {type: string}, page: {type: string}, access_token: {type: string, airbyte_secret: true}}
streams:
  - type: DeclarativeStream
    name: items
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: "http://{{ config['host'] }}/api"
        path: /items
        authenticator: {type: BearerAuthenticator, api_token: "{{ config['access_token'] }}"}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}}}}
"##;

/// A workspace with the keys and secrets of the server as variables, and its API as the custom source `items`.
fn client_workspace() -> Workspace {
    let mut workspace = Workspace::new();
    for name in ["RSA_KEY", "RSA_PKCS1_KEY", "RSA_ENCRYPTED_KEY", "RSA_PASSPHRASE", "EC_KEY", "EC_SEC1_KEY", "ED_KEY"] {
        workspace.set(&format!("OIDC_{name}"), &file(&oidc(&format!("{name}_FILE"))));
    }
    for name in ["BASIC_SECRET", "POST_SECRET", "STRANGER_KEY"] {
        workspace.set(&format!("OIDC_{name}"), &file(&oidc(&format!("{name}_FILE"))));
    }
    std::fs::create_dir(workspace.path("manifests")).expect("a folder");
    std::fs::write(workspace.path("manifests/items.yaml"), MANIFEST).expect("write");
    workspace
}

fn client(workspace: &Workspace, client: &str, settings: &str) {
    workspace.write_policy(&format!(
        "allowlist: [items]\nmanifests: {{dir: {}}}\ncredentials:\n  principals:\n    items: {{kind: oauth2_client, token_url: \
         \"{}\", client_id: \"{}\", {settings}}}\n",
        workspace.path("manifests").display(),
        oidc("TOKEN_URL"),
        oidc(client),
    ));
}

const SCOPES: &str = "scopes: [\"accounts:read\"]";

fn host() -> String {
    oidc("URL").trim_start_matches("http://").to_string()
}

async fn a_client_proves_itself_in_each_way_of_the_server() {
    let workspace = client_workspace();
    for (id, settings) in [
        ("BASIC_ID", "secret: \"env:OIDC_BASIC_SECRET\""),
        ("POST_ID", "secret: \"env:OIDC_POST_SECRET\", auth: client_secret_post"),
        ("RSA_ID", "key: \"env:OIDC_RSA_KEY\", key_id: rsa-1"),
        ("RSA_ID", "key: \"env:OIDC_RSA_PKCS1_KEY\", algorithm: PS256"),
        ("RSA_ID", "key: \"env:OIDC_RSA_ENCRYPTED_KEY\", passphrase: \"env:OIDC_RSA_PASSPHRASE\", algorithm: RS512"),
        ("EC_ID", "key: \"env:OIDC_EC_KEY\", key_id: ec-1"),
        ("EC_ID", "key: \"env:OIDC_EC_SEC1_KEY\""),
    ] {
        client(&workspace, id, &format!("{settings}, {SCOPES}"));
        assert_active(&attempt(&workspace, "items", &host(), "sp:items"));
    }
}

async fn what_the_server_refuses_is_fixed_as_the_message_says() {
    let mut workspace = client_workspace();
    workspace.set("OIDC_OLD_SECRET", "the-secret-of-last-year");
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    let (basic, rsa) = ("secret: \"env:OIDC_BASIC_SECRET\"", "key: \"env:OIDC_RSA_KEY\"");
    for (id, wrong, clock, class, title, fix, right) in [
        (
            "BASIC_ID",
            "secret: \"env:OIDC_OLD_SECRET\"",
            0,
            "credential_rejected",
            "with the secret of the policy",
            "store a secret that is valid",
            basic,
        ),
        (
            "RSA_ID",
            "key: \"env:OIDC_STRANGER_KEY\"",
            0,
            "credential_rejected",
            "with the key of the policy",
            "register the public key",
            rsa,
        ),
        (
            "RSA_ID",
            "key: \"env:OIDC_RSA_KEY\", audience: \"https://other.example\"",
            0,
            "credential_rejected",
            "with the key of the policy",
            "expects the audience https://other.example",
            rsa,
        ),
        ("RSA_ID", rsa, -3_690_000, "credential_rejected", "is 61 minutes behind that of 127.0.0.1", "timedatectl", rsa),
    ] {
        client(&workspace, id, &format!("{wrong}, {SCOPES}"));
        std::fs::write(workspace.path("clock"), clock.to_string()).expect("write");
        let refused = failure(&attempt(&workspace, "items", &host(), "sp:items"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "{wrong}: {refused:#?}");
        client(&workspace, id, &format!("{right}, {SCOPES}"));
        std::fs::write(workspace.path("clock"), "0").expect("write");
        assert_active(&attempt(&workspace, "items", &host(), "sp:items"));
    }
    // The server leaves out a scope that the client does not have, so the source refuses the token.
    client(&workspace, "BASIC_ID", &format!("{basic}, scopes: [\"accounts:write\"]"));
    let refused = failure(&attempt(&workspace, "items", &host(), "sp:items"));
    assert!(refused.0 == "permission_denied" && refused.3.contains("insufficient_scope"), "{refused:#?}");
}

async fn connections_share_one_token_of_the_server() {
    let workspace = client_workspace();
    // No other test uses this client, so its tokens can be counted.
    client(&workspace, "ED_ID", &format!("key: \"env:OIDC_ED_KEY\", key_id: ed-1, {SCOPES}"));
    let counters = format!("{}/test/counters?client_id={}", oidc("URL"), oidc("ED_ID"));
    let issued = || async { get_json(&counters).await["access_tokens"].as_u64().unwrap_or(0) };
    let before = issued().await;
    let daemon = workspace.serve().await;
    let ids: Vec<String> = (0..4).map(|page| format!("host={}&page={page}", host())).collect();
    let intents: Vec<_> = ids.iter().map(|id| intent_with_locator("items", id, "sp:items")).collect();
    workspace.intent_file("all.json", &serde_json::json!(intents));
    for id in &ids {
        daemon.until_state(id, "ACTIVE").await;
    }
    assert_eq!(issued().await - before, 1);
}
