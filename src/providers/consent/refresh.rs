//! Refreshes a grant: spends its refresh token and stores the next one.
//!
//! A vendor that rotates refresh tokens accepts each of them once. If one is sent a second time, the vendor takes it for
//! stolen and ends the whole grant. So the order is this, under a lock that holds across processes:
//!
//! 1. reserve the space for what will be written
//! 2. store that the refresh token is about to be sent
//! 3. send it
//! 4. store the new refresh token, and that it was not sent
//! 5. use the access token
//!
//! If the process ends between 2 and 4, the store says that the token was sent, and nobody knows whether the vendor got it.
//! It is sent again only if that does no harm: if the vendor is known to keep refresh tokens valid after their use.
//! Otherwise the grant is given up and a new link is made.

use super::exchange::{Client, NoTokens, Tokens, ends_grant, quoted};
use super::format::{GrantFacts, GrantToken, StoreContent, StoredGrant};
use super::keys::StoreKeys;
use super::links::Reason;
use super::settings::ConsentSettings;
use super::store::{GrantLock, Store, StoreError};
use super::{ConsentProvider, lock};
use crate::credentials::{Secret, redact};
use crate::fault;
use crate::model::{Class, Failure, Timestamp};
use crate::providers::cache::Fetched;
use crate::providers::principals::token_request::NoToken;
use crate::providers::{CredentialRequest, Providers};
use std::path::PathBuf;
use std::sync::Arc;

/// A grant whose new refresh token could not be written. The lock is held until it is, so that no other process concludes
/// from the store that the token was lost.
pub struct Unsaved {
    facts: GrantFacts,
    token: GrantToken,
    lock: GrantLock,
}

/// What a refresh works with.
struct Refresh<'a> {
    provider: &'a ConsentProvider,
    providers: &'a Providers,
    request: &'a CredentialRequest,
    settings: &'a ConsentSettings,
    store: &'a Arc<Store>,
    keys: Arc<StoreKeys>,
}

/// Returns a new access token. Waits for other processes that refresh the same grant.
///
/// # Errors
/// Returns `CredentialMissing` with a link if the grant has ended, and the failures of the store and of the token endpoint.
pub async fn refresh(
    provider: &ConsentProvider,
    providers: &Providers,
    request: &CredentialRequest,
    settings: &ConsentSettings,
    store: &Arc<Store>,
) -> Result<Fetched<Secret>, Failure> {
    let keys = provider.keys(providers, request).await?;
    let client = Client::new(providers, request, settings).await?;
    let refresh = Refresh { provider, providers, request, settings, store, keys };
    let locked = refresh.lock().await?;
    // The grant in the store may have been refreshed while this waited for the lock; it is read again in each turn. The
    // second turn follows an invalid_grant if the store has another token than the one that was refused.
    let mut refused = None;
    for _ in 0..2 {
        let (facts, token) = match refresh.current().await? {
            (_, GrantToken::Access(token)) => return Ok(Fetched { value: token, valid_for: None }),
            (facts, GrantToken::Refresh(token)) => (facts, token),
        };
        if refused.as_ref().is_some_and(|(sent, _)| *sent == token) {
            break;
        }
        let (facts, spare) = refresh.mark(facts, &token).await?;
        fault::boundary("consent_before_request");
        let response = client.refresh(&token, facts.auth).await;
        fault::boundary("consent_after_response");
        match response {
            Ok(tokens) => return refresh.save(facts, tokens, &token, spare, locked).await,
            Err(NoTokens { reason: NoToken::Refused(refusal), lost: false }) if ends_grant(&refusal) => {
                refused = Some((token, quoted(&refusal)));
            }
            Err(NoTokens { reason, lost }) => {
                if !lost {
                    // The vendor did not use the token, so it can be sent again.
                    refresh.write(GrantFacts { sent: None, ..facts }, GrantToken::Refresh(token), Some(spare)).await?;
                }
                return Err(client.failure(reason));
            }
        }
    }
    let reason = refused.map_or_else(String::new, |(_, reason)| reason);
    Err(refresh.give_up(Reason::Ended(reason)).await)
}

