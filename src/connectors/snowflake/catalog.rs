//! The catalog of an account: its tables and views with their columns, from SHOW alone.
//!
//! Sources: docs.snowflake.com, "SHOW TABLES", "SHOW VIEWS", "SHOW COLUMNS" and "SHOW objects" \[V\]: names of columns, the
//! JSON text of `data_type`, at most 10,000 rows, no warehouse needed.

use super::api::SqlApi;
use super::result_set::{ResultSet, Row};
use super::statements::{self, COLUMNS, DATABASES, MAX_DATABASES, MAX_RELATIONS, MAX_SHOWN, TABLES, VIEWS};
use super::types;
use crate::connectors::{Bounds, Discovery};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Evidence, Failure, Stream, SyncMode};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The databases that Snowflake mounts in each account and that have no data of the company.
const FOREIGN_DATABASES: [&str; 2] = ["SNOWFLAKE", "SNOWFLAKE_SAMPLE_DATA"];
/// The schema of each database that describes the database itself.
const INFORMATION_SCHEMA: &str = "INFORMATION_SCHEMA";
/// The maximum number of statements that list columns: one for the account, and narrower ones if it has too many of them.
const MAX_COLUMN_CALLS: usize = 6;

/// A table or view, by database, schema and name.
type Key = (String, String, String);

#[derive(Default)]
struct Relation {
    kind: &'static str,
    rows: Option<u64>,
    columns: Map<String, Value>,
    /// Whether the relation has more columns than the bounds allow.
    cut: bool,
}

/// Reads the catalog within `bounds`.
///
/// # Errors
/// Returns the failure of SHOW TABLES, or of SHOW COLUMNS if no table has columns.
pub async fn discover(api: &SqlApi, bounds: Bounds) -> Result<Discovery, Failure> {
    let mut relations = BTreeMap::new();
    let mut catalog = Catalog::default();
    let mut denied = Vec::new();
    let databases = databases(api, &mut denied).await?;
    // Without a database there is nothing that the other statements could return.
    if databases.as_ref().is_none_or(|names| !names.is_empty()) {
        let tables = api.show(TABLES, &RELATION_COLUMNS).await?;
        catalog.truncated |= add(&mut relations, &tables, "table");
        drop(tables);
        match api.show(VIEWS, &RELATION_COLUMNS).await {
            Ok(views) => catalog.truncated |= add(&mut relations, &views, "view"),
            Err(failure) if is_skippable(&failure) => denied.push(("views", failure)),
            Err(failure) => return Err(failure),
        }
    }
    catalog.truncated |= relations.len() > bounds.streams;
    while relations.len() > bounds.streams {
        relations.pop_last();
    }
    if !relations.is_empty()
        && let Some(failure) = columns(api, &mut relations, bounds).await?
    {
        if relations.values().all(|relation| relation.columns.is_empty()) {
            return Err(failure);
        }
        denied.push(("columns", failure));
    }
    let visible = databases.as_ref().map_or(0, BTreeSet::len);
    for (key, relation) in relations {
        catalog.truncated |= relation.cut;
        match relation.columns.is_empty() {
            true => catalog.skipped.push(without_columns(key)),
            false => catalog.streams.push(stream(key, relation)),
        }
    }
    catalog.truncated |= !catalog.skipped.is_empty();
    let mut evidence = Evidence::new();
    evidence.insert("databases".into(), visible.into());
    evidence.insert("skipped".into(), catalog.skipped.len().into());
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning: warning(denied) })
}

