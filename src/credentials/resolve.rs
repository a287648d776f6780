//! Resolves locators. This version reads `env:NAME`; for other schemes, the failure says what to do instead.
//!
//! A process cannot get new environment variables while it runs. The fix therefore depends on what runs: the daemon must
//! be stopped and started again, and a command must be run again.

use super::forms::{self, MIN_SECRET_BYTES, Unprotectable};
use super::redact;
use super::secret::{Credential, Secret};
use crate::model::{Class, Failure, Locator};
use std::sync::Arc;

/// Reads an environment variable. Tests pass their own function, so that they do not change the environment of the
/// process.
pub type ReadEnv = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Resolves locators. Secrets are not cached, so the next attempt uses a rotated secret.
#[derive(Clone)]
pub struct Resolver {
    read_env: ReadEnv,
    process: Process,
}

/// The kind of process whose environment holds the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// A process that records its results. The text is the same for `aam serve` and `aam once`, because the other one may
    /// show it.
    Recording,
    /// `aam test`, which ends by itself and records nothing.
    Test,
}

impl Process {
    /// How to give the process the variable `name`.
    fn how_to_set(self, name: &str) -> String {
        match self {
            Process::Recording => format!(
                "start aam with the variable: {name}=... aam serve; a running aam serve does not see a new variable, so stop it first (a second aam serve prints its pid: kill PID)"
            ),
            Process::Test => format!("set it to the credential and run the command again: export {name}=..."),
        }
    }
}

impl Resolver {
    /// Creates a resolver that reads the environment of this process.
    #[must_use]
    pub fn from_process_env(process: Process) -> Resolver {
        Resolver { read_env: Arc::new(|name| std::env::var(name).ok()), process }
    }

    /// Creates a resolver that reads variables through `read_env`.
    #[must_use]
    pub fn new(read_env: ReadEnv) -> Resolver {
        Resolver { read_env, process: Process::Recording }
    }

    /// Returns the credential that `locator` names, and teaches the redactor its secret values.
    ///
    /// # Errors
    /// Returns [`Class::CredentialMissing`], which names the locator and says what to do.
    pub fn resolve(&self, locator: &Locator) -> Result<Credential, Failure> {
        let missing = |title: String, fix: String| Err(Failure::new(Class::CredentialMissing, title, fix));
        match locator {
            Locator::Env(name) => match (self.read_env)(name) {
                None => missing(format!("environment variable {name} is not set"), self.process.how_to_set(name)),
                Some(value) if value.trim().is_empty() => {
                    missing(format!("environment variable {name} is empty"), self.process.how_to_set(name))
                }
                Some(value) => {
                    let credential = Credential::read(Secret::new(value));
                    if let Some(reason) = forms::unprotectable(&credential) {
                        return Err(unprotectable(name, reason, &self.process.how_to_set(name)));
                    }
                    redact::learn(&credential);
                    Ok(credential)
                }
            },
            Locator::Vault(_) | Locator::Consent(_) | Locator::ServicePrincipal(_) => {
                let text = locator.to_string();
                let scheme = text.split(':').next().unwrap_or_default();
                missing(
                    format!("this version cannot read {scheme}: locators"),
                    format!("store the credential in an environment variable and write env:NAME instead of {text}"),
                )
            }
        }
    }
}

/// The failure for a secret that cannot be kept out of logs: removing it would make every text unreadable, and leaving it in
/// would show it.
fn unprotectable(name: &str, reason: Unprotectable, how_to_set: &str) -> Failure {
    let title = match reason {
        Unprotectable::TooShort => {
            format!("the secret in environment variable {name} is shorter than {MIN_SECRET_BYTES} characters")
        }
        Unprotectable::Common => format!("the secret in environment variable {name} is a common word"),
    };
    let fix = format!(
        "AAM keeps secrets out of every log and report by their value, which it cannot do for this one: set another secret at \
         the source; then {how_to_set}"
    );
    Failure::new(Class::CredentialMissing, title, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(value: Option<&'static str>) -> Resolver {
        Resolver::new(Arc::new(move |name| value.filter(|_| name == "A_NAME").map(str::to_string)))
    }

    fn env() -> Locator {
        Locator::Env("A_NAME".to_string())
    }

    #[test]
    fn the_redactor_learns_what_was_resolved() {
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
    fn a_secret_that_cannot_be_kept_out_of_texts_is_refused() {
        for (value, what) in [
            ("abc", "shorter than 4 characters"),
            ("Password\n", "a common word"),
            ("reader:test", "a common word"),
            (r#"{"user":"root","password":"postgres"}"#, "a common word"),
            (r#"{"client_id":"a","client_secret":"x1"}"#, "shorter than 4 characters"),
        ] {
            let failure = resolver(Some(value)).resolve(&env()).unwrap_err();
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains(what) && failure.title.contains("A_NAME"), "{value}: {failure:?}");
        }
        for value in
            ["90817", "reader:s3cr", r#"{"user":"root","password":"1234x","plan":"default","tier":"pro","token_type":"x"}"#]
        {
            assert!(resolver(Some(value)).resolve(&env()).is_ok(), "{value}");
        }
        assert_eq!(redact::scrub("default and root stay"), "default and root stay");
    }

    #[test]
    fn other_schemes_are_refused() {
        for locator in [Locator::Vault("kv/x".into()), Locator::Consent("x".into()), Locator::ServicePrincipal("x".into())] {
            let failure = resolver(None).resolve(&locator).unwrap_err();
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains("this version cannot read"), "{failure:?}");
        }
    }
}
