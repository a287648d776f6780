//! Keeps every replica from a registry in PostgreSQL for as long as a command needs it for itself.

use super::lease::{Leases, PARTITIONS, Partitions};
use super::{Location, RegistryError, database, postgres_schema};
use sqlstore::Connection;

/// The leases of all partitions. No replica attempts anything until this is dropped, or for 15 s.
pub struct AllPartitions {
    pub(super) db: Connection,
    pub(super) leases: Leases,
}

impl AllPartitions {
    /// Takes all partitions of the registry at `location` for `command`.
    ///
    /// # Errors
    /// [`RegistryError::Held`] if a replica runs, and if the database cannot be used.
    pub fn take(location: &Location, command: &str) -> Result<AllPartitions, RegistryError> {
        let Some(place) = location.postgres() else {
            return Err(RegistryError::Other(format!("{location} is not a database")));
        };
        let db = database::connect(place, |options| options)?;
        postgres_schema::check_version(&db, place)?;
        postgres_schema::check_privileges(&db, place)?;
        let leases = Leases::register(&db, format!("aam {command}, process {}", std::process::id()))?;
        let mut held = AllPartitions { db, leases };
        if held.leases.take(&held.db, PARTITIONS)? != Partitions::ALL {
            let holder = "a daemon".to_string();
            return Err(RegistryError::Held { path: location.to_string().into(), holder });
        }
        Ok(held)
    }
}

impl Drop for AllPartitions {
    fn drop(&mut self) {
        self.leases.end(&self.db);
    }
}
