//! Who uses which `env:` secret: connections of the registry and of the intents folder, and the policy itself.

use super::super::{CommandError, CommonOptions};
use crate::clock;
use crate::intake::{Limits, check};
use crate::model::{ConnectionId, Intent, Locator};
use crate::policy::{Credentials, LoadedPolicy};
use crate::registry::Reader;
use std::collections::{BTreeMap, BTreeSet};

/// The users of each secret by its name, as texts for people.
pub struct SecretUsers(BTreeMap<String, BTreeSet<String>>);

impl SecretUsers {
    /// Reads the documents in force and those of the folder, which aam serve may not have read yet.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn load(common: &CommonOptions, reader: Option<&Reader>, loaded: &LoadedPolicy) -> Result<SecretUsers, CommandError> {
        let mut intents: BTreeMap<ConnectionId, Intent> = BTreeMap::new();
        if let Some(reader) = reader {
            for (id, known) in reader.snapshot()?.connections.iter().filter(|(_, known)| known.retired.is_none()) {
                let document = reader.body(known.document)?.and_then(|text| serde_json::from_str(&text).ok());
                intents.extend(document.map(|intent| (id, intent)));
            }
        }
        let folder = check::check(&common.intents, Limits::default(), clock::from_env().now());
        intents.extend(folder.intents.into_iter().map(|(_, intent)| (intent.connection_id(), intent)));
        let credentials = &loaded.policy.credentials;
        let mut users = SecretUsers(BTreeMap::new());
        for intent in intents.values() {
            let Some(locator) = &intent.credential_locator else { continue };
            let ids = intent.resource_ids.join(", ");
            users.add(credentials, locator, &format!("{} {ids} ({})", intent.source_type, intent.namespace));
        }
        users.add_policy(credentials);
        if let Some(secret) = loaded.policy.api.oidc.as_ref().and_then(|oidc| oidc.client_secret.as_ref()) {
            users.add(credentials, secret, "api.oidc");
        }
        Ok(users)
    }

    /// The users of `name`.
    pub fn of(&self, name: &str) -> Vec<String> {
        self.0.get(name).into_iter().flatten().cloned().collect()
    }

    /// The names of all secrets that are used.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    fn add(&mut self, credentials: &Credentials, locator: &Locator, user: &str) {
        for stored in credentials.stored_in(locator) {
            if let Locator::Env(name) = stored {
                self.0.entry(name.clone()).or_default().insert(user.to_string());
            }
        }
    }

    /// Adds what the policy itself reads, whether or not a connection needs it yet.
    fn add_policy(&mut self, credentials: &Credentials) {
        for name in credentials.principals.keys() {
            self.add(credentials, &Locator::ServicePrincipal(name.clone()), &format!("credentials.principals.{name}"));
        }
        for name in credentials.consents.keys() {
            self.add(credentials, &Locator::Consent(name.clone()), &format!("credentials.consents.{name}"));
        }
        if credentials.vault.is_some() {
            self.add(credentials, &Locator::Vault(String::new()), "credentials.vault");
        }
    }
}
