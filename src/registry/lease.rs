//! Which partitions a replica has: rows in PostgreSQL with a holder, a fencing number and an end by the clock of the database.
//!
//! Whoever begins or ends an attempt has the partition of its connection, and each such transaction locks the row of the lease and
//! compares its fencing number. So a process that was stopped or lost its database for longer than a lease can finish nothing
//! afterwards, whatever its own clock says. The partitions are divided evenly among the replicas that run.

use super::RegistryError;
use crate::model::ConnectionId;
pub(super) use crate::model::PARTITIONS;
use sqlstore::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a lease lasts without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How often the leases are renewed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often a replica that has less than its share looks for free partitions.
const LOOK: Duration = Duration::from_secs(1);

/// A set of partitions. The chain of a ledger in PostgreSQL has the number of its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partitions(u64);

impl Partitions {
    /// All partitions, which is what the only process on an SQLite file has.
    pub const ALL: Partitions = Partitions(u64::MAX);
    /// The partition of the facts of the whole registry. Its holder is the leader of the replicas.
    pub const GLOBAL: Partitions = Partitions(1);

    /// The partitions that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Partitions) -> Partitions {
        Partitions(self.0 & other.0)
    }

    /// Whether the partition of `connection` is in the set.
    #[must_use]
    pub fn has(self, connection: ConnectionId) -> bool {
        self.contains(connection.partition())
    }

    /// Whether partition `number` is in the set.
    #[must_use]
    pub fn contains(self, number: usize) -> bool {
        number < PARTITIONS && self.0 & (1 << number) != 0
    }

    /// The number of partitions in the set.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers of the partitions, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..PARTITIONS).filter(move |number| self.contains(*number))
    }

    /// The partitions that are in one of both sets.
    #[must_use]
    pub fn union(self, other: Partitions) -> Partitions {
        Partitions(self.0 | other.0)
    }

    /// The partitions that are not in `other`.
    #[must_use]
    pub fn without(self, other: Partitions) -> Partitions {
        Partitions(self.0 & !other.0)
    }
}

impl FromIterator<usize> for Partitions {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Partitions {
        Partitions(numbers.into_iter().filter(|number| *number < PARTITIONS).fold(0, |bits, number| bits | 1 << number))
    }
}

impl FromIterator<ConnectionId> for Partitions {
    fn from_iter<I: IntoIterator<Item = ConnectionId>>(connections: I) -> Partitions {
        connections.into_iter().map(ConnectionId::partition).collect()
    }
}

/// What a replica says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplicaFacts {
    /// Names this process among all that use the database.
    pub(super) name: String,
    /// Where it listens. Empty if it does not.
    pub(super) address: String,
    /// The digest of the policy file that it read last.
    pub(super) policy: String,
}

/// The leases that this process holds.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) facts: ReplicaFacts,
    /// The fencing number of each partition.
    fences: BTreeMap<usize, i64>,
    /// Partitions that go to others as soon as their attempts have ended. None begins in them any more.
    leaving: BTreeSet<usize>,
    /// The number of replicas that run.
    living: usize,
    /// When the renewal was asked for that the database confirmed last. The leases last at least [`LEASE`] from then.
    renewed: Instant,
    looked: Instant,
}

/// What a look at the leases changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseChange {
    /// Partitions that this process took.
    pub(super) taken: Partitions,
    /// Partitions that another process took, because this one did not renew them in time.
    pub(super) lost: Partitions,
}

/// The row of a lease that a transaction has locked.
#[derive(Clone, Debug)]
pub(super) struct LockedLease {
    pub(super) holder: String,
    pub(super) fence: i64,
    pub(super) is_valid: bool,
}

impl Leases {
    /// Registers the process, which has no partition yet.
    ///
    /// # Errors
    /// If the database refuses it.
    pub(super) fn register(db: &Connection, name: String) -> Result<Leases, RegistryError> {
        let now = Instant::now();
        let mut leases = Leases {
            facts: ReplicaFacts { name, ..ReplicaFacts::default() },
            fences: BTreeMap::new(),
            leaving: BTreeSet::new(),
            living: 1,
            renewed: now,
            looked: now,
        };
        leases.renew(db)?;
        Ok(leases)
    }

    /// The partitions that this process has.
    pub(super) fn held(&self) -> Partitions {
        self.fences.keys().copied().collect()
    }

    /// The partitions in which attempts may begin.
    pub(super) fn open(&self) -> Partitions {
        self.fences.keys().copied().filter(|partition| !self.leaving.contains(partition)).collect()
    }

    /// Until when the leases last at least, by the monotonic clock.
    pub(super) fn last_until(&self) -> Instant {
        self.renewed + LEASE
    }

    /// Whether this process has the partition whose row was locked.
    pub(super) fn covers(&self, partition: usize, locked: &LockedLease) -> bool {
        locked.is_valid && locked.holder == self.facts.name && self.fences.get(&partition) == Some(&locked.fence)
    }

    /// Renews the leases if it is time, takes free partitions up to the share of this process, and marks those that it has above
    /// its share. Runs outside of a transaction.
    ///
    /// # Errors
    /// If the database cannot be asked. Nothing is given up because of that before the leases end.
    pub(super) fn keep(&mut self, db: &Connection) -> Result<LeaseChange, RegistryError> {
        let mut change = LeaseChange::default();
        if self.renewed.elapsed() >= RENEWAL {
            change.lost = self.renew(db)?;
        }
        let wanted = self.share().saturating_sub(self.fences.len());
        if wanted > 0 && self.leaving.is_empty() && self.looked.elapsed() >= LOOK {
            change.taken = self.take(db, wanted)?;
        }
        Ok(change)
    }

