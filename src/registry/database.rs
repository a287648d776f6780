//! Opens the database of a registry for writing, and keeps the right to write to one in PostgreSQL.

use super::lease::Leases;
use super::location::PostgresLocation;
use super::writer::{Batch, Writer};
use super::{Location, RegistryError, calls, chains, postgres_schema, reader, schema};
use sqlstore::Connection;
use std::time::Duration;

/// The length of the write-ahead log, in pages of 4 KiB, at which SQLite checkpoints it after a commit.
const MAX_WAL_PAGES: i32 = 8192;

/// Opens the SQLite file, creates or migrates its schema, and makes every commit durable.
pub(super) fn open_sqlite(location: &Location) -> Result<Connection, RegistryError> {
    let mut db = rusqlite::Connection::open(location.local())?;
    db.busy_timeout(Duration::from_secs(5))?;
    // Checked before the first setting is changed, so that the database of another program is not modified.
    schema::refuse_foreign(&db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs at every commit, so that everything that was confirmed to a caller is on disk.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "journal_size_limit", 8 << 20)?;
    db.pragma_update(None, "wal_autocheckpoint", MAX_WAL_PAGES)?;
    schema::migrate(&mut db)?;
    Ok(db.into())
}

/// Opens a session, checks the schema and the privileges of the role, and takes the right to write.
pub(super) fn open_postgres(
    place: &PostgresLocation,
    location: &Location,
) -> Result<(Connection, Option<Leases>), RegistryError> {
    let db = Connection::postgres(place.options()?)?;
    postgres_schema::check_version(&db, place)?;
    postgres_schema::check_privileges(&db, place)?;
    let holder = format!("process {} on {} (aam {})", std::process::id(), host_name(), env!("CARGO_PKG_VERSION"));
    let leases = Leases::take(&db, &holder, &location.to_string())?;
    Ok((db, Some(leases)))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().take(64).collect()
}

impl Writer {
    /// Renews the leases and anchors the chains if it is time for that. What fails is tried again by the next command.
    pub(super) fn keep_leases(&mut self) {
        let Some(leases) = &mut self.leases else { return };
        let mut result = Ok(());
        if leases.is_due() {
            result = leases.renew(&self.db);
        }
        if result.is_ok() && self.head.is_anchor_due(self.clock.now()) {
            result = self.transact_anchor();
        }
        if let Err(error) = result {
            tracing::warn!(target: "aam::registry", %error, "the right to write to the registry could not be renewed");
        }
    }

    /// Anchors the chains in a transaction of its own.
    fn transact_anchor(&mut self) -> Result<(), RegistryError> {
        let before = self.head.clone();
        let result = self.start().and_then(|()| self.anchor_chains()).and_then(|()| Ok(self.db.commit()?));
        match result {
            Ok(()) => self.publish(),
            Err(_) => {
                self.batch = Batch::default();
                self.head = before;
                let _ = self.db.rollback();
            }
        }
        result
    }

    /// Connects to the database again and reads what was committed meanwhile: the answer to the last commit may have been lost.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`], or [`RegistryError::TakenOver`] if another process wrote meanwhile.
    pub(super) fn resume(&mut self) -> Result<(), RegistryError> {
        self.db.reconnect()?;
        if let Some(leases) = &mut self.leases {
            leases.resume(&self.db)?;
        }
        let missed = reader::entries_from(&self.db, self.head.seq)?;
        (self.head, self.calls_head) = (chains::head(&self.db)?, calls::head(&self.db)?);
        tracing::info!(target: "aam::registry", entries = missed.len(), "connected to the database of the registry again");
        self.batch = Batch { entries: missed, ..Batch::default() };
        self.publish();
        Ok(())
    }
}
