//! Compares the archive files with the ledger.

use super::file;
use super::{folder_of, in_use};
use crate::registry::verify::MAX_DAMAGE;
use crate::registry::{Location, RegistryError};
use sqlstore::Connection;
use std::collections::BTreeSet;

/// What is wrong with the archive files.
#[derive(Debug, Default)]
pub(in super::super) struct ArchiveProblems {
    /// The names of the files that are damaged or missing.
    pub(in super::super) files: BTreeSet<String>,
    /// One sentence for each of them.
    pub(in super::super) messages: Vec<String>,
}

/// Checks the digest of each file, except those whose calls were dropped because of their age.
pub(in super::super) fn check(db: &Connection, location: &Location) -> ArchiveProblems {
    let mut problems = ArchiveProblems::default();
    let files = in_use(db).unwrap_or_else(|error| {
        problems.messages.push(format!("the entries that name archive files cannot be read: {error}"));
        Vec::new()
    });
    let mut found: Vec<(String, String)> = Vec::new();
    for archived in files {
        if let Err(error) = file::check(&folder_of(location), &archived) {
            found.push((archived.file, error.to_string()));
        }
    }
    if !found.is_empty() {
        // The daemon deletes files whose calls it dropped meanwhile.
        let left = in_use(db).unwrap_or_default();
        found.retain(|(name, _)| left.iter().any(|archived| archived.file == *name));
    }
    for (file, message) in found {
        problems.messages.push(message);
        problems.files.insert(file);
    }
    problems
}

/// Returns the rows of step reports that belong to no entry, a bounded number of them.
///
/// # Errors
/// If the registry cannot be read.
pub(in super::super) fn other_bodies(db: &Connection) -> Result<Vec<String>, RegistryError> {
    let sql = format!(
        "SELECT bodies.seq FROM bodies LEFT JOIN ledger ON ledger.seq = bodies.seq
         WHERE ledger.seq IS NULL OR ledger.kind <> 'attempt_finished' OR ledger.body IS NOT NULL LIMIT {MAX_DAMAGE}"
    );
    let mut statement = db.prepare(&sql)?;
    let rows = statement.query_map([], |row| row.get::<_, i64>(0))?;
    let message = |seq| format!("there is a step report for row {seq}, which was not written by AAM");
    rows.map(|seq| Ok(message(seq?))).collect()
}
