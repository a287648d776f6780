//! A person who signed in with OpenID Connect.

use crate::model::Digest;
use crate::model::text::printable;
use crate::policy::OidcPolicy;
use crate::policy::oidc::has_unverified_email;
use serde_json::{Map, Value};

/// What the names of people begin with in records.
pub const PERSON_PREFIX: &str = "person:";
/// The number of characters of a name that are kept.
const MAX_NAME_CHARS: usize = 120;

/// A person, by the ID token of the issuer. The claims stay in memory only, so that a change of the roles in the policy has
/// effect at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// `person:` and the email address, or the subject if the issuer did not verify an address.
    pub name: String,
    /// `api.oidc.issuer` of the policy under which the person signed in.
    issuer: String,
    client_id: String,
    subject: String,
    claims: Map<String, Value>,
}

impl Person {
    /// Creates a person from the claims of a valid ID token. `None` if they do not name a subject.
    #[must_use]
    pub fn new(oidc: &OidcPolicy, claims: Map<String, Value>) -> Option<Person> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let subject = text("sub")?.to_string();
        let email = text("email").filter(|_| !has_unverified_email(&claims));
        let shown: String = printable(email.unwrap_or(&subject), &[]).chars().take(MAX_NAME_CHARS).collect();
        Some(Person {
            name: format!("{PERSON_PREFIX}{shown}"),
            issuer: oidc.issuer.clone(),
            client_id: oidc.client_id.clone(),
            subject,
            claims,
        })
    }

    /// Returns the name that people read.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.name.strip_prefix(PERSON_PREFIX).unwrap_or(&self.name)
    }

    /// Returns the index of the person's role. `None` if no role fits, or if `oidc` names another issuer or client.
    #[must_use]
    pub fn role(&self, oidc: &OidcPolicy) -> Option<usize> {
        let same = (&oidc.issuer, &oidc.client_id) == (&self.issuer, &self.client_id);
        oidc.role(&self.claims).filter(|_| same)
    }

    /// Returns what the person has in all their sessions.
    #[must_use]
    pub fn identity(&self) -> Digest {
        Digest::from_bytes(serde_json::json!(["person", self.issuer, self.subject]).to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(claims: Value) -> Option<String> {
        let oidc = OidcPolicy {
            issuer: "https://login.example".to_string(),
            client_id: "aam".to_string(),
            client_secret: None,
            redirect: None,
            scopes: Vec::new(),
            roles: Vec::new(),
        };
        Person::new(&oidc, claims.as_object().cloned().unwrap_or_default()).map(|person| person.name)
    }

    #[test]
    fn the_name_is_a_verified_address_or_the_subject() {
        assert_eq!(named(json!({"sub": "1", "email": "a@acme.example"})).as_deref(), Some("person:a@acme.example"));
        let unverified = json!({"sub": "1", "email": "a@acme.example", "email_verified": false});
        assert_eq!(named(unverified).as_deref(), Some("person:1"));
        assert_eq!(named(json!({"sub": "x\u{202e}y"})).as_deref(), Some("person:x\\u{202e}y"));
        assert_eq!(named(json!({"email": "a@acme.example"})), None);
        let long = named(json!({"sub": "s".repeat(500)})).unwrap_or_default();
        assert_eq!(long.len(), "person:".len() + MAX_NAME_CHARS);
    }
}
