//! What the entries of the ledger say about recorded calls, and whether those that drop calls may do so.

use super::RegistryError;
use super::call_heads::{self, ChainEnds, ONE_CHAIN};
use crate::model::ledger::{CallChainEnd, Fact};
use crate::model::{CallsAnchor, Timestamp};
use crate::policy::parse;
use serde::Deserialize;
use sqlstore::{Connection, OptionalExtension};
use std::ops::RangeInclusive;

/// The least time for which a policy can keep calls, in milliseconds: `1d`.
const MIN_KEEP_MS: i64 = 86_400_000;
/// AAM reads a policy a moment before the ledger has it at its start, and may still use the one before when the ledger has the
/// next one. A policy counts as in force for this many milliseconds before and after.
const POLICY_TOLERANCE_MS: i64 = 600_000;
/// The batch of an attempt and the entry that ends it are written in one transaction, within this many milliseconds.
const TRANSACTION_TOLERANCE_MS: i64 = 3_600_000;

/// A batch that does not match, and why.
pub(super) type Broken = (u64, String);

/// The part of a finished attempt, or of `calls_recorded`, that names batches.
#[derive(Deserialize)]
struct Anchored {
    #[serde(default)]
    calls: Option<CallsAnchor>,
    /// Only in `calls_recorded` in PostgreSQL.
    #[serde(default)]
    chains: Vec<CallChainEnd>,
}

/// What the entries of the ledger say about recorded calls, in the order of the ledger.
#[derive(Debug, Default)]
pub(super) struct CallEntries {
    named: Vec<NamedBatch>,
    pub(super) dropped: Vec<DroppedBatches>,
    /// The number and the time of each entry `policy_accepted`.
    policies: Vec<(u64, i64)>,
    /// The last entry of the ledger.
    pub(super) last: u64,
}

/// An entry that names the batch that was the last one of its chain when the entry was appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedBatch {
    pub(super) seq: u64,
    pub(super) at: i64,
    /// For the batch of an attempt, the chain of the entry. The batch is in chain 64 if it is as old as that.
    pub(super) chain: u32,
    pub(super) calls: CallsAnchor,
    /// Whether the batch belongs to the attempt that the entry ends.
    pub(super) ends_attempt: bool,
}

/// An entry that drops all batches up to one in each chain. All of them were recorded before `before`.
#[derive(Clone, Debug)]
pub(super) struct DroppedBatches {
    pub(super) seq: u64,
    pub(super) at: i64,
    pub(super) ends: ChainEnds,
    pub(super) before: i64,
}

/// One chain, and what the ledger says about it.
pub(super) struct NamedChain<'a> {
    pub(super) chain: u32,
    /// In the order of the ledger.
    pub(super) named: Vec<&'a NamedBatch>,
    /// The last batch that was dropped.
    pub(super) dropped: CallChainEnd,
}

impl CallEntries {
    /// Takes what entry `seq` of a ledger with one chain says.
    ///
    /// # Errors
    /// Why the entry cannot be understood.
    pub(super) fn add(&mut self, seq: u64, at: i64, kind: &str, facts: &str) -> Result<(), String> {
        self.add_of_chain(ONE_CHAIN, (seq, at), kind, facts)
    }

    /// Takes what entry `seq` in `chain` of the ledger says.
    ///
    /// # Errors
    /// Why the entry cannot be understood.
    pub(super) fn add_of_chain(&mut self, chain: u32, (seq, at): (u64, i64), kind: &str, facts: &str) -> Result<(), String> {
        self.last = seq;
        match kind {
            "attempt_finished" | "calls_recorded" if facts.contains("\"calls\":") => {
                let Ok(Anchored { calls: Some(calls), chains }) = serde_json::from_str(facts) else { return Ok(()) };
                if kind == "attempt_finished" {
                    self.named.push(NamedBatch { seq, at, chain, calls, ends_attempt: true });
                    return Ok(());
                }
                let named =
                    call_heads::ends_of_fact(calls, chains).into_values().map(|CallChainEnd { chain, batch, hash, .. }| {
                        NamedBatch { seq, at, chain, calls: CallsAnchor { batch, hash }, ends_attempt: false }
                    });
                self.named.extend(named);
            }
            "calls_dropped" => match Fact::read(kind, facts) {
                Ok(Fact::CallsDropped { calls, before, chains }) => {
                    let ends = call_heads::ends_of_fact(calls, chains);
                    self.dropped.push(DroppedBatches { seq, at, ends, before: before.0 });
                }
                _ => return Err("it does not name a batch of calls".to_string()),
            },
            "policy_accepted" => self.policies.push((seq, at)),
            _ => {}
        }
        Ok(())
    }

    /// Notes the last entry of the ledger, if its last entries say nothing about calls.
    pub(super) fn ends_at(&mut self, seq: u64) {
        self.last = self.last.max(seq);
    }

    /// Whether entry `seq` ends an attempt and names this batch.
    pub(super) fn ends_attempt(&self, seq: u64, batch: CallsAnchor) -> bool {
        let found = self.named.binary_search_by_key(&seq, |named| named.seq).ok().and_then(|index| self.named.get(index));
        found.is_some_and(|named| named.ends_attempt && named.calls == batch)
    }

