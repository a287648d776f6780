//! `sp:NAME`: a service principal that the policy describes.
//!
//! Each kind of `policy::credentials::KIND_SPECS` has a module here that mints its credential. What was minted is shared by
//! all connections of the principal and of the same scopes, and used until shortly before its end.

mod aws;
mod box_platform;
mod dpop;
mod entra;
mod fixed;
mod github_app;
mod google;
mod issued;
mod netsuite;
mod oauth2_client;
mod okta;
mod refusal;
mod refused;
mod salesforce;
mod servicenow;
mod snowflake;
pub(super) mod token_request;
mod token_response;
mod zoom;

use super::cache::{Cache, Cached, Fetched, Moment, Reuse};
use super::stored;
use super::{CredentialFacts, CredentialProvider, CredentialRequest, ProvidedCredential, Providers};
use crate::clock::Clock;
use crate::credentials::private_key::{PrivateKey, UnusableKey};
use crate::credentials::{Credential, Secret};
use crate::families::Family;
use crate::model::locator_forms::unknown_form;
use crate::model::problem::nearest;
use crate::model::{Class, EndingSecret, Evidence, Failure, Locator, PlannedCall, Timestamp};
use crate::policy::Policy;
use crate::policy::credentials::Principal;
use futures_util::future::BoxFuture;
use refused::Refusals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Whether a token endpoint was asked.
    pub asked: AtomicBool,
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

    /// Returns the secret behind the key `key` as one text, without a line break at its end. If it is stored as a JSON
    /// object, this is its only field, or the field that has the name of the key.
    ///
    /// # Errors
    /// As [`MintContext::secret`], and `CredentialMissing` if the object has several fields.
    pub async fn secret_text(&self, key: &str) -> Result<Secret, Failure> {
        let credential = self.secret(key).await?;
        stored::check_fields(&credential, &self.stored(key))?;
        let only = credential.values().next().filter(|_| credential.values().count() == 1);
        let Some(secret) = only.or_else(|| credential.field(key)) else {
            let title = format!("{} has several fields: {}", self.stored(key), credential.field_names().join(", "));
            let fix = format!("store it as text, as a JSON object with the field {key}, or add #FIELD to a vault: locator");
            return Err(Failure::new(Class::CredentialMissing, title, fix));
        };
        Ok(Secret::new(secret.expose().trim_end_matches(['\r', '\n']).to_string()))
    }

    /// Returns the private key behind the key `key`, decrypted with the key `passphrase` if the policy has it.
    ///
    /// # Errors
    /// As [`MintContext::secret`], and `CredentialMissing` with what is wrong with the key.
    pub async fn private_key(&self, key: &str) -> Result<PrivateKey, Failure> {
        let credential = self.secret(key).await?;
        let passphrase = match self.principal.locator("passphrase") {
            Some(_) => Some(self.secret_text("passphrase").await?),
            None => None,
        };
        PrivateKey::from_credential(&credential, passphrase.as_ref()).map_err(|unusable| self.unusable_key(key, &unusable))
    }

    /// The failure for the private key behind the key `key` that cannot be used.
    #[must_use]
    pub fn unusable_key(&self, key: &str, unusable: &UnusableKey) -> Failure {
        let title = format!("{} {}", self.stored(key), unusable.message());
        Failure::new(Class::CredentialMissing, title, unusable.fix())
    }

    /// Names the secret behind the key `key`, for messages.
    fn stored(&self, key: &str) -> String {
        let place = self.principal.locator(key).map(|locator| format!(" ({locator})")).unwrap_or_default();
        format!("{key} of the service principal {}{place}", self.name)
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
    refusals: Refusals,
}

impl PrincipalProvider {
    pub fn new(clock: &Arc<dyn Clock>) -> PrincipalProvider {
        PrincipalProvider { minted: Cache::new(clock), refusals: Refusals::default() }
    }

