//! The heads of the ledger's chains: one chain in an SQLite file, and 64 in PostgreSQL, which can grow at the same time.
//!
//! The facts of a connection are in the chain of its id, those of the whole registry in the first one. At least every minute an
//! anchor in the first chain names the heads of all others, so that the end of no chain can be cut off without a trace.

use super::RegistryError;
use super::chain::GENESIS;
use super::followed::chained;
use super::lease::PARTITIONS;
use super::reader::COLUMNS;
use super::writer::Writer;
use crate::model::ledger::{ChainAnchor, Entry, Fact};
use crate::model::{ConnectionId, Digest, Timestamp};
use crate::snapshot::chain_rows::ChainRows;
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

/// The last row of one chain that a fold contains.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainEnd {
    seq: u64,
    at: Timestamp,
    chain: usize,
    head: ChainHead,
    is_anchor: bool,
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

    /// The end of a ledger with chains that ends with these rows.
    pub(super) fn after(ends: &[ChainEnd]) -> Head {
        let mut head = Head::of_chains();
        for end in ends {
            head.advance(end.seq, end.at, end.chain, end.head);
        }
        if ends.iter().any(|end| end.is_anchor && end.seq == head.seq) {
            head.anchored();
        }
        head
    }

    /// The number of rows of all chains that were read, as JSON by chain.
    pub(super) fn places(&self) -> String {
        places(self.chains.iter().enumerate().map(|(chain, head)| (chain, head.place)))
    }

    /// The chain of the facts of `connection`, or of those of the whole registry.
    pub(super) fn chain_of(&self, connection: Option<ConnectionId>) -> usize {
        connection.map_or(0, |id| id.partition() % self.chains.len())
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

/// Numbers of rows by chain, as JSON.
fn places(rows: impl Iterator<Item = (usize, u64)>) -> String {
    let place = |(chain, rows): (usize, u64)| (chain.to_string(), serde_json::Value::from(rows));
    serde_json::Value::Object(rows.map(place).collect()).to_string()
}

/// Reads the last row of each chain of a fold. `None` if the ledger does not have one of them.
///
/// # Errors
/// If the registry cannot be read.
pub(super) fn ends(db: &Connection, folded: &ChainRows) -> Result<Option<Vec<ChainEnd>>, RegistryError> {
    let sql = "SELECT seq, at, chain, place, hash, kind FROM json_each_text(CAST(CAST(?1 AS TEXT) AS json)) AS known
               JOIN ledger ON chain = CAST(known.key AS bigint) AND place = CAST(known.value AS bigint) ORDER BY chain";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([places(folded.iter())], |row| {
        let head = ChainHead { place: row.get(3)?, hash: Digest(row.get(4)?) };
        let is_anchor = row.get::<_, String>(5)? == "chains_anchored";
        Ok(ChainEnd { seq: row.get(0)?, at: Timestamp(row.get(1)?), chain: row.get(2)?, head, is_anchor })
    })?;
    let ends = rows.collect::<sqlstore::Result<Vec<_>>>()?;
    Ok((ends.len() == folded.iter().count()).then_some(ends))
}

/// A digest of the last rows of the chains.
pub(super) fn digest_of(ends: &[ChainEnd]) -> Digest {
    let hashes: Vec<&[u8]> = ends.iter().map(|end| end.head.hash.0.as_slice()).collect();
    Digest::from_parts(&hashes)
}

/// Which rows of a ledger with chains to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    All,
    /// Those after the rows of a fold.
    After(&'a ChainRows),
    /// Those of a fold.
    Of(&'a ChainRows),
}

/// Passes rows of all chains to `take`, in the order of their numbers. One statement reads them, so that all are from the same moment.
///
/// # Errors
/// If the registry cannot be read, or if this build cannot parse a row.
pub(super) fn each_row(
    db: &Connection,
    rows: Rows<'_>,
    mut take: impl FnMut(Entry, usize, ChainHead),
) -> Result<(), RegistryError> {
    let known =
        "SELECT CAST(key AS bigint) AS number, CAST(value AS bigint) AS rows FROM json_each_text(CAST(CAST(?1 AS TEXT) AS json))";
    let numbers = "SELECT number, coalesce(rows, 0) AS rows FROM generate_series(0, 63) AS number LEFT JOIN known USING (number)";
    let of_chains = |condition: &str| {
        format!(
            "WITH known AS ({known}), wanted AS ({numbers}) SELECT {COLUMNS}, chain, place, hash FROM wanted
             CROSS JOIN LATERAL (SELECT * FROM ledger WHERE chain = wanted.number AND place {condition} wanted.rows) AS found ORDER BY seq"
        )
    };
    let (sql, folded) = match rows {
        Rows::All => {
            (format!("SELECT {COLUMNS}, chain, place, hash FROM ledger WHERE CAST(?1 AS TEXT) IS NOT NULL ORDER BY seq"), None)
        }
        Rows::After(folded) => (of_chains(">"), Some(folded)),
        Rows::Of(folded) => (of_chains("<="), Some(folded)),
    };
    let places = places(folded.into_iter().flat_map(ChainRows::iter));
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([places])?;
    while let Some(row) = rows.next()? {
        let (entry, chain, head) = chained(row)?;
        take(entry, chain, head);
    }
    Ok(())
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
