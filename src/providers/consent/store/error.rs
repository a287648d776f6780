//! Why the consent store cannot be used, and what to do.

use super::super::keys::NoRandomness;
use crate::model::{Class, Failure};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an attempt waits after the database could not be used.
const DATABASE_WAIT: Duration = Duration::from_secs(10);
/// What makes every process read an empty store. The role of AAM may do it.
const EMPTY: &str = "BEGIN; DELETE FROM consent_rows; UPDATE consent_store SET content = '', version = version + 1, complete_since = version + 1; COMMIT";

/// Where consents are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentPlace {
    File(PathBuf),
    /// The registry in PostgreSQL with this address, which contains no secret.
    Database(String),
}

impl ConsentPlace {
    /// The path, if it is a file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            ConsentPlace::File(path) => Some(path),
            ConsentPlace::Database(_) => None,
        }
    }
}

impl fmt::Display for ConsentPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsentPlace::File(path) => write!(f, "{}", path.display()),
            ConsentPlace::Database(name) => f.write_str(name),
        }
    }
}

/// Why the store cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the consent store {place} is damaged: {reason}")]
    Damaged { place: ConsentPlace, reason: String },
    #[error("the consent store {place} was written with another key")]
    WrongKey { place: ConsentPlace },
    #[error("could not {action} the consent store {path}: {error}")]
    Io { path: PathBuf, action: &'static str, error: io::Error },
    #[error("another process of aam has locked {path} for more than {} s", .waited.as_secs())]
    Locked { path: PathBuf, waited: Duration },
    #[error("another replica refreshes this grant for more than {} s", .waited.as_secs())]
    Refreshing { waited: Duration },
    /// It may have been changed if the connection was lost while the database was asked to commit.
    #[error("the consent store {place} cannot be used: {error}")]
    Database { place: ConsentPlace, error: String },
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl StoreError {
    /// What to do.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            StoreError::Damaged { place: ConsentPlace::File(path), .. } => format!(
                "restore {0} from a backup; or move it away (mv {0} {0}.damaged), and every consent must be given again; AAM does not change the file",
                path.display()
            ),
            StoreError::WrongKey { place: ConsentPlace::File(path) } => format!(
                "put the earlier key back where credentials.consent_store.key names it; or move {0} away (mv {0} {0}.old), and every consent must be given again; AAM does not change the file",
                path.display()
            ),
            StoreError::Damaged { .. } => format!(
                "run the same version of AAM on every replica; or restore the database from a backup; or empty the store, and every consent must be given again: {EMPTY}"
            ),
            StoreError::WrongKey { .. } => format!(
                "give every replica the key with which the store was written, where credentials.consent_store.key names it; or empty the store, and every consent must be given again: {EMPTY}"
            ),
            StoreError::Io { path, .. } => format!(
                "make sure that the disk has free space and that the user of aam can write {}; credentials.consent_store.file names another place",
                path.display()
            ),
            StoreError::Locked { path, .. } => format!("see which process holds it: fuser {}", path.display()),
            StoreError::Refreshing { .. } => {
                "no action is required: AAM tries again; if that replica has ended, its lock ends within two minutes".to_string()
            }
            StoreError::Database { place, .. } => {
                format!(
                    "AAM tries again by itself; if it goes on, see that {place} answers: aam status --registry URL, and the log of PostgreSQL"
                )
            }
            StoreError::NoRandomness(_) => "check that /dev/urandom can be read".to_string(),
        }
    }

    /// Returns an equal error.
    #[must_use]
    pub fn copy(&self) -> StoreError {
        match self {
            StoreError::Damaged { place, reason } => StoreError::Damaged { place: place.clone(), reason: reason.clone() },
            StoreError::WrongKey { place } => StoreError::WrongKey { place: place.clone() },
            StoreError::Io { path, action, error } => {
                StoreError::Io { path: path.clone(), action, error: io::Error::new(error.kind(), error.to_string()) }
            }
            StoreError::Locked { path, waited } => StoreError::Locked { path: path.clone(), waited: *waited },
            StoreError::Refreshing { waited } => StoreError::Refreshing { waited: *waited },
            StoreError::Database { place, error } => StoreError::Database { place: place.clone(), error: error.clone() },
            StoreError::NoRandomness(error) => StoreError::NoRandomness(*error),
        }
    }

    /// The failure of an attempt that needs the store.
    #[must_use]
    pub fn failure(&self) -> Failure {
        // A lock and a database say nothing about the connection, so it keeps its state.
        let waits = |wait: Duration| Failure::new(Class::Throttled, self.to_string(), self.fix()).after(wait);
        match self {
            StoreError::Locked { waited, .. } => waits(*waited),
            StoreError::Refreshing { .. } | StoreError::Database { .. } => waits(DATABASE_WAIT),
            _ => Failure::new(Class::CredentialMissing, self.to_string(), self.fix()),
        }
    }
}
