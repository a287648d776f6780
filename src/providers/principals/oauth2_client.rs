//! `kind: oauth2_client`: the client credentials of any OAuth 2 server (RFC 6749, section 4.4; RFC 7523 for a private key), or a
//! refresh token that the server does not replace (section 6), such as that of an integration user of Workday.

use super::issued::token_credential;
use super::refusal::RefusalRule;
use super::servicenow;
use super::token_request::{IssuedToken, NoToken, TokenRefusal, TokenRequest};
use super::{MintContext, Minted};
use crate::credentials::Secret;
use crate::credentials::jwt::{self, JwtAlgorithm};
use crate::model::{Class, Failure};
use crate::providers::cache::Fetched;
use serde_json::Map;
use std::time::Duration;

/// How long an assertion is valid. It is used at once.
pub const ASSERTION_LIFETIME: Duration = Duration::from_secs(120);

/// How long a token is used whose end the server does not name. It is short, because the end is not known.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The value of `client_assertion_type` (RFC 7523, section 2.2).
pub const JWT_BEARER_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The errors of RFC 6749 (section 5.2), RFC 8707 and RFC 8628. `{proof}` is what the client proves itself with.
pub const OAUTH_REFUSALS: &[RefusalRule] = &[
    RefusalRule::clock(&["invalid_client"], &[], "{host} does not accept the client {client_id} with {proof}", "{proof_fix}"),
    RefusalRule::clock(
        &["invalid_grant"],
        &[],
        "{host} does not accept the grant of the service principal {principal}",
        "check at {host} that the client {client_id} exists and is active, that its key is not revoked, and that issuer, subject \
         and audience are those that it expects",
    ),
    RefusalRule::permission(
        &["unauthorized_client"],
        &[],
        "{host} does not allow the client {client_id} to use the grant client_credentials",
        "allow the grant type client_credentials for the client {client_id} at {host}, then aam heal",
    ),
    RefusalRule::permission(
        &["invalid_scope"],
        &[],
        "{host} does not grant the scopes {scopes} to the client {client_id}",
        "allow these scopes for the client at {host}, or write those that it has: credentials.principals.{principal}.scopes",
    ),
    RefusalRule::permission(
        &["access_denied"],
        &[],
        "{host} denies access to the client {client_id}",
        "ask an administrator of {host} which rule refuses the client, then aam heal",
    ),
    RefusalRule::policy(
        &["invalid_target"],
        &[],
        "{host} does not know the resource for which the service principal {principal} asks",
        "correct credentials.principals.{principal}.resource in the policy",
    ),
    RefusalRule::policy(
        &["unsupported_grant_type"],
        &[],
        "{host} does not offer the grant client_credentials at this address",
        "check credentials.principals.{principal}.token_url in the policy, and that the server offers this grant",
    ),
    RefusalRule {
        clock: true,
        ..RefusalRule::policy(
            &["invalid_request"],
            &[],
            "{host} does not accept the form of the token request of the service principal {principal}",
            "read the server's text in the detail; often resource, audience or scopes are missing in credentials.principals.{principal}",
        )
    },
    RefusalRule {
        class: Class::Throttled,
        ..RefusalRule::new(
            &["slow_down"],
            &[],
            "{host} asks for fewer token requests",
            "no action is required: AAM tries again after a pause",
        )
    },
    RefusalRule {
        class: Class::Remote,
        ..RefusalRule::new(
            &["temporarily_unavailable", "server_error"],
            &[],
            "{host} cannot issue tokens at the moment",
            "no action is required: AAM tries again",
        )
    },
];

/// What `invalid_grant` means for a stored refresh token.
const REFRESH_REFUSALS: &[RefusalRule] = &[RefusalRule::new(
    &["invalid_grant"],
    &[],
    "{host} does not accept the refresh token of the service principal {principal}",
    "it has ended, was revoked, or was issued to another client than {client_id}: issue a new one for the integration user, and \
     store it where credentials.principals.{principal}.refresh_token says",
)];

