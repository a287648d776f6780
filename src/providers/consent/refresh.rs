//! Refreshes a grant: spends its refresh token and stores the next one.
//!
//! A vendor that rotates refresh tokens accepts each of them once. If one is sent a second time, the vendor takes it for
//! stolen and ends the whole grant. So the order is this, under a lock that holds across processes:
//!
//! 1. reserve the space for what will be written, in a file
//! 2. store that the refresh token is about to be sent
//! 3. send it
//! 4. store the new refresh token, and that it was not sent
//! 5. use the access token
//!
//! If the process ends between 2 and 4, the store says that the token was sent, and it is not known whether the vendor got it.
//! It is sent again only if that does no harm: if the vendor is known to keep refresh tokens valid after their use.
//! Otherwise the grant is given up and a new link is made.
//!
//! The lock of a file lasts as long as its process. The lock in a database ends two minutes after its holder was stopped or cut off,
//! so it does not prove anything: every write compares the version in the store with the one that it continues. Of two processes that
//! read the same grant, one can say that it is about to send the token, and the other one sends nothing.

use super::access::AccessToken;
use super::exchange::{Client, NoTokens, Tokens, ends_grant, quoted};
use super::format::Reason;
use super::format::{GrantFacts, GrantToken, StoreContent, StoredGrant};
use super::keys::StoreKeys;
use super::settings::ConsentSettings;
use super::store::{GrantLock, Store, StoreError};
use super::{ConsentProvider, is_due, lock, token_key};
use crate::credentials::{Secret, redact};
use crate::fault;
use crate::model::{Class, ConnectionId, Failure, Timestamp};
use crate::providers::cache::Fetched;
use crate::providers::principals::token_request::NoToken;
use crate::providers::{CredentialRequest, Providers, Reading};
use std::path::PathBuf;
use std::sync::Arc;

/// A grant that could not be written. The lock is held until it is, so that no other process concludes from the store that the
/// token was lost.
pub struct Unsaved {
    grant: NewGrant,
    store: Arc<Store>,
    keys: Arc<StoreKeys>,
    lock: GrantLock,
}

/// What a grant becomes.
#[derive(Clone)]
struct NewGrant {
    /// With the version that follows the one in the store.
    facts: GrantFacts,
    token: GrantToken,
    access: Option<AccessToken>,
}

/// Why a grant was not written.
enum NotWritten {
    /// It was revoked or given again, or another process continued it.
    Replaced,
    Failed(StoreError),
}

/// The grant in the store.
struct CurrentGrant {
    facts: GrantFacts,
    token: GrantToken,
    /// The access token that another replica stored.
    access: Option<AccessToken>,
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
    let mut refused: Option<(Secret, String, GrantFacts)> = None;
    for _ in 0..2 {
        let current = refresh.current().await?;
        if let Some(fetched) = refresh.of_another(&current).filter(|_| refused.is_none()) {
            return Ok(fetched);
        }
        let token = match current.token {
            GrantToken::Access(token) => return Ok(Fetched { value: token, valid_for: None }),
            GrantToken::Refresh(token) => token,
        };
        if let Some((_, reason, _)) = refused.take_if(|(sent, ..)| *sent == token) {
            return Err(refresh.give_up(current.facts, Reason::Ended(reason), &locked).await);
        }
        if let Some(at) = current.facts.sent.filter(|_| !current.may_be_sent_again) {
            return Err(refresh.give_up(current.facts, Reason::Lost(at), &locked).await);
        }
        let (facts, spare) = match refresh.mark(current.facts, &token).await {
            Ok(marked) => marked,
            Err((failure, unsent)) => {
                if let Some(grant) = unsent {
                    refresh.keep(*grant, locked);
                }
                return Err(failure);
            }
        };
        fault::boundary("consent_before_request");
        let response = client.refresh(&token, facts.auth).await;
        fault::boundary("consent_after_response");
        match response {
            Ok(tokens) => return refresh.save(facts, tokens, &token, spare, locked).await,
            Err(NoTokens { reason: NoToken::Refused(refusal), lost: false }) if ends_grant(&refusal) => {
                refused = Some((token, quoted(&refusal), facts));
                refresh.check_held(&locked).await?;
            }
            Err(NoTokens { reason, lost }) => {
                if !lost {
                    // The vendor did not use the token, so it can be sent again.
                    refresh.write_or_keep(unsent(facts, token), spare, locked).await?;
                }
                return Err(client.failure(reason));
            }
        }
    }
    // The vendor refused two different tokens.
    match refused {
        Some((_, reason, facts)) => Err(refresh.give_up(facts, Reason::Ended(reason), &locked).await),
        None => Err(refresh.ask(None).await),
    }
}

