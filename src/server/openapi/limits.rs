//! The limits and formats of single fields, which the derived schemas do not have. Numbers are the constants that the
//! handlers use.

use crate::model::MAX_MISSING_FILES;
use crate::report::drift::MAX_CHANGES;
use crate::report::privileges::MAX_REASONS;
use crate::report::result::bounds::{MAX_ITEMS, MAX_TEXT_CHARS, MAX_WARNINGS};
use crate::server::bounded::MAX_BLOCKERS;
use crate::server::dashboard::{MAX_CONNECTIONS, MAX_PROBLEMS};
use crate::server::heal::MAX_RESULTS;
use crate::server::plan::MAX_CALLS;
use crate::server::read::MAX_PAGE_SIZE;
use serde_json::{Map, Value, json};

/// What a cut text ends with: the sign that it was cut, and its length.
const CUT_MARK_CHARS: usize = 50;
/// A text of a source or a document that is cut at a limit.
const BOUNDED_TEXT: usize = MAX_TEXT_CHARS + CUT_MARK_CHARS;
/// The format of an RFC 3339 timestamp.
const TIME: &str = "date-time";

/// One keyword of one field.
struct Limit {
    schema: &'static str,
    field: &'static str,
    keyword: &'static str,
    value: Value,
}

fn limit(schema: &'static str, field: &'static str, keyword: &'static str, value: impl Into<Value>) -> Limit {
    Limit { schema, field, keyword, value: value.into() }
}

