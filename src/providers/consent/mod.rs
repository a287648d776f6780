//! `consent:NAME`: an OAuth grant that an owner or administrator gives once.
//!
//! The life of a grant: an attempt without a grant gets a link ([`CredentialProvider::provide`]); the page of the link shows
//! what is asked for ([`ConsentProvider::view`]); its button leads to the vendor ([`ConsentProvider::begin`]); the vendor
//! sends the browser back to the callback, which proves the account and stores the grant ([`ConsentProvider::complete`]).
//! From then on attempts get access tokens, which are kept in memory and refreshed shortly before their end.

mod access;
mod answer;
mod authorize;
mod exchange;
mod format;
mod id_token;
mod keys;
mod link_queue;
mod links;
mod refresh;
mod rekey;
mod revoke;
mod scopes;
mod settings;
mod store;
mod types;

use super::cache::{Cache, Cached, Reuse};
use super::{CredentialFacts, CredentialProvider, CredentialRequest, Process, ProvidedCredential, Providers, Reading};
use crate::clock::Clock;
use crate::credentials::redact::AttemptSecrets;
use crate::credentials::{Credential, Secret, redact};
use crate::families::{CustomSources, Family};
use crate::model::{Class, ConnectionId, EndingSecret, Failure, Locator, PlannedCall, Timestamp};
use crate::policy::Policy;
use crate::registry::Location;
use crate::registry::consents::ConsentTables;
use exchange::plain;
use format::{GrantFacts, Reason, Subject};
use futures_util::future::BoxFuture;
use keys::StoreKeys;
use refresh::Unsaved;
pub use rekey::Rekeyed;
pub use revoke::{RevokedAtVendor, RevokedGrant};
pub use scopes::split as split_scopes;
pub use settings::ConsentSettings;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use store::Store;
pub use store::{ConsentPlace, copy_of_file};
use tokio::sync::watch;
pub use types::{
    CallbackQuery, ConsentCode, ConsentGiven, ConsentProblem, ConsentScope, ConsentView, GrantListing, LinkCode, LinkListing,
    LinkProblem, LinkState, Proof, Prove, ProvedAccount,
};

/// How long a key that a vault gave is kept in memory, so that the visitors of a page do not cause reads of the vault.
const VAULT_KEY_VALIDITY: Duration = Duration::from_secs(300);
/// How long the process waits at its end for refreshes that have begun: longer than a token endpoint may take.
const MAX_CLOSE_WAIT: Duration = Duration::from_secs(30);
/// How often grants are looked for that would end before the next attempt.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);
/// A refresh token that is issued for a shorter time than this is most likely issued anew by each refresh.
const SHORT_GRANT: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the consent pages and commands work with. The policy is the one in force.
#[derive(Clone)]
pub struct ConsentContext<'a> {
    pub providers: &'a Providers,
    pub policy: Arc<Policy>,
    pub sources: Arc<CustomSources>,
}

/// Resolves `consent:` locators.
pub struct ConsentProvider {
    /// The providers that this one belongs to. A refresh runs in a task of its own and resolves locators too.
    providers: Weak<Providers>,
    process: Process,
    tokens: Cache<Secret>,
    /// The store in the registry, if that is in PostgreSQL.
    shared: OnceLock<Arc<Store>>,
    /// The stores in files, by their paths.
    stores: Mutex<HashMap<PathBuf, Arc<Store>>>,
    vault_keys: Mutex<HashMap<String, (Duration, Arc<StoreKeys>)>>,
    /// Grants whose new refresh token could not be written yet.
    unsaved: Mutex<HashMap<ConnectionId, Unsaved>>,
    /// The number of tasks that may be using a refresh token.
    running: watch::Sender<usize>,
    /// The latest request of each connection that has a grant, for its renewal while no attempt runs.
    requests: Mutex<HashMap<ConnectionId, CredentialRequest>>,
}

impl ConsentProvider {
    pub fn new(clock: &Arc<dyn Clock>, process: Process, providers: Weak<Providers>) -> ConsentProvider {
        ConsentProvider {
            providers,
            process,
            tokens: Cache::new(clock),
            shared: OnceLock::new(),
            stores: Mutex::default(),
            vault_keys: Mutex::default(),
            unsaved: Mutex::default(),
            running: watch::Sender::new(0),
            requests: Mutex::default(),
        }
    }

