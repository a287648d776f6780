//! Service principals of the kinds oauth2_client, basic and token, against the built binary. The token endpoints are as
//! strict as RFC 6749, RFC 7523 and OpenID Connect Core 9.

use crate::support::daemon::Workspace;
use crate::support::lowcode_families::json_response_with;
use crate::support::openapi::MockResponse;
use crate::support::token_endpoint::{
    PASSPHRASE, TokenCall, TokenService, assert_active, attempt, credential_evidence, failure, fresh_token, now, oauth_error,
    pem, token_answer, verified,
};
use serde_json::json;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

pub const CLIENT: &str = "aam reader"; // A space must be encoded twice in HTTP Basic.
pub const SECRET: &str = "s3cret+of/the:tests%20of crm";

/// A workspace whose policy has the principal `crm` with `settings`.
pub fn workspace(settings: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("CRM_SECRET", SECRET);
    with_principal(&workspace, settings);
    workspace
}

pub fn with_principal(workspace: &Workspace, settings: &str) {
    workspace.write_policy(&format!("credentials:\n  principals:\n    crm: {{{settings}}}\n"));
}

pub fn client(service: &TokenService, more: &str) -> String {
    format!("kind: oauth2_client, token_url: \"{}/token\", client_id: \"{CLIENT}\", {more}", service.vendor.base)
}

/// Checks the client as the server does, by the method that `auth` names.
fn authenticated(call: &TokenCall<'_>, auth: &str) -> Result<(), MockResponse> {
    let invalid = |why: &str| Err(oauth_error(401, "invalid_client", why));
    match auth {
        "client_secret_basic" => match call.basic() {
            Some((id, secret)) if id == CLIENT && secret == SECRET && call.get("client_secret").is_empty() => Ok(()),
            _ => invalid("wrong client or secret"),
        },
        "client_secret_post" => match (call.get("client_id"), call.get("client_secret")) {
            (CLIENT, SECRET) if call.request.header("authorization").is_none() => Ok(()),
            _ => invalid("wrong client or secret"),
        },
        key => {
            if call.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
                return invalid("no assertion");
            }
            let (header, claims) = match verified(call.get("client_assertion"), key) {
                Ok(parts) => parts,
                Err(why) => return invalid(why),
            };
            let url = format!("{}/token", call.home);
            let time = |name: &str| claims[name].as_i64().unwrap_or(0);
            match () {
                () if claims["iss"] != CLIENT || claims["sub"] != CLIENT => invalid("issuer and subject are not the client"),
                () if claims["aud"] != url.as_str() => invalid("another audience"),
                () if time("exp") <= now() => invalid("expired"),
                () if time("exp") > now() + 600 => invalid("valid for too long"),
                () if time("iat") > now() + 5 => invalid("issued in the future"),
                () if claims["jti"].as_str().is_none_or(str::is_empty) => invalid("no jti"),
                () if header["kid"] != "key-7" => invalid("unknown key"),
                () => Ok(()),
            }
        }
    }
}

