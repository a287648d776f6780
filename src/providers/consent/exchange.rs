//! Requests to the token endpoint of a consent: the exchange of a code, a refresh, and what the responses mean.

use super::format::ClientAuth;
use super::scopes;
use super::settings::ConsentSettings;
use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Failure, Timestamp};
use crate::providers::principals::token_request::{IssuedToken, NoToken, TokenRefusal, TokenRequest};
use crate::providers::{CredentialRequest, Endpoint, Providers};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// How long an access token is used if the endpoint does not say when it ends.
const DEFAULT_TOKEN_VALIDITY: Duration = Duration::from_secs(600);

/// The tokens of a response.
pub struct Tokens {
    pub access: Secret,
    /// How long the access token is valid from the beginning of the request on. `None` if it has no end.
    pub valid_for: Option<Duration>,
    pub refresh: Option<Secret>,
    /// When the refresh token ends, if the response says so.
    pub refresh_ends: Option<Timestamp>,
    /// The granted scopes, if the response names them.
    pub scopes: Option<Vec<String>>,
    pub id_token: Option<Secret>,
}

/// Why there are no tokens.
pub struct NoTokens {
    pub reason: NoToken,
    /// Whether the request may have arrived although its response was lost.
    pub lost: bool,
}

/// The client, as the policy describes it.
pub struct Client<'a> {
    pub providers: &'a Providers,
    pub request: &'a CredentialRequest,
    pub settings: &'a ConsentSettings,
    secret: Option<Secret>,
}

