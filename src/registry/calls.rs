//! How the writer records calls and drops old ones.

use super::RegistryError;
use super::archive::{self, ArchiveKind};
use super::call_chain::{BatchHash, BatchRow, CallRow};
use super::call_heads::{self, ChainEnds, ONE_CHAIN};
use super::writer::Writer;
use crate::model::ledger::{CallChainEnd, Fact};
use crate::model::{CallAttempt, CallTarget, CallsAnchor, ConnectionId, Digest, NewCallBatch, RecordedCalls, Timestamp};
use sqlstore::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// The number of batches that one transaction deletes.
const MAX_DELETED_BATCHES: u64 = 2000;
const DAY_MS: i64 = 86_400_000;

/// The last entry of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LedgerHead {
    pub seq: u64,
    pub hash: Digest,
}

/// The last batch of calls.
#[derive(Clone, Debug, Default)]
pub(super) struct CallsHead {
    /// The last batch in a file, which has one chain. Not used in PostgreSQL.
    file: CallChainEnd,
    /// The last batch in a file that an entry of the ledger names.
    pub(super) anchored: u64,
    /// In PostgreSQL, the last batches of the chains that the open transaction appends to, and when they were recorded. Between
    /// two transactions, other replicas may append to any chain.
    open: BTreeMap<u32, (CallChainEnd, i64)>,
}

impl CallsHead {
    /// Notes the batch that was appended to its chain.
    fn append(&mut self, end: CallChainEnd, at: Timestamp) {
        match end.chain {
            ONE_CHAIN => self.file = end,
            chain => drop(self.open.insert(chain, (end, at.0))),
        }
    }

    /// Forgets what only the transaction before could know. Called before each transaction.
    pub(super) fn forget_chains(&mut self) {
        self.open.clear();
    }
}

/// What a batch belongs to.
pub(super) struct BatchContext<'a> {
    pub connection: ConnectionId,
    pub family: &'a str,
    pub attempt: Option<CallAttempt>,
    /// The entry that ends the attempt.
    pub seq: Option<u64>,
}

/// Reads the last batch of a registry in a file. All batches before the oldest one that exists were dropped, and the ledger names
/// the last of them.
pub(super) fn head(db: &Connection) -> Result<CallsHead, RegistryError> {
    if db.is_postgres() {
        return Ok(CallsHead::default());
    }
    let sql = "SELECT batch, hash FROM call_batches ORDER BY batch DESC LIMIT 1";
    let last = db.query_row(sql, [], |row| Ok(file_end(row.get(0)?, Digest(row.get(1)?)))).optional()?;
    let gone = gone(db)?;
    let file = last.filter(|last| last.batch >= gone.batch).unwrap_or(gone);
    let recorded = call_heads::recorded(db)?.get(&ONE_CHAIN).map_or(0, |end| end.batch);
    let recorded = recorded.max(gone.batch);
    let of_attempt = "SELECT batch FROM call_batches WHERE batch > ?1 AND attempt IS NOT NULL ORDER BY batch DESC LIMIT 1";
    let anchored = db.query_row(of_attempt, [recorded], |row| row.get(0)).optional()?.unwrap_or(recorded);
    Ok(CallsHead { file, anchored, open: BTreeMap::new() })
}

/// The last batch of a registry in a file that is dropped or archived, so that its rows are deleted, or wait to be.
pub(super) fn gone(db: &Connection) -> Result<CallChainEnd, RegistryError> {
    let dropped = call_heads::dropped(db)?.remove(&ONE_CHAIN).unwrap_or_else(|| call_heads::genesis(ONE_CHAIN));
    let archived = archive::last(db, ArchiveKind::Calls)?.map(|archived| archive::end_of(&archived));
    Ok(archived.filter(|archived| archived.batch > dropped.batch).unwrap_or(dropped))
}

/// A batch of the one chain of a file.
fn file_end(batch: u64, hash: Digest) -> CallChainEnd {
    CallChainEnd { chain: ONE_CHAIN, place: batch, batch, hash }
}

/// The number of the month of `at`, counted from January 1970.
pub(super) fn month(at: Timestamp) -> i64 {
    // Months of 31 days are exact enough: a target is stored once more, or dropped a little later.
    at.0.div_euclid(31 * DAY_MS)
}

