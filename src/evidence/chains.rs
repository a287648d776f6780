//! Computes the two chains of a bundle again: the entries of the ledger, the batches of calls, and what the entries say of them.

use super::files::{self, BundleFiles};
use super::{CALLS, ChainBody, LEDGER, MANIFEST, MAX_LINE_BYTES, Manifest, POLICIES};
use crate::model::{CallsAnchor, Digest, Timestamp};
use crate::registry::{CallBatch, LedgerHead, LedgerLine};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The batch of an attempt and the entry that ends it are written in one transaction, within this many milliseconds.
pub(super) const ANCHOR_DELAY_MS: i64 = 3_600_000;

/// What a bundle says about a head of the ledger that was kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedHead {
    /// The row is in the bundle and has this hash.
    Matches,
    /// The row has another hash.
    Differs,
    /// The manifest names this head. The row is not in the bundle, so its hash was not computed.
    Named,
    /// The row is not in the bundle, which has the rows from `first` to `last`; both are 0 if it has none.
    Outside { first: u64, last: u64 },
}

/// A line of a chain.
trait ChainLine: DeserializeOwned {
    fn number(&self) -> u64;
    fn prev(&self) -> Digest;
    fn hash(&self) -> Digest;
    fn computed(&self, prev: &Digest) -> Digest;
}

impl ChainLine for LedgerLine {
    fn number(&self) -> u64 {
        self.seq
    }
    fn prev(&self) -> Digest {
        self.prev
    }
    fn hash(&self) -> Digest {
        self.hash
    }
    fn computed(&self, prev: &Digest) -> Digest {
        self.computed_hash(prev)
    }
}

impl ChainLine for CallBatch {
    fn number(&self) -> u64 {
        self.batch
    }
    fn prev(&self) -> Digest {
        self.prev
    }
    fn hash(&self) -> Digest {
        self.hash
    }
    fn computed(&self, prev: &Digest) -> Digest {
        self.computed_hash(prev)
    }
}

/// The part of the facts of an entry that names batches of calls.
#[derive(Deserialize)]
struct NamedCalls {
    #[serde(default)]
    calls: Option<CallsAnchor>,
    #[serde(default)]
    before: Option<Timestamp>,
}

/// An entry of the ledger that names a batch of calls as recorded.
struct NamedBatch {
    row: u64,
    at: i64,
    /// The batch is that of an attempt, recorded together with the entry.
    of_attempt: bool,
    anchor: CallsAnchor,
}

/// An entry of the ledger that drops calls.
struct DroppedBatches {
    row: u64,
    anchor: CallsAnchor,
    before: Timestamp,
}

/// The chains of a bundle, as far as they were verified.
#[derive(Default)]
pub struct BundleChains {
    pub ledger: Option<ChainBody>,
    pub calls: Option<ChainBody>,
    /// The row after those of the bundle that says that calls were dropped, according to the manifest only.
    pub dropped_by_later_row: Option<u64>,
    rows: BTreeMap<u64, Digest>,
    batches: BTreeMap<u64, Digest>,
    named: Vec<NamedBatch>,
    dropped: Vec<DroppedBatches>,
    /// The rows that accepted a policy, with the digest of its text.
    policies: Vec<(u64, Digest)>,
}

impl BundleChains {
    /// Verifies the chains in those files whose checksum is right.
    pub fn check(folder: &Path, manifest: &Manifest, files: &BundleFiles, problems: &mut Vec<String>) -> BundleChains {
        let mut chains = BundleChains::default();
        let before = problems.len();
        if files.is_intact(LEDGER) {
            let ledger = check_chain(folder, LEDGER, &manifest.ledger, problems, |line: &LedgerLine| chains.add_row(line));
            chains.ledger = Some(ledger);
        }
        if files.is_intact(CALLS) {
            let batches = &mut chains.batches;
            let calls = check_chain(folder, CALLS, &manifest.calls, problems, |batch: &CallBatch| {
                batches.insert(batch.batch, batch.hash);
            });
            chains.calls = Some(calls);
        }
        // After a break, what follows it is not known.
        if problems.len() == before {
            chains.check_head(manifest, problems);
            chains.check_dropped(manifest, problems);
            chains.check_named(manifest, problems);
            for (row, digest) in &chains.policies {
                let name = format!("{POLICIES}/{digest}.yaml");
                if !files.is_listed(&name) {
                    problems.push(format!("{name} is missing: row {row} of {LEDGER} accepted this policy"));
                }
            }
        }
        chains
    }

