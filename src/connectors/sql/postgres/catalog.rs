//! Reads the structure from `pg_catalog`. Every role can read it, even without SELECT on the tables.

use super::errors::StatementFailure;
use super::relation_errors;
use super::wire::{PostgresSession, Row};
use crate::connectors::sql::quote;
use crate::connectors::sql::sampling::unreadable_warning;
use crate::connectors::sql::types::{self, Column, Table};
use crate::connectors::{Bounds, Discovery};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Evidence, Failure};
use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// The number of tables whose columns one query describes.
const TABLES_PER_QUERY: usize = 200;

/// One relation without its columns.
#[derive(Clone, Debug)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: &'static str,
    /// The estimated number of rows, or `None` if the table was never analysed.
    pub rows: Option<u64>,
    pub usage: bool,
    pub select: bool,
    /// Whether the role has SELECT on at least one column, but not on the table.
    pub some_columns: bool,
    /// Whether row level security filters the rows that this role reads.
    pub filtered: bool,
}

impl Relation {
    /// Whether the role can read rows.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.usage && (self.select || self.some_columns)
    }

    /// The quoted name, `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote::double(&self.schema), quote::double(&self.name))
    }

    /// The missing privileges in the notation of GRANT, or an empty text if no privilege is missing.
    #[must_use]
    pub fn missing(&self) -> &'static str {
        match (self.usage, self.select || self.some_columns) {
            (true, true) => "",
            (false, true) => "USAGE on the schema",
            (true, false) => "SELECT on the table",
            (false, false) => "USAGE on the schema and SELECT on the table",
        }
    }
}

/// Selects relations outside the system schemas and outside extensions. Partitions are left out, because they belong to their
/// parent table.
const FROM: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r','p','v','m','f') AND NOT c.relispartition \
    AND n.nspname NOT IN ('pg_catalog','information_schema') AND n.nspname !~ '^pg_(toast|temp|toast_temp)' \
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// What is read of each relation after its schema and its name.
const COLUMNS_OF_RELATION: &str = "c.oid, c.relkind, c.reltuples::bigint, has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), has_any_column_privilege(c.oid, 'SELECT'), \
    c.relkind IN ('r','p') AND row_security_active(c.oid)";

/// The condition for one schema, if the resource id names one.
pub fn only_schema(wire: &PostgresSession) -> String {
    wire.server.schema.as_deref().map_or_else(String::new, |name| format!(" AND n.nspname = {}", quote::literal(name)))
}

/// The relations of a database.
#[derive(Debug, Default)]
pub struct Relations {
    pub relations: Vec<Relation>,
    /// Relations whose names are not valid UTF-8.
    pub skipped: Vec<SkippedStream>,
}

/// The names as text, and the names as hexadecimal bytes. In a database with the encoding SQL_ASCII, a name can hold bytes
/// that are not UTF-8, and the server then refuses to send it as text.
const NAMES: &str = "n.nspname, c.relname";
const NAMES_AS_HEX: &str = "encode(convert_to(n.nspname::text, getdatabaseencoding()), 'hex'), \
    encode(convert_to(c.relname::text, getdatabaseencoding()), 'hex')";

/// Lists up to `limit` relations. `order` is the sort order, a constant in the caller.
pub async fn relations(wire: &PostgresSession, order: &str, limit: usize) -> Result<Relations, Failure> {
    let list = async |names: &str| {
        let sql = format!("SELECT {names}, {COLUMNS_OF_RELATION} {FROM}{} ORDER BY {order} LIMIT {limit}", only_schema(wire));
        wire.query("list the tables", &sql, &[9]).await
    };
    match list(NAMES).await {
        Ok(sets) => {
            let relations = sets.into_iter().flatten().filter_map(|row| {
                let text = |at: usize| row.get(at).cloned().flatten();
                relation(&row, text(0)?, text(1)?)
            });
            Ok(Relations { relations: relations.collect(), skipped: Vec::new() })
        }
        Err(failed) if is_encoding_error(&failed) => Ok(decoded(&list(NAMES_AS_HEX).await.map_err(|failed| failed.failure)?)),
        Err(failed) => Err(failed.failure),
    }
}

/// `22021` and `22P05`: the server cannot convert a text to UTF-8.
fn is_encoding_error(failed: &StatementFailure) -> bool {
    matches!(failed.code.as_deref(), Some("22021" | "22P05"))
}

/// The relations of rows whose names are hexadecimal.
fn decoded(sets: &[Vec<Row>]) -> Relations {
    let mut found = Relations::default();
    for row in sets.iter().flatten() {
        let name = |at: usize| row.get(at).and_then(Option::as_deref).and_then(|name| HEXLOWER.decode(name.as_bytes()).ok());
        let (Some(schema), Some(name)) = (name(0), name(1)) else { continue };
        match (String::from_utf8(schema), String::from_utf8(name)) {
            (Ok(schema), Ok(name)) => found.relations.extend(relation(row, schema, name)),
            (_, name) => {
                let shown = name.unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string());
                found.skipped.push(SkippedStream::new(shown, "its name or that of its schema is not valid UTF-8; rename it"));
            }
        }
    }
    found
}

fn relation(row: &Row, schema: String, name: String) -> Option<Relation> {
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    let yes = |at: usize| text(at) == Some("t");
    Some(Relation {
        oid: text(2)?.parse().ok()?,
        schema,
        name,
        kind: match text(3)? {
            "v" => "view",
            "m" => "materialized view",
            "f" => "foreign table",
            _ => "table",
        },
        // -1 means that the table was never analysed. Before PostgreSQL 14 this value was 0.
        rows: text(4).and_then(|rows| rows.parse::<u64>().ok()),
        usage: yes(5),
        select: yes(6),
        some_columns: yes(7),
        filtered: yes(8),
    })
}

