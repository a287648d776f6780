//! `aam secret set|list|rm`: the secrets that `env:NAME` locators name, stored in `credentials.secrets_dir`.

mod input;
mod store;
mod users;

use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions};
use crate::clock;
use crate::model::text::counted;
use crate::model::{Locator, Timestamp};
use crate::policy::LoadedPolicy;
use crate::policy::grants::is_process_variable;
use crate::policy_loader;
use crate::providers::usable;
use crate::registry::{Reader, RegistryError};
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};
use store::SecretsFolder;
use users::SecretUsers;

#[derive(clap::Subcommand)]
pub enum SecretCommand {
    /// Store the value of env:NAME: asks without showing it, or reads stdin
    Set {
        /// The name after env:
        name: String,
    },
    /// List names, ages and users of the stored secrets, and what connections want that is not stored
    List,
    /// Remove the stored value of env:NAME
    Rm {
        /// The name after env:
        name: String,
    },
}

/// Exits with 0, with 1 if nothing was stored or removed, and with 78 if the policy is not valid.
pub fn run(common: &CommonOptions, command: &SecretCommand) -> CommandResult {
    let reader = match Reader::open(&common.registry) {
        Ok(reader) => Some(reader),
        Err(RegistryError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let loaded = match &reader {
        Some(reader) => policy_in_force(common, reader)?,
        None => policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?,
    };
    let context = Context { common, folder: folder(&loaded)?, users: SecretUsers::load(common, reader.as_ref(), &loaded)? };
    match command {
        SecretCommand::Set { name } => context.set(name),
        SecretCommand::List => context.list(),
        SecretCommand::Rm { name } => context.remove(name),
    }
}

struct Context<'a> {
    common: &'a CommonOptions,
    folder: SecretsFolder,
    users: SecretUsers,
}

/// The folder as an absolute path, because aam serve may have another working directory than the reader of the output.
fn folder(loaded: &LoadedPolicy) -> Result<SecretsFolder, CommandError> {
    let path = std::path::absolute(&loaded.policy.credentials.secrets_dir)
        .map_err(|error| CommandError::new(format!("the working directory cannot be read: {error}")))?;
    Ok(SecretsFolder { path })
}

/// Returns the name of a variable that can hold a credential, from `NAME` or `env:NAME`.
///
/// # Errors
/// Returns why the name cannot be used.
pub fn variable(name: &str) -> Result<String, String> {
    let name = name.strip_prefix("env:").unwrap_or(name);
    match Locator::parse(&format!("env:{name}")) {
        Ok(locator @ Locator::Env(_)) if is_process_variable(&locator) => {
            Err(format!("{name} is a variable of the process itself and is never used as a credential; choose another name"))
        }
        Ok(Locator::Env(name)) => Ok(name),
        // The text is not repeated, because it may be the secret itself.
        _ => Err("the name is not valid: use letters, digits and _, not starting with a digit".to_string()),
    }
}

impl Context<'_> {
    fn set(&self, name: &str) -> CommandResult {
        let name = &variable(name).map_err(CommandError::usage)?;
        let value = input::read(name).map_err(CommandError::new)?;
        usable(value.clone(), "the value", &format!("aam secret set {name}"))
            .map_err(|failure| CommandError::new(format!("{}; nothing was stored\nfix: {}", failure.title, failure.fix)))?;
        let replaced = self.folder.store(name, &value).map_err(CommandError::new)?;
        let mut warnings: Vec<String> = self.folder.exposed().into_iter().collect();
        warnings.extend(shadowed(name));
        if value.expose() != value.expose().trim() {
            warnings.push("the value begins or ends with a space".to_string());
        }
        let path = self.folder.path.join(name).display().to_string();
        let verb = if replaced { "replaced" } else { "stored" };
        let users = self.users.of(name);
        let mut text = format!("{verb} env:{name} in {path}; a running aam serve uses it at once\n");
        let _ = writeln!(text, "used by: {}", listed(&users, "no connection yet"));
        for warning in &warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        let value = json!({ "name": name, "locator": format!("env:{name}"), "path": path, "replaced": replaced,
            "used_by": users, "warnings": warnings });
        self.common.print(&text, &value);
        Ok(ExitCode::SUCCESS)
    }

    fn remove(&self, name: &str) -> CommandResult {
        let name = &variable(name).map_err(CommandError::usage)?;
        let path = self.folder.path.join(name).display().to_string();
        if !self.folder.remove(name).map_err(CommandError::new)? {
            return Err(CommandError::new(format!("{path} does not exist; aam secret list shows what is stored")));
        }
        let users = self.users.of(name);
        let mut text = format!("removed {path}\n");
        let variable = std::env::var_os(name).is_some();
        if variable {
            let _ = writeln!(text, "warning: the variable {name} is set; an aam serve that was started with it goes on using it");
        } else if users.is_empty() {
            text.push_str("no connection used it\n");
        } else {
            let _ = writeln!(text, "{} it at the next attempt: {}", lose(users.len()), listed(&users, ""));
        }
        self.common.print(&text, &json!({ "name": name, "path": path, "used_by": users, "variable_is_set": variable }));
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self) -> CommandResult {
        let stored = self.folder.list().map_err(CommandError::new)?;
        let now = clock::from_env().now();
        let mut rows = Vec::new();
        for file in &stored {
            let at = file.modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let at = at.map(|since| Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
            rows.push(SecretRow {
                users: self.users.of(&file.name),
                stored_at: at.map(Timestamp::rfc3339),
                age: at.map(|at| age(now.since(at))),
                variable_is_set: std::env::var_os(&file.name).is_some(),
                name: file.name.clone(),
            });
        }
        for name in self.users.names().filter(|name| !stored.iter().any(|file| file.name == **name)) {
            let variable_is_set = std::env::var_os(name).is_some();
            rows.push(SecretRow { name: name.clone(), stored_at: None, age: None, variable_is_set, users: self.users.of(name) });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let warning = self.folder.exposed();
        let mut text = table(&self.folder, &rows);
        if let Some(warning) = &warning {
            let _ = writeln!(text, "warning: {warning}");
        }
        self.common.print(&text, &json!({ "folder": self.folder.path, "secrets": rows, "warnings": warning }));
        Ok(ExitCode::SUCCESS)
    }
}

/// A line of `aam secret list`.
#[derive(serde::Serialize)]
struct SecretRow {
    name: String,
    /// `None` if something names the secret and it is not stored.
    stored_at: Option<String>,
    age: Option<String>,
    /// Whether the process of this command has the variable.
    variable_is_set: bool,
    #[serde(rename = "used_by")]
    users: Vec<String>,
}

impl SecretRow {
    fn state(&self) -> String {
        match (&self.age, self.variable_is_set) {
            (Some(age), false) => age.clone(),
            (Some(age), true) => format!("{age}, but the variable is set"),
            (None, true) => "not stored, but the variable is set".to_string(),
            (None, false) => "not stored".to_string(),
        }
    }
}

fn table(folder: &SecretsFolder, rows: &[SecretRow]) -> String {
    let stored = rows.iter().filter(|row| row.age.is_some()).count();
    let mut text = format!("{} in {}\n", counted(stored, "secret"), folder.path.display());
    let width = |length: fn(&SecretRow) -> usize| rows.iter().map(length).max().unwrap_or_default();
    let (names, states) = (width(|row| row.name.len()), width(|row| row.state().len()));
    for row in rows {
        let users = listed(&row.users, "not used");
        let _ = writeln!(text, "  {:names$}  {:states$}  {users}", row.name, row.state());
    }
    if let Some(row) = rows.iter().find(|row| row.age.is_none() && !row.variable_is_set) {
        let _ = writeln!(text, "fix: aam secret set {} stores a value, unless aam serve was started with the variable", row.name);
    }
    text
}

/// The first of `users` and the number of the others.
fn listed(users: &[String], none: &str) -> String {
    const MAX_SHOWN: usize = 3;
    if users.is_empty() {
        return none.to_string();
    }
    let shown = users.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match users.len().saturating_sub(MAX_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn lose(count: usize) -> String {
    if count == 1 { "1 user loses".to_string() } else { format!("{count} users lose") }
}

fn shadowed(name: &str) -> Option<String> {
    std::env::var_os(name).is_some().then(|| {
        format!("the variable {name} is set here; an aam serve that was started with it uses the variable and not this file")
    })
}

/// An age in its largest unit.
fn age(since: Duration) -> String {
    let seconds = since.as_secs();
    match seconds {
        0..60 => format!("{seconds} s old"),
        60..3600 => format!("{} min old", seconds / 60),
        3600..86_400 => format!("{} h old", seconds / 3600),
        _ => format!("{} d old", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    #[test]
    fn only_names_that_a_locator_can_have_are_stored() {
        assert_eq!(variable("GITHUB_TOKEN").as_deref(), Ok("GITHUB_TOKEN"));
        assert_eq!(variable("env:GITHUB_TOKEN").as_deref(), Ok("GITHUB_TOKEN"));
        for name in ["PATH", "AAM_REGISTRY", "HTTPS_PROXY", "1A", "a-b", "../x", "a/b", "", ".", "env:"] {
            assert!(variable(name).is_err(), "{name}");
        }
        let pasted = "x-".repeat(40);
        assert!(!variable(&pasted).is_err_and(|message| message.contains(&pasted)), "a pasted secret is not repeated");
    }

    #[test]
    fn a_secret_is_replaced_at_once_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::MetadataExt;
        let home = tempfile::tempdir().expect("a folder");
        let folder = SecretsFolder { path: home.path().join("var/secrets") };
        assert!(folder.list().is_ok_and(|files| files.is_empty()), "a folder that does not exist is empty");
        assert_eq!(folder.store("A", &Secret::new("first".to_string())), Ok(false));
        let before = std::fs::metadata(folder.path.join("A")).expect("a file");
        assert_eq!(folder.store("A", &Secret::new("second".to_string())), Ok(true));
        let after = std::fs::metadata(folder.path.join("A")).expect("a file");
        assert_eq!(std::fs::read_to_string(folder.path.join("A")).ok().as_deref(), Some("second"));
        assert_ne!(before.ino(), after.ino(), "the file is replaced and not overwritten");
        assert_eq!(after.mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&folder.path).map(|folder| folder.mode() & 0o777).ok(), Some(0o700));
        assert_eq!(std::fs::read_dir(&folder.path).expect("a folder").count(), 1, "no draft is left");
        assert_eq!((folder.remove("A"), folder.remove("A")), (Ok(true), Ok(false)));
    }
}
