//! `env:NAME`: an environment variable.
//!
//! A process cannot get new environment variables while it runs. The fix therefore depends on what runs: the daemon must
//! be stopped and started again, and a command must be run again.

use super::{CredentialFacts, CredentialProvider, CredentialRequest, ProvidedCredential, Providers};
use crate::credentials::{Credential, MIN_SECRET_BYTES, Secret, Unprotectable, unprotectable};
use crate::families::Family;
use crate::model::{Class, Failure, Locator, PlannedCall};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Reads an environment variable. Tests pass their own function, so that they do not change the environment of the
/// process.
pub type ReadEnv = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

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

/// Resolves `env:NAME`. Nothing is cached, so the next attempt uses a rotated secret.
pub struct EnvProvider {
    process: Process,
    read_env: ReadEnv,
}

impl EnvProvider {
    pub fn new(process: Process, read_env: ReadEnv) -> EnvProvider {
        EnvProvider { process, read_env }
    }

    /// Returns the value of a variable of the process that is not a credential of an intent.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.read_env)(name)
    }

    fn read(&self, name: &str) -> Result<ProvidedCredential, Failure> {
        let missing = |title: String| Err(Failure::new(Class::CredentialMissing, title, self.process.how_to_set(name)));
        match (self.read_env)(name) {
            None => missing(format!("environment variable {name} is not set")),
            Some(value) if value.trim().is_empty() => missing(format!("environment variable {name} is empty")),
            Some(value) => {
                let credential = Credential::read(Secret::new(value));
                if let Some(reason) = unprotectable(&credential) {
                    return Err(unprotectable_secret(name, reason, &self.process.how_to_set(name)));
                }
                Ok(ProvidedCredential { credential, facts: CredentialFacts::new("env") })
            }
        }
    }
}

impl CredentialProvider for EnvProvider {
    fn provide<'a>(
        &'a self,
        _: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(async move {
            match &request.locator {
                Locator::Env(name) => self.read(name),
                other => Err(super::unknown_form(other)),
            }
        })
    }

    fn planned_calls(&self, _: &Policy, _: &Locator, _: &Family) -> Vec<PlannedCall> {
        Vec::new()
    }
}

/// The failure for a secret that cannot be kept out of logs: removing it would make every text unreadable, and leaving it in
/// would show it.
fn unprotectable_secret(name: &str, reason: Unprotectable, how_to_set: &str) -> Failure {
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

    fn read(value: Option<&'static str>) -> Result<ProvidedCredential, Failure> {
        let read_env: ReadEnv = Arc::new(move |name| value.filter(|_| name == "A_NAME").map(str::to_string));
        EnvProvider::new(Process::Recording, read_env).read("A_NAME")
    }

    #[test]
    fn a_missing_or_empty_variable_is_named() {
        for value in [None, Some(""), Some(" \n")] {
            let failure = read(value).err().unwrap();
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
            let failure = read(Some(value)).err().unwrap();
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains(what) && failure.title.contains("A_NAME"), "{value}: {failure:?}");
        }
        for value in
            ["90817", "reader:s3cr", r#"{"user":"root","password":"1234x","plan":"default","tier":"pro","token_type":"x"}"#]
        {
            assert!(read(Some(value)).is_ok(), "{value}");
        }
    }
}