    fn add_row(&mut self, line: &LedgerLine) {
        self.rows.insert(line.seq, line.hash);
        if line.kind == "policy_accepted" {
            let policy = line.body.as_deref().unwrap_or_default();
            self.policies.push((line.seq, Digest::from_bytes(policy.as_bytes())));
        }
        if !matches!(line.kind.as_str(), "attempt_finished" | "calls_recorded" | "calls_dropped") {
            return;
        }
        let Ok(NamedCalls { calls: Some(anchor), before }) = serde_json::from_str(&line.facts) else { return };
        match before.filter(|_| line.kind == "calls_dropped") {
            Some(before) => self.dropped.push(DroppedBatches { row: line.seq, anchor, before }),
            None => {
                let of_attempt = line.kind == "attempt_finished";
                self.named.push(NamedBatch { row: line.seq, at: line.at, of_attempt, anchor });
            }
        }
    }

    /// The first and the last row of the bundle; 0 if it has none.
    fn bounds(&self) -> (u64, u64) {
        let first = self.rows.keys().next().copied().unwrap_or_default();
        (first, self.rows.keys().next_back().copied().unwrap_or_default())
    }

    /// Compares the head in the manifest with the rows. The rows decide: the manifest only says what it should be.
    fn check_head(&self, manifest: &Manifest, problems: &mut Vec<String>) {
        if self.ledger.is_none() {
            return;
        }
        let (head, (_, last)) = (&manifest.head, self.bounds());
        let at = |text: &str| Timestamp::parse(text).ok();
        let in_period = head.at.as_deref().and_then(at).is_some_and(|head| {
            at(&manifest.since).is_some_and(|since| since <= head) && at(&manifest.until).is_some_and(|until| head < until)
        });
        match self.rows.get(&head.seq) {
            Some(hash) if *hash == head.hash => {}
            Some(hash) => problems.push(format!(
                "row {} of {LEDGER} has the hash {hash}, and {MANIFEST} names {} as the hash of this row, the head",
                head.seq, head.hash
            )),
            None if last > head.seq => {
                problems.push(format!("{LEDGER} goes on until row {last}, and {MANIFEST} names row {} as the last one", head.seq))
            }
            None if in_period => problems.push(format!(
                "{LEDGER} ends at row {last}, and {MANIFEST} names row {} of the same period as the head: its end is missing",
                head.seq
            )),
            None => {}
        }
    }

    /// Compares what the manifest says about dropped calls with the rows.
    fn check_dropped(&mut self, manifest: &Manifest, problems: &mut Vec<String>) {
        let (Some(named), (_, last)) = (&manifest.calls_dropped, self.bounds()) else { return };
        let anchor = CallsAnchor { batch: named.batch, hash: named.hash };
        if named.seq > last {
            match Timestamp::parse(&named.before) {
                Ok(before) => self.dropped.push(DroppedBatches { row: named.seq, anchor, before }),
                Err(error) => problems.push(format!("calls_dropped.before of {MANIFEST} is not a time: {error}")),
            }
        } else if !self.dropped.iter().any(|dropped| dropped.row == named.seq && dropped.anchor == anchor) {
            problems.push(format!(
                "{MANIFEST} says that row {} dropped the calls up to batch {}, and {LEDGER} does not have such a row",
                named.seq, named.batch
            ));
        }
    }

