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
                Some(value) if value.trim().is_empty() => missing(
                    format!("environment variable {name} is empty"),
                    format!("set {name} to the credential and restart aam"),
                ),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(value: Option<&'static str>) -> Resolver {
        Resolver::of(Arc::new(move |name| value.filter(|_| name == "A_NAME").map(str::to_string)))
    }

    fn env() -> Locator {
        Locator::Env("A_NAME".to_string())
    }

    #[test]
    fn what_was_resolved_is_known_to_the_redactor() {
        let credential = resolver(Some("resolved-canary-1234")).resolve(&env()).unwrap();
        assert_eq!(credential.plain().unwrap().expose(), "resolved-canary-1234");
        assert_eq!(redact::scrub("it was resolved-canary-1234."), "it was [redacted].");
        let json = r#"{"user":"plain-reader-name","password":"resolved-canary-5678"}"#;
        let credential = resolver(Some(json)).resolve(&env()).unwrap();
        assert_eq!(credential.field("password").unwrap().expose(), "resolved-canary-5678");
        assert_eq!(redact::scrub("plain-reader-name resolved-canary-5678"), "plain-reader-name [redacted]");
        assert!(!format!("{credential:?}").contains("canary"));
    }

    #[test]
    fn a_missing_or_empty_variable_is_named() {
        for value in [None, Some(""), Some(" \n")] {
            let failure = resolver(value).resolve(&env()).unwrap_err();
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains("A_NAME") && failure.fix.contains("A_NAME"), "{failure:?}");
        }
    }

    #[test]
    fn other_schemes_say_that_they_are_not_served() {
        for locator in [Locator::Vault("kv/x".into()), Locator::Consent("x".into()), Locator::ServicePrincipal("x".into())] {
            let failure = resolver(None).resolve(&locator).unwrap_err();
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains("are not served"), "{failure:?}");
        }
    }
}
