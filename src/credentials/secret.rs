//! Secrets: strings that are never printed and whose memory is wiped on drop.

use super::signer::Signer;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// One secret value. `Debug` prints `[redacted]`, and `Display` is not implemented.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub fn new(value: String) -> Secret {
        Secret(Zeroizing::new(value))
    }

    /// Returns the value. Use it only where a call needs the secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The secret that a locator resolved to. It is one plain value, or the named fields of a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    plain: Option<Secret>,
    fields: BTreeMap<String, Secret>,
    /// Signs each request to one origin, if the credential is not sent as it is.
    signer: Option<Signer>,
    read_only: bool,
    /// The scopes that the vendor named when it issued the token. They are not secret.
    granted: Option<Vec<String>>,
}

impl Credential {
    /// Parses the raw value. A JSON object becomes named fields, and anything else is one plain value. Numbers and
    /// booleans in the object become text.
    #[must_use]
    pub fn read(raw: Secret) -> Credential {
        let parsed: Option<serde_json::Map<String, serde_json::Value>> =
            if raw.expose().trim_start().starts_with('{') { serde_json::from_str(raw.expose()).ok() } else { None };
        match parsed {
            None => Credential { plain: Some(raw), ..Credential::default() },
            Some(object) => {
                let text = |value: serde_json::Value| match value {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                let fields = object.into_iter().map(|(key, value)| (key, Secret::new(text(value)))).collect();
                Credential { fields, ..Credential::default() }
            }
        }
    }

    /// Creates a credential of named fields.
    #[must_use]
    pub fn from_fields(fields: impl IntoIterator<Item = (String, Secret)>) -> Credential {
        Credential { fields: fields.into_iter().collect(), ..Credential::default() }
    }

    /// Adds a signer. The session of the resource applies it to every request to the signer's origin.
    #[must_use]
    pub fn with_signer(self, signer: Signer) -> Credential {
        Credential { signer: Some(signer), ..self }
    }

    /// Returns the signer, if the credential signs requests.
    #[must_use]
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// Adds a named field. A plain value stays, so that a caller finds it either way.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: Secret) -> Credential {
        self.fields.insert(name.to_string(), value);
        self
    }

    /// Marks the credential as one with which nothing can be changed, because its issuer limited it so when AAM minted it. What
    /// is read from a locator never has the mark.
    #[must_use]
    pub fn read_only(self) -> Credential {
        Credential { read_only: true, ..self }
    }

    /// Notes the scopes that the vendor named when it issued the token.
    #[must_use]
    pub fn with_granted(self, scopes: Vec<String>) -> Credential {
        Credential { granted: Some(scopes), ..self }
    }

    /// Returns the scopes that the vendor named when it issued the token, if it did.
    #[must_use]
    pub fn granted(&self) -> Option<&[String]> {
        self.granted.as_deref()
    }

    /// Whether the issuer of the credential limited it to reading.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Returns the plain value, or `None` if the secret is a JSON object.
    #[must_use]
    pub fn plain(&self) -> Option<&Secret> {
        self.plain.as_ref()
    }

    /// Returns a field of the JSON object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Secret> {
        self.fields.get(name)
    }

    /// Returns the value of the first of `names` that the object has.
    #[must_use]
    pub fn any(&self, names: &[&str]) -> Option<&Secret> {
        names.iter().find_map(|name| self.field(name))
    }

    /// Returns the names of the fields. The names are not secret.
    #[must_use]
    pub fn field_names(&self) -> Vec<&str> {
        self.fields.keys().map(String::as_str).collect()
    }

    /// Returns all values: the plain value, or the value of each field.
    pub fn values(&self) -> impl Iterator<Item = &Secret> {
        self.plain.iter().chain(self.fields.values())
    }
}