    async fn resolve(&self, providers: &Providers, request: &CredentialRequest) -> Result<ProvidedCredential, Failure> {
        let Locator::Consent(name) = &request.locator else {
            return Err(crate::model::locator_forms::unknown_form(&request.locator));
        };
        let settings = ConsentSettings::find(name, &request.policy, &request.family)?;
        let store = self.store(&request.policy);
        let content = store.read().await.map_err(|error| error.failure())?;
        let grant = content.as_ref().and_then(|content| content.grant(request.connection, name));
        let Some(facts) = grant.map(|grant| grant.facts.clone()) else {
            return Err(self.ask(providers, request, &settings, &store, None).await);
        };
        if (&facts.client_id, facts.token_url.as_str()) != (&settings.policy.client_id, settings.terms.token_url.as_str()) {
            return Err(self.ask(providers, request, &settings, &store, Some(Reason::OtherClient)).await);
        }
        lock(&self.requests).insert(request.connection, request.clone());
        let token = self.access_token(request, settings.clone(), Arc::clone(&store), &facts).await?;
        // A refresh has changed what is known about the grant.
        let content = store.read().await.map_err(|error| error.failure())?;
        let newer = content.as_ref().and_then(|content| content.grant(request.connection, name)).map(|grant| &grant.facts);
        Ok(provided(&token, newer.unwrap_or(&facts), &settings))
    }

    /// Returns an access token, refreshed if it is due. The work runs in a task of its own: a refresh token that was sent is
    /// spent, so its response must be stored even if the attempt that asked has timed out meanwhile.
    async fn access_token(
        &self,
        request: &CredentialRequest,
        settings: ConsentSettings,
        store: Arc<Store>,
        facts: &GrantFacts,
    ) -> Result<Cached<Secret>, Failure> {
        let Some(providers) = self.providers.upgrade() else { return Err(stopping()) };
        let key = token_key(facts);
        let (request, clock) = (request.clone(), Arc::clone(&providers.clock));
        self.running.send_modify(|count| *count += 1);
        let work = async move {
            let this = &providers.consents;
            let _running = Running(&this.running);
            let fetch = || refresh::refresh(this, &providers, &request, &settings, &store);
            this.tokens.get(&key, &request, Reuse::UntilEnd, fetch).await
        };
        // What the task learns belongs to the attempt that waits for it.
        let secrets = redact::attempt().unwrap_or_else(|| AttemptSecrets::new(&[]));
        match tokio::spawn(secrets.run(work)).await {
            Ok(result) => result?.unless_ended(clock.as_ref()),
            Err(error) if error.is_cancelled() => Err(stopping()),
            Err(error) => Err(Failure::new(
                Class::Bug,
                "a defect in aam ended the refresh of a consent",
                "report it with the detail; other connections are not affected",
            )
            .detail(error.to_string())),
        }
    }

    /// Refreshes the grants that would end before their connection is checked again: some servers issue refresh tokens for
    /// half an hour only, and a new one at each refresh. Before that, writes what could not be written before.
    pub async fn renew_due(&self, providers: &Providers) {
        refresh::write_unsaved(self).await;
        let requests: Vec<CredentialRequest> = lock(&self.requests).values().cloned().collect();
        for request in requests {
            let Locator::Consent(name) = &request.locator else { continue };
            let store = self.store(&request.policy);
            let Ok(content) = store.read().await else { continue };
            let grant = content.as_ref().and_then(|content| content.grant(request.connection, name));
            let Some(facts) = grant.map(|grant| grant.facts.clone()) else {
                lock(&self.requests).remove(&request.connection);
                continue;
            };
            let Ok(settings) = ConsentSettings::find(name, &request.policy, &request.family) else { continue };
            if is_due(&facts, providers.clock.now()) {
                let request = CredentialRequest { reading: Reading::Anew, ..request };
                if let Err(failure) = self.access_token(&request, settings, store, &facts).await {
                    tracing::warn!(target: "aam::consent", connection = %request.connection, consent = facts.subject.consent, "a grant could not be renewed: {}", failure.title);
                }
            }
        }
    }

