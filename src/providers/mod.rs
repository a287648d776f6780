//! Turns a locator into a credential: from the environment, a file, a vault, a service principal or a consent.
//!
//! The providers stand above `egress`: the address guard, the caps, the call log and the redaction hold for a call to a
//! vault or a token endpoint as they do for a call to a source. What was read is cached for as long as it is valid, and a
//! secret is never fetched twice at the same time.
//!
//! Which locators exist and what they mean is in the policy (`policy::credentials`); who may use them is decided before,
//! in `policy::grants`.

pub mod cache;
pub mod consent;
mod env;
mod file;
pub mod foreseen;
pub mod oidc;
mod principals;
mod stored;
pub mod usage;
mod vault;

use crate::clock::Clock;
use crate::credentials::{Credential, known_end, redact};
use crate::egress::{CallRecorder, Caller, Egress, Session};
use crate::families::Family;
use crate::model::locator_forms;
use crate::model::{CallPurpose, Class, ConnectionId, EndingSecret, Evidence, Failure, Locator, PlannedCall, Posts, Timestamp};
use crate::policy::Policy;
pub use env::{Process, ReadEnv};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
pub use stored::{trimmed, usable};

/// What a credential is wanted for.
#[derive(Clone)]
pub struct CredentialRequest {
    pub locator: Locator,
    pub connection: ConnectionId,
    pub namespace: String,
    /// The owner of the connection, as the intent names them.
    pub owner: String,
    pub family: Arc<Family>,
    pub resource_ids: Arc<[String]>,
    pub policy: Arc<Policy>,
    pub reading: Reading,
}

/// Whether a cached credential may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Cached,
    /// The source rejected the credential, so it is read or minted again.
    Anew,
}

/// A credential and what is known about it.
#[derive(Debug)]
pub struct ProvidedCredential {
    pub credential: Credential,
    pub facts: CredentialFacts,
}

/// What is known about a credential. It contains no secret.
#[derive(Clone, Debug, Default)]
pub struct CredentialFacts {
    /// `env`, `file`, `vault`, `sp` or `consent`.
    pub provider: &'static str,
    /// True if another reading could give another credential, so that one the source rejects is read anew once.
    pub changeable: bool,
    /// True if the credential was issued before this attempt. Its permissions are those of that moment, so one that lacks a
    /// permission is issued anew once.
    pub issued_earlier: bool,
    /// When it ends; AAM renews or replaces it before.
    pub valid_until: Option<Timestamp>,
    /// When it ends, if a person has to replace it.
    pub ends_at: Option<Timestamp>,
    /// The secret that ends then, if it is not the one that the locator names.
    pub ending_secret: Option<EndingSecret>,
    /// Further facts for the evidence of the step: lease, granted scopes, whether it came from the cache.
    pub evidence: Evidence,
    /// What a person should know although the credential can be used.
    pub warning: Option<Failure>,
}

impl CredentialFacts {
    /// Creates facts with only the name of the provider.
    #[must_use]
    pub fn new(provider: &'static str) -> CredentialFacts {
        CredentialFacts { provider, ..CredentialFacts::default() }
    }
}

/// Resolves the locators of one form.
pub trait CredentialProvider: Send + Sync {
    /// Returns the credential of `request`, whose locator has the form of this provider.
    ///
    /// # Errors
    /// Returns `CredentialMissing` with the locator and what to do, or the failure of the call to the vault or the token
    /// endpoint.
    fn provide<'a>(
        &'a self,
        providers: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>>;

    /// Returns every call that [`CredentialProvider::provide`] may make for a locator, for `aam plan`. Pure.
    fn planned_calls(&self, policy: &Policy, locator: &Locator, family: &Family) -> Vec<PlannedCall>;

    /// Returns when the first token or lease ends that the provider holds.
    fn next_end(&self) -> Option<Timestamp> {
        None
    }

    /// Gives back what only `connection` uses, because it was retired.
    fn release<'a>(&'a self, _providers: &'a Providers, _connection: ConnectionId) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Renews what has to be renewed while no attempt runs. It ends only with the process.
    fn maintain<'a>(&'a self, _providers: &'a Providers) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    /// Gives back everything, because the process stops in order.
    fn close<'a>(&'a self, _providers: &'a Providers) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The host that a credential comes from, and which budget its calls use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Vault,
    /// A token endpoint.
    Tokens,
}

