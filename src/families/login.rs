//! The ways to log in to the sources of a family.

use super::Family;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One way to log in: the fields that a credential has, and what yields them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub name: String,
    pub about: String,
    /// The fields of the JSON object behind a locator of the form `env:`, `file:` or `vault:`.
    pub fields: Vec<CredentialField>,
    /// The form of a credential that is a text instead of JSON, for example `USER:PASSWORD`. `None` if it must be JSON.
    #[serde(default)]
    pub plain: Option<String>,
    /// The kinds of service principals that yield such a credential, by their names in the policy.
    #[serde(default)]
    pub principals: Vec<String>,
    /// What the examples of service principals need at this vendor: keys of the kind and their values, as YAML.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Whether the access token of a consent is such a credential.
    #[serde(default)]
    pub consent: bool,
}

/// One field of the JSON object behind a locator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialField {
    pub name: String,
    pub about: String,
    /// Whether the credential can be used without the field.
    #[serde(default)]
    pub optional: bool,
}

impl Login {
    /// The names of the fields without which the credential cannot be used.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|field| !field.optional).map(|field| field.name.as_str())
    }
}

impl Family {
    /// The fields of all ways to log in.
    pub fn credential_fields(&self) -> impl Iterator<Item = &CredentialField> {
        self.login.iter().flat_map(|login| &login.fields)
    }

    /// Whether an owner can let AAM read by giving consent.
    #[must_use]
    pub fn accepts_consent(&self) -> bool {
        self.login.iter().any(|login| login.consent)
    }
}
