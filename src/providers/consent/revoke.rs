//! What `aam consent` does: lists, links and revocation.

use super::exchange::Client;
use super::format::{ClientAuth, GrantFacts, StoreContent};
use super::links;
use super::settings::ConsentSettings;
use super::types::{GrantListing, LinkListing};
use super::{ConsentContext, ConsentProvider, fixed_end, lock, token_key};
use crate::credentials::Secret;
use crate::credentials::redact::{self, AttemptSecrets};
use crate::egress::{HttpRequest, Method};
use crate::model::{Class, ConnectionId, Failure};
use crate::policy::Policy;
use crate::providers::{CredentialRequest, Endpoint};

/// The maximum size of the response of a revocation endpoint in bytes.
const MAX_RESPONSE_BYTES: u64 = 16 << 10;

/// What the vendor did with a token that is not needed any more.
#[derive(Clone, Debug)]
pub enum RevokedAtVendor {
    Revoked,
    /// The vendor has no revocation endpoint, or the policy does not name it.
    NoEndpoint,
    /// The call failed. Holds the reason.
    Failed(Failure),
    /// The token could not be decrypted, so it could not be sent.
    Unreadable(Failure),
}

/// A grant that was revoked.
#[derive(Clone, Debug)]
pub struct RevokedGrant {
    pub consent: String,
    pub at_vendor: RevokedAtVendor,
}

impl ConsentProvider {
    /// Returns all grants, and the links that wait for consent. It needs no key, and returns no secret.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the store cannot be read.
    pub async fn list(&self, context: &ConsentContext<'_>) -> Result<(Vec<GrantListing>, Vec<LinkListing>), Failure> {
        let content = self.store(&context.policy).read().await.map_err(|error| error.failure())?;
        let now = context.providers.clock.now();
        let Some(content) = content else { return Ok(Default::default()) };
        let grants = content.grants.iter().map(|grant| grant_listing(&grant.facts)).collect();
        let open = content.links.iter().filter(|link| link.is_open(now));
        let links = open.map(|link| LinkListing {
            url: link_url(&link.facts.subject.consent, &link.id, &context.policy),
            connection: link.facts.subject.connection,
            consent: link.facts.subject.consent.clone(),
            owner: link.facts.subject.owner.clone(),
            ends: link.facts.ends,
            state: links::state(link, now),
        });
        Ok((grants, links.collect()))
    }

    /// Returns the link with which the owner of `request` gives consent. An open link is returned again.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the policy does not describe the consent, or if the store cannot be used.
    pub async fn link_for(&self, context: &ConsentContext<'_>, request: &CredentialRequest) -> Result<LinkListing, Failure> {
        AttemptSecrets::new(&[]).run(self.make_link(context, request)).await
    }

