//! `vault:PATH#FIELD`: a secret of HashiCorp Vault or OpenBao.
//!
//! - `mount`: which secrets engine serves the path
//! - `token`: login, renewal and end of AAM's own token
//! - `lease`: credentials that the vault creates for AAM
//! - `upkeep`: renewals and revocations while no attempt runs, and at the end of the process
//! - `values`: from the fields of a secret to a credential
//! - `api` and `failures`: the calls, and what can go wrong

mod api;
mod failures;
mod lease;
mod mount;
mod plan;
mod token;
mod upkeep;
mod values;

use super::cache::{Cache, Cached, Fetched, Reuse};
use super::{CredentialFacts, CredentialProvider, CredentialRequest, ProvidedCredential, Providers};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::families::Family;
use crate::model::{Class, ConnectionId, EndingSecret, Evidence, Failure, Locator, PlannedCall, Timestamp};
use crate::policy::Policy;
use crate::policy::credentials::{VaultLogin, VaultPath, VaultPolicy};
use api::{EgressTransport, VaultCall, VaultContext, VaultResponse, VaultTransport};
use failures::ApiPath;
pub use failures::no_vault;
use futures_util::future::BoxFuture;
use lease::{Lease, Replaced};
use mount::Mount;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use token::{VaultToken, is_denied_by_policy, lock};

/// The minimum length of a token that a vault makes.
const MIN_TOKEN_BYTES: usize = 16;

/// The mounts that are known, by the key of their vault.
type Mounts = HashMap<String, Vec<Mount>>;

/// What a key-value store returned.
struct KvReading {
    fields: Map<String, Value>,
    /// The version, in KV version 2.
    version: Option<u64>,
    /// When the vault deletes this version.
    deleted_at: Option<Timestamp>,
}

/// Resolves `vault:` locators.
pub struct VaultProvider {
    transport: Box<dyn VaultTransport>,
    tokens: Cache<Arc<VaultToken>>,
    readings: Cache<KvReading>,
    leases: Cache<Arc<Lease>>,
    mounts: Mutex<Mounts>,
    mount_flight: tokio::sync::Mutex<()>,
    /// Leases that were replaced and are still to be revoked.
    replaced: Mutex<Vec<Replaced>>,
    /// When a lease that sources reject may be replaced again, by its key.
    replacements: Mutex<HashMap<String, super::cache::Moment>>,
    /// Why the vault at an address could not answer the latest call.
    outages: Mutex<HashMap<String, Failure>>,
    /// Notified when there is something new to renew.
    changed: tokio::sync::Notify,
}

impl VaultProvider {
    pub fn new(clock: &Arc<dyn Clock>) -> VaultProvider {
        VaultProvider::with_transport(clock, Box::new(EgressTransport))
    }

    /// Creates a provider whose calls go through `transport`.
    pub fn with_transport(clock: &Arc<dyn Clock>, transport: Box<dyn VaultTransport>) -> VaultProvider {
        VaultProvider {
            transport,
            tokens: Cache::new(clock),
            readings: Cache::new(clock),
            leases: Cache::new(clock),
            mounts: Mutex::default(),
            mount_flight: tokio::sync::Mutex::default(),
            replaced: Mutex::default(),
            replacements: Mutex::default(),
            outages: Mutex::default(),
            changed: tokio::sync::Notify::new(),
        }
    }

    /// Makes the upkeep check at once what is to be done.
    pub fn check_now(&self) {
        self.changed.notify_one();
    }

    async fn resolve(&self, providers: &Providers, request: &CredentialRequest) -> Result<ProvidedCredential, Failure> {
        let Locator::Vault(rest) = &request.locator else {
            return Err(crate::model::locator_forms::unknown_form(&request.locator));
        };
        let policy = Arc::clone(&request.policy);
        let vault = policy.credentials.vault.as_ref().ok_or_else(|| failures::no_vault(&request.locator))?;
        let path =
            VaultPath::parse(rest, vault.path.as_deref()).map_err(|error| failures::invalid_locator(&request.locator, &error))?;
        let context = VaultContext { providers, request, vault };
        let mount = self.mount(&context, &path).await?;
        let provided = match mount.is_kv() {
            true => self.kv_credential(&context, &path).await?,
            false => self.lease_credential(&context, &mount, &path).await?,
        };
        Ok(provided)
    }

