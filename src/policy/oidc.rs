//! How people sign in to the pages with OpenID Connect, and what they may do then. Decision record 77 gives the reasons.

use super::TokenScope;
use crate::model::Locator;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The scopes that are asked for in addition to `openid` if the policy names none.
pub const DEFAULT_SCOPES: [&str; 1] = ["email"];

/// The path of the address to which the issuer sends the browser back.
pub const CALLBACK_PATH: &str = "/ui/oidc/callback";

/// The section `api.oidc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OidcPolicy {
    /// The address of the issuer, below which its discovery document is.
    pub issuer: String,
    pub client_id: String,
    /// `None` for a public client, which proves itself by PKCE only.
    pub client_secret: Option<Locator>,
    /// The address of AAM's own callback, as registered at the issuer. `None` to make it from the host that the browser names.
    pub redirect: Option<String>,
    /// The scopes that are asked for in addition to `openid`.
    pub scopes: Vec<String>,
    /// What people may do. The first role that fits a person is theirs.
    pub roles: Vec<OidcRole>,
}

/// What the people with one value of one claim may do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OidcRole {
    /// The name of the claim of the ID token, or a JSON pointer to it, for example `/realm_access/roles`.
    pub claim: String,
    /// The value that the claim has, or that is in its list.
    pub value: String,
    pub scopes: BTreeSet<TokenScope>,
    pub namespaces: BTreeSet<String>,
}

impl OidcPolicy {
    /// Returns the index of the role of a person with these claims. `None` if no role fits.
    #[must_use]
    pub fn role(&self, claims: &Map<String, Value>) -> Option<usize> {
        self.roles.iter().position(|role| role.fits(claims))
    }

    /// Returns the names of the claims that roles ask for, each once and in order, and whether `claims` has it.
    #[must_use]
    pub fn asked_claims(&self, claims: &Map<String, Value>) -> Vec<(&str, bool)> {
        let mut asked: Vec<(&str, bool)> = Vec::new();
        for role in &self.roles {
            if !asked.iter().any(|(known, _)| *known == role.claim) {
                asked.push((&role.claim, find(claims, &role.claim).is_some_and(|value| !value.is_null())));
            }
        }
        asked
    }
}

impl OidcRole {
    fn fits(&self, claims: &Map<String, Value>) -> bool {
        // A person who can write any address into their own profile must not get the rights of its owner.
        let is_unproven = self.claim == "email" && has_unverified_email(claims);
        !is_unproven && find(claims, &self.claim).is_some_and(|value| has(value, &self.value))
    }
}

/// Whether the issuer says that it did not verify the address in the claim `email`.
#[must_use]
pub fn has_unverified_email(claims: &Map<String, Value>) -> bool {
    claims.get("email_verified").is_some_and(|verified| has(verified, "false"))
}

/// Returns the value of the claim called `name`, or at the JSON pointer `name`.
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    let Some(pointer) = name.strip_prefix('/') else { return claims.get(name) };
    let mut segments = pointer.split('/').map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    let first = segments.next()?;
    let mut found = claims.get(&first)?;
    for segment in segments {
        found = found.get(segment.as_str())?;
    }
    Some(found)
}

/// Whether `value` is the text `wanted`, or a list that contains it.
fn has(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(value) => wanted == if *value { "true" } else { "false" },
        Value::Number(number) => *wanted == *number.to_string(),
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(claim: &str, value: &str) -> OidcRole {
        OidcRole {
            claim: claim.to_string(),
            value: value.to_string(),
            scopes: BTreeSet::from([TokenScope::RegistryRead]),
            namespaces: BTreeSet::from(["autonomy".to_string()]),
        }
    }

    fn fits(claim: &str, value: &str, claims: &Value) -> bool {
        claims.as_object().is_some_and(|claims| role(claim, value).fits(claims))
    }

    #[test]
    fn a_role_fits_a_value_or_one_of_a_list_and_nothing_else() {
        let claims = json!({
            "groups": ["ops", "staff", ["nested"]], "hd": "acme.example", "admin": true, "level": 3, "none": null,
            "https://acme.example/roles": ["x"], "realm_access": {"roles": ["aam"], "a/b": "c"}, "email": "a@acme.example",
        });
        for (claim, value) in [
            ("groups", "ops"),
            ("hd", "acme.example"),
            ("admin", "true"),
            ("level", "3"),
            ("https://acme.example/roles", "x"),
            ("/realm_access/roles", "aam"),
            ("/realm_access/a~1b", "c"),
            ("email", "a@acme.example"),
        ] {
            assert!(fits(claim, value, &claims), "{claim} {value}");
        }
        for (claim, value) in [
            ("groups", "op"),
            ("groups", "Ops"),
            ("groups", "nested"),
            ("groups", ""),
            ("hd", "acme"),
            ("none", "null"),
            ("missing", "x"),
            ("realm_access", "aam"),
            ("/realm_access/missing", "aam"),
            ("/", "x"),
            ("/groups/0/x", "ops"),
        ] {
            assert!(!fits(claim, value, &claims), "{claim} {value}");
        }
    }

    #[test]
    fn an_address_that_the_issuer_did_not_verify_gives_no_role() {
        for unverified in [json!(false), json!("false")] {
            let claims = json!({"email": "a@acme.example", "email_verified": unverified});
            assert!(!fits("email", "a@acme.example", &claims), "{claims}");
        }
        assert!(fits("email", "a@acme.example", &json!({"email": "a@acme.example", "email_verified": true})));
    }

    #[test]
    fn the_first_role_that_fits_is_taken_and_claims_are_named_without_values() {
        let policy = OidcPolicy {
            issuer: "https://login.example".to_string(),
            client_id: "aam".to_string(),
            client_secret: None,
            redirect: None,
            scopes: Vec::new(),
            roles: vec![role("groups", "ops"), role("groups", "staff"), role("hd", "acme.example")],
        };
        let of = |claims: Value| claims.as_object().and_then(|claims| policy.role(claims));
        assert_eq!(of(json!({"groups": ["staff", "ops"], "hd": "acme.example"})), Some(0));
        assert_eq!(of(json!({"groups": ["staff"], "hd": "acme.example"})), Some(1));
        assert_eq!(of(json!({"hd": "other.example"})), None);
        let claims = json!({"groups": ["x"]});
        let asked = claims.as_object().map(|claims| policy.asked_claims(claims)).unwrap_or_default();
        assert_eq!(asked, [("groups", true), ("hd", false)]);
    }
}