    /// Keeps consents in the registry instead of a file, if the registry is in PostgreSQL: then other replicas need them, too.
    pub fn keep_in(&self, registry: &Location) {
        if let Some(tables) = ConsentTables::new(registry) {
            let _ = self.shared.set(Store::in_database(tables));
        }
    }

    /// Returns where the grants are if this process has written them.
    #[must_use]
    pub fn written_place(&self) -> Option<ConsentPlace> {
        let stores = lock(&self.stores);
        stores.values().chain(self.shared.get()).find(|store| store.is_written()).map(|store| store.place())
    }

    /// Waits until the locks that this process had are released, because it ends.
    pub async fn released(&self) {
        if let Some(store) = self.shared.get() {
            store.released().await;
        }
    }

    /// Returns the store in the registry, or the one that the policy names.
    fn store(&self, policy: &Policy) -> Arc<Store> {
        if let Some(store) = self.shared.get() {
            return Arc::clone(store);
        }
        let path = &policy.credentials.consent_store.file;
        Arc::clone(lock(&self.stores).entry(path.clone()).or_insert_with(|| Store::new(path)))
    }

    /// Returns the keys of the store.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the policy names no key or the key is not valid, or the failure of its locator.
    async fn keys(&self, providers: &Providers, request: &CredentialRequest) -> Result<Arc<StoreKeys>, Failure> {
        let Some(locator) = &request.policy.credentials.consent_store.key else { return Err(no_key()) };
        let name = locator.to_string();
        let now = providers.clock.monotonic();
        if let Some((until, keys)) = lock(&self.vault_keys).get(&name)
            && now < *until
        {
            return Ok(Arc::clone(keys));
        }
        let request = CredentialRequest { reading: Reading::Cached, ..request.clone() };
        let provided = providers.provide_setting(&request, locator).await?;
        let keys = plain(&provided.credential, &["key"]).and_then(|text| StoreKeys::parse(&text)).map(Arc::new);
        let Some(keys) = keys else {
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("the key of the consent store ({name}) is not 32 bytes in base64 or hexadecimal"),
                format!("{NEW_KEY}; a passphrase is not accepted, because it could be guessed from a copy of the file"),
            ));
        };
        if matches!(locator, Locator::Vault(_)) {
            lock(&self.vault_keys).insert(name, (now + VAULT_KEY_VALIDITY, Arc::clone(&keys)));
        }
        Ok(keys)
    }
}

/// How a key of the store is made.
const NEW_KEY: &str = "generate a key with: openssl rand -base64 32";

/// The failure for a policy that does not name the key of the store.
#[must_use]
pub fn no_key() -> Failure {
    Failure::new(
        Class::CredentialMissing,
        "the policy does not name the key that encrypts consents",
        format!(
            "{NEW_KEY}; store it where AAM can read it, for example with aam secret set CONSENT_KEY, and write into the policy: credentials: {{consent_store: {{key: \"env:CONSENT_KEY\"}}}}"
        ),
    )
}

/// The key of a grant's access token in the cache. A grant that is given again has another id.
fn token_key(facts: &GrantFacts) -> String {
    format!("{}|{}|{}", facts.subject.connection, facts.subject.consent, facts.id)
}

fn provided(token: &Cached<Secret>, grant: &GrantFacts, settings: &ConsentSettings) -> ProvidedCredential {
    let mut facts = CredentialFacts::new("consent");
    facts.changeable = true;
    facts.issued_earlier = token.hit;
    facts.valid_until = token.valid_until();
    facts.ends_at = fixed_end(grant);
    facts.ending_secret = facts.ends_at.map(|_| EndingSecret::Consent(settings.name.clone()));
    facts.evidence.insert("consent".to_string(), settings.name.as_str().into());
    facts.evidence.insert("scopes".to_string(), grant.scopes.clone().into());
    facts.evidence.insert("given_by".to_string(), grant.subject.owner.as_str().into());
    facts.evidence.insert("given_at".to_string(), grant.since.rfc3339().into());
    facts.evidence.insert("cached".to_string(), token.hit.into());
    let asked: Vec<String> = settings.scopes().map(str::to_string).collect();
    facts.warning = token.stale.clone().or_else(|| scopes::warning(&settings.name, &asked, &grant.scopes, &settings.family));
    let credential = Credential::read(token.value.as_ref().clone()).with_granted(grant.scopes.clone());
    ProvidedCredential { credential, facts }
}

