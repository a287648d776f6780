//! Runs a query of a person on the views of the registry, within bounds, while a daemon may be writing.
//!
//! SQLite itself keeps the query from anything but reading: the file is opened read-only, and its authorizer allows `SELECT` on
//! the views and nothing else. The tables behind the views are not part of the contract, so they are refused by name. What a query
//! reads of a registry in PostgreSQL is copied into SQLite before; see `copy`.

mod copy;

use super::views::{self, VIEWS, View};
use super::{Reader, RegistryError, reader};
use crate::model::problem::nearest;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The length of a value, and of all values of a result, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// The length of a query in bytes.
const MAX_SQL_BYTES: usize = 1 << 20;
/// The number of steps of SQLite's virtual machine after which the time is checked.
const STEPS: i32 = 10_000;

/// How long a query may take if more than that is asked for.
const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);

/// What makes a query of a file faster.
const FIX_OF_FILE: &str = "narrow it with WHERE or LIMIT, or allow more with --timeout";
/// A condition of the query does not make the copy of a view smaller.
const FIX_OF_COPY: &str = "allow more with --timeout, or name fewer views and only the columns that you need, because all their \
                           rows are copied from the database first; or query its views with psql, as a role that may only read them";

/// The bounds of a query.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    pub rows: usize,
    pub time: Duration,
}

/// The rows of a computed table, in the order of the columns of its view.
pub struct ComputedTable {
    pub name: &'static str,
    pub rows: Vec<Vec<Value>>,
}

/// What a query returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryResult {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// True if there are more rows than the limits allow.
    pub truncated: bool,
}

/// Why a query has no result.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query is not valid, or reads something else than the views. The hint says what to write.
    #[error("{message}\n  fix: {hint}")]
    Invalid { message: String, hint: String },
    #[error("the query did not finish within {} s and was stopped; {fix}", .time.as_secs())]
    TooSlow { time: Duration, fix: &'static str },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Reader {
    /// Runs `sql` on the views and on `tables`.
    ///
    /// # Errors
    /// If the query is not valid or takes too long, or if the registry cannot be read.
    pub fn query(&self, sql: &str, tables: &[ComputedTable], limits: QueryLimits) -> Result<QueryResult, QueryError> {
        if is_blank(sql) {
            let hint = "write one SELECT; aam query without a query lists the views".to_string();
            let message =
                if sql.trim().is_empty() { "the query is empty" } else { "the query holds no statement, only comments" };
            return Err(QueryError::Invalid { message: message.to_string(), hint });
        }
        let deadline = Deadline::new(limits.time, self.location().postgres().is_some());
        let mut db = match self.location().postgres() {
            None => {
                let db = reader::connect_sqlite(self.location().local(), false)?;
                add(&db, tables, EXISTING_CALLS).map_err(RegistryError::from)?;
                db
            }
            Some(_) => copy::copy(self, sql, tables, deadline)?,
        };
        let refused = restrict(&mut db, sql, deadline, None).map_err(RegistryError::from)?;
        run(&db, sql, limits.rows).map_err(|error| explain(&error, sql, &refused, deadline))
    }
}

/// Whether `sql` holds nothing but blanks, semicolons and comments.
fn is_blank(sql: &str) -> bool {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            // SQLite ends an open comment at the end of the query.
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return rest.is_empty();
        };
    }
}

/// Hides what somebody wrote below the calls that exist; `aam verify` names it.
const EXISTING_CALLS: &str = "CREATE TEMP VIEW calls AS SELECT * FROM main.calls WHERE batch > coalesce(
    (SELECT json_extract(facts, '$.calls.batch') FROM main.ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1), 0)
  AND batch > coalesce((SELECT json_extract(facts, '$.last') FROM main.ledger WHERE kind = 'calls_archived' ORDER BY seq DESC LIMIT 1), 0)";