/// Token types that are bound to a key of the client, so that the token alone is of no use (RFC 9449, RFC 6749).
const BOUND_TYPES: [&str; 3] = ["dpop", "pop", "mac"];

pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let auth = auth(context);
    let stored = context.principal.locator("refresh_token").is_some();
    let grant = if stored { "refresh_token" } else { "client_credentials" };
    let mut request = TokenRequest::new(context.endpoint("token_url", "")?, grant);
    let refresh_token = if stored { Some(context.secret_text("refresh_token").await?) } else { None };
    if let Some(refresh_token) = &refresh_token {
        request.add_secret("refresh_token", refresh_token.clone());
    }
    let client_id = context.text("client_id")?;
    match auth {
        "private_key_jwt" => {
            request.add("client_id", client_id);
            request.add("client_assertion_type", JWT_BEARER_ASSERTION);
            request.add_secret("client_assertion", assertion(context, client_id).await?);
        }
        "client_secret_post" => {
            request.add("client_id", client_id);
            request.add_secret("client_secret", context.secret_text("secret").await?);
        }
        _ => request.basic = Some((client_id.to_string(), context.secret_text("secret").await?)),
    }
    // A refresh token has the scopes that it was issued with, unless the policy wants fewer.
    let scopes = if stored { context.principal.list("scopes").unwrap_or_default().to_vec() } else { context.scopes() };
    if !scopes.is_empty() {
        request.add("scope", &scopes.join(" "));
    }
    // The audience of the policy is that of the assertion if there is one. Without one it can only be the parameter.
    let audience = context.principal.text("audience").filter(|_| auth != "private_key_jwt");
    let resource = context.principal.text("resource");
    // RFC 8707 calls the parameter resource; Auth0 and others call it audience. A server ignores the one it does not know.
    if let Some(resource) = resource {
        request.add("resource", resource);
    }
    if let Some(audience) = audience.or(resource) {
        request.add("audience", audience);
    }
    match context.request_token(request).await {
        Ok(token) => {
            unbound(context, &token)?;
            if let Some(used) = &refresh_token {
                not_replaced(context, &token, used)?;
            }
            Ok(token_credential(token, &[], DEFAULT_LIFETIME))
        }
        Err(NoToken::Failed(failure)) => Err(failure),
        Err(NoToken::Refused(refusal)) => Err(refused(context, auth, &refusal)),
    }
}

/// How the client proves itself: as the policy says, otherwise by what it has.
fn auth<'p>(context: &MintContext<'p>) -> &'p str {
    let by_secret = if context.principal.locator("key").is_some() { "private_key_jwt" } else { "client_secret_basic" };
    context.principal.text("auth").unwrap_or(by_secret)
}

/// The signed assertion of the client (RFC 7523, section 3).
async fn assertion(context: &MintContext<'_>, client_id: &str) -> Result<Secret, Failure> {
    let key = context.private_key("key").await?;
    let audience = context.principal.text("audience").map_or_else(|| context.text("token_url"), Ok)?;
    let mut header = Map::new();
    if let Some(key_id) = context.principal.text("key_id").or(key.key_id()) {
        header.insert("kid".to_string(), key_id.into());
    }
    let claims = jwt::assertion_claims(client_id, client_id, audience, context.providers.clock.now(), ASSERTION_LIFETIME);
    let algorithm = context.principal.text("algorithm").and_then(JwtAlgorithm::parse);
    jwt::sign(&key, algorithm, header, &claims).map_err(|unusable| context.unusable_key("key", &unusable))
}

