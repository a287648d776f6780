//! Service principals of the kind google against endpoints that answer as Google documents them: the JWT bearer flow of
//! service accounts, domain-wide delegation, token exchange of workload identity federation, and generateAccessToken.

use crate::support::daemon::Workspace;
use crate::support::lowcode_families::json_response_with;
use crate::support::openapi::MockResponse;
use crate::support::token_endpoint::{
    TokenCall, TokenService, assert_active, attempt, failure, fresh_token, now, oauth_error, pem, token_answer, verified,
};
use serde_json::{Value, json};

const ACCOUNT: &str = "aam-reader@acme-prod.iam.gserviceaccount.com";
const CLIENT: &str = "104567890123456789012";
const KEY_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567";
const USER: &str = "auditor@acme.example";
const SCOPE: &str = "https://www.googleapis.com/auth/drive.metadata.readonly";
const TARGET: &str = "reader@acme-data.iam.gserviceaccount.com";
const AUDIENCE: &str = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/ci/providers/oidc";
const PLATFORM_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3b3JrbG9hZCJ9.cGxhdGZvcm0";

/// The JSON key as the console creates it. Its `token_uri` must not decide where the assertion is sent.
fn key(private: &str) -> Value {
    json!({"type": "service_account", "project_id": "acme-prod", "private_key_id": KEY_ID, "private_key": private,
        "client_email": ACCOUNT, "client_id": CLIENT, "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://attacker.example/token", "universe_domain": "googleapis.com"})
}

fn google(call: &TokenCall<'_>) -> MockResponse {
    match call.request.call.as_str() {
        "POST /token" => bearer(call),
        "POST /v1/token" => exchange(call),
        path if path == format!("POST /v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken") => impersonate(call),
        path if path.starts_with("POST /v1/projects/-/serviceAccounts/") => {
            api_error(404, "NOT_FOUND", "Not found; Gaia id not found for email")
        }
        "GET /platform/token?audience=pool" if call.request.header("metadata") == Some("true") => {
            json_response_with(200, &[], &json!({"id_token": PLATFORM_TOKEN}))
        }
        _ => json_response_with(404, &[], &json!({"error": "not found"})),
    }
}

/// [V] "Using OAuth 2.0 for server to server applications".
fn bearer(call: &TokenCall<'_>) -> MockResponse {
    if call.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return oauth_error(400, "unsupported_grant_type", "Invalid grant_type: ");
    }
    let invalid = |why: &str| oauth_error(400, "invalid_grant", why);
    let Ok((header, claims)) = verified(call.get("assertion"), "rsa") else { return invalid("Invalid JWT Signature.") };
    if header["alg"] != "RS256" || header["kid"] != KEY_ID {
        return invalid("Invalid JWT Signature.");
    }
    let time = |name: &str| claims[name].as_i64().unwrap_or(0);
    if time("iat") > now() + 60 || time("exp") < now() || time("exp") - time("iat") > 3600 {
        return invalid(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
        );
    }
    if claims["aud"] != format!("{}/token", call.home).as_str() {
        return invalid("Invalid JWT: Failed audience check. The right audience is https://oauth2.googleapis.com/token");
    }
    if claims["iss"] != ACCOUNT {
        return invalid("Invalid grant: account not found");
    }
    let known = |scope: &str| scope.starts_with("https://www.googleapis.com/auth/");
    let scopes: Vec<&str> = claims["scope"].as_str().unwrap_or_default().split(' ').collect();
    if !scopes.iter().all(|scope| known(scope)) {
        return oauth_error(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.");
    }
    match claims["sub"].as_str() {
        None => token_answer(),
        Some(USER) if scopes == [SCOPE] => token_answer(),
        Some(USER) => oauth_error(
            401,
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.",
        ),
        Some("blocked@acme.example") => oauth_error(400, "access_denied", "Requested client not authorized."),
        Some(_) => oauth_error(400, "invalid_grant", "Invalid email or User ID"),
    }
}

/// [V] Security Token Service API, `token`.
fn exchange(call: &TokenCall<'_>) -> MockResponse {
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    if expected.iter().any(|(name, value)| call.get(name) != *value) || call.get("scope").is_empty() {
        return oauth_error(400, "invalid_request", "Invalid value for a parameter");
    }
    if call.get("audience") != AUDIENCE {
        return oauth_error(
            400,
            "invalid_target",
            "The target service indicated by the \"audience\" parameters is invalid. This might either be because the pool or provider is disabled or deleted or because it doesn't exist.",
        );
    }
    match call.get("subject_token") {
        PLATFORM_TOKEN => json_response_with(
            200,
            &[],
            &json!({"access_token": fresh_token(), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3599}),
        ),
        "refused.by.condition" => {
            oauth_error(401, "unauthorized_client", "The given credential is rejected by the attribute condition.")
        }
        _ => oauth_error(400, "invalid_grant", "Error connecting to the given credential's issuer."),
    }
}

