//! What can be wrong with the registry itself. A source's failures are values, not errors.

use std::path::PathBuf;

/// The registry cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(
        "the disk is full: the registry cannot write; nothing is called until it can (free some space, aam goes on by itself)"
    )]
    Full,
    #[error("registry {path} is in use by {holder}; one writer at a time: stop it, or give this one its own --registry")]
    Held { path: PathBuf, holder: String },
    #[error("the file is an SQLite database but no registry of AAM; give another --registry")]
    Foreign,
    #[error("the registry has schema version {found}, this aam knows {known}: use the newer aam")]
    Newer { found: usize, known: usize },
    #[error(
        "migration {version} was applied in another form than this aam knows; the registry was changed by hand or by another build"
    )]
    Migration { version: usize },
    #[error("namespace {0} is sealed: its seed was loaded once and nothing changes it afterwards")]
    Sealed(String),
    #[error("there is no registry at {0}; start aam serve first, or name it with --registry")]
    Missing(PathBuf),
    #[error("row {seq} of the ledger cannot be read: {why}; run aam verify")]
    Row { seq: u64, why: String },
    #[error("registry: {0}")]
    Sqlite(rusqlite::Error),
    #[error("registry {path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Other(String),
    #[error("the registry's writer has ended; restart aam")]
    Closed,
}

impl From<rusqlite::Error> for RegistryError {
    fn from(error: rusqlite::Error) -> RegistryError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => RegistryError::Full,
            // A write that fails for want of space shows as an I/O error on some file systems.
            Some(rusqlite::ErrorCode::SystemIoFailure) if error.to_string().contains("full") => RegistryError::Full,
            _ => RegistryError::Sqlite(error),
        }
    }
}

impl RegistryError {
    /// The same error for each of several commands that failed together.
    pub(super) fn copy(&self) -> RegistryError {
        match self {
            RegistryError::Full => RegistryError::Full,
            RegistryError::Sealed(namespace) => RegistryError::Sealed(namespace.clone()),
            RegistryError::Closed => RegistryError::Closed,
            RegistryError::Row { seq, why } => RegistryError::Row { seq: *seq, why: why.clone() },
            other => RegistryError::Other(other.to_string()),
        }
    }
}