/// All providers of the process and what they share.
pub struct Providers {
    /// For work that must go on if the caller gives up; see [`Providers::run_to_end`].
    this: Weak<Providers>,
    pub egress: Arc<Egress>,
    pub clock: Arc<dyn Clock>,
    env: env::EnvProvider,
    file: file::FileProvider,
    vault: vault::VaultProvider,
    principals: principals::PrincipalProvider,
    consents: consent::ConsentProvider,
    usage: usage::Usage,
    /// The policy in force, for what is done while no attempt runs. `None` until the reconciler has set it.
    in_force: Mutex<Option<Arc<Policy>>>,
}

impl Providers {
    /// Creates providers that read the environment of this process.
    #[must_use]
    pub fn new(egress: Arc<Egress>, clock: Arc<dyn Clock>, process: Process) -> Arc<Providers> {
        Providers::with_env(egress, clock, process, Arc::new(|name| std::env::var(name).ok()))
    }

    /// Creates providers that read environment variables through `read_env`.
    #[must_use]
    pub fn with_env(egress: Arc<Egress>, clock: Arc<dyn Clock>, process: Process, read_env: ReadEnv) -> Arc<Providers> {
        let vault = vault::VaultProvider::new(&clock);
        Providers::with_vault(egress, clock, (process, read_env), vault)
    }

    fn with_vault(
        egress: Arc<Egress>,
        clock: Arc<dyn Clock>,
        (process, read_env): (Process, ReadEnv),
        vault: vault::VaultProvider,
    ) -> Arc<Providers> {
        Arc::new_cyclic(|this| Providers {
            this: Weak::clone(this),
            env: env::EnvProvider::new(process, read_env),
            file: file::FileProvider::default(),
            vault,
            principals: principals::PrincipalProvider::new(&clock),
            consents: consent::ConsentProvider::new(&clock, process, Weak::clone(this)),
            usage: usage::Usage::default(),
            in_force: Mutex::default(),
            egress,
            clock,
        })
    }

