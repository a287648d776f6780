//! `aam consent rekey`: encrypts the consent store with another key.

use super::keys::StoreKeys;
use super::store::{ConsentPlace, StoreError};
use super::{ConsentContext, ConsentProvider, NEW_KEY, no_key};
use crate::credentials::redact::AttemptSecrets;
use crate::families;
use crate::model::{Class, ConnectionId, Failure, Locator};
use crate::policy::Policy;
use crate::providers::{CredentialRequest, Reading};
use std::sync::Arc;

/// What the change of the key did.
#[derive(Clone, Debug)]
pub struct Rekeyed {
    pub place: ConsentPlace,
    /// The number of grants that are encrypted with the new key.
    pub grants: usize,
    /// The number of grants that could not be decrypted before, and are as they were.
    pub damaged: usize,
    /// The number of open links, which no longer work.
    pub links: usize,
}

impl ConsentProvider {
    /// Encrypts the store with the key at `new`. The policy names the present key. No other process may use the store
    /// meanwhile: it could refresh a grant, and its new token would be lost.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if a key cannot be read, or if the store cannot be. Nothing is changed then.
    pub async fn rekey(&self, context: &ConsentContext<'_>, new: &Locator) -> Result<Rekeyed, Failure> {
        AttemptSecrets::new(&[]).run(self.change_key(context, new)).await
    }

    async fn change_key(&self, context: &ConsentContext<'_>, new: &Locator) -> Result<Rekeyed, Failure> {
        let Some(old) = &context.policy.credentials.consent_store.key else { return Err(no_key()) };
        let refuse = |title: String, fix: &str| Failure::new(Class::CredentialMissing, title, fix);
        if old == new {
            let fix = format!("{NEW_KEY}, store it under another name, and name that");
            return Err(refuse(format!("{new} is the place of the present key"), &fix));
        }
        let store = self.store(&context.policy);
        if store.read().await.map_err(|error| error.failure())?.is_none() {
            let fix =
                format!("write key: \"{new}\" under credentials.consent_store in the policy; there is nothing to encrypt yet");
            return Err(refuse(format!("the consent store {} does not exist", store.place()), &fix));
        }
        let old = self.keys_at(context, old).await?;
        let new_keys = self.keys_at(context, new).await?;
        let (now, keys) = (context.providers.clock.now(), Arc::clone(&new_keys));
        let change = move |content: &mut super::format::StoreContent, old: &StoreKeys| {
            // The same key under another name would close the links for nothing.
            if content.fits(&keys) {
                return Ok(None);
            }
            content.rekey(old, &keys, now).map(Some).map_err(StoreError::from)
        };
        match store.update(&old, change).await.map_err(|error| error.failure())? {
            Some((grants, damaged, links)) => Ok(Rekeyed { place: store.place(), grants, damaged, links }),
            None => Err(refuse(format!("the key at {new} is the present key"), NEW_KEY)),
        }
    }

    /// Reads a key of the store for a command.
    async fn keys_at(&self, context: &ConsentContext<'_>, locator: &Locator) -> Result<Arc<StoreKeys>, Failure> {
        let mut policy = Policy::clone(&context.policy);
        policy.credentials.consent_store.key = Some(locator.clone());
        let Some(family) = families::all().first().map(Arc::clone) else { return Err(no_key()) };
        // A request of no connection: only the policy matters for a secret that it names itself.
        let request = CredentialRequest {
            locator: locator.clone(),
            connection: ConnectionId::derive("", "", &[]),
            namespace: policy.namespace.clone(),
            owner: String::new(),
            family,
            resource_ids: Arc::from([]),
            policy: Arc::new(policy),
            reading: Reading::Anew,
        };
        self.keys(context.providers, &request).await
    }
}
