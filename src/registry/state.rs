//! Working state next to the ledger: day budgets and marks of the intents folder. Losing it causes repeated work but
//! loses no history.

use super::command::{Command, FileMark};
use super::writer::Writer;
use super::{Registry, RegistryError};
use crate::egress::DayBudget;
use futures_util::future::BoxFuture;
use sqlstore::{Connection, params};

/// The length of a path up to which its mark is stored, in bytes.
const MAX_MARKED_PATH: usize = 2048;

/// More than one page of either database.
const PROBE_BYTES: usize = 16_384;

impl Writer {
    pub(super) fn take_budget(&mut self, account: &str, day: i64, wanted: u64, limit: u64) -> Result<u64, RegistryError> {
        take_budget(&self.db, (account, day), wanted, limit)
    }

    pub(super) fn store_marks(&mut self, marks: &[FileMark], removed: &[String]) -> Result<(), RegistryError> {
        let mut put = self.db.prepare_cached(
            "INSERT INTO folder_marks (path, size, mtime_ns, inode, content) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode,
               content = excluded.content",
        )?;
        // A file whose path is too long for an index of PostgreSQL is read again at each start.
        for mark in marks.iter().filter(|mark| mark.path.len() <= MAX_MARKED_PATH) {
            put.execute(params![mark.path, mark.size, mark.mtime_ns, mark.inode.cast_signed(), mark.content])?;
        }
        let mut drop = self.db.prepare_cached("DELETE FROM folder_marks WHERE path = ?1")?;
        for path in removed {
            drop.execute([path])?;
        }
        Ok(())
    }

    /// Writes more than one page, so that a full disk causes an error.
    pub(super) fn probe(&mut self) -> Result<(), RegistryError> {
        if !self.db.is_postgres() {
            self.db.execute_batch("CREATE TABLE IF NOT EXISTS probe (filler BLOB) STRICT")?;
        }
        self.db.execute("INSERT INTO probe (filler) VALUES (?1)", [vec![0_u8; PROBE_BYTES]])?;
        self.db.execute("DELETE FROM probe", [])?;
        Ok(())
    }
}

/// Takes calls from the budget of a day. Several replicas may do so at the same time, so the row is locked before it is read: the
/// first statement waits for every other transaction that changes it.
pub(super) fn take_budget(db: &Connection, (account, day): (&str, i64), wanted: u64, limit: u64) -> Result<u64, RegistryError> {
    let (wanted, limit) = (i64::try_from(wanted).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let used: i64 = db
        .prepare_cached(
            "INSERT INTO budget (account, day, used) VALUES (?1, ?2, 0)
             ON CONFLICT (account, day) DO UPDATE SET used = budget.used RETURNING used",
        )?
        .query_row(params![account, day], |row| row.get(0))?;
    let granted = wanted.min(limit.saturating_sub(used)).max(0);
    if granted > 0 {
        db.prepare_cached("UPDATE budget SET used = used + ?3 WHERE account = ?1 AND day = ?2")?
            .execute(params![account, day, granted])?;
        let old = match db.is_postgres() {
            // Without waiting for another replica that deletes them, too.
            true => {
                "DELETE FROM budget WHERE (account, day) IN
                   (SELECT account, day FROM budget WHERE account = ?1 AND day < ?2 ORDER BY day FOR UPDATE SKIP LOCKED)"
            }
            false => "DELETE FROM budget WHERE account = ?1 AND day < ?2",
        };
        db.prepare_cached(old)?.execute(params![account, day])?;
    }
    Ok(u64::try_from(granted).unwrap_or(0))
}

impl DayBudget for Registry {
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>> {
        let account = key.to_string();
        Box::pin(async move {
            self.send(|reply| Command::TakeBudget { account, day, wanted, limit, reply }).await.map_err(|error| error.to_string())
        })
    }
}
