//! Working state next to the ledger: day budgets and marks of the intents folder. Losing it causes repeated work but
//! loses no history.

use super::RegistryError;
use super::command::FileMark;
use super::writer::Writer;
use sqlstore::params;

/// More than one page of either database.
const PROBE_BYTES: usize = 16_384;

impl Writer {
    pub(super) fn take_budget(&mut self, account: &str, day: i64, wanted: u64, limit: u64) -> Result<u64, RegistryError> {
        let (wanted, limit) = (i64::try_from(wanted).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let used: i64 = self
            .db
            .prepare_cached("SELECT coalesce(max(used), 0) FROM budget WHERE account = ?1 AND day = ?2")?
            .query_row(params![account, day], |row| row.get(0))?;
        let granted = wanted.min(limit.saturating_sub(used)).max(0);
        if granted > 0 {
            self.db
                .prepare_cached(
                    "INSERT INTO budget (account, day, used) VALUES (?1, ?2, ?3)
                     ON CONFLICT (account, day) DO UPDATE SET used = budget.used + ?3",
                )?
                .execute(params![account, day, granted])?;
            self.db.prepare_cached("DELETE FROM budget WHERE account = ?1 AND day < ?2")?.execute(params![account, day])?;
        }
        Ok(u64::try_from(granted).unwrap_or(0))
    }

    pub(super) fn store_marks(&mut self, marks: &[FileMark], removed: &[String]) -> Result<(), RegistryError> {
        let mut put = self.db.prepare_cached(
            "INSERT INTO folder_marks (path, size, mtime_ns, inode, content) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode,
               content = excluded.content",
        )?;
        for mark in marks {
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
