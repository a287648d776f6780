//! `env:NAME` in full; the other schemes answer what is missing until they exist.

use super::redact;
use super::secret::{Credential, Secret};
use crate::model::{Class, Failure, Locator};
use std::sync::Arc;

/// Reads environment variables; a seam, so that tests need not touch the process.
pub type ReadEnv = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Resolves locators. Nothing is cached: a rotated secret is seen by the next attempt.
#[derive(Clone)]
pub struct Resolver {
    read_env: ReadEnv,
}

impl Resolver {
    /// A resolver over the environment of this process.
    #[must_use]
    pub fn of_process() -> Resolver {
        Resolver { read_env: Arc::new(|name| std::env::var(name).ok()) }
    }

    /// A resolver over any lookup.
    #[must_use]
    pub fn of(read_env: ReadEnv) -> Resolver {
        Resolver { read_env }
    }

    /// The credential behind `locator`; its values are known to the redactor from here on.
    ///
    /// # Errors
    /// [`Class::CredentialMissing`], naming the locator and what to do.
    pub fn resolve(&self, locator: &Locator) -> Result<Credential, Failure> {
        let missing = |title: String, fix: String| Err(Failure::new(Class::CredentialMissing, title, fix));
        match locator {
            Locator::Env(name) => match (self.read_env)(name) {
                None => missing(
                    format!("environment variable {name} is not set"),
                    format!("start aam with {name} set to the credential, for example: {name}=... aam serve"),
                ),
                Some(value) if value.trim().is_empty() => {
                    missing(format!("environment variable {name} is empty"), format!("set {name} to the credential and restart aam"))
                }
                Some(value) => {
                    let credential = Credential::read(Secret::new(value));
                    redact::learn(&credential);
                    Ok(credential)
                }
            },
            Locator::Vault(_) | Locator::Consent(_) | Locator::ServicePrincipal(_) => {
                let text = locator.to_string();
                let scheme = text.split(':').next().unwrap_or_default();
                missing(
                    format!("locators of the form {scheme}: are not served by this version"),
                    format!("put the credential into an environment variable and write env:NAME instead of {text}"),
                )
            }
        }
    }
}
