//! The right to write to a registry in PostgreSQL: rows with a holder, a fencing number and an end by the clock of the database.
//!
//! Each transaction checks that the leases are still held and keeps them from being taken until it ends. So a process that was
//! stopped or lost its database for longer than a lease can finish nothing afterwards, whatever its own clock says.

use super::RegistryError;
use sqlstore::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a lease lasts without being renewed.
const LEASE: Duration = Duration::from_secs(15);
/// How often the leases are renewed.
pub(super) const RENEWAL: Duration = Duration::from_secs(5);
/// The number of partitions, which is that of the chains of the ledger.
pub(super) const PARTITIONS: usize = 64;

/// The leases that this process holds.
#[derive(Debug)]
pub(super) struct Leases {
    /// Names this process among all that use the database.
    holder: String,
    /// The fencing number of each partition.
    fences: BTreeMap<i64, i64>,
    renewed: Instant,
}

impl Leases {
    /// Takes all partitions, or none of them.
    ///
    /// # Errors
    /// [`RegistryError::Held`] with the holder if another process has one of them.
    pub(super) fn take(db: &Connection, holder: &str, place: &str) -> Result<Leases, RegistryError> {
        db.begin_write()?;
        let taken = take_all(db, holder);
        match taken {
            Ok(fences) if fences.len() == PARTITIONS => {
                db.commit()?;
                Ok(Leases { holder: holder.to_string(), fences, renewed: Instant::now() })
            }
            other => {
                db.rollback()?;
                other?;
                Err(RegistryError::Held { path: place.into(), holder: other_holder(db)? })
            }
        }
    }

    /// Keeps the leases from being taken until the open transaction ends.
    ///
    /// # Errors
    /// [`RegistryError::TakenOver`] if they are not held any more.
    pub(super) fn check(&self, db: &Connection) -> Result<(), RegistryError> {
        let mut statement = db.prepare_cached(include_str!("migrations/postgres/lease_check.sql"))?;
        let rows = statement.query_map(params![self.holder, self.fences_text()], |row| row.get::<_, i64>(0))?;
        let held = rows.collect::<sqlstore::Result<Vec<i64>>>()?;
        if held.len() == self.fences.len() {
            return Ok(());
        }
        drop(statement);
        Err(RegistryError::TakenOver(other_holder(db)?))
    }

    /// Whether it is time to renew the leases.
    pub(super) fn is_due(&self) -> bool {
        self.renewed.elapsed() >= RENEWAL
    }

    /// Renews the leases, outside of a transaction.
    ///
    /// # Errors
    /// [`RegistryError::TakenOver`] if they are not held any more.
    pub(super) fn renew(&mut self, db: &Connection) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let mut statement = db.prepare_cached(include_str!("migrations/postgres/lease_renew.sql"))?;
        let rows = statement.query_map(params![self.holder, self.fences_text(), lease_ms()], |row| row.get::<_, i64>(0))?;
        let held = rows.collect::<sqlstore::Result<Vec<i64>>>()?;
        if held.len() != self.fences.len() {
            drop(statement);
            return Err(RegistryError::TakenOver(other_holder(db)?));
        }
        self.renewed = asked;
        Ok(())
    }

    /// Gives the leases back, so that another process can take them at once. Errors are ignored, because the leases end by
    /// themselves.
    pub(super) fn release(&self, db: &Connection) {
        let released = db.prepare_cached(include_str!("migrations/postgres/lease_release.sql")).and_then(|mut statement| {
            statement
                .query_map(params![self.holder, self.fences_text()], |row| row.get::<_, i64>(0))?
                .collect::<sqlstore::Result<Vec<i64>>>()
        });
        if let Err(error) = released {
            tracing::debug!(target: "aam::registry", %error, "could not release the leases");
        }
    }

    /// Takes the leases again after they ended, if no other process had them since.
    ///
    /// # Errors
    /// [`RegistryError::TakenOver`] if another process had them.
    pub(super) fn resume(&mut self, db: &Connection) -> Result<(), RegistryError> {
        match self.renew(db) {
            Err(RegistryError::TakenOver(_)) => {}
            other => return other,
        }
        let expected: BTreeMap<i64, i64> = self.fences.iter().map(|(partition, fence)| (*partition, fence + 1)).collect();
        db.begin_write()?;
        match take_all(db, &self.holder) {
            Ok(fences) if fences == expected => {
                db.commit()?;
                (self.fences, self.renewed) = (fences, Instant::now());
                Ok(())
            }
            other => {
                db.rollback()?;
                other?;
                Err(RegistryError::TakenOver(other_holder(db)?))
            }
        }
    }

    /// The fencing numbers as JSON.
    fn fences_text(&self) -> String {
        let fences: serde_json::Map<String, serde_json::Value> =
            self.fences.iter().map(|(partition, fence)| (partition.to_string(), (*fence).into())).collect();
        serde_json::Value::Object(fences).to_string()
    }
}

/// Takes all partitions that are free, in the open transaction. Returns their fencing numbers.
fn take_all(db: &Connection, holder: &str) -> Result<BTreeMap<i64, i64>, RegistryError> {
    let mut statement = db.prepare_cached(include_str!("migrations/postgres/lease_take.sql"))?;
    let rows = statement.query_map(params![holder, "", lease_ms(), PARTITIONS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<sqlstore::Result<_>>()?)
}

/// Who holds the leases, for messages.
fn other_holder(db: &Connection) -> Result<String, RegistryError> {
    let sql = "SELECT holder FROM leases WHERE holder <> '' AND ends_at > clock_timestamp() ORDER BY partition LIMIT 1";
    let holder = db.query_row(sql, [], |row| row.get::<_, String>(0)).optional()?;
    Ok(holder.unwrap_or_else(|| "another process".to_string()))
}

fn lease_ms() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}
