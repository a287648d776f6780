//! What the kinds of vendors share: their token endpoints, and the credential that a token becomes.

use super::token_request::IssuedToken;
use super::{Fetched, MintContext, Minted};
use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Evidence, Failure};
use std::time::Duration;
use url::Url;

impl MintContext<'_> {
    /// Returns the URL of the key `key`, or `default` if the policy does not have it.
    ///
    /// # Errors
    /// Returns `Misconfigured` if it is not a URL.
    pub fn endpoint(&self, key: &str, default: &str) -> Result<Url, Failure> {
        self.url(self.principal.text(key).unwrap_or(default))
    }

    /// Parses an address of the principal.
    ///
    /// # Errors
    /// Returns `Misconfigured` if it is not a URL.
    pub fn url(&self, text: &str) -> Result<Url, Failure> {
        Url::parse(text).map_err(|error| {
            let title = format!("the service principal {} has an address that is not valid", self.name);
            Failure::new(Class::Misconfigured, title, format!("correct credentials.principals.{} in the policy", self.name))
                .detail(error.to_string())
        })
    }
}

/// Makes the credential of a token: its fields are `token` and `access_token`, by one of which families, descriptions and
/// manifests know it, `token_type` and `more`. `lifetime` is that of a token whose
/// response does not name one.
#[must_use]
pub fn token_credential(issued: IssuedToken, more: &[(&str, &str)], lifetime: Duration) -> Fetched<Minted> {
    let (evidence, valid_for, scopes) = (granted(&issued), issued.lifetime(lifetime), granted_scopes(&issued));
    let mut fields = vec![
        ("token".to_string(), issued.access_token.clone()),
        ("access_token".to_string(), issued.access_token),
        ("token_type".to_string(), Secret::new(issued.token_type)),
    ];
    fields.extend(more.iter().map(|(name, value)| ((*name).to_string(), Secret::new((*value).to_string()))));
    let credential = with_scopes(Credential::from_fields(fields), scopes);
    Fetched { value: Minted { credential, evidence, key_ends_at: None }, valid_for: Some(valid_for) }
}

/// Notes the scopes that the vendor named, by which a family judges what the token may do.
#[must_use]
pub fn with_scopes(credential: Credential, scopes: Option<Vec<String>>) -> Credential {
    match scopes {
        Some(scopes) => credential.with_granted(scopes),
        None => credential,
    }
}

/// Returns the scopes that the response names. Vendors separate them by blanks or commas.
#[must_use]
pub fn granted_scopes(issued: &IssuedToken) -> Option<Vec<String>> {
    issued.scope.as_deref().map(crate::providers::consent::split_scopes)
}

/// The scopes that the vendor granted, if the response names them.
#[must_use]
pub fn granted(issued: &IssuedToken) -> Evidence {
    let mut evidence = Evidence::new();
    evidence.insert("token_type".to_string(), redact::scrub_and_cut(&issued.token_type, 40).into());
    if let Some(scope) = &issued.scope {
        evidence.insert("scopes".to_string(), redact::scrub_and_cut(scope, 1000).into());
    }
    evidence
}
