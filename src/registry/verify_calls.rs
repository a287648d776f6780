//! Verifies the recorded calls: the chain of their batches, the entries of the ledger that name them, and that there are no
//! other rows in their tables.

use super::call_chain::{BatchHash, BatchRow, CallRow};
use super::chain::GENESIS;
use super::verify::MAX_DAMAGE;
use super::{RegistryError, calls};
use crate::model::ledger::Fact;
use crate::model::{CallPurpose, CallTarget, CallsAnchor, Digest, Timestamp};
use crate::policy::parse;
use serde::Deserialize;
use sqlstore::{Connection, OptionalExtension, Row, params_from_iter};

/// The schema version that first has recorded calls.
pub(super) const SINCE_SCHEMA_VERSION: usize = 8;

/// The least time for which a policy can keep calls, in milliseconds: `1d`.
const MIN_KEEP_MS: i64 = 86_400_000;
/// AAM reads a policy a moment before the ledger has it at its start, and may still use the one before when the ledger has the
/// next one. A policy counts as in force for this many milliseconds before and after.
const POLICY_TOLERANCE_MS: i64 = 600_000;
/// The batch of an attempt and the entry that ends it are written in one transaction, within this many milliseconds.
const TRANSACTION_TOLERANCE_MS: i64 = 3_600_000;

/// The columns that `step` reads.
const COLUMNS: &str = "batch, at, connection, namespace, family, begun_at, why, policy, attempt, cut, hash, calls";

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

/// What the entries of the ledger say about recorded calls, in the order of the ledger.
#[derive(Debug, Default)]
pub(super) struct CallEntries {
    named: Vec<NamedBatch>,
    dropped: Vec<DroppedBatches>,
    /// The number and the time of each entry `policy_accepted`.
    policies: Vec<(u64, i64)>,
    /// The last entry of the ledger.
    last: u64,
}

/// An entry that names the batch that was the last one when the entry was appended.
#[derive(Clone, Copy, Debug)]
struct NamedBatch {
    seq: u64,
    at: i64,
    calls: CallsAnchor,
    /// Whether the batch belongs to the attempt that the entry ends.
    ends_attempt: bool,
}

/// An entry that drops all batches up to one. All of them were recorded before `before`.
#[derive(Clone, Copy, Debug)]
struct DroppedBatches {
    seq: u64,
    at: i64,
    calls: CallsAnchor,
    before: i64,
}

/// A batch that does not match, and why.
type Broken = (u64, String);

impl CallEntries {
    /// Takes what entry `seq` says.
    ///
    /// # Errors
    /// Why the entry cannot be understood.
    pub(super) fn add(&mut self, seq: u64, at: i64, kind: &str, facts: &str) -> Result<(), String> {
        self.last = seq;
        match kind {
            "attempt_finished" | "calls_recorded" if facts.contains("\"calls\":") => {
                let calls = serde_json::from_str::<Anchored>(facts).ok().and_then(|anchored| anchored.calls);
                let ends_attempt = kind == "attempt_finished";
                self.named.extend(calls.map(|calls| NamedBatch { seq, at, calls, ends_attempt }));
            }
            "calls_dropped" => match Fact::read(kind, facts) {
                Ok(Fact::CallsDropped { calls, before }) => {
                    self.dropped.push(DroppedBatches { seq, at, calls, before: before.0 });
                }
                _ => return Err("it does not name a batch of calls".to_string()),
            },
            "policy_accepted" => self.policies.push((seq, at)),
            _ => {}
        }
        Ok(())
    }

    /// Notes the last entry of the ledger, if its last entries say nothing about calls.
    pub(super) fn ends_at(&mut self, seq: u64) {
        self.last = self.last.max(seq);
    }

    /// Whether entry `seq` ends an attempt and names this batch.
    fn ends_attempt(&self, seq: u64, batch: CallsAnchor) -> bool {
        let found = self.named.binary_search_by_key(&seq, |named| named.seq).ok().and_then(|index| self.named.get(index));
        found.is_some_and(|named| named.ends_attempt && named.calls == batch)
    }