/// Builds the Catalog v1 of the database.
///
/// # Errors
/// The errors of [`PostgresSession::ask`].
pub async fn discover(wire: &PostgresSession, bounds: Bounds) -> Result<Discovery, Failure> {
    let started = Instant::now();
    let Relations { relations: mut all, skipped } =
        relations(wire, "n.nspname, c.relname", bounds.streams.saturating_add(1)).await?;
    let mut truncated = all.len() > bounds.streams;
    all.truncate(bounds.streams);
    let seen = all.len();
    let mut catalog = Catalog { skipped, ..Catalog::default() };
    for chunk in all.chunks(TABLES_PER_QUERY) {
        if started.elapsed() > bounds.time || wire.bytes() > bounds.bytes {
            truncated = true;
            break;
        }
        truncated |= describe(wire, chunk, bounds.columns, &mut catalog).await?;
    }
    let blind: Vec<&Relation> = all.iter().filter(|relation| !relation.readable()).collect();
    let mut evidence = Evidence::new();
    evidence.insert("streams".into(), json!(catalog.streams.len()));
    evidence.insert("readable".into(), json!(seen - blind.len()));
    let named: Vec<String> =
        blind.iter().map(|relation| format!("{} (lacks {})", relation.quoted(), relation.missing())).collect();
    if !named.is_empty() {
        evidence.insert("unreadable".into(), json!(named.iter().take(10).collect::<Vec<_>>()));
        evidence.insert("unreadable_count".into(), json!(named.len()));
    }
    let grant = blind.first().map(|relation| grant_for(&relation.schema, &wire.user)).unwrap_or_default();
    let warning = unreadable_warning(&named, seen, grant);
    catalog.truncated = truncated;
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning })
}

/// The statements that allow `role` to read all tables of `schema`.
pub fn grant_for(schema: &str, role: &str) -> String {
    let (schema, role) = (quote::double(schema), quote::double(role));
    format!("GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};")
}

/// Adds the streams of `chunk`. Returns whether columns were cut off.
///
/// If the server refuses to describe the chunk, its halves are described, down to the relation that cannot be described.
fn describe<'a>(
    wire: &'a PostgresSession,
    chunk: &'a [Relation],
    columns: usize,
    catalog: &'a mut Catalog,
) -> BoxFuture<'a, Result<bool, Failure>> {
    Box::pin(async move {
        match wire.query("describe the columns", &describing(chunk), &[6, 2]).await {
            Ok(sets) => Ok(add_streams(chunk, columns, catalog, sets)),
            Err(failed) if failed.ends_session || needs_more_time(&failed) => Err(failed.failure),
            Err(failed) if chunk.len() <= 1 => {
                let name = chunk.first().map_or("", |relation| relation.name.as_str());
                catalog
                    .skipped
                    .push(SkippedStream::new(name, format!("its columns could not be described: {}", failed.failure.detail)));
                Ok(false)
            }
            Err(_) => {
                let (left, right) = chunk.split_at(chunk.len() / 2);
                let cut = describe(wire, left, columns, catalog).await?;
                Ok(describe(wire, right, columns, catalog).await? || cut)
            }
        }
    })
}

/// Whether the halves of a chunk would run into the same limit of time.
fn needs_more_time(failed: &StatementFailure) -> bool {
    relation_errors::may_need_more_time(failed.code.as_deref())
}

/// The statements that read the columns and the keys of `chunk`.
fn describing(chunk: &[Relation]) -> String {
    let oids = chunk.iter().map(|relation| relation.oid.to_string()).collect::<Vec<_>>().join(",");
    format!(
        "SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
         CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, t.typtype = 'd' AND t.typnotnull \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid IN ({oids}) ORDER BY a.attrelid, a.attnum; \
         SELECT i.indrelid, a.attname FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indisprimary AND i.indrelid IN ({oids}) ORDER BY i.indrelid, k.place"
    )
}

/// Adds the streams of `chunk`, described by `sets`. Returns whether columns were cut off.
fn add_streams(chunk: &[Relation], columns: usize, catalog: &mut Catalog, sets: Vec<Vec<Row>>) -> bool {
    let mut sets = sets.into_iter();
    let mut described: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
    for (oid, column) in sets.next().unwrap_or_default().iter().filter_map(column) {
        described.entry(oid).or_default().push(column);
    }
    let mut keys: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in sets.next().unwrap_or_default() {
        if let [Some(oid), Some(name)] = row.as_slice() {
            keys.entry(oid.parse().unwrap_or_default()).or_default().push(name.clone());
        }
    }
    let mut truncated = false;
    for relation in chunk {
        let mut own = described.remove(&relation.oid).unwrap_or_default();
        if own.len() > columns {
            own.truncate(columns);
            truncated = true;
        }
        if own.is_empty() && relation.kind != "table" {
            catalog.skipped.push(SkippedStream::new(relation.name.as_str(), "it does not have columns"));
            continue;
        }
        catalog.streams.push(types::stream(Table {
            namespace: Some(relation.schema.clone()),
            name: relation.name.clone(),
            kind: relation.kind,
            columns: own,
            key: keys.remove(&relation.oid).unwrap_or_default(),
            rows: relation.rows.filter(|_| relation.kind != "view"),
        }));
    }
    truncated
}

fn column(row: &Row) -> Option<(u32, Column)> {
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    let native = text(2)?.to_string();
    let schema = types::postgres(text(4).unwrap_or(&native));
    let nullable = text(3) != Some("t") && text(5) != Some("t");
    Some((text(0)?.parse().ok()?, Column { name: text(1)?.to_string(), native, nullable, schema }))
}
