//! Reads the structure from `information_schema`, and a few rows. `information_schema` shows an account only the objects on
//! which it has privileges, so an empty list proves that the database is empty only if a grant covers the whole database.

use super::errors;
use super::wire::{MysqlSession, Row};
use crate::connectors::sql::limits;
use crate::connectors::sql::quote::backtick;
use crate::connectors::sql::types::{self, Column, Table};
use crate::connectors::{Bounds, Discovery, Sample};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Evidence, Failure};
use serde_json::json;
use std::collections::BTreeMap;

/// One table or view.
struct Relation {
    name: String,
    kind: &'static str,
    rows: Option<u64>,
}

async fn relations(wire: &MysqlSession, limit: usize) -> Result<Vec<Relation>, Failure> {
    let sql = format!(
        "SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME LIMIT {limit}"
    );
    let sets = wire.ask("list the tables", &[&sql]).await?;
    Ok(sets.into_iter().flatten().filter_map(relation).collect())
}

fn relation(row: Row) -> Option<Relation> {
    let [Some(name), kind, rows] = row.as_slice() else {
        return None;
    };
    let kind = match kind.as_deref() {
        Some(kind) if kind.contains("VIEW") => "view",
        Some("SEQUENCE") => return None,
        _ => "table",
    };
    Some(Relation { name: name.clone(), kind, rows: rows.as_deref().and_then(|rows| rows.parse().ok()) })
}

/// Builds the Catalog v1 of the database.
///
/// # Errors
/// The errors of [`MysqlSession::ask`].
pub async fn discover(wire: &MysqlSession, bounds: Bounds) -> Result<Discovery, Failure> {
    let mut all = relations(wire, bounds.streams.saturating_add(1)).await?;
    let mut truncated = all.len() > bounds.streams;
    all.truncate(bounds.streams);
    let budget = bounds.streams.saturating_mul(bounds.columns).min(200_000);
    let columns_sql = format!(
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, PRIVILEGES FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION LIMIT {budget}"
    );
    let keys_sql = "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
         WHERE TABLE_SCHEMA = DATABASE() AND CONSTRAINT_NAME = 'PRIMARY' ORDER BY TABLE_NAME, ORDINAL_POSITION";
    let mut sets = wire.ask("describe the columns", &[&columns_sql, keys_sql]).await?.into_iter();
    let rows = sets.next().unwrap_or_default();
    truncated |= rows.len() >= budget || wire.bytes() > bounds.bytes;
    let mut described: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    let mut readable: BTreeMap<String, bool> = BTreeMap::new();
    for row in rows {
        let [Some(table), Some(name), Some(native), nullable, rights] = row.as_slice() else {
            continue;
        };
        *readable.entry(table.clone()).or_default() |= may_select(rights.as_deref());
        let own = described.entry(table.clone()).or_default();
        if own.len() == bounds.columns {
            truncated = true;
            continue;
        }
        own.push(Column {
            name: name.clone(),
            native: native.clone(),
            nullable: nullable.as_deref() == Some("YES"),
            schema: types::mysql(native),
        });
    }
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sets.next().unwrap_or_default() {
        if let [Some(table), Some(column)] = row.as_slice() {
            keys.entry(table.clone()).or_default().push(column.clone());
        }
    }
    let mut catalog = Catalog { truncated, ..Catalog::default() };
    for relation in all {
        match described.remove(&relation.name) {
            Some(columns) => catalog.streams.push(types::stream(Table {
                namespace: Some(wire.server.database.clone()),
                kind: relation.kind,
                columns,
                key: keys.remove(&relation.name).unwrap_or_default(),
                rows: relation.rows.filter(|_| relation.kind == "table"),
                name: relation.name,
            })),
            None => {
                let reason = match relation.kind {
                    "view" => "the view cannot be described: it is not valid, or it writes when it is read",
                    _ => "the account cannot see any of its columns",
                };
                catalog.skipped.push(SkippedStream::new(relation.name, reason));
            }
        }
    }
    let mut evidence = Evidence::new();
    evidence.insert("streams".into(), json!(catalog.streams.len()));
    let blind: Vec<String> =
        readable.iter().filter(|(_, may)| !**may).map(|(name, _)| format!("{} (lacks SELECT)", backtick(name))).collect();
    evidence.insert("readable".into(), json!(readable.len() - blind.len()));
    if !blind.is_empty() {
        evidence.insert("unreadable_count".into(), json!(blind.len()));
        evidence.insert("unreadable".into(), json!(blind.into_iter().take(10).collect::<Vec<_>>()));
    }
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
}

