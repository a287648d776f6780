//! The schema of a registry in PostgreSQL: its numbered, forward-only migrations, and the privileges of the role that AAM runs as.

use super::location::PostgresLocation;
use super::{Location, RegistryError, database};
use crate::model::Digest;
use sqlstore::{Connection, params};

/// All migrations in order, as [`super::schema::MIGRATIONS`].
pub(super) const MIGRATIONS: [&str; 6] = [
    include_str!("migrations/postgres/0001_registry.sql"),
    include_str!("migrations/postgres/0002_replicas.sql"),
    include_str!("migrations/postgres/0003_calls.sql"),
    include_str!("migrations/postgres/0004_account_marks.sql"),
    include_str!("migrations/postgres/0005_consents.sql"),
    include_str!("migrations/postgres/0006_hashes.sql"),
];

/// The triggers that keep recorded rows as they are.
const TRIGGERS: [&str; 12] = [
    "call_batches_dropped",
    "call_batches_next",
    "call_batches_no_truncate",
    "call_batches_no_update",
    "call_rows_dropped",
    "call_rows_no_truncate",
    "call_rows_no_update",
    "call_targets_no_truncate",
    "call_targets_no_update",
    "ledger_next",
    "ledger_no_delete",
    "ledger_no_update",
];

/// Creates the schema, or migrates it to the newest version, and grants `role` what AAM needs. The role of `location` must own the
/// schema, or be allowed to create it. Can be repeated.
///
/// # Errors
/// If `location` is not a database, if it was migrated by a newer or another build, or if the database refuses it.
pub fn initialize(location: &Location, role: &str) -> Result<usize, RegistryError> {
    let Some(place) = location.postgres() else {
        return Err(RegistryError::Other(
            "an SQLite registry is created when AAM starts; aam registry init prepares a database of PostgreSQL".to_string(),
        ));
    };
    if role == place.role() {
        return Err(RegistryError::Other(format!(
            "{role} would own the tables and could change what is recorded; connect as the owner of the tables, and name another role with --role"
        )));
    }
    let db = database::connect(place, |options| options)?;
    db.begin_write()?;
    let migrated = migrate(&db, &place.schema, role);
    match migrated {
        Ok(version) => {
            db.commit()?;
            Ok(version)
        }
        Err(error) => {
            let _ = db.rollback();
            Err(error)
        }
    }
}

fn migrate(db: &Connection, schema: &str, role: &str) -> Result<usize, RegistryError> {
    db.execute_batch(&format!("CREATE SCHEMA IF NOT EXISTS {}; SET LOCAL search_path TO {}", quoted(schema), quoted(schema)))?;
    let applied = if exists(db)? { applied(db)? } else { Vec::new() };
    refuse_unknown(&applied)?;
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(applied.len()) {
        db.execute_batch(sql)?;
        db.execute("INSERT INTO schema_migrations (version, sha256) VALUES (?1, ?2)", params![index + 1, digest(sql)])?;
    }
    // Rows that somebody deleted; without them, nothing can be written to their chains.
    db.execute_batch(
        "INSERT INTO leases (partition, holder, address, fence, ends_at)
         SELECT number, '', '', 0, 'epoch' FROM generate_series(0, 63) AS number ON CONFLICT (partition) DO NOTHING",
    )?;
    let found: i64 = db.query_row("SELECT count(*) FROM pg_roles WHERE rolname = ?1", [role], |row| row.get(0))?;
    if found == 0 {
        return Err(RegistryError::Other(format!(
            "the role {role} does not exist; create it first: CREATE ROLE {} LOGIN PASSWORD '…'",
            quoted(role)
        )));
    }
    db.execute_batch(&include_str!("migrations/postgres/grants.sql").replace("{role}", &quoted(role)))?;
    Ok(MIGRATIONS.len())
}

/// Checks that the schema has the version of this build.
///
/// # Errors
/// [`RegistryError::NotCreated`], [`RegistryError::NewerDatabase`], [`RegistryError::OlderDatabase`] or
/// [`RegistryError::Migration`].
pub(super) fn check_version(db: &Connection, place: &PostgresLocation) -> Result<(), RegistryError> {
    if !exists(db)? {
        return Err(RegistryError::NotCreated {
            schema: place.schema.clone(),
            url: place.of_owner(),
            role: place.role().to_string(),
        });
    }
    let applied = applied(db)?;
    refuse_unknown(&applied)?;
    match applied.len() {
        found if found < MIGRATIONS.len() => Err(RegistryError::OlderDatabase {
            found,
            known: MIGRATIONS.len(),
            url: place.of_owner(),
            role: place.role().to_string(),
        }),
        _ => Ok(()),
    }
}

/// Checks that the role of the session cannot change what was recorded.
///
/// # Errors
/// [`RegistryError::TooPrivileged`].
pub(super) fn check_privileges(db: &Connection, place: &PostgresLocation) -> Result<(), RegistryError> {
    let mut statement = db.prepare(include_str!("migrations/postgres/excess.sql"))?;
    let rows = statement.query_map([], |row| Ok(format!("{} on {}", row.get::<_, String>(1)?, row.get::<_, String>(0)?)))?;
    let excess = rows.collect::<sqlstore::Result<Vec<String>>>()?;
    if excess.is_empty() {
        return Ok(());
    }
    Err(RegistryError::TooPrivileged { role: place.role().to_string(), privileges: excess.join(", "), url: place.of_owner() })
}

/// Returns which of the triggers that keep recorded rows as they are do not exist or are switched off.
///
/// # Errors
/// If the schema cannot be read.
pub(super) fn differences(db: &Connection) -> Result<Vec<String>, RegistryError> {
    let sql =
        "SELECT CAST(t.tgname AS text), CAST(t.tgenabled AS text) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
               JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND NOT t.tgisinternal";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let found = rows.collect::<sqlstore::Result<Vec<_>>>()?;
    let state = |name: &str| found.iter().find(|(trigger, _)| trigger == name).map(|(_, enabled)| enabled.as_str());
    let differs = |name: &&str| match state(name) {
        None => Some(format!("trigger {name} is missing")),
        Some("A") => None,
        Some(_) => Some(format!("trigger {name} was switched off")),
    };
    Ok(TRIGGERS.iter().filter_map(differs).collect())
}

fn exists(db: &Connection) -> Result<bool, RegistryError> {
    let sql = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = current_schema() AND c.relname = 'schema_migrations'";
    Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

/// The SHA-256 of each applied migration, in order.
fn applied(db: &Connection) -> Result<Vec<String>, RegistryError> {
    let mut statement = db.prepare("SELECT sha256 FROM schema_migrations ORDER BY version")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<sqlstore::Result<_>>()?)
}

fn refuse_unknown(applied: &[String]) -> Result<(), RegistryError> {
    if applied.len() > MIGRATIONS.len() {
        return Err(RegistryError::NewerDatabase { found: applied.len(), known: MIGRATIONS.len() });
    }
    let differs = applied.iter().zip(MIGRATIONS).position(|(known, sql)| *known != digest(sql));
    differs.map_or(Ok(()), |index| Err(RegistryError::Migration { version: index + 1 }))
}

fn digest(sql: &str) -> String {
    Digest::from_bytes(sql.as_bytes()).to_string()
}

/// A name as an identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
