//! Connections as the records of a stored fold, in memory: a third of the size, and each reading decodes one.
//!
//! A record contains its own origins and locators, because most of them belong to one connection only. Texts and digests have numbers in the tables
//! of their partition. All records of a partition are one sequence of bytes, because small allocations between those of other
//! connections would keep the C library from returning memory. Records and tables are made anew when about half of them is not used
//! any more.

use super::super::Connection;
use super::super::connection::Rechecked;
use super::decode::{Own, Values};
use super::encode::Tables;
use super::records::StoredConnection;
use crate::model::ConnectionId;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::sync::Arc;

/// The tables are made anew when they have this many values more than twice those of the last time.
const SPARE_VALUES: usize = 256;
/// The records are made anew when more than half of the bytes, and this many, are unused.
const SPARE_BYTES: usize = 16 << 10;

/// A connection, its origins and its locators.
#[derive(Serialize, Deserialize)]
struct PackedConnection<'a> {
    #[serde(borrow)]
    origins: Vec<&'a str>,
    #[serde(borrow)]
    locators: Vec<&'a str>,
    stored: StoredConnection,
    /// What re-checks changed and the ledger does not have.
    rechecked: Option<Rechecked>,
}

/// Where the record of a connection is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub id: ConnectionId,
    start: u32,
    length: u32,
}

/// The connections of one partition.
#[derive(Clone, Debug, Default)]
pub struct PackedPartition {
    /// In order of id.
    places: Vec<Place>,
    bytes: Vec<u8>,
    /// How many of the bytes belong to no record any more.
    unused: usize,
    tables: Tables,
    values: Values,
    /// The number of values after the tables were made.
    values_at_first: usize,
    /// The last record, whose memory the next one uses.
    buffer: Vec<u8>,
}

impl PackedPartition {
    /// The number of connections.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The connections between two ids, in order of id.
    pub fn range(&self, (first, last): (Bound<ConnectionId>, Bound<ConnectionId>)) -> &[Place] {
        let start = self.places.partition_point(|place| match first {
            Bound::Included(first) => place.id < first,
            Bound::Excluded(first) => place.id <= first,
            Bound::Unbounded => false,
        });
        let end = self.places.partition_point(|place| match last {
            Bound::Included(last) => place.id <= last,
            Bound::Excluded(last) => place.id < last,
            Bound::Unbounded => true,
        });
        self.places.get(start..end).unwrap_or_default()
    }

