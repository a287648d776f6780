//! Reads the structure and a few rows of a SQLite file.

use super::errors;
use super::file::File;
use super::unread;
use crate::connectors::sql::quote;
use crate::connectors::sql::sampling::Sampling;
use crate::connectors::sql::types::{self, Column, Table};
use crate::connectors::{Bounds, Discovery, Sample};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Evidence, Failure};
use rusqlite::Connection;
use serde_json::json;
use std::time::{Duration, Instant};

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
/// The errors of SQLite when it reads the schema itself. A view that is not valid and a damaged table are skipped, with a
/// warning.
pub fn discover(file: &File, bounds: Bounds) -> Result<Discovery, Failure> {
    let started = Instant::now();
    let mut failures = Vec::new();
    let mut found = file.reading("list the tables", |base| {
        let mut all = objects(base, bounds.streams.saturating_add(1))?;
        let mut catalog = Catalog { truncated: all.len() > bounds.streams, ..Catalog::default() };
        all.truncate(bounds.streams);
        for object in all {
            if started.elapsed() > bounds.time {
                catalog.truncated = true;
                break;
            }
            match readable_columns(base, &object, bounds.columns.saturating_add(1)) {
                Ok((mut columns, key)) => {
                    if columns.len() > bounds.columns {
                        columns.truncate(bounds.columns);
                        catalog.truncated = true;
                    }
                    let table = Table { namespace: None, name: object.name, kind: object.kind, columns, key, rows: None };
                    catalog.streams.push(types::stream(table));
                }
                Err(error) => {
                    let failure = errors::classify(&file.written, "describe it", &error);
                    catalog.skipped.push(SkippedStream::new(object.name.clone(), failure.detail.clone()));
                    failures.push((object.name, failure));
                }
            }
        }
        let mut evidence = Evidence::new();
        evidence.insert("streams".into(), json!(catalog.streams.len()));
        evidence.insert("readable".into(), json!(catalog.streams.len()));
        Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
    })?;
    found.warning = unread::warning(&file.written, &failures);
    Ok(found)
}

/// Returns the columns and the primary key, and reads the first row of a table to see whether it can be read. Damage in
/// later pages is not noticed.
fn readable_columns(base: &Connection, object: &Object, limit: usize) -> rusqlite::Result<(Vec<Column>, Vec<String>)> {
    let found = columns(base, &object.name, limit)?;
    if found.0.is_empty() {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    if object.kind != "table" {
        // The first row of a view may need any amount of computation, so a view is only compiled.
        base.prepare(&format!("SELECT * FROM {}", quote::double(&object.name)))?;
        return Ok(found);
    }
    let mut statement = base.prepare(&format!("SELECT * FROM {} LIMIT 1", quote::double(&object.name)))?;
    match statement.query([]).and_then(|mut rows| rows.next().map(|_| ())) {
        // A value may be larger than what is read of it, and the time may be over: neither says anything about the table.
        Err(error) if !unread::is_limit(&error) => Err(error),
        _ => Ok(found),
    }
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

/// Limit on the number of tables and views that a tiny sync lists.
const MAX_CANDIDATES: usize = 5000;

/// Reads at most `max_items` rows of the first table or view that has rows. The warning names what could not be read and is
/// not in `known`, which is what the discovery skipped.
///
/// # Errors
/// The failure of the file, if no table of it can be read; otherwise the first failure of a table, if none can be read.
pub fn sample(file: &File, step_timeout: Duration, max_items: u32, known: &[SkippedStream]) -> Result<Sample, Failure> {
    let mut failures = Vec::new();
    let mut sample = first_rows(file, step_timeout, max_items, &mut failures)?;
    failures.retain(|(name, _)| known.iter().all(|skipped| skipped.name != *name));
    sample.warning = unread::warning(&file.written, &failures);
    Ok(sample)
}

/// Reads at most `max_items` rows of the first table or view that has rows, and counts them. The values are not kept.
///
/// # Errors
/// The failure of the file, if no table of it can be read; otherwise the first failure of a table, if none can be read.
fn first_rows(
    file: &File,
    step_timeout: Duration,
    max_items: u32,
    failures: &mut Vec<(String, Failure)>,
) -> Result<Sample, Failure> {
    let all = file.reading("list the tables", |base| objects(base, MAX_CANDIDATES))?;
    if all.is_empty() {
        let mut evidence = Evidence::new();
        evidence.insert("note".into(), json!("empty: the database has no tables"));
        return Ok(Sample::new(0, evidence));
    }
    let mut sampling = Sampling::new(step_timeout);
    let timeout = sampling.object_timeout(file.limit);
    let mut failed = |sampling: &mut Sampling, name: &str, failure: Failure| {
        failures.push((name.to_owned(), failure.clone()));
        sampling.failed(name, failure);
    };
    // The order by type puts tables before views.
    for (position, object) in all.iter().enumerate() {
        if !sampling.has_time(timeout) {
            return sampling.without_rows(all.len() - position);
        }
        let from = format!("FROM {} LIMIT {max_items}", quote::double(&object.name));
        let doing = format!("read {}", quote::double(&object.name));
        match file.within_limit(timeout, &doing, |base| count(base, &format!("SELECT * {from}"))) {
            Ok(0) => sampling.empty(&object.name),
            Ok(rows) => return Ok(sampling.found(&object.name, rows)),
            // The rows are there, which is what the sample proves. Their values are not read.
            Err(failure) if errors::is_too_large(&failure) && file.allows_large_values() => {
                match file.within_limit(timeout, &doing, |base| count(base, &format!("SELECT 1 {from}"))) {
                    Ok(rows) => {
                        let mut sample = sampling.found(&object.name, rows);
                        sample.evidence.insert("note".into(), json!(failure.title));
                        return Ok(sample);
                    }
                    Err(failure) => failed(&mut sampling, &object.name, failure),
                }
            }
            Err(failure) if errors::is_too_large(&failure) || errors::concerns_file(&failure) => return Err(failure),
            Err(failure) => failed(&mut sampling, &object.name, failure),
        }
    }
    sampling.without_rows(0)
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