/// Writes the grants that could not be written before. Another replica may make the next attempt of their connections.
pub async fn write_unsaved(provider: &ConsentProvider) {
    let connections: Vec<ConnectionId> = lock(&provider.unsaved).keys().copied().collect();
    for connection in connections {
        let Some(unsaved) = lock(&provider.unsaved).remove(&connection) else { continue };
        if let Err(NotWritten::Failed(_)) = write(&unsaved.store, &unsaved.keys, unsaved.grant.clone(), None).await {
            lock(&provider.unsaved).insert(connection, unsaved);
        }
    }
}

/// The grant after its refresh token was announced and not sent.
fn unsent(facts: GrantFacts, token: Secret) -> NewGrant {
    let facts = GrantFacts { sent: None, version: facts.version + 1, ..facts };
    NewGrant { facts, token: GrantToken::Refresh(token), access: None }
}

/// Writes a grant, unless another one took its place meanwhile, or another process continued it.
async fn write(store: &Store, keys: &Arc<StoreKeys>, grant: NewGrant, spare: Option<PathBuf>) -> Result<(), NotWritten> {
    let write = move |content: &mut StoreContent, keys: &StoreKeys| {
        let NewGrant { facts, token, access } = grant;
        let subject = &facts.subject;
        let Some(stored) = content.grant(subject.connection, &subject.consent).filter(|stored| stored.facts.id == facts.id)
        else {
            return Ok(false);
        };
        if stored.facts.version + 1 != facts.version {
            // An earlier try was stored although its answer was lost.
            return Ok(stored.facts == facts && stored.token(keys).as_ref() == Some(&token));
        }
        let stored = StoredGrant::new(keys, facts, &token)?;
        content.put_grant(match access {
            Some(access) => stored.with_access(keys, &access)?,
            None => stored,
        });
        Ok(true)
    };
    match store.update_from(keys, spare, write).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotWritten::Replaced),
        Err(error) => Err(NotWritten::Failed(error)),
    }
}