impl Writer {
    /// Records `calls` as the next batch. Returns `None` if there are none.
    pub(super) fn record_batch(
        &mut self,
        context: &BatchContext<'_>,
        calls: &RecordedCalls,
    ) -> Result<Option<CallsAnchor>, RegistryError> {
        if calls.is_empty() {
            return Ok(None);
        }
        let (next, prev, at) = self.next_batch(context.connection)?;
        let batch = next.batch;
        let (id, namespace) = (context.connection.to_string(), self.namespace_of(context.connection));
        let row = BatchRow {
            batch,
            at: at.0,
            connection: &id,
            namespace: &namespace,
            family: context.family,
            begun_at: context.attempt.map(|attempt| attempt.begun_at.0),
            why: context.attempt.map(|attempt| attempt.why),
            policy: context.attempt.map(|attempt| attempt.policy),
            attempt: context.seq,
            cut: calls.cut,
        };
        let mut hash = BatchHash::new(&prev, &row);
        for (index, call) in calls.calls.iter().enumerate() {
            let target = self.target(&call.target, month(at))?;
            let (at, status, sent, error) = (call.at.0, call.status, call.sent, call.error.as_str());
            hash.call(&CallRow { target: &call.target, at, status, sent, bytes: call.bytes, ms: call.ms, error });
            self.db
                .prepare_cached(
                    "INSERT INTO call_rows (batch, call, target, at, status, sent, bytes, ms, error)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute_later(params![batch, index + 1, target, at, status, sent, call.bytes, call.ms, error])?;
        }
        let end = CallChainEnd { hash: hash.finish(), ..next };
        self.insert_batch(&row, calls.calls.len(), end)?;
        self.calls_head.append(end, at);
        Ok(Some(CallsAnchor { batch, hash: end.hash }))
    }

    /// The next batch of the chain of `connection`, still without its hash, the hash before it, and its time.
    fn next_batch(&mut self, connection: ConnectionId) -> Result<(CallChainEnd, Digest, Timestamp), RegistryError> {
        let now = self.now();
        if !self.db.is_postgres() {
            let last = self.calls_head.file;
            return Ok((file_end(last.batch + 1, last.hash), last.hash, now));
        }
        let chain = call_heads::chain_of(connection);
        let (last, at) = match self.calls_head.open.get(&chain) {
            Some(known) => *known,
            None => call_heads::end(&self.db, chain)?,
        };
        let mut next = self.db.prepare_cached("SELECT nextval('call_batch_numbers')")?;
        let batch = next.query_row([], |row| row.get(0))?;
        // In a chain, time never goes back, so the batches that are old enough to be dropped are the first ones.
        Ok((CallChainEnd { chain, place: last.place + 1, batch, hash: last.hash }, last.hash, Timestamp(now.0.max(at))))
    }

    fn insert_batch(&self, row: &BatchRow<'_>, calls: usize, end: CallChainEnd) -> Result<(), RegistryError> {
        let policy = row.policy.map(|policy| policy.0);
        let values = params![
            row.batch,
            row.at,
            row.connection,
            row.namespace,
            row.family,
            row.begun_at,
            row.why,
            policy,
            row.attempt,
            calls,
            row.cut,
            end.hash.0,
            end.chain,
            end.place
        ];
        let columns = "batch, at, connection, namespace, family, begun_at, why, policy, attempt, calls, cut, hash";
        let marks = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12";
        if self.db.is_postgres() {
            let sql = format!("INSERT INTO call_batches ({columns}, chain, place) VALUES ({marks}, ?13, ?14)");
            return Ok(self.db.prepare_cached(&sql)?.execute_later(values)?);
        }
        let sql = format!("INSERT INTO call_batches ({columns}) VALUES ({marks})");
        Ok(self.db.prepare_cached(&sql)?.execute_later(values.get(..12).unwrap_or(values))?)
    }

    /// Returns the row of `target`, which is inserted if it is new in this month.
    fn target(&mut self, target: &CallTarget, month: i64) -> Result<i64, RegistryError> {
        let CallTarget { purpose, method, host, path, statement, rule } = target;
        let texts = [purpose.as_str(), method, host, path, statement, rule];
        let mut bytes = month.to_be_bytes().to_vec();
        for text in texts {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let digest = Digest::from_bytes(&bytes).0;
        let digest = digest.get(..16).unwrap_or_default();
        let mut find = self.db.prepare_cached("SELECT target FROM call_targets WHERE digest = ?1 LIMIT 1")?;
        if let Some(found) = find.query_row([digest], |row| row.get(0)).optional()? {
            return Ok(found);
        }
        let mut insert = self.db.prepare_cached(
            "INSERT INTO call_targets (digest, month, purpose, method, host, path, statement, rule)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING target",
        )?;
        let row = params![digest, month, texts[0], texts[1], texts[2], texts[3], texts[4], texts[5]];
        Ok(insert.query_row(row, |row| row.get(0))?)
    }

    /// Records calls that no attempt recorded.
    pub(super) fn record_calls(&mut self, batches: &[NewCallBatch]) -> Result<(), RegistryError> {
        for batch in batches {
            let context = BatchContext { connection: batch.connection, family: &batch.family, attempt: None, seq: None };
            self.record_batch(&context, &batch.calls)?;
        }
        Ok(())
    }

    /// Names the last batch of calls in the ledger, in PostgreSQL that of each chain, unless entries name them already, and returns
    /// the last entry.
    pub(super) fn anchor_calls(&mut self) -> Result<LedgerHead, RegistryError> {
        let CallsHead { file: CallChainEnd { batch, hash, .. }, anchored, .. } = self.calls_head;
        if self.db.is_postgres() {
            self.anchor_call_chains()?;
        } else if batch > anchored {
            self.append("", None, Fact::CallsRecorded { calls: CallsAnchor { batch, hash }, chains: Vec::new() }, None)?;
            self.calls_head.anchored = batch;
        }
        self.anchor_chains()?;
        // The last row of the first chain: in PostgreSQL, the anchor that names the ends of all others.
        let seq = match self.db.is_postgres() {
            true => {
                let sql = "SELECT seq FROM ledger WHERE chain = 0 ORDER BY place DESC LIMIT 1";
                self.db.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or_default()
            }
            false => self.head.seq,
        };
        Ok(LedgerHead { seq, hash: self.head.hash() })
    }

    /// Names the last batch of each chain in the ledger, unless entries name all of them already. Other replicas may append to the
    /// chains meanwhile, so what is named need not be the last one any more.
    fn anchor_call_chains(&mut self) -> Result<(), RegistryError> {
        let (ends, recorded) = (call_heads::ends(&self.db)?, call_heads::recorded(&self.db)?);
        let is_named = |(end, of_attempt): &(CallChainEnd, bool)| {
            *of_attempt || recorded.get(&end.chain).is_some_and(|recorded| recorded.batch >= end.batch)
        };
        let is_complete = ends.iter().all(is_named);
        let ends: ChainEnds = ends.into_iter().map(|(end, _)| (end.chain, end)).collect();
        match call_heads::newest(&ends).filter(|_| !is_complete) {
            Some(calls) => self.append("", None, Fact::CallsRecorded { calls, chains: ends.into_values().collect() }, None),
            None => Ok(()),
        }
    }

    /// Drops the batches that were recorded before the UTC day of `before`. Returns whether there are more to delete.
    pub(super) fn drop_calls(&mut self, before: Timestamp) -> Result<bool, RegistryError> {
        let before = Timestamp(before.day().saturating_mul(DAY_MS));
        let dropped = call_heads::last_drop(&self.db)?;
        let ends = match self.db.is_postgres() {
            true => self.drop_ends(dropped, before)?,
            false => self.drop_end(dropped.map(|(ends, _)| ends).unwrap_or_default(), before)?,
        };
        if ends.is_empty() {
            return Ok(false);
        }
        let mut left = MAX_DELETED_BATCHES;
        for (first, end) in self.undeleted(&ends)? {
            let last = end.place.min(first.saturating_add(left - 1));
            self.delete_batches(end.chain, last)?;
            left -= last - first + 1;
            if left == 0 {
                break;
            }
        }
        if left == MAX_DELETED_BATCHES {
            self.db.execute("DELETE FROM call_targets WHERE month < ?1", [month(before) - 1])?;
        }
        Ok(left < MAX_DELETED_BATCHES)
    }

    /// Records which batches of a file are dropped: those that were recorded before `before`.
    fn drop_end(&mut self, mut dropped: ChainEnds, before: Timestamp) -> Result<ChainEnds, RegistryError> {
        let sql = "SELECT batch, hash FROM call_batches WHERE at < ?1 ORDER BY at DESC, batch DESC LIMIT 1";
        let hot = self.db.prepare_cached(sql)?.query_row([before.0], |row| Ok(file_end(row.get(0)?, Digest(row.get(1)?))));
        let archived = archive::named(&self.db, ArchiveKind::Calls)?.into_iter().take_while(|archived| archived.before <= before);
        let archived = archived.last().map(|archived| archive::end_of(&archived));
        let last = hot.optional()?.into_iter().chain(archived).max_by_key(|end| end.batch);
        if let Some(end) = last.filter(|end| dropped.get(&ONE_CHAIN).is_none_or(|dropped| dropped.batch < end.batch)) {
            let calls = CallsAnchor { batch: end.batch, hash: end.hash };
            self.append("", None, Fact::CallsDropped { calls, before, chains: Vec::new() }, None)?;
            self.calls_head.anchored = self.calls_head.anchored.max(end.batch);
            dropped.insert(ONE_CHAIN, end);
        }
        Ok(dropped)
    }

    /// As [`Writer::drop_end`], for all chains in PostgreSQL. The fact names also the ends that were dropped before, so that readers
    /// need only the last one.
    fn drop_ends(&mut self, dropped: Option<(ChainEnds, i64)>, before: Timestamp) -> Result<ChainEnds, RegistryError> {
        let (mut ends, earlier) = dropped.unwrap_or((ChainEnds::new(), i64::MIN));
        // Batches that were recorded since then are younger.
        if before.0 <= earlier {
            return Ok(ends);
        }
        let sql =
            "SELECT DISTINCT ON (chain) chain, place, batch, hash FROM call_batches WHERE at < ?1 ORDER BY chain, place DESC";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([before.0], |row| {
            Ok(CallChainEnd { chain: row.get(0)?, place: row.get(1)?, batch: row.get(2)?, hash: Digest(row.get(3)?) })
        })?;
        let mut is_new = false;
        for end in rows {
            let end = end?;
            if ends.get(&end.chain).is_none_or(|dropped| dropped.place < end.place) {
                ends.insert(end.chain, end);
                is_new = true;
            }
        }
        drop(statement);
        if let Some(calls) = call_heads::newest(&ends).filter(|_| is_new) {
            self.append("", None, Fact::CallsDropped { calls, before, chains: ends.values().copied().collect() }, None)?;
        }
        Ok(ends)
    }

    /// The chains that still have batches up to those of `ends`, with the place of the first one.
    fn undeleted(&self, ends: &ChainEnds) -> Result<Vec<(u64, CallChainEnd)>, RegistryError> {
        let sql = match self.db.is_postgres() {
            true => "SELECT min(place) FROM call_batches WHERE chain = ?1",
            false => "SELECT min(batch) FROM call_batches WHERE ?1 = ?1",
        };
        let mut statement = self.db.prepare_cached(sql)?;
        let mut left = Vec::new();
        for end in ends.values() {
            let first: Option<u64> = statement.query_row([end.chain], |row| row.get(0))?;
            left.extend(first.filter(|first| *first <= end.place).map(|first| (first, *end)));
        }
        Ok(left)
    }

    /// Deletes the batches of `chain` up to place `last`.
    fn delete_batches(&self, chain: u32, last: u64) -> Result<(), RegistryError> {
        if !self.db.is_postgres() {
            self.db.execute("DELETE FROM call_rows WHERE batch <= ?1", [last])?;
            self.db.execute("DELETE FROM call_batches WHERE batch <= ?1", [last])?;
            return Ok(());
        }
        let batches = "FROM call_batches WHERE chain = ?1 AND place <= ?2";
        self.db.execute(&format!("DELETE FROM call_rows WHERE batch IN (SELECT batch {batches})"), params![chain, last])?;
        self.db.execute(&format!("DELETE {batches}"), params![chain, last])?;
        Ok(())
    }
}
