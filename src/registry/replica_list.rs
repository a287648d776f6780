//! The replicas that run on a database, for people.

use super::command::Command;
use super::lease::{PARTITIONS, Partitions};
use super::{Location, Registry, RegistryError, reader};
use crate::model::Digest;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

/// A replica that runs, or was killed within the last hour.
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

impl ReplicaList {
    /// Whether replicas that run have read different policy files.
    #[must_use]
    pub fn has_different_policies(&self) -> bool {
        let running = self.replicas.iter().filter(|one| one.expires_in_ms > 0);
        running.map(|one| one.policy.as_str()).filter(|one| !one.is_empty()).collect::<BTreeSet<_>>().len() > 1
    }
}

impl Registry {
    /// Says which policy file this process has read, so that people see whether all replicas have the same. Can be called after
    /// each reading: only a file that differs from the last one is passed on.
    pub fn note_policy_file(&self, policy: Digest) {
        if self.location.postgres().is_none() {
            return;
        }
        let before = self.policy_file.lock().unwrap_or_else(PoisonError::into_inner).replace(policy);
        if before != Some(policy) {
            let _ = self.commands.send(Command::HasPolicyFile { policy: policy.to_string() });
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(policy: &str, expires_in_ms: u64) -> ListedReplica {
        let (name, address, version) = Default::default();
        ListedReplica { name, address, version, policy: policy.to_string(), leads: false, partitions: 0, expires_in_ms }
    }

    #[test]
    fn only_replicas_that_run_can_have_different_policies() {
        let is_different = |replicas: Vec<ListedReplica>| ReplicaList { replicas, free_partitions: 0 }.has_different_policies();
        assert!(is_different(vec![replica("a", 9000), replica("b", 9000)]));
        assert!(!is_different(vec![replica("a", 9000), replica("b", 0)]), "it does not run any more");
        assert!(!is_different(vec![replica("a", 9000), replica("", 9000)]), "it has not read one yet");
    }
}
