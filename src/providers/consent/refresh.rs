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
//! If the process ends between 2 and 4, the store says that the token was sent, and it is not known whether the vendor got it.
//! It is sent again only if that does no harm: if the vendor is known to keep refresh tokens valid after their use.
//! Otherwise the grant is given up and a new link is made.

use super::exchange::{Client, NoTokens, Tokens, ends_grant, quoted};
use super::format::Reason;
use super::format::{GrantFacts, GrantToken, StoreContent, StoredGrant};
use super::keys::StoreKeys;
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

/// Why a grant was not written.
enum NotWritten {
    /// It was revoked or given again.
    Replaced,
    Failed(StoreError),
}

/// The grant in the store.
struct CurrentGrant {
    facts: GrantFacts,
    token: GrantToken,
    /// Whether the vendor accepts a refresh token that may have been used.
    may_be_sent_again: bool,
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
        let current = refresh.current().await?;
        let token = match current.token {
            GrantToken::Access(token) => return Ok(Fetched { value: token, valid_for: None }),
            GrantToken::Refresh(token) => token,
        };
        if refused.as_ref().is_some_and(|(sent, _)| *sent == token) {
            break;
        }
        if let Some(at) = current.facts.sent.filter(|_| !current.may_be_sent_again) {
            return Err(refresh.give_up(Reason::Lost(at)).await);
        }
        let (facts, spare) = refresh.mark(current.facts, &token).await?;
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
                    let unsent = GrantFacts { sent: None, ..facts };
                    refresh.write_or_keep(unsent, GrantToken::Refresh(token), spare, locked).await?;
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
        let unsaved = lock(&self.provider.unsaved).remove(&connection);
        let Some(Unsaved { facts, token, lock: held }) = unsaved else {
            return self.store.lock_grant(connection).await.map_err(|error| error.failure());
        };
        match self.write(facts.clone(), token.clone(), None).await {
            Ok(()) | Err(NotWritten::Replaced) => Ok(held),
            Err(NotWritten::Failed(error)) => {
                lock(&self.provider.unsaved).insert(connection, Unsaved { facts, token, lock: held });
                Err(error.failure())
            }
        }
    }

    /// Reads the grant from the file.
    async fn current(&self) -> Result<CurrentGrant, Failure> {
        let content = self.store.read_file().map_err(|error| error.failure())?;
        let name = &self.settings.name;
        let Some((content, grant)) =
            content.as_ref().and_then(|content| Some((content, content.grant(self.request.connection, name)?)))
        else {
            return Err(self.ask(None).await);
        };
        if !content.fits(&self.keys) {
            return Err(StoreError::WrongKey { path: self.store.path().to_path_buf() }.failure());
        }
        let Some(token) = grant.token(&self.keys) else { return Err(self.ask(Some(Reason::Damaged)).await) };
        redact::learn_value(token.secret().expose());
        let may_be_sent_again = self.settings.terms.resend || content.keeps_refresh_tokens(&grant.facts);
        Ok(CurrentGrant { facts: grant.facts.clone(), token, may_be_sent_again })
    }

    /// Stores that the token is about to be sent, and reserves the space for the response.
    async fn mark(&self, facts: GrantFacts, token: &Secret) -> Result<(GrantFacts, PathBuf), Failure> {
        let spare = self.store.reserve(self.request.connection).await.map_err(|error| error.failure())?;
        let facts = GrantFacts { sent: Some(self.providers.clock.now()), version: facts.version + 1, ..facts };
        let written = self.write(facts.clone(), GrantToken::Refresh(token.clone()), None).await;
        written.map_err(|reason| self.not_written(&reason))?;
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
        self.write_or_keep(next, token, spare, locked).await?;
        fault::boundary("consent_before_use");
        Ok(Fetched { value: tokens.access, valid_for: tokens.valid_for })
    }

    /// Writes a grant. If the store cannot be written, the grant is kept in memory, under its lock, until it can.
    async fn write_or_keep(
        &self,
        facts: GrantFacts,
        token: GrantToken,
        spare: PathBuf,
        locked: GrantLock,
    ) -> Result<(), Failure> {
        match self.write(facts.clone(), token.clone(), Some(spare)).await {
            Err(NotWritten::Failed(error)) => {
                tracing::error!(target: "aam::consent", connection = %self.request.connection, consent = %self.settings.name, "{error}; the refresh token is kept in memory until it can be written");
                lock(&self.provider.unsaved).insert(self.request.connection, Unsaved { facts, token, lock: locked });
                Err(error.failure())
            }
            result => result.map_err(|reason| self.not_written(&reason)),
        }
    }

    /// Writes a grant, unless another one took its place meanwhile.
    async fn write(&self, facts: GrantFacts, token: GrantToken, spare: Option<PathBuf>) -> Result<(), NotWritten> {
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
            Ok(false) => Err(NotWritten::Replaced),
            Err(error) => Err(NotWritten::Failed(error)),
        }
    }

    fn not_written(&self, reason: &NotWritten) -> Failure {
        match reason {
            NotWritten::Replaced => Failure::new(
                Class::Interrupted,
                format!("the grant of consent:{} was revoked or given again during its refresh", self.settings.name),
                "AAM tries again",
            ),
            NotWritten::Failed(error) => error.failure(),
        }
    }

    /// Removes the grant and returns the failure with a new link.
    async fn give_up(&self, reason: Reason) -> Failure {
        let (connection, name) = (self.request.connection, self.settings.name.clone());
        let remove = move |content: &mut StoreContent| content.remove_grant(connection, &name);
        if let Err(error) = self.store.remove(remove).await {
            return error.failure();
        }
        self.ask(Some(reason)).await
    }

    async fn ask(&self, reason: Option<Reason>) -> Failure {
        self.provider.ask(self.providers, self.request, self.settings, self.store, reason).await
    }
}

/// Whether refreshes move the end of the grant: the new end is later than the old one by at least half of the time that has
/// passed.
fn moves(facts: &GrantFacts, new: Option<Timestamp>, now: Timestamp) -> bool {
    let (Some(old), Some(new)) = (facts.ends, new) else { return facts.end_moves };
    new > old && new.since(old) >= now.since(facts.refreshed.unwrap_or(facts.since)) / 2
}
