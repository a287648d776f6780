//! The stored fold of the ledger: a file beside the registry, so that a start folds only the rows that came after it.
//!
//! The file is a cache. It is used only if the code of the fold is the same, its content has the digest that it names, and the
//! row of the ledger that it ends with has the hash that it names; otherwise everything is folded from the ledger, and the log
//! says why. `aam verify` compares it with a fold of the ledger. Losing it costs the time of one fold.
//!
//! A registry in PostgreSQL does not have a stored fold: its rows may be committed in another order than that of their numbers,
//! so the last row does not say which other rows are part of a fold.

mod file;
mod keeper;

use super::reader::{COLUMNS, entry};
use super::{Location, RegistryError};
use crate::model::Digest;
use crate::snapshot::Snapshot;
use file::{FoldFile, Unusable};
pub(super) use keeper::FoldKeeper;
use sqlstore::{Connection, OptionalExtension, params};
use std::path::PathBuf;

/// The file with the stored fold of a registry.
fn path_of(registry: &Location) -> PathBuf {
    let mut name = registry.local().as_os_str().to_owned();
    name.push(".fold");
    PathBuf::from(name)
}

/// Folds the whole ledger, from the stored fold if there is one that fits. Returns the last row of the stored fold, too, or 0.
///
/// # Errors
/// If the registry cannot be read, or if this build cannot parse a row.
pub(super) fn folded(db: &Connection, registry: &Location) -> Result<(Snapshot, u64), RegistryError> {
    let mut snapshot = match load(db, registry)? {
        Ok(stored) => stored,
        Err(unusable) => {
            unusable.log(&path_of(registry));
            Snapshot::default()
        }
    };
    let stored = snapshot.seq;
    fold_rows(db, &mut snapshot, i64::MAX)?;
    tracing::debug!(target: "aam::registry", stored, rows = snapshot.seq - stored, "folded the ledger after the stored fold");
    Ok((snapshot, stored))
}

/// Compares the stored fold with the ledger. Returns what is wrong with it. A file that would not be used, because another
/// version of AAM wrote it for example, is not wrong.
///
/// # Errors
/// If the registry cannot be read, or if this build cannot parse a row.
pub(super) fn difference(db: &Connection, registry: &Location) -> Result<Option<String>, RegistryError> {
    let file = path_of(registry);
    let problem = match load(db, registry)? {
        Ok(stored) => {
            let seq = stored.seq;
            // One of the two at a time, because both may be large.
            let found = stored.fold_digest();
            drop(stored);
            let mut folded = Snapshot::default();
            fold_rows(db, &mut folded, i64::try_from(seq).unwrap_or(i64::MAX))?;
            match (found, folded.fold_digest()) {
                (Ok(found), Ok(expected)) if found == expected => return Ok(None),
                _ => format!("differs from the fold of the ledger up to row {seq}"),
            }
        }
        Err(Unusable::Damaged(why)) => format!("is damaged: {why}"),
        Err(_) => return Ok(None),
    };
    let file = file.display();
    Ok(Some(format!(
        "the stored fold {file} {problem}; the ledger is not affected; fix: stop the daemon, delete {file} and start it again, which folds the ledger anew"
    )))
}

/// Reads the stored fold if it fits the ledger.
fn load(db: &Connection, registry: &Location) -> Result<Result<Snapshot, Unusable>, RegistryError> {
    if db.is_postgres() {
        return Ok(Err(Unusable::Missing));
    }
    let file = match FoldFile::open(&path_of(registry)) {
        Ok(file) => file,
        Err(unusable) => return Ok(Err(unusable)),
    };
    Ok(match row_hash(db, file.seq)? {
        Some(hash) if hash == file.row_hash => file.read(),
        _ => Err(Unusable::OtherLedger(file.seq)),
    })
}

/// The hash of row `seq` of the ledger.
fn row_hash(db: &Connection, seq: u64) -> Result<Option<Digest>, RegistryError> {
    // A damaged file may name any number.
    let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
    let mut statement = db.prepare_cached("SELECT hash FROM ledger WHERE seq = ?1")?;
    Ok(statement.query_row(params![seq], |row| row.get(0)).optional()?.map(Digest))
}

/// Applies the rows after those of `snapshot`, up to row `last`.
fn fold_rows(db: &Connection, snapshot: &mut Snapshot, last: i64) -> Result<(), RegistryError> {
    let after = i64::try_from(snapshot.seq).unwrap_or(i64::MAX);
    let sql = format!("SELECT {COLUMNS} FROM ledger WHERE seq > ?1 AND seq <= ?2 ORDER BY seq");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![after, last])?;
    while let Some(row) = rows.next()? {
        snapshot.apply(&entry(row)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