/// Creates the computed tables and what `views` creates in the temporary database of this connection, which is in memory.
fn add(db: &Connection, tables: &[ComputedTable], views: &str) -> rusqlite::Result<()> {
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "query_only", false)?;
    db.execute_batch(views)?;
    for table in tables {
        let Some(view) = views::find(table.name) else { continue };
        let marks = vec!["?"; view.columns.len()].join(", ");
        db.execute_batch(&format!("CREATE TEMP TABLE {} ({})", view.name, view.column_names()))?;
        let mut insert = db.prepare(&format!("INSERT INTO temp.{} VALUES ({marks})", view.name))?;
        for row in &table.rows {
            insert.execute(rusqlite::params_from_iter(row))?;
        }
    }
    db.pragma_update(None, "query_only", true)
}

/// When a query is stopped.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    /// The time that the query has in all.
    time: Duration,
    /// What helps when that was not enough.
    fix: &'static str,
}

impl Deadline {
    fn new(time: Duration, is_database: bool) -> Deadline {
        let now = Instant::now();
        let fix = if is_database { FIX_OF_COPY } else { FIX_OF_FILE };
        Deadline { at: now.checked_add(time).unwrap_or(now + MAX_TIME), time, fix }
    }

    /// How much time is left.
    fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    fn too_slow(self) -> QueryError {
        QueryError::TooSlow { time: self.time, fix: self.fix }
    }
}

/// What the authorizer refused first.
type Refused = Arc<Mutex<Option<String>>>;

/// The columns that a query reads, by view. A view of which it only counts the rows has no columns.
type Reads = Arc<Mutex<BTreeMap<&'static str, BTreeSet<String>>>>;

/// Restricts the connection to reading the views until `deadline`. What statements read from now on is added to `reads`.
fn restrict(db: &mut Connection, sql: &str, deadline: Deadline, reads: Option<Reads>) -> rusqlite::Result<Refused> {
    let bytes = i32::try_from(MAX_BYTES).unwrap_or(i32::MAX);
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes)?;
    db.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, i32::try_from(MAX_SQL_BYTES).unwrap_or(i32::MAX))?;
    db.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    // Otherwise a column that does not exist would be a text if it is written in double quotes.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    db.progress_handler(STEPS, Some(move || Instant::now() >= deadline.at))?;
    let (tables, sql) = (tables(db)?, sql.to_ascii_lowercase());
    let refused = Refused::default();
    let first = Arc::clone(&refused);
    db.authorizer(Some(move |context: AuthContext<'_>| match refusal(&context, &tables, &sql) {
        None => {
            note_read(&context, reads.as_ref());
            Authorization::Allow
        }
        Some(what) => {
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
            Authorization::Deny
        }
    }))?;
    Ok(refused)
}

fn note_read(context: &AuthContext<'_>, reads: Option<&Reads>) {
    let (Some(reads), AuthAction::Read { table_name, column_name }) = (reads, context.action) else { return };
    let Some(view) = views::find(table_name) else { return };
    let mut reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
    reads.entry(view.name).or_default().insert(column_name.to_ascii_lowercase());
}

/// The names of the tables behind the views.
fn tables(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names: BTreeSet<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}

/// Returns what a query is not allowed to do, or `None` if it is allowed. `tables` are those behind the views.
/// `sql` is the query in lower case.
fn refusal(context: &AuthContext<'_>, tables: &BTreeSet<String>, sql: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_named = |name: &str| sql.split(|c: char| !is_part(c)).any(|part| part == name);
    let is_view = |name: &str| views::find(name).is_some();
    match context.action {
        AuthAction::Select | AuthAction::Recursive => None,
        AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
            Some("calls load_extension".to_string())
        }
        AuthAction::Function { .. } => None,
        AuthAction::Read { table_name, .. } if is_view(table_name) || matches!(table_name, "json_each" | "json_tree") => None,
        // The tables behind a view are read on its behalf.
        AuthAction::Read { .. } if context.accessor.is_some_and(is_view) => None,
        // count(*) of a view reads no column of the table behind it, and not on behalf of the view.
        AuthAction::Read { table_name, column_name: "" } if !is_named(table_name) => None,
        // A query reads its own recursive part under the name that it gave it.
        AuthAction::Read { table_name, .. }
            if !tables.contains(table_name) && !table_name.starts_with("sqlite_") && !table_name.starts_with("pragma_") =>
        {
            None
        }
        AuthAction::Read { table_name, .. } => Some(format!("reads {table_name}, which is not a view")),
        AuthAction::Attach { .. } => Some("attaches another file".to_string()),
        AuthAction::Pragma { pragma_name, .. } => Some(format!("uses PRAGMA {pragma_name}")),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Some("controls transactions".to_string()),
        _ => Some("changes something".to_string()),
    }
}