/// Returns the limits of all schemas.
fn limits() -> Vec<Limit> {
    let mut all = vec![
        limit("ConnectionPage", "connections", "maxItems", MAX_PAGE_SIZE),
        limit("VersionPage", "versions", "maxItems", MAX_PAGE_SIZE),
        limit("HealAnswer", "results", "maxItems", MAX_RESULTS),
        limit("Dashboard", "connections", "maxItems", MAX_CONNECTIONS),
        limit("Dashboard", "problems", "maxItems", MAX_PROBLEMS),
        limit("Funnel", "blockers", "maxItems", MAX_BLOCKERS),
        limit("Funnel", "coverage", "maximum", 1),
        limit("Funnel", "coverage", "minimum", 0),
        limit("Funnel", "target", "maximum", 1),
        limit("Funnel", "target", "minimum", 0),
        limit("OwnerBody", "confidence", "maximum", 1),
        limit("OwnerBody", "confidence", "minimum", 0),
        limit("ConnectionResult", "warnings", "maxItems", MAX_WARNINGS),
        limit("ConnectionResult", "steps", "maxItems", crate::model::Step::ALL.len()),
        limit("ConnectionResult", "version", "minimum", 1),
        limit("ConnectionResult", "resource_ids", "maxItems", intent_limit("/properties/resource_ids/maxItems")),
        limit("StepBody", "evidence", "maxProperties", MAX_ITEMS + 1),
        limit("Problem", "type", "pattern", "^urn:aam:problem:[A-Z_]+$"),
        limit("Problem", "status", "minimum", 400),
        limit("Problem", "status", "maximum", 599),
        limit("DriftAnswer", "additive", "maxItems", MAX_CHANGES),
        limit("DriftAnswer", "breaking", "maxItems", MAX_CHANGES),
        limit("DriftAnswer", "changes", "maxItems", MAX_CHANGES),
        limit("DriftEntry", "changes", "maxItems", MAX_CHANGES),
        limit("DriftEntry", "at", "format", TIME),
        limit("DriftEntry", "connection_id", "format", "uuid"),
        limit("DriftPage", "drift", "maxItems", MAX_PAGE_SIZE),
        limit("AcknowledgedBody", "at", "format", TIME),
        limit("PlanAnswer", "checks", "maxItems", MAX_PAGE_SIZE),
        limit("PlanAnswer", "as_of", "format", TIME),
        limit("PrivilegeList", "unknown", "maxItems", MAX_REASONS),
        limit("ConnectionPrivilege", "found_at", "format", TIME),
        limit("ConnectionPrivilege", "checked_at", "format", TIME),
        limit("ConnectionPrivilege", "connection_id", "format", "uuid"),
        limit("PlannedCheck", "calls", "maxItems", MAX_CALLS),
        limit("PlannedCheck", "due_at", "format", TIME),
        limit("CatalogLine", "catalog", "const", "v1"),
        limit("CatalogHealth", "checked_at", "format", TIME),
        limit("RefusedItem", "http_status", "minimum", 400),
        limit("RefusedItem", "http_status", "maximum", 599),
        limit("RefusedItem", "status", "enum", json!(["INVALID", "FORBIDDEN"])),
        limit("AcceptedItem", "http_status", "minimum", 200),
        limit("AcceptedItem", "http_status", "maximum", 499),
        limit("ServerInfo", "service", "const", "aam"),
        limit("ServerInfo", "started", "format", TIME),
        limit("StatusAnswer", "status", "enum", json!(["ok", "ready"])),
        limit("HealRequest", "namespace", "pattern", intent_limit("/properties/namespace/pattern")),
        limit("Funnel", "as_of", "format", TIME),
        limit("Dashboard", "as_of", "format", TIME),
        limit("VersionBody", "at", "format", TIME),
        limit("VersionBody", "seq", "minimum", 1),
        limit("TinySync", "at", "format", TIME),
        limit("PolicyInForce", "accepted_at", "format", TIME),
        limit("PolicyInForce", "digest", "pattern", "^[0-9a-f]{64}$"),
        limit("RejectedPolicy", "at", "format", TIME),
        limit("HealthAnswer", "checked_at", "format", TIME),
        limit("HealthAnswer", "checked_full_at", "format", TIME),
        limit("ConnectionResult", "updated_at", "format", TIME),
        limit("ConnectionResult", "credential_ends_at", "format", TIME),
        limit("MissingFile", "since", "format", TIME),
        limit("MissingFile", "until", "format", TIME),
    ];
    for schema in ["ConnectionResult", "PrivilegeList", "VersionPage"] {
        all.push(limit(schema, "missing_files", "maxItems", MAX_MISSING_FILES));
    }
    for schema in
        ["ConnectionResult", "HealthAnswer", "VersionPage", "CatalogAnswer", "CatalogLine", "DriftAnswer", "PlannedCheck"]
    {
        all.push(limit(schema, "connection_id", "format", "uuid"));
    }
    for schema in ["ConnectionPage", "Dashboard", "Funnel"] {
        all.push(limit(schema, "data_source", "const", "database"));
    }
    for (schema, fields) in [
        ("ErrorBody", &["title", "fix", "detail"][..]),
        ("WarningBody", &["pointer", "message", "hint"]),
        ("StepBody", &["reason"]),
    ] {
        all.extend(fields.iter().map(|field| limit(schema, field, "maxLength", BOUNDED_TEXT)));
    }
    all
}

/// Returns a keyword of the schema that intents are validated against.
#[must_use]
pub fn intent_limit(pointer: &str) -> Value {
    let schema: Value = serde_json::from_str(crate::intake::schema::TEXT).unwrap_or_default();
    schema.pointer(pointer).cloned().unwrap_or_default()
}

/// Adds the limits to `schemas`, and returns those whose field was not found.
pub fn add(schemas: &mut Map<String, Value>) -> Vec<String> {
    let mut missing = Vec::new();
    for Limit { schema, field, keyword, value } in limits() {
        match schemas.get_mut(schema).and_then(|schema| property(schema, field)) {
            Some(property) if !value.is_null() => {
                property.insert(keyword.to_string(), value);
            }
            _ => missing.push(format!("{schema}.{field} {keyword}")),
        }
    }
    missing
}

/// Returns a field of a schema. Schemas of flattened types are lists of parts.
fn property<'a>(schema: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    if schema.pointer(&format!("/properties/{field}")).is_some() {
        return schema.get_mut("properties")?.get_mut(field)?.as_object_mut();
    }
    schema.get_mut("allOf")?.as_array_mut()?.iter_mut().find_map(|part| property(part, field))
}
