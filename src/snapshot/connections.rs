//! The connections of a snapshot by id. A replica keeps those of the partitions of others packed, so that the replicas of a database
//! divide the memory that connections need. Code that reads a connection does not see which form it has. Pure.

use super::Connection;
use super::stored::packed::{PackedPartition, Place};
use crate::model::{ConnectionId, PARTITIONS};
use std::collections::{BTreeMap, btree_map};
use std::ops::{Bound, Deref, RangeInclusive};

/// The connections by id.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Those of the partitions that are not packed. The values are boxed, because about a third of the slots of a B-tree node are
    /// empty.
    whole: BTreeMap<ConnectionId, Box<Connection>>,
    /// By the number of the partition.
    packed: BTreeMap<usize, PackedPartition>,
    /// Connections of packed partitions while entries change them. They replace the packed ones, and nothing may list the connections
    /// before they are packed again.
    open: BTreeMap<ConnectionId, Box<Connection>>,
}

/// A connection of a snapshot: a reference, or what a packed one held.
#[derive(Debug)]
pub enum ConnectionRef<'a> {
    Whole(&'a Connection),
    Unpacked(Box<Connection>),
}

impl ConnectionRef<'_> {
    /// A copy that does not need the snapshot.
    #[must_use]
    pub fn into_owned(self) -> Connection {
        match self {
            ConnectionRef::Whole(connection) => connection.clone(),
            ConnectionRef::Unpacked(connection) => *connection,
        }
    }
}

impl Deref for ConnectionRef<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            ConnectionRef::Whole(connection) => connection,
            ConnectionRef::Unpacked(connection) => connection,
        }
    }
}

impl Connections {
    /// No connections. All that are added get packed.
    #[must_use]
    pub fn packed() -> Connections {
        Connections {
            packed: (0..PARTITIONS).map(|partition| (partition, PackedPartition::default())).collect(),
            ..Connections::default()
        }
    }

    /// Whether the connections of the partition of `id` are packed.
    pub(super) fn packs(&self, id: ConnectionId) -> bool {
        self.packed.contains_key(&id.partition())
    }

