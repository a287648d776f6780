//! Errors of the registry itself. Failures of a source are values, not errors.

use super::archive::ArchiveProblem;
use std::path::PathBuf;

/// Why the registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(
        "the disk is full, so the registry cannot be written and AAM makes no calls; free some space, AAM then continues automatically"
    )]
    Full,
    #[error("registry {path} is in use by {holder}; stop that process, or set another registry with --registry")]
    Held { path: PathBuf, holder: String },
    #[error(
        "{holder} is a replica with its files at {path}.*, and each replica has files of its own; run this one in another folder, or \
         stop that process"
    )]
    HeldFiles { path: PathBuf, holder: String },
    #[error("the file is not an AAM registry and was not changed; set another file with --registry")]
    Foreign,
    #[error(
        "the registry has schema version {found}, but this version of AAM supports only {known}: a newer AAM has opened it; \
         install that version again, or go back to a backup from before the upgrade with aam restore FILE"
    )]
    Newer { found: usize, known: usize },
    #[error(
        "the registry has schema version {found}, but this version of AAM reads {known}; start aam serve or aam once to migrate it; \
         aam backup FILE copies it before"
    )]
    Older { found: usize, known: usize },
    #[error(
        "the registry in the database has schema version {found}, but this version of AAM supports only {known}: a newer AAM has \
         opened it; install that version on this machine, too, or restore a copy of the database from before the upgrade"
    )]
    NewerDatabase { found: usize, known: usize },
    #[error(
        "the registry in the database has schema version {found}, but this version of AAM needs {known}; stop the replicas of the \
         earlier version and upgrade the tables as their owner: aam registry init --registry '{url}' --role {role}"
    )]
    OlderDatabase { found: usize, known: usize, url: String, role: String },
    #[error(
        "migration {version} of the registry differs from the one in this version of AAM; use the build that created the registry, or restore a backup"
    )]
    Migration { version: usize },
    #[error("namespace {0} is sealed: its seed was loaded once and cannot be changed")]
    Sealed(String),
    #[error("{path} is a folder, and the registry is a file; name the file, for example --registry {file}")]
    Folder { path: PathBuf, file: PathBuf },
    #[error(
        "{path} is {what}, and the registry is a regular file; remove it and put the file or a backup back, or set another file with --registry"
    )]
    NotRegular { path: PathBuf, what: &'static str },
    #[error("no registry was found at {0}; start aam serve to create it, or set its path with --registry")]
    Missing(PathBuf),
    #[error("this user may not read the registry {0}; run the command as the user of the daemon, for example with sudo -u aam")]
    Denied(PathBuf),
    #[error("row {seq} of the ledger cannot be read: {why}; run aam verify")]
    Row { seq: u64, why: String },
    #[error(
        "row {seq} of the ledger is of the kind {kind}, which this version of AAM does not know: a newer AAM wrote it; \
         install that version on every replica"
    )]
    NewerRow { seq: u64, kind: String },
    #[error("the registry has a value that AAM does not write: {0}; run aam verify")]
    Value(sqlstore::Error),
    #[error("registry: {0}")]
    Database(sqlstore::Error),
    #[error(
        "the database of the registry does not answer, so nothing is accepted and AAM makes no calls; AAM continues automatically \
         when it answers: {0}"
    )]
    Unavailable(String),
    #[error("the database of the registry does not answer; when it does, run this command again: {0}")]
    NotReached(String),
    #[error(
        "another replica has this connection now, or it was withdrawn, so what this attempt would find does not count; \
         no action is required"
    )]
    NotHeld,
    #[error(
        "the database of the registry refused the login: {0}; correct the role and the credential of its password in the URL \
         (postgres://ROLE@HOST/DATABASE?credential=env:NAME or credential=file:PATH), or what pg_hba.conf of the server allows"
    )]
    LoginRefused(String),
    #[error(
        "between AAM and PostgreSQL is a pooler that gives each transaction another session, and the registry needs sessions of its own; \
         let the URL of the registry name the server itself, or set pool_mode = session for its database in the pooler"
    )]
    SharedSessions,
    #[error(
        "the database has no registry in the schema {schema}; its owner creates it: aam registry init --registry '{url}' --role {role}"
    )]
    NotCreated { schema: String, url: String, role: String },
    #[error(
        "the role {role} may change what was recorded ({privileges}), so AAM does not run as it; create a role that owns nothing, \
         then run as the owner: aam registry init --registry '{url}' --role ROLE"
    )]
    TooPrivileged { role: String, privileges: String, url: String },
    #[error("registry {path}: {error}{}", io_fix(error))]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Archive(Box<ArchiveProblem>),
    #[error("{0}")]
    Other(String),
    #[error(
        "{path} was deleted or replaced while AAM has it open, so nothing more is accepted and AAM makes no calls; \
         stop AAM, put the file or a backup back, and start AAM again"
    )]
    Replaced { path: PathBuf },
    #[error("the registry is closed; restart AAM")]
    Closed,
}