    /// Compares the batches that the rows name with those in the bundle.
    fn check_named(&mut self, manifest: &Manifest, problems: &mut Vec<String>) {
        let (Some(calls), (_, last)) = (self.calls, self.bounds()) else { return };
        let since = Timestamp::parse(&manifest.since).map_or(i64::MIN, |since| since.0);
        let (mut missing, mut later) = (Vec::new(), None);
        for (index, NamedBatch { row, at, of_attempt, anchor }) in self.named.iter().enumerate() {
            let before_first = calls.count > 0 && anchor.batch.saturating_add(1) == calls.first;
            let found = if before_first { Some(calls.prev) } else { self.batches.get(&anchor.batch).copied() };
            // The first entry of the period may name a batch that was recorded before it.
            let recorded_earlier = || {
                let at_start = *at < since.saturating_add(ANCHOR_DELAY_MS);
                index == 0 && (at_start || !of_attempt && calls.count == 0)
            };
            let dropped = |dropped: &&DroppedBatches| {
                let of_age = !of_attempt || *at < dropped.before.0.saturating_add(ANCHOR_DELAY_MS);
                anchor.batch <= dropped.anchor.batch && of_age
            };
            match found {
                Some(hash) if hash == anchor.hash => {}
                Some(_) => {
                    problems.push(format!("batch {} of {CALLS} does not have the hash that row {row} names", anchor.batch));
                    return;
                }
                None => match self.dropped.iter().find(dropped) {
                    Some(dropped) if dropped.row > last => later = Some(dropped.row),
                    Some(_) => {}
                    None if recorded_earlier() => {}
                    None => missing.push((anchor.batch, *row)),
                },
            }
        }
        self.dropped_by_later_row = later;
        if let Some((batch, row)) = missing.first() {
            let more = match missing.len() {
                1 => String::new(),
                all => format!("; so are {} more that rows name", all - 1),
            };
            problems.push(format!("batch {batch} is missing in {CALLS}, but row {row} of {LEDGER} names it{more}"));
        }
    }

    /// Compares a head that was kept elsewhere with the rows, or with the head in the manifest if it is after all rows.
    pub fn compare(&self, expected: LedgerHead, manifest: &Manifest) -> ExpectedHead {
        let compared = |hash: Digest, same| if hash == expected.hash { same } else { ExpectedHead::Differs };
        let (first, last) = self.bounds();
        match self.rows.get(&expected.seq) {
            Some(hash) => compared(*hash, ExpectedHead::Matches),
            None if expected.seq == manifest.head.seq => compared(manifest.head.hash, ExpectedHead::Named),
            None => ExpectedHead::Outside { first, last },
        }
    }
}

/// Verifies the lines of `name` as a chain, passes each verified line to `keep`, and returns the verified part.
fn check_chain<T: ChainLine>(
    folder: &Path,
    name: &str,
    expected: &ChainBody,
    problems: &mut Vec<String>,
    mut keep: impl FnMut(&T),
) -> ChainBody {
    let mut chain = ChainBody::new(expected.prev);
    let is_whole = read_lines(folder, name, problems, |parsed: T| {
        if !follows(&parsed, &chain) {
            return Err(format!("(number {}) does not match the hash chain", parsed.number()));
        }
        chain.add(parsed.number(), parsed.hash());
        keep(&parsed);
        Ok(())
    });
    if is_whole && chain != *expected {
        problems.push(format!(
            "{name} does not end where {MANIFEST} says: it has {} lines instead of {}",
            chain.count, expected.count
        ));
    }
    chain
}

/// Passes the lines of `name` to `take` until one of them is wrong, which is then one of `problems`. Returns whether none is.
pub(super) fn read_lines<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
    problems: &mut Vec<String>,
    mut take: impl FnMut(T) -> Result<(), String>,
) -> bool {
    let mut reader = match files::open(&folder.join(name)) {
        Ok(file) => BufReader::new(file),
        Err(error) => {
            problems.push(format!("{name} could not be read: {error}"));
            return false;
        }
    };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let taken = match Read::take(&mut reader, MAX_LINE_BYTES + 1).read_until(b'\n', &mut line) {
            Ok(0) => return true,
            Ok(length) if length as u64 > MAX_LINE_BYTES => Err(format!("is longer than {} MiB", MAX_LINE_BYTES >> 20)),
            Ok(_) => serde_json::from_slice::<T>(&line).map_err(|error| format!("is not valid: {error}")).and_then(&mut take),
            Err(error) => Err(format!("could not be read: {error}")),
        };
        if let Err(wrong) = taken {
            problems.push(format!("line {number} of {name} {wrong}"));
            return false;
        }
    }
    true
}

/// Whether `line` is the next one of `chain`. The first row and the first batch of all have no hash before them.
fn follows<T: ChainLine>(line: &T, chain: &ChainBody) -> bool {
    let prev = chain.last_hash;
    let in_order = if chain.count == 0 {
        line.number() > 1 || line.number() == 1 && prev == Digest::default()
    } else {
        line.number() == chain.first.saturating_add(chain.count)
    };
    in_order && line.prev() == prev && line.hash() == line.computed(&prev)
}
