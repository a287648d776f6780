//! Copies what a query reads of a registry in PostgreSQL into a database of SQLite in memory, where the query runs.
//!
//! So the query of a person never reaches the database: with the role of AAM, it could call every function that PostgreSQL allows
//! to all roles, for example to wait, to take locks that replicas need, or to run another statement from a text. It also is the same
//! SQL as for a registry in a file. The statement is prepared on empty tables first, which says what columns of which views it reads.

use super::super::views::{self, VIEWS, View};
use super::super::{Reader, RegistryError, call_heads, schema};
use super::{ComputedTable, Deadline, QueryError, Reads, Refused, add, explain, restrict, size};
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};
use sqlstore::ValueRef;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

/// How much is copied at most, in bytes.
const MAX_COPIED_BYTES: usize = 1 << 30;
/// About how much a row takes beside its values, in bytes.
const ROW_BYTES: usize = 32;
/// After this many rows, the time is checked.
const ROWS_PER_CHECK: usize = 1000;

/// Returns a database with the views as tables. Those that `sql` reads have their rows.
pub(super) fn copy(reader: &Reader, sql: &str, tables: &[ComputedTable], deadline: Deadline) -> Result<Connection, QueryError> {
    let mut db = empty()?;
    add(&db, tables, "").map_err(RegistryError::from)?;
    let reads = Reads::default();
    let refused: Refused = restrict(&mut db, sql, deadline, Some(Reads::clone(&reads))).map_err(RegistryError::from)?;
    db.prepare(sql).map(drop).map_err(|error| explain(&error, sql, &refused, deadline))?;
    db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(RegistryError::from)?;
    db.pragma_update(None, "query_only", false).map_err(RegistryError::from)?;
    let reads = std::mem::take(&mut *reads.lock().unwrap_or_else(PoisonError::into_inner));
    let wanted: Vec<(&View, BTreeSet<String>)> = reads
        .into_iter()
        .filter_map(|(name, columns)| Some((views::find(name).filter(|view| !view.computed)?, columns)))
        .collect();
    // The session waits as long as the query may take, which can be longer than what other reads have.
    let copied = reader.with_long(Some(deadline.left()), |source| {
        let transaction = source.read_transaction()?;
        let mut bytes = 0;
        for (view, columns) in &wanted {
            let left = deadline.left().as_millis().clamp(1, u128::from(i32::MAX.unsigned_abs()));
            transaction.execute_batch(&format!("SET LOCAL statement_timeout = {left}"))?;
            match copy_view(&transaction, &db, (*view, columns), deadline, &mut bytes) {
                Ok(Copied::All) => {}
                other => return other,
            }
        }
        Ok(Copied::All)
    });
    match copied {
        Ok(Copied::All) => {}
        Ok(Copied::TooLarge) => return Err(too_large()),
        Ok(Copied::TooSlow) => return Err(deadline.too_slow()),
        // The server or SQLite stopped a statement because of the time.
        Err(RegistryError::Database(error))
            if error.sqlstate() == Some("57014") || error.sqlite_code() == Some(ErrorCode::OperationInterrupted) =>
        {
            return Err(deadline.too_slow());
        }
        Err(error) => return Err(error.into()),
    }
    db.pragma_update(None, "query_only", true).map_err(RegistryError::from)?;
    Ok(db)
}

/// How the copy of a view ended.
enum Copied {
    All,
    TooLarge,
    TooSlow,
}

fn too_large() -> QueryError {
    QueryError::Invalid {
        message: format!("the columns that the query reads hold more than {} GiB", MAX_COPIED_BYTES >> 30),
        hint:
            "name only the columns that you need; or query the views of the database with psql, as a role that may only read them"
                .to_string(),
    }
}

/// A registry without rows, in which the views are tables. The tables behind them are there so that they are refused by their names.
fn empty() -> Result<Connection, RegistryError> {
    let mut db = Connection::open_in_memory()?;
    schema::migrate(&mut db)?;
    for view in VIEWS.iter().filter(|view| !view.computed) {
        db.execute_batch(&format!("DROP VIEW {0}; CREATE TABLE {0} ({1})", view.name, view.column_names()))?;
    }
    Ok(db)
}

/// Copies `columns` of a view.
fn copy_view(
    source: &sqlstore::Connection,
    db: &Connection,
    (view, columns): (&View, &BTreeSet<String>),
    deadline: Deadline,
    bytes: &mut usize,
) -> Result<Copied, RegistryError> {
    let names: Vec<&str> = view.columns.iter().map(|column| column.name).filter(|name| columns.contains(*name)).collect();
    let (from, parameters) = from_clause(source, view)?;
    let listed = names.iter().map(|name| format!(", v.\"{name}\"")).collect::<String>();
    let mut statement = source.prepare(&format!("SELECT 1{listed} FROM {from}"))?;
    let mut rows = statement.query(sqlstore::params_from_iter(parameters))?;
    let insert = match names.is_empty() {
        true => format!("INSERT INTO {} DEFAULT VALUES", view.name),
        false => format!(
            "INSERT INTO {} ({}) VALUES ({})",
            view.name,
            names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "),
            vec!["?"; names.len()].join(", ")
        ),
    };
    let inserted = db.unchecked_transaction()?;
    let mut insert = inserted.prepare(&insert)?;
    let mut count = 0_usize;
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(names.len());
        for index in 0..names.len() {
            values.push(value(row.get_ref(index + 1)?));
        }
        *bytes += ROW_BYTES + values.iter().map(size).sum::<usize>();
        if *bytes > MAX_COPIED_BYTES {
            return Ok(Copied::TooLarge);
        }
        insert.execute(params_from_iter(values))?;
        count += 1;
        if count.is_multiple_of(ROWS_PER_CHECK) && Instant::now() >= deadline.at {
            return Ok(Copied::TooSlow);
        }
    }
    drop(insert);
    inserted.commit()?;
    Ok(Copied::All)
}

/// The view `v` and the order of its rows, which is that in which SQLite stores them.
fn from_clause(source: &sqlstore::Connection, view: &View) -> Result<(String, Option<sqlstore::Value>), RegistryError> {
    if view.name != "calls" {
        let more = if view.columns.iter().any(|column| column.name == "number") { ", v.number" } else { "" };
        return Ok((format!("{} AS v ORDER BY v.seq{more}", view.name), None));
    }
    // Without the calls that are dropped and not deleted yet.
    let (condition, places) = call_heads::existing(source)?;
    let condition = condition.replace("c.call", "v.call");
    Ok((
        format!("calls AS v JOIN call_batches AS b ON b.batch = v.batch WHERE {condition} ORDER BY v.batch, v.call"),
        Some(places),
    ))
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
