//! How a snapshot saves memory: the connections of some partitions are packed, which nothing else notices. Pure.

use super::Snapshot;
use super::connections::Connections;
use crate::model::ledger::Entry;
use crate::model::{ConnectionId, Origin};
use std::sync::Arc;

/// At most this many connections are open at the same time while many entries are applied. Entries of one attempt follow each other
/// closely, so most of them find their connection open.
const MAX_OPEN: usize = 1024;

impl Snapshot {
    /// A snapshot of no entry in which the connections of all partitions are packed.
    #[must_use]
    pub fn packed() -> Snapshot {
        Snapshot { connections: Connections::packed(), ..Snapshot::default() }
    }

    /// Applies the next one of many entries. It costs less than [`Snapshot::apply`] if connections are packed, and
    /// [`Snapshot::pack_open`] must follow the last one.
    pub fn apply_next(&mut self, entry: &Entry) {
        self.apply_open(entry);
        if self.connections.count_open() >= MAX_OPEN {
            self.connections.pack_open();
        }
    }

    /// Gives back the memory that a fold used and that nothing uses any more.
    pub fn shrink(&mut self) {
        self.connections.shrink();
        self.interner.sweep();
    }

    /// Packs the connections that [`Snapshot::apply_next`] left open.
    pub fn pack_open(&mut self) {
        self.connections.pack_open();
    }

    /// Unpacks the connections of a partition, which share their texts with others again.
    pub fn unpack(&mut self, partition: usize) {
        let Snapshot { connections, desired_pairs, interner, .. } = self;
        let mut shared = |locator: &mut Option<Arc<str>>| *locator = locator.as_deref().map(|text| interner.intern(text));
        connections.unpack(partition, |connection| {
            shared(&mut connection.locator);
            for desired in &mut connection.origins {
                shared(&mut desired.locator);
                if let Some((known, _)) = desired_pairs.range(Snapshot::pairs_of(&desired.origin)).next() {
                    desired.origin = known.clone();
                }
            }
        });
    }

    /// Frees the small allocations that belong to a few connections each, calls `release`, which returns free memory to the system,
    /// and allocates them again. One of them keeps a whole page of memory from being returned.
    pub fn compact(&mut self, release: impl FnOnce()) {
        self.interner.sweep();
        let pairs: Vec<(Origin, ConnectionId)> = std::mem::take(&mut self.desired_pairs).into_iter().collect();
        release();
        self.desired_pairs = pairs.into_iter().collect();
    }
}
