//! `consent:NAME`: an OAuth grant that an owner or administrator gives once.

use super::{CredentialProvider, CredentialRequest, ProvidedCredential, Providers, not_served};
use crate::clock::Clock;
use crate::families::Family;
use crate::model::{Failure, Locator, PlannedCall};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Resolves `consent:` locators.
pub struct ConsentProvider {}

impl ConsentProvider {
    pub fn new(_clock: &Arc<dyn Clock>) -> ConsentProvider {
        ConsentProvider {}
    }
}

impl CredentialProvider for ConsentProvider {
    fn provide<'a>(
        &'a self,
        _: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(async move { Err(not_served(&request.locator)) })
    }

    fn planned_calls(&self, _: &Policy, _: &Locator, _: &Family) -> Vec<PlannedCall> {
        Vec::new()
    }
}
