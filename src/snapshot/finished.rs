//! How a finished attempt changes a connection. Pure.

use super::{Attempt, Connection};
use crate::model::ledger::{Entry, Finished};
use crate::model::{Scope, Timestamp};
use std::sync::Arc;

/// What the ledger alone says of the two values that a re-check changes without an entry, see
/// [`Snapshot::apply_checked`](super::Snapshot::apply_checked). A stored fold holds these, so that it is exactly the fold of
/// the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Recorded {
    pub failures: u32,
    pub checked_full: Option<Timestamp>,
}

impl Connection {
    pub(super) fn finish(&mut self, entry: &Entry, facts: Finished) {
        let same_inputs =
            self.last.as_ref().is_some_and(|last| last.facts.generation == facts.generation && last.facts.slice == facts.slice);
        let failures = |before: u32| match facts.class {
            None => 0,
            Some(_) if same_inputs => before.saturating_add(1),
            Some(_) => 1,
        };
        self.failures = failures(self.failures);
        self.recorded.failures = failures(self.recorded.failures);
        if facts.generation == self.generation {
            self.superseded = None;
        }
        let (class, full) = (facts.class, facts.scope == Scope::Full);
        let attempt = Arc::new(Attempt { seq: entry.seq, at: entry.at, facts });
        if class.is_none_or(|class| class.conclusive()) {
            self.conclusive = Some(Arc::clone(&attempt));
        }
        if class.is_none() && full {
            self.proven = Some(Arc::clone(&attempt));
        }
        self.begun = None;
        self.checked = Some(entry.at);
        if full {
            self.checked_full = Some(entry.at);
            self.recorded.checked_full = Some(entry.at);
        }
        self.last = Some(attempt);
    }
}