    /// What the entries say about each chain. `old_end` is the last batch of chain 64: attempts name their batches without a chain.
    pub(super) fn by_chain(&self, chains: RangeInclusive<u32>, old_end: u64) -> Vec<NamedChain<'_>> {
        let (first, last) = (*chains.start(), self.dropped.last());
        let dropped =
            |chain: u32| last.and_then(|last| last.ends.get(&chain)).copied().unwrap_or_else(|| call_heads::genesis(chain));
        let mut found: Vec<NamedChain<'_>> =
            chains.map(|chain| NamedChain { chain, named: Vec::new(), dropped: dropped(chain) }).collect();
        for named in &self.named {
            let chain = if named.ends_attempt && named.calls.batch <= old_end { ONE_CHAIN } else { named.chain };
            let index = chain.checked_sub(first).and_then(|index| usize::try_from(index).ok());
            if let Some(one) = index.and_then(|index| found.get_mut(index)) {
                one.named.push(named);
            }
        }
        found
    }

    /// Returns the first entry that drops calls of `chain` which were not old enough, or which the ledger does not know.
    pub(super) fn wrong_drop(&self, db: &Connection, chain: &NamedChain<'_>) -> Result<Option<Broken>, RegistryError> {
        let mut named = chain.named.clone();
        named.sort_by_key(|named| (named.calls.batch, named.seq));
        // In PostgreSQL, other replicas append while one reads the ends of all chains, so an entry may be a little younger than the
        // batches after those that it names.
        let tolerance = if chain.chain == ONE_CHAIN { 0 } else { TRANSACTION_TOLERANCE_MS };
        let (mut index, mut earlier, mut latest) = (0, call_heads::genesis(chain.chain), None::<&NamedBatch>);
        for dropped in &self.dropped {
            let DroppedBatches { seq, at, before, .. } = *dropped;
            let calls = dropped.ends.get(&chain.chain).copied().unwrap_or_else(|| call_heads::genesis(chain.chain));
            let wrong =
                |why: String| Ok(Some((calls.batch, format!("row {seq} of the ledger drops it and all before it, but {why}"))));
            // In PostgreSQL, an entry repeats the ends of the chains in which nothing more is dropped.
            if calls == earlier && db.is_postgres() {
                continue;
            }
            if calls.batch <= earlier.batch || calls.place <= earlier.place {
                return wrong(format!("batch {} was dropped before", earlier.batch));
            }
            earlier = calls;
            let keep = self.keep_ms(db, dropped)?;
            if before > at.saturating_sub(keep) {
                let days = keep / MIN_KEEP_MS;
                return wrong(format!(
                    "the policy that was in force keeps calls for {days} d, and these were recorded up to {}",
                    Timestamp(before).rfc3339()
                ));
            }
            while let Some(next) = named.get(index).copied().filter(|named| named.calls.batch < calls.batch) {
                latest = Some(latest.filter(|latest| latest.at >= next.at).unwrap_or(next));
                index += 1;
            }
            // A batch that was recorded after an entry named an earlier one is younger than that entry.
            if let Some(latest) = latest.filter(|latest| latest.at >= before.saturating_add(tolerance)) {
                return wrong(format!("row {} shows that it is younger than {}", latest.seq, Timestamp(before).rfc3339()));
            }
            for same in named.iter().skip(index).take_while(|named| named.calls.batch == calls.batch) {
                if same.calls.hash != calls.hash {
                    return wrong(format!("row {} names it with another hash", same.seq));
                }
                if same.ends_attempt && same.at >= before.saturating_add(TRANSACTION_TOLERANCE_MS) {
                    return wrong(format!("row {} shows that it is younger than {}", same.seq, Timestamp(before).rfc3339()));
                }
            }
        }
        Ok(None)
    }

    /// Returns for how many milliseconds the policy kept calls when `dropped` was appended.
    fn keep_ms(&self, db: &Connection, dropped: &DroppedBatches) -> Result<i64, RegistryError> {
        let mut least: Option<i64> = None;
        for (index, (seq, at)) in self.policies.iter().enumerate() {
            let begun = *seq < dropped.seq || *at <= dropped.at.saturating_add(POLICY_TOLERANCE_MS);
            let ended = self
                .policies
                .get(index + 1)
                .is_some_and(|(next, next_at)| *next < dropped.seq && next_at.saturating_add(POLICY_TOLERANCE_MS) < dropped.at);
            if begun && !ended {
                let keep = keep_of_policy(db, *seq)?;
                least = Some(least.map_or(keep, |least| least.min(keep)));
            }
        }
        Ok(least.unwrap_or(MIN_KEEP_MS))
    }
}

/// Returns for how many milliseconds the policy of entry `seq` keeps calls, or the least that is allowed if this version of AAM
/// cannot parse it.
fn keep_of_policy(db: &Connection, seq: u64) -> Result<i64, RegistryError> {
    let body = db.query_row("SELECT body FROM ledger WHERE seq = ?1", [seq], |row| row.get::<_, Option<String>>(0)).optional()?;
    let policy = body.flatten().and_then(|text| parse::parse(&text, "the policy in the ledger").ok());
    let keep = policy.and_then(|policy| i64::try_from(policy.evidence.calls_age().as_millis()).ok());
    Ok(keep.unwrap_or(MIN_KEEP_MS))
}
