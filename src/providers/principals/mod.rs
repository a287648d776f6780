//! `sp:NAME`: a service principal that the policy describes.

use super::{CredentialProvider, CredentialRequest, ProvidedCredential, Providers, not_served};
use crate::clock::Clock;
use crate::families::Family;
use crate::model::{Failure, Locator, PlannedCall};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Resolves `sp:` locators.
pub struct PrincipalProvider {}

impl PrincipalProvider {
    pub fn new(_clock: &Arc<dyn Clock>) -> PrincipalProvider {
        PrincipalProvider {}
    }
}

impl CredentialProvider for PrincipalProvider {
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
