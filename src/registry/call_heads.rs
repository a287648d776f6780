//! The ends of the chains of recorded calls: one chain in an SQLite file, and 64 in PostgreSQL, by the connection, like the ledger.

use super::chain::GENESIS;
use super::{RegistryError, calls};
use crate::model::ledger::{CallChainEnd, Fact};
use crate::model::{CallsAnchor, ConnectionId, Digest};
use sqlstore::{Connection, OptionalExtension, Value};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The chain of a registry in a file. In PostgreSQL, the chain of the batches that were copied from a file, or recorded before
/// there were 64 chains. The place of a batch in it is its number.
pub(super) const ONE_CHAIN: u32 = 64;

/// The chains that a registry can have.
pub(super) fn chains(db: &Connection) -> RangeInclusive<u32> {
    if db.is_postgres() { 0..=ONE_CHAIN } else { ONE_CHAIN..=ONE_CHAIN }
}

/// The chain in PostgreSQL of the calls that were made for `connection`. It is that of its facts in the ledger.
pub(super) fn chain_of(connection: ConnectionId) -> u32 {
    u32::from(connection.0.as_bytes().first().copied().unwrap_or_default()) % ONE_CHAIN
}

/// The end of a chain without batches.
pub(super) fn genesis(chain: u32) -> CallChainEnd {
    CallChainEnd { chain, place: 0, batch: 0, hash: GENESIS }
}

/// The ends of chains, by chain.
pub(super) type ChainEnds = BTreeMap<u32, CallChainEnd>;

/// The ends of chains as a fact names them. Without a list, the fact is about [`ONE_CHAIN`].
pub(super) fn ends_of_fact(calls: CallsAnchor, chains: Vec<CallChainEnd>) -> ChainEnds {
    if chains.is_empty() {
        let CallsAnchor { batch, hash } = calls;
        return BTreeMap::from([(ONE_CHAIN, CallChainEnd { chain: ONE_CHAIN, place: batch, batch, hash })]);
    }
    chains.into_iter().map(|end| (end.chain, end)).collect()
}

/// The newest of several batches, which a fact names beside the list of all.
pub(super) fn newest(ends: &ChainEnds) -> Option<CallsAnchor> {
    let newest = ends.values().max_by_key(|end| end.batch)?;
    Some(CallsAnchor { batch: newest.batch, hash: newest.hash })
}

/// What the ledger says was dropped: the last batch of each chain.
pub(super) fn dropped(db: &Connection) -> Result<ChainEnds, RegistryError> {
    Ok(last_drop(db)?.map(|(ends, _)| ends).unwrap_or_default())
}

/// The last entry that dropped calls: the last batch of each chain, and the time before which all of them were recorded.
pub(super) fn last_drop(db: &Connection) -> Result<Option<(ChainEnds, i64)>, RegistryError> {
    match last_fact(db, "calls_dropped")? {
        None => Ok(None),
        Some((_, Fact::CallsDropped { calls, before, chains })) => Ok(Some((ends_of_fact(calls, chains), before.0))),
        Some((seq, _)) => Err(names_no_batch(seq)),
    }
}

/// The ends that the last entry `calls_recorded` names.
pub(super) fn recorded(db: &Connection) -> Result<ChainEnds, RegistryError> {
    match last_fact(db, "calls_recorded")? {
        None => Ok(ChainEnds::new()),
        Some((_, Fact::CallsRecorded { calls, chains })) => Ok(ends_of_fact(calls, chains)),
        Some((seq, _)) => Err(names_no_batch(seq)),
    }
}

fn names_no_batch(seq: u64) -> RegistryError {
    RegistryError::Row { seq, why: "it does not name a batch of calls".to_string() }
}

/// The number and the fact of the last entry of `kind`, which is one of the whole registry.
pub(super) fn last_fact(db: &Connection, kind: &'static str) -> Result<Option<(u64, Fact)>, RegistryError> {
    // The name of the kind is in the text, because the indexes are for one kind each.
    let sql = format!("SELECT seq, facts FROM ledger WHERE kind = '{kind}' ORDER BY seq DESC LIMIT 1");
    let found = db.query_row(&sql, [], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))).optional()?;
    let Some((seq, facts)) = found else { return Ok(None) };
    let fact = Fact::read(kind, &facts).map_err(|error| RegistryError::Row { seq, why: error.to_string() })?;
    Ok(Some((seq, fact)))
}

/// The last batch of `chain`, in PostgreSQL, with the time at which it was recorded.
pub(super) fn end(db: &Connection, chain: u32) -> Result<(CallChainEnd, i64), RegistryError> {
    let sql = "SELECT place, batch, hash, at FROM call_batches WHERE chain = ?1 ORDER BY place DESC LIMIT 1";
    let found = db.prepare_cached(sql)?.query_row([chain], |row| {
        let end = CallChainEnd { chain, place: row.get(0)?, batch: row.get(1)?, hash: Digest(row.get(2)?) };
        Ok((end, row.get(3)?))
    });
    match found.optional()? {
        Some(found) => Ok(found),
        // All its batches may be dropped.
        None => Ok((dropped(db)?.get(&chain).copied().unwrap_or_else(|| genesis(chain)), i64::MIN)),
    }
}

/// The ends of all chains that have batches, in PostgreSQL, and of each whether its last batch is that of an attempt, which the
/// ledger names.
pub(super) fn ends(db: &Connection) -> Result<Vec<(CallChainEnd, bool)>, RegistryError> {
    let sql = "SELECT s.chain, b.place, b.batch, b.hash, CAST(b.attempt IS NOT NULL AS INTEGER)
               FROM generate_series(0, 64) AS s (chain) CROSS JOIN LATERAL (
                 SELECT place, batch, hash, attempt FROM call_batches WHERE call_batches.chain = s.chain ORDER BY place DESC LIMIT 1
               ) AS b";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let end = CallChainEnd { chain: row.get(0)?, place: row.get(1)?, batch: row.get(2)?, hash: Digest(row.get(3)?) };
        Ok((end, row.get(4)?))
    })?;
    Ok(rows.collect::<sqlstore::Result<_>>()?)
}

/// The condition on a batch `b` and a call `c` that every reader of calls uses, with the value of its parameter. Readers list only
/// batches after the last one that was dropped or archived: rows of earlier ones wait to be deleted, or were not written by AAM. Verification
/// refuses what the condition leaves out, except batches that wait to be deleted.
pub(super) fn existing(db: &Connection) -> Result<(&'static str, Value), RegistryError> {
    if !db.is_postgres() {
        let gone = i64::try_from(calls::gone(db)?.batch).unwrap_or(i64::MAX);
        return Ok(("b.batch > ? AND c.call BETWEEN 1 AND b.calls", Value::Integer(gone)));
    }
    let ends = dropped(db)?;
    let place = |chain: u32| ends.get(&chain).map_or(0, |end| end.place);
    let places: Vec<String> = (0..=ONE_CHAIN).map(|chain| place(chain).to_string()).collect();
    let condition =
        "b.place > (CAST(CAST(? AS TEXT) AS BIGINT[]))[CAST(b.chain + 1 AS INTEGER)] AND c.call BETWEEN 1 AND b.calls";
    Ok((condition, Value::Text(format!("{{{}}}", places.join(",")))))
}
