//! Reads the chains of a registry in PostgreSQL for bundles of evidence.
//!
//! In each chain, time never goes back, so the rows of a period follow each other. A bundle also has the row before them, which
//! shows that no row was left out at the beginning, and the rows after them up to the next anchor, which shows the same for the end:
//! a writer that appends an anchor has locked all chains, so an anchor names all rows that were appended before it, and none of them is
//! younger than the anchor.

use super::super::call_heads::{self, ONE_CHAIN};
use super::super::chain::GENESIS;
use super::super::lease::PARTITIONS;
use super::super::{LedgerHead, Reader, RegistryError};
use super::{CallBatch, LedgerLine, batch, hash_of_batch};
use crate::model::ledger::{CallChainEnd, Fact};
use crate::model::{ConnectionId, Digest, Timestamp};
use sqlstore::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// The chain of the ledger in PostgreSQL that a row belongs to: that of its connection, or the first one. `None` if the id of the
/// connection is not valid.
#[must_use]
pub fn chain_of_row(connection: Option<&str>) -> Option<u32> {
    connection.map_or(Some(0), |id| ConnectionId::parse(id).ok().map(call_heads::chain_of))
}

/// Whether a batch of calls in PostgreSQL belongs to `chain`: that of its connection, or the one that was copied from a file.
#[must_use]
pub fn is_chain_of_batch(chain: u32, connection: &str) -> bool {
    chain == ONE_CHAIN || ConnectionId::parse(connection).is_ok_and(|id| call_heads::chain_of(id) == chain)
}

/// The last batch of each chain that the facts of an entry name.
#[must_use]
pub fn named_ends(fact: Fact) -> Vec<CallChainEnd> {
    match fact {
        Fact::CallsRecorded { calls, chains } | Fact::CallsDropped { calls, chains, .. } => {
            call_heads::ends_of_fact(calls, chains).into_values().collect()
        }
        _ => Vec::new(),
    }
}

/// The rows of the chains that a bundle has.
struct Bounds {
    /// The first place of each chain.
    first: Vec<u64>,
    /// The last place of each chain.
    last: Vec<u64>,
    /// The smallest and the largest number of a row that can be among them.
    seqs: (u64, u64),
}

impl Reader {
    /// Whether the registry has several chains, because it is a database of PostgreSQL.
    #[must_use]
    pub fn has_chains(&self) -> bool {
        self.location().postgres().is_some()
    }