    /// The connection `id`.
    #[must_use]
    pub fn get(&self, id: &ConnectionId) -> Option<ConnectionRef<'_>> {
        if let Some(open) = self.open.get(id) {
            return Some(ConnectionRef::Whole(open));
        }
        match self.packed.get(&id.partition()) {
            Some(partition) => partition.get(*id).map(ConnectionRef::Unpacked),
            None => self.whole.get(id).map(|connection| ConnectionRef::Whole(connection)),
        }
    }

    /// A copy of the connection `id`.
    #[must_use]
    pub fn copy_of(&self, id: &ConnectionId) -> Option<Connection> {
        self.get(id).map(ConnectionRef::into_owned)
    }

    /// Whether the connection `id` is known.
    #[must_use]
    pub fn contains_key(&self, id: &ConnectionId) -> bool {
        if self.open.contains_key(id) {
            return true;
        }
        match self.packed.get(&id.partition()) {
            Some(partition) => partition.contains(*id),
            None => self.whole.contains_key(id),
        }
    }

    /// The number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        debug_assert!(self.open.is_empty(), "connections are open");
        self.whole.len() + self.packed.values().map(PackedPartition::len).sum::<usize>()
    }

    /// Whether no connection is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All connections, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, ConnectionRef<'_>)> {
        self.after(None)
    }

    /// The connections after the id `after`, in order of id.
    pub fn after(&self, after: Option<ConnectionId>) -> impl Iterator<Item = (ConnectionId, ConnectionRef<'_>)> {
        self.slots(after).filter_map(|(id, slot)| Some((id, slot.connection()?)))
    }

    /// The connections whose ids are `wanted`, in order of id. The others are not unpacked.
    pub fn of(&self, wanted: impl Fn(ConnectionId) -> bool) -> impl Iterator<Item = (ConnectionId, ConnectionRef<'_>)> {
        let wanted = self.slots(None).filter(move |(id, _)| wanted(*id));
        wanted.filter_map(|(id, slot)| Some((id, slot.connection()?)))
    }

    /// All connections, in order of id.
    pub fn values(&self) -> impl Iterator<Item = ConnectionRef<'_>> {
        self.iter().map(|(_, connection)| connection)
    }

    /// All ids, in order.
    pub fn keys(&self) -> impl Iterator<Item = ConnectionId> {
        self.keys_after(None)
    }

    /// The ids after `after`, in order.
    pub fn keys_after(&self, after: Option<ConnectionId>) -> impl Iterator<Item = ConnectionId> {
        self.slots(after).map(|(id, _)| id)
    }

    fn slots(&self, after: Option<ConnectionId>) -> Slots<'_> {
        debug_assert!(self.open.is_empty(), "connections are open");
        let all = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let (part, leading) = match self.packed.is_empty() {
            true => (Some(Part::Whole(self.whole.range(all))), None),
            false => (None, Some(after.map_or(0, leading)..=u8::MAX)),
        };
        Slots { connections: self, after, leading, part }
    }

    /// Adds or replaces a connection. It stays open if its partition is packed.
    pub fn insert(&mut self, id: ConnectionId, connection: Box<Connection>) {
        if self.packs(id) {
            self.open.insert(id, connection);
        } else {
            self.whole.insert(id, connection);
        }
    }

    /// Adds connections of partitions that are not packed, in order of id.
    pub(super) fn add_whole(&mut self, sorted: Vec<(ConnectionId, Box<Connection>)>) {
        if self.whole.is_empty() {
            self.whole = sorted.into_iter().collect();
        } else {
            self.whole.extend(sorted);
        }
    }

    /// Changes the connection `id`. Returns `None` if it is not known.
    pub(super) fn change<T>(&mut self, id: ConnectionId, change: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        self.open(Some(id));
        let connection = if self.packs(id) { self.open.get_mut(&id) } else { self.whole.get_mut(&id) };
        connection.map(|connection| change(connection))
    }

    /// Unpacks the connection `id` if it is packed, so that it can be changed several times.
    pub(super) fn open(&mut self, id: Option<ConnectionId>) {
        let Some(id) = id.filter(|id| !self.open.contains_key(id)) else { return };
        if let Some(connection) = self.packed.get(&id.partition()).and_then(|partition| partition.get(id)) {
            self.open.insert(id, connection);
        }
    }

    /// The number of connections that are open.
    pub(super) fn count_open(&self) -> usize {
        self.open.len()
    }

    /// Packs the connections that are open.
    pub(super) fn pack_open(&mut self) {
        while let Some((id, connection)) = self.open.pop_first() {
            let partition = id.partition();
            if !self.packed.get_mut(&partition).is_some_and(|packed| packed.insert(id, &connection)) {
                self.unpack(partition, |_| {});
                self.whole.insert(id, connection);
            }
        }
    }

    /// Packs the connections of a partition. Returns false if that is not possible; they stay as they are then.
    pub fn pack(&mut self, partition: usize) -> bool {
        if self.packed.contains_key(&partition) {
            return true;
        }
        let of_partition = |leading: &u8| usize::from(*leading) % PARTITIONS == partition;
        let ids: Vec<ConnectionId> = (0..=u8::MAX)
            .filter(of_partition)
            .flat_map(|leading| self.whole.range(bounds(leading, None)).map(|(id, _)| *id))
            .collect();
        let mut packed = PackedPartition::default();
        let fits = ids.iter().all(|id| self.whole.get(id).is_some_and(|connection| packed.insert(*id, connection)));
        if fits {
            ids.iter().for_each(|id| drop(self.whole.remove(id)));
            packed.shrink();
            self.packed.insert(partition, packed);
        }
        fits
    }

    /// Gives back the memory of packed connections that is not used.
    pub(super) fn shrink(&mut self) {
        self.packed.values_mut().for_each(PackedPartition::shrink);
    }

    /// Unpacks the connections of a partition. `share` may replace texts by equal ones that others have, too.
    pub(super) fn unpack(&mut self, partition: usize, mut share: impl FnMut(&mut Connection)) {
        if let Some(packed) = self.packed.remove(&partition) {
            self.whole.extend(packed.into_connections().map(|(id, mut connection)| {
                share(&mut connection);
                (id, connection)
            }));
        }
    }

    #[cfg(test)]
    pub fn clear(&mut self) {
        *self = Connections::default();
    }
}

