//! Which connections wait for a credential, and which ones an outage holds, so that a change of one connection does not have to
//! look at all of them. It follows from the connections and is not stored. Pure.

use super::{Connection, Snapshot};
use crate::model::{ConnectionId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The connections by what they wait for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lookups {
    /// The locators of connections that wait for a credential, with the number of these connections.
    locators: BTreeMap<Arc<str>, usize>,
    /// The connections of each source type whose latest attempt failed because of an outage, with the time of their latest check.
    outages: BTreeMap<Arc<str>, BTreeSet<(Timestamp, ConnectionId)>>,
}

/// What one connection waits for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Waiting {
    locator: Option<Arc<str>>,
    outage: Option<(Arc<str>, Timestamp)>,
}

impl Waiting {
    fn new(known: &Connection) -> Waiting {
        let in_outage = known.retired.is_none() && known.in_outage();
        Waiting {
            locator: known.locator.clone().filter(|_| known.waits_for_credential()),
            outage: in_outage.then(|| (Arc::clone(&known.source_type), known.last_checked().unwrap_or_default())),
        }
    }
}

impl Lookups {
    /// Adds a connection that is not there yet.
    pub(super) fn add_connection(&mut self, id: ConnectionId, known: &Connection) {
        self.add(id, Waiting::new(known));
    }

    fn add(&mut self, id: ConnectionId, waiting: Waiting) {
        if let Some(locator) = waiting.locator {
            *self.locators.entry(locator).or_default() += 1;
        }
        if let Some((source_type, at)) = waiting.outage {
            self.outages.entry(source_type).or_default().insert((at, id));
        }
    }

    fn remove(&mut self, id: ConnectionId, waiting: &Waiting) {
        if let Some(locator) = &waiting.locator
            && let Some(count) = self.locators.get_mut(locator)
        {
            *count -= 1;
            if *count == 0 {
                self.locators.remove(locator);
            }
        }
        if let Some((source_type, at)) = &waiting.outage
            && let Some(held) = self.outages.get_mut(source_type)
        {
            held.remove(&(*at, id));
            if held.is_empty() {
                self.outages.remove(source_type);
            }
        }
    }
}

impl Snapshot {
    /// What the connection `id` waits for.
    pub(super) fn waiting(&self, id: Option<ConnectionId>) -> Waiting {
        id.and_then(|id| self.connections.get(&id)).map_or_else(Waiting::default, |known| Waiting::new(&known))
    }

    /// Updates the lookups after a change of the connection `id`. `before` is what it waited for before the change.
    pub(super) fn update_lookups(&mut self, id: Option<ConnectionId>, before: &Waiting) {
        let (Some(id), after) = (id, self.waiting(id)) else { return };
        if *before != after {
            self.lookups.remove(id, before);
            self.lookups.add(id, after);
        }
    }

    /// The locators of the connections that wait for a credential, each once.
    pub fn awaited_locators(&self) -> impl Iterator<Item = &str> {
        self.lookups.locators.keys().map(|locator| &**locator)
    }

    /// The connections of `source_type` whose latest attempt failed because of an outage, and that were not checked before `since`.
    pub fn in_outage_since(&self, source_type: &str, since: Timestamp) -> impl Iterator<Item = ConnectionId> {
        let held = self.lookups.outages.get(source_type).into_iter();
        held.flat_map(move |held| held.range((since, ConnectionId::FIRST)..)).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{history, id};
    use super::*;
    use crate::snapshot::Checked;
    use proptest::prelude::*;

    proptest! {
        /// Whatever happens, the lookups are those of the connections as they are.
        #[test]
        fn they_follow_every_change(entries in history(), checks in proptest::collection::vec((0..4_u8, 0..1_000_000_i64), 0..20)) {
            let mut snapshot = Snapshot::default();
            let mut checks = checks.into_iter();
            for entry in &entries {
                snapshot.apply(entry);
                if let Some((connection, at)) = checks.next() {
                    let full_at = None;
                    snapshot.apply_checked(&Checked { connection: id(connection), at: Timestamp(at), full_at, failures: 1, generation: 1 });
                }
                let mut expected = Lookups::default();
                snapshot.connections.iter().for_each(|(id, known)| expected.add_connection(id, &known));
                prop_assert_eq!(&snapshot.lookups, &expected);
            }
            let waiting: BTreeSet<Arc<str>> = snapshot
                .connections
                .values()
                .filter(|known| known.waits_for_credential())
                .filter_map(|known| known.locator.clone())
                .collect();
            prop_assert!(snapshot.awaited_locators().eq(waiting.iter().map(|locator| &**locator)));
        }
    }
}
