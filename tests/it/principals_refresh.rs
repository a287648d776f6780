//! Service principals with a stored refresh token (kind `oauth2_client`), against the built binary.

use crate::principals::{CLIENT, SECRET, client, workspace};
use crate::support::lowcode_families::json_response_with;
use crate::support::openapi::MockResponse;
use crate::support::token_endpoint::{TokenCall, TokenService, assert_active, attempt, failure, fresh_token, oauth_error};
use serde_json::json;

const REFRESH_TOKEN: &str = "refresh-token-of-the-integration-user";

/// A server whose only grant is `refresh_token`. With `replaces`, each response has another refresh token.
fn server(replaces: bool) -> impl Fn(&TokenCall<'_>) -> MockResponse + Clone + Send + Sync + 'static {
    move |call| {
        if call.basic().is_none_or(|(id, secret)| id != CLIENT || secret != SECRET) {
            return oauth_error(401, "invalid_client", "wrong client or secret");
        }
        match (call.get("grant_type"), call.get("refresh_token"), call.get("scope")) {
            ("refresh_token", REFRESH_TOKEN, "") => {
                let next = if replaces { "another-refresh-token-of-the-user" } else { REFRESH_TOKEN };
                let token = json!({"access_token": fresh_token(), "token_type": "Bearer", "refresh_token": next});
                json_response_with(200, &[], &token)
            }
            ("refresh_token", REFRESH_TOKEN, _) => oauth_error(400, "invalid_scope", "no scopes"),
            ("refresh_token", ..) => oauth_error(400, "invalid_grant", ""),
            _ => oauth_error(400, "unsupported_grant_type", "refresh_token only"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_refresh_token_opens_the_source_and_its_end_is_named() {
    let service = TokenService::start(server(false)).await;
    let mut workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\", refresh_token: \"env:CRM_REFRESH\""));
    workspace.set("CRM_REFRESH", REFRESH_TOKEN);
    let result = attempt(&workspace, "openapi", &service.resource(), "sp:crm");
    assert_active(&result);
    assert!(!result.to_string().contains(REFRESH_TOKEN), "{result}");
    workspace.set("CRM_REFRESH", "refresh-token-that-was-revoked-before");
    let (class, title, fix, _) = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    assert_eq!(class, "credential_rejected", "{title}");
    assert!(title.contains("does not accept the refresh token of the service principal crm"), "{title}");
    assert!(fix.contains("credentials.principals.crm.refresh_token"), "{fix}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_replaces_refresh_tokens_needs_a_consent() {
    let service = TokenService::start(server(true)).await;
    let mut workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\", refresh_token: \"env:CRM_REFRESH\""));
    workspace.set("CRM_REFRESH", REFRESH_TOKEN);
    let (class, title, fix, _) = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:crm"));
    assert_eq!(class, "unsupported", "{title}");
    assert!(title.contains("replaces the refresh token") && fix.contains("consent:NAME"), "{title}: {fix}");
}
