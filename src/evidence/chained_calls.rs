//! Computes the chains of the calls of a registry in PostgreSQL again, and compares them with the entries that name batches.

use super::chained_ledger::{ChainedLedger, DroppedCalls, NamedBatches, NamedWhat};
use super::chains::ANCHOR_DELAY_MS;
use super::{CALLS, LEDGER, Parts};
use crate::model::ledger::CallChainEnd;
use crate::model::{CallsAnchor, Digest, Timestamp};
use crate::registry::{CallBatch, is_chain_of_batch};
use std::collections::BTreeMap;

/// A batch of the bundle.
#[derive(Clone, Copy, Debug)]
struct KnownBatch {
    chain: u32,
    place: u64,
    hash: Digest,
    attempt: Option<u64>,
}

/// The last batch of a chain so far.
#[derive(Clone, Copy, Debug)]
struct ChainEnd {
    batch: u64,
    at: i64,
    place: u64,
    hash: Digest,
}

/// The calls of a bundle, as far as they were verified.
#[derive(Default)]
pub struct ChainedCalls {
    since: i64,
    until: i64,
    pub count: u64,
    pub parts: Parts,
    batches: BTreeMap<u64, KnownBatch>,
    ends: BTreeMap<u32, ChainEnd>,
    /// The number of the first batch of each chain.
    first: BTreeMap<u32, u64>,
    /// The first batches of chains whose earlier batches must have been dropped.
    after_dropped: Vec<(u32, u64, Digest)>,
}

