//! The tiny sync: a few rows of the first readable table that has rows.

use super::catalog::{self, Relation};
use super::errors;
use super::wire::PostgresSession;
use crate::connectors::Sample;
use crate::connectors::sql::{limits, quote};
use crate::model::{Class, Evidence, Failure};
use serde_json::json;

/// The order of relations: readable ones first, then tables before views (because reading a view runs functions that users
/// wrote), then those that are not known to be empty.
const ORDER: &str = "(has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')) DESC, \
    (c.relkind IN ('r','p','m')) DESC, (c.reltuples <> 0) DESC, n.nspname, c.relname";

/// Reads at most `max_items` rows and counts them. The values are not kept.
///
/// # Errors
/// `PermissionDenied` if tables exist but none can be read, because reporting zero rows would be wrong.
pub async fn read(wire: &PostgresSession, max_items: u32) -> Result<Sample, Failure> {
    let candidates = catalog::relations(wire, ORDER, limits::MAX_SAMPLED_TABLES).await?;
    let mut evidence = Evidence::new();
    if candidates.is_empty() {
        evidence.insert("note".into(), json!("empty: the database has no tables"));
        return Ok(Sample { rows: 0, evidence, warning: None });
    }
    let mut denied: Option<Failure> = None;
    let mut empty: Vec<String> = Vec::new();
    let mut filtered = false;
    for relation in candidates.iter().filter(|relation| relation.readable()) {
        match rows_of(wire, relation, max_items).await {
            Ok(0) => {
                filtered |= relation.filtered;
                empty.push(relation.quoted());
            }
            Ok(rows) => {
                evidence.insert("stream".into(), json!(format!("{}.{}", relation.schema, relation.name)));
                evidence.insert("rows".into(), json!(rows));
                return Ok(Sample { rows, evidence, warning: None });
            }
            Err(failure) if errors::only_this_one(&failure) => denied = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    if empty.is_empty() {
        return Err(denied.unwrap_or_else(|| blind(wire, &candidates)));
    }
    evidence.insert("empty_streams".into(), json!(empty));
    let note = if filtered {
        "empty: row level security is active for this role and may hide rows"
    } else {
        "empty: the tables that were read have no rows"
    };
    evidence.insert("note".into(), json!(note));
    Ok(Sample { rows: 0, evidence, warning: None })
}

async fn rows_of(wire: &PostgresSession, relation: &Relation, max_items: u32) -> Result<u64, Failure> {
    let what = format!("read {}", relation.quoted());
    let columns = if relation.select { "*".to_string() } else { granted_columns(wire, relation).await? };
    let sql = format!("SELECT {columns} FROM {} LIMIT {max_items}", relation.quoted());
    let sets = wire.ask(&what, &sql).await?;
    Ok(sets.into_iter().map(|set| set.len() as u64).sum())
}

/// The columns that column-level grants allow the role to read.
async fn granted_columns(wire: &PostgresSession, relation: &Relation) -> Result<String, Failure> {
    let sql = format!(
        "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped \
         AND has_column_privilege(a.attrelid, a.attnum, 'SELECT') ORDER BY a.attnum",
        relation.oid
    );
    let sets = wire.ask("list the readable columns", &sql).await?;
    let names: Vec<String> =
        sets.into_iter().flatten().filter_map(|row| row.into_iter().next().flatten()).map(|name| quote::double(&name)).collect();
    Ok(names.join(", "))
}

/// The failure if tables exist but the role cannot read any of them.
fn blind(wire: &PostgresSession, candidates: &[Relation]) -> Failure {
    let Some(first) = candidates.first() else {
        return Failure::new(Class::Bug, "no table to name in the failure", "report this defect");
    };
    let (schema, role) = (quote::double(&first.schema), quote::double(&wire.user));
    Failure::new(
        Class::PermissionDenied,
        format!("{}: {} does not have permission to read any table, although tables exist", wire.server, wire.user),
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"),
    )
    .detail(format!("permission denied for table {}: lacks {}", first.quoted(), first.missing()))
}