    /// Returns the first entry that drops calls which were not old enough, or which the ledger does not know.
    fn wrong_drop(&self, db: &Connection) -> Result<Option<Broken>, RegistryError> {
        let mut named: Vec<&NamedBatch> = self.named.iter().collect();
        named.sort_by_key(|named| (named.calls.batch, named.seq));
        let (mut index, mut earlier, mut latest) = (0, 0, None::<&NamedBatch>);
        for dropped in &self.dropped {
            let DroppedBatches { seq, at, calls, before } = *dropped;
            let wrong =
                |why: String| Ok(Some((calls.batch, format!("row {seq} of the ledger drops it and all before it, but {why}"))));
            if calls.batch <= earlier {
                return wrong(format!("batch {earlier} was dropped before"));
            }
            earlier = calls.batch;
            let keep = self.keep_ms(db, dropped)?;
            if before > at.saturating_sub(keep) {
                let days = keep / MIN_KEEP_MS;
                return wrong(format!(
                    "the policy that was in force keeps calls for {days} d, and these were recorded up to {}",
                    Timestamp(before).rfc3339()
                ));
            }
            while let Some(next) = named.get(index).copied().filter(|named| named.calls.batch < calls.batch) {
                latest = Some(latest.filter(|latest| latest.at >= next.at).unwrap_or(next));
                index += 1;
            }
            // A batch that was recorded after an entry named an earlier one is younger than that entry.
            if let Some(latest) = latest.filter(|latest| latest.at >= before) {
                return wrong(format!("row {} shows that it is younger than {}", latest.seq, Timestamp(before).rfc3339()));
            }
            for same in named.iter().skip(index).take_while(|named| named.calls.batch == calls.batch) {
                if same.calls.hash != calls.hash {
                    return wrong(format!("row {} names it with another hash", same.seq));
                }
                if same.ends_attempt && same.at >= before.saturating_add(TRANSACTION_TOLERANCE_MS) {
                    return wrong(format!("row {} shows that it is younger than {}", same.seq, Timestamp(before).rfc3339()));
                }
            }
        }
        Ok(None)
    }

    /// Returns for how many milliseconds the policy kept calls when `dropped` was appended.
    fn keep_ms(&self, db: &Connection, dropped: &DroppedBatches) -> Result<i64, RegistryError> {
        let mut least: Option<i64> = None;
        for (index, (seq, at)) in self.policies.iter().enumerate() {
            let begun = *seq < dropped.seq || *at <= dropped.at.saturating_add(POLICY_TOLERANCE_MS);
            let ended = self
                .policies
                .get(index + 1)
                .is_some_and(|(next, next_at)| *next < dropped.seq && next_at.saturating_add(POLICY_TOLERANCE_MS) < dropped.at);
            if begun && !ended {
                let keep = keep_of_policy(db, *seq)?;
                least = Some(least.map_or(keep, |least| least.min(keep)));
            }
        }
        Ok(least.unwrap_or(MIN_KEEP_MS))
    }
}

/// Returns for how many milliseconds the policy of entry `seq` keeps calls, or the least that is allowed if this version of AAM
/// cannot parse it.
fn keep_of_policy(db: &Connection, seq: u64) -> Result<i64, RegistryError> {
    let body = db.query_row("SELECT body FROM ledger WHERE seq = ?1", [seq], |row| row.get::<_, Option<String>>(0)).optional()?;
    let policy = body.flatten().and_then(|text| parse::parse(&text, "the policy in the ledger").ok());
    let keep = policy.and_then(|policy| i64::try_from(policy.evidence.calls_age().as_millis()).ok());
    Ok(keep.unwrap_or(MIN_KEEP_MS))
}

/// Verifies all batches that were not dropped. Returns also what else is in the tables of calls that AAM did not write.
pub(super) fn verify(db: &Connection, entries: &CallEntries) -> Result<(CallsVerdict, Vec<String>), RegistryError> {
    let dropped = entries.dropped.last();
    let dropped_up_to = dropped.map_or(0, |dropped| dropped.calls.batch);
    let mut verdict = CallsVerdict { dropped_up_to, ..CallsVerdict::default() };
    verdict.broken = match entries.wrong_drop(db)? {
        None => existing_batches(db, entries, &mut verdict)?,
        wrong => wrong,
    };
    Ok((verdict, other_rows(db, dropped)?))
}

/// Verifies the batches that were not dropped and counts them in `verdict`. Returns the first one that does not match.
fn existing_batches(db: &Connection, entries: &CallEntries, verdict: &mut CallsVerdict) -> Result<Option<Broken>, RegistryError> {
    let genesis = CallsAnchor { batch: 0, hash: GENESIS };
    let mut head = entries.dropped.last().map_or(genesis, |dropped| dropped.calls);
    // An index may be wrong, so all batches are read in the order of the table itself.
    let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM call_batches NOT INDEXED WHERE batch > ?1 ORDER BY batch"))?;
    let mut rows = statement.query([head.batch])?;
    while let Some(row) = rows.next()? {
        let (hash, calls) = match step(db, row, &head)? {
            Ok(matched) => matched,
            Err(broken) => return Ok(Some(broken)),
        };
        head = CallsAnchor { batch: head.batch + 1, hash };
        if let Some(seq) = row.get::<_, Option<u64>>(8)?.filter(|seq| !entries.ends_attempt(*seq, head)) {
            let why = match seq > entries.last {
                true => format!(
                    "row {seq} of the ledger ends its attempt, but the ledger ends at row {}: its end was cut off",
                    entries.last
                ),
                false => format!("its attempt ends with row {seq} of the ledger, which does not name it"),
            };
            return Ok(Some((head.batch, why)));
        }
        verdict.batches += 1;
        verdict.calls += calls;
    }
    missing(db, entries.named.iter().filter(|named| named.calls.batch > verdict.dropped_up_to))
}