impl<'a> Client<'a> {
    /// Resolves the secret of the client.
    ///
    /// # Errors
    /// Returns the failure of its locator.
    pub async fn new(
        providers: &'a Providers,
        request: &'a CredentialRequest,
        settings: &'a ConsentSettings,
    ) -> Result<Client<'a>, Failure> {
        let secret = match &settings.policy.client_secret {
            Some(locator) => {
                let provided = providers.provide_setting(request, locator).await?;
                Some(plain(&provided.credential, &["client_secret"]).ok_or_else(|| {
                    Failure::new(
                        Class::CredentialMissing,
                        format!("{locator} has no client_secret for consent:{}", settings.name),
                        "store the secret of the OAuth client there, as text or as the field client_secret",
                    )
                })?)
            }
            None => None,
        };
        Ok(Client { providers, request, settings, secret })
    }

    /// Returns the ways to authenticate that are tried, in order: the one of the policy, or both.
    pub fn ways(&self) -> &'static [ClientAuth] {
        match (&self.secret, self.settings.policy.auth.as_deref()) {
            (None, _) => &[ClientAuth::None],
            (Some(_), Some("client_secret_post")) => &[ClientAuth::ClientSecretPost],
            (Some(_), Some(_)) => &[ClientAuth::ClientSecretBasic],
            (Some(_), None) => &[ClientAuth::ClientSecretBasic, ClientAuth::ClientSecretPost],
        }
    }

    /// Exchanges a code. If the endpoint rejects the way in which the client authenticates, and not the code, the other way
    /// is tried. Returns the tokens and the way that worked.
    ///
    /// # Errors
    /// Returns [`NoTokens`].
    pub async fn exchange(&self, code: &Secret, verifier: &str) -> Result<(Tokens, ClientAuth), NoTokens> {
        let text = |text: &str| Secret::new(text.to_string());
        let mut form = vec![
            ("grant_type", text("authorization_code")),
            ("code", code.clone()),
            ("redirect_uri", text(&self.settings.policy.redirect)),
        ];
        if self.settings.terms.pkce {
            form.push(("code_verifier", text(verifier)));
        }
        let mut rejected = None;
        for way in self.ways() {
            match self.send(&form, *way).await {
                Ok(tokens) => return Ok((tokens, *way)),
                Err(NoTokens { reason: NoToken::Refused(refusal), lost: false }) if rejects_client(&refusal) => {
                    // The first refusal is the one of the way that every server has to support.
                    rejected.get_or_insert(refusal);
                }
                Err(other) => return Err(other),
            }
        }
        let refusal = rejected.unwrap_or_else(no_way);
        Err(NoTokens { reason: NoToken::Refused(refusal), lost: false })
    }

    /// Uses a refresh token, once.
    ///
    /// # Errors
    /// Returns [`NoTokens`].
    pub async fn refresh(&self, token: &Secret, auth: ClientAuth) -> Result<Tokens, NoTokens> {
        let form = [("grant_type", Secret::new("refresh_token".to_string())), ("refresh_token", token.clone())];
        let way = if self.ways().contains(&auth) { auth } else { self.ways().first().copied().unwrap_or(ClientAuth::None) };
        self.send(&form, way).await
    }

    async fn send(&self, form: &[(&'static str, Secret)], way: ClientAuth) -> Result<Tokens, NoTokens> {
        let started = self.providers.clock.now();
        let request = self.token_request(&self.settings.terms.token_url, form, way);
        let posts = request.posts(format!("credentials.consents.{}", self.settings.name));
        let origin = request.url.origin().ascii_serialization();
        let session = self.providers.session(self.request, Endpoint::Tokens, &origin, posts);
        match request.send(&session).await {
            Ok(issued) => Ok(tokens(&issued, started)),
            Err(reason) => {
                // With a response of 200 that contains no token, the refresh token or code may have been used nevertheless.
                let unusable = matches!(&reason, NoToken::Refused(refusal) if refusal.status == 200 && refusal.error.is_empty());
                Err(NoTokens { reason, lost: session.lost_response() || unusable })
            }
        }
    }

    /// Creates a request with the authentication of the client.
    #[must_use]
    pub fn token_request(&self, url: &Url, form: &[(&'static str, Secret)], way: ClientAuth) -> TokenRequest {
        let id = &self.settings.policy.client_id;
        let mut form = form.to_vec();
        let mut basic = None;
        match (way, &self.secret) {
            (ClientAuth::ClientSecretBasic, Some(secret)) => basic = Some((id.clone(), secret.clone())),
            (ClientAuth::ClientSecretPost, Some(secret)) => {
                form.push(("client_id", Secret::new(id.clone())));
                form.push(("client_secret", secret.clone()));
            }
            _ => form.push(("client_id", Secret::new(id.clone()))),
        }
        TokenRequest { url: url.clone(), form, headers: Vec::new(), basic }
    }

    /// Returns the failure for a response or a call without tokens, unless the grant itself was refused.
    #[must_use]
    pub fn failure(&self, reason: NoToken) -> Failure {
        match reason {
            NoToken::Failed(failure) => failure,
            NoToken::Refused(refusal) => self.refused(&refusal),
        }
    }

    fn refused(&self, refusal: &TokenRefusal) -> Failure {
        let name = &self.settings.name;
        let host = self.settings.terms.token_url.host_str().unwrap_or_default();
        let detail = quoted(refusal);
        let failure = match (refusal.status, refusal.error.as_str()) {
            _ if rejects_client(refusal) => Failure::new(
                Class::CredentialMissing,
                format!("the token endpoint {host} rejects the OAuth client of consent:{name}"),
                format!(
                    "compare client_id and client_secret of credentials.consents.{name} with the OAuth client at the vendor; a secret that ended has to be replaced there"
                ),
            ),
            (500.., _) | (_, "temporarily_unavailable" | "server_error") => Failure::new(
                Class::Remote,
                format!("the token endpoint {host} failed with {}", refusal.status),
                "AAM tries again; if it lasts, see the status page of the vendor",
            ),
            (404 | 405, _) => Failure::new(
                Class::CredentialMissing,
                format!("{} is not a token endpoint: it answered {}", self.settings.terms.token_url, refusal.status),
                format!("correct token_url or values of credentials.consents.{name} in the policy"),
            ),
            _ => Failure::new(
                Class::CredentialMissing,
                format!("the token endpoint {host} refused the request of consent:{name} with {}", refusal.status),
                "see the detail for the reason of the vendor; most often the OAuth client is not set up for this flow",
            ),
        };
        failure.detail(detail)
    }
}

/// The vendor's own text, marked as such.
#[must_use]
pub fn quoted(refusal: &TokenRefusal) -> String {
    match (refusal.error.as_str(), refusal.description.as_str()) {
        ("", "") => format!("status {}, without a reason", refusal.status),
        (error, "") => format!("the vendor says: {error:?}"),
        ("", description) => format!("the vendor says: {description:?}"),
        (error, description) => format!("the vendor says: {error:?}, {description:?}"),
    }
}

/// Whether the refusal is about the code or the refresh token: only a new consent helps.
#[must_use]
pub fn ends_grant(refusal: &TokenRefusal) -> bool {
    matches!(
        refusal.error.as_str(),
        // RFC 6749, section 5.2; the others are those of OpenID Connect Core, section 3.1.2.6, Slack and GitHub.
        "invalid_grant"
            | "interaction_required"
            | "login_required"
            | "consent_required"
            | "invalid_refresh_token"
            | "token_expired"
            | "token_revoked"
            | "bad_refresh_token"
            | "bad_verification_code"
            | "invalid_code"
            | "code_already_used"
    )
}

/// Whether the refusal is about the client and not about the code or the token.
fn rejects_client(refusal: &TokenRefusal) -> bool {
    let named = matches!(
        refusal.error.as_str(),
        "invalid_client" | "unauthorized_client" | "incorrect_client_credentials" | "bad_client_secret" | "invalid_client_id"
    );
    named || refusal.status == 401 && !ends_grant(refusal)
}

fn no_way() -> TokenRefusal {
    TokenRefusal {
        status: 0,
        error: "invalid_client".to_string(),
        description: String::new(),
        dpop_nonce: None,
        server_date: None,
    }
}

/// Returns the plain value, or that of the first of `names`.
#[must_use]
pub fn plain(credential: &Credential, names: &[&str]) -> Option<Secret> {
    credential.plain().or_else(|| credential.any(names)).map(|secret| Secret::new(secret.expose().trim().to_string()))
}

fn tokens(issued: &IssuedToken, started: Timestamp) -> Tokens {
    let text = |name: &str| issued.fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let refresh = text("refresh_token").map(|token| Secret::new(token.to_string()));
    let id_token = text("id_token").map(|token| Secret::new(token.to_string()));
    for secret in [&refresh, &id_token].into_iter().flatten() {
        redact::learn_value(secret.expose());
    }
    let scopes = match issued.fields.get("scope") {
        Some(Value::Array(items)) => Some(items.iter().filter_map(|item| item.as_str().map(str::to_string)).collect()),
        _ => issued.scope.as_deref().map(scopes::split),
    };
    // A vendor that issues a refresh token ends its access tokens, even if it does not say when, as Salesforce.
    let valid_for = issued.valid_for.filter(|valid| !valid.is_zero());
    let valid_for = valid_for.or_else(|| refresh.as_ref().map(|_| DEFAULT_TOKEN_VALIDITY));
    let refresh_ends = refresh_seconds(&issued.fields).map(|seconds| started.plus(Duration::from_secs(seconds)));
    Tokens { access: issued.access_token.clone(), valid_for, refresh, refresh_ends, scopes, id_token }
}

/// The keys in which vendors say how long the refresh token is valid: Microsoft, GitHub, GitLab and Okta; Intuit; Keycloak.
const REFRESH_VALIDITY_KEYS: [&str; 4] =
    ["refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in", "refresh_token_validity"];

/// Returns the seconds for which the refresh token is valid. Zero means that it has no end (Keycloak's offline tokens).
fn refresh_seconds(fields: &serde_json::Map<String, Value>) -> Option<u64> {
    let seconds = REFRESH_VALIDITY_KEYS.iter().find_map(|key| match fields.get(*key)? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64(),
    })?;
    (seconds > 0).then_some(seconds)
}
