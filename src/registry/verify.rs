//! Walks the hash chain.

use super::chain::{self, GENESIS, Row};
use super::{Reader, RegistryError};
use crate::model::Digest;

/// What the walk found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Rows that fit.
    pub rows: u64,
    /// The hash of the last row that fits. Kept elsewhere, it also proves that no tail was cut off.
    pub head: Digest,
    /// The first row that does not fit, and how.
    pub broken: Option<(u64, String)>,
}

impl Reader {
    /// Walks the ledger from the first row.
    ///
    /// # Errors
    /// When the registry cannot be read at all.
    pub fn verify(&self) -> Result<Verdict, RegistryError> {
        self.with(|db| {
            let sql = "SELECT seq, at, kind, namespace, connection, facts, body, prev, hash FROM ledger ORDER BY seq";
            let mut statement = db.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut verdict = Verdict { rows: 0, head: GENESIS, broken: None };
            while let Some(row) = rows.next()? {
                let seq: u64 = row.get(0)?;
                match step(row, &verdict) {
                    Ok(head) => {
                        verdict.rows += 1;
                        verdict.head = head;
                    }
                    Err(why) => {
                        verdict.broken = Some((seq, why));
                        break;
                    }
                }
            }
            Ok(verdict)
        })
    }
}

/// The hash of `row` if it fits after the rows of `verdict`.
fn step(row: &rusqlite::Row<'_>, verdict: &Verdict) -> Result<Digest, String> {
    let text = |column: usize| row.get_ref(column).map_err(|error| error.to_string());
    let words = |error: rusqlite::types::FromSqlError| error.to_string();
    let seq: u64 = row.get(0).map_err(|error| error.to_string())?;
    if seq != verdict.rows + 1 {
        return Err(format!("row {} is missing", verdict.rows + 1));
    }
    let read = Row {
        seq,
        at: row.get(1).map_err(|error| error.to_string())?,
        kind: text(2)?.as_str().map_err(words)?,
        namespace: text(3)?.as_str().map_err(words)?,
        connection: text(4)?.as_str_or_null().map_err(words)?,
        facts: text(5)?.as_str().map_err(words)?,
        body: text(6)?.as_str_or_null().map_err(words)?,
    };
    if text(7)?.as_blob().map_err(words)? != verdict.head.0 {
        return Err("its link to the row before does not fit".to_string());
    }
    let hash = chain::hash(&verdict.head, &read);
    if text(8)?.as_blob().map_err(words)? != hash.0 {
        return Err("its content does not fit its hash: it was changed after it was written".to_string());
    }
    Ok(hash)
}