/// [V] IAM Service Account Credentials API, `generateAccessToken`.
fn impersonate(call: &TokenCall<'_>) -> MockResponse {
    if !call.request.token.starts_with("token-") {
        return api_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    }
    let body: Value = serde_json::from_str(&call.request.body).unwrap_or_default();
    if body["lifetime"] != "3600s" || body["scope"] != json!([SCOPE]) {
        return api_error(
            403,
            "PERMISSION_DENIED",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        );
    }
    let end = aam::model::Timestamp((now() + 3600) * 1000).rfc3339();
    json_response_with(200, &[], &json!({"accessToken": fresh_token(), "expireTime": end}))
}

fn api_error(status: u16, code: &str, message: &str) -> MockResponse {
    json_response_with(status, &[], &json!({"error": {"code": status, "message": message, "status": code}}))
}

fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("GOOGLE_KEY", &key(&pem("rsa")).to_string());
    workspace
}

fn principal(workspace: &Workspace, service: &TokenService, settings: &str) {
    let base = &service.vendor.base;
    workspace.write_policy(&format!(
        "credentials:\n  principals:\n    drive: {{kind: google, token_url: \"{base}/token\", sts_url: \"{base}/v1/token\", iam_url: \
         \"{base}\", {settings}}}\n"
    ));
}