    async fn kv_credential(&self, context: &VaultContext<'_>, path: &VaultPath) -> Result<ProvidedCredential, Failure> {
        let key = format!("{}|{path}", context.key());
        let cached = self
            .readings
            .get(&key, context.request, Reuse::OncePerConnection, || async {
                let value = self.read_kv(context, path).await?;
                let until_deleted = value.deleted_at.map(|at| at.since(context.providers.clock.now()));
                let valid_for = until_deleted.map_or(context.vault.kv_ttl, |left| left.min(context.vault.kv_ttl));
                Ok(Fetched { value, valid_for: Some(valid_for) })
            })
            .await?;
        let reading = &cached.value;
        let credential = values::credential(path, &reading.fields, false)?;
        let mut facts = self.facts(context, path, &cached);
        if let Some(deleted) = reading.deleted_at.filter(|deleted| facts.ends_at.is_none_or(|end| *deleted < end)) {
            (facts.ends_at, facts.ending_secret) = (Some(deleted), None);
        }
        if let Some(version) = reading.version {
            facts.evidence.insert("version".to_string(), version.into());
        }
        Ok(ProvidedCredential { credential, facts })
    }

    async fn read_kv(&self, context: &VaultContext<'_>, path: &VaultPath) -> Result<KvReading, Failure> {
        let mount = self.mount(context, path).await?;
        let first = self.read_kv_of(context, path, &mount).await;
        let Err(failure) = first else { return first };
        // The mount may have been upgraded to version 2, or replaced, since it was asked about.
        match failure.class == Class::CredentialMissing && mount.is_old(context) {
            true => match self.mount_anew(context, path, &mount).await {
                Ok(now) if now.is_kv() && now.versioned != mount.versioned => self.read_kv_of(context, path, &now).await,
                _ => Err(failure),
            },
            false => Err(failure),
        }
    }

    async fn read_kv_of(&self, context: &VaultContext<'_>, path: &VaultPath, mount: &Mount) -> Result<KvReading, Failure> {
        let rest = mount.rest(path).unwrap_or_default();
        let (api, versioned) = match mount.versioned {
            true => (format!("{}/data/{rest}", mount.path), Some((mount.path.as_str(), rest))),
            false => (path.path().to_string(), None),
        };
        let (response, _) = self.read(context, &api, false).await?;
        let place = ApiPath { path, api: &api, versioned };
        let data = response.object("data");
        match (response.status, versioned) {
            (200 | 404, Some((mount, rest))) if data.is_some() => match values::versioned(mount, rest, data) {
                Some(found) => found.map(|found| KvReading {
                    fields: found.fields,
                    version: Some(found.version),
                    deleted_at: found.deletion_time.and_then(|time| Timestamp::parse(&time).ok()),
                }),
                None => Err(failures::invalid_answer(context.vault, &format!("for {api} is not one of KV version 2"))),
            },
            (200, _) => match data {
                Some(fields) => Ok(KvReading { fields: fields.clone(), version: None, deleted_at: None }),
                None => Err(failures::invalid_answer(context.vault, &format!("for {api} does not have data"))),
            },
            (403, _) => Err(failures::denied(context.vault, &place, &response)),
            (404, _) => Err(failures::not_found(context.vault, &place, &response)),
            _ => Err(failures::unexpected(context.vault, &place, &response)),
        }
    }

    async fn lease_credential(
        &self,
        context: &VaultContext<'_>,
        mount: &Mount,
        path: &VaultPath,
    ) -> Result<ProvidedCredential, Failure> {
        let cached = self.lease(context, mount, path).await?;
        let lease = &cached.value;
        let credential = values::credential(path, &lease.fields, lease.aws)?;
        let mut facts = self.facts(context, path, &cached);
        facts.valid_until = lease.ends();
        if !lease.id.is_empty() {
            let id = crate::credentials::redact::scrub_and_cut(&lease.id, 200);
            facts.evidence.insert("lease".to_string(), id.into());
            facts.evidence.insert("renewable".to_string(), lock(&lease.state).renewable.into());
        }
        Ok(ProvidedCredential { credential, facts })
    }

    fn facts<V>(&self, context: &VaultContext<'_>, path: &VaultPath, cached: &Cached<V>) -> CredentialFacts {
        let mut facts = CredentialFacts::new("vault");
        facts.changeable = true;
        facts.evidence = Evidence::new();
        facts.evidence.insert("path".to_string(), path.path().into());
        facts.evidence.insert("cached".to_string(), cached.hit.into());
        let token = self.tokens.current(&context.key());
        facts.ends_at = token.as_ref().and_then(|token| token.ends_at());
        facts.ending_secret = match &context.vault.login {
            VaultLogin::Token { token } if facts.ends_at.is_some() => Some(EndingSecret::VaultLogin(token.to_string())),
            _ => None,
        };
        facts.warning = match &cached.stale {
            Some(failure) => Some(still_used(failure, cached.valid_until())),
            None => token.filter(|token| token.root).map(|_| root_token(context.vault)),
        };
        facts
    }

