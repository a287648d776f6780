//! The baseline: the same reads in a plain loop, and commits one after the other.

use crate::Measured;
use crate::fixture::Fixture;
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;

/// The number of rows in a sample.
const ROWS: usize = 20;
/// The size of one row in bytes: about the average of the ledger's rows for such files.
const BODY: usize = 900;

/// Reads the source of each intent once.
pub fn read_all(fixture: &Fixture) -> Measured<u64> {
    (0..fixture.count).map(|number| read(&fixture.source(number))).sum()
}

/// Reads the same parts of a source as an attempt: the schema and 20 rows.
pub fn read(path: &Path) -> Measured<u64> {
    if path.extension().is_some_and(|extension| extension == "csv") { read_csv(path) } else { read_sqlite(path) }
}

fn read_sqlite(path: &Path) -> Measured<u64> {
    let base = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let _: i64 = base.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let mut columns = base.prepare("SELECT name, type FROM pragma_table_xinfo('people')")?;
    let names = columns.query_map([], |row| row.get::<_, String>(0))?.count();
    let mut sample = base.prepare("SELECT * FROM people LIMIT 20")?;
    let mut rows = sample.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        for at in 0..names {
            row.get_ref(at)?;
        }
        count += 1;
    }
    Ok(count)
}

fn read_csv(path: &Path) -> Measured<u64> {
    let mut reader = csv::Reader::from_path(path)?;
    reader.headers()?;
    Ok(reader.records().take(ROWS).filter(Result::is_ok).count() as u64)
}

/// Appends `rows` rows in `commits` transactions. Each transaction is on disk before the next one begins.
pub fn commit_all(path: &Path, commits: usize, rows: usize) -> Measured<()> {
    let base = Connection::open(path)?;
    base.pragma_update(None, "journal_mode", "WAL")?;
    base.pragma_update(None, "synchronous", "FULL")?;
    base.execute_batch("CREATE TABLE ledger (seq INTEGER PRIMARY KEY, connection TEXT, body TEXT)")?;
    let body = "x".repeat(BODY);
    let mut seq = 0;
    for commit in 0..commits {
        base.execute_batch("BEGIN IMMEDIATE")?;
        while seq < rows * (commit + 1) / commits {
            seq += 1;
            base.prepare_cached("INSERT INTO ledger VALUES (?1, ?2, ?3)")?.execute(params![
                seq,
                "00000000-0000-0000-0000-000000000000",
                body
            ])?;
        }
        base.execute_batch("COMMIT")?;
    }
    Ok(())
}