    async fn resolve(&self, providers: &Providers, request: &CredentialRequest) -> Result<ProvidedCredential, Failure> {
        let Locator::ServicePrincipal(name) = &request.locator else { return Err(unknown_form(&request.locator)) };
        let Some(principal) = request.policy.credentials.principals.get(name) else { return Err(unknown(name, &request.policy)) };
        let context = MintContext { providers, request, name, principal, asked: AtomicBool::new(false) };
        // A changed principal mints anew, and so does a family that needs other scopes.
        let definition = request.policy.credentials.definition(&request.locator).to_string();
        let for_redshift = principal.kind == "aws" && aws::logs_in_to_redshift(&request.family.id);
        let settings = serde_json::json!([principal, context.scopes(), definition, for_redshift]).to_string();
        let key = format!("{name}|{}", crate::model::Digest::from_bytes(settings.as_bytes()));
        // Where no call is made, the credential is made of keys that can be changed at their place at any time.
        let reuse = if principal.calls().is_empty() { Reuse::OncePerConnection } else { Reuse::UntilEnd };
        let fetch = || async {
            if reuse == Reuse::OncePerConnection || !refused::is_certain(principal) {
                return mint(&context).await;
            }
            let key = format!("{key}|{}", refused::digest_of_secrets(&context).await?);
            let now = Moment::now(providers.clock.as_ref());
            if let Some(failure) = self.refusals.find(&key, now) {
                return Err(failure);
            }
            mint(&context).await.map_err(|failure| match context.asked.load(Ordering::Relaxed) {
                true => self.refusals.keep(key, failure, now),
                false => failure,
            })
        };
        let cached = self.minted.get(&key, request, reuse, fetch).await?;
        Ok(provided(&cached, name, principal))
    }
}

/// Mints a credential of the principal's kind. Each kind has one line here and one module.
async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    match context.principal.kind {
        "oauth2_client" => oauth2_client::mint(context).await,
        "entra" => entra::mint(context).await,
        "google" => google::mint(context).await,
        "aws" => aws::mint(context).await,
        "snowflake" => snowflake::mint(context).await,
        "github_app" => github_app::mint(context).await,
        "okta" => okta::mint(context).await,
        "salesforce" => salesforce::mint(context).await,
        "box" => box_platform::mint(context).await,
        "zoom" => zoom::mint(context).await,
        "netsuite" => netsuite::mint(context).await,
        "basic" => fixed::basic(context).await,
        "token" => fixed::token(context).await,
        _ => Err(not_served(context)),
    }
}

/// The failure with which every mint of `principal` would end, whatever is stored for it.
#[must_use]
pub fn unusable(principal: &Principal) -> Option<Failure> {
    match principal.kind {
        "salesforce" => salesforce::unusable(principal),
        "netsuite" => netsuite::unusable(principal),
        _ => None,
    }
}

/// The failure for a kind that this version does not serve yet.
fn not_served(context: &MintContext<'_>) -> Failure {
    Failure::new(
        Class::Unsupported,
        format!("this version cannot use service principals of the kind {}", context.principal.kind),
        format!("store a token of {} with `aam secret set NAME` and write env:NAME instead", context.name),
    )
}

fn provided(cached: &Cached<Minted>, name: &str, principal: &Principal) -> ProvidedCredential {
    let minted = &cached.value;
    let mut facts = CredentialFacts::new("sp");
    facts.changeable = true;
    facts.issued_earlier = cached.hit;
    facts.valid_until = cached.valid_until();
    facts.ends_at = principal.expires().or(minted.key_ends_at);
    facts.ending_secret = facts.ends_at.map(|_| EndingSecret::Principal(name.to_string()));
    facts.evidence = minted.evidence.clone();
    facts.evidence.insert("kind".to_string(), principal.kind.into());
    facts.evidence.insert("cached".to_string(), cached.hit.into());
    facts.warning = cached.stale.clone();
    ProvidedCredential { credential: minted.credential.clone(), facts }
}

/// The failure for a service principal that the policy does not describe.
pub fn unknown(name: &str, policy: &Policy) -> Failure {
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

    fn next_end(&self) -> Option<Timestamp> {
        self.minted.next_end()
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
