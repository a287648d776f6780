//! `env:NAME`: an environment variable of the process, or a file with this name.
//!
//! The file is in `credentials.secrets_dir` of the policy, where `aam secret set` stores it, or in the folder that systemd
//! names in `CREDENTIALS_DIRECTORY`. It is read at each attempt, so a new value needs no restart. A variable cannot change
//! while the process runs.

use super::stored::{self, FolderReads, StoredSecret};
use super::{CredentialFacts, CredentialProvider, CredentialRequest, ProvidedCredential, Providers};
use crate::credentials::Secret;
use crate::families::Family;
use crate::model::locator_forms::unknown_form;
use crate::model::{Class, Failure, Locator, PlannedCall};
use crate::operator_file;
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use rustix::fs::{CWD, Mode};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads an environment variable. Tests pass their own function, so that they do not change the environment of the
/// process.
pub type ReadEnv = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The variable in which systemd names the folder of `LoadCredential=` (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The kind of process that resolves the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// A process that records its results. The text is the same for `aam serve` and `aam once`, because the other one may
    /// show it.
    Recording,
    /// `aam test`, which ends by itself and records nothing.
    Test,
}

impl Process {
    /// How to store a value for `env:NAME`. What a recording process says is a command and nothing else, so that it can be
    /// pasted into a shell.
    fn how_to_set(self, name: &str) -> String {
        match self {
            Process::Recording => format!("aam secret set {name}"),
            Process::Test => format!("aam secret set {name}; or set it and run the command again: export {name}=..."),
        }
    }
}

/// Resolves `env:NAME`. Nothing is cached, so the next attempt uses a rotated secret.
pub struct EnvProvider {
    process: Process,
    read_env: ReadEnv,
    reads: FolderReads,
}

impl EnvProvider {
    pub fn new(process: Process, read_env: ReadEnv) -> EnvProvider {
        EnvProvider { process, read_env, reads: FolderReads::default() }
    }

    /// Returns the value of a variable of the process that is not a credential of an intent.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.read_env)(name)
    }

    async fn read(&self, name: &str, secrets_dir: &Path) -> Result<ProvidedCredential, Failure> {
        let variable = (self.read_env)(name).map(Secret::new);
        if let Some(value) = variable.as_ref().filter(|value| !value.expose().trim().is_empty()) {
            let place = format!("environment variable {name}");
            let credential = stored::usable(value.clone(), &place, &self.replace_variable(name))?;
            let mut facts = CredentialFacts::new("env");
            facts.evidence.insert("read_from".to_string(), "environment variable".into());
            return Ok(ProvidedCredential { credential, facts });
        }
        for folder in self.folders(secrets_dir) {
            if let Some(stored) = self.read_file(&folder, name).await? {
                return Ok(stored);
            }
        }
        let what = if variable.is_some() { "is empty" } else { "is not set" };
        let file = secrets_dir.join(name);
        Err(Failure::new(
            Class::CredentialMissing,
            format!("environment variable {name} {what}, and the file {} does not exist", file.display()),
            self.process.how_to_set(name),
        ))
    }

    /// The folders in which a file may have the name of the variable.
    fn folders(&self, secrets_dir: &Path) -> Vec<PathBuf> {
        let of_systemd = (self.read_env)(CREDENTIALS_DIRECTORY).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let of_systemd = of_systemd.filter(|folder| folder != secrets_dir);
        std::iter::once(secrets_dir.to_path_buf()).chain(of_systemd).collect()
    }

    async fn read_file(&self, folder: &Path, name: &str) -> Result<Option<ProvidedCredential>, Failure> {
        // The name consists of letters, digits and `_`, so it cannot lead out of the folder.
        let path = folder.join(name);
        let opened = path.clone();
        let open = move || Ok(File::from(rustix::fs::openat(CWD, &opened, operator_file::READ_FLAGS, Mode::empty())?));
        let stored = self.reads.read(folder, &path, &format!("env:{name}"), open).await?;
        Ok(stored.map(|StoredSecret { credential, warning }| {
            let mut facts = CredentialFacts { changeable: true, warning, ..CredentialFacts::new("env") };
            facts.evidence.insert("read_from".to_string(), path.display().to_string().into());
            ProvidedCredential { credential, facts }
        }))
    }

    /// What to do if the value of a variable has to change. A file does not replace a variable that is set.
    fn replace_variable(&self, name: &str) -> String {
        match self.process {
            Process::Recording => {
                format!("start aam without the variable {name} and store the value with: aam secret set {name}")
            }
            Process::Test => format!("set the variable again and run the command again: export {name}=..."),
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
                Locator::Env(name) => self.read(name, &request.policy.credentials.secrets_dir).await,
                other => Err(unknown_form(other)),
            }
        })
    }

    fn planned_calls(&self, _: &Policy, _: &Locator, _: &Family) -> Vec<PlannedCall> {
        Vec::new()
    }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
