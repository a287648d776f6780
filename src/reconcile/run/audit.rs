//! Which connections a resync plans again, in case a change was missed.
//!
//! Changes are planned when they happen, so this finds nothing unless something is wrong. It must not cost more the more connections
//! there are: a resync takes the next ones of many, and after some of them each connection had its turn.

use super::Loop;
use crate::model::ConnectionId;

/// The number of connections that one resync plans again. A million connections have their turn in 25 minutes, if a resync comes
/// every 30 s.
const AUDITED: usize = 20_000;

impl Loop {
    /// Syncs, and plans connections again.
    pub(super) fn audit(&mut self) {
        self.resync = true;
        let snapshot = self.handle.registry.snapshot();
        if snapshot.connections.len() <= AUDITED {
            self.planned = None;
            return;
        }
        let next = turn(|last| snapshot.connections.keys_after(last), self.audited, AUDITED);
        self.audited = next.last().copied();
        self.replan_next.extend(next);
    }
}

/// The next `count` connections after `last`, or the first ones if none follows. `after` returns all that follow an id, in order.
fn turn<I: Iterator<Item = ConnectionId>>(
    after: impl Fn(Option<ConnectionId>) -> I,
    last: Option<ConnectionId>,
    count: usize,
) -> Vec<ConnectionId> {
    let next: Vec<ConnectionId> = after(last).take(count).collect();
    if next.is_empty() { after(None).take(count).collect() } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::history::id;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ops::Bound;

    /// The ids after `last`.
    fn after(ids: &BTreeSet<ConnectionId>, last: Option<ConnectionId>) -> impl Iterator<Item = ConnectionId> {
        ids.range((last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)).copied()
    }

    proptest! {
        /// Each connection has its turn once before any has it again.
        #[test]
        fn each_connection_has_its_turn(ids in proptest::collection::btree_set(0..200_u8, 1..60), count in 1..20_usize) {
            let connections: BTreeSet<ConnectionId> = ids.iter().map(|number| id(*number)).collect();
            let mut last = None;
            for _ in 0..3 {
                let mut seen = BTreeSet::new();
                for _ in 0..connections.len().div_ceil(count) {
                    let next = turn(|last| after(&connections, last), last, count);
                    prop_assert!(next.len() <= count);
                    last = next.last().copied();
                    prop_assert!(next.into_iter().all(|id| seen.insert(id)), "a connection came twice");
                }
                prop_assert_eq!(seen.len(), connections.len());
            }
        }

        /// Connections that come and go between two turns do not stop it.
        #[test]
        fn the_last_one_may_be_gone(ids in proptest::collection::btree_set(0..200_u8, 1..60), gone in 0..255_u8) {
            let connections: BTreeSet<ConnectionId> = ids.iter().map(|number| id(*number)).collect();
            prop_assert!(!turn(|last| after(&connections, last), Some(id(gone)), 5).is_empty());
        }
    }
}