    /// Sets the policy in force. What belongs to a vault that it does not name is given back and forgotten soon afterwards.
    pub fn set_policy(&self, policy: &Arc<Policy>) {
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(policy));
        self.vault.check_now();
    }

    /// Returns the policy in force, if it is known.
    fn policy_in_force(&self) -> Option<Arc<Policy>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the credential that `request` names, and teaches the redactor its secret values.
    ///
    /// # Errors
    /// Returns `CredentialMissing`, which names the locator and says what to do, or the failure of the call that was made
    /// for it.
    pub async fn provide(&self, request: &CredentialRequest) -> Result<ProvidedCredential, Failure> {
        let provided = self.resolve(request).await?;
        self.vault.check_not_own_token(&request.locator, &provided.credential)?;
        // The config of a custom source may have any form.
        if request.family.manifest.is_none() {
            stored::check_fields_of_source(&provided.credential, &request.locator.to_string(), &request.family)?;
        }
        Ok(provided)
    }

    async fn resolve(&self, request: &CredentialRequest) -> Result<ProvidedCredential, Failure> {
        let mut provided = match self.provider(&request.locator) {
            Some(provider) => provider.provide(self, request).await,
            None => Err(locator_forms::unknown_form(&request.locator)),
        };
        self.usage.count(&request.locator, &provided);
        if let Ok(provided) = &mut provided {
            redact::learn(&provided.credential);
            // A credential that a person stored may say itself when it ends. Leases and minted tokens are renewed before.
            if provided.facts.valid_until.is_none() && provided.facts.ends_at.is_none() {
                provided.facts.ends_at = known_end(&provided.credential);
            }
        }
        provided
    }

    /// Returns the secret that a setting of the policy names, for example the key of a service principal. It is read for
    /// the connection of `request`.
    ///
    /// # Errors
    /// As [`Providers::provide`].
    pub fn provide_setting<'a>(
        &'a self,
        request: &'a CredentialRequest,
        locator: &Locator,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        let request = CredentialRequest { locator: locator.clone(), ..request.clone() };
        Box::pin(async move { self.resolve(&request).await })
    }

    /// Returns every call that is made for the credential before the source is called, for `aam plan`.
    #[must_use]
    pub fn planned_calls(&self, policy: &Policy, locator: &Locator, family: &Family) -> Vec<PlannedCall> {
        // The secret of a principal or of an OAuth client may itself be in the vault.
        let needed = policy.credentials.needed(locator);
        let mut calls: Vec<PlannedCall> = Vec::new();
        for locator in needed.into_iter().chain([locator]) {
            let planned = self.provider(locator).map(|provider| provider.planned_calls(policy, locator, family));
            for call in planned.unwrap_or_default() {
                if !calls.contains(&call) {
                    calls.push(call);
                }
            }
        }
        calls
    }

    /// Returns what each provider did since the process started, and when its next token or lease ends.
    #[must_use]
    pub fn usage(&self) -> Vec<(usage::UsageCount, Option<Timestamp>)> {
        let with_end = |count: usage::UsageCount| (count, self.named(count.provider).and_then(CredentialProvider::next_end));
        self.usage.counts().into_iter().map(with_end).collect()
    }

    fn named(&self, scheme: &str) -> Option<&dyn CredentialProvider> {
        Some(match scheme {
            "vault" => &self.vault,
            "sp" => &self.principals,
            "consent" => &self.consents,
            _ => return None,
        })
    }

    /// Gives back what only `connection` uses, because it was retired.
    pub async fn release(&self, connection: ConnectionId) {
        for provider in self.all() {
            provider.release(self, connection).await;
        }
    }

    /// Returns the provider of `consent:` locators, for the consent pages and commands.
    #[must_use]
    pub fn consents(&self) -> &consent::ConsentProvider {
        &self.consents
    }

    /// Renews tokens and leases until the process stops.
    pub async fn maintain(&self) {
        futures_util::future::join_all(self.all().map(|provider| provider.maintain(self))).await;
    }

    /// Gives back tokens and leases, because the process stops in order.
    pub async fn close(&self) {
        for provider in self.all() {
            provider.close(self).await;
        }
    }

    /// Creates a session for calls to the `origin` of a vault or token endpoint, made for the connection of `request`.
    #[must_use]
    pub fn session(&self, request: &CredentialRequest, endpoint: Endpoint, origin: &str, posts: Posts) -> Session {
        let caps = &request.policy.credentials.caps;
        let (purpose, cap) = match endpoint {
            Endpoint::Vault => (CallPurpose::Vault, caps.vault.clone()),
            Endpoint::Tokens => (CallPurpose::Token, caps.tokens.clone()),
        };
        self.egress.session(Caller {
            connection: request.connection,
            family: purpose.as_str().into(),
            purpose,
            account: origin.to_string(),
            cap,
            policy: Arc::clone(&request.policy),
            posts: Arc::new(posts),
        })
    }

    /// Runs `work` to its end even if the caller gives up, because its result must not be lost: a token or a lease that was
    /// issued, or a refresh token that was spent.
    ///
    /// # Errors
    /// Returns the failure of `work`, or `Interrupted` if the process is ending.
    async fn run_to_end<T, F>(&self, work: impl FnOnce(Arc<Providers>) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let ended = || Failure::new(Class::Interrupted, "the process ended before a credential was read", "start AAM again");
        let (work, recorder) = (work(self.this.upgrade().ok_or_else(ended)?), CallRecorder::current());
        // The calls of this work belong to the attempt that waits for it, like its secrets.
        let work = async move {
            match recorder {
                Some(recorder) => recorder.run(work).await,
                None => work.await,
            }
        };
        let task = match redact::attempt() {
            Some(attempt) => tokio::spawn(attempt.run(work)),
            None => tokio::spawn(work),
        };
        let defect =
            || Failure::new(Class::Bug, "a defect in aam ended the reading of a credential", "report it with the detail");
        task.await.map_err(|error| if error.is_panic() { defect() } else { ended() }.detail(error.to_string()))?
    }

    fn provider(&self, locator: &Locator) -> Option<&dyn CredentialProvider> {
        match locator {
            Locator::Env(_) => Some(&self.env),
            Locator::File(_) => Some(&self.file),
            Locator::Vault(_) => Some(&self.vault),
            Locator::ServicePrincipal(_) => Some(&self.principals),
            Locator::Consent(_) => Some(&self.consents),
            Locator::Unknown(_) => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn CredentialProvider> {
        let all: [&dyn CredentialProvider; 5] = [&self.env, &self.file, &self.vault, &self.principals, &self.consents];
        all.into_iter()
    }
}
