//! Verifies the recorded calls: the chain of their batches, and the entries of the ledger that name them.

use super::call_chain::{BatchHash, BatchRow, CallRow};
use super::chain::GENESIS;
use super::{RegistryError, calls};
use crate::model::{CallPurpose, CallTarget, CallsAnchor, Digest};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Deserialize;

/// The result of verifying the recorded calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CallsVerdict {
    /// The number of batches up to the first mismatch.
    pub batches: u64,
    /// The number of calls in them.
    pub calls: u64,
    /// The last batch that was dropped because of its age, as the ledger records; 0 if none was.
    pub dropped_up_to: u64,
    /// The first batch that does not match, and why.
    pub broken: Option<(u64, String)>,
}

/// The part of a finished attempt, or of `calls_recorded`, that names a batch.
#[derive(Deserialize)]
struct Anchored {
    #[serde(default)]
    calls: Option<CallsAnchor>,
}

/// Returns the batch that the facts of an entry name.
pub(super) fn anchor(kind: &str, facts: &str) -> Option<CallsAnchor> {
    let names_calls = matches!(kind, "attempt_finished" | "calls_recorded") && facts.contains("\"calls\":");
    names_calls.then(|| serde_json::from_str::<Anchored>(facts).ok()?.calls).flatten()
}

/// Verifies all batches that were not dropped. `anchors` are the batches that the ledger names, with the entries.
pub(super) fn verify(db: &Connection, anchors: &[(u64, CallsAnchor)]) -> Result<CallsVerdict, RegistryError> {
    let dropped = calls::dropped(db)?;
    let dropped_up_to = dropped.map_or(0, |dropped| dropped.batch);
    let mut verdict = CallsVerdict { dropped_up_to, ..CallsVerdict::default() };
    let mut head = CallsAnchor { batch: dropped_up_to, hash: dropped.map_or(GENESIS, |dropped| dropped.hash) };
    let sql = "SELECT batch, at, connection, namespace, family, begun_at, why, policy, attempt, cut, hash, calls
               FROM call_batches WHERE batch > ?1 ORDER BY batch";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([dropped_up_to])?;
    while let Some(row) = rows.next()? {
        match step(db, row, &head)? {
            Ok((hash, calls)) => {
                head = CallsAnchor { batch: head.batch + 1, hash };
                verdict.batches += 1;
                verdict.calls += calls;
            }
            Err(broken) => {
                verdict.broken = Some(broken);
                return Ok(verdict);
            }
        }
    }
    verdict.broken = missing(db, anchors.iter().filter(|(_, anchor)| anchor.batch > dropped_up_to))?;
    Ok(verdict)
}

/// Returns the first named batch that does not exist or has another hash.
fn missing<'a>(
    db: &Connection,
    anchors: impl Iterator<Item = &'a (u64, CallsAnchor)>,
) -> Result<Option<(u64, String)>, RegistryError> {
    let mut find = db.prepare("SELECT hash FROM call_batches WHERE batch = ?1")?;
    for (seq, anchor) in anchors {
        let found = find.query_row([anchor.batch], |row| row.get(0)).optional()?.map(Digest);
        if found != Some(anchor.hash) {
            let what = if found.is_none() { "is missing" } else { "has another hash" };
            return Ok(Some((anchor.batch, format!("it {what}, but row {seq} of the ledger names it"))));
        }
    }
    Ok(None)
}

/// What is wrong with a batch.
type Broken = (u64, String);

/// Returns the hash and the number of calls of the batch if it follows `head`.
fn step(db: &Connection, row: &Row<'_>, head: &CallsAnchor) -> Result<Result<(Digest, u64), Broken>, RegistryError> {
    let batch: u64 = row.get(0)?;
    if batch != head.batch + 1 {
        return Ok(Err((head.batch + 1, "it is missing".to_string())));
    }
    let texts: [String; 3] = [row.get(2)?, row.get(3)?, row.get(4)?];
    let why: Option<String> = row.get(6)?;
    let columns = BatchRow {
        batch,
        at: row.get(1)?,
        connection: &texts[0],
        namespace: &texts[1],
        family: &texts[2],
        begun_at: row.get(5)?,
        why: why.as_deref(),
        policy: row.get::<_, Option<[u8; 32]>>(7)?.map(Digest),
        attempt: row.get(8)?,
        cut: row.get(9)?,
    };
    let mut hash = BatchHash::new(&head.hash, &columns);
    let sql =
        "SELECT c.call, c.at, c.status, c.sent, c.bytes, c.ms, c.error, t.purpose, t.method, t.host, t.path, t.statement, t.rule
               FROM call_rows c LEFT JOIN call_targets t ON t.target = c.target WHERE c.batch = ?1 ORDER BY c.call";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([batch])?;
    let mut calls = 0;
    while let Some(row) = rows.next()? {
        calls += 1;
        if row.get::<_, u64>(0)? != calls {
            return Ok(Err((batch, format!("call {calls} of it is missing"))));
        }
        let Some(purpose) = row.get::<_, Option<String>>(7)?.as_deref().and_then(CallPurpose::parse) else {
            return Ok(Err((batch, format!("the host and path of call {calls} are missing"))));
        };
        let [method, host, path, statement, rule] = [8, 9, 10, 11, 12].map(|column| row.get::<_, String>(column));
        let target = CallTarget { purpose, method: method?, host: host?, path: path?, statement: statement?, rule: rule? };
        let error: String = row.get(6)?;
        hash.call(&CallRow {
            target: &target,
            at: row.get(1)?,
            status: row.get(2)?,
            sent: row.get(3)?,
            bytes: row.get(4)?,
            ms: row.get(5)?,
            error: &error,
        });
    }
    let (hash, stored) = (hash.finish(), Digest(row.get(10)?));
    Ok(match hash == stored && calls == row.get::<_, u64>(11)? {
        true => Ok((hash, calls)),
        false => Err((batch, "its content does not match its hash: it was changed after it was written".to_string())),
    })
}