/// Returns the first named batch that does not exist or has another hash.
fn missing<'a>(db: &Connection, named: impl Iterator<Item = &'a NamedBatch>) -> Result<Option<Broken>, RegistryError> {
    let mut find = db.prepare("SELECT hash, attempt FROM call_batches WHERE batch = ?1")?;
    for NamedBatch { seq, calls, ends_attempt, .. } in named {
        let found = find.query_row([calls.batch], |row| Ok((Digest(row.get(0)?), row.get::<_, Option<u64>>(1)?))).optional()?;
        let what = match found {
            None => "is missing",
            Some((hash, _)) if hash != calls.hash => "has another hash",
            Some((_, attempt)) if *ends_attempt && attempt != Some(*seq) => "belongs to another attempt",
            Some(_) => continue,
        };
        return Ok(Some((calls.batch, format!("it {what}, but row {seq} of the ledger names it"))));
    }
    Ok(None)
}

/// Returns the rows in the tables of calls that are outside of the batches that exist, a bounded number of each kind.
fn other_rows(db: &Connection, dropped: Option<&DroppedBatches>) -> Result<Vec<String>, RegistryError> {
    let mut found = Vec::new();
    let mut list = |sql: &str, first_month: Option<i64>, message: &dyn Fn(i64) -> String| -> Result<(), RegistryError> {
        let mut statement = db.prepare(&format!("{sql} LIMIT {MAX_DAMAGE}"))?;
        let numbers = statement.query_map(params_from_iter(first_month), |row| row.get::<_, i64>(0))?;
        for number in numbers {
            found.push(message(number?));
        }
        Ok(())
    };
    list("SELECT batch FROM call_batches NOT INDEXED WHERE batch < 1", None, &|batch: i64| {
        format!("batch {batch} of the recorded calls was not written by AAM, which numbers them from 1")
    })?;
    list(
        "SELECT DISTINCT c.batch FROM call_rows AS c
         WHERE NOT EXISTS (SELECT 1 FROM call_batches AS b NOT INDEXED WHERE b.batch = c.batch)",
        None,
        &|batch: i64| format!("there are calls of batch {batch}, which does not exist"),
    )?;
    list(
        "SELECT DISTINCT c.batch FROM call_rows AS c CROSS JOIN call_batches AS b NOT INDEXED
         WHERE b.batch = c.batch AND c.call NOT BETWEEN 1 AND b.calls",
        None,
        &|batch: i64| format!("batch {batch} of the recorded calls has other calls than it counts"),
    )?;
    // What dropped calls had in common is deleted later than they are. Apart from that, every row belongs to a call.
    let first_month = dropped.map_or(i64::MIN, |dropped| calls::month(Timestamp(dropped.before)).saturating_add(1));
    list(
        "SELECT target FROM call_targets NOT INDEXED WHERE month >= ?1 EXCEPT SELECT target FROM call_rows",
        Some(first_month),
        &|target: i64| format!("row {target} of call_targets belongs to no call"),
    )?;
    if let Some(dropped) = dropped {
        found.extend(undeleted(db, dropped)?);
    }
    Ok(found)
}

/// Returns what is wrong with the batches that were dropped and not deleted yet. Batches are deleted from the first one on, so
/// those that are left end with the last one that was dropped. No command lists them.
fn undeleted(db: &Connection, dropped: &DroppedBatches) -> Result<Option<String>, RegistryError> {
    let sql = format!("SELECT {COLUMNS} FROM call_batches NOT INDEXED WHERE batch BETWEEN 1 AND ?1 ORDER BY batch");
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([dropped.calls.batch])?;
    let mut head: Option<CallsAnchor> = None;
    let wrong =
        |batch: u64| format!("batch {batch} of the recorded calls was dropped, and its row is not the one that AAM wrote");
    while let Some(row) = rows.next()? {
        let next = match head {
            // The hash before the first one is deleted, so it cannot be computed again.
            None => CallsAnchor { batch: row.get(0)?, hash: Digest(row.get(10)?) },
            Some(head) => match step(db, row, &head)? {
                Ok((hash, _)) => CallsAnchor { batch: head.batch + 1, hash },
                Err((batch, _)) => return Ok(Some(wrong(batch))),
            },
        };
        head = Some(next);
    }
    Ok(head.filter(|head| *head != dropped.calls).map(|head| wrong(head.batch)))
}

/// Returns the hash and the number of calls of the batch if it follows `head`.
fn step(db: &Connection, row: &Row<'_>, head: &CallsAnchor) -> Result<Result<(Digest, u64), Broken>, RegistryError> {
    match read_step(db, row, head) {
        Err(RegistryError::Value(_)) => {
            Ok(Err((head.batch + 1, "it has a value that AAM does not write: it was changed after it was written".to_string())))
        }
        other => other,
    }
}

fn read_step(db: &Connection, row: &Row<'_>, head: &CallsAnchor) -> Result<Result<(Digest, u64), Broken>, RegistryError> {
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
