//! The authorization request: what the button of the page does.

use super::format::PendingSecrets;
use super::keys::random_text;
use super::links::{FoundLink, broken_store, gone};
use super::settings::ConsentSettings;
use super::{ConsentContext, ConsentProvider, LinkProblem};
use crate::credentials::redact::AttemptSecrets;
use crate::fault;
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use url::Url;

impl ConsentProvider {
    /// Starts the authorization that the link asks for, because a person clicked its button. State, nonce and PKCE verifier
    /// are on disk before this returns, so a restart between the click and the callback changes nothing. Returns the
    /// vendor's authorization URL, which contains no secret.
    ///
    /// # Errors
    /// Returns a [`LinkProblem`] if the link cannot be used any more.
    pub async fn begin(&self, context: &ConsentContext<'_>, link_id: &str) -> Result<Url, LinkProblem> {
        AttemptSecrets::new(&[]).run(self.start(context, link_id)).await
    }

    async fn start(&self, context: &ConsentContext<'_>, link_id: &str) -> Result<Url, LinkProblem> {
        let FoundLink { link, settings, store, keys, .. } = self.find_link(context, link_id).await?;
        let now = context.providers.clock.now();
        if !link.is_open(now) {
            return Err(gone(&link, now));
        }
        let random = || random_text().map_err(|error| broken_store(&error.into()));
        let state = random()?;
        let secrets = PendingSecrets { nonce: random()?, verifier: random()?, settings: settings.digest() };
        let url = authorization_url(&settings, &state, &secrets);
        let id = link.id.clone();
        let changed = store.update(&keys, move |content, keys| match content.link_mut(&id) {
            Some(link) if link.is_open(now) => link.start(keys, &state, &secrets, now).map(|()| true).map_err(Into::into),
            _ => Ok(false),
        });
        if !changed.await.map_err(|error| broken_store(&error))? {
            return Err(gone(&link, now));
        }
        fault::boundary("consent_after_begin");
        Ok(url)
    }
}

/// The URL of the authorization request (RFC 6749, section 4.1.1; RFC 7636; OpenID Connect Core, section 3.1.2.1).
fn authorization_url(settings: &ConsentSettings, state: &str, secrets: &PendingSecrets) -> Url {
    let (terms, policy) = (&settings.terms, &settings.policy);
    let scopes: Vec<&str> = settings.scopes().collect();
    let mut pairs = vec![
        ("response_type", "code".to_string()),
        ("client_id", policy.client_id.clone()),
        ("redirect_uri", policy.redirect.clone()),
        ("scope", scopes.join(&terms.separator)),
        ("state", state.to_string()),
    ];
    if terms.pkce {
        pairs.push(("code_challenge", BASE64URL_NOPAD.encode(digest(&SHA256, secrets.verifier.as_bytes()).as_ref())));
        pairs.push(("code_challenge_method", "S256".to_string()));
    }
    if settings.asks_for("openid") {
        pairs.push(("nonce", secrets.nonce.clone()));
    }
    if settings.asks_for("offline_access") && !terms.parameters.contains_key("prompt") {
        // OpenID Connect Core, section 11: without it, servers leave offline_access out.
        pairs.push(("prompt", "consent".to_string()));
    }
    let mut url = terms.authorize_url.clone();
    let mut query = url.query_pairs_mut();
    query.extend_pairs(pairs);
    query.extend_pairs(terms.parameters.iter());
    drop(query);
    url
}