impl Refresh<'_> {
    /// Takes the lock of the grant. If an earlier refresh could not write its result, that is done first.
    async fn lock(&self) -> Result<GrantLock, Failure> {
        let connection = self.request.connection;
        let unsaved = lock(&self.provider.unsaved).remove(&connection);
        if let Some(unsaved) = unsaved {
            match write(&unsaved.store, &unsaved.keys, unsaved.grant.clone(), None).await {
                Ok(()) | Err(NotWritten::Replaced) => {
                    if unsaved.lock.is_held().await.map_err(|error| error.failure())? {
                        return Ok(unsaved.lock);
                    }
                }
                Err(NotWritten::Failed(error)) => {
                    lock(&self.provider.unsaved).insert(connection, unsaved);
                    return Err(error.failure());
                }
            }
        }
        self.store.lock_grant(connection).await.map_err(|error| error.failure())
    }

    /// Reads the grant from the store.
    async fn current(&self) -> Result<CurrentGrant, Failure> {
        let content = self.store.read_again().await.map_err(|error| error.failure())?;
        let name = &self.settings.name;
        let Some((content, grant)) =
            content.as_ref().and_then(|content| Some((content, content.grant(self.request.connection, name)?)))
        else {
            return Err(self.ask(None).await);
        };
        if !content.fits(&self.keys) {
            return Err(self.store.wrong_key().failure());
        }
        let Some(token) = grant.token(&self.keys) else { return Err(self.ask(Some(Reason::Damaged)).await) };
        redact::learn_value(token.secret().expose());
        let may_be_sent_again = self.settings.terms.resend || content.keeps_refresh_tokens(&grant.facts);
        let access = grant.access(&self.keys).filter(|_| self.store.is_shared());
        Ok(CurrentGrant { facts: grant.facts.clone(), token, access, may_be_sent_again })
    }

    /// The access token that another replica stored, if it can be used instead of a new one: not if it is the one that the source
    /// rejected, and not if the grant itself would end soon.
    fn of_another(&self, current: &CurrentGrant) -> Option<Fetched<Secret>> {
        let now = self.providers.clock.now();
        let fetched = current.access.clone()?.usable(now)?;
        let known = self.provider.tokens.current(&token_key(&current.facts));
        let is_known = known.is_some_and(|known| *known == fetched.value);
        if self.request.reading == Reading::Anew && (is_known || is_due(&current.facts, now)) {
            return None;
        }
        redact::learn_value(fetched.value.expose());
        Some(fetched)
    }

    /// Stores that the token is about to be sent, and reserves the space for the response. If it is not known whether that was
    /// stored, the error comes with what has to be stored because nothing was sent.
    async fn mark(
        &self,
        facts: GrantFacts,
        token: &Secret,
    ) -> Result<(GrantFacts, Option<PathBuf>), (Failure, Option<Box<NewGrant>>)> {
        let spare = self.store.reserve(self.request.connection).await.map_err(|error| (error.failure(), None))?;
        let facts = GrantFacts { sent: Some(self.providers.clock.now()), version: facts.version + 1, ..facts };
        let grant = NewGrant { facts: facts.clone(), token: GrantToken::Refresh(token.clone()), access: None };
        match write(self.store, &self.keys, grant, None).await {
            Ok(()) => Ok((facts, spare)),
            Err(reason) => {
                let is_unknown = matches!(reason, NotWritten::Failed(StoreError::Database { .. }));
                let unsent = is_unknown.then(|| Box::new(unsent(facts, token.clone())));
                Err((self.not_written(&reason), unsent))
            }
        }
    }

    /// Stores the new refresh token before the access token is used.
    async fn save(
        &self,
        facts: GrantFacts,
        tokens: Tokens,
        sent: &Secret,
        spare: Option<PathBuf>,
        locked: GrantLock,
    ) -> Result<Fetched<Secret>, Failure> {
        let now = self.providers.clock.now();
        let rotated = tokens.refresh.as_ref().is_some_and(|token| token != sent);
        let ends = tokens.refresh_ends.or(facts.ends);
        let access = self.store.is_shared().then(|| AccessToken::new(&tokens, facts.sent.unwrap_or(now)));
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
        self.write_or_keep(NewGrant { facts: next, token, access }, spare, locked).await?;
        fault::boundary("consent_before_use");
        Ok(Fetched { value: tokens.access, valid_for: tokens.valid_for })
    }

    /// Writes a grant. If the store cannot be written, the grant is kept in memory, under its lock, until it can.
    async fn write_or_keep(&self, grant: NewGrant, spare: Option<PathBuf>, locked: GrantLock) -> Result<(), Failure> {
        match write(self.store, &self.keys, grant.clone(), spare).await {
            Err(NotWritten::Failed(error)) => {
                tracing::error!(target: "aam::consent", connection = %self.request.connection, consent = %self.settings.name, "{error}; the refresh token is kept in memory until it can be written");
                self.keep(grant, locked);
                Err(error.failure())
            }
            result => result.map_err(|reason| self.not_written(&reason)),
        }
    }

    /// Checks that no other process has taken the lock, because this one was stopped or cut off for too long.
    async fn check_held(&self, locked: &GrantLock) -> Result<(), Failure> {
        match locked.is_held().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.not_written(&NotWritten::Replaced)),
            Err(error) => Err(error.failure()),
        }
    }

    /// Keeps a grant that could not be written, with its lock.
    fn keep(&self, grant: NewGrant, lock: GrantLock) {
        let unsaved = Unsaved { grant, store: Arc::clone(self.store), keys: Arc::clone(&self.keys), lock };
        super::lock(&self.provider.unsaved).insert(self.request.connection, unsaved);
    }

    fn not_written(&self, reason: &NotWritten) -> Failure {
        match reason {
            NotWritten::Replaced => Failure::new(
                Class::Interrupted,
                format!(
                    "the grant of consent:{} was revoked, given again or refreshed by another process meanwhile",
                    self.settings.name
                ),
                "no action is required: AAM tries again",
            ),
            NotWritten::Failed(error) => error.failure(),
        }
    }

    /// Removes the grant, if it is still the one with `facts`, and returns the failure with a new link. Without the lock, another
    /// process may be about to store the answer.
    async fn give_up(&self, facts: GrantFacts, reason: Reason, locked: &GrantLock) -> Failure {
        if let Err(failure) = self.check_held(locked).await {
            return failure;
        }
        let (connection, name) = (self.request.connection, self.settings.name.clone());
        let remove = move |content: &mut StoreContent| {
            if content.grant(connection, &name).is_some_and(|grant| grant.facts == facts) {
                content.remove_grant(connection, &name);
            }
        };
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

#[cfg(test)]
mod tests {
    use super::super::format::{ClientAuth, Subject};
    use super::super::store::test_places::{all, elsewhere};
    use super::*;

    fn facts(id: &str, version: u64) -> GrantFacts {
        let resource_ids = vec!["r".to_string()];
        GrantFacts {
            id: id.to_string(),
            version,
            subject: Subject {
                connection: ConnectionId::derive("autonomy", "github", &resource_ids),
                namespace: "autonomy".to_string(),
                family: "github".to_string(),
                resource_ids,
                owner: "owner@acme.example".to_string(),
                consent: "acme".to_string(),
            },
            client_id: "client".to_string(),
            token_url: "https://vendor.example/token".to_string(),
            auth: ClientAuth::None,
            asked: Vec::new(),
            scopes: Vec::new(),
            since: Timestamp(1),
            refreshed: None,
            ends: None,
            end_moves: false,
            rotates: None,
            sent: None,
        }
    }

    fn grant(id: &str, version: u64, token: &str) -> NewGrant {
        NewGrant { facts: facts(id, version), token: GrantToken::Refresh(Secret::new(token.to_string())), access: None }
    }

    /// The token in the store.
    async fn token(store: &Store, keys: &StoreKeys) -> String {
        let content = store.read().await.expect("readable").expect("there");
        let subject = facts("g", 0).subject;
        let token = content.grant(subject.connection, "acme").and_then(|grant| grant.token(keys)).expect("a token");
        token.secret().expose().to_string()
    }

    #[tokio::test]
    async fn of_two_processes_that_read_the_same_grant_one_continues_it() {
        let keys = Arc::new(StoreKeys::parse(&Secret::new("11".repeat(32))).expect("a key"));
        for (rig, store) in all() {
            let other = elsewhere(&rig, &store);
            let put = |grant: NewGrant| {
                move |content: &mut StoreContent, keys: &StoreKeys| {
                    content.put_grant(StoredGrant::new(keys, grant.facts, &grant.token)?);
                    Ok(())
                }
            };
            store.update(&keys, put(grant("g", 1, "one"))).await.expect("stored");
            assert!(write(&store, &keys, grant("g", 2, "two"), None).await.is_ok());
            let late = write(&other, &keys, grant("g", 2, "late"), None).await;
            assert!(matches!(late, Err(NotWritten::Replaced)), "another process continued it");
            assert_eq!(token(&other, &keys).await, "two");
            // The first try was stored although its answer was lost.
            assert!(write(&other, &keys, grant("g", 2, "two"), None).await.is_ok());
            assert!(write(&other, &keys, grant("g", 3, "three"), None).await.is_ok());
            assert_eq!(token(&store, &keys).await, "three");
            for late in [grant("g", 3, "late"), grant("g", 2, "two"), grant("g", 5, "late"), grant("earlier", 4, "late")] {
                assert!(matches!(write(&store, &keys, late, None).await, Err(NotWritten::Replaced)));
            }
            assert_eq!(token(&store, &keys).await, "three");
            let subject = facts("g", 0).subject;
            other.remove(move |content| content.remove_grant(subject.connection, "acme")).await.expect("removed");
            let revoked = write(&store, &keys, grant("g", 4, "late"), None).await;
            assert!(matches!(revoked, Err(NotWritten::Replaced)), "a revoked grant does not come back");
        }
    }
}