impl From<rusqlite::Error> for RegistryError {
    fn from(error: rusqlite::Error) -> RegistryError {
        sqlstore::Error::from(error).into()
    }
}

impl From<sqlstore::Error> for RegistryError {
    fn from(error: sqlstore::Error) -> RegistryError {
        match error.sqlite_code() {
            _ if error.is_disk_full() => RegistryError::Full,
            Some(rusqlite::ErrorCode::NotADatabase) => RegistryError::Foreign,
            _ if error.is_connection_lost() || error.is_read_only() => RegistryError::Unavailable(error.to_string()),
            _ if error.is_unknown_statement() => RegistryError::SharedSessions,
            _ if error.is_login_refused() => RegistryError::LoginRefused(error.to_string()),
            _ if error.is_value() => RegistryError::Value(error),
            _ => RegistryError::Database(error),
        }
    }
}

/// What helps against an error of the operating system, after a semicolon. Empty if the error says it.
fn io_fix(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; give this user the right to read and write there, or run the command as the user of the daemon, for example with sudo -u aam"
        }
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
            "; a folder has to be here or on the way here: remove the file that is in its place, or set another path with --registry"
        }
        _ => "",
    }
}

impl RegistryError {
    /// The error for a command that ends with it. Nothing continues by itself then.
    #[must_use]
    pub fn of_command(self) -> RegistryError {
        match self {
            RegistryError::Unavailable(why) => RegistryError::NotReached(why),
            other => other,
        }
    }

    /// A copy of the error, for each command of a failed transaction.
    pub(super) fn copy(&self) -> RegistryError {
        match self {
            RegistryError::Full => RegistryError::Full,
            RegistryError::Sealed(namespace) => RegistryError::Sealed(namespace.clone()),
            RegistryError::Closed => RegistryError::Closed,
            RegistryError::Unavailable(why) => RegistryError::Unavailable(why.clone()),
            RegistryError::NotHeld => RegistryError::NotHeld,
            RegistryError::Row { seq, why } => RegistryError::Row { seq: *seq, why: why.clone() },
            other => RegistryError::Other(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_another_version_names_commands_for_a_database() {
        let (url, role) = ("postgres://OWNER@db:5432/aam?credential=env:NAME".to_string(), "aam".to_string());
        let older = RegistryError::OlderDatabase { found: 5, known: 6, url, role }.to_string();
        let command = "aam registry init --registry 'postgres://OWNER@db:5432/aam?credential=env:NAME' --role aam";
        assert!(older.ends_with(command), "{older}");
        let newer = RegistryError::NewerDatabase { found: 7, known: 6 }.to_string();
        assert!(newer.contains("install that version on this machine"), "{newer}");
        // These refuse a database.
        for command in ["aam backup", "aam restore", "aam serve"] {
            assert!(!older.contains(command) && !newer.contains(command), "{command}");
        }
    }
}
