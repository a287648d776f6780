//! Tokens of another service account (IAM Service Account Credentials API, `generateAccessToken`).

use super::refusals;
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, Method};
use crate::model::{Allowed, BodyRule, Class, Failure, PostRule, Posts, Timestamp};
use crate::providers::Endpoint;
use crate::providers::cache::Fetched;
use crate::providers::principals::issued::token_credential;
use crate::providers::principals::token_request::{IssuedToken, NoToken};
use crate::providers::principals::{MintContext, Minted, token_response};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

const IAM_URL: &str = "https://iamcredentials.googleapis.com";

/// The lifetime that is asked for: the longest that needs no policy of the organization.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The maximum size of the response in bytes.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// Returns the address of the call for `account`.
///
/// # Errors
/// Returns `Misconfigured` if the address of the policy is not valid.
pub fn url(context: &MintContext<'_>, account: &str) -> Result<Url, Failure> {
    let base = context.principal.text("iam_url").unwrap_or(IAM_URL).trim_end_matches('/');
    context.url(&format!("{base}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"))
}

/// Asks for a token of `account` with `scopes`.
///
/// # Errors
/// Returns the failure of the call, or what Google's refusal means.
pub async fn mint(
    context: &MintContext<'_>,
    own: &IssuedToken,
    account: &str,
    scopes: &[String],
) -> Result<Fetched<Minted>, Failure> {
    let url = url(context, account)?;
    let origin = url.origin().ascii_serialization();
    let shape = ["scope", "lifetime"].map(|name| (name.to_string(), Allowed::Any));
    let rule = PostRule {
        url: format!("{origin}{}", url.path()),
        why: "mints a token of another service account; changes nothing".to_string(),
        query: BTreeMap::new(),
        headers: BTreeMap::new(),
        body: BodyRule::Json(shape.into_iter().collect()),
        idempotent: true,
    };
    let posts = Posts { list: format!("credentials.principals.{}", context.name), rules: vec![rule] };
    context.asked.store(true, std::sync::atomic::Ordering::Relaxed);
    let session = context.providers.session(context.request, Endpoint::Tokens, &origin, posts);
    let body = json!({"scope": scopes, "lifetime": format!("{}s", LIFETIME.as_secs())}).to_string();
    let bearer = Secret::new(format!("Bearer {}", own.access_token.expose()));
    let request = HttpRequest {
        method: Method::ListedPost(Some(Secret::new(body))),
        url,
        headers: vec![("authorization".to_string(), bearer)],
        max_bytes: MAX_RESPONSE_BYTES,
        follow_redirects: false,
    };
    let response = session.http(request).await?;
    let values = [("account", account.to_string()), ("scopes", scopes.join(" "))];
    let refused = |reason| context.no_token_with("Google", refusals::IMPERSONATION, &values, reason);
    if response.status != 200 {
        return Err(match token_response::read(&response) {
            Err(reason) => refused(reason),
            Ok(_) => refused(NoToken::Failed(unexpected(context))),
        });
    }
    let fields: Map<String, Value> = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    redact::learn_value(text("accessToken"));
    let now = context.providers.clock.now();
    // The end is a point in time, so a clock that is wrong must not make the token last longer than was asked for.
    let valid_for = Timestamp::parse(text("expireTime")).map_or(LIFETIME, |end| end.since(now).min(LIFETIME));
    if text("accessToken").is_empty() {
        return Err(unexpected(context));
    }
    let token = IssuedToken {
        access_token: Secret::new(text("accessToken").to_string()),
        token_type: "Bearer".to_string(),
        valid_for: Some(valid_for),
        scope: Some(scopes.join(" ")),
        fields: Map::new(),
    };
    let mut minted = token_credential(token, &[], LIFETIME);
    minted.value.evidence.insert("impersonates".to_string(), account.into());
    Ok(minted)
}

fn unexpected(context: &MintContext<'_>) -> Failure {
    Failure::new(
        Class::Remote,
        format!("Google answered the request for a token of the service principal {} without an accessToken", context.name),
        "check that iam_url in the policy, if it is written, is the address of the IAM Service Account Credentials API",
    )
}
