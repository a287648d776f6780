//! Opens the database of a registry for writing.

use super::lease::Leases;
use super::location::PostgresLocation;
use super::{Location, RegistryError, postgres_schema, schema};
use sqlstore::{Connection, PostgresOptions};
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

/// Opens a session, checks the schema and the privileges of the role, and registers this process among the replicas.
pub(super) fn open_postgres(place: &PostgresLocation) -> Result<(Connection, Option<Leases>), RegistryError> {
    let db = connect(place, writing)?;
    postgres_schema::check_version(&db, place)?;
    postgres_schema::check_privileges(&db, place)?;
    db.listen(&channel(place))?;
    let name = format!("{}-{}-{}", host_name(), std::process::id(), uuid::Uuid::new_v4().simple());
    let leases = Leases::register(&db, name)?;
    Ok((db, Some(leases)))
}

/// Opens a session with the limits that `limit` sets. The first time, it is checked before that no pooler would give the session, and
/// what is set for it, to somebody else.
///
/// # Errors
/// [`RegistryError::SharedSessions`], and if the server cannot be reached or refuses the login.
pub(super) fn connect(
    place: &PostgresLocation,
    limit: impl FnOnce(PostgresOptions) -> PostgresOptions,
) -> Result<Connection, RegistryError> {
    let options = place.options()?;
    if !place.keeps_sessions.is_known() {
        if !sqlstore::keeps_sessions_apart(&options)? {
            return Err(RegistryError::SharedSessions);
        }
        place.keeps_sessions.note();
    }
    Ok(Connection::postgres(limit(options))?)
}

/// The limits of a session that writes. A process that hangs within a transaction keeps rows locked, so the database ends its session
/// before its leases end.
pub(super) fn writing(mut options: PostgresOptions) -> PostgresOptions {
    options.idle_in_transaction_timeout = Duration::from_secs(8);
    options.lock_timeout = Duration::from_secs(9);
    options.statement_timeout = Duration::from_secs(10);
    options.answer_timeout = Duration::from_secs(12);
    options
}

/// The channel on which replicas wake each other.
pub(super) fn channel(place: &PostgresLocation) -> String {
    format!("aam_{}", place.schema)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().take(64).collect()
}
