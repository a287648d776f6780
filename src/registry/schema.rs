//! Numbered, forward-only migrations, each identified by its SHA-256.

use super::RegistryError;
use crate::model::Digest;
use rusqlite::Connection;
use std::collections::BTreeMap;

/// All migrations in order. Their versions are counted from 1. The text of a migration must never change, because
/// registries store its SHA-256.
pub const MIGRATIONS: [&str; 11] = [
    include_str!("migrations/0001_ledger.sql"),
    include_str!("migrations/0002_folder_marks.sql"),
    include_str!("migrations/0003_checked.sql"),
    include_str!("migrations/0004_demo.sql"),
    include_str!("migrations/0005_handoffs.sql"),
    include_str!("migrations/0006_idempotency_keys.sql"),
    include_str!("migrations/0007_notices.sql"),
    include_str!("migrations/0008_calls.sql"),
    include_str!("migrations/0009_drift.sql"),
    include_str!("migrations/0010_account_marks.sql"),
    include_str!("migrations/0011_archive.sql"),
];

/// Identifies an SQLite file as an AAM registry (`PRAGMA application_id`): "AAM1" in ASCII.
pub const APPLICATION_ID: i32 = 0x4141_4D31;

/// Migrates the file to the newest version.
///
/// # Errors
/// [`RegistryError::Foreign`] for a file that is not an AAM registry, [`RegistryError::Newer`] for a registry of a later
/// version of AAM, [`RegistryError::Migration`] if an applied migration differs from the one in this build.
pub fn migrate(db: &mut Connection) -> Result<(), RegistryError> {
    migrate_to(db, MIGRATIONS.len())
}

/// Migrates the file to `version`. Tests start from every earlier version.
///
/// # Errors
/// As [`migrate`].
pub fn migrate_to(db: &mut Connection, version: usize) -> Result<(), RegistryError> {
    refuse_foreign(db)?;
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID};
         CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT;"
    ))?;
    let applied = applied(&transaction)?;
    if applied.len() > MIGRATIONS.len() {
        return Err(RegistryError::Newer { found: applied.len(), known: MIGRATIONS.len() });
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().take(version) {
        let sha256 = Digest::from_bytes(sql.as_bytes()).to_string();
        match applied.get(index) {
            Some(known) if *known == sha256 => {}
            Some(_) => return Err(RegistryError::Migration { version: index + 1 }),
            None => {
                transaction.execute_batch(sql)?;
                transaction.execute("INSERT INTO schema_migrations (version, sha256) VALUES (?1, ?2)", (index + 1, sha256))?;
            }
        }
    }
    transaction.commit()?;
    if (1..version).contains(&applied.len()) {
        tracing::info!(target: "aam::registry", from = applied.len(), to = version, "the registry was migrated; an earlier version of AAM cannot open it any more");
    }
    Ok(())
}

/// Checks that the file is empty or an AAM registry, without changing it.
///
/// # Errors
/// [`RegistryError::Foreign`] for a database of another program.
pub fn refuse_foreign(db: &Connection) -> Result<(), RegistryError> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let id: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if tables > 0 && id != APPLICATION_ID {
        return Err(RegistryError::Foreign);
    }
    Ok(())
}

/// Checks the schema version, for readers, which cannot migrate.
///
/// # Errors
/// [`RegistryError::Newer`] or [`RegistryError::Older`].
pub fn refuse_other_version(db: &Connection) -> Result<(), RegistryError> {
    let (found, known) = (applied(db)?.len(), MIGRATIONS.len());
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(RegistryError::Newer { found, known }),
        std::cmp::Ordering::Less => Err(RegistryError::Older { found, known }),
    }
}

/// Compares the tables, indexes, triggers and views of the file with those that the migrations create. A dropped trigger
/// would let rows be changed.
///
/// # Errors
/// If the schema cannot be read.
pub fn differences(db: &Connection) -> Result<Vec<String>, RegistryError> {
    let mut fresh = Connection::open_in_memory()?;
    migrate_to(&mut fresh, applied(db)?.len())?;
    let (mut expected, found) = (objects(&fresh)?, objects(db)?);
    let mut differences = Vec::new();
    for (name, sql) in found {
        match expected.remove(&name) {
            Some(known) if known == sql => {}
            Some(_) => differences.push(format!("{name} was changed")),
            None if OPTIONAL.contains(&name.as_str()) => {}
            None => differences.push(format!("{name} was added")),
        }
    }
    differences.extend(expected.into_keys().map(|name| format!("{name} is missing")));
    Ok(differences)
}

/// Objects that no migration creates: the table of `Writer::probe`, and the statistics of SQLite.
const OPTIONAL: [&str; 3] = ["table probe", "table sqlite_stat1", "table sqlite_stat4"];

/// The SQL text of each object, by `kind name`.
fn objects(db: &Connection) -> Result<BTreeMap<String, String>, RegistryError> {
    let mut statement = db.prepare("SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the schema version of the file.
///
/// # Errors
/// If the file cannot be read.
pub fn version(db: &Connection) -> Result<usize, RegistryError> {
    Ok(applied(db)?.len())
}

/// The SHA-256 of each applied migration, in order.
fn applied(db: &Connection) -> Result<Vec<String>, RegistryError> {
    let mut statement = db.prepare("SELECT sha256 FROM schema_migrations ORDER BY version")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
