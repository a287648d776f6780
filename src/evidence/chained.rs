//! Verifies the content of a bundle of a registry in PostgreSQL, which has several chains.

use super::chained_calls::ChainedCalls;
use super::chained_ledger::{ChainedLedger, DroppedCalls};
use super::chains::{ExpectedHead, read_lines};
use super::files::BundleFiles;
use super::{CALLS, ChainsBody, LEDGER, MANIFEST, Manifest, POLICIES, Parts};
use crate::model::Timestamp;
use crate::registry::{CallBatch, LedgerHead, LedgerLine};
use serde::Serialize;
use std::path::Path;

/// The last anchor of a bundle, which names the last row of each chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastAnchor {
    /// The number of its row. `None` if the bundle does not have an anchor.
    pub row: Option<u64>,
    /// The rows after it. Only the manifest says that none of them is missing.
    pub rows_after: u64,
}

/// The chains of a bundle, as far as they were verified.
pub struct ChainedBundle {
    pub ledger: ChainedLedger,
    pub calls: ChainedCalls,
    /// The row after those of the bundle that says that calls were dropped, according to the manifest only.
    pub dropped_by_later_row: Option<u64>,
}

impl ChainedBundle {
    /// Verifies the chains in those files whose checksum is right.
    pub fn check(folder: &Path, manifest: &Manifest, files: &BundleFiles, problems: &mut Vec<String>) -> ChainedBundle {
        let before = problems.len();
        let (since, until) = match (Timestamp::parse(&manifest.since), Timestamp::parse(&manifest.until)) {
            (Ok(since), Ok(until)) => (since, until),
            (Err(error), _) | (_, Err(error)) => {
                problems.push(format!("the period of {MANIFEST} is not valid: {error}"));
                (Timestamp(i64::MIN), Timestamp(i64::MAX))
            }
        };
        let (mut ledger, mut calls) = (ChainedLedger::new(since, until), ChainedCalls::new(since, until));
        let mut are_whole = true;
        if files.is_intact(LEDGER) {
            are_whole &= read_lines(folder, LEDGER, problems, |line: LedgerLine| ledger.take(&line));
        }
        if files.is_intact(CALLS) {
            are_whole &= read_lines(folder, CALLS, problems, |batch: CallBatch| calls.take(&batch));
        }
        let mut bundle = ChainedBundle { ledger, calls, dropped_by_later_row: None };
        // After a break, what follows it is not known.
        if are_whole && problems.len() == before && files.is_intact(LEDGER) {
            bundle.check_whole(manifest, files, problems);
        }
        bundle
    }

    fn check_whole(&mut self, manifest: &Manifest, files: &BundleFiles, problems: &mut Vec<String>) {
        let nothing = ChainsBody::default();
        let chains = manifest.chains.as_ref().unwrap_or(&nothing);
        check_parts(LEDGER, &self.ledger.parts, &chains.ledger, problems);
        self.check_end(manifest, problems);
        self.add_dropped(manifest, problems);
        if files.is_intact(CALLS) {
            check_parts(CALLS, &self.calls.parts, &chains.calls, problems);
            self.dropped_by_later_row = self.calls.compare(&self.ledger, problems);
        }
        for (row, digest) in &self.ledger.policies {
            let name = format!("{POLICIES}/{digest}.yaml");
            if !files.is_listed(&name) {
                problems.push(format!("{name} is missing: row {row} of {LEDGER} accepted this policy"));
            }
        }
    }

    /// The rows end with the anchor after the period, or else with the head in the manifest.
    fn check_end(&self, manifest: &Manifest, problems: &mut Vec<String>) {
        let (head, found) = (&manifest.head, self.ledger.head());
        let (last, hash, _) = found.unwrap_or_default();
        if last == head.seq && (found.is_none() || hash == head.hash) {
            return;
        }
        if last == head.seq {
            problems.push(format!(
                "row {last} of {LEDGER} has the hash {hash}, and {MANIFEST} names {} as the hash of this row, the head",
                head.hash
            ));
        } else if last > head.seq {
            problems.push(format!(
                "chain 0 of {LEDGER} goes on until row {last}, and {MANIFEST} names row {} as the last one",
                head.seq
            ));
        } else if !self.ledger.is_closed() {
            problems.push(format!(
                "chain 0 of {LEDGER} ends at row {last}, which is not an anchor after the period, and {MANIFEST} names row {} as the head: its end is missing",
                head.seq
            ));
        }
    }

    /// Adds what the manifest says about dropped calls to what the rows say.
    fn add_dropped(&mut self, manifest: &Manifest, problems: &mut Vec<String>) {
        let Some(named) = &manifest.calls_dropped else { return };
        let before = match Timestamp::parse(&named.before) {
            Ok(before) => before,
            Err(error) => return problems.push(format!("calls_dropped.before of {MANIFEST} is not a time: {error}")),
        };
        let known = self
            .ledger
            .dropped
            .iter()
            .any(|dropped| dropped.seq == named.seq && dropped.ends == named.chains && dropped.before == before);
        if known {
            return;
        }
        // An entry before the period dropped only calls from before it.
        if named.seq <= self.ledger.bounds().1 && !self.ledger.is_before_period(named.seq, before) {
            return problems.push(format!(
                "{MANIFEST} says that row {} dropped the calls up to batch {}, and {LEDGER} does not have such a row",
                named.seq, named.batch
            ));
        }
        self.ledger.dropped.push(DroppedCalls { seq: named.seq, ends: named.chains.clone(), before });
    }

    /// Compares a head that was kept elsewhere with the rows, or with the head in the manifest if it is after all rows.
    pub fn compare(&self, expected: LedgerHead, manifest: &Manifest) -> ExpectedHead {
        let (first, last) = self.ledger.bounds();
        match self.ledger.rows.get(&expected.seq) {
            Some(row) if row.hash == expected.hash => ExpectedHead::Matches,
            Some(_) => ExpectedHead::Differs,
            None if expected.seq != manifest.head.seq => ExpectedHead::Outside { first, last },
            None if expected.hash == manifest.head.hash => ExpectedHead::Named,
            None => ExpectedHead::Differs,
        }
    }
}

fn check_parts(name: &str, found: &Parts, expected: &[super::PartBody], problems: &mut Vec<String>) {
    let found = found.list();
    if found == expected {
        return;
    }
    let other = found.iter().find(|part| !expected.contains(part)).or(expected.iter().find(|part| !found.contains(part)));
    let chain = other.map_or(0, |part| part.chain);
    problems.push(format!("chain {chain} of {name} does not begin and end where {MANIFEST} says"));
}
