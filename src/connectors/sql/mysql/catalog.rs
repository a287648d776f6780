//! Reads the structure from `information_schema`, and a few rows. `information_schema` shows an account only the objects on
//! which it has privileges, so an empty list proves that the database is empty only if a grant covers the whole database.

use super::client::Row;
use super::errors::grant_for;
use super::session::MysqlSession;
use crate::connectors::sql::limits;
use crate::connectors::sql::quote::backtick;
use crate::connectors::sql::sampling::{Sampling, unreadable_warning};
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

async fn relations(session: &MysqlSession, limit: usize) -> Result<Vec<Relation>, Failure> {
    let sql = format!(
        "SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME LIMIT {limit}"
    );
    let sets = session.ask("list the tables", &[(&sql, 3)]).await?;
    Ok(sets.into_iter().flat_map(|set| set.rows).filter_map(relation).collect())
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
pub async fn discover(session: &MysqlSession, bounds: Bounds) -> Result<Discovery, Failure> {
    let mut all = relations(session, bounds.streams.saturating_add(1)).await?;
    let mut truncated = all.len() > bounds.streams;
    all.truncate(bounds.streams);
    let budget = bounds.streams.saturating_mul(bounds.columns).min(200_000);
    let columns_sql = format!(
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, PRIVILEGES FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION LIMIT {budget}"
    );
    let keys_sql = "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
         WHERE TABLE_SCHEMA = DATABASE() AND CONSTRAINT_NAME = 'PRIMARY' ORDER BY TABLE_NAME, ORDINAL_POSITION";
    let mut sets = session.ask("describe the columns", &[(&columns_sql, 5), (keys_sql, 2)]).await?.into_iter();
    let columns = sets.next().unwrap_or_default();
    truncated |= columns.truncated || columns.rows.len() >= budget || session.bytes() > bounds.bytes;
    let mut described: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    let mut readable: BTreeMap<String, bool> = BTreeMap::new();
    for row in columns.rows {
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
    for row in sets.next().unwrap_or_default().rows {
        if let [Some(table), Some(column)] = row.as_slice() {
            keys.entry(table.clone()).or_default().push(column.clone());
        }
    }
    let mut catalog = Catalog { truncated, ..Catalog::default() };
    for relation in all {
        match described.remove(&relation.name) {
            Some(columns) => catalog.streams.push(types::stream(Table {
                namespace: Some(session.server.database.clone()),
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
        evidence.insert("unreadable".into(), json!(blind.iter().take(10).collect::<Vec<_>>()));
    }
    let warning = unreadable_warning(&blind, readable.len(), grant_for(&session.server, &session.user));
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning })
}

/// Whether `COLUMNS.PRIVILEGES` contains `select`.
fn may_select(rights: Option<&str>) -> bool {
    rights.is_some_and(|rights| rights.split(',').any(|right| right.trim().eq_ignore_ascii_case("select")))
}

/// The number of candidates that one statement lists.
const CANDIDATES_PER_PAGE: usize = 50;

/// A table or view that the tiny sync may read.
struct Candidate {
    name: String,
    /// The expressions to select. Empty if the account may not read any column.
    columns: Vec<String>,
}

/// Lists candidates: tables before views and tables with rows before empty ones, each with its columns and the privileges
/// on them.
async fn candidates(session: &MysqlSession, skip: usize) -> Result<Vec<Candidate>, Failure> {
    const ORDER: &str = "TABLE_TYPE LIKE '%VIEW%', COALESCE(TABLE_ROWS, 1) = 0, TABLE_NAME";
    let sql = format!(
        "SELECT T.TABLE_NAME, C.COLUMN_NAME, C.PRIVILEGES, C.DATA_TYPE FROM \
         (SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE <> 'SEQUENCE' \
          ORDER BY {ORDER} LIMIT {CANDIDATES_PER_PAGE} OFFSET {skip}) AS T \
         LEFT JOIN information_schema.COLUMNS AS C ON C.TABLE_SCHEMA = DATABASE() AND C.TABLE_NAME = T.TABLE_NAME \
         ORDER BY T.TABLE_TYPE LIKE '%VIEW%', COALESCE(T.TABLE_ROWS, 1) = 0, T.TABLE_NAME, C.ORDINAL_POSITION"
    );
    let mut all: Vec<Candidate> = Vec::new();
    for row in session.ask("choose a table", &[(&sql, 4)]).await?.into_iter().flat_map(|set| set.rows) {
        let [Some(table), column, rights, data_type] = row.as_slice() else {
            continue;
        };
        if all.last().is_none_or(|last| last.name != *table) {
            all.push(Candidate { name: table.clone(), columns: Vec::new() });
        }
        let Some(candidate) = all.last_mut() else {
            continue;
        };
        match column {
            Some(column) if may_select(rights.as_deref()) => candidate.columns.push(short_value(column, data_type.as_deref())),
            Some(_) => {}
            // The server cannot describe this view here. Reading the view returns the reason.
            None => candidate.columns.push("*".to_string()),
        }
    }
    Ok(all)
}

/// The expression that reads a column. Of types without a small limit only the beginning is read, because one value can
/// have 4 GiB.
fn short_value(column: &str, data_type: Option<&str>) -> String {
    let quoted = backtick(column);
    let is_long = data_type.is_some_and(|name| name.ends_with("blob") || name.ends_with("text") || name == "json");
    if is_long { format!("LEFT({quoted}, 64)") } else { quoted }
}

/// Reads at most `max_items` rows of the first table that has rows, and counts them. The values are not kept.
///
/// # Errors
/// The failure of the connection, if it ends; otherwise the first failure of a table, if none can be read.
/// `PermissionDenied` if tables exist but none can be read, or if no table is visible and no grant proves that there are
/// none.
pub async fn sample(
    session: &MysqlSession,
    sees_all: bool,
    step_timeout: std::time::Duration,
    max_items: u32,
) -> Result<Sample, Failure> {
    let mut sampling = Sampling::new(step_timeout);
    let timeout = sampling.object_timeout(limits::STATEMENT_TIMEOUT);
    let (mut listed, mut unreadable): (usize, Option<String>) = (0, None);
    loop {
        let page = candidates(session, listed).await?;
        let is_last = page.len() < CANDIDATES_PER_PAGE;
        for (position, candidate) in page.iter().enumerate() {
            if candidate.columns.is_empty() {
                unreadable.get_or_insert_with(|| candidate.name.clone());
                continue;
            }
            if !sampling.has_time(timeout) {
                return sampling.without_rows(page.len() - position);
            }
            let name = backtick(&candidate.name);
            let sql = format!("SELECT {} FROM {name} LIMIT {max_items}", candidate.columns.join(", "));
            match session.count(&format!("read {name}"), &sql, timeout).await {
                Ok(0) => sampling.empty(&candidate.name),
                Ok(rows) => return Ok(sampling.found(&candidate.name, rows)),
                Err(failure) if session.is_usable().await => sampling.failed(&candidate.name, failure),
                Err(failure) => return Err(failure),
            }
        }
        listed += page.len();
        if is_last {
            break;
        }
    }
    if listed == 0 {
        if !sees_all {
            return Err(blind(session, "the account does not see any table, and no grant covers the whole database"));
        }
        let mut evidence = Evidence::new();
        evidence.insert("note".into(), json!("empty: the database has no tables"));
        return Ok(Sample::new(0, evidence));
    }
    match unreadable {
        Some(first) if sampling.is_unused() => {
            Err(blind(session, &format!("the account does not have SELECT on {}", backtick(&first))))
        }
        _ => sampling.without_rows(0),
    }
}

fn blind(session: &MysqlSession, detail: &str) -> Failure {
    Failure::new(
        Class::PermissionDenied,
        format!("{}: {} does not have permission to read any table", session.server, session.user),
        grant_for(&session.server, &session.user),
    )
    .detail(detail)
}
