//! Reads the structure and a few rows of a SQLite file.

use super::errors;
use super::file::File;
use crate::connectors::sql::types::{self, Column, Table};
use crate::connectors::sql::{limits, quote};
use crate::connectors::{Bounds, Discovery, Sample};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Evidence, Failure};
use rusqlite::Connection;
use serde_json::json;
use std::time::Instant;

/// Selects user tables and views. The names of SQLite's own tables begin with `sqlite_`.
const OBJECTS: &str = "SELECT name, type, sql FROM sqlite_schema WHERE type IN ('table','view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
    ORDER BY type, name LIMIT ?1";

struct Object {
    name: String,
    kind: &'static str,
}

fn objects(base: &Connection, limit: usize) -> rusqlite::Result<Vec<Object>> {
    let mut statement = base.prepare_cached(OBJECTS)?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let (kind, sql): (String, Option<String>) = (row.get(1)?, row.get(2)?);
        let is_virtual = sql.is_some_and(|sql| sql.get(..14).is_some_and(|head| head.eq_ignore_ascii_case("CREATE VIRTUAL")));
        let kind = match (kind.as_str(), is_virtual) {
            ("view", _) => "view",
            (_, true) => "virtual table",
            _ => "table",
        };
        Ok(Object { name: row.get(0)?, kind })
    })?;
    rows.collect()
}

/// Builds the Catalog v1 of the file.
///
/// # Errors
/// The errors of SQLite when it reads the schema itself. A view that is not valid is skipped.
pub fn discover(file: &File, bounds: Bounds) -> Result<Discovery, Failure> {
    let started = Instant::now();
    file.reading("list the tables", |base| {
        let mut all = objects(base, bounds.streams.saturating_add(1))?;
        let mut catalog = Catalog { truncated: all.len() > bounds.streams, ..Catalog::default() };
        all.truncate(bounds.streams);
        for object in all {
            if started.elapsed() > bounds.time {
                catalog.truncated = true;
                break;
            }
            match columns(base, &object.name, bounds.columns.saturating_add(1)) {
                Ok((mut columns, key)) => {
                    if columns.len() > bounds.columns {
                        columns.truncate(bounds.columns);
                        catalog.truncated = true;
                    }
                    let table = Table { namespace: None, name: object.name, kind: object.kind, columns, key, rows: None };
                    catalog.streams.push(types::stream(table));
                }
                Err(error) => {
                    let reason = errors::classify(&file.written, "describe it", &error).detail;
                    catalog.skipped.push(SkippedStream::new(object.name, reason));
                }
            }
        }
        let mut evidence = Evidence::new();
        evidence.insert("streams".into(), json!(catalog.streams.len()));
        evidence.insert("readable".into(), json!(catalog.streams.len()));
        Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
    })
}

/// Returns the columns in the order of the table, and the primary key. Uses the pragma statement, because its table-valued
/// form takes several times as long to compile.
fn columns(base: &Connection, table: &str, limit: usize) -> rusqlite::Result<(Vec<Column>, Vec<String>)> {
    let mut columns = Vec::new();
    let mut key: Vec<(i64, String)> = Vec::new();
    let mut statement = base.prepare(&format!("PRAGMA table_xinfo({})", quote::double(table)))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()?.filter(|_| columns.len() < limit) {
        let (name, native, not_null, place, hidden): (String, Option<String>, bool, i64, i64) =
            (row.get(1)?, row.get(2)?, row.get(3)?, row.get(5)?, row.get(6)?);
        // 1 marks a column of a virtual table that `SELECT *` leaves out; 2 and 3 mark generated columns
        // (sqlite.org/pragma.html#pragma_table_xinfo).
        if hidden == 1 {
            continue;
        }
        let native = native.unwrap_or_default();
        if place > 0 {
            key.push((place, name.clone()));
        }
        // An `INTEGER PRIMARY KEY` is the rowid. It is never null, whatever the declaration says.
        let rowid = place > 0 && native.eq_ignore_ascii_case("INTEGER");
        columns.push(Column { name, schema: types::sqlite(&native), native, nullable: !not_null && !rowid });
    }
    key.sort_unstable();
    Ok((columns, key.into_iter().map(|(_, name)| name).collect()))
}

/// Reads at most `max_items` rows and counts them. The values are not kept.
///
/// # Errors
/// The errors of SQLite if no table can be read.
pub fn sample(file: &File, max_items: u32) -> Result<Sample, Failure> {
    let all = file.reading("list the tables", |base| objects(base, 200))?;
    let mut evidence = Evidence::new();
    if all.is_empty() {
        evidence.insert("note".into(), json!("empty: the database has no tables"));
        return Ok(Sample { rows: 0, evidence, warning: None });
    }
    let mut failed: Option<Failure> = None;
    let mut empty: Vec<&str> = Vec::new();
    // The order by type puts tables before views.
    for object in &all {
        if empty.len() >= limits::MAX_SAMPLED_TABLES {
            break;
        }
        let sql = format!("SELECT * FROM {} LIMIT {max_items}", quote::double(&object.name));
        match file.within("read a table", |base| count(base, &sql)) {
            Ok(0) => empty.push(&object.name),
            Ok(rows) => {
                evidence.insert("stream".into(), json!(object.name));
                evidence.insert("rows".into(), json!(rows));
                return Ok(Sample { rows, evidence, warning: None });
            }
            // The table has rows, which is what the sample proves; the values of this one are not read.
            Err(failure) if errors::is_too_large(&failure) && file.allows_large_values() => {
                let sql = format!("SELECT 1 FROM {} LIMIT {max_items}", quote::double(&object.name));
                let rows = file.within("count the rows of a table", |base| count(base, &sql))?;
                evidence.insert("stream".into(), json!(object.name));
                evidence.insert("rows".into(), json!(rows));
                evidence.insert("note".into(), json!(failure.title));
                return Ok(Sample { rows, evidence, warning: None });
            }
            Err(failure) if errors::is_too_large(&failure) => return Err(failure),
            // A locked or damaged file causes the same error for every table.
            Err(failure) if failure.class == Class::Remote && !failure.title.contains("could not") => {
                return Err(failure);
            }
            Err(failure) => failed = Some(failure),
        }
    }
    match failed {
        Some(failure) if empty.is_empty() => Err(failure),
        _ => {
            evidence.insert("empty_streams".into(), json!(empty));
            evidence.insert("note".into(), json!("empty: the tables that were read have no rows"));
            Ok(Sample { rows: 0, evidence, warning: None })
        }
    }
}

/// Counts the rows. Every value is fetched, so that a damaged row is noticed here.
fn count(base: &Connection, sql: &str) -> rusqlite::Result<u64> {
    let mut statement = base.prepare(sql)?;
    let width = statement.column_count();
    let mut rows = statement.query([])?;
    let mut counted = 0;
    while let Some(row) = rows.next()? {
        for at in 0..width {
            row.get_ref(at)?;
        }
        counted += 1;
    }
    Ok(counted)
}
