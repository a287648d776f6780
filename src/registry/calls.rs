//! How the writer records calls and drops old ones.

use super::RegistryError;
use super::call_chain::{BatchHash, BatchRow, CallRow};
use super::chain::GENESIS;
use super::writer::Writer;
use crate::model::ledger::Fact;
use crate::model::{CallAttempt, CallTarget, CallsAnchor, ConnectionId, Digest, NewCallBatch, RecordedCalls, Timestamp};
use sqlstore::{Connection, OptionalExtension, params};

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
#[derive(Clone, Copy, Debug)]
pub(super) struct CallsHead {
    pub batch: u64,
    pub hash: Digest,
    /// The last batch that an entry of the ledger names.
    pub anchored: u64,
}

/// What a batch belongs to.
pub(super) struct BatchContext<'a> {
    pub connection: ConnectionId,
    pub family: &'a str,
    pub attempt: Option<CallAttempt>,
    /// The entry that ends the attempt.
    pub seq: Option<u64>,
}

/// Reads the last batch. All batches before the oldest one that exists were dropped, and the ledger names the last of them.
pub(super) fn head(db: &Connection) -> Result<CallsHead, RegistryError> {
    let sql = "SELECT batch, hash FROM call_batches ORDER BY batch DESC LIMIT 1";
    let last = db.query_row(sql, [], |row| Ok((row.get::<_, u64>(0)?, Digest(row.get(1)?)))).optional()?;
    let dropped = dropped(db)?;
    let last = match (last, dropped) {
        (Some((batch, _)), Some(dropped)) if dropped.batch > batch => (dropped.batch, dropped.hash),
        (Some(last), _) => last,
        (None, Some(dropped)) => (dropped.batch, dropped.hash),
        (None, None) => (0, GENESIS),
    };
    let recorded = "SELECT CAST(json_extract(facts, '$.calls.batch') AS BIGINT) FROM ledger WHERE kind = 'calls_recorded' ORDER BY seq DESC LIMIT 1";
    let recorded = db.query_row(recorded, [], |row| row.get::<_, u64>(0)).optional()?.unwrap_or_default();
    let recorded = recorded.max(dropped.map_or(0, |dropped| dropped.batch));
    let of_attempt = "SELECT batch FROM call_batches WHERE batch > ?1 AND attempt IS NOT NULL ORDER BY batch DESC LIMIT 1";
    let anchored = db.query_row(of_attempt, [recorded], |row| row.get(0)).optional()?.unwrap_or(recorded);
    Ok(CallsHead { batch: last.0, hash: last.1, anchored })
}

/// The last batch that was dropped.
pub(super) fn dropped(db: &Connection) -> Result<Option<CallsAnchor>, RegistryError> {
    let sql = "SELECT seq, facts FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1";
    let Some((seq, facts)) = db.query_row(sql, [], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))).optional()?
    else {
        return Ok(None);
    };
    match Fact::read("calls_dropped", &facts) {
        Ok(Fact::CallsDropped { calls, .. }) => Ok(Some(calls)),
        Ok(_) => Err(RegistryError::Row { seq, why: "it does not name a batch of calls".to_string() }),
        Err(error) => Err(RegistryError::Row { seq, why: error.to_string() }),
    }
}

/// The last batch that was dropped, or 0. Readers list only later batches: rows of earlier ones wait to be deleted, or were not
/// written by AAM.
pub(super) fn dropped_up_to(db: &Connection) -> Result<u64, RegistryError> {
    Ok(dropped(db)?.map_or(0, |dropped| dropped.batch))
}

/// The condition on a batch `b` and a call `c` that every reader of calls uses. Its parameter is [`dropped_up_to`]. Verification
/// refuses what it leaves out, except batches that wait to be deleted.
pub(super) const EXISTING: &str = "b.batch > ? AND c.call BETWEEN 1 AND b.calls";

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
        let (batch, at) = (self.calls_head.batch + 1, self.now());
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
        let mut hash = BatchHash::new(&self.calls_head.hash, &row);
        for (index, call) in calls.calls.iter().enumerate() {
            let target = self.target(&call.target, month(at))?;
            let (at, status, sent, error) = (call.at.0, call.status, call.sent, call.error.as_str());
            hash.call(&CallRow { target: &call.target, at, status, sent, bytes: call.bytes, ms: call.ms, error });
            self.db
                .prepare_cached(
                    "INSERT INTO call_rows (batch, call, target, at, status, sent, bytes, ms, error)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![batch, index + 1, target, at, status, sent, call.bytes, call.ms, error])?;
        }
        let hash = hash.finish();
        self.db
            .prepare_cached(
                "INSERT INTO call_batches (batch, at, connection, namespace, family, begun_at, why, policy, attempt, calls, cut, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                batch,
                row.at,
                row.connection,
                row.namespace,
                row.family,
                row.begun_at,
                row.why,
                row.policy.map(|policy| policy.0),
                row.attempt,
                calls.calls.len(),
                row.cut,
                hash.0
            ])?;
        self.calls_head = CallsHead { batch, hash, ..self.calls_head };
        Ok(Some(CallsAnchor { batch, hash }))
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
        let mut find = self.db.prepare_cached("SELECT target FROM call_targets WHERE digest = ?1")?;
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

    /// Names the last batch of calls in the ledger, unless an entry names it already, and returns the last entry.
    pub(super) fn anchor_calls(&mut self) -> Result<LedgerHead, RegistryError> {
        let CallsHead { batch, hash, anchored } = self.calls_head;
        if batch > anchored {
            self.append("", None, Fact::CallsRecorded { calls: CallsAnchor { batch, hash } }, None)?;
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

    /// Drops the batches that were recorded before the UTC day of `before`. Returns whether there are more to delete.
    pub(super) fn drop_calls(&mut self, before: Timestamp) -> Result<bool, RegistryError> {
        let before = Timestamp(before.day().saturating_mul(DAY_MS));
        let dropped = dropped(&self.db)?;
        let sql = "SELECT batch, hash FROM call_batches WHERE at < ?1 ORDER BY at DESC, batch DESC LIMIT 1";
        let last = self
            .db
            .prepare_cached(sql)?
            .query_row([before.0], |row| Ok((row.get::<_, u64>(0)?, Digest(row.get(1)?))))
            .optional()?;
        let up_to = match (last, dropped) {
            (Some((batch, hash)), dropped) if dropped.is_none_or(|dropped| dropped.batch < batch) => {
                self.append("", None, Fact::CallsDropped { calls: CallsAnchor { batch, hash }, before }, None)?;
                self.calls_head.anchored = self.calls_head.anchored.max(batch);
                batch
            }
            (_, Some(dropped)) => dropped.batch,
            (_, None) => return Ok(false),
        };
        let first: Option<u64> = self.db.query_row("SELECT min(batch) FROM call_batches", [], |row| row.get(0))?;
        let Some(first) = first.filter(|first| *first <= up_to) else {
            self.db.execute("DELETE FROM call_targets WHERE month < ?1", [month(before) - 1])?;
            return Ok(false);
        };
        let end = up_to.min(first.saturating_add(MAX_DELETED_BATCHES - 1));
        self.db.execute("DELETE FROM call_rows WHERE batch <= ?1", [end])?;
        self.db.execute("DELETE FROM call_batches WHERE batch <= ?1", [end])?;
        Ok(true)
    }
}
