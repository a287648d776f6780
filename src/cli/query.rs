//! `aam query`: runs a query on the views of the registry.

use super::{CommandError, CommandResult, CommonOptions, EXIT_USAGE, Format, complete, left, terminal};
use crate::clock;
use crate::model::text::printable;
use crate::model::{ConnectionId, Intent, MissingFiles};
use crate::registry::query::{ComputedTable, QueryError, QueryLimits, QueryResult};
use crate::registry::views::VIEWS;
use crate::registry::{Reader, RegistryError};
use crate::report::drift::DriftFilter;
use crate::report::privileges::{PrivilegeFilter, collect};
use crate::report::status;
use crate::snapshot::Snapshot;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use rusqlite::types::Value;
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

/// The number of rows that are printed if `--limit` does not say otherwise.
const DEFAULT_LIMIT: usize = 1000;
/// The number of rows that `--limit` allows at most.
const MAX_LIMIT: usize = 1_000_000;
/// The time that a query gets if `--timeout` does not say otherwise.
const DEFAULT_SECONDS: u64 = 30;
/// The number of characters of a cell of a table; JSON and CSV have all of them.
const MAX_CELL_CHARS: usize = 80;
/// The largest query that is read from stdin, in bytes.
const MAX_SQL_BYTES: u64 = 1 << 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam query                                    the views and their columns
  aam query 'select status, count(*) from connections group by 1'
  aam query \"select datetime(at/1000,'unixepoch') as at, acknowledged_by from drift_acknowledgements\" --format csv
  aam query - < report.sql                     the query comes from stdin

Only views can be read, never changed; docs/sql.md describes them. A daemon may run at the same time.")]
pub struct QueryOptions {
    /// One SELECT on the views; - reads it from stdin; without one, the views are listed
    #[arg(allow_hyphen_values = true)]
    sql: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format())]
    format: Format,
    /// The number of rows at most
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_parser = limit)]
    limit: usize,
    /// The seconds that the query may take
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_SECONDS)]
    timeout: u64,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

/// Parses the value of `--limit`.
///
/// # Errors
/// Returns what to write instead.
pub fn limit(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err("write a whole number from 1, for example --limit 100".to_string()),
    }
}

/// The formats of this command, as the format that all commands share.
fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["table", "json", "csv"]).map(|text| match text.as_str() {
        "json" => Format::Json,
        "csv" => Format::Csv,
        _ => Format::Text,
    })
}

/// Exits with 0, with 64 if the query is not valid, and with 1 if an archive file with a verdict of the view `privileges` is missing.
pub fn run(common: &CommonOptions, options: &QueryOptions) -> CommandResult {
    let format = if options.json { Format::Json } else { options.format };
    let Some(sql) = &options.sql else {
        views(format);
        return Ok(ExitCode::SUCCESS);
    };
    let sql = match sql.as_str() {
        "-" => from_stdin()?,
        // A query may begin with a comment, which looks like an option.
        option if option.starts_with('-') && !option.contains(char::is_whitespace) => {
            return Err(CommandError::usage(format!("{option} is not an option of aam query; aam query --help lists them")));
        }
        sql => sql.to_string(),
    };
    let limits = QueryLimits { rows: options.limit.min(MAX_LIMIT), time: Duration::from_secs(options.timeout) };
    let reader = Reader::open(&common.registry)?;
    let mut missing = MissingFiles::default();
    let result = reader.query(&sql, &computed(&reader, &sql, &mut missing)?, limits).map_err(|error| match error {
        QueryError::Registry(error) => CommandError::from(error),
        QueryError::Invalid { .. } => CommandError { code: EXIT_USAGE, message: error.to_string() },
        QueryError::TooSlow { .. } => CommandError::new(error.to_string()),
    })?;
    match format {
        Format::Json => terminal::print_json(&(as_json(&result) + "\n")),
        Format::Csv => terminal::print(&as_csv(&result)),
        Format::Text | Format::Markdown | Format::Svg | Format::Html => terminal::print(&as_table(&result)),
    }
    if result.truncated {
        let shown = result.rows.len();
        terminal::print_error(&format!("aam: only the first {shown} rows are printed; --limit prints more\n"));
    }
    complete(&missing)
}

