//! A string that is never printed and whose memory is wiped.

use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// One secret value. `Debug` prints `[redacted]`; there is no `Display`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub fn new(value: String) -> Secret {
        Secret(Zeroizing::new(value))
    }

    /// The value, for the call that needs it.
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

/// What a locator resolved to: one plain value, or named fields from a JSON object.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    plain: Option<Secret>,
    fields: BTreeMap<String, Secret>,
}

impl Credential {
    /// Parses the raw value: a JSON object gives fields, anything else is one plain value.
    /// Numbers and booleans of the object become text.
    #[must_use]
    pub fn read(raw: Secret) -> Credential {
        let parsed: Option<serde_json::Map<String, serde_json::Value>> =
            if raw.expose().trim_start().starts_with('{') { serde_json::from_str(raw.expose()).ok() } else { None };
        match parsed {
            None => Credential { plain: Some(raw), fields: BTreeMap::new() },
            Some(object) => {
                let text = |value: serde_json::Value| match value {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                let fields = object.into_iter().map(|(key, value)| (key, Secret::new(text(value)))).collect();
                Credential { plain: None, fields }
            }
        }
    }

    /// The plain value; `None` if the secret is a JSON object.
    #[must_use]
    pub fn plain(&self) -> Option<&Secret> {
        self.plain.as_ref()
    }

    /// A field of the JSON object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Secret> {
        self.fields.get(name)
    }

    /// The first of `names` that the object has.
    #[must_use]
    pub fn any(&self, names: &[&str]) -> Option<&Secret> {
        names.iter().find_map(|name| self.field(name))
    }

    /// The names of the fields. They are not secret.
    #[must_use]
    pub fn field_names(&self) -> Vec<&str> {
        self.fields.keys().map(String::as_str).collect()
    }

    /// Every secret value, for the redactor.
    pub fn values(&self) -> impl Iterator<Item = &Secret> {
        self.plain.iter().chain(self.fields.values())
    }
}
