//! The queue derived from the plan: who is due next. It remembers nothing that the plan does not say.

use crate::model::{ConnectionId, Timestamp};
use crate::plan::Item;
use std::collections::{BTreeSet, HashMap};

/// One item for each connection at most.
#[derive(Default)]
pub struct Queue {
    order: BTreeSet<(Timestamp, ConnectionId)>,
    items: HashMap<ConnectionId, Item>,
}

impl Queue {
    /// Takes a whole plan in place of everything before.
    pub fn replace(&mut self, plan: impl IntoIterator<Item = Item>) {
        self.order.clear();
        self.items.clear();
        for item in plan {
            self.put(item.connection, Some(item));
        }
    }

    /// Takes what the plan says of one connection in place of what it said before.
    pub fn put(&mut self, connection: ConnectionId, item: Option<Item>) {
        if let Some(before) = self.items.remove(&connection) {
            self.order.remove(&(before.due, connection));
        }
        if let Some(item) = item {
            self.order.insert((item.due, connection));
            self.items.insert(connection, item);
        }
    }

    /// The earliest item that is due at `now` and passes `free`; it leaves the queue.
    pub fn pop(&mut self, now: Timestamp, free: impl Fn(ConnectionId) -> bool) -> Option<Item> {
        let found = self.order.iter().take_while(|(due, _)| *due <= now).find(|(_, id)| free(*id)).copied()?;
        self.order.remove(&found);
        self.items.remove(&found.1)
    }

    /// When the next item is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Items that wait, due or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
