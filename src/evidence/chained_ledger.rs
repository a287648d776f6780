//! Computes the chains of the entries of a ledger in PostgreSQL again, and compares them with the anchors that bind them.
//!
//! The lines are in the order of the numbers of the rows. A writer that appends an anchor has locked all chains and takes its number
//! afterwards, so at the line of an anchor, each chain must be exactly where the anchor says.

use super::chains::ANCHOR_DELAY_MS;
use super::{LEDGER, Parts};
use crate::model::ledger::{CallChainEnd, ChainAnchor, Fact};
use crate::model::{CallsAnchor, Digest, Timestamp};
use crate::registry::{LedgerLine, chain_of_row, named_ends};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A row of the bundle.
#[derive(Clone, Copy, Debug)]
pub struct KnownRow {
    pub hash: Digest,
    at: i64,
}

/// The last row of a chain so far.
#[derive(Clone, Copy, Debug)]
struct ChainEnd {
    seq: u64,
    at: i64,
    place: u64,
    hash: Digest,
}

/// The part of the facts of a finished attempt that names its batch.
#[derive(Deserialize)]
struct OfAttempt {
    #[serde(default)]
    calls: Option<CallsAnchor>,
}

/// An entry that names batches of calls as recorded.
pub struct NamedBatches {
    pub seq: u64,
    pub at: i64,
    pub chain: u32,
    pub what: NamedWhat,
}

pub enum NamedWhat {
    /// The batch of the attempt that the entry ends.
    OfAttempt(CallsAnchor),
    /// The last batch of each chain.
    Ends(Vec<CallChainEnd>),
}

/// An entry that dropped calls because of their age.
pub struct DroppedCalls {
    pub seq: u64,
    pub ends: Vec<CallChainEnd>,
    pub before: Timestamp,
}

impl DroppedCalls {
    /// Whether the batch of the attempt that ended with an entry of `chain` at `at` was dropped.
    pub fn covers_attempt(&self, chain: u32, batch: u64, at: i64) -> bool {
        at < self.before.0.saturating_add(ANCHOR_DELAY_MS)
            && self.ends.iter().any(|end| end.may_hold(chain) && batch <= end.batch)
    }

    /// Whether the batch at a place of a chain of calls was dropped.
    pub fn covers(&self, chain: u32, place: u64) -> bool {
        self.ends.iter().any(|end| end.chain == chain && place <= end.place)
    }
}

/// The entries of a bundle, as far as they were verified.
#[derive(Default)]
pub struct ChainedLedger {
    since: i64,
    until: i64,
    pub rows: BTreeMap<u64, KnownRow>,
    pub parts: Parts,
    pub named: Vec<NamedBatches>,
    pub dropped: Vec<DroppedCalls>,
    /// The rows that accepted a policy, with the digest of its text.
    pub policies: Vec<(u64, Digest)>,
    ends: BTreeMap<u32, ChainEnd>,
    /// The number of the last row of all chains.
    last: u64,
    /// The number of the last anchor since the period began, and how many rows come after it.
    last_anchor: Option<(u64, u64)>,
}

