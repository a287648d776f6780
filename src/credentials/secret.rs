//! Secrets: strings that are never printed and whose memory is wiped on drop.

use super::forms;
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
    /// The fields whose values are not texts as a source expects them, with what they are instead, for example `an object`.
    unfit: BTreeMap<String, &'static str>,
    /// Signs each request to one origin, if the credential is not sent as it is.
    signer: Option<Signer>,
    read_only: bool,
    /// The scopes that the vendor named when it issued the token. They are not secret.
    granted: Option<Vec<String>>,
    /// What the vendor confirmed when it issued the token, for example the account that it is for. It is not secret.
    confirmed: Option<BTreeMap<String, String>>,
}

impl Credential {
    /// Parses a value that a person stored. A JSON object becomes named fields, and any other text is one plain value.
    ///
    /// # Errors
    /// Returns a [`MalformedSecret`] for a text that looks like JSON and cannot be used as a credential: it would be sent to the
    /// source as it is.
    pub fn parse(raw: Secret) -> Result<Credential, MalformedSecret> {
        let text = raw.expose().trim_start_matches('\u{feff}').trim();
        if text.starts_with('"') && serde_json::from_str::<String>(text).map(Zeroizing::new).is_ok() {
            return Err(MalformedSecret::Quoted);
        }
        if !text.starts_with(['{', '[']) {
            return Ok(Credential { plain: Some(raw), ..Credential::default() });
        }
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| MalformedSecret::Invalid(error.to_string()))?;
        match value {
            serde_json::Value::Object(object) => {
                let credential = Credential::from_object(&object);
                if credential.fields.is_empty() { Err(MalformedSecret::Empty) } else { Ok(credential) }
            }
            _ => Err(MalformedSecret::List),
        }
    }

    /// Reads a value that is not a credential of a source by itself, for example a private key or a minted token. A JSON
    /// object becomes named fields, and anything else is one plain value.
    #[must_use]
    pub fn read(raw: Secret) -> Credential {
        match Credential::parse(raw.clone()) {
            Ok(credential) => credential,
            Err(MalformedSecret::Empty) => Credential::default(),
            Err(_) => Credential { plain: Some(raw), ..Credential::default() },
        }
    }

    /// Creates a credential of the fields of a JSON object. Fields that are null are left out. Numbers, booleans, lists and
    /// objects become JSON text; [`Credential::unfit`] names those that are not meant so.
    #[must_use]
    pub fn from_object(object: &serde_json::Map<String, serde_json::Value>) -> Credential {
        let mut credential = Credential::default();
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            // A number loses leading zeros and digits, so it cannot be a secret.
            let kind = match value {
                serde_json::Value::Array(_) => Some("a list"),
                serde_json::Value::Object(_) => Some("an object"),
                serde_json::Value::Number(_) if forms::is_secret_name(name) => Some("a number"),
                serde_json::Value::Bool(_) if forms::is_secret_name(name) => Some("true or false"),
                _ => None,
            };
            credential.unfit.extend(kind.map(|kind| (name.clone(), kind)));
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            credential.fields.insert(name.clone(), Secret::new(text));
        }
        credential
    }

    /// Returns the name of a field whose value is not a text as sources expect it, and what it is instead.
    #[must_use]
    pub fn unfit(&self) -> Option<(&str, &'static str)> {
        self.unfit.iter().next().map(|(name, kind)| (name.as_str(), *kind))
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

    /// Notes what the vendor confirmed when it issued the token, under the names that its tokens use for these claims. What is
    /// read from a locator never has such facts.
    #[must_use]
    pub fn with_confirmed(self, facts: BTreeMap<String, String>) -> Credential {
        Credential { confirmed: Some(facts), ..self }
    }

    /// Returns what the vendor confirmed when it issued the token.
    #[must_use]
    pub fn confirmed(&self) -> Option<&BTreeMap<String, String>> {
        self.confirmed.as_ref()
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

/// Why a text that looks like JSON cannot be used as a credential. It contains no part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MalformedSecret {
    /// It is not valid JSON. Holds what is wrong, with line and column.
    Invalid(String),
    List,
    /// It is a text in quotation marks.
    Quoted,
    /// It is an object without a field that has a value.
    Empty,
}

impl MalformedSecret {
    /// Returns what is wrong, as the end of a sentence.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            MalformedSecret::Invalid(problem) => format!("begins like JSON and is not valid JSON: {problem}"),
            MalformedSecret::List => "is a JSON list".to_string(),
            MalformedSecret::Quoted => "is a JSON text in quotation marks".to_string(),
            MalformedSecret::Empty => "is a JSON object without any value".to_string(),
        }
    }

    /// Returns what to store instead.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            MalformedSecret::Invalid(_) => {
                "correct the JSON at that place; a secret that really begins so is stored as a field, for example {\"password\": \"...\"}"
            }
            MalformedSecret::List | MalformedSecret::Empty => {
                "store one text, or a JSON object with the fields of the family (aam families NAME)"
            }
            MalformedSecret::Quoted => "store it without the quotation marks",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Credential, MalformedSecret> {
        Credential::parse(Secret::new(text.to_string()))
    }

    #[test]
    fn what_looks_like_json_is_used_only_if_it_is_an_object_with_values() {
        let broken = parse("{\"type\": \"service_account\",\n \"token\": \"canary-77\",}").unwrap_err().message();
        assert!(broken.contains("line 2 column 23") && !broken.contains("canary"), "{broken}");
        for text in ["{token", " [1", "\u{feff}{\"a\":", "{\"a\": \"b\"} c"] {
            assert!(matches!(parse(text), Err(MalformedSecret::Invalid(_))), "{text}");
        }
        assert_eq!(parse("[\"canary-77\"]"), Err(MalformedSecret::List));
        assert_eq!(parse("\"canary-77\"\n"), Err(MalformedSecret::Quoted));
        assert_eq!(parse("{}"), Err(MalformedSecret::Empty));
        assert_eq!(parse("{\"token\": null}"), Err(MalformedSecret::Empty));
        for text in ["token: a", "user:{x}", "\"a\" b \"c\"", "-----BEGIN KEY-----\nMIIE"] {
            assert_eq!(parse(text).unwrap().plain().map(Secret::expose), Some(text));
        }
        let marked = parse("\u{feff} {\"token\": \"canary-77\", \"port\": 5432, \"tls\": true}").unwrap();
        assert_eq!(marked.field("port").map(Secret::expose), Some("5432"));
        assert_eq!(marked.unfit(), None);
    }

    #[test]
    fn a_field_that_is_not_a_text_is_named() {
        for (text, expected) in [
            ("{\"token\": {\"value\": \"canary-77\"}}", ("token", "an object")),
            ("{\"user\": \"a\", \"hosts\": [\"a\"]}", ("hosts", "a list")),
            ("{\"token\": 1234567890123}", ("token", "a number")),
            ("{\"client_secret\": true}", ("client_secret", "true or false")),
        ] {
            assert_eq!(parse(text).unwrap().unfit(), Some(expected), "{text}");
        }
        let fields = [("token".to_string(), Secret::new("canary-77".to_string()))];
        assert_eq!(Credential::from_fields(fields).unfit(), None);
    }
}
