//! Numbered, forward-only migrations, each known by its SHA-256.

use super::RegistryError;
use crate::model::Digest;
use rusqlite::Connection;

/// All migrations, in order; the number is the place in this list, from 1.
pub const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_ledger.sql"),
    include_str!("migrations/0002_folder_marks.sql"),
    include_str!("migrations/0003_checked.sql"),
];

/// Marks an SQLite file as a registry of AAM (`PRAGMA application_id`): "AAM1".
pub const APPLICATION_ID: i32 = 0x4141_4D31;

/// Brings the file up to the newest version.
///
/// # Errors
/// [`RegistryError::Foreign`] for a file that is not a registry, [`RegistryError::Newer`] for one of a
/// later AAM, [`RegistryError::Migration`] when an applied migration is not the one this build knows.
pub fn migrate(db: &mut Connection) -> Result<(), RegistryError> {
    migrate_to(db, MIGRATIONS.len())
}

/// Brings the file up to `version`; tests start from each earlier one.
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
    Ok(())
}

/// Reads only: a database of somebody else is left as it is.
///
/// # Errors
/// [`RegistryError::Foreign`].
pub fn refuse_foreign(db: &Connection) -> Result<(), RegistryError> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let id: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if tables > 0 && id != APPLICATION_ID {
        return Err(RegistryError::Foreign);
    }
    Ok(())
}

/// For readers, which cannot migrate.
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

/// The SHA-256 of each applied migration, in order.
fn applied(db: &Connection) -> Result<Vec<String>, RegistryError> {
    let mut statement = db.prepare("SELECT sha256 FROM schema_migrations ORDER BY version")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
