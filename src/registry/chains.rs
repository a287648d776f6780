//! The heads of the ledger's chains: one chain in an SQLite file, and 64 in PostgreSQL, which can grow at the same time.
//!
//! The facts of a connection are in the chain of its id, those of the whole registry in the first one. At least every minute an
//! anchor in the first chain names the heads of all others, so that the end of no chain can be cut off without a trace.

use super::RegistryError;
use super::chain::GENESIS;
use super::lease::{PARTITIONS, Partitions};
use super::writer::Writer;
use crate::model::ledger::{ChainAnchor, Fact};
use crate::model::{ConnectionId, Digest, Timestamp};
use sqlstore::{Connection, OptionalExtension};

/// How long rows may be without an anchor, in milliseconds.
const ANCHOR_INTERVAL_MS: i64 = 60_000;

/// The statement that appends a row to its chain in PostgreSQL.
pub(super) const INSERT: &str = "INSERT INTO ledger (seq, at, kind, namespace, connection, facts, body, prev, hash, chain, place)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// The last row of one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainHead {
    /// Its number in the chain, counted from 1; 0 if the chain does not have a row.
    pub(super) place: u64,
    pub(super) hash: Digest,
}

/// The end of the ledger, which the next row is chained to.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    chains: Vec<ChainHead>,
    /// When the first row was appended that no anchor covers.
    unanchored_since: Option<Timestamp>,
}

impl Head {
    /// The end of a ledger with chains that has no row yet.
    pub(super) fn of_chains() -> Head {
        let chains = vec![ChainHead { place: 0, hash: GENESIS }; PARTITIONS];
        Head { seq: 0, at: Timestamp(0), chains, unanchored_since: None }
    }

    /// The number of rows of all chains that were read, as JSON by chain.
    pub(super) fn places(&self) -> String {
        let place = |(chain, head): (usize, &ChainHead)| (chain.to_string(), serde_json::Value::from(head.place));
        let places: serde_json::Map<String, serde_json::Value> = self.chains.iter().enumerate().map(place).collect();
        serde_json::Value::Object(places).to_string()
    }

    /// The chain of the facts of `connection`, or of those of the whole registry.
    pub(super) fn chain_of(&self, connection: Option<ConnectionId>) -> usize {
        connection.map_or(0, |id| Partitions::number_of(id) % self.chains.len())
    }

    /// The last row of `chain`.
    pub(super) fn chain(&self, chain: usize) -> ChainHead {
        self.chains.get(chain).copied().unwrap_or(ChainHead { place: 0, hash: GENESIS })
    }

    /// Notes the row that was appended to `chain`, by this process or by another one.
    pub(super) fn advance(&mut self, seq: u64, at: Timestamp, chain: usize, last: ChainHead) {
        (self.seq, self.at) = (self.seq.max(seq), self.at.max(at));
        self.unanchored_since = self.unanchored_since.or(Some(at));
        if let Some(head) = self.chains.get_mut(chain) {
            *head = last;
        }
    }

    /// Notes that an anchor names all rows.
    pub(super) fn anchored(&mut self) {
        self.unanchored_since = None;
    }

    /// The hash of the last row of the first chain.
    pub(super) fn hash(&self) -> Digest {
        self.chain(0).hash
    }

    /// Whether rows have waited for an anchor long enough.
    pub(super) fn is_anchor_due(&self, now: Timestamp) -> bool {
        self.chains.len() > 1 && self.unanchored_since.is_some_and(|since| now.0.saturating_sub(since.0) >= ANCHOR_INTERVAL_MS)
    }

    /// The heads of all chains but the first one, which the anchor itself continues.
    pub(super) fn anchors(&self) -> Vec<ChainAnchor> {
        let heads = self.chains.iter().enumerate().skip(1).filter(|(_, head)| head.place > 0);
        let anchor = |(chain, head): (usize, &ChainHead)| ChainAnchor {
            chain: u32::try_from(chain).unwrap_or(u32::MAX),
            place: head.place,
            hash: head.hash,
        };
        heads.map(anchor).collect()
    }
}

impl Writer {
    /// Appends an anchor if rows were appended since the last one. SQLite has one chain and needs none.
    pub(super) fn anchor_chains(&mut self) -> Result<(), RegistryError> {
        if !self.db.is_postgres() || self.head.unanchored_since.is_none() {
            return Ok(());
        }
        let chains = self.head.anchors();
        self.append("", None, Fact::ChainsAnchored { chains }, None)?;
        self.head.anchored();
        Ok(())
    }
}

/// Reads the end of the ledger.
///
/// # Errors
/// If the registry cannot be read.
pub(super) fn head(db: &Connection) -> Result<Head, RegistryError> {
    let last = "SELECT seq, at, hash FROM ledger ORDER BY seq DESC LIMIT 1";
    let last = db.query_row(last, [], |row| Ok((row.get(0)?, Timestamp(row.get(1)?), Digest(row.get(2)?)))).optional()?;
    let (seq, at, hash) = last.unwrap_or((0, Timestamp(0), GENESIS));
    if !db.is_postgres() {
        return Ok(Head { seq, at, chains: vec![ChainHead { place: seq, hash }], unanchored_since: None });
    }
    let Head { mut chains, .. } = Head::of_chains();
    let mut find = db.prepare_cached("SELECT place, hash FROM ledger WHERE chain = ?1 ORDER BY place DESC LIMIT 1")?;
    for (chain, head) in chains.iter_mut().enumerate() {
        let found = find.query_row([chain], |row| Ok(ChainHead { place: row.get(0)?, hash: Digest(row.get(1)?) }));
        *head = found.optional()?.unwrap_or(*head);
    }
    let anchored = "SELECT coalesce(max(seq), 0) FROM ledger WHERE kind = 'chains_anchored' AND chain = 0";
    let anchored: u64 = db.query_row(anchored, [], |row| row.get(0))?;
    let first = "SELECT at FROM ledger WHERE seq > ?1 ORDER BY seq LIMIT 1";
    let unanchored_since = db.query_row(first, [anchored], |row| Ok(Timestamp(row.get(0)?))).optional()?;
    Ok(Head { seq, at, chains, unanchored_since })
}