    /// Whether the connection `id` is here.
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.find(id).is_ok()
    }

    /// The connection `id`.
    pub fn get(&self, id: ConnectionId) -> Option<Box<Connection>> {
        self.unpacked(self.places.get(self.find(id).ok()?)?)
    }

    /// The connection at a place of this partition. There is one, because each record was decoded once before it was kept.
    pub fn unpacked(&self, place: &Place) -> Option<Box<Connection>> {
        self.decode(self.record(place)?).ok().map(Box::new)
    }

    /// All connections, in order of id.
    pub fn into_connections(self) -> impl Iterator<Item = (ConnectionId, Box<Connection>)> {
        (0..self.places.len()).filter_map(move |number| {
            let place = self.places.get(number)?;
            Some((place.id, self.unpacked(place)?))
        })
    }

    /// Adds or replaces a connection. Returns false if its record would not be the same connection; the connections stay as they are
    /// then.
    pub fn insert(&mut self, id: ConnectionId, connection: &Connection) -> bool {
        let Ok(()) = self.encode(connection) else { return false };
        if !self.decode(&self.buffer).is_ok_and(|decoded| decoded == *connection) {
            return false;
        }
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u32::try_from(self.buffer.len())) else { return false };
        if self.bytes.capacity() < self.bytes.len() + self.buffer.len() {
            // Less than what a vector grows by itself, because most partitions change rarely.
            self.bytes.reserve_exact(self.buffer.len().max(self.bytes.len() / 8));
        }
        self.bytes.extend_from_slice(&self.buffer);
        let place = Place { id, start, length };
        match self.find(id) {
            Ok(number) => {
                if let Some(known) = self.places.get_mut(number) {
                    self.unused += known.length as usize;
                    *known = place;
                }
            }
            Err(number) => self.places.insert(number, place),
        }
        let has_spare_bytes = self.unused > SPARE_BYTES && self.unused > self.bytes.len() / 2;
        if has_spare_bytes || self.values.len() > 2 * self.values_at_first + SPARE_VALUES {
            self.renew();
        }
        true
    }

    /// Gives back the memory that is not used, and that later connections would use.
    pub fn shrink(&mut self) {
        if self.unused > 0 {
            self.renew();
        }
        self.places.shrink_to_fit();
        self.bytes.shrink_to_fit();
        self.buffer = Vec::new();
    }

    fn find(&self, id: ConnectionId) -> Result<usize, usize> {
        self.places.binary_search_by_key(&id, |place| place.id)
    }

    fn record(&self, place: &Place) -> Option<&[u8]> {
        let start = place.start as usize;
        self.bytes.get(start..start + place.length as usize)
    }

    /// Makes records and tables anew, without what is not used any more.
    fn renew(&mut self) {
        // The tables must not be made anew while they are.
        let mut renewed = PackedPartition { values_at_first: self.values.len(), ..PackedPartition::default() };
        renewed.places.reserve_exact(self.places.len());
        renewed.bytes.reserve_exact(self.bytes.len() - self.unused);
        let all = self.places.iter().all(|place| {
            let connection = self.unpacked(place);
            connection.is_some_and(|connection| renewed.insert(place.id, &connection))
        });
        if all {
            *self = renewed;
        }
        self.values_at_first = self.values.len();
        self.unused = 0;
    }

    /// Encodes a connection into the buffer.
    fn encode(&mut self, connection: &Connection) -> Result<(), String> {
        let stored = self.tables.connection(connection);
        let (origins, locators) = self.tables.take_own();
        self.values.define(&mut self.tables);
        let recorded = (stored.failures, connection.last.as_ref().map(|last| last.at), stored.checked_full);
        let rechecked = Some(connection.rechecked()).filter(|found| *found != recorded);
        let packed = PackedConnection {
            origins: origins.iter().map(|origin| &**origin).collect(),
            locators: locators.iter().map(|locator| &**locator).collect(),
            stored,
            rechecked,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.buffer = postcard::to_extend(&packed, buffer).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn decode(&self, record: &[u8]) -> Result<Connection, String> {
        let packed: PackedConnection<'_> = postcard::from_bytes(record).map_err(|error| error.to_string())?;
        let [origins, locators] =
            [packed.origins, packed.locators].map(|own| own.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>());
        let mut connection = self.values.connection(Own { origins: &origins, locators: &locators }, packed.stored)?;
        if let Some(rechecked) = packed.rechecked {
            (connection.failures, connection.checked, connection.checked_full) = rechecked;
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::snapshot::Snapshot;
    use crate::snapshot::history::{history, id};
    use proptest::prelude::*;

    proptest! {
        // Each case packs thousands of times.
        #![proptest_config(ProptestConfig::with_cases(8))]
        /// The tables do not grow with the number of texts that were ever used.
        #[test]
        fn unused_values_are_dropped(entries in history(), changes in 1000..1500_u32) {
            let snapshot = Snapshot::fold(&entries);
            let mut partition = PackedPartition::default();
            for (known, connection) in snapshot.connections.iter() {
                let mut connection = connection.into_owned();
                for change in 0..changes {
                    connection.source_type = format!("family_{change}").into();
                    prop_assert!(partition.insert(known, &connection));
                }
                prop_assert_eq!(partition.get(known), Some(Box::new(connection)));
            }
            prop_assert!(partition.values.len() <= 2 * SPARE_VALUES, "{} values", partition.values.len());
            prop_assert!(partition.bytes.len() <= 2 * SPARE_BYTES + 12 * 1024, "{} bytes", partition.bytes.len());
            let all = partition.len();
            prop_assert_eq!(partition.into_connections().count(), all);
        }
    }

    #[test]
    fn a_text_of_many_connections_is_kept_once() {
        let connection = Connection::new("autonomy".into(), "github".into(), Timestamp(1));
        let mut partition = PackedPartition::default();
        for number in 0..200 {
            assert!(partition.insert(id(number), &connection));
        }
        assert_eq!(partition.values.len(), 2);
        let (first, last) = (partition.get(id(0)).unwrap(), partition.get(id(199)).unwrap());
        assert!(Arc::ptr_eq(&first.namespace, &last.namespace));
    }
}