    async fn make_link(&self, context: &ConsentContext<'_>, request: &CredentialRequest) -> Result<LinkListing, Failure> {
        let crate::model::Locator::Consent(name) = &request.locator else {
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("the connection uses {}, which needs no consent", request.locator),
                "set credential_locator to consent:NAME if its owner is to give consent",
            ));
        };
        let settings = ConsentSettings::find(name, &context.policy, &request.family)?;
        let store = self.store(&context.policy);
        let keys = self.keys(context.providers, request).await?;
        let (subject, now) = (super::format::Subject::new(request, name), context.providers.clock.now());
        let link = self.link(&store, &keys, subject, None, now).await.map_err(|error| error.failure())?;
        let link = link.ok_or_else(|| {
            Failure::new(Class::CredentialMissing, "this command makes no link", "use aam consent link CONNECTION")
        })?;
        Ok(LinkListing {
            url: Some(settings.link_url(&link.id)),
            connection: request.connection,
            consent: name.clone(),
            owner: request.owner.clone(),
            ends: link.facts.ends,
            state: links::state(&link, now),
        })
    }

    /// Revokes the grants of `connection`: at the vendor where that is possible, and in the store always. Its next attempt
    /// gets a new link. Returns the grants that it had.
    ///
    /// # Errors
    /// Returns the failure of the store. Nothing was deleted then.
    pub async fn revoke(&self, context: &ConsentContext<'_>, connection: ConnectionId) -> Result<Vec<RevokedGrant>, Failure> {
        AttemptSecrets::new(&[]).run(self.revoke_all(context, connection)).await
    }

    async fn revoke_all(&self, context: &ConsentContext<'_>, connection: ConnectionId) -> Result<Vec<RevokedGrant>, Failure> {
        let store = self.store(&context.policy);
        // What could not be written is not needed any more.
        drop(lock(&self.unsaved).remove(&connection));
        // Waits for a refresh that runs, whose new refresh token would be left at the vendor otherwise.
        let _lock = store.lock_grant(connection).await.map_err(|error| error.failure())?;
        let content = store.read_again().await.map_err(|error| error.failure())?;
        let mut revoked = Vec::new();
        let of_connection = |facts: &&GrantFacts| facts.subject.connection == connection;
        let facts: Vec<GrantFacts> = content
            .iter()
            .flat_map(|content| content.grants.iter().map(|grant| &grant.facts))
            .filter(of_connection)
            .cloned()
            .collect();
        for facts in &facts {
            let at_vendor = match content.as_ref() {
                Some(content) => self.revoke_one(context, content, facts).await,
                None => RevokedAtVendor::NoEndpoint,
            };
            self.tokens.forget(&token_key(facts));
            revoked.push(RevokedGrant { consent: facts.subject.consent.clone(), at_vendor });
        }
        let now = context.providers.clock.now();
        let remove = move |content: &mut StoreContent| {
            facts.iter().for_each(|facts| content.remove_grant(connection, &facts.subject.consent));
            content.replace_links(connection, now);
        };
        store.remove(remove).await.map_err(|error| error.failure())?;
        Ok(revoked)
    }

    async fn revoke_one(&self, context: &ConsentContext<'_>, content: &StoreContent, facts: &GrantFacts) -> RevokedAtVendor {
        let subject = &facts.subject;
        let Some(request) = subject.request(context) else { return RevokedAtVendor::NoEndpoint };
        let Ok(settings) = ConsentSettings::find(&subject.consent, &context.policy, &request.family) else {
            return RevokedAtVendor::NoEndpoint;
        };
        if settings.terms.revoke_url.is_none() {
            return RevokedAtVendor::NoEndpoint;
        }
        let keys = match self.keys(context.providers, &request).await {
            Ok(keys) => keys,
            Err(failure) => return RevokedAtVendor::Unreadable(failure),
        };
        let token = content.grant(subject.connection, &subject.consent).and_then(|grant| grant.token(&keys));
        let Some(token) = token else {
            return RevokedAtVendor::Unreadable(self.store(&context.policy).wrong_key().failure());
        };
        redact::learn_value(token.secret().expose());
        let is_refresh = matches!(token, super::format::GrantToken::Refresh(_));
        match Client::new(context.providers, &request, &settings).await {
            Ok(client) => at_vendor(&client, token.secret(), is_refresh, facts.auth).await,
            Err(failure) => RevokedAtVendor::Failed(failure),
        }
    }
}

/// Revokes a token at the vendor (RFC 7009). A vendor that revokes a refresh token revokes its access tokens too.
pub async fn at_vendor(client: &Client<'_>, token: &Secret, is_refresh: bool, auth: ClientAuth) -> RevokedAtVendor {
    let Some(url) = &client.settings.terms.revoke_url else { return RevokedAtVendor::NoEndpoint };
    let hint = if is_refresh { "refresh_token" } else { "access_token" };
    let form = [("token", token.clone()), ("token_type_hint", Secret::new(hint.to_string()))];
    let request = client.token_request(url, &form, auth);
    let mut posts = request.posts(format!("credentials.consents.{}", client.settings.name));
    for rule in &mut posts.rules {
        rule.why = "gives back a token that AAM does not use any more; changes nothing else".to_string();
    }
    let origin = url.origin().ascii_serialization();
    let session = client.providers.session(client.request, Endpoint::Tokens, &origin, posts);
    let (body, headers) = request.encoded();
    let method = Method::ListedPost(Some(body));
    let post = HttpRequest { method, url: url.clone(), headers, max_bytes: MAX_RESPONSE_BYTES, follow_redirects: false };
    match session.http(post).await {
        Ok(response) if (200..300).contains(&response.status) => RevokedAtVendor::Revoked,
        Ok(response) => {
            let text = redact::scrub_and_cut(&String::from_utf8_lossy(&response.body), 300);
            let title = format!("{} answered {} to the revocation", url.host_str().unwrap_or_default(), response.status);
            let fix = "remove the access of the OAuth client in the settings of the vendor";
            RevokedAtVendor::Failed(Failure::new(Class::Remote, title, fix).detail(format!("the vendor says: {text:?}")))
        }
        Err(failure) => RevokedAtVendor::Failed(failure),
    }
}

fn grant_listing(facts: &GrantFacts) -> GrantListing {
    GrantListing {
        consent: facts.subject.consent.clone(),
        connection: facts.subject.connection,
        namespace: facts.subject.namespace.clone(),
        family: facts.subject.family.clone(),
        resource_ids: facts.subject.resource_ids.clone(),
        owner: facts.subject.owner.clone(),
        scopes: facts.scopes.clone(),
        since: facts.since,
        refreshed: facts.refreshed,
        ends: fixed_end(facts),
    }
}

/// The address of a link, whatever else the policy says about its consent.
fn link_url(consent: &str, id: &str, policy: &Policy) -> Option<String> {
    let redirect = &policy.credentials.consents.get(consent)?.redirect;
    let origin = url::Url::parse(redirect).ok()?.origin().ascii_serialization();
    Some(format!("{origin}/consent/{id}"))
}
