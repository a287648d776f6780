//! One consent of the policy, together with its family.

use crate::families::{Family, OAuthScope};
use crate::model::problem::nearest;
use crate::model::{Class, Digest, Failure};
use crate::policy::Policy;
use crate::policy::credentials::{ConsentPolicy, ConsentTerms};
use std::sync::Arc;
use url::Url;

/// The settings of one consent.
#[derive(Clone, Debug)]
pub struct ConsentSettings {
    pub name: String,
    pub family: Arc<Family>,
    pub policy: ConsentPolicy,
    pub terms: ConsentTerms,
}

impl ConsentSettings {
    /// Returns the settings of the consent called `name` for a connection of `family`.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the policy does not have the consent, if it is for another family, or if something is
    /// missing in it.
    pub fn find(name: &str, policy: &Policy, family: &Arc<Family>) -> Result<ConsentSettings, Failure> {
        let Some(found) = policy.credentials.consents.get(name) else { return Err(unknown(name, policy)) };
        if found.family != *family.id {
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("consent:{name} is for the family {}, not for {}", found.family, family.id),
                format!(
                    "describe a consent with family: {} under credentials.consents in the policy, and name it in credential_locator",
                    family.id
                ),
            ));
        }
        let terms = found.terms(family.oauth.as_ref()).map_err(|problems| {
            let first = problems.into_iter().next();
            let (key, message, hint) = first.map_or_else(Default::default, |first| (first.key, first.message, first.hint));
            Failure::new(
                Class::CredentialMissing,
                format!("credentials.consents.{name} of the policy cannot be used: {message}"),
                format!("correct {key} there: {hint}"),
            )
        })?;
        Ok(ConsentSettings { name: name.to_string(), family: Arc::clone(family), policy: found.clone(), terms })
    }

    /// Returns the digest of everything that an authorization depends on.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let scopes: Vec<&str> = self.scopes().collect();
        let parts = serde_json::json!([self.name, *self.family.id, self.policy, scopes, self.terms.token_url.as_str()]);
        Digest::from_bytes(parts.to_string().as_bytes())
    }

    /// Returns the names of the scopes that are asked for.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.terms.scopes.iter().map(|scope: &OAuthScope| scope.name.as_str())
    }

    /// Whether `name` is one of the scopes.
    #[must_use]
    pub fn asks_for(&self, name: &str) -> bool {
        self.scopes().any(|scope| scope == name)
    }

    /// Returns the address of the link called `id`, at the origin of the callback.
    #[must_use]
    pub fn link_url(&self, id: &str) -> String {
        let origin = Url::parse(&self.policy.redirect).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        format!("{origin}/consent/{id}")
    }

    /// Returns the host of the vendor's consent page, with the port unless it is the default.
    #[must_use]
    pub fn vendor_host(&self) -> String {
        let url = &self.terms.authorize_url;
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
    }
}

fn unknown(name: &str, policy: &Policy) -> Failure {
    let known = policy.credentials.consents.keys().map(String::as_str);
    let describe = "{family: ..., client_id: ..., client_secret: env:..., redirect: \"https://HOST/consent/callback\"}";
    let fix = match nearest(name, known) {
        Some(near) => format!("write consent:{near}, or describe {name} under credentials.consents in the policy"),
        None => format!("describe it in the policy: credentials: {{consents: {{{name}: {describe}}}}}"),
    };
    Failure::new(Class::CredentialMissing, format!("the policy does not describe a consent {name}"), fix)
}