fn by_key(more: &str) -> String {
    format!("key: \"env:GOOGLE_KEY\", scopes: [\"{SCOPE}\"]{more}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_mints_tokens_for_itself_for_a_user_and_for_another_account() {
    let service = TokenService::start(google).await;
    let workspace = workspace();
    for (more, calls) in
        [("", 1), (", subject: auditor@acme.example", 1), (", impersonate: reader@acme-data.iam.gserviceaccount.com", 2)]
    {
        principal(&workspace, &service, &by_key(more));
        let before = service.token_calls().len();
        assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
        assert_eq!(service.token_calls().len() - before, calls, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_google_refuses_has_its_own_fix() {
    let service = TokenService::start(google).await;
    let mut workspace = workspace();
    workspace.set("DELETED_KEY", &key(&crate::support::github::app_key()).to_string());
    workspace.set("PERSON", &json!({"type": "authorized_user", "client_id": "x", "refresh_token": "1//refresh"}).to_string());
    workspace.set("PEM", &pem("rsa"));
    let other = format!(", impersonate: {TARGET}, subject: {USER}");
    for (settings, class, title, fix) in [
        (
            by_key("").replace("GOOGLE_KEY", "DELETED_KEY"),
            "credential_rejected",
            "it was deleted or disabled",
            "create a new one there",
        ),
        (
            by_key(", subject: nobody@acme.example"),
            "credential_rejected",
            "does not find the delegated user nobody@acme.example",
            "an active user of the organization",
        ),
        (
            by_key(", subject: auditor@acme.example").replace("drive.metadata.readonly", "admin.directory.user.readonly"),
            "permission_denied",
            "is not authorized in the Admin console",
            "client id 104567890123456789012, scopes https://www.googleapis.com/auth/admin.directory.user.readonly; new entries take up to 24 hours",
        ),
        (
            by_key(", subject: blocked@acme.example"),
            "permission_denied",
            "denies aam-reader@acme-prod.iam.gserviceaccount.com access",
            "App access control",
        ),
        (
            by_key("").replace("https://www.googleapis.com/auth/", "drive:"),
            "misconfigured",
            "does not know a scope",
            "drive.scopes",
        ),
        (
            by_key("").replace("GOOGLE_KEY", "PERSON"),
            "credential_missing",
            "is the login of a person",
            "JSON key of a service account",
        ),
        (by_key("").replace("GOOGLE_KEY", "PEM"), "credential_missing", "is not the JSON key", "whole JSON file"),
        (by_key(&other), "misconfigured", "has both subject and impersonate", "write key and subject"),
        (
            by_key(", impersonate: gone@acme-data.iam.gserviceaccount.com"),
            "credential_rejected",
            "does not find the service account gone@",
            "undelete",
        ),
        (
            by_key(&format!(", impersonate: {TARGET}")).replace("drive.metadata.readonly", "drive"),
            "permission_denied",
            "may not mint tokens of reader@",
            "roles/iam.serviceAccountTokenCreator",
        ),
        ("key: \"env:GOOGLE_KEY\"".to_string(), "misconfigured", "does not say which scopes", "for example scopes:"),
    ] {
        principal(&workspace, &service, &settings);
        let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "{settings}: {refused:#?}");
    }
    principal(&workspace, &service, &by_key(""));
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    std::fs::write(workspace.path("clock"), "-3630000").expect("write");
    let skewed = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    assert!(skewed.1.contains("is 60 minutes behind that of Google"), "{skewed:#?}");
}

/// A configuration of the federation as gcloud writes it.
fn config(service: &TokenService, source: &Value) -> Value {
    json!({"type": "external_account", "audience": AUDIENCE, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/v1/token", service.vendor.base), "credential_source": source})
}

const FEDERATION: &str = "federation: \"env:FEDERATION\", scopes: [\"https://www.googleapis.com/auth/drive.metadata.readonly\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_token_is_exchanged_from_a_file_and_from_a_url() {
    let service = TokenService::start(google).await;
    let mut workspace = workspace();
    let file = workspace.path("platform-token");
    std::fs::write(&file, PLATFORM_TOKEN).expect("write");
    workspace.set("FEDERATION", &config(&service, &json!({"file": file})).to_string());
    principal(&workspace, &service, FEDERATION);
    assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    std::fs::write(&file, "refused.by.condition").expect("write");
    let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    assert!(refused.1.contains("attribute condition") && refused.2.contains("attributeCondition"), "{refused:#?}");
    std::fs::write(&file, json!({"token": PLATFORM_TOKEN}).to_string()).expect("write");
    let source = json!({"file": file, "format": {"type": "json", "subject_token_field_name": "token"}});
    let mut with_account = config(&service, &source);
    with_account["service_account_impersonation_url"] =
        json!(format!("{}/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken", service.vendor.base));
    workspace.set("FEDERATION", &with_account.to_string());
    let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    assert!(refused.2.contains(&format!("write impersonate: {TARGET}")), "{refused:#?}");
    principal(&workspace, &service, &format!("{FEDERATION}, impersonate: {TARGET}"));
    assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    // A URL works only if the policy names it too; its query is part of the configuration.
    let url = format!("{}/platform/token", service.vendor.base);
    let source = json!({"url": format!("{url}?audience=pool"), "headers": {"Metadata": "true"},
        "format": {"type": "json", "subject_token_field_name": "id_token"}});
    workspace.set("FEDERATION", &config(&service, &source).to_string());
    principal(&workspace, &service, FEDERATION);
    let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    assert!(refused.0 == "misconfigured" && refused.2.contains(&format!("subject_token_url: {url}")), "{refused:#?}");
    principal(&workspace, &service, &format!("{FEDERATION}, subject_token_url: \"{url}\""));
    assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_cannot_send_the_platform_token_to_another_host() {
    let service = TokenService::start(google).await;
    let evil = TokenService::start(|_| token_answer()).await;
    let mut workspace = workspace();
    let file = workspace.path("platform-token");
    std::fs::write(&file, PLATFORM_TOKEN).expect("write");
    let good = config(&service, &json!({"file": file}));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    let steals = format!("{}/v1/token", evil.vendor.base);
    let impersonates = format!("{}/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken", evil.vendor.base);
    for (config, title) in [
        (changed(&|it| it["token_url"] = json!(steals)), "token_url of"),
        (changed(&|it| it["token_url"] = json!("https://sts.googleapis.com.evil.example/v1/token")), "token_url of"),
        (changed(&|it| it["service_account_impersonation_url"] = json!(impersonates)), "service_account_impersonation_url of"),
        (changed(&|it| it["credential_source"] = json!({"url": steals})), "credential_source.url of"),
        (changed(&|it| it["credential_source"] = json!({"executable": {"command": "cat /etc/passwd"}})), "runs a program"),
        (changed(&|it| it["credential_source"] = json!({"environment_id": "aws1", "region_url": steals})), "credentials of AWS"),
    ] {
        workspace.set("FEDERATION", &config.to_string());
        principal(&workspace, &service, &format!("{FEDERATION}, impersonate: {TARGET}"));
        let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
        assert!(refused.1.contains(title), "{refused:#?}");
    }
    assert_eq!(evil.vendor.calls(), [""; 0]);
    // A key file cannot either: its token_uri is not used.
    principal(&workspace, &service, &by_key(""));
    assert_active(&attempt(&workspace, "openapi", &service.resource(), "sp:drive"));
    assert_eq!(evil.vendor.calls(), [""; 0]);
}
