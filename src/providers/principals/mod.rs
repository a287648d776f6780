//! `sp:NAME`: a service principal that the policy describes.
//!
//! Each kind of `policy::credentials::KIND_SPECS` has a module here that mints its credential. What was minted is shared by
//! all connections of the principal and of the same scopes, and used until shortly before its end.

mod token_request;

use super::cache::{Cache, Cached, Fetched, Reuse};
use super::{CredentialFacts, CredentialProvider, CredentialRequest, ProvidedCredential, Providers};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::families::Family;
use crate::model::locator_forms::unknown_form;
use crate::model::problem::nearest;
use crate::model::{Class, Evidence, Failure, Locator, PlannedCall, Timestamp};
use crate::policy::Policy;
use crate::policy::credentials::Principal;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What a kind minted.
#[derive(Clone)]
pub struct Minted {
    pub credential: Credential,
    /// The scopes that the vendor granted, the role that was assumed and the like; no secret.
    pub evidence: Evidence,
    /// When the key or certificate of the principal ends, if it says so itself.
    pub key_ends_at: Option<Timestamp>,
}

/// What a kind needs to mint a credential.
pub struct MintContext<'a> {
    pub providers: &'a Providers,
    pub request: &'a CredentialRequest,
    /// The name in `credentials.principals`.
    pub name: &'a str,
    pub principal: &'a Principal,
}

impl MintContext<'_> {
    /// Returns the secret behind the key `key` of the principal.
    ///
    /// # Errors
    /// Returns the failure of its locator, or `Misconfigured` if the key is not written.
    pub async fn secret(&self, key: &str) -> Result<Credential, Failure> {
        let Some(locator) = self.principal.locator(key) else { return Err(self.lacks(key)) };
        let request = CredentialRequest { locator: locator.clone(), ..self.request.clone() };
        // The provider is boxed, because it may itself be a provider that needs a secret.
        Ok(self.providers.provide_setting(&request, locator).await?.credential)
    }

    /// Returns the text of the key `key`.
    ///
    /// # Errors
    /// Returns `Misconfigured` if the key is not written.
    pub fn text(&self, key: &str) -> Result<&str, Failure> {
        self.principal.text(key).ok_or_else(|| self.lacks(key))
    }

    /// Returns the scopes to ask for: those of the policy, otherwise the least that the family states.
    #[must_use]
    pub fn scopes(&self) -> Vec<String> {
        match self.principal.list("scopes") {
            Some(scopes) => scopes.to_vec(),
            None => self.request.family.oauth.as_ref().map(|oauth| oauth.principal_scopes()).unwrap_or_default(),
        }
    }

    /// The failure for a key of the principal that this request needs and that the policy does not have.
    #[must_use]
    pub fn lacks(&self, key: &str) -> Failure {
        Failure::new(
            Class::Misconfigured,
            format!("the service principal {} does not have {key}", self.name),
            format!("add {key} to credentials.principals.{} in the policy", self.name),
        )
    }
}

/// Resolves `sp:` locators.
pub struct PrincipalProvider {
    minted: Cache<Minted>,
}

impl PrincipalProvider {
    pub fn new(clock: &Arc<dyn Clock>) -> PrincipalProvider {
        PrincipalProvider { minted: Cache::new(clock) }
    }

    async fn resolve(&self, providers: &Providers, request: &CredentialRequest) -> Result<ProvidedCredential, Failure> {
        let Locator::ServicePrincipal(name) = &request.locator else { return Err(unknown_form(&request.locator)) };
        let Some(principal) = request.policy.credentials.principals.get(name) else { return Err(unknown(name, &request.policy)) };
        let context = MintContext { providers, request, name, principal };
        // A changed principal mints anew, and so does a family that needs other scopes.
        let settings = serde_json::json!([principal, context.scopes()]).to_string();
        let key = format!("{name}|{}", crate::model::Digest::from_bytes(settings.as_bytes()));
        let cached = self.minted.get(&key, request, Reuse::UntilEnd, || mint(&context)).await?;
        Ok(provided(&cached, principal))
    }
}

/// Mints a credential of the principal's kind.
async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    match context.principal.kind {
        kind => Err(Failure::new(
            Class::Unsupported,
            format!("this version cannot use service principals of the kind {kind}"),
            format!("store a token of {} with `aam secret set NAME` and write env:NAME instead", context.name),
        )),
    }
}

fn provided(cached: &Cached<Minted>, principal: &Principal) -> ProvidedCredential {
    let minted = &cached.value;
    let mut facts = CredentialFacts::new("sp");
    facts.changeable = true;
    facts.valid_until = cached.valid_until;
    facts.ends_at = end_of_day(principal.text("expires")).or(minted.key_ends_at);
    facts.evidence = minted.evidence.clone();
    facts.evidence.insert("kind".to_string(), principal.kind.into());
    facts.evidence.insert("cached".to_string(), cached.hit.into());
    facts.warning = cached.stale.clone();
    ProvidedCredential { credential: minted.credential.clone(), facts }
}

/// The instant at which the day `YYYY-MM-DD` of the policy ends in UTC.
fn end_of_day(day: Option<&str>) -> Option<Timestamp> {
    let start = Timestamp::parse(&format!("{}T00:00:00Z", day?)).ok()?;
    Some(start.next_day())
}

fn unknown(name: &str, policy: &Policy) -> Failure {
    let known = policy.credentials.principals.keys().map(String::as_str);
    let fix = match nearest(name, known) {
        Some(near) => format!("write sp:{near}, or describe {name} under credentials.principals in the policy"),
        None => format!("describe it in the policy: credentials: {{principals: {{{name}: {{kind: ...}}}}}}"),
    };
    Failure::new(Class::CredentialMissing, format!("the policy does not describe a service principal {name}"), fix)
}

impl CredentialProvider for PrincipalProvider {
    fn provide<'a>(
        &'a self,
        providers: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(self.resolve(providers, request))
    }

    fn planned_calls(&self, policy: &Policy, locator: &Locator, _: &Family) -> Vec<PlannedCall> {
        let Locator::ServicePrincipal(name) = locator else { return Vec::new() };
        let calls = policy.credentials.principals.get(name).map(Principal::calls).unwrap_or_default();
        let planned = calls.into_iter().filter_map(|(method, url)| {
            let url = url::Url::parse(&url).ok()?;
            let host = url.host_str()?.to_string();
            let host = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
            Some(PlannedCall { method: method.to_string(), host, path: url.path().to_string() })
        });
        planned.collect()
    }
}
