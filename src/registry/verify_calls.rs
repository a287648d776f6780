//! Verifies the recorded calls: the chain of their batches, the entries of the ledger that name them, and that there are no
//! other rows in their tables.

use super::archive::{self, CallArchives};
use super::call_chain::{BatchHash, BatchRow, CallRow};
use super::call_entries::{Broken, CallEntries, DroppedBatches, NamedBatch, NamedChain};
use super::call_heads::{self, ONE_CHAIN};
use super::verify::MAX_DAMAGE;
use super::{CallBatch, RegistryError, calls};
use crate::model::ledger::{Archived, CallChainEnd};
use crate::model::{CallPurpose, CallTarget, CallsAnchor, ConnectionId, Digest, Timestamp};
use sqlstore::{Connection, OptionalExtension, Row, params_from_iter};

/// The schema version that first has recorded calls.
pub(super) const SINCE_SCHEMA_VERSION: usize = 8;

/// The columns that `step` reads, except the place in the chain.
const COLUMNS: &str = "batch, at, connection, namespace, family, begun_at, why, policy, attempt, cut, hash, calls";

/// The result of verifying the recorded calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CallsVerdict {
    /// The number of batches up to the first mismatch.
    pub batches: u64,
    /// The number of calls in them.
    pub calls: u64,
    /// The newest batch that was dropped because of its age, as the ledger records; 0 if none was.
    pub dropped_up_to: u64,
    /// The first batch that does not match, and why.
    pub broken: Option<(u64, String)>,
}

/// Verifies all batches that were not dropped. Returns also what else is in the tables of calls that AAM did not write.
/// `archives` are the archive files of a registry in a file.
pub(super) fn verify(
    db: &Connection,
    entries: &CallEntries,
    archives: &CallArchives,
) -> Result<(CallsVerdict, Vec<String>), RegistryError> {
    let dropped = entries.dropped.last();
    let dropped_up_to = dropped.and_then(|dropped| call_heads::newest(&dropped.ends)).map_or(0, |newest| newest.batch);
    let mut verdict = CallsVerdict { dropped_up_to, ..CallsVerdict::default() };
    let chains = entries.by_chain(call_heads::chains(db), old_end(db, dropped)?);
    for chain in &chains {
        verdict.broken = match entries.wrong_drop(db, chain)? {
            None => existing_batches(db, entries, (chain, archives), &mut verdict)?,
            wrong => wrong,
        };
        if verdict.broken.is_some() {
            break;
        }
    }
    // What dropped or archived calls had in common is deleted later than they are.
    let before = dropped.map(|dropped| dropped.before).max(archives.files.last().map(|archived| archived.before.0));
    let mut other_rows = other_rows(db, before)?;
    for chain in &chains {
        other_rows.extend(undeleted(db, &gone(chain, archives))?);
    }
    Ok((verdict, other_rows))
}

/// The last batch of `chain` that is dropped or archived, so that its rows are deleted, or wait to be.
fn gone(chain: &NamedChain<'_>, archives: &CallArchives) -> CallChainEnd {
    match archives.files.last().map(archive::end_of) {
        Some(end) if end.batch > chain.dropped.batch => end,
        _ => chain.dropped,
    }
}

/// The number of the last batch of chain 64. In a file, all batches are in that chain.
fn old_end(db: &Connection, dropped: Option<&DroppedBatches>) -> Result<u64, RegistryError> {
    if !db.is_postgres() {
        return Ok(u64::MAX);
    }
    let sql = "SELECT coalesce(max(batch), 0) FROM call_batches WHERE chain = 64";
    let last: i64 = db.query_row(sql, [], |row| row.get(0))?;
    let dropped = dropped.and_then(|dropped| dropped.ends.get(&ONE_CHAIN)).map_or(0, |dropped| dropped.batch);
    Ok(u64::try_from(last).unwrap_or_default().max(dropped))
}

/// Selects the batches of `chain` whose place meets `condition`, in order.
fn batches(db: &Connection, chain: u32, condition: &str) -> String {
    match db.is_postgres() {
        true => {
            format!("SELECT {COLUMNS}, place FROM call_batches WHERE chain = {chain} AND place {condition} ORDER BY place")
        }
        // An index may be wrong, so all batches are read in the order of the table itself.
        false => format!("SELECT {COLUMNS}, batch FROM call_batches NOT INDEXED WHERE batch {condition} ORDER BY batch"),
    }
}

