//! Reads rows with their hashes, for bundles of evidence, and computes the hashes again.

mod chains;

pub use chains::{chain_of_row, is_chain_of_batch, named_ends};

use super::archive::{self, ArchivedSteps, CallArchives};
use super::call_chain::{BatchHash, BatchRow, CallRow};
use super::call_heads::{self, ONE_CHAIN};
use super::chain::{self, GENESIS, LedgerRow};
use super::{LedgerHead, Reader, RegistryError, calls};
use crate::model::{CallPurpose, CallTarget, Digest, RecordedCall, Timestamp};
use serde::{Deserialize, Serialize};
use sqlstore::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeMap, BTreeSet};

/// One row of the ledger as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerLine {
    pub seq: u64,
    /// Milliseconds since 1970 UTC.
    pub at: i64,
    pub kind: String,
    pub namespace: String,
    pub connection: Option<String>,
    /// JSON, exactly as it was hashed.
    pub facts: String,
    pub body: Option<String>,
    pub prev: Digest,
    pub hash: Digest,
    /// The chain of the row, in PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<u32>,
    /// Its number in this chain, counted from 1, in PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
}

/// One batch of calls as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallBatch {
    pub batch: u64,
    /// Milliseconds since 1970 UTC, like all times here.
    pub at: i64,
    pub connection: String,
    pub namespace: String,
    pub family: String,
    pub begun_at: Option<i64>,
    pub why: Option<String>,
    pub policy: Option<Digest>,
    pub attempt: Option<u64>,
    pub cut: u64,
    pub prev: Digest,
    pub hash: Digest,
    pub calls: Vec<RecordedCall>,
    /// The chain of the batch, in PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<u32>,
    /// Its number in this chain, counted from 1, in PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
}

impl LedgerLine {
    /// Computes the hash of the row after one with the hash `prev`.
    #[must_use]
    pub fn computed_hash(&self, prev: &Digest) -> Digest {
        let row = LedgerRow {
            seq: self.seq,
            at: self.at,
            kind: &self.kind,
            namespace: &self.namespace,
            connection: self.connection.as_deref(),
            facts: &self.facts,
            body: self.body.as_deref(),
        };
        chain::hash(prev, &row)
    }
}

impl CallBatch {
    /// Computes the hash of the batch after one with the hash `prev`.
    #[must_use]
    pub fn computed_hash(&self, prev: &Digest) -> Digest {
        let row = BatchRow {
            batch: self.batch,
            at: self.at,
            connection: &self.connection,
            namespace: &self.namespace,
            family: &self.family,
            begun_at: self.begun_at,
            why: self.why.as_deref(),
            policy: self.policy,
            attempt: self.attempt,
            cut: self.cut,
        };
        let mut hash = BatchHash::new(prev, &row);
        for call in &self.calls {
            hash.call(&CallRow {
                target: &call.target,
                at: call.at.0,
                status: call.status,
                sent: call.sent,
                bytes: call.bytes,
                ms: call.ms,
                error: &call.error,
            });
        }
        hash.finish()
    }
}

