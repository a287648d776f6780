//! What a locator means under a policy, as a digest, and which other locators it depends on. This module is pure.
//!
//! The digest is part of the inputs that an attempt records. If the policy changes what a locator means, the connections
//! that use it are checked again, and no others: a new principal does not concern the connections of the existing ones.

use super::{Credentials, Setting, VaultLogin};
use crate::model::{Digest, Locator};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Credentials {
    /// Returns the digest of everything in the policy that says what `locator` resolves to. Caps and times are left out.
    #[must_use]
    pub fn definition(&self, locator: &Locator) -> Digest {
        Digest::from_bytes(self.definition_value(locator).to_string().as_bytes())
    }

    /// Adds the definition of a connection's locator to the digest of its other inputs.
    #[must_use]
    pub fn add_definition(&self, inputs: Digest, locator: Option<&str>) -> Digest {
        match locator.and_then(|text| Locator::parse(text).ok()) {
            Some(locator) => Digest::from_parts(&[&inputs.0, &self.definition(&locator).0]),
            None => inputs,
        }
    }

    fn definition_value(&self, locator: &Locator) -> Value {
        let own = match locator {
            Locator::Env(_) => json!(self.secrets_dir),
            Locator::File(_) => json!(self.files),
            Locator::Vault(_) => json!(
                self.vault
                    .as_ref()
                    .map(|vault| { json!([vault.address, vault.ca_file, vault.namespace, vault.path, vault.login]) })
            ),
            Locator::ServicePrincipal(name) => json!(self.principals.get(name)),
            Locator::Consent(name) => json!([self.consents.get(name), self.consent_store]),
            Locator::Unknown(_) => Value::Null,
        };
        let needed: Vec<Value> = self.needed(locator).iter().map(|locator| self.definition_value(locator)).collect();
        json!([locator.scheme(), own, needed, self.reserved_for(locator)])
    }

    /// Returns the locators of the policy that are read to resolve `locator`: the key of a principal, the secret with which
    /// AAM logs in to the vault.
    #[must_use]
    pub fn needed<'a>(&'a self, locator: &Locator) -> Vec<&'a Locator> {
        match locator {
            Locator::Env(_) | Locator::File(_) | Locator::Unknown(_) => Vec::new(),
            Locator::Vault(_) => match self.vault.as_ref().map(|vault| &vault.login) {
                Some(VaultLogin::Token { token }) => vec![token],
                Some(VaultLogin::Approle { role_id, secret_id, .. }) => vec![role_id, secret_id],
                Some(VaultLogin::Jwt { token, .. }) => token.iter().collect(),
                Some(VaultLogin::TokenFile { .. } | VaultLogin::Kubernetes { .. }) | None => Vec::new(),
            },
            Locator::ServicePrincipal(name) => {
                let settings = self.principals.get(name).into_iter().flat_map(|principal| principal.settings.values());
                let locator = |setting: &'a Setting| match setting {
                    Setting::Locator(locator) => Some(locator),
                    _ => None,
                };
                settings.filter_map(locator).collect()
            }
            Locator::Consent(name) => {
                let secret = self.consents.get(name).and_then(|consent| consent.client_secret.as_ref());
                secret.into_iter().chain(&self.consent_store.key).collect()
            }
        }
    }

    /// Returns the locators of files and variables that `locator` is or that are read to resolve it.
    #[must_use]
    pub fn stored_in<'a>(&'a self, locator: &'a Locator) -> Vec<&'a Locator> {
        match locator {
            Locator::Env(_) | Locator::File(_) => vec![locator],
            // A principal and a consent cannot depend on another one, and the login to the vault cannot depend on the vault.
            _ => {
                let mut stored = Vec::new();
                for needed in self.needed(locator) {
                    match needed {
                        Locator::Vault(_) => stored.extend(self.needed(needed).into_iter().filter(|locator| is_stored(locator))),
                        needed if is_stored(needed) => stored.push(needed),
                        _ => {}
                    }
                }
                stored
            }
        }
    }
}

/// The definitions of one policy, computed once for the many connections that share them.
pub struct Definitions {
    /// By scheme, for forms whose definition does not depend on the name.
    by_scheme: BTreeMap<&'static str, Digest>,
    /// By locator, for the principals and consents of the policy.
    by_locator: BTreeMap<String, Digest>,
}