/// Checks that the token can be used without a proof of possession.
fn unbound(context: &MintContext<'_>, token: &IssuedToken) -> Result<(), Failure> {
    if !BOUND_TYPES.iter().any(|bound| token.token_type.eq_ignore_ascii_case(bound)) {
        return Ok(());
    }
    let host = host(context);
    Err(Failure::new(
        Class::Unsupported,
        format!("{host} issues tokens of the type {}, which only their owner's key can use", token.token_type.to_uppercase()),
        format!(
            "let {host} issue bearer tokens to the client {}; for Okta, write kind: okta",
            context.principal.text("client_id").unwrap_or_default()
        ),
    ))
}

/// Checks that the server did not replace the refresh token: the stored one would not work again.
fn not_replaced(context: &MintContext<'_>, token: &IssuedToken, used: &Secret) -> Result<(), Failure> {
    let named = token.fields.get("refresh_token").and_then(serde_json::Value::as_str);
    if named.is_none_or(|named| named == used.expose()) {
        return Ok(());
    }
    let title = format!("{} replaces the refresh token of the service principal {} at each use", host(context), context.name);
    let fix = "use a consent (consent:NAME), which stores each new refresh token; or let the server issue one that stays valid";
    Err(Failure::new(Class::Unsupported, title, fix))
}

fn refused(context: &MintContext<'_>, auth: &str, refusal: &TokenRefusal) -> Failure {
    let host = host(context);
    let (proof, proof_fix) = match auth {
        "private_key_jwt" => {
            let audience = context.principal.text("audience").or(context.principal.text("token_url")).unwrap_or_default();
            let fix = format!(
                "check client_id, register the public key that belongs to {} for the client at {}{}, and check that it expects \
                 the audience {audience}; otherwise write audience in credentials.principals.{}",
                context.stored("key"),
                host,
                context.principal.text("key_id").map(|kid| format!(" with the key id {kid}")).unwrap_or_default(),
                context.name,
            );
            ("the key of the policy (private_key_jwt)".to_string(), fix)
        }
        _ => {
            let other = if auth == "client_secret_post" { "client_secret_basic" } else { "client_secret_post" };
            let fix = format!(
                "check client_id, and store a secret that is valid at {} as {}; if both are right, the server may want \
                 auth: {other} in credentials.principals.{}",
                host,
                context.stored("secret"),
                context.name,
            );
            (format!("the secret of the policy ({auth})"), fix)
        }
    };
    let values = [("host", host.clone()), ("scopes", context.scopes().join(" ")), ("proof", proof), ("proof_fix", proof_fix)];
    let mut refusal = refusal.clone();
    if auth != "private_key_jwt" {
        // A secret does not depend on the time.
        refusal.server_date = None;
    }
    let unnamed = refusal.error.is_empty() && refusal.status == 401;
    if unnamed {
        refusal.error = "invalid_client".to_string();
    }
    if refusal.error.is_empty() && matches!(refusal.status, 404 | 405 | 410) {
        let title = format!("{host} answers {} to the token request of the service principal {}", refusal.status, context.name);
        let fix = format!("correct credentials.principals.{}.token_url in the policy", context.name);
        return Failure::new(Class::NotFound, title, fix).detail(refusal.description);
    }
    let own = context.endpoint("token_url", "").ok().and_then(|endpoint| servicenow::refusals(&endpoint, &refusal));
    let is_stored = context.principal.locator("refresh_token").is_some() && refusal.error == "invalid_grant";
    let rules = if is_stored { REFRESH_REFUSALS } else { own.unwrap_or(OAUTH_REFUSALS) };
    let failure = context.refusals_with(host.clone(), rules, &values).failure(&context.refusal(&refusal));
    match (unnamed, refusal.description.as_str()) {
        (false, _) => failure,
        // The code stands for the status, and the endpoint did not say it.
        (true, "") => failure.detail(format!("{host} answered HTTP 401 without a reason")),
        (true, said) => failure.detail(format!("{host} answered HTTP 401: \"{said}\"")),
    }
}

/// The host of the token endpoint, with its port if it is not the usual one.
fn host(context: &MintContext<'_>) -> String {
    let Ok(url) = context.endpoint("token_url", "") else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
}