    /// Passes rows of all chains to `take`, by their numbers, until it returns false: the last one before `since`, those from
    /// `since` until before `until`, and those up to the next anchor, or to the end of the ledger if it does not have such an
    /// anchor. Returns the last row of the first chain, which is the head that AAM writes, and its time. All of this is read in
    /// one transaction.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn chained_lines(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut take: impl FnMut(LedgerLine) -> bool,
    ) -> Result<(LedgerHead, Option<Timestamp>), RegistryError> {
        self.with_long(None, |db| {
            let transaction = db.read_transaction()?;
            let bounds = bounds(&transaction, since, until)?;
            let sql = format!(
                "SELECT seq, at, kind, namespace, connection, facts, body, prev, hash, chain, place FROM ledger
                 WHERE seq BETWEEN ?1 AND ?2 AND place BETWEEN ({})[CAST(chain + 1 AS INTEGER)] AND ({})[CAST(chain + 1 AS INTEGER)] ORDER BY seq",
                array(&bounds.first),
                array(&bounds.last)
            );
            let mut statement = transaction.prepare(&sql)?;
            let mut rows = statement.query([bounds.seqs.0, bounds.seqs.1])?;
            while let Some(row) = rows.next()? {
                if !take(chained_line(row)?) {
                    break;
                }
            }
            drop(rows);
            let sql = "SELECT seq, hash, at FROM ledger WHERE chain = 0 ORDER BY place DESC LIMIT 1";
            let read = |row: &Row<'_>| {
                Ok((LedgerHead { seq: row.get(0)?, hash: Digest(row.get(1)?) }, Some(Timestamp(row.get(2)?))))
            };
            let head = transaction.query_row(sql, [], read).optional()?;
            Ok(head.unwrap_or((LedgerHead { seq: 0, hash: GENESIS }, None)))
        })
    }

    /// Passes batches of calls of all chains to `take`, by their numbers, until it returns false: those that were recorded from
    /// `since` until before `until`, and of each chain the one before them, unless it was dropped.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn chained_batches(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut take: impl FnMut(CallBatch) -> bool,
    ) -> Result<(), RegistryError> {
        self.with_long(None, |db| {
            let transaction = db.read_transaction()?;
            let db = &*transaction;
            let dropped = call_heads::dropped(db)?;
            let first = first_batches(db, since, &dropped)?;
            let sql = format!(
                "SELECT batch, at, connection, namespace, family, begun_at, why, policy, attempt, cut, hash, calls, chain, place
                 FROM call_batches WHERE at < ?1 AND place >= ({})[CAST(chain + 1 AS INTEGER)] ORDER BY batch",
                array(&first)
            );
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query([until.0])?;
            let mut last: BTreeMap<u32, Digest> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (chain, place): (u32, u64) = (row.get(12)?, row.get(13)?);
                let dropped = dropped.get(&chain).filter(|dropped| dropped.place + 1 == place);
                let before = match (last.get(&chain), dropped) {
                    (Some(last), _) => *last,
                    (None, Some(dropped)) => dropped.hash,
                    (None, None) => hash_of_batch(db, chain, place.saturating_sub(1))?,
                };
                let batch = CallBatch { chain: Some(chain), place: Some(place), ..batch(db, row, before)? };
                last.insert(chain, batch.hash);
                if !take(batch) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The last entry of a registry in PostgreSQL that dropped calls: its number, and what it dropped.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn last_calls_dropped(&self) -> Result<Option<(u64, Fact)>, RegistryError> {
        self.with(|db| call_heads::last_fact(db, "calls_dropped"))
    }
}

fn chained_line(row: &Row<'_>) -> Result<LedgerLine, RegistryError> {
    Ok(LedgerLine {
        seq: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        namespace: row.get(3)?,
        connection: row.get(4)?,
        facts: row.get(5)?,
        body: row.get(6)?,
        prev: Digest(row.get(7)?),
        hash: Digest(row.get(8)?),
        chain: Some(row.get(9)?),
        place: Some(row.get(10)?),
    })
}

/// Finds the rows of each chain that belong to a bundle of the period.
fn bounds(db: &Connection, since: Timestamp, until: Timestamp) -> Result<Bounds, RegistryError> {
    let mut bounds = Bounds { first: vec![1; PARTITIONS], last: vec![i64::MAX.cast_unsigned(); PARTITIONS], seqs: (u64::MAX, 0) };
    let sql = "SELECT place, seq FROM ledger WHERE chain = ?1
               AND place = coalesce((SELECT max(place) FROM ledger WHERE chain = ?1 AND at < ?2), 1)";
    let mut statement = db.prepare(sql)?;
    for (chain, first) in bounds.first.iter_mut().enumerate() {
        let found = statement.query_row(params![chain, since.0], |row| Ok((row.get(0)?, row.get::<_, u64>(1)?))).optional()?;
        if let Some((place, seq)) = found {
            *first = place;
            bounds.seqs.0 = bounds.seqs.0.min(seq);
        }
    }
    bounds.seqs.0 = bounds.seqs.0.min(i64::MAX.cast_unsigned());
    bounds.seqs.1 = i64::MAX.cast_unsigned();
    let sql =
        "SELECT seq, place, facts FROM ledger WHERE kind = 'chains_anchored' AND chain = 0 AND at >= ?1 ORDER BY seq LIMIT 1";
    let read = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?));
    let Some((seq, place, facts)) = db.query_row(sql, [until.0], read).optional()? else { return Ok(bounds) };
    let Ok(Fact::ChainsAnchored { chains }) = Fact::read("chains_anchored", &facts) else {
        return Err(RegistryError::Row { seq, why: "it does not name the ends of the chains".to_string() });
    };
    bounds.seqs.1 = seq;
    bounds.last = vec![0; PARTITIONS];
    for (chain, last) in bounds.last.iter_mut().enumerate() {
        let named = chains.iter().find(|anchor| usize::try_from(anchor.chain) == Ok(chain));
        *last = if chain == 0 { place } else { named.map_or(0, |anchor| anchor.place) };
    }
    Ok(bounds)
}

/// The place of the first batch of each chain that belongs to a bundle: of those that exist, the last one before `since`, or the
/// first one.
fn first_batches(db: &Connection, since: Timestamp, dropped: &call_heads::ChainEnds) -> Result<Vec<u64>, RegistryError> {
    let sql = "SELECT max(place) FROM call_batches WHERE chain = ?1 AND at < ?2 AND place > ?3";
    let mut statement = db.prepare(sql)?;
    let mut first = Vec::new();
    for chain in 0..=ONE_CHAIN {
        let gone = dropped.get(&chain).map_or(0, |dropped| dropped.place);
        let before: Option<u64> = statement.query_row(params![chain, since.0, gone], |row| row.get(0))?;
        first.push(before.unwrap_or(gone + 1));
    }
    Ok(first)
}

/// The numbers as an array of SQL.
fn array(numbers: &[u64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    format!("CAST('{{{}}}' AS BIGINT[])", numbers.join(","))
}
