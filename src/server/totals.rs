//! How many connections the lists of connections have. Each page of a list says it, and counting visits all connections, so a client
//! that reads all pages of a large registry would make AAM count as often as there are pages.

use super::read::ConnectionFilter;
use crate::model::Timestamp;
use crate::snapshot::Snapshot;
use std::sync::{Mutex, PoisonError};

/// The number of lists whose totals are kept.
const MAX_LISTS: usize = 16;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of matches on all pages.
    pub total: usize,
    /// How many of them passed the health step of their latest conclusive attempt.
    pub healthy: usize,
}

/// The totals of the lists that were counted last, oldest first.
#[derive(Debug, Default)]
pub struct ListTotals(Mutex<Vec<(ConnectionFilter, AsOf, Totals)>>);

/// What the totals of a list depend on: the entries that were applied, and the second, because the time of a check that found nothing
/// new is not an entry.
type AsOf = (u64, i64);

impl ListTotals {
    /// Counts the connections that match `filter` on all pages, unless they were counted in the same second and nothing changed.
    pub fn count(&self, snapshot: &Snapshot, filter: &ConnectionFilter, now: Timestamp) -> Totals {
        let as_of = (snapshot.revision, now.0.div_euclid(1000));
        let list = ConnectionFilter { limit: 0, after: None, ..filter.clone() };
        let known = |lists: &[(ConnectionFilter, AsOf, Totals)]| {
            lists.iter().find(|(known, at, _)| *known == list && *at == as_of).map(|(_, _, totals)| *totals)
        };
        if let Some(totals) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return totals;
        }
        let mut totals = Totals::default();
        for connection in snapshot.connections.values().filter(|connection| filter.matches(connection)) {
            totals.total += 1;
            totals.healthy += usize::from(connection.is_healthy());
        }
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|(known, _, _)| *known != list);
        if lists.len() >= MAX_LISTS {
            lists.remove(0);
        }
        lists.push((list, as_of, totals));
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::history;
    use proptest::prelude::*;

    fn filter(namespace: &str, limit: usize) -> ConnectionFilter {
        ConnectionFilter { namespace: namespace.to_string(), state: None, source_type: None, since: None, limit, after: None }
    }

    proptest! {
        /// Whatever was counted before, the totals are those of the newest snapshot, and they are kept for the pages of a second.
        #[test]
        fn totals_are_those_of_the_newest_snapshot(entries in history::history()) {
            let (totals, mut snapshot, now) = (ListTotals::default(), Snapshot::default(), Timestamp(1_000));
            for entry in entries {
                snapshot.apply(&entry);
                for connection in 0..4 {
                    let list = filter(history::namespace(connection), 5);
                    let counted = ListTotals::default().count(&snapshot, &list, now);
                    prop_assert_eq!(totals.count(&snapshot, &list, now), counted);
                }
            }
            let lists: Vec<ConnectionFilter> = (0..4).map(|connection| filter(history::namespace(connection), 9)).collect();
            let before: Vec<Totals> = lists.iter().map(|list| totals.count(&snapshot, list, now)).collect();
            snapshot.connections.clear();
            for (list, before) in lists.iter().zip(before) {
                prop_assert_eq!(totals.count(&snapshot, list, now), before, "a page of the same second");
            }
            for list in &lists {
                prop_assert_eq!(totals.count(&snapshot, list, Timestamp(2_000)), Totals::default(), "a page of the next second");
            }
        }
    }

    #[test]
    fn the_number_of_kept_lists_is_bounded() {
        let totals = ListTotals::default();
        for number in 0..100 {
            totals.count(&Snapshot::default(), &filter(&number.to_string(), 5), Timestamp(0));
        }
        assert_eq!(totals.0.lock().unwrap().len(), MAX_LISTS);
    }
}