fn run(db: &Connection, sql: &str, max_rows: usize) -> rusqlite::Result<QueryResult> {
    let mut statement = db.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_string).collect();
    let mut result = QueryResult { columns, ..QueryResult::default() };
    let mut bytes = 0_usize;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let values: Vec<Value> = (0..result.columns.len()).map(|index| row.get(index)).collect::<Result<_, _>>()?;
        bytes += values.iter().map(size).sum::<usize>();
        if result.rows.len() >= max_rows || bytes > MAX_BYTES {
            result.truncated = true;
            break;
        }
        result.rows.push(values);
    }
    Ok(result)
}

fn size(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        }
}

/// Returns the error for a person.
fn explain(error: &rusqlite::Error, sql: &str, refused: &Refused, deadline: Deadline) -> QueryError {
    let invalid = |message: String, hint: String| QueryError::Invalid { message, hint };
    let views = || VIEWS.map(|view| view.name).join(", ");
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return deadline.too_slow();
    }
    if let Some(what) = refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return invalid(format!("the query {what}; aam query only reads the views"), format!("the views are {}", views()));
    }
    if matches!(error, rusqlite::Error::MultipleStatement) {
        return invalid("the query has more than one statement".to_string(), "send one SELECT at a time".to_string());
    }
    let text = match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    if let Some(name) = text.strip_prefix("no such column: ") {
        // SQLite asks whether a name in double quotes was meant as a text.
        let name = name.split(" - ").next().unwrap_or(name);
        return invalid(format!("no such column: {name}"), columns_hint(name, sql));
    }
    if let Some(name) = text.strip_prefix("no such table: ") {
        let meant = nearest(name, VIEWS.iter().map(|view| view.name)).map(|near| format!("did you mean {near}? "));
        return invalid(text.clone(), format!("{}the views are {}", meant.unwrap_or_default(), views()));
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => {
            invalid(text, "see the examples of aam query --help and the views in docs/sql.md".to_string())
        }
        Some(_) => QueryError::Registry(RegistryError::Other(format!("registry: {text}"))),
    }
}

/// Names the columns of the views in the query, the nearest one first.
fn columns_hint(name: &str, sql: &str) -> String {
    let lower = sql.to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let parts: Vec<&str> = lower.split(|c: char| !is_part(c)).collect();
    let used: Vec<&View> = VIEWS.iter().filter(|view| parts.contains(&view.name)).collect();
    let column = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    let all = used.iter().flat_map(|view| view.columns.iter().map(|column| column.name));
    let meant = nearest(column, all).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    let listed: Vec<String> = used.iter().map(|view| format!("{} has {}", view.name, view.column_names())).collect();
    match listed.is_empty() {
        true => "name a view after FROM; aam query without a query lists them".to_string(),
        false => format!("{meant}{}", listed.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_too_slow_says_what_helps() {
        let said = |is_database| Deadline::new(Duration::from_secs(30), is_database).too_slow().to_string();
        assert!(said(false).contains("within 30 s") && said(false).contains("narrow it with WHERE or LIMIT"));
        let of_database = said(true);
        assert!(of_database.contains("allow more with --timeout") && of_database.contains("only the columns that you need"));
        assert!(!of_database.contains("WHERE"), "all rows are copied, whatever the condition: {of_database}");
    }
}