fn from_stdin() -> Result<String, CommandError> {
    let mut sql = String::new();
    let read = std::io::stdin().take(MAX_SQL_BYTES).read_to_string(&mut sql);
    read.map_err(|error| CommandError::new(format!("the query cannot be read from stdin: {error}")))?;
    Ok(sql)
}

fn views(format: Format) {
    let (mut text, mut all) = (String::new(), Vec::new());
    for view in &VIEWS {
        let _ = writeln!(text, "{}  {}\n    {}", view.name, view.about, view.column_names());
        let columns: Vec<_> =
            view.columns.iter().map(|column| json!({"name": column.name, "type": column.kind, "about": column.about})).collect();
        all.push(json!({"name": view.name, "about": view.about, "columns": columns}));
    }
    match format {
        Format::Json => terminal::print_json(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n")),
        _ => terminal::print(&text),
    }
}

/// Computes the tables that the query names.
fn computed(reader: &Reader, sql: &str, missing: &mut MissingFiles) -> Result<Vec<ComputedTable>, RegistryError> {
    let sql = sql.to_lowercase();
    let named = |name: &str| sql.contains(name);
    let mut tables = Vec::new();
    if !["connections", "privileges", "drift"].into_iter().any(named) {
        return Ok(tables);
    }
    let snapshot = reader.snapshot()?;
    let namespaces: BTreeSet<String> = snapshot.namespaces();
    if named("connections") {
        let rows = namespaces.iter().flat_map(|namespace| connections(reader, &snapshot, namespace)).collect();
        tables.push(ComputedTable { name: "connections", rows });
    }
    if named("privileges") {
        let rows = namespaces.iter().flat_map(|namespace| privileges(reader, &snapshot, namespace, missing)).collect();
        tables.push(ComputedTable { name: "privileges", rows });
    }
    if named("drift") {
        let mut rows = Vec::new();
        for namespace in &namespaces {
            drift(reader, &snapshot, namespace, &mut rows)?;
        }
        tables.push(ComputedTable { name: "drift", rows });
    }
    Ok(tables)
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn optional(value: Option<impl Into<String>>) -> Value {
    value.map_or(Value::Null, text)
}

fn list(values: &[String]) -> Value {
    text(serde_json::to_string(values).unwrap_or_default())
}

fn number(value: impl TryInto<i64>) -> Value {
    Value::Integer(value.try_into().unwrap_or(i64::MAX))
}

fn connections(reader: &Reader, snapshot: &Snapshot, namespace: &str) -> Vec<Vec<Value>> {
    let document = |seq: u64| -> Option<Intent> { serde_json::from_str(&reader.body(seq).ok()??).ok() };
    let lines = status::lines(snapshot, namespace, clock::from_env().now(), document);
    let version = |id: &ConnectionId| Some(snapshot.connections.get(id)?.catalog?.0);
    let row = |line: status::StatusLine| {
        vec![
            text(line.connection_id.to_string()),
            text(line.namespace),
            text(line.source_type),
            list(&line.resource_ids),
            text(line.owner),
            text(line.status.as_str()),
            optional(line.credential_locator),
            optional(line.risk.map(|risk| risk.to_string())),
            text(line.created),
            text(line.changed),
            optional(line.checked),
            number(line.failures),
            text(line.title),
            text(line.fix),
            version(&line.connection_id).map_or(Value::Null, number),
        ]
    };
    lines.into_iter().map(row).collect()
}

fn privileges(reader: &Reader, snapshot: &Snapshot, namespace: &str, missing: &mut MissingFiles) -> Vec<Vec<Value>> {
    let found = collect(&snapshot.shared(namespace), &PrivilegeFilter::default(), |seq| left(reader, seq, missing));
    let mut rows = Vec::new();
    for connection in found.connections {
        let head = [text(connection.connection_id), text(connection.namespace), text(connection.source_type)];
        let found_at = optional(connection.found_at);
        if connection.resources.is_empty() {
            let rest =
                [Value::Null, text(connection.verdict.as_str()), list(&[]), list(&[]), list(&[]), text(""), found_at.clone()];
            rows.push(head.iter().cloned().chain(rest).collect());
        }
        for resource in connection.resources {
            let rest = [
                text(resource.resource_id),
                text(resource.verdict.as_str()),
                list(&resource.grants),
                list(&resource.statements),
                list(&resource.steps),
                text(resource.reason),
                found_at.clone(),
            ];
            rows.push(head.iter().cloned().chain(rest).collect());
        }
    }
    rows
}

fn drift(reader: &Reader, snapshot: &Snapshot, namespace: &str, rows: &mut Vec<Vec<Value>>) -> Result<(), RegistryError> {
    let filter = DriftFilter { namespace: namespace.to_string(), ..DriftFilter::default() };
    let known = |id: ConnectionId| snapshot.connections.copy_of(&id);
    let json = |value: &serde_json::Value| if value.is_null() { Value::Null } else { text(value.to_string()) };
    reader.drift(&filter, None, known, |entry| {
        let (by, at) = entry.acknowledged.map(|known| (known.by, known.at)).unzip();
        for change in entry.changes {
            rows.push(vec![
                number(entry.seq),
                text(entry.at.clone()),
                text(entry.connection_id.clone()),
                text(entry.namespace.clone()),
                text(entry.source_type.clone()),
                number(entry.previous_version),
                number(entry.catalog_version),
                text(change.change.as_str()),
                text(change.stream),
                optional(change.field),
                json(&change.from),
                json(&change.to),
                Value::Integer(i64::from(change.breaking)),
                optional(by.clone()),
                optional(at.clone()),
            ]);
        }
        true
    })
}

/// A value as text. NULL is empty.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
    }
}

