//! Follows the ledger from a fold of it, also where several processes append.

use super::super::chains::{self, Rows};
use super::super::{RegistryError, followed};
use super::Reader;
use crate::model::ledger::Entry;
use crate::snapshot::Snapshot;

/// The number of rows that one query reads of a file.
const MAX_ROWS: usize = 1000;

impl Reader {
    /// As [`Reader::snapshot`], with the number up to which no entry can be added any more. Those up to it are in the fold.
    ///
    /// # Errors
    /// As [`Reader::snapshot`].
    pub(in super::super) fn settled_snapshot(&self) -> Result<(Snapshot, u64), RegistryError> {
        // The horizon is asked for first: rows up to it are visible to every later statement.
        let horizon = self.with(|db| if db.is_postgres() { followed::horizon(db) } else { Ok(u64::MAX) })?;
        let snapshot = self.snapshot()?;
        let settled = snapshot.seq.min(horizon);
        Ok((snapshot, settled))
    }

    /// Applies the entries to `snapshot` that it lacks, and passes each of them to `take` before. In a database, they may have
    /// smaller numbers than the last one that it has, because several processes append.
    ///
    /// # Errors
    /// If the registry cannot be read, or if this build cannot parse a row.
    pub fn follow(&self, snapshot: &mut Snapshot, mut take: impl FnMut(&Entry)) -> Result<(), RegistryError> {
        if self.location.postgres().is_some() {
            return self.with(|db| {
                let known = snapshot.chain_rows.clone();
                chains::each_row(db, Rows::After(&known), |entry, _, _| {
                    take(&entry);
                    snapshot.apply(&entry);
                })
            });
        }
        loop {
            let entries = self.entries_after(snapshot.seq, u64::MAX, MAX_ROWS)?;
            for (entry, _) in &entries {
                take(entry);
                snapshot.apply(entry);
            }
            if entries.len() < MAX_ROWS {
                return Ok(());
            }
        }
    }
}
