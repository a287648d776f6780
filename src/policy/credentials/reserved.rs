//! The secrets with which AAM itself works: they are never a source's credential. This module is pure.

use super::{Credentials, Setting, VaultLogin, file_path, vault_path};
use crate::model::Locator;
use std::path::Path;

/// The kinds of principals whose secret is itself a credential of sources.
const PLAIN_KINDS: [&str; 3] = ["basic", "token", "aws"];

impl Credentials {
    /// Returns what AAM itself uses the secret at `locator` for, if the policy names it for the login to the vault, for consents
    /// or for a service principal. An intent that names such a secret would make AAM send it to a source.
    ///
    /// The secrets of some principals are not reserved, because they are credentials of sources too: a password, a token, an
    /// access key.
    #[must_use]
    pub fn reserved_for(&self, locator: &Locator) -> Option<&'static str> {
        let login: Vec<&Locator> = match self.vault.as_ref().map(|vault| &vault.login) {
            Some(VaultLogin::Token { token }) => vec![token],
            Some(VaultLogin::Approle { role_id, secret_id, .. }) => vec![role_id, secret_id],
            Some(VaultLogin::Jwt { token, .. }) => token.iter().collect(),
            Some(VaultLogin::TokenFile { .. } | VaultLogin::Kubernetes { .. }) | None => Vec::new(),
        };
        let clients = self.consents.values().filter_map(|consent| consent.client_secret.as_ref());
        let is_it = |reserved: &&Locator| self.same_secret(reserved, locator);
        let agent = match self.vault.as_ref().map(|vault| &vault.login) {
            Some(VaultLogin::TokenFile { file }) => Some(file),
            Some(VaultLogin::Kubernetes { token_file, .. }) => Some(token_file),
            Some(VaultLogin::Jwt { token_file, .. }) => token_file.as_ref(),
            Some(VaultLogin::Token { .. } | VaultLogin::Approle { .. }) | None => None,
        };
        if login.iter().any(is_it) || agent.is_some_and(|file| is_file(locator, file)) {
            return Some("AAM logs in to the vault with it");
        }
        if self.consent_store.key.iter().any(|key| is_it(&key)) {
            return Some("AAM encrypts the grants of owners with it");
        }
        if clients.into_iter().any(|secret| is_it(&secret)) {
            return Some("AAM proves itself with it when owners consent");
        }
        let minting = self.principals.values().filter(|principal| !PLAIN_KINDS.contains(&principal.kind));
        let secrets = minting.flat_map(|principal| principal.settings.values()).filter_map(|setting| match setting {
            Setting::Locator(locator) => Some(locator),
            Setting::Text(_) | Setting::List(_) | Setting::Flag(_) => None,
        });
        secrets.into_iter().any(|secret| is_it(&secret)).then_some("a service principal proves itself with it")
    }

    /// Whether two locators name the same secret, or one of them a field of the other.
    pub(in crate::policy) fn same_secret(&self, first: &Locator, second: &Locator) -> bool {
        let place = |locator: &Locator| {
            let spelled = super::super::grants::canonical(self, locator).unwrap_or_else(|_| locator.clone());
            match &spelled {
                Locator::Vault(rest) => {
                    let base = self.vault.as_ref().and_then(|vault| vault.path.as_deref());
                    vault_path::VaultPath::parse(rest, base).map_or_else(|_| spelled.to_string(), |path| path.path().to_string())
                }
                _ => spelled.to_string(),
            }
        };
        std::mem::discriminant(first) == std::mem::discriminant(second) && place(first) == place(second)
    }
}

/// Whether `locator` is the file at `path`, as both are written.
fn is_file(locator: &Locator, path: &Path) -> bool {
    let Locator::File(text) = locator else { return false };
    let normal = |text: &str| file_path::normal(text).unwrap_or_else(|_| text.to_string());
    normal(text) == normal(&path.to_string_lossy())
}