impl ChainedCalls {
    pub fn new(since: Timestamp, until: Timestamp) -> ChainedCalls {
        ChainedCalls { since: since.0, until: until.0, ..ChainedCalls::default() }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// Why it cannot be the next one.
    pub fn take(&mut self, batch: &CallBatch) -> Result<(), String> {
        let wrong = |why: String| Err(format!("(number {}) {why}", batch.batch));
        let (Some(chain), Some(place)) = (batch.chain, batch.place) else {
            return wrong("does not name its chain and its place in it".to_string());
        };
        if !is_chain_of_batch(chain, &batch.connection) {
            return wrong(format!("is in chain {chain}, which is not that of its connection"));
        }
        if let Some((last, _)) = self.batches.last_key_value().filter(|(last, _)| **last >= batch.batch) {
            return wrong(format!("stands after batch {last}"));
        }
        let prev = match self.ends.get(&chain) {
            Some(end) if place != end.place.saturating_add(1) => {
                let last = end.place;
                return wrong(format!(
                    "is batch {place} of chain {chain} and stands after {last}: batches between them were left out"
                ));
            }
            Some(end) if batch.at < end.at => {
                return wrong(format!("is older than batch {} before it in chain {chain}", end.batch));
            }
            Some(end) => end.hash,
            None if place == 1 => Digest::default(),
            None if place == 0 => return wrong(format!("has the place 0 in chain {chain}, and places are numbered from 1")),
            None => {
                if batch.at >= self.since {
                    self.after_dropped.push((chain, place, batch.prev));
                }
                batch.prev
            }
        };
        if batch.prev != prev || batch.hash != batch.computed_hash(&prev) {
            return wrong("does not match the hash chain".to_string());
        }
        self.first.entry(chain).or_insert(batch.batch);
        self.ends.insert(chain, ChainEnd { batch: batch.batch, at: batch.at, place, hash: batch.hash });
        self.parts.add(chain, place, prev, batch.hash);
        self.batches.insert(batch.batch, KnownBatch { chain, place, hash: batch.hash, attempt: batch.attempt });
        self.count += 1;
        Ok(())
    }

    /// Compares the batches with what the entries of the ledger say. Returns the entry after those of the bundle that dropped
    /// calls which the period needs, if there is one.
    pub fn compare(&self, ledger: &ChainedLedger, problems: &mut Vec<String>) -> Option<u64> {
        let before = problems.len();
        let mut later = None;
        let mut excuse = |dropped: &DroppedCalls| {
            if dropped.seq > ledger.bounds().1 {
                later = Some(dropped.seq);
            }
        };
        self.check_beginnings(ledger, problems, &mut excuse);
        let mut missing = Vec::new();
        for named in &ledger.named {
            match &named.what {
                NamedWhat::OfAttempt(calls) => {
                    self.check_attempt(ledger, named, *calls, (&mut *problems, &mut missing), &mut excuse)
                }
                NamedWhat::Ends(ends) => {
                    for end in ends {
                        self.check_end(ledger, named, end, (&mut *problems, &mut missing), &mut excuse);
                    }
                }
            }
            if problems.len() > before {
                return later;
            }
        }
        if let Some((batch, row)) = missing.first() {
            let more = match missing.len() {
                1 => String::new(),
                all => format!("; so are {} more that rows name", all - 1),
            };
            problems.push(format!("batch {batch} is missing in {CALLS}, but row {row} of {LEDGER} names it{more}"));
        }
        self.check_attempts(ledger, problems);
        later
    }

    /// The batches before the first one of a chain may only be missing because they were dropped.
    fn check_beginnings(&self, ledger: &ChainedLedger, problems: &mut Vec<String>, excuse: &mut dyn FnMut(&DroppedCalls)) {
        for (chain, place, prev) in &self.after_dropped {
            let is_before = |end: &CallChainEnd| end.chain == *chain && end.place + 1 == *place && end.hash == *prev;
            match ledger.dropped.iter().find(|dropped| dropped.ends.iter().any(is_before)) {
                Some(dropped) => excuse(dropped),
                None => problems.push(format!(
                    "{CALLS} begins chain {chain} with batch {place} of it, and those before it are neither from before the period nor dropped: they were left out"
                )),
            }
        }
    }

    /// Compares the batch that the entry at the end of an attempt names.
    fn check_attempt(
        &self,
        ledger: &ChainedLedger,
        named: &NamedBatches,
        calls: CallsAnchor,
        (problems, missing): (&mut Vec<String>, &mut Vec<(u64, u64)>),
        excuse: &mut dyn FnMut(&DroppedCalls),
    ) {
        let NamedBatches { seq, at, chain, .. } = named;
        if let Some(found) = self.batches.get(&calls.batch) {
            let what = match found {
                found if found.hash != calls.hash => "does not have the hash",
                found if found.attempt != Some(*seq) => "does not belong to the attempt",
                found if !may_hold(found.chain, *chain) => "is not in the chain",
                _ => return,
            };
            return problems.push(format!("batch {} of {CALLS} {what} that row {seq} names", calls.batch));
        }
        // The entry and the batch were written in one transaction, a moment before or after the bounds of the period.
        let is_earlier = *at < self.since.saturating_add(ANCHOR_DELAY_MS)
            && self.first.iter().any(|(of, first)| may_hold(*of, *chain) && calls.batch < *first);
        match ledger.dropped.iter().find(|dropped| dropped.covers_attempt(*chain, calls.batch, *at)) {
            Some(dropped) => excuse(dropped),
            None if is_earlier || *at >= self.until => {}
            None => missing.push((calls.batch, *seq)),
        }
    }

    /// Compares the last batch of a chain that an entry names.
    fn check_end(
        &self,
        ledger: &ChainedLedger,
        named: &NamedBatches,
        end: &CallChainEnd,
        (problems, missing): (&mut Vec<String>, &mut Vec<(u64, u64)>),
        excuse: &mut dyn FnMut(&DroppedCalls),
    ) {
        if let Some(found) = self.batches.get(&end.batch) {
            if (found.chain, found.place, found.hash) != (end.chain, end.place, end.hash) {
                problems.push(format!("batch {} of {CALLS} is not the one that row {} names", end.batch, named.seq));
            }
            return;
        }
        let is_earlier = self.parts.get(end.chain).is_some_and(|part| end.place < part.first_place);
        match ledger.dropped.iter().find(|dropped| dropped.covers(end.chain, end.place)) {
            Some(dropped) => excuse(dropped),
            None if is_earlier || named.at >= self.until => {}
            None => missing.push((end.batch, named.seq)),
        }
    }

    /// A batch that belongs to an attempt of the bundle is named by the entry that ends the attempt.
    fn check_attempts(&self, ledger: &ChainedLedger, problems: &mut Vec<String>) {
        let of_attempts = ledger.named.iter().filter_map(|named| match named.what {
            NamedWhat::OfAttempt(calls) => Some((named.seq, calls.batch)),
            NamedWhat::Ends(_) => None,
        });
        let of_attempts: BTreeMap<u64, u64> = of_attempts.collect();
        let wrong = self.batches.iter().find_map(|(batch, known)| {
            let attempt = known.attempt.filter(|attempt| ledger.has_since_start(*attempt))?;
            (of_attempts.get(&attempt) != Some(batch)).then_some((batch, attempt))
        });
        if let Some((batch, attempt)) = wrong {
            problems.push(format!(
                "batch {batch} of {CALLS} says that row {attempt} of {LEDGER} ends its attempt, and this row does not name it"
            ));
        }
    }
}

/// Whether the calls of an attempt with an entry in `of` of the ledger may be in `chain`.
fn may_hold(chain: u32, of: u32) -> bool {
    CallChainEnd { chain, ..CallChainEnd::default() }.may_hold(of)
}
