//! The attempts of the plan, ordered by when they are due. The queue holds nothing that is not in the plan.

use crate::model::ledger::Why;
use crate::model::{ConnectionId, Scope, Timestamp};
use crate::plan::PlanItem;
use std::collections::BTreeMap;

/// A queue with at most one item per connection.
#[derive(Default)]
pub struct Queue {
    order: BTreeMap<(Timestamp, ConnectionId), (Why, Scope)>,
    /// Sorted, because a hash table of a million items keeps room for another million.
    due: BTreeMap<ConnectionId, Timestamp>,
}

impl Queue {
    /// Replaces all items by those of `plan`.
    pub fn replace(&mut self, plan: impl IntoIterator<Item = PlanItem>) {
        // The old items are freed first, so that a plan of 100,000 connections is not held in memory twice.
        *self = Queue::default();
        self.order = plan.into_iter().map(|item| ((item.due, item.connection), (item.why, item.scope))).collect();
        self.due = self.order.keys().map(|(due, connection)| (*connection, *due)).collect();
    }

    /// Replaces the item of one connection. `None` removes it.
    pub fn put(&mut self, connection: ConnectionId, item: Option<PlanItem>) {
        if let Some(before) = self.due.remove(&connection) {
            self.order.remove(&(before, connection));
        }
        if let Some(item) = item {
            self.order.insert((item.due, connection), (item.why, item.scope));
            self.due.insert(connection, item.due);
        }
    }

    /// Removes and returns the earliest item that is due at `now` and whose connection passes `free`.
    pub fn pop(&mut self, now: Timestamp, free: impl Fn(ConnectionId) -> bool) -> Option<PlanItem> {
        let (due, connection) = self.order.keys().take_while(|(due, _)| *due <= now).find(|(_, id)| free(*id)).copied()?;
        self.due.remove(&connection);
        let (why, scope) = self.order.remove(&(due, connection))?;
        Some(PlanItem { connection, why, scope, due })
    }

    /// When the next item is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.order.first_key_value().map(|((due, _), _)| *due)
    }

    /// When the next item is due that is not due at `then`.
    #[must_use]
    pub fn next_due_after(&self, then: Timestamp) -> Option<Timestamp> {
        self.order.range((then, ConnectionId::LAST)..).map(|((due, _), _)| *due).find(|due| *due > then)
    }

    /// Whether there is an item for `connection`, due or not.
    #[must_use]
    pub fn contains(&self, connection: ConnectionId) -> bool {
        self.due.contains_key(&connection)
    }

    /// The number of items, due or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;
    use crate::model::ledger::Why;
    use crate::snapshot::history::id;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn item(connection: u8, due: i64) -> PlanItem {
        PlanItem { connection: id(connection), why: Why::New, scope: Scope::Full, due: Timestamp(due) }
    }

    proptest! {
        /// Compares the queue with a plain map: at most one item per connection, the earliest first.
        #[test]
        fn it_is_a_map_ordered_by_due(puts in proptest::collection::vec((0..5_u8, proptest::option::of(0..50_i64)), 0..40), now in 0..60_i64, taken in 0..5_u8) {
            let (mut queue, mut map) = (Queue::default(), BTreeMap::new());
            for (connection, due) in puts {
                queue.put(id(connection), due.map(|due| item(connection, due)));
                match due {
                    Some(due) => map.insert(connection, due),
                    None => map.remove(&connection),
                };
            }
            prop_assert_eq!(queue.len(), map.len());
            prop_assert_eq!(queue.is_empty(), map.is_empty());
            prop_assert_eq!(queue.next_due(), map.values().min().map(|due| Timestamp(*due)));
            let mut order: Vec<(i64, u8)> = map.iter().map(|(connection, due)| (*due, *connection)).collect();
            order.retain(|(due, connection)| *due <= now && *connection != taken);
            order.sort_unstable();
            let later = map.values().filter(|due| **due > now).min();
            prop_assert_eq!(queue.next_due_after(Timestamp(now)), later.map(|due| Timestamp(*due)));
            let mut popped = Vec::new();
            while let Some(item) = queue.pop(Timestamp(now), |one| one != id(taken)) {
                popped.push(item);
            }
            prop_assert_eq!(popped, order.into_iter().map(|(due, connection)| item(connection, due)).collect::<Vec<_>>());
        }

        /// Replacing a plan by the same plan changes nothing, however often the loop is woken.
        #[test]
        fn replacing_again_changes_nothing(plan in proptest::collection::vec((0..9_u8, 0..50_i64), 0..20), wakes in 1..5_usize) {
            let plan: BTreeMap<u8, i64> = plan.into_iter().collect();
            let items = || plan.iter().map(|(connection, due)| item(*connection, *due));
            let (mut once, mut often) = (Queue::default(), Queue::default());
            once.replace(items());
            for _ in 0..wakes {
                often.replace(items());
            }
            while let Some(item) = once.pop(Timestamp(i64::MAX), |_| true) {
                prop_assert_eq!(often.pop(Timestamp(i64::MAX), |_| true), Some(item));
            }
            prop_assert!(often.is_empty());
        }
    }
}
