//! Archive files: recorded calls and step reports that are older than `registry.keep` of the policy. They are in a folder beside the
//! registry, one file for each UTC day, and the ledger names each file with its digest before what it holds is deleted.

mod calls;
mod file;
mod problem;
mod steps;
mod verify;
mod write;

pub(super) use calls::CallArchives;
pub(super) use calls::end as end_of;
pub use problem::ArchiveProblem;
pub(super) use steps::{ArchivedSteps, archived_body};
pub(super) use verify::{check, other_bodies};
pub(super) use write::{copy, in_use};

use super::{Location, RegistryError};
use crate::model::ledger::{Archived, Fact};
use sqlstore::Connection;
use std::path::{Path, PathBuf};

/// The schema version that first has step reports beside the ledger.
pub(super) const SINCE_SCHEMA_VERSION: usize = 11;

/// Why a registry in PostgreSQL has no archive files.
pub(super) const ONLY_FILES: &str = "registry.keep of the policy is for a registry in a file; a registry in PostgreSQL moves nothing \
into archive files; fix: remove registry.keep from the policy";

/// What archive files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveKind {
    Calls,
    Steps,
}

impl ArchiveKind {
    /// The kind of the entries that name the files.
    fn entry_kind(self) -> &'static str {
        match self {
            ArchiveKind::Calls => "calls_archived",
            ArchiveKind::Steps => "steps_archived",
        }
    }
}

/// The folder with the archive files of a registry in a file.
pub(super) fn folder(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".archive");
    PathBuf::from(name)
}

/// The files that the ledger names, in order. A registry in PostgreSQL does not have any.
pub(super) fn named(db: &Connection, kind: ArchiveKind) -> Result<Vec<Archived>, RegistryError> {
    read(db, kind, "ORDER BY seq")
}

/// The last file that the ledger names.
pub(super) fn last(db: &Connection, kind: ArchiveKind) -> Result<Option<Archived>, RegistryError> {
    Ok(read(db, kind, "ORDER BY seq DESC LIMIT 1")?.pop())
}

fn read(db: &Connection, kind: ArchiveKind, order: &str) -> Result<Vec<Archived>, RegistryError> {
    if db.is_postgres() {
        return Ok(Vec::new());
    }
    // The kind is in the text, because the index is for one kind.
    let kind = kind.entry_kind();
    let mut statement = db.prepare_cached(&format!("SELECT seq, facts FROM ledger WHERE kind = '{kind}' {order}"))?;
    let mut rows = statement.query([])?;
    let mut files = Vec::new();
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        match Fact::read(kind, row.text(1)?.unwrap_or_default()) {
            // A name of somebody else must not lead out of the folder.
            Ok(Fact::CallsArchived(archived) | Fact::StepsArchived(archived)) if !archived.file.contains(['/', '\0']) => {
                files.push(archived);
            }
            Ok(_) => return Err(RegistryError::Row { seq, why: "it does not name an archive file".to_string() }),
            Err(error) => return Err(RegistryError::Row { seq, why: error.to_string() }),
        }
    }
    Ok(files)
}

/// The folder of the archive files at `location`, for a registry in a file.
pub(super) fn folder_of(location: &Location) -> PathBuf {
    folder(location.local())
}

/// The expression of the body of a row of `ledger`, as far as it is not in an archive file.
pub(super) fn body_sql(db: &Connection) -> &'static str {
    match db.is_postgres() {
        true => "ledger.body",
        false => "coalesce(ledger.body, (SELECT bodies.body FROM bodies WHERE bodies.seq = ledger.seq))",
    }
}
