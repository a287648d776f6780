//! Kind `zoom`: a server-to-server OAuth app, which gets its tokens by the grant `account_credentials`.
//!
//! Sources: developers.zoom.us, "Server-to-Server OAuth" and "OAuth error messages" \[V\]. A token lives for one hour \[V\], and
//! its scopes are those of the app; a request cannot narrow them \[V\]. Each new token ended the one before in some accounts
//! [V: ZoomNet#269], so all connections share one.

use super::issued::token_credential;
use super::refusal::RefusalRule;
use super::token_request::TokenRequest;
use super::{Fetched, MintContext, Minted};
use crate::credentials::Secret;
use crate::model::Failure;
use std::time::Duration;

const VENDOR: &str = "Zoom";
const TOKEN_URL: &str = "https://zoom.us/oauth/token";

/// The documented lifetime, for a response without `expires_in`.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// Zoom sends `error` and `reason`; the texts are those of "OAuth error messages" (4702 to 4741) \[V\] and of the recorded
/// answers in zoom/server-to-server-oauth-token#3 and others \[R\].
const REFUSALS: &[RefusalRule] = &[
    RefusalRule::permission(
        &[],
        &["has been disabled", "is disabled", "deactivated"],
        "the Zoom app of service principal {principal} is deactivated",
        "ask the administrator to activate it (marketplace.zoom.us > Manage > the app > Activation), then aam heal",
    ),
    // [V] 4705: the grant type is not supported.
    RefusalRule::policy(
        &[],
        &["grant type is not supported", "unsupported grant type"],
        "the Zoom app of service principal {principal} is not a Server-to-Server OAuth app",
        "create one (marketplace.zoom.us > Develop > Build Server-to-Server App); a General app or a JWT app cannot be used",
    ),
    // [V] 4702 and 4704: wrong id or secret; 4706: missing.
    RefusalRule::new(
        &["invalid_client"],
        &[],
        "Zoom does not accept the client id and client secret of service principal {principal}",
        "compare client_id {client_id} with App Credentials of the app (marketplace.zoom.us > Manage), and store its client secret again",
    ),
    RefusalRule::new(
        &[],
        &["invalid client", "client id does not match", "client id or client secret is missing"],
        "Zoom does not accept the client id and client secret of service principal {principal}",
        "compare client_id {client_id} with App Credentials of the app (marketplace.zoom.us > Manage), and store its client secret again",
    ),
    RefusalRule::policy(
        &["unsupported_grant_type"],
        &[],
        "the Zoom app of service principal {principal} is not a Server-to-Server OAuth app",
        "create one (marketplace.zoom.us > Develop > Build Server-to-Server App); a General app or a JWT app cannot be used",
    ),
    RefusalRule::policy(
        &["unauthorized_client", "access_denied"],
        &[],
        "Zoom does not let the app of service principal {principal} get tokens",
        "check that the app is activated and that its owner still has the role to manage it (marketplace.zoom.us > Manage)",
    ),
    RefusalRule::policy(
        &["invalid_request", "invalid_grant"],
        &[],
        "Zoom does not accept the account id of service principal {principal}",
        "write the Account ID of App Credentials (marketplace.zoom.us > Manage > the app) as account_id; it is not the account number and not the client id",
    ),
];

/// Asks for a token.
///
/// # Errors
/// Returns the failure of the secret's locator or of the call, or what the refusal means.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let secret = context.secret_text("secret").await?;
    let url = context.endpoint("token_url", TOKEN_URL)?;
    let account = context.text("account_id")?;
    let form =
        vec![("grant_type", Secret::new("account_credentials".to_string())), ("account_id", Secret::new(account.to_string()))];
    let basic = Some((context.text("client_id")?.to_string(), secret));
    let request = TokenRequest { url, form, headers: Vec::new(), basic };
    let issued = context.request_token(request).await.map_err(|reason| context.no_token(VENDOR, REFUSALS, reason))?;
    let mut fetched = token_credential(issued, &[("account_id", account)], TOKEN_LIFETIME);
    // [V] Zoom issues a token only if the app belongs to the account of the request; `aid` is the claim of its tokens [R].
    let confirmed = [("aid".to_string(), account.to_string())].into();
    fetched.value.credential = fetched.value.credential.with_confirmed(confirmed);
    Ok(fetched)
}