    /// The number of partitions of each replica, rounded up.
    fn share(&self) -> usize {
        PARTITIONS.div_ceil(self.living.max(1))
    }

    /// Extends the leases. Returns the partitions that another process has taken.
    pub(super) fn renew(&mut self, db: &Connection) -> Result<Partitions, RegistryError> {
        let asked = Instant::now();
        let facts = &self.facts;
        let version = env!("CARGO_PKG_VERSION");
        db.prepare_cached(include_str!("migrations/postgres/replica_seen.sql"))?.execute(params![
            facts.name,
            facts.address,
            version,
            facts.policy,
            lease_ms()
        ])?;
        let mut statement = db.prepare_cached(include_str!("migrations/postgres/lease_renew.sql"))?;
        let rows = statement.query_map(params![facts.name, self.fences_text(self.held()), lease_ms()], |row| row.get(0))?;
        let kept = rows.collect::<sqlstore::Result<BTreeSet<usize>>>()?;
        let lost = self.held().without(kept.iter().copied().collect());
        self.fences.retain(|partition, _| kept.contains(partition));
        // A replica that was killed leaves its row, which people can see for an hour.
        let living = "WITH gone AS (DELETE FROM replicas WHERE ends_at < clock_timestamp() - interval '1 hour')
                      SELECT count(*) FROM replicas WHERE ends_at > clock_timestamp()";
        self.living = db.prepare_cached(living)?.query_row([], |row| row.get(0))?;
        self.renewed = asked;
        let surplus = self.fences.len().saturating_sub(self.share());
        // The last ones, so that the leader stays the leader as long as it runs.
        self.leaving = self.fences.keys().rev().take(surplus).copied().collect();
        Ok(lost)
    }

    /// Takes up to `wanted` partitions that are free or whose holder did not renew them.
    pub(super) fn take(&mut self, db: &Connection, wanted: usize) -> Result<Partitions, RegistryError> {
        self.looked = Instant::now();
        let mut statement = db.prepare_cached(include_str!("migrations/postgres/lease_take.sql"))?;
        let facts = &self.facts;
        let rows = statement.query_map(params![facts.name, facts.address, lease_ms(), wanted], |row| {
            Ok((row.get::<_, usize>(0)?, row.get(1)?))
        })?;
        let taken = rows.collect::<sqlstore::Result<BTreeMap<usize, i64>>>()?;
        let numbers = taken.keys().copied().collect();
        self.fences.extend(taken);
        Ok(numbers)
    }

    /// Takes as many partitions as its share at once, when the process starts.
    pub(super) fn take_share(&mut self, db: &Connection) -> Result<Partitions, RegistryError> {
        self.take(db, self.share())
    }

    /// The partitions that wait for the end of their attempts to go to others.
    pub(super) fn leaving(&self) -> Partitions {
        self.leaving.iter().copied().collect()
    }

    /// Gives partitions back, so that another process can take them at once. The leases end by themselves if this fails.
    pub(super) fn release(&mut self, db: &Connection, partitions: Partitions) {
        let fences = self.fences_text(partitions);
        let released = db.prepare_cached(include_str!("migrations/postgres/lease_release.sql")).and_then(|mut statement| {
            statement
                .query_map(params![self.facts.name, fences], |row| row.get::<_, i64>(0))?
                .collect::<sqlstore::Result<Vec<i64>>>()
        });
        match released {
            Ok(_) => {
                self.fences.retain(|partition, _| !partitions.contains(*partition));
                self.leaving.retain(|partition| !partitions.contains(*partition));
            }
            Err(error) => tracing::debug!(target: "aam::registry", %error, "could not release the leases"),
        }
    }

    /// Gives everything back, because the process stops.
    pub(super) fn end(&mut self, db: &Connection) {
        self.release(db, self.held());
        if let Err(error) = db.execute("DELETE FROM replicas WHERE name = ?1", [&self.facts.name]) {
            tracing::debug!(target: "aam::registry", %error, "could not say that this replica ended");
        }
    }

    /// The fencing numbers as JSON.
    fn fences_text(&self, of: Partitions) -> String {
        let fences: serde_json::Map<String, serde_json::Value> = self
            .fences
            .iter()
            .filter(|(partition, _)| of.contains(**partition))
            .map(|(partition, fence)| (partition.to_string(), (*fence).into()))
            .collect();
        serde_json::Value::Object(fences).to_string()
    }
}

fn lease_ms() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_partitions_has_what_was_put_into_it() {
        let some: Partitions = [0_usize, 5, 63, 64].into_iter().collect();
        assert_eq!(some.iter().collect::<Vec<_>>(), [0, 5, 63], "64 is not a partition");
        assert!(some.contains(5) && !some.contains(6) && !some.contains(64));
        assert_eq!((some.len(), Partitions::ALL.len(), Partitions::default().is_empty()), (3, PARTITIONS, true));
        assert_eq!(
            some.without(Partitions::GLOBAL).union([1_usize].into_iter().collect()).iter().collect::<Vec<_>>(),
            [1, 5, 63]
        );
    }
}
