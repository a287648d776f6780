//! Service principals of the kind entra against a token endpoint that answers as Microsoft documents it: the client
//! credentials flow, certificate credentials, and the error codes with Microsoft's own texts.

use crate::support::daemon::Workspace;
use crate::support::lowcode_families::json_response_with;
use crate::support::openapi::MockResponse;
use crate::support::token_endpoint::{
    TokenCall, TokenService, assert_active, attempt, credential_evidence, der, failure, now, pem, token_answer, verified,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::json;

const TENANT: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
const CLIENT: &str = "535fb089-9ff3-47b6-9bfb-4f1264799865";
const SECRET: &str = "qWgdYAmab0YSkuL1qKv5bPX~8Q~Jm2";
const SCOPE: &str = "https://graph.microsoft.com/.default";

/// An error as Microsoft sends it.
pub fn error(status: u16, error: &str, code: u64, text: &str) -> MockResponse {
    let description = format!(
        "AADSTS{code}: {text} Trace ID: 0a1b2c3d-1111-2222-3333-444455556666 Correlation ID: 77778888-9999-aaaa-bbbb-ccccddddeeee \
         Timestamp: 2026-11-28 12:00:00Z"
    );
    let body = json!({"error": error, "error_description": description, "error_codes": [code], "timestamp": "2026-11-28 12:00:00Z",
        "trace_id": "0a1b2c3d-1111-2222-3333-444455556666", "correlation_id": "77778888-9999-aaaa-bbbb-ccccddddeeee",
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}")});
    json_response_with(status, &[], &body)
}

/// What the certificate's key of the workload signed, as the platform writes it into the file.
const FEDERATED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZSJ9.c2lnbmF0dXJl";

fn entra(call: &TokenCall<'_>) -> MockResponse {
    let path = call.request.path();
    if path != format!("/{TENANT}/oauth2/v2.0/token") {
        let tenant = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        return error(
            400,
            "invalid_request",
            90002,
            &format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
            ),
        );
    }
    if call.get("grant_type") != "client_credentials" {
        return error(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.");
    }
    if call.get("client_id") != CLIENT {
        return error(
            400,
            "unauthorized_client",
            700_016,
            &format!("Application with identifier '{}' was not found in the directory 'Acme'.", call.get("client_id")),
        );
    }
    match call.get("scope") {
        SCOPE => {}
        scope if scope.ends_with("/.default") => {
            return error(
                400,
                "invalid_resource",
                500_011,
                &format!("The resource principal named {scope} was not found in the tenant named Acme."),
            );
        }
        scope => {
            return error(
                400,
                "invalid_scope",
                1_002_012,
                &format!(
                    "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
                ),
            );
        }
    }
    let assertion = call.get("client_assertion");
    match call.get("client_secret") {
        SECRET if assertion.is_empty() => return token_answer(),
        "" if !assertion.is_empty() => {}
        "" => {
            return error(
                401,
                "invalid_client",
                7_000_216,
                "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
            );
        }
        _ => {
            return error(
                401,
                "invalid_client",
                7_000_215,
                &format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{CLIENT}'."
                ),
            );
        }
    }
    if call.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
        return error(
            400,
            "invalid_request",
            900_144,
            "The request body must contain the following parameter: 'client_assertion_type'.",
        );
    }
    if assertion == FEDERATED {
        return token_answer();
    }
    let certificate = der(&pem("rsa_certificate"));
    let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(digest(algorithm, &certificate));
    let unknown = || {
        error(
            401,
            "invalid_client",
            700_027,
            "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found.]",
        )
    };
    let Ok((header, claims)) = verified(assertion, "rsa") else { return unknown() };
    if header["alg"] != "PS256" || header["typ"] != "JWT" || header["x5t#S256"] != thumbprint(&SHA256).as_str() {
        return unknown();
    }
    if header["x5t"] != thumbprint(&SHA1_FOR_LEGACY_USE_ONLY).as_str() {
        return unknown();
    }
    if claims["aud"] != format!("{}{path}", call.home).as_str() {
        return error(401, "invalid_client", 700_023, "Client assertion audience claim does not match Realm issuer.");
    }
    if claims["iss"] != CLIENT || claims["sub"] != CLIENT || claims["jti"].as_str().is_none_or(str::is_empty) {
        return error(
            401,
            "invalid_client",
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        );
    }
    let time = |name: &str| claims[name].as_i64().unwrap_or(0);
    // Microsoft allows five minutes of skew.
    if time("exp") < now() - 300 || time("nbf") > now() + 300 || time("exp") - time("nbf") > 86_400 {
        return error(
            401,
            "invalid_client",
            700_024,
            "Client assertion is not within its valid time range. Current time: 2026-11-28T12:00:00Z.",
        );
    }
    token_answer()
}

pub fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("GRAPH_SECRET", SECRET);
    workspace.set("GRAPH_CERTIFICATE", &format!("{}{}", pem("rsa_certificate"), pem("rsa")));
    workspace.set("CERTIFICATE_ONLY", &pem("rsa_certificate"));
    workspace.set("GRAPH_KEY", &pem("rsa_pbkdf2"));
    workspace.set("KEY_PASSPHRASE", "topaz-31");
    workspace.set("OTHER_KEY", &crate::support::github::app_key());
    workspace
}