/// Whether `COLUMNS.PRIVILEGES` contains `select`.
fn may_select(rights: Option<&str>) -> bool {
    rights.is_some_and(|rights| rights.split(',').any(|right| right.trim().eq_ignore_ascii_case("select")))
}

/// Lists tables before views and tables with rows before empty ones, each with its columns and the privileges on them.
const CANDIDATES: &str = "SELECT T.TABLE_NAME, C.COLUMN_NAME, C.PRIVILEGES FROM \
    (SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE <> 'SEQUENCE' \
     ORDER BY TABLE_TYPE <> 'BASE TABLE', COALESCE(TABLE_ROWS, 1) = 0, TABLE_NAME LIMIT 50) AS T \
    LEFT JOIN information_schema.COLUMNS AS C ON C.TABLE_SCHEMA = DATABASE() AND C.TABLE_NAME = T.TABLE_NAME \
    ORDER BY T.TABLE_TYPE <> 'BASE TABLE', COALESCE(T.TABLE_ROWS, 1) = 0, T.TABLE_NAME, C.ORDINAL_POSITION";

/// Reads at most `max_items` rows and counts them. The values are not kept.
///
/// # Errors
/// `PermissionDenied` if tables exist but none can be read, or if no table is visible and no grant proves that there
/// are none.
pub async fn sample(wire: &MysqlSession, sees_all: bool, max_items: u32) -> Result<Sample, Failure> {
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for row in wire.ask("choose a table", &[CANDIDATES]).await?.into_iter().flatten() {
        let [Some(table), column, rights] = row.as_slice() else {
            continue;
        };
        if tables.last().is_none_or(|(last, _)| last != table) {
            tables.push((table.clone(), Vec::new()));
        }
        let Some((_, columns)) = tables.last_mut() else {
            continue;
        };
        match column {
            Some(column) if may_select(rights.as_deref()) => columns.push(backtick(column)),
            Some(_) => {}
            // The server cannot describe this view here. Reading the view returns the reason.
            None => columns.push("*".to_string()),
        }
    }
    let mut evidence = Evidence::new();
    if tables.is_empty() {
        if !sees_all {
            return Err(blind(wire, "the account does not see any table, and no grant covers the whole database"));
        }
        evidence.insert("note".into(), json!("empty: the database has no tables"));
        return Ok(Sample { rows: 0, evidence, warning: None });
    }
    let mut denied: Option<Failure> = None;
    let mut empty: Vec<&str> = Vec::new();
    for (table, columns) in tables.iter().filter(|(_, columns)| !columns.is_empty()).take(limits::MAX_SAMPLED_TABLES) {
        let sql = format!("SELECT {} FROM {} LIMIT {max_items}", columns.join(", "), backtick(table));
        match wire.ask(&format!("read {}", backtick(table)), &[&sql]).await {
            Ok(sets) => {
                let rows: u64 = sets.iter().map(|set| set.len() as u64).sum();
                if rows > 0 {
                    evidence.insert("stream".into(), json!(table));
                    evidence.insert("rows".into(), json!(rows));
                    return Ok(Sample { rows, evidence, warning: None });
                }
                empty.push(table);
            }
            Err(failure) if errors::only_this_one(&failure) => denied = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    if empty.is_empty() {
        let first = tables.first().map_or("", |(table, _)| table.as_str());
        return Err(denied.unwrap_or_else(|| blind(wire, &format!("the account does not have SELECT on {}", backtick(first)))));
    }
    evidence.insert("empty_streams".into(), json!(empty));
    evidence.insert("note".into(), json!("empty: the tables that were read have no rows"));
    Ok(Sample { rows: 0, evidence, warning: None })
}

fn blind(wire: &MysqlSession, detail: &str) -> Failure {
    Failure::new(
        Class::PermissionDenied,
        format!("{}: {} does not have permission to read any table", wire.server, wire.user),
        format!(
            "GRANT SELECT, SHOW VIEW ON {}.* TO '{}'@'HOST';",
            backtick(&wire.server.database),
            wire.user.replace('\'', "''")
        ),
    )
    .detail(detail)
}
