//! Calls of several chains that were dropped because of their age, or left out.

use super::chained_calls::ChainedCalls;
use super::chained_ledger::ChainedLedger;
use crate::model::ledger::{CallChainEnd, ChainAnchor, Fact};
use crate::model::{CallsAnchor, ConnectionId, Digest, Timestamp};
use crate::registry::{CallBatch, LedgerLine, chain_of_row};

const SINCE: i64 = 1_000_000;
const UNTIL: i64 = 2_000_000;
const CONNECTION: &str = "07000000-0000-4000-8000-000000000001";
const CHAIN: u32 = 7;

/// The rows of a ledger and the batches of calls of one connection.
#[derive(Default)]
struct Rows {
    lines: Vec<LedgerLine>,
    batches: Vec<CallBatch>,
}

impl Rows {
    fn add(&mut self, at: i64, connection: Option<&str>, fact: &Fact) -> u64 {
        let (seq, chain) = (self.lines.len() as u64 + 1, chain_of_row(connection).expect("a chain"));
        let last = self.lines.iter().rfind(|line| line.chain == Some(chain));
        let (place, prev) = last.map_or((1, Digest::default()), |last| (last.place.unwrap_or_default() + 1, last.hash));
        let mut line = LedgerLine {
            seq,
            at,
            kind: fact.kind().to_string(),
            namespace: String::new(),
            connection: connection.map(str::to_string),
            facts: serde_json::to_string(fact).expect("facts"),
            body: None,
            prev,
            hash: Digest::default(),
            chain: Some(chain),
            place: Some(place),
        };
        line.hash = line.computed_hash(&prev);
        self.lines.push(line);
        seq
    }

    fn batch(&mut self, at: i64) -> CallChainEnd {
        let place = self.batches.len() as u64 + 1;
        let prev = self.batches.last().map_or(Digest::default(), |last| last.hash);
        let mut batch = CallBatch {
            batch: place * 10,
            at,
            connection: CONNECTION.to_string(),
            namespace: "prod".to_string(),
            family: "s3".to_string(),
            begun_at: None,
            why: None,
            policy: None,
            attempt: None,
            cut: 0,
            prev,
            hash: Digest::default(),
            calls: Vec::new(),
            chain: Some(CHAIN),
            place: Some(place),
        };
        batch.hash = batch.computed_hash(&prev);
        self.batches.push(batch.clone());
        CallChainEnd { chain: CHAIN, place, batch: batch.batch, hash: batch.hash }
    }

    fn recorded(&mut self, at: i64, end: CallChainEnd) {
        let calls = CallsAnchor { batch: end.batch, hash: end.hash };
        self.add(at, None, &Fact::CallsRecorded { calls, chains: vec![end] });
    }

    fn dropped(&mut self, at: i64, end: CallChainEnd, before: i64) {
        let calls = CallsAnchor { batch: end.batch, hash: end.hash };
        self.add(at, None, &Fact::CallsDropped { calls, before: Timestamp(before), chains: vec![end] });
    }

    /// What is wrong with a bundle that has these lines, and the batches from place `first` on.
    fn problems(&self, first: u64) -> Vec<String> {
        let (mut ledger, mut calls) =
            (ChainedLedger::new(Timestamp(SINCE), Timestamp(UNTIL)), ChainedCalls::new(Timestamp(SINCE), Timestamp(UNTIL)));
        let mut problems: Vec<String> = self.lines.iter().filter_map(|line| ledger.take(line).err()).collect();
        let batches = self.batches.iter().filter(|batch| batch.place >= Some(first));
        problems.extend(batches.filter_map(|batch| calls.take(batch).err()));
        if problems.is_empty() {
            calls.compare(&ledger, &mut problems);
        }
        problems
    }
}

#[test]
fn calls_are_missing_unless_an_entry_dropped_them() {
    let mut rows = Rows::default();
    let first = rows.batch(SINCE + 1);
    rows.recorded(SINCE + 2, first);
    let second = rows.batch(SINCE + 3);
    rows.recorded(SINCE + 4, second);
    rows.batch(SINCE + 5);
    assert_eq!(rows.problems(1), Vec::<String>::new());
    let found = rows.problems(3).join("\n");
    assert!(found.contains("they were left out"), "{found}");
    rows.dropped(UNTIL - 1, second, SINCE + 4);
    assert_eq!(rows.problems(3), Vec::<String>::new());
    let found = rows.problems(4).join("\n");
    assert!(!found.contains("missing"), "only named batches are known: {found}");
    // The entry drops the batches up to another one.
    let mut rows = Rows::default();
    let first = rows.batch(SINCE + 1);
    rows.recorded(SINCE + 2, first);
    let second = rows.batch(SINCE + 3);
    rows.recorded(SINCE + 4, second);
    rows.dropped(UNTIL - 1, first, SINCE + 2);
    assert_eq!(rows.problems(2), Vec::<String>::new());
    let found = rows.problems(3).join("\n");
    assert!(found.contains("batch 20 is missing in calls.jsonl, but row 2 of ledger.jsonl names it"), "{found}");
}

#[test]
fn the_batch_before_the_period_shows_that_none_was_left_out() {
    let mut rows = Rows::default();
    rows.batch(SINCE - 10);
    rows.batch(SINCE - 5);
    let last = rows.batch(SINCE + 5);
    rows.recorded(SINCE + 6, last);
    assert_eq!(rows.problems(2), Vec::<String>::new());
    let found = rows.problems(3).join("\n");
    assert!(found.contains("neither from before the period nor dropped"), "{found}");
    rows.batch(SINCE + 1);
    assert!(rows.problems(2).join("\n").contains("is older than batch 30"), "time never goes back in a chain");
}

#[test]
fn an_anchor_names_the_last_row_of_every_chain() {
    let connection = Some(CONNECTION);
    let fact = Fact::ConnectionRetired;
    let anchor = |rows: &Rows, back: usize| {
        let of_chain: Vec<&LedgerLine> = rows.lines.iter().filter(|line| line.chain == Some(CHAIN)).collect();
        let line = of_chain[of_chain.len() - 1 - back];
        Fact::ChainsAnchored {
            chains: vec![ChainAnchor { chain: CHAIN, place: line.place.unwrap_or_default(), hash: line.hash }],
        }
    };
    let mut rows = Rows::default();
    rows.add(SINCE - 1, connection, &fact);
    rows.add(SINCE + 1, connection, &fact);
    let whole = anchor(&rows, 0);
    rows.add(SINCE + 2, None, &whole);
    assert_eq!(rows.problems(1), Vec::<String>::new());
    let late = anchor(&rows, 1);
    rows.add(SINCE + 3, None, &late);
    assert!(rows.problems(1).join("\n").contains("as its last one"));
    let mut rows = Rows { lines: rows.lines[..2].to_vec(), ..Rows::default() };
    rows.add(SINCE + 2, None, &Fact::ChainsAnchored { chains: Vec::new() });
    assert!(rows.problems(1).join("\n").contains("does not name chain 7"));
    assert_eq!(chain_of_row(Some(&ConnectionId::FIRST.to_string())).map(|chain| chain < 64), Some(true));
}