pub fn principal(workspace: &Workspace, service: &TokenService, settings: &str) {
    let base = &service.vendor.base;
    workspace
        .write_policy(&format!("credentials:\n  principals:\n    graph: {{kind: entra, authority: \"{base}\", {settings}}}\n"));
}

pub fn ids() -> String {
    format!("tenant: {TENANT}, client_id: {CLIENT}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_certificate_and_federated_token_mint_a_token() {
    let service = TokenService::start(entra).await;
    let workspace = workspace();
    let file = workspace.path("federated");
    std::fs::write(&file, format!("{FEDERATED}\n")).expect("write");
    for (settings, ends) in [
        ("secret: \"env:GRAPH_SECRET\"".to_string(), None),
        ("secret: \"env:GRAPH_SECRET\", expires: 2031-05-04".to_string(), Some("2031-05-05T00:00:00.000Z")),
        ("certificate: \"env:GRAPH_CERTIFICATE\"".to_string(), Some("2036-11-26T00:22:04.000Z")),
        (
            "certificate: \"env:CERTIFICATE_ONLY\", key: \"env:GRAPH_KEY\", passphrase: \"env:KEY_PASSPHRASE\"".to_string(),
            Some("2036-11-26T00:22:04.000Z"),
        ),
        (format!("federated_token_file: {}", file.display()), None),
    ] {
        principal(&workspace, &service, &format!("{}, {settings}", ids()));
        let result = attempt(&workspace, "openapi", &service.resource(), "sp:graph");
        assert_active(&result);
        assert_eq!(credential_evidence(&result)["ends_at"].as_str(), ends, "{settings}");
    }
    // The platform replaces the file, and the next mint reads the new token.
    std::fs::write(&file, "an.old.token").expect("write");
    let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:graph"));
    assert!(refused.3.contains("AADSTS700027"), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_microsoft_refuses_is_fixed_as_the_message_says() {
    let service = TokenService::start(entra).await;
    let mut workspace = workspace();
    workspace.set("SECRET_ID", "1e8a7d1c-3a2b-4c5d-8e9f-0a1b2c3d4e5f");
    workspace.set("OLD_SECRET", "ZZZ8Q~an-old-secret-value");
    let good = format!("{}, secret: \"env:GRAPH_SECRET\"", ids());
    for (settings, class, title, fix) in [
        (
            format!("{}, secret: \"env:SECRET_ID\"", ids()),
            "credential_rejected",
            "is the id of a client secret, not its value",
            "the column Value",
        ),
        (
            format!("{}, secret: \"env:OLD_SECRET\"", ids()),
            "credential_rejected",
            "does not accept the client secret",
            "a secret of another application does not work",
        ),
        (
            format!("tenant: acme.example, client_id: {CLIENT}, secret: \"env:GRAPH_SECRET\""),
            "misconfigured",
            "does not find the tenant acme.example",
            "graph.tenant",
        ),
        (
            format!("tenant: {TENANT}, client_id: {TENANT}, secret: \"env:GRAPH_SECRET\""),
            "credential_rejected",
            "does not find the application",
            "compare client_id",
        ),
        (
            format!("{good}, scopes: [\"https://graph.microsoft.com/User.Read\"]"),
            "misconfigured",
            "does not accept the scope",
            "or leave scopes out",
        ),
        (
            format!("{good}, scopes: [\"api://crm/.default\"]"),
            "permission_denied",
            "does not have the resource api://crm",
            "graph.scopes",
        ),
        (
            format!("{}, certificate: \"env:CERTIFICATE_ONLY\"", ids()),
            "credential_missing",
            "is a certificate without its private key",
            "or write key: LOCATOR",
        ),
        (
            format!("{}, certificate: \"env:CERTIFICATE_ONLY\", key: \"env:OTHER_KEY\"", ids()),
            "credential_missing",
            "does not belong to the private key",
            "made together",
        ),
        (
            format!("{}, federated_token_file: /nowhere/at/all", ids()),
            "credential_missing",
            "token file /nowhere/at/all",
            "check that the platform mounts",
        ),
    ] {
        principal(&workspace, &service, &settings);
        let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:graph"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "{settings}: {refused:#?}");
    }
    principal(&workspace, &service, &good);
    assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:graph"));
    // A clock that is far off is named with the difference, and a certificate that has ended with its day.
    principal(&workspace, &service, &format!("{}, certificate: \"env:GRAPH_CERTIFICATE\"", ids()));
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    std::fs::write(workspace.path("clock"), "-1230000").expect("write");
    let skewed = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:graph"));
    assert!(skewed.1.contains("is 20 minutes behind that of Microsoft") && skewed.3.contains("AADSTS700024"), "{skewed:#?}");
    std::fs::write(workspace.path("clock"), (11 * 365 * 86_400_000_i64).to_string()).expect("write");
    let ended = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:graph"));
    assert!(ended.1.ends_with("ended on 2036-11-26") && ended.2.contains("upload it"), "{ended:#?}");
}