impl ChainedLedger {
    pub fn new(since: Timestamp, until: Timestamp) -> ChainedLedger {
        ChainedLedger { since: since.0, until: until.0, ..ChainedLedger::default() }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// Why it cannot be the next one.
    pub fn take(&mut self, line: &LedgerLine) -> Result<(), String> {
        let number = line.seq;
        let wrong = |why: String| Err(format!("(number {number}) {why}"));
        let (Some(chain), Some(place)) = (line.chain, line.place) else {
            return wrong("does not name its chain and its place in it".to_string());
        };
        if chain_of_row(line.connection.as_deref()) != Some(chain) {
            return wrong(format!("is in chain {chain}, which is not that of its connection"));
        }
        if line.seq <= self.last {
            return wrong(format!("stands after row {}", self.last));
        }
        let prev = match self.ends.get(&chain) {
            Some(end) => follows(end, line, (chain, place)),
            None => self.begins(line, (chain, place)),
        };
        match prev {
            Ok(prev) if line.prev == prev && line.hash == line.computed_hash(&prev) => {}
            Ok(_) => return wrong("does not match the hash chain".to_string()),
            Err(why) => return wrong(why),
        }
        self.ends.insert(chain, ChainEnd { seq: line.seq, at: line.at, place, hash: line.hash });
        self.parts.add(chain, place, line.prev, line.hash);
        self.rows.insert(line.seq, KnownRow { hash: line.hash, at: line.at });
        self.last = line.seq;
        self.note(line, chain).or_else(wrong)
    }

    /// Returns the hash before the first row of a chain in the bundle.
    fn begins(&self, line: &LedgerLine, (chain, place): (u32, u64)) -> Result<Digest, String> {
        match place {
            1 => Ok(Digest::default()),
            0 => Err(format!("has the place 0 in chain {chain}, and places are numbered from 1")),
            _ if line.at < self.since => Ok(line.prev),
            _ => Err(format!(
                "is the first one of chain {chain} in the bundle, and it is neither the first one of all nor from before the period: rows before it were left out"
            )),
        }
    }

    /// Notes what a row says about other rows, about calls and about policies.
    fn note(&mut self, line: &LedgerLine, chain: u32) -> Result<(), String> {
        if let Some((_, after)) = &mut self.last_anchor {
            *after += 1;
        }
        // What an entry before the period names is before the period, too.
        if line.at < self.since {
            return Ok(());
        }
        let read = || Fact::read(&line.kind, &line.facts).map_err(|error| format!("cannot be understood: {error}"));
        let mut name = |what| self.named.push(NamedBatches { seq: line.seq, at: line.at, chain, what });
        match line.kind.as_str() {
            "chains_anchored" if chain == 0 => match read()? {
                Fact::ChainsAnchored { chains } => {
                    self.check_anchor(&chains)?;
                    self.last_anchor = Some((line.seq, 0));
                }
                _ => return Err("does not name the ends of the chains".to_string()),
            },
            "attempt_finished" => {
                let finished = serde_json::from_str::<OfAttempt>(&line.facts);
                let calls = finished.map_err(|error| format!("cannot be understood: {error}"))?.calls;
                calls.into_iter().for_each(|calls| name(NamedWhat::OfAttempt(calls)));
            }
            "calls_recorded" => name(NamedWhat::Ends(named_ends(read()?))),
            "calls_dropped" => match read()? {
                fact @ Fact::CallsDropped { before, .. } => {
                    self.dropped.push(DroppedCalls { seq: line.seq, ends: named_ends(fact), before })
                }
                _ => return Err("does not name the calls that it drops".to_string()),
            },
            "policy_accepted" if line.at < self.until => {
                let policy = line.body.as_deref().unwrap_or_default();
                self.policies.push((line.seq, Digest::from_bytes(policy.as_bytes())));
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares an anchor with the chains up to its line.
    fn check_anchor(&self, anchors: &[ChainAnchor]) -> Result<(), String> {
        for ChainAnchor { chain, place, hash } in anchors {
            match self.ends.get(chain) {
                Some(end) if end.place == *place && end.hash == *hash => {}
                Some(end) if end.place == *place => {
                    return Err(format!(
                        "is an anchor that names row {place} of chain {chain} with the hash {hash}, and row {} has its place with another hash",
                        end.seq
                    ));
                }
                Some(end) if end.place > *place => {
                    return Err(format!(
                        "is an anchor that names row {place} of chain {chain} as its last one, and row {} stands before the anchor",
                        end.seq
                    ));
                }
                found => {
                    return Err(format!(
                        "is an anchor that names row {place} of chain {chain}, which has rows only up to {} in {LEDGER}: its end was cut off",
                        found.map_or(0, |end| end.place)
                    ));
                }
            }
        }
        let unnamed = self.ends.keys().find(|chain| **chain != 0 && !anchors.iter().any(|anchor| anchor.chain == **chain));
        match unnamed {
            Some(chain) => Err(format!("is an anchor that does not name chain {chain}, which has rows before it")),
            None => Ok(()),
        }
    }

    /// The first and the last row of the bundle; 0 if it has none.
    pub fn bounds(&self) -> (u64, u64) {
        let first = self.rows.keys().next().copied().unwrap_or_default();
        (first, self.last)
    }

    /// Whether the bundle has row `seq`, and the row is not from before the period.
    pub fn has_since_start(&self, seq: u64) -> bool {
        self.rows.get(&seq).is_some_and(|row| row.at >= self.since)
    }

    /// Whether row `seq`, which drops calls from before `before`, can be from before the period.
    pub fn is_before_period(&self, seq: u64, before: Timestamp) -> bool {
        before.0 <= self.since && !self.has_since_start(seq)
    }

    /// The last anchor since the period began, and the number of rows after it.
    pub fn last_anchor(&self) -> (Option<u64>, u64) {
        match self.last_anchor {
            Some((seq, after)) => (Some(seq), after),
            None => (None, self.rows.len() as u64),
        }
    }

    /// Whether an anchor after the period ends the bundle, so that all rows of the period are before it.
    pub fn is_closed(&self) -> bool {
        let head = self.head();
        self.last_anchor().1 == 0 && head.is_some_and(|head| head.0 == self.last && head.2 >= self.until)
    }

    /// The number, the hash and the time of the last row of the first chain.
    pub fn head(&self) -> Option<(u64, Digest, i64)> {
        self.ends.get(&0).map(|end| (end.seq, end.hash, end.at))
    }
}

/// Returns the hash before `line`, which must be the row after `end` in its chain.
fn follows(end: &ChainEnd, line: &LedgerLine, (chain, place): (u32, u64)) -> Result<Digest, String> {
    if place != end.place.saturating_add(1) {
        return Err(format!(
            "is row {place} of chain {chain} and stands after row {}: rows between them were left out",
            end.place
        ));
    }
    if line.at < end.at {
        return Err(format!("is older than row {} before it in chain {chain}", end.seq));
    }
    Ok(end.hash)
}