/// The form of the connections does not affect the state.
impl PartialEq for Connections {
    fn eq(&self, other: &Connections) -> bool {
        let same = |((id, one), (other_id, other)): ((ConnectionId, ConnectionRef<'_>), (ConnectionId, ConnectionRef<'_>))| {
            id == other_id && *one == *other
        };
        self.len() == other.len() && self.iter().zip(other.iter()).all(same)
    }
}

impl FromIterator<(ConnectionId, Box<Connection>)> for Connections {
    fn from_iter<I: IntoIterator<Item = (ConnectionId, Box<Connection>)>>(connections: I) -> Connections {
        Connections { whole: connections.into_iter().collect(), ..Connections::default() }
    }
}

/// For tests that know that a connection is there and not packed.
#[cfg(test)]
impl std::ops::Index<&ConnectionId> for Connections {
    type Output = Connection;

    fn index(&self, id: &ConnectionId) -> &Connection {
        &self.whole[id]
    }
}

/// The first byte of an id. It determines the partition.
fn leading(id: ConnectionId) -> u8 {
    id.0.as_bytes().first().copied().unwrap_or_default()
}

/// The range of the ids that begin with the byte `first` and come after `after`.
fn bounds(first: u8, after: Option<ConnectionId>) -> (Bound<ConnectionId>, Bound<ConnectionId>) {
    let (mut least, mut greatest) = ([0; 16], [u8::MAX; 16]);
    (least[0], greatest[0]) = (first, first);
    let id = |bytes| ConnectionId(uuid::Uuid::from_bytes(bytes));
    let after = after.filter(|after| leading(*after) == first);
    (after.map_or(Bound::Included(id(least)), Bound::Excluded), Bound::Included(id(greatest)))
}

/// A connection as it is kept.
enum Slot<'a> {
    Whole(&'a Connection),
    Packed(&'a PackedPartition, &'a Place),
}

impl<'a> Slot<'a> {
    fn connection(self) -> Option<ConnectionRef<'a>> {
        match self {
            Slot::Whole(connection) => Some(ConnectionRef::Whole(connection)),
            Slot::Packed(partition, place) => partition.unpacked(place).map(ConnectionRef::Unpacked),
        }
    }
}

/// A part of the connections in which all have the same form.
enum Part<'a> {
    Whole(btree_map::Range<'a, ConnectionId, Box<Connection>>),
    Packed(&'a PackedPartition, std::slice::Iter<'a, Place>),
}

impl<'a> Part<'a> {
    fn next(&mut self) -> Option<(ConnectionId, Slot<'a>)> {
        match self {
            Part::Whole(part) => part.next().map(|(id, connection)| (*id, Slot::Whole(connection))),
            Part::Packed(partition, part) => part.next().map(|place| (place.id, Slot::Packed(partition, place))),
        }
    }
}

/// All connections in order of id. Those with the same first byte are of one partition, so they have the same form.
struct Slots<'a> {
    connections: &'a Connections,
    after: Option<ConnectionId>,
    /// The first bytes that are left. `None` if one part has all connections.
    leading: Option<RangeInclusive<u8>>,
    part: Option<Part<'a>>,
}

impl<'a> Iterator for Slots<'a> {
    type Item = (ConnectionId, Slot<'a>);

    fn next(&mut self) -> Option<(ConnectionId, Slot<'a>)> {
        loop {
            if let Some(found) = self.part.as_mut().and_then(Part::next) {
                return Some(found);
            }
            let first = self.leading.as_mut()?.next()?;
            let bounds = bounds(first, self.after);
            let partition = self.connections.packed.get(&(usize::from(first) % PARTITIONS));
            self.part = Some(match partition {
                Some(partition) => Part::Packed(partition, partition.range(bounds).iter()),
                None => Part::Whole(self.connections.whole.range(bounds)),
            });
        }
    }
}

#[cfg(test)]
mod tests;