/// A server that accepts one way to authenticate.
pub fn server(auth: &'static str) -> impl Fn(&TokenCall<'_>) -> MockResponse + Clone + Send + Sync + 'static {
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    move |call| {
        if call.request.call != "POST /token" {
            return oauth_error(404, "invalid_request", "no such endpoint");
        }
        if let Err(refused) = authenticated(call, auth) {
            return refused;
        }
        let assertion = call.get("client_assertion").to_string();
        if !assertion.is_empty() && !seen.lock().expect("unpoisoned").insert(assertion) {
            return oauth_error(401, "invalid_client", "replayed");
        }
        match (call.get("grant_type"), call.get("scope")) {
            ("client_credentials", "read:things" | "") => token_answer(),
            ("client_credentials", _) => oauth_error(400, "invalid_scope", "unknown scope"),
            _ => oauth_error(400, "unsupported_grant_type", "client_credentials only"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_proves_itself_in_each_way_and_the_token_opens_the_source() {
    for (auth, settings) in [
        ("client_secret_basic", "secret: \"env:CRM_SECRET\""),
        ("client_secret_post", "secret: \"env:CRM_SECRET\", auth: client_secret_post"),
        ("rsa", "key: \"env:CRM_KEY\", key_id: key-7"),
        ("rsa", "key: \"env:CRM_LINE\", key_id: key-7, algorithm: PS256"),
        ("rsa", "key: \"env:CRM_ENCRYPTED\", passphrase: \"env:CRM_PASSPHRASE\", key_id: key-7"),
        ("rsa", "key: \"env:CRM_JWK\""),
        ("p256", "key: \"env:CRM_EC\", key_id: key-7, auth: private_key_jwt"),
    ] {
        let service = TokenService::start(server(auth)).await;
        let mut workspace = workspace(&client(&service, &format!("{settings}, scopes: [\"read:things\"]")));
        workspace.set("CRM_KEY", &pem("rsa"));
        workspace.set("CRM_LINE", &pem("rsa").replace('\n', "\\n"));
        workspace.set("CRM_ENCRYPTED", &pem("rsa_scrypt"));
        workspace.set("CRM_PASSPHRASE", PASSPHRASE);
        workspace.set("CRM_JWK", include_str!("../data/keys/rsa_jwk.json"));
        workspace.set("CRM_EC", &pem("p256_sec1"));
        let result = attempt(&workspace, "openapi", &service.resource(), "sp:crm");
        assert_active(&result);
        let evidence = credential_evidence(&result);
        assert_eq!((&evidence["provider"], &evidence["kind"]), (&json!("sp"), &json!("oauth2_client")), "{auth}: {evidence}");
        assert!(evidence["valid_until"].is_string(), "{evidence}");
        assert_eq!(service.token_calls().len(), 1, "{auth}: one token for one attempt");
        let printed = result.to_string();
        let secrets = service.issued();
        assert!(!printed.contains(SECRET) && !secrets.iter().any(|token| printed.contains(token.as_str())), "{printed}");
    }
}

/// What goes wrong first, the part of the fix that is followed, and the settings after it.
struct Remedy {
    auth: &'static str,
    wrong: &'static str,
    class: &'static str,
    title: &'static str,
    fix: &'static str,
    right: &'static str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_its_own_fix_and_the_fix_works() {
    let remedies = [
        Remedy {
            auth: "client_secret_basic",
            wrong: "secret: \"env:OTHER_SECRET\"",
            class: "credential_rejected",
            title: "does not accept the client aam reader with the secret of the policy (client_secret_basic)",
            fix: "store a secret that is valid at",
            right: "secret: \"env:CRM_SECRET\"",
        },
        Remedy {
            auth: "client_secret_post",
            wrong: "secret: \"env:CRM_SECRET\"",
            class: "credential_rejected",
            title: "client_secret_basic",
            fix: "the server may want auth: client_secret_post",
            right: "secret: \"env:CRM_SECRET\", auth: client_secret_post",
        },
        Remedy {
            auth: "rsa",
            wrong: "key: \"env:CRM_EC\", key_id: key-7",
            class: "credential_rejected",
            title: "with the key of the policy (private_key_jwt)",
            fix: "register the public key that belongs to key of the service principal crm (env:CRM_EC)",
            right: "key: \"env:CRM_KEY\", key_id: key-7",
        },
        Remedy {
            auth: "rsa",
            wrong: "key: \"env:CRM_KEY\", key_id: key-7, audience: \"https://other.example\"",
            class: "credential_rejected",
            title: "with the key of the policy (private_key_jwt)",
            fix: "check that it expects the audience https://other.example",
            right: "key: \"env:CRM_KEY\", key_id: key-7",
        },
        Remedy {
            auth: "client_secret_basic",
            wrong: "secret: \"env:CRM_SECRET\", scopes: [\"write:things\"]",
            class: "permission_denied",
            title: "does not grant the scopes write:things",
            fix: "write those that it has: credentials.principals.crm.scopes",
            right: "secret: \"env:CRM_SECRET\", scopes: [\"read:things\"]",
        },
        Remedy {
            auth: "rsa",
            wrong: "key: \"env:CRM_ENCRYPTED\", key_id: key-7",
            class: "credential_missing",
            title: "key of the service principal crm (env:CRM_ENCRYPTED) is encrypted, and the policy does not name a passphrase",
            fix: "add passphrase: LOCATOR",
            right: "key: \"env:CRM_ENCRYPTED\", key_id: key-7, passphrase: \"env:CRM_PASSPHRASE\"",
        },
        Remedy {
            auth: "rsa",
            wrong: "key: \"env:CRM_ENCRYPTED\", key_id: key-7, passphrase: \"env:CRM_SECRET\"",
            class: "credential_missing",
            title: "the passphrase is wrong",
            fix: "store the passphrase with which the key was encrypted",
            right: "key: \"env:CRM_ENCRYPTED\", key_id: key-7, passphrase: \"env:CRM_PASSPHRASE\"",
        },
        Remedy {
            auth: "rsa",
            wrong: "key: \"env:CRM_PUBLIC\", key_id: key-7",
            class: "credential_missing",
            title: "is a public key",
            fix: "store the private key that belongs to it",
            right: "key: \"env:CRM_KEY\", key_id: key-7",
        },
        Remedy {
            auth: "p256",
            wrong: "key: \"env:CRM_EC\", key_id: key-7, algorithm: RS256",
            class: "credential_missing",
            title: "is an EC key of the curve P-256, which cannot sign with RS256",
            fix: "leave algorithm out",
            right: "key: \"env:CRM_EC\", key_id: key-7",
        },
    ];
    for Remedy { auth, wrong, class, title, fix, right } in remedies {
        let service = TokenService::start(server(auth)).await;
        let mut workspace = workspace(&client(&service, wrong));
        workspace.set("OTHER_SECRET", "the-secret-of-last-year");
        workspace.set("CRM_KEY", &pem("rsa"));
        workspace.set("CRM_EC", &pem("p256"));
        workspace.set("CRM_ENCRYPTED", &pem("rsa_pbkdf2"));
        workspace.set("CRM_PASSPHRASE", PASSPHRASE);
        workspace.set("CRM_PUBLIC", &pem("rsa_public"));
        let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "{wrong}: {refused:#?}");
        with_principal(&workspace, &client(&service, right));
        assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_answer_of_a_token_endpoint_is_said() {
    type Answer = fn(&TokenCall<'_>) -> MockResponse;
    let cases: [(Answer, &str, &str, &str); 10] = [
        (
            |_| (200, vec![("content-type", "text/html".into())], "<html>log in</html>".into()),
            "remote",
            "with a web page",
            "token URL",
        ),
        (
            |_| (404, vec![("content-type", "text/html".into())], "<html>none</html>".into()),
            "not_found",
            "answers 404",
            "token_url",
        ),
        (|_| json_response_with(200, &[], &json!({"ok": true})), "remote", "without an access_token", "token URL"),
        (|_| oauth_error(200, "invalid_client", "x"), "credential_rejected", "does not accept the client", "check client_id"),
        (
            |_| (302, vec![("location", "/elsewhere".into())], String::new()),
            "egress_refused",
            "is redirected",
            "credentials.principals.crm",
        ),
        (
            |_| oauth_error(400, "unauthorized_client", "x"),
            "permission_denied",
            "to use the grant client_credentials",
            "allow the grant type",
        ),
        (|_| oauth_error(400, "invalid_grant", "x"), "credential_rejected", "does not accept the grant", "is not revoked"),
        (|_| oauth_error(400, "slow_down", "x"), "throttled", "fewer token requests", "after a pause"),
        (|_| oauth_error(500, "server_error", "x"), "remote", "failed while it checked", "tries again"),
        (
            |_| json_response_with(200, &[], &json!({"access_token": fresh_token(), "token_type": "DPoP"})),
            "unsupported",
            "tokens of the type DPOP",
            "kind: okta",
        ),
    ];
    for (answer, class, title, fix) in cases {
        let service = TokenService::start(answer).await;
        let workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\""));
        let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "{class} {title}: {refused:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_named_with_its_difference() {
    let service = TokenService::start(server("rsa")).await;
    let mut workspace = workspace(&client(&service, "key: \"env:CRM_KEY\", key_id: key-7"));
    workspace.set("CRM_KEY", &pem("rsa"));
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    for (offset, said) in [(-930_000, "is 15 minutes behind that of"), (7_200_000 + 60_000, "is 2 hours ahead of that of")] {
        std::fs::write(workspace.path("clock"), offset.to_string()).expect("write");
        let (class, title, fix, detail) = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
        assert_eq!(class, "credential_rejected");
        assert!(title.contains(said) && fix.contains("timedatectl"), "{title} {fix}");
        assert!(detail.contains("invalid_client"), "{detail}");
    }
    std::fs::write(workspace.path("clock"), "0").expect("write");
    assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    // A wrong secret is not blamed on the clock.
    let service = TokenService::start(server("client_secret_basic")).await;
    with_principal(&workspace, &client(&service, "secret: \"env:CRM_KEY\""));
    std::fs::write(workspace.path("clock"), "900000").expect("write");
    let (_, title, ..) = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    assert!(title.contains("with the secret of the policy"), "{title}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resource_and_audience_are_sent_as_the_server_asks() {
    let service = TokenService::start(|call| {
        if (call.get("resource"), call.get("audience")) == ("https://api.example", "https://api.example") {
            return token_answer();
        }
        match call.get("audience") {
            "crm-api" => token_answer(),
            _ => oauth_error(400, "invalid_target", "which one?"),
        }
    })
    .await;
    let workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\""));
    let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    assert!(refused.2.contains("credentials.principals.crm.resource"), "{refused:#?}");
    for settings in ["resource: \"https://api.example\"", "audience: crm-api"] {
        with_principal(&workspace, &client(&service, &format!("secret: \"env:CRM_SECRET\", {settings}")));
        assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_and_a_fixed_token_are_credentials_of_the_policy() {
    let service = TokenService::start(|_| token_answer()).await;
    let mut workspace = workspace("kind: token, token: \"env:CRM_TOKEN\"");
    workspace.set("CRM_TOKEN", "fixed-token-of-the-crm");
    let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    assert_eq!(refused.0, "credential_rejected", "{refused:#?}");
    let called = service.vendor.requests();
    assert!(called.iter().any(|request| request.token == "fixed-token-of-the-crm"), "{called:#?}");
    assert!(service.token_calls().is_empty());
    let basic = TokenService::start(|_| token_answer()).await;
    workspace.write_policy(&format!(
        "credentials:\n  principals:\n    crm: {{kind: basic, username: reader, password: \"env:CRM_TOKEN\"}}\nfamilies: \
         {{openapi: {{services: [{{match: \"{}/*\", auth: basic}}]}}}}\n",
        basic.vendor.base
    ));
    let _ = attempt(&workspace, "openapi", &basic.resource(), "sp:crm");
    let sent = basic.vendor.requests().into_iter().find_map(|request| request.header("authorization").map(str::to_string));
    assert_eq!(sent.as_deref(), Some("Basic cmVhZGVyOmZpeGVkLXRva2VuLW9mLXRoZS1jcm0="));
}

/// A manifest whose only secret is called `api_key`.
const MANIFEST: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [things]}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [host, api_key]
    properties: {host: {type: string}, api_key: {type: string, airbyte_secret: true}}
streams:
  - type: DeclarativeStream
    name: things
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: "http://{{ config['host'] }}/api/v1"
        path: /things
        authenticator: {type: BearerAuthenticator, api_token: "{{ config['api_key'] }}"}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}}}}
"##;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_source_gets_the_token_whatever_it_calls_it() {
    for name in ["api_key", "token", "access_token"] {
        let service = TokenService::start(server("client_secret_basic")).await;
        let workspace = workspace("kind: token, token: \"env:X\"");
        std::fs::create_dir(workspace.path("manifests")).expect("a folder");
        std::fs::write(workspace.path("manifests/shop.yaml"), MANIFEST.replace("api_key", name)).expect("write");
        workspace.write_policy(&format!(
            "allowlist: [shop]\nmanifests: {{dir: {}}}\ncredentials:\n  principals:\n    crm: {{{}}}\n",
            workspace.path("manifests").display(),
            client(&service, "secret: \"env:CRM_SECRET\"")
        ));
        assert_active(&attempt(&workspace, "shop", service.vendor.host(), "sp:crm"));
    }
}