/// Returns the names of the company's databases that the role sees, or `None` if they cannot be listed.
async fn databases(api: &SqlApi, denied: &mut Vec<(&'static str, Failure)>) -> Result<Option<BTreeSet<String>>, Failure> {
    let result = match api.show(DATABASES, &["name"]).await {
        Ok(result) => result,
        Err(failure) if is_skippable(&failure) => {
            denied.push(("databases", failure));
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    let names = result.rows().filter_map(|row| row.get("name").map(str::to_string));
    let names: BTreeSet<String> = names.filter(|name| !FOREIGN_DATABASES.contains(&name.as_str())).collect();
    // A list that was cut says nothing about the databases that are not in it.
    Ok(Some(names).filter(|names| !names.is_empty() || result.len() < MAX_DATABASES))
}

/// Adds the relations of SHOW TABLES or SHOW VIEWS. Returns whether further ones were left out.
fn add(relations: &mut BTreeMap<Key, Relation>, result: &ResultSet, kind: &'static str) -> bool {
    for row in result.rows() {
        let Some(key) = key(row, "name").filter(is_data) else { continue };
        let kind = match row.get("is_materialized").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            true => "materialized view",
            false => kind,
        };
        let rows = row.get("rows").and_then(|text| text.parse().ok());
        relations.insert(key, Relation { kind, rows, ..Relation::default() });
    }
    result.truncated || result.len() >= MAX_RELATIONS
}

fn key(row: Row<'_>, name: &str) -> Option<Key> {
    let text = |column: &str| row.get(column).map(str::to_string);
    Some((text("database_name")?, text("schema_name")?, text(name)?))
}

fn is_data((database, schema, _): &Key) -> bool {
    !FOREIGN_DATABASES.contains(&database.as_str()) && schema != INFORMATION_SCHEMA
}

/// The columns of SHOW TABLES and SHOW VIEWS that name a relation.
const RELATION_COLUMNS: [&str; 3] = ["name", "database_name", "schema_name"];
/// The columns of SHOW COLUMNS that name a column and its relation.
const COLUMN_COLUMNS: [&str; 4] = ["table_name", "schema_name", "database_name", "column_name"];

/// What one SHOW COLUMNS covers.
enum ColumnScope {
    Account,
    Database(String),
    Schema(String, String),
    Relation(Key),
}

impl ColumnScope {
    fn statement(&self) -> String {
        match self {
            ColumnScope::Account => COLUMNS.to_string(),
            ColumnScope::Database(database) => statements::columns_of_database(database),
            ColumnScope::Schema(database, schema) => statements::columns_of_schema(database, schema),
            ColumnScope::Relation((database, schema, name)) => statements::columns_of_relation(database, schema, name),
        }
    }

    /// Returns the next narrower scopes with relations that have no columns yet.
    fn narrower(&self, relations: &BTreeMap<Key, Relation>) -> Vec<ColumnScope> {
        let lacking = || relations.iter().filter(|(_, relation)| relation.columns.is_empty()).map(|(key, _)| key);
        match self {
            ColumnScope::Account => {
                let names: BTreeSet<&String> = lacking().map(|(database, ..)| database).collect();
                names.into_iter().map(|name| ColumnScope::Database(name.clone())).collect()
            }
            ColumnScope::Database(database) => {
                let names: BTreeSet<&String> = lacking().filter(|key| key.0 == *database).map(|key| &key.1).collect();
                names.into_iter().map(|name| ColumnScope::Schema(database.clone(), name.clone())).collect()
            }
            ColumnScope::Schema(database, schema) => {
                let inside = lacking().filter(|key| key.0 == *database && key.1 == *schema);
                inside.cloned().map(ColumnScope::Relation).collect()
            }
            ColumnScope::Relation(_) => Vec::new(),
        }
    }
}

/// Reads the columns of all relations. Returns the failure of a call that left some of them without columns.
async fn columns(api: &SqlApi, relations: &mut BTreeMap<Key, Relation>, bounds: Bounds) -> Result<Option<Failure>, Failure> {
    let (mut open, mut failed) = (VecDeque::from([ColumnScope::Account]), None);
    for _ in 0..MAX_COLUMN_CALLS {
        let Some(scope) = open.pop_front() else { break };
        let whole = match api.show(&scope.statement(), &COLUMN_COLUMNS).await {
            Ok(result) => {
                describe(relations, &result, bounds);
                !result.truncated && result.len() < MAX_SHOWN
            }
            Err(failure) if is_skippable(&failure) => {
                failed = Some(failure);
                false
            }
            Err(failure) => return Err(failure),
        };
        if !whole {
            // The narrower scopes come first, so that some relations are described whatever the size of the account.
            scope.narrower(relations).into_iter().rev().for_each(|scope| open.push_front(scope));
        }
    }
    let lacks = relations.values().any(|relation| relation.columns.is_empty());
    Ok(failed.filter(|_| lacks))
}

fn describe(relations: &mut BTreeMap<Key, Relation>, result: &ResultSet, bounds: Bounds) {
    for row in result.rows() {
        let Some(relation) = key(row, "table_name").and_then(|key| relations.get_mut(&key)) else { continue };
        let Some(name) = row.get("column_name") else { continue };
        if relation.columns.len() >= bounds.columns {
            relation.cut |= !relation.columns.contains_key(name);
            continue;
        }
        relation.columns.insert(name.to_string(), types::schema(row.get("data_type").unwrap_or_default(), row.get("null?")));
    }
}

fn stream((database, schema, name): Key, relation: Relation) -> Stream {
    Stream {
        name,
        namespace: Some(format!("{database}.{schema}")),
        json_schema: json!({"type": "object", "x-kind": relation.kind, "properties": relation.columns}),
        supported_sync_modes: vec![SyncMode::FullRefresh],
        source_defined_primary_key: Vec::new(),
        row_estimate: relation.rows,
    }
}

fn without_columns((database, schema, name): Key) -> SkippedStream {
    let reason = format!("the columns of {database}.{schema}.{name} were not among those that Snowflake lists at once");
    SkippedStream::new(name, reason)
}

/// Whether the other statements are still run after this failure.
fn is_skippable(failure: &Failure) -> bool {
    matches!(failure.class, Class::PermissionDenied | Class::NotFound | Class::Remote)
}

/// What a person should look at, because a statement was refused although others were answered.
fn warning(denied: Vec<(&'static str, Failure)>) -> Option<Failure> {
    let names: Vec<&str> = denied.iter().map(|(name, _)| *name).collect();
    let title = format!("Snowflake does not list all {} of the account", names.join(" and "));
    let failure = denied.into_iter().next()?.1;
    Some(Failure { title, ..failure })
}
