//! The queue derived from the plan: who is due next. It remembers nothing that the plan does not say.

use crate::model::ledger::Why;
use crate::model::{ConnectionId, Scope, Timestamp};
use crate::plan::Item;
use std::collections::{BTreeMap, HashMap};

/// One item for each connection at most.
#[derive(Default)]
pub struct Queue {
    order: BTreeMap<(Timestamp, ConnectionId), (Why, Scope)>,
    due: HashMap<ConnectionId, Timestamp>,
}

impl Queue {
    /// Takes a whole plan in place of everything before.
    pub fn replace(&mut self, plan: impl IntoIterator<Item = Item>) {
        self.order = plan.into_iter().map(|item| ((item.due, item.connection), (item.why, item.scope))).collect();
        self.due = self.order.keys().map(|(due, connection)| (*connection, *due)).collect();
    }

    /// Takes what the plan says of one connection in place of what it said before.
    pub fn put(&mut self, connection: ConnectionId, item: Option<Item>) {
        if let Some(before) = self.due.remove(&connection) {
            self.order.remove(&(before, connection));
        }
        if let Some(item) = item {
            self.order.insert((item.due, connection), (item.why, item.scope));
            self.due.insert(connection, item.due);
        }
    }

    /// The earliest item that is due at `now` and passes `free`; it leaves the queue.
    pub fn pop(&mut self, now: Timestamp, free: impl Fn(ConnectionId) -> bool) -> Option<Item> {
        let (due, connection) = self.order.keys().take_while(|(due, _)| *due <= now).find(|(_, id)| free(*id)).copied()?;
        self.due.remove(&connection);
        let (why, scope) = self.order.remove(&(due, connection))?;
        Some(Item { connection, why, scope, due })
    }

    /// When the next item is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.order.first_key_value().map(|((due, _), _)| *due)
    }

    /// Items that wait, due or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}