impl Refresh<'_> {
    /// Takes the lock of the grant. If an earlier refresh could not write its result, that is done first.
    async fn lock(&self) -> Result<GrantLock, Failure> {
        let connection = self.request.connection;
        let content = self.store.read().map_err(|error| error.failure())?;
        let grant = content.as_ref().and_then(|content| content.grant(connection, &self.settings.name));
        let unsaved = grant.and_then(|grant| lock(&self.provider.unsaved).remove(&grant.facts.id));
        let Some(Unsaved { facts, token, lock: held }) = unsaved else {
            return self.store.lock_grant(connection).await.map_err(|error| error.failure());
        };
        match self.write(facts.clone(), token.clone(), None).await {
            Ok(()) => Ok(held),
            Err(failure) => {
                lock(&self.provider.unsaved).insert(facts.id.clone(), Unsaved { facts, token, lock: held });
                Err(failure)
            }
        }
    }

    /// Reads the grant from the file.
    async fn current(&self) -> Result<(GrantFacts, GrantToken), Failure> {
        let content = self.store.read_file().map_err(|error| error.failure())?;
        let name = &self.settings.name;
        let Some((content, grant)) =
            content.as_ref().and_then(|content| Some((content, content.grant(self.request.connection, name)?)))
        else {
            return Err(self.ask(Reason::Never).await);
        };
        if !content.fits(&self.keys) {
            return Err(StoreError::WrongKey { path: self.store.path().to_path_buf() }.failure());
        }
        let Some(token) = grant.token(&self.keys) else { return Err(self.ask(Reason::Damaged).await) };
        redact::learn_value(token.secret().expose());
        let harmless = self.settings.terms.resend || content.keeps_refresh_tokens(&grant.facts);
        match grant.facts.sent {
            Some(at) if !harmless => Err(self.give_up(Reason::Lost(at)).await),
            _ => Ok((grant.facts.clone(), token)),
        }
    }

    /// Stores that the token is about to be sent, and reserves the space for the response.
    async fn mark(&self, facts: GrantFacts, token: &Secret) -> Result<(GrantFacts, PathBuf), Failure> {
        let spare = self.store.reserve(self.request.connection).await.map_err(|error| error.failure())?;
        let facts = GrantFacts { sent: Some(self.providers.clock.now()), version: facts.version + 1, ..facts };
        self.write(facts.clone(), GrantToken::Refresh(token.clone()), None).await?;
        Ok((facts, spare))
    }

    /// Stores the new refresh token before the access token is used.
    async fn save(
        &self,
        facts: GrantFacts,
        tokens: Tokens,
        sent: &Secret,
        spare: PathBuf,
        locked: GrantLock,
    ) -> Result<Fetched<Secret>, Failure> {
        let now = self.providers.clock.now();
        let rotated = tokens.refresh.as_ref().is_some_and(|token| token != sent);
        let ends = tokens.refresh_ends.or(facts.ends);
        let next = GrantFacts {
            version: facts.version + 1,
            scopes: tokens.scopes.clone().unwrap_or_else(|| facts.scopes.clone()),
            refreshed: Some(now),
            end_moves: moves(&facts, tokens.refresh_ends, now),
            ends,
            rotates: Some(rotated || facts.rotates == Some(true)),
            sent: None,
            ..facts
        };
        let token = GrantToken::Refresh(tokens.refresh.clone().unwrap_or_else(|| sent.clone()));
        if let Err(failure) = self.write(next.clone(), token.clone(), Some(spare)).await {
            tracing::error!(target: "aam::consent", connection = %self.request.connection, consent = %self.settings.name, "{}; the new refresh token is kept in memory until it can be written", failure.title);
            let unsaved = Unsaved { facts: next.clone(), token, lock: locked };
            lock(&self.provider.unsaved).insert(next.id, unsaved);
            return Err(failure);
        }
        fault::boundary("consent_before_use");
        Ok(Fetched { value: tokens.access, valid_for: tokens.valid_for })
    }

    /// Writes a grant, unless another one took its place meanwhile.
    async fn write(&self, facts: GrantFacts, token: GrantToken, spare: Option<PathBuf>) -> Result<(), Failure> {
        let write = move |content: &mut StoreContent, keys: &StoreKeys| {
            let subject = &facts.subject;
            let same = content.grant(subject.connection, &subject.consent).is_some_and(|grant| grant.facts.id == facts.id);
            if same {
                content.put_grant(StoredGrant::new(keys, facts, &token)?);
            }
            Ok(same)
        };
        match self.store.update_from(&self.keys, spare, write).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(
                Class::Interrupted,
                format!("the grant of consent:{} was revoked or given again during its refresh", self.settings.name),
                "AAM tries again",
            )),
            Err(error) => Err(error.failure()),
        }
    }

    /// Removes the grant and returns the failure with a new link.
    async fn give_up(&self, reason: Reason) -> Failure {
        let (connection, name) = (self.request.connection, self.settings.name.clone());
        let remove = move |content: &mut StoreContent| {
            let has = content.grant(connection, &name).is_some();
            content.remove_grant(connection, &name);
            has
        };
        if let Err(error) = self.store.remove(remove).await {
            return error.failure();
        }
        self.ask(reason).await
    }

    async fn ask(&self, reason: Reason) -> Failure {
        self.provider.ask(self.providers, self.request, self.settings, self.store, reason).await
    }
}

/// Whether refreshes move the end of the grant: the new end is later than the old one by at least half of the time that has
/// passed.
fn moves(facts: &GrantFacts, new: Option<Timestamp>, now: Timestamp) -> bool {
    let (Some(old), Some(new)) = (facts.ends, new) else { return facts.end_moves };
    new > old && new.since(old) >= now.since(facts.refreshed.unwrap_or(facts.since)) / 2
}