/// Verifies the batches of `chain` that were not dropped, first those in archive files, and counts them in `verdict`. Returns the first one that does not match.
fn existing_batches(
    db: &Connection,
    entries: &CallEntries,
    (chain, archives): (&NamedChain<'_>, &CallArchives),
    verdict: &mut CallsVerdict,
) -> Result<Option<Broken>, RegistryError> {
    let mut head = chain.dropped;
    let mut named: Vec<&NamedBatch> = chain.named.iter().copied().filter(|named| named.calls.batch > head.batch).collect();
    named.sort_by_key(|named| std::cmp::Reverse(named.calls.batch));
    for archived in &archives.files {
        head = match archived_batches(entries, (archives, archived), head, &mut named, verdict)? {
            Ok(end) => end,
            Err(broken) => return Ok(Some(broken)),
        };
    }
    let mut statement = db.prepare(&batches(db, chain.chain, "> ?1"))?;
    let mut rows = statement.query([head.place])?;
    while let Some(row) = rows.next()? {
        let (next, calls) = match step(db, row, &head)? {
            Ok(matched) => matched,
            Err(broken) => return Ok(Some(broken)),
        };
        head = next;
        if let Some(broken) = other_attempt(entries, row.get(8)?, &head) {
            return Ok(Some(broken));
        }
        verdict.batches += 1;
        verdict.calls += calls;
    }
    missing(db, chain, gone(chain, archives).batch)
}

/// Says why the batch cannot be that of the attempt which entry `attempt` ends.
fn other_attempt(entries: &CallEntries, attempt: Option<u64>, head: &CallChainEnd) -> Option<Broken> {
    let anchor = CallsAnchor { batch: head.batch, hash: head.hash };
    let seq = attempt.filter(|seq| !entries.ends_attempt(*seq, anchor))?;
    let why = match seq > entries.last {
        true => {
            format!("row {seq} of the ledger ends its attempt, but the ledger ends at row {}: its end was cut off", entries.last)
        }
        false => format!("its attempt ends with row {seq} of the ledger, which does not name it"),
    };
    Some((head.batch, why))
}

/// Verifies the batches of an archive file after `head`. `named` are the batches that entries name, the last one first; those of
/// the file are removed. What is in a damaged file is passed over, because the file is reported on its own.
fn archived_batches(
    entries: &CallEntries,
    (archives, archived): (&CallArchives, &Archived),
    mut head: CallChainEnd,
    named: &mut Vec<&NamedBatch>,
    verdict: &mut CallsVerdict,
) -> Result<Result<CallChainEnd, Broken>, RegistryError> {
    let end = archive::end_of(archived);
    let mut broken = None;
    let mut check = |batch: CallBatch| {
        if batch.batch <= head.batch {
            return true;
        }
        let hash = batch.computed_hash(&head.hash);
        if batch.batch != head.batch + 1 || hash != batch.hash {
            broken = Some((head.batch + 1, format!("the archive file {} has another batch in its place", archived.file)));
            return false;
        }
        head = CallChainEnd { place: batch.batch, batch: batch.batch, hash, ..head };
        broken = other_attempt(entries, batch.attempt, &head);
        while let Some(one) = named.pop_if(|one| one.calls.batch == head.batch) {
            let what = match (one.calls.hash == hash, one.ends_attempt && batch.attempt != Some(one.seq)) {
                (false, _) => "has another hash",
                (true, true) => "belongs to another attempt",
                (true, false) => continue,
            };
            broken = Some((head.batch, format!("it {what}, but row {} of the ledger names it", one.seq)));
        }
        verdict.batches += 1;
        verdict.calls += batch.calls.len() as u64;
        broken.is_none()
    };
    let is_bad = archives.bad.contains(&archived.file);
    if !is_bad {
        archives.batches(archived, &mut check)?;
    }
    if let Some(broken) = broken {
        return Ok(Err(broken));
    }
    if !is_bad && head != end {
        let why = format!("the archive file {} ends with batch {}", archived.file, head.batch);
        return Ok(Err((archived.last, why)));
    }
    named.retain(|one| one.calls.batch > end.batch);
    Ok(Ok(end))
}

/// Returns the first named batch of `chain` after batch `gone` that does not exist, has another hash or is in another chain.
fn missing(db: &Connection, chain: &NamedChain<'_>, gone: u64) -> Result<Option<Broken>, RegistryError> {
    let sql = match db.is_postgres() {
        true => "SELECT hash, attempt, chain FROM call_batches WHERE batch = ?1",
        false => "SELECT hash, attempt, 64 FROM call_batches WHERE batch = ?1",
    };
    let mut find = db.prepare(sql)?;
    for NamedBatch { seq, calls, ends_attempt, .. } in &chain.named {
        if calls.batch <= gone {
            continue;
        }
        let found =
            find.query_row([calls.batch], |row| Ok((Digest(row.get(0)?), row.get::<_, Option<u64>>(1)?, row.get::<_, u32>(2)?)));
        let what = match found.optional()? {
            None => "is missing",
            Some((hash, _, _)) if hash != calls.hash => "has another hash",
            Some((_, attempt, _)) if *ends_attempt && attempt != Some(*seq) => "belongs to another attempt",
            Some((_, _, found)) if found != chain.chain => "is in another chain",
            Some(_) => continue,
        };
        return Ok(Some((calls.batch, format!("it {what}, but row {seq} of the ledger names it"))));
    }
    Ok(None)
}

/// Returns the rows in the tables of calls that are outside of the batches that exist, a bounded number of each kind.
fn other_rows(db: &Connection, before: Option<i64>) -> Result<Vec<String>, RegistryError> {
    let mut found = Vec::new();
    let mut list = |sql: &str, first_month: Option<i64>, message: &dyn Fn(i64) -> String| -> Result<(), RegistryError> {
        let mut statement = db.prepare(&format!("{sql} LIMIT {MAX_DAMAGE}"))?;
        let numbers = statement.query_map(params_from_iter(first_month), |row| row.get::<_, i64>(0))?;
        for number in numbers {
            found.push(message(number?));
        }
        Ok(())
    };
    let unnumbered = match db.is_postgres() {
        true => "SELECT batch FROM call_batches WHERE batch < 1 OR place < 1 OR chain NOT BETWEEN 0 AND 64",
        false => "SELECT batch FROM call_batches NOT INDEXED WHERE batch < 1",
    };
    list(unnumbered, None, &|batch: i64| {
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
    // Apart from what was recorded before `before`, every row belongs to a call.
    let first_month = before.map_or(i64::MIN, |before| calls::month(Timestamp(before)).saturating_add(1));
    list(
        "SELECT target FROM call_targets NOT INDEXED WHERE month >= ?1 EXCEPT SELECT target FROM call_rows",
        Some(first_month),
        &|target: i64| format!("row {target} of call_targets belongs to no call"),
    )?;
    Ok(found)
}

/// Returns what is wrong with the batches that were dropped and not deleted yet, up to `dropped`. Batches are deleted from the
/// first one on, so those that are left end with the last one that was dropped. No command lists them.
fn undeleted(db: &Connection, dropped: &CallChainEnd) -> Result<Option<String>, RegistryError> {
    if dropped.place == 0 {
        return Ok(None);
    }
    let mut statement = db.prepare(&batches(db, dropped.chain, "BETWEEN 1 AND ?1"))?;
    let mut rows = statement.query([dropped.place])?;
    let mut head: Option<CallChainEnd> = None;
    let wrong =
        |batch: u64| format!("batch {batch} of the recorded calls was dropped, and its row is not the one that AAM wrote");
    while let Some(row) = rows.next()? {
        let next = match head {
            // The hash before the first one is deleted, so it cannot be computed again.
            None => CallChainEnd { chain: dropped.chain, place: row.get(12)?, batch: row.get(0)?, hash: Digest(row.get(10)?) },
            Some(head) => match step(db, row, &head)? {
                Ok((next, _)) => next,
                Err((batch, _)) => return Ok(Some(wrong(batch))),
            },
        };
        head = Some(next);
    }
    Ok(head.filter(|head| head != dropped).map(|head| wrong(head.batch)))
}

/// A batch that follows the one before it, and the number of its calls, or why it does not.
type Step = Result<(CallChainEnd, u64), Broken>;

/// Checks that the batch follows `head`.
fn step(db: &Connection, row: &Row<'_>, head: &CallChainEnd) -> Result<Step, RegistryError> {
    match read_step(db, row, head) {
        Err(RegistryError::Value(_)) => {
            Ok(Err((head.batch + 1, "it has a value that AAM does not write: it was changed after it was written".to_string())))
        }
        other => other,
    }
}

/// Checks that batch `batch` is the next one after `head` by its numbers.
fn follows(head: &CallChainEnd, (batch, place): (u64, u64), connection: &str) -> Result<(), Broken> {
    let chain = head.chain;
    if chain == ONE_CHAIN {
        return if batch == head.batch + 1 { Ok(()) } else { Err((head.batch + 1, "it is missing".to_string())) };
    }
    if place != head.place + 1 {
        return Err((batch, format!("the batch before it, number {} of chain {chain}, is missing", head.place + 1)));
    }
    if batch <= head.batch {
        return Err((batch, format!("it stands after batch {} in chain {chain}", head.batch)));
    }
    match ConnectionId::parse(connection).map(call_heads::chain_of) {
        Ok(expected) if expected == chain => Ok(()),
        _ => Err((batch, format!("it is in chain {chain}, which is not that of its connection"))),
    }
}

fn read_step(db: &Connection, row: &Row<'_>, head: &CallChainEnd) -> Result<Step, RegistryError> {
    let (batch, place): (u64, u64) = (row.get(0)?, row.get(12)?);
    let connection: String = row.get(2)?;
    if let Err(broken) = follows(head, (batch, place), &connection) {
        return Ok(Err(broken));
    }
    let texts: [String; 2] = [row.get(3)?, row.get(4)?];
    let why: Option<String> = row.get(6)?;
    let columns = BatchRow {
        batch,
        at: row.get(1)?,
        connection: &connection,
        namespace: &texts[0],
        family: &texts[1],
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
        true => Ok((CallChainEnd { chain: head.chain, place, batch, hash }, calls)),
        false => Err((batch, "its content does not match its hash: it was changed after it was written".to_string())),
    })
}