impl Definitions {
    /// Computes the definitions of `credentials`.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Definitions {
        // A name that is not in the policy stands for all of them.
        let samples = [
            ("env", Locator::Env(String::new())),
            ("file", Locator::File(String::new())),
            ("vault", Locator::Vault(String::new())),
            ("sp", Locator::ServicePrincipal(String::new())),
            ("consent", Locator::Consent(String::new())),
        ];
        let principals = credentials.principals.keys().map(|name| Locator::ServicePrincipal(name.clone()));
        let named = principals.chain(credentials.consents.keys().map(|name| Locator::Consent(name.clone())));
        Definitions {
            by_scheme: samples.into_iter().map(|(scheme, locator)| (scheme, credentials.definition(&locator))).collect(),
            by_locator: named.map(|locator| (locator.to_string(), credentials.definition(&locator))).collect(),
        }
    }

    /// Does what [`Credentials::add_definition`] does.
    #[must_use]
    pub fn add_to(&self, credentials: &Credentials, inputs: Digest, locator: Option<&str>) -> Digest {
        let known = |locator: &str| {
            let scheme = locator.split(':').next().unwrap_or_default();
            self.by_locator.get(locator).or_else(|| self.by_scheme.get(scheme))
        };
        match locator.and_then(known) {
            Some(definition) => Digest::from_parts(&[&inputs.0, &definition.0]),
            None => credentials.add_definition(inputs, locator),
        }
    }
}

fn is_stored(locator: &Locator) -> bool {
    matches!(locator, Locator::Env(_) | Locator::File(_))
}

#[cfg(test)]
mod tests {
    use super::Definitions;
    use crate::model::{Digest, Locator};
    use crate::policy::{Policy, parse::parse};

    fn policy(credentials: &str) -> Policy {
        parse(&format!("version: 1\nallowlist: [github]\ncredentials: {{{credentials}}}\n"), "p").expect("a policy")
    }

    fn locator(text: &str) -> Locator {
        Locator::parse(text).expect(text)
    }

    const VAULT: &str = "vault: {address: \"https://v.example\", login: {method: approle, role_id: \"env:ROLE\", secret_id: \"file:/s/id\"}}, files: [/s]";

    #[test]
    fn only_the_definition_of_the_locator_counts() {
        let bare = policy("");
        let one = policy("principals: {a: {kind: basic, username: u, password: \"env:A\"}}");
        let two = policy(
            "principals: {a: {kind: basic, username: u, password: \"env:A\"}, b: {kind: basic, username: u, password: \"env:B\"}}",
        );
        let edited = policy("principals: {a: {kind: basic, username: v, password: \"env:A\"}}");
        let moved = policy("secrets_dir: elsewhere, principals: {a: {kind: basic, username: u, password: \"env:A\"}}");
        let digest = |policy: &Policy, text: &str| policy.credentials.definition(&locator(text));
        assert_ne!(digest(&bare, "sp:a"), digest(&one, "sp:a"), "a principal was added");
        assert_eq!(digest(&one, "sp:a"), digest(&two, "sp:a"), "another principal was added");
        assert_ne!(digest(&one, "sp:b"), digest(&two, "sp:b"));
        assert_ne!(digest(&one, "sp:a"), digest(&edited, "sp:a"));
        assert_ne!(digest(&one, "sp:a"), digest(&moved, "sp:a"), "its secret is in another folder");
        for text in ["env:X", "file:/s/x", "vault:x", "consent:x", "foo:x"] {
            assert_eq!(digest(&one, text), digest(&two, text), "{text}");
        }
        for policy in [&bare, &one, &two, &moved] {
            let (credentials, inputs) = (&policy.credentials, Digest::from_bytes(b"inputs"));
            let definitions = Definitions::new(credentials);
            for text in ["env:X", "file:/s/x", "vault:x", "sp:a", "sp:b", "consent:x", "foo:x"] {
                let shared = definitions.add_to(credentials, inputs, Some(text));
                assert_eq!(shared, credentials.add_definition(inputs, Some(text)), "{text}");
                assert_ne!(shared, inputs);
            }
            assert_eq!(definitions.add_to(credentials, inputs, None), inputs);
        }
        let (vault, slower) = (policy(VAULT), policy(&VAULT.replacen("{address", "{kv_ttl: 1h, address", 1)));
        assert_ne!(digest(&bare, "vault:x"), digest(&vault, "vault:x"));
        assert_eq!(digest(&vault, "vault:x"), digest(&slower, "vault:x"), "a time is not a definition");
    }

    #[test]
    fn the_stored_secrets_behind_a_locator_are_found() {
        let policy = policy(&format!("{VAULT}, principals: {{a: {{kind: basic, username: u, password: \"vault:x#y\"}}}}"));
        let stored = |text: &str| {
            let locator = locator(text);
            policy.credentials.stored_in(&locator).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(stored("env:X"), ["env:X"]);
        assert_eq!(stored("vault:x"), ["env:ROLE", "file:/s/id"]);
        assert_eq!(stored("sp:a"), ["env:ROLE", "file:/s/id"]);
        assert!(stored("sp:b").is_empty() && stored("consent:x").is_empty() && stored("foo:x").is_empty());
    }
}
