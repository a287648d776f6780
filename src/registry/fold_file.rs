//! The stored fold of the ledger: a file beside the registry, so that a start folds only the rows that came after it.
//!
//! The file is a cache. It is used only if the code of the fold is the same, its content has the digest that it names, and the
//! row of the ledger that it ends with has the hash that it names; otherwise everything is folded from the ledger, and the log
//! says why. `aam verify` compares it with a fold of the ledger. Losing it costs the time of one fold.
//!
//! Rows of a registry in PostgreSQL may be committed in another order than that of their numbers, so the fold counts the rows of
//! each chain, and it ends with the last of them in every chain. Each replica has a file of its own.

mod file;
mod keeper;

use super::chains::{self, Rows};
use super::reader::{COLUMNS, entry};
use super::{Location, Reader, RegistryError, followed};
use crate::model::Digest;
use crate::snapshot::Snapshot;
use crate::snapshot::chain_rows::ChainRows;
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
    if db.is_postgres() {
        return followed::fold(db, registry, Snapshot::default).map(|(snapshot, stored, _)| (snapshot, stored));
    }
    let mut snapshot = stored(db, registry, Snapshot::default)?;
    let stored = snapshot.seq;
    fold_rows(db, &mut snapshot, i64::MAX)?;
    tracing::debug!(target: "aam::registry", stored, rows = snapshot.seq - stored, "folded the ledger after the stored fold");
    Ok((snapshot, stored))
}

/// Reads the stored fold into a snapshot that `empty` makes, of no entry, or returns such a one and logs why.
///
/// # Errors
/// If the registry cannot be read.
pub(super) fn stored(db: &Connection, registry: &Location, empty: fn() -> Snapshot) -> Result<Snapshot, RegistryError> {
    Ok(load(db, registry, empty())?.unwrap_or_else(|unusable| {
        unusable.log(&path_of(registry));
        empty()
    }))
}

/// What verifying the stored fold found.
#[derive(Debug, Default)]
pub(super) struct FoldVerdict {
    /// What is wrong with it.
    pub wrong: Option<String>,
    /// Why a file that may be intact would not be used.
    pub unused: Option<String>,
}

/// Compares the stored fold with the ledger.
///
/// # Errors
/// If the registry cannot be read, or if this build cannot parse a row.
pub(super) fn verify(db: &Connection, registry: &Location) -> Result<FoldVerdict, RegistryError> {
    let file = path_of(registry);
    let problem = match load(db, registry, Snapshot::default())? {
        Ok(stored) => {
            let (seq, rows) = (stored.seq, stored.chain_rows.clone());
            // One of the two at a time, because both may be large.
            let found = compared(db, stored);
            let mut folded = Snapshot::default();
            match db.is_postgres() {
                true => chains::each_row(db, Rows::Of(&rows), |entry, _, _| folded.apply(&entry))?,
                false => fold_rows(db, &mut folded, i64::try_from(seq).unwrap_or(i64::MAX))?,
            }
            match (found, compared(db, folded)) {
                (Ok(found), Ok(expected)) if found == expected => return Ok(FoldVerdict::default()),
                _ => format!("differs from the fold of the ledger up to row {seq}"),
            }
        }
        Err(Unusable::Damaged(why)) => format!("is damaged: {why}"),
        Err(unusable) => {
            let unused = unusable.reason().map(|why| format!("the stored fold {} is not used: {why}", file.display()));
            return Ok(FoldVerdict { unused, ..FoldVerdict::default() });
        }
    };
    let file = file.display();
    let wrong = format!(
        "the stored fold {file} {problem}; the ledger is not affected; fix: stop the daemon, delete {file} and start it again, which folds the ledger anew"
    );
    Ok(FoldVerdict { wrong: Some(wrong), ..FoldVerdict::default() })
}

/// The digest of what two folds of the same rows have in common.
fn compared(db: &Connection, fold: Snapshot) -> Result<Digest, String> {
    if db.is_postgres() { fold.without_order().fold_digest() } else { fold.fold_digest() }
}

/// Reads the stored fold into `empty` if it fits the ledger.
fn load(db: &Connection, registry: &Location, empty: Snapshot) -> Result<Result<Snapshot, Unusable>, RegistryError> {
    let read = |empty| {
        let file = FoldFile::open(&path_of(registry))?;
        let end = file.end;
        Ok((file.read(empty)?, end))
    };
    let (stored, end) = match read(empty) {
        Ok(found) => found,
        Err(unusable) => return Ok(Err(unusable)),
    };
    Ok(match end_of(db, stored.seq, &stored.chain_rows)? {
        Some(found) if found == end => Ok(stored),
        _ => Err(Unusable::OtherLedger(stored.seq)),
    })
}

/// The hash of row `seq`, with which a fold ends; in PostgreSQL, a digest over the last rows of all chains. `None` if the ledger does
/// not have them.
fn end_of(db: &Connection, seq: u64, rows: &ChainRows) -> Result<Option<Digest>, RegistryError> {
    if db.is_postgres() {
        return Ok(chains::ends(db, rows)?.map(|ends| chains::digest_of(&ends)));
    }
    // A damaged file may name any number.
    let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
    let mut statement = db.prepare_cached("SELECT hash FROM ledger WHERE seq = ?1")?;
    Ok(statement.query_row(params![seq], |row| row.get(0)).optional()?.map(Digest))
}

impl Reader {
    /// The end of a fold of these rows, which its file names.
    ///
    /// # Errors
    /// If the registry cannot be read, or if the ledger does not have the rows.
    fn end_of_fold(&self, seq: u64, rows: &ChainRows) -> Result<Digest, RegistryError> {
        let end = self.with(|db| end_of(db, seq, rows))?;
        end.ok_or_else(|| RegistryError::Other(format!("row {seq} was not found")))
    }
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