fn as_table(result: &QueryResult) -> String {
    let cell = |value: &Value| {
        let whole = if *value == Value::Null { "-".to_string() } else { shown(value) };
        let mut cut: String = whole.chars().take(MAX_CELL_CHARS).collect();
        if cut.len() < whole.len() {
            cut.push('…');
        }
        printable(&cut, &[]).into_owned()
    };
    let rows: Vec<Vec<String>> = result.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let head: Vec<String> = result.columns.iter().map(|name| printable(name, &[]).to_uppercase()).collect();
    let width = |index: usize| rows.iter().chain([&head]).map(|row| row[index].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    text
}

/// Returns an array of objects. Columns of the same name are numbered.
fn as_json(result: &QueryResult) -> String {
    let mut names: Vec<String> = Vec::new();
    for column in &result.columns {
        let count = result.columns.iter().take(names.len()).filter(|known| *known == column).count();
        names.push(if count == 0 { column.clone() } else { format!("{column}_{}", count + 1) });
    }
    let value = |value: &Value| match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Text(_) | Value::Blob(_) => json!(shown(value)),
    };
    let row = |row: &Vec<Value>| names.iter().cloned().zip(row.iter().map(value)).collect::<Map<_, _>>();
    serde_json::to_string_pretty(&result.rows.iter().map(row).collect::<Vec<_>>()).unwrap_or_default()
}

/// Returns CSV (RFC 4180) with a line of names.
fn as_csv(result: &QueryResult) -> String {
    let quoted = |text: String| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    };
    let head = result.columns.iter().cloned().map(quoted).collect::<Vec<_>>().join(",");
    let rows = result.rows.iter().map(|row| row.iter().map(|value| quoted(shown(value))).collect::<Vec<_>>().join(","));
    std::iter::once(head).chain(rows).fold(String::new(), |text, line| text + &line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_keep_every_value() {
        let result = QueryResult {
            columns: ["a", "a", "b"].map(str::to_string).to_vec(),
            rows: vec![
                vec![Value::Integer(1), Value::Null, text("x,\"y\"\nz")],
                vec![Value::Real(0.5), Value::Blob(vec![255]), text("")],
            ],
            truncated: false,
        };
        assert_eq!(as_csv(&result), "a,a,b\n1,,\"x,\"\"y\"\"\nz\"\n0.5,ff,\n");
        let json: serde_json::Value = serde_json::from_str(&as_json(&result)).unwrap();
        assert_eq!(json[0], json!({"a": 1, "a_2": null, "b": "x,\"y\"\nz"}));
        let table = as_table(&result);
        assert!(table.starts_with("A    A   B\n1    -   x,\"y\"\\u{a}z\n"), "{table}");
    }
}