impl Reader {
    /// The last entry of the ledger. In PostgreSQL, rows have no order across chains; [`Reader::chained_lines`] returns the head
    /// that AAM writes.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn head(&self) -> Result<LedgerHead, RegistryError> {
        self.with(|db| {
            let sql = "SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1";
            let last = db.query_row(sql, [], |row| Ok(LedgerHead { seq: row.get(0)?, hash: Digest(row.get(1)?) })).optional()?;
            Ok(last.unwrap_or(LedgerHead { seq: 0, hash: GENESIS }))
        })
    }

    /// The hash of entry `seq`, if it exists.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn hash_of(&self, seq: u64) -> Result<Option<Digest>, RegistryError> {
        self.with(|db| {
            let found = db.query_row("SELECT hash FROM ledger WHERE seq = ?1", [seq], |row| row.get(0)).optional()?;
            Ok(found.map(Digest))
        })
    }

    /// The last batch of calls that was dropped because of its age, or 0.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn calls_dropped_up_to(&self) -> Result<u64, RegistryError> {
        self.with(|db| Ok(call_heads::newest(&call_heads::dropped(db)?).map_or(0, |dropped| dropped.batch)))
    }

    /// Passes the rows that were appended from `since` until before `until` to `take`, in order, until it returns false. All rows
    /// are read in the order of the table, because an index could have been made to leave some out.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn ledger_lines(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut take: impl FnMut(LedgerLine) -> bool,
    ) -> Result<(), RegistryError> {
        self.with_long(None, |db| {
            let sql = format!(
                "SELECT seq, at, kind, namespace, connection, facts, {}, prev, hash FROM ledger NOT INDEXED
                 WHERE at >= ?1 AND at < ?2 ORDER BY seq",
                archive::body_sql(db)
            );
            let mut archived = ArchivedSteps::new(db, self.location())?;
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query([since.0, until.0])?;
            while let Some(row) = rows.next()? {
                let mut line = LedgerLine {
                    seq: row.get(0)?,
                    at: row.get(1)?,
                    kind: row.get(2)?,
                    namespace: row.get(3)?,
                    connection: row.get(4)?,
                    facts: row.get(5)?,
                    body: row.get(6)?,
                    prev: Digest(row.get(7)?),
                    hash: Digest(row.get(8)?),
                    chain: None,
                    place: None,
                };
                if line.body.is_none() && line.kind == "attempt_finished" {
                    line.body = archived.body(line.seq)?;
                }
                if !take(line) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Passes the batches of calls that were recorded from `since` until before `until` to `take`, in order, until it returns
    /// false. As in [`Reader::ledger_lines`], no index is used.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn call_batches(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut take: impl FnMut(CallBatch) -> bool,
    ) -> Result<(), RegistryError> {
        self.with_long(None, |db| {
            let archives = CallArchives::new(db, self.location(), BTreeSet::new())?;
            for archived in archives.files.iter().filter(|archived| archived.before > since) {
                let mut is_over = false;
                let is_in_period = |batch: &CallBatch| batch.at >= since.0 && batch.at < until.0;
                archives.batches(archived, |batch| {
                    is_over = is_in_period(&batch) && !take(batch);
                    !is_over
                })?;
                if is_over {
                    return Ok(());
                }
            }
            let mut dropped = call_heads::dropped(db)?;
            if !db.is_postgres() {
                dropped.insert(ONE_CHAIN, calls::gone(db)?);
            }
            let place = if db.is_postgres() { "chain, place" } else { "64, batch" };
            let sql = format!(
                "SELECT batch, at, connection, namespace, family, begun_at, why, policy, attempt, cut, hash, calls, {place}
                 FROM call_batches NOT INDEXED WHERE at >= ?1 AND at < ?2 AND batch > ?3 ORDER BY batch"
            );
            let mut statement = db.prepare(&sql)?;
            // AAM numbers batches from 1.
            let first = dropped.get(&ONE_CHAIN).filter(|_| !db.is_postgres()).map_or(0, |dropped| dropped.batch);
            let mut rows = statement.query(params![since.0, until.0, first])?;
            let mut last: BTreeMap<u32, Digest> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (chain, place): (u32, u64) = (row.get(12)?, row.get(13)?);
                let dropped = dropped.get(&chain);
                if dropped.is_some_and(|dropped| place <= dropped.place) {
                    continue;
                }
                let before = match (last.get(&chain), dropped) {
                    (Some(last), _) => *last,
                    (None, Some(dropped)) if dropped.place + 1 == place => dropped.hash,
                    (None, _) => hash_of_batch(db, chain, place.saturating_sub(1))?,
                };
                let batch = batch(db, row, before)?;
                last.insert(chain, batch.hash);
                if !take(batch) {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// The hash of the batch at a place, or that before the first batch.
fn hash_of_batch(db: &Connection, chain: u32, place: u64) -> Result<Digest, RegistryError> {
    let sql = match db.is_postgres() {
        true => "SELECT hash FROM call_batches WHERE place = ?1 AND chain = ?2",
        false => "SELECT hash FROM call_batches WHERE batch = ?1 AND ?2 = ?2",
    };
    let found = db.query_row(sql, params![place, chain], |row| row.get(0)).optional()?;
    Ok(found.map_or(GENESIS, Digest))
}

pub(super) fn batch(db: &Connection, row: &Row<'_>, prev: Digest) -> Result<CallBatch, RegistryError> {
    let number: u64 = row.get(0)?;
    let sql = "SELECT c.at, c.status, c.sent, c.bytes, c.ms, c.error, t.purpose, t.method, t.host, t.path, t.statement, t.rule
               FROM call_rows c JOIN call_targets t ON t.target = c.target
               WHERE c.batch = ?1 AND c.call BETWEEN 1 AND ?2 ORDER BY c.call";
    let mut statement = db.prepare_cached(sql)?;
    let calls = statement.query_map([number, row.get(11)?], |row| {
        let purpose: String = row.get(6)?;
        Ok(RecordedCall {
            at: Timestamp(row.get(0)?),
            target: CallTarget {
                purpose: CallPurpose::parse(&purpose).unwrap_or(CallPurpose::Source),
                method: row.get(7)?,
                host: row.get(8)?,
                path: row.get(9)?,
                statement: row.get(10)?,
                rule: row.get(11)?,
            },
            status: row.get(1)?,
            sent: row.get(2)?,
            bytes: row.get(3)?,
            ms: row.get(4)?,
            error: row.get(5)?,
        })
    })?;
    Ok(CallBatch {
        batch: number,
        at: row.get(1)?,
        connection: row.get(2)?,
        namespace: row.get(3)?,
        family: row.get(4)?,
        begun_at: row.get(5)?,
        why: row.get(6)?,
        policy: row.get::<_, Option<[u8; 32]>>(7)?.map(Digest),
        attempt: row.get(8)?,
        cut: row.get(9)?,
        prev,
        hash: Digest(row.get(10)?),
        calls: calls.collect::<Result<_, _>>()?,
        chain: None,
        place: None,
    })
}