    /// Reads `path` with AAM's token. If the vault does not know the token any more, AAM logs in again once. With `for_lease`,
    /// the token must not be about to end, because the lease ends with it.
    ///
    /// # Errors
    /// Returns the failure of the login, or of a vault that cannot answer.
    async fn read(
        &self,
        context: &VaultContext<'_>,
        path: &str,
        for_lease: bool,
    ) -> Result<(VaultResponse, Arc<VaultToken>), Failure> {
        let mut token = self.token(context).await?;
        if for_lease && self.ends_soon(context, &token) {
            self.forget_token(context, &token);
            token = self.token(context).await?;
        }
        let response = context.call(VaultCall::read(path, &token.secret)).await?;
        if response.status != 403 || is_denied_by_policy(&response) {
            return Ok((response, token));
        }
        self.forget_token(context, &token);
        let fresh = self.token(context).await?;
        if fresh.secret == token.secret {
            return Ok((response, fresh));
        }
        Ok((context.call(VaultCall::read(path, &fresh.secret)).await?, fresh))
    }

    /// Whether a token that AAM obtained is in the last half of its life and cannot be renewed any more.
    fn ends_soon(&self, context: &VaultContext<'_>, token: &VaultToken) -> bool {
        let now = super::cache::Moment::now(context.providers.clock.as_ref());
        let state = token.state();
        token.obtained && state.upkeep == token::Upkeep::None && state.end.is_some_and(|end| end.remaining(now) < state.full / 2)
    }

    fn forget_token(&self, context: &VaultContext<'_>, token: &Arc<VaultToken>) {
        self.tokens.forget_if(&context.key(), |current| Arc::ptr_eq(current, token));
    }

    /// While the circuit breaker keeps calls back, the failure still says why: the vault is sealed, for example.
    fn remember_outage(&self, address: &str, result: Result<VaultResponse, Failure>) -> Result<VaultResponse, Failure> {
        let mut outages = lock(&self.outages);
        match &result {
            Ok(_) => drop(outages.remove(address)),
            Err(failure) if matches!(failure.class, Class::Network | Class::Remote) => {
                outages.insert(address.to_string(), failure.clone());
            }
            Err(failure) if failure.class == Class::BreakerOpen => {
                if let Some(known) = outages.get(address) {
                    let (title, fix) = (known.title.clone(), known.fix.clone());
                    let detail = format!("{}; {}", failure.title, known.detail);
                    return Err(Failure { title, fix, detail, ..failure.clone() });
                }
            }
            Err(_) => {}
        }
        result
    }

    /// Checks that a credential does not contain a token with which AAM calls a vault. A hostile or careless vault could return
    /// one as a secret, and an intent could name the file of an agent.
    ///
    /// # Errors
    /// Returns `CredentialMissing`.
    pub fn check_not_own_token(&self, locator: &Locator, credential: &Credential) -> Result<(), Failure> {
        // The token of a development server may be a word that occurs in other values.
        let is_own = |token: &VaultToken| {
            let own = token.secret.expose();
            own.len() >= MIN_TOKEN_BYTES && credential.values().any(|value| value.expose().contains(own))
        };
        match self.tokens.values().iter().any(|(_, token, _)| is_own(token)) {
            false => Ok(()),
            true => Err(Failure::new(
                Class::CredentialMissing,
                format!("the secret that {locator} names is AAM's own vault token, which is never sent to a source"),
                "store the credential of the source there",
            )),
        }
    }
}

/// The warning for a credential that is used although the vault cannot be asked.
fn still_used(failure: &Failure, until: Option<Timestamp>) -> Failure {
    let until = until.map(|until| format!(" until {}", until.rfc3339())).unwrap_or_default();
    let title = format!("the value that was read before is used{until}: {}", failure.title);
    Failure { title, ..failure.clone() }
}

fn root_token(vault: &VaultPolicy) -> Failure {
    Failure::new(
        Class::OverPrivileged,
        format!("AAM's token of the vault {} has the policy root and may do everything", vault.address),
        "create a token that only reads: bao policy write aam aam.hcl, then bao token create -policy=aam -period=768h -orphan (docs/operations.md shows aam.hcl)",
    )
}

impl CredentialProvider for VaultProvider {
    fn provide<'a>(
        &'a self,
        providers: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(self.resolve(providers, request))
    }

    fn planned_calls(&self, policy: &Policy, locator: &Locator, _: &Family) -> Vec<PlannedCall> {
        plan::calls(policy, locator)
    }

    fn next_end(&self) -> Option<Timestamp> {
        self.tokens.next_end().into_iter().chain(self.leases.next_end()).min()
    }

    fn release<'a>(&'a self, providers: &'a Providers, connection: ConnectionId) -> BoxFuture<'a, ()> {
        Box::pin(self.release_leases(providers, connection))
    }

    fn maintain<'a>(&'a self, providers: &'a Providers) -> BoxFuture<'a, ()> {
        Box::pin(self.run_upkeep(providers))
    }

    fn close<'a>(&'a self, providers: &'a Providers) -> BoxFuture<'a, ()> {
        Box::pin(self.give_back(providers))
    }
}

#[cfg(test)]
mod policy_change_tests;
#[cfg(test)]
mod tests;
