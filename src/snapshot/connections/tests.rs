//! Packed connections are the same connections.

use super::*;
use crate::model::Timestamp;
use crate::model::ledger::Entry;
use crate::snapshot::history::{history, id};
use crate::snapshot::{Checked, Snapshot};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The ids of the histories are of one partition. These have one for each connection.
fn spread(connection: ConnectionId) -> ConnectionId {
    let number = connection.0.as_u128();
    ConnectionId(uuid::Uuid::from_u128(number | number << 121))
}

fn spread_all(entries: Vec<Entry>) -> Vec<Entry> {
    entries.into_iter().map(|entry| Entry { connection: entry.connection.map(spread), ..entry }).collect()
}

fn owned<'a>(connections: impl Iterator<Item = (ConnectionId, ConnectionRef<'a>)>) -> Vec<(ConnectionId, Connection)> {
    connections.map(|(id, connection)| (id, connection.into_owned())).collect()
}

proptest! {
    /// Whatever is packed and unpacked while entries are applied, the snapshot is the one in which nothing is packed.
    #[test]
    fn packing_changes_nothing(
        entries in history(),
        turns in proptest::collection::vec((0..6_u8, any::<bool>(), 0..1_000_000_i64), 60),
    ) {
        let (mut plain, mut packed) = (Snapshot::default(), Snapshot::default());
        for (entry, (connection, packs, at)) in spread_all(entries).iter().zip(turns.iter().cycle()) {
            let this = spread(id(*connection));
            match packs {
                true => prop_assert!(packed.connections.pack(this.partition())),
                false => packed.unpack(this.partition()),
            }
            let checked = Checked { connection: this, at: Timestamp(*at), full_at: None, failures: 3, generation: 1 };
            for snapshot in [&mut plain, &mut packed] {
                snapshot.apply(entry);
                snapshot.apply_checked(&checked);
            }
            prop_assert_eq!(&plain, &packed);
            let namespaces: BTreeSet<String> = plain.connections.values().map(|known| known.namespace.to_string()).collect();
            prop_assert_eq!(plain.namespaces(), namespaces);
            prop_assert_eq!(plain.connections.len(), packed.connections.len());
            prop_assert_eq!(plain.connections.keys().collect::<Vec<_>>(), packed.connections.keys().collect::<Vec<_>>());
            for connection in 0..6 {
                let this = spread(id(connection));
                prop_assert_eq!(plain.connections.copy_of(&this), packed.connections.copy_of(&this));
                prop_assert_eq!(plain.connections.contains_key(&this), packed.connections.contains_key(&this));
                let after = |snapshot: &Snapshot| owned(snapshot.connections.after(Some(this)));
                prop_assert_eq!(after(&plain), after(&packed));
                let own = |snapshot: &Snapshot| owned(snapshot.connections.of(|id| id.partition() == this.partition()));
                prop_assert_eq!(own(&plain), own(&packed));
            }
        }
        prop_assert_eq!(plain.fold_digest(), packed.fold_digest());
    }

    /// A fold in which everything is packed from the beginning is the same one.
    #[test]
    fn a_packed_fold_is_the_same(entries in history(), packs_after in 1..20_usize) {
        let (entries, mut packed) = (spread_all(entries), Snapshot::packed());
        for (number, entry) in entries.iter().enumerate() {
            packed.apply_next(entry);
            if number % packs_after == 0 {
                packed.pack_open();
            }
        }
        packed.pack_open();
        prop_assert!(packed.connections.iter().all(|(_, found)| matches!(found, ConnectionRef::Unpacked(_))));
        prop_assert_eq!(packed, Snapshot::fold(&entries));
    }
}

#[test]
fn each_partition_is_packed_once_and_unpacked_whole() {
    let all: Vec<ConnectionId> =
        (0..1000_u32).map(|number| ConnectionId::derive("autonomy", "github", &[number.to_string()])).collect();
    let connection = || Box::new(Connection::new("autonomy".into(), "github".into(), Timestamp(1)));
    let mut connections: Connections = all.iter().map(|id| (*id, connection())).collect();
    let expected: BTreeSet<ConnectionId> = all.iter().copied().collect();
    for partition in (0..PARTITIONS).step_by(2) {
        assert!(connections.pack(partition) && connections.pack(partition), "{partition}");
    }
    assert_eq!(connections.packed.len(), PARTITIONS / 2);
    assert!(connections.keys().eq(expected.iter().copied()));
    assert_eq!(connections.values().count(), 1000);
    assert!(connections.iter().all(|(id, found)| matches!(found, ConnectionRef::Unpacked(_)) == (id.partition() % 2 == 0)));
    for partition in 0..PARTITIONS {
        connections.unpack(partition, |_| {});
    }
    assert!(connections.iter().all(|(_, found)| matches!(found, ConnectionRef::Whole(_))));
    assert!(connections.keys().eq(expected));
}
