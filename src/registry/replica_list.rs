//! The replicas that run on a database, for people.

use super::lease::{PARTITIONS, Partitions};
use super::{Location, RegistryError, reader};
use serde::Serialize;
use std::collections::BTreeMap;

/// A replica that runs, or ran within the length of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedReplica {
    /// The name by which the database knows the process.
    pub name: String,
    /// Where it listens. Empty if it does not.
    pub address: String,
    /// The version of AAM.
    pub version: String,
    /// The digest of the policy file that it read last. Empty if it has not read one.
    pub policy: String,
    /// Whether it reads the intents folder and the policy for all.
    pub leads: bool,
    /// How many of the 64 partitions it has.
    pub partitions: usize,
    /// The milliseconds after which the others take its partitions, unless it renews them; 0 if that time is over.
    pub expires_in_ms: u64,
}

/// The replicas of a database and what none of them has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaList {
    /// By their name.
    pub replicas: Vec<ListedReplica>,
    /// The partitions that none of them has at the moment.
    pub free_partitions: usize,
}

/// Lists the replicas of a registry in a database.
///
/// # Errors
/// The errors of the database.
pub fn replicas(location: &Location) -> Result<ReplicaList, RegistryError> {
    let db = reader::connect(location, false)?;
    let mut held: BTreeMap<String, (usize, bool)> = BTreeMap::new();
    let mut leases =
        db.prepare("SELECT holder, partition FROM leases WHERE holder <> '' AND ends_at > clock_timestamp() ORDER BY partition")?;
    for row in leases.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, usize>(1)?)))? {
        let (holder, partition) = row?;
        let (count, leads) = held.entry(holder).or_default();
        *count += 1;
        *leads |= Partitions::GLOBAL.contains(partition);
    }
    let taken: usize = held.values().map(|(count, _)| count).sum();
    let mut statement = db.prepare(
        "SELECT name, address, version, policy,
           greatest(0, CAST(extract(epoch FROM ends_at - clock_timestamp()) * 1000 AS bigint))
         FROM replicas ORDER BY name",
    )?;
    let replicas = statement.query_map([], |row| {
        let name: String = row.get(0)?;
        let (partitions, leads) = held.get(&name).copied().unwrap_or_default();
        Ok(ListedReplica {
            name,
            address: row.get(1)?,
            version: row.get(2)?,
            policy: row.get(3)?,
            leads,
            partitions,
            expires_in_ms: row.get(4)?,
        })
    })?;
    Ok(ReplicaList { replicas: replicas.collect::<sqlstore::Result<_>>()?, free_partitions: PARTITIONS.saturating_sub(taken) })
}