/// Returns the end of the grant if a person has to give it again then. An end that each refresh moves is left out. Whether it
/// does is known after the first refresh only.
fn fixed_end(grant: &GrantFacts) -> Option<Timestamp> {
    let short = grant.refreshed.is_none() && grant.ends.is_some_and(|ends| ends.since(grant.since) < SHORT_GRANT);
    grant.ends.filter(|_| !grant.end_moves && !short)
}

/// Whether two thirds of the time have passed for which the refresh token was issued, and a refresh may extend it.
fn is_due(grant: &GrantFacts, now: Timestamp) -> bool {
    let issued = grant.refreshed.unwrap_or(grant.since);
    let extends = grant.end_moves || grant.refreshed.is_none();
    extends && grant.ends.is_some_and(|ends| now.since(issued) >= ends.since(issued) * 2 / 3)
}

fn stopping() -> Failure {
    Failure::new(Class::Interrupted, "aam is stopping", "AAM tries again after its next start")
}

/// Counts a task that may be using a refresh token.
struct Running<'a>(&'a watch::Sender<usize>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subject {
    fn new(request: &CredentialRequest, consent: &str) -> Subject {
        Subject {
            connection: request.connection,
            namespace: request.namespace.clone(),
            family: request.family.id.to_string(),
            resource_ids: request.resource_ids.to_vec(),
            owner: request.owner.clone(),
            consent: consent.to_string(),
        }
    }

    /// The request for a credential of this connection, in the context of a page or a command.
    fn request(&self, context: &ConsentContext<'_>) -> Option<CredentialRequest> {
        Some(CredentialRequest {
            locator: Locator::Consent(self.consent.clone()),
            connection: self.connection,
            namespace: self.namespace.clone(),
            owner: self.owner.clone(),
            family: Arc::clone(context.sources.family(&self.family)?),
            resource_ids: self.resource_ids.clone().into(),
            policy: Arc::clone(&context.policy),
            reading: Reading::Cached,
        })
    }

    /// The texts that the owner of the intent wrote, which are never redacted.
    fn texts(&self) -> Vec<String> {
        let mut texts = self.resource_ids.clone();
        texts.extend([self.owner.clone(), self.consent.clone(), self.namespace.clone()]);
        texts
    }
}

impl CredentialProvider for ConsentProvider {
    fn provide<'a>(
        &'a self,
        providers: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(self.resolve(providers, request))
    }

    fn planned_calls(&self, policy: &Policy, locator: &Locator, family: &Family) -> Vec<PlannedCall> {
        let Locator::Consent(name) = locator else { return Vec::new() };
        let consent = policy.credentials.consents.get(name).filter(|consent| consent.family == *family.id);
        let Some(Ok(terms)) = consent.map(|consent| consent.terms(family.oauth.as_ref())) else { return Vec::new() };
        let url = terms.token_url;
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        vec![PlannedCall { method: "POST".to_string(), host, path: url.path().to_string() }]
    }

    fn next_end(&self) -> Option<Timestamp> {
        self.tokens.next_end()
    }

    fn release<'a>(&'a self, _: &'a Providers, connection: ConnectionId) -> BoxFuture<'a, ()> {
        // The grant stays, because the intent may come back; `aam consent revoke` ends it.
        lock(&self.requests).remove(&connection);
        Box::pin(std::future::ready(()))
    }

    fn maintain<'a>(&'a self, providers: &'a Providers) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut ticks = tokio::time::interval(RENEWAL_INTERVAL);
            loop {
                ticks.tick().await;
                self.renew_due(providers).await;
            }
        })
    }

    /// Waits for refreshes that have begun: the response of a refresh that is lost ends the grant.
    fn close<'a>(&'a self, _: &'a Providers) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut running = self.running.subscribe();
            let ended = running.wait_for(|count| *count == 0);
            if tokio::time::timeout(MAX_CLOSE_WAIT, ended).await.is_err() {
                tracing::warn!(target: "aam::consent", "a refresh of a consent did not end before the process; its grant may have to be given again");
            }
            self.released().await;
        })
    }
}
