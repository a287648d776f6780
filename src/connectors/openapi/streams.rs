//! GET operations -> the streams of Catalog v1.

use super::operations::{Operation, Operations};
use super::schema::size;
use super::select::Rules;
use crate::connectors::Bounds;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Stream, SyncMode};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Names under which services wrap their lists.
const WRAPPERS: [&str; 12] =
    ["data", "items", "results", "value", "values", "records", "entries", "content", "rows", "list", "objects", "result"];

/// The normalised schema of a good answer, and where its records are.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Of the whole answer.
    pub schema: Value,
    pub place: Place,
}

/// Where the records of an answer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The answer is a list.
    Whole,
    /// This property is the list.
    Property(String),
    /// The answer is one record.
    Single,
}

impl Place {
    /// JSON pointer of the list, or of the one record.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self {
            Place::Whole | Place::Single => String::new(),
            Place::Property(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        }
    }

    /// The records are a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        *self != Place::Single
    }
}

/// Finds the records in the normalised schema of the answer of `path`.
#[must_use]
pub fn record(schema: Value, path: &str) -> Record {
    let place =
        if has_type(&schema, "array") { Place::Whole } else { wrapped(&schema, path).map_or(Place::Single, Place::Property) };
    Record { schema, place }
}

/// The one property that is the list: the only list of objects under a wrapper's name or under the
/// last word of the path, else the only property of all. A person with `roles` stays one record.
fn wrapped(schema: &Value, path: &str) -> Option<String> {
    let properties = schema["properties"].as_object()?;
    let lists = || properties.iter().filter(|(_, schema)| has_type(schema, "array"));
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let named = |name: &str| WRAPPERS.iter().any(|known| known.eq_ignore_ascii_case(name)) || name.eq_ignore_ascii_case(last);
    let objects: Vec<&String> =
        lists().filter(|(name, schema)| named(name) && is_object(&schema["items"])).map(|(name, _)| name).collect();
    let best = WRAPPERS.iter().find_map(|known| objects.iter().find(|name| name.eq_ignore_ascii_case(known)));
    if let Some(name) = best.or(objects.first()) {
        return Some((*name).clone());
    }
    let mut any = lists().filter(|(name, _)| named(name) || properties.len() == 1).map(|(name, _)| name.clone());
    any.next().filter(|_| any.next().is_none())
}

/// The schema names this type, alone or beside others.
fn has_type(schema: &Value, word: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == word,
        Value::Array(list) => list.iter().any(|one| one == word),
        _ => false,
    }
}

fn is_object(schema: &Value) -> bool {
    has_type(schema, "object") || schema.get("properties").is_some() || schema.get("x-aam-cycle").is_some()
}

/// The catalog of all operations, within the bounds.
#[must_use]
pub fn catalog(operations: &Operations, rules: &Rules, bounds: Bounds) -> Catalog {
    let begun = Instant::now();
    let mut catalog = Catalog { truncated: operations.truncated, ..Catalog::default() };
    let mut bytes = 0u64;
    let mut sorted: Vec<&Operation> = operations.list.iter().collect();
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for operation in sorted {
        if catalog.streams.len() >= bounds.streams || bytes >= bounds.bytes || begun.elapsed() >= bounds.time {
            catalog.truncated = true;
            break;
        }
        let (json_schema, cut) = stream_schema(operation, rules, bounds.columns);
        catalog.truncated |= cut;
        bytes += size(&json_schema) as u64;
        catalog.streams.push(Stream {
            name: operation.name.clone(),
            namespace: None,
            json_schema,
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: Vec::new(),
            row_estimate: None,
        });
    }
    let room = bounds.streams.saturating_sub(catalog.streams.len());
    catalog.truncated |= operations.skipped.len() > room;
    let skipped = operations.skipped.iter().take(room);
    catalog.skipped = skipped.map(|(name, reason)| SkippedStream::new(name.as_str(), reason.as_str())).collect();
    catalog.sorted()
}

/// The schema of one record with its columns bounded, and the note `x-aam`.
fn stream_schema(operation: &Operation, rules: &Rules, columns: usize) -> (Value, bool) {
    let mut note = Map::new();
    note.insert("path".into(), operation.path.clone().into());
    let whole = operation.answer.as_ref().map(|record| (&record.schema, &record.place));
    let mut schema = match whole {
        None => {
            note.insert("note".into(), "the description promises no JSON answer".into());
            json!({})
        }
        Some((schema, place)) => {
            note.insert("record".into(), place.pointer().into());
            match place {
                Place::Single => schema.clone(),
                Place::Whole => schema.get("items").cloned().unwrap_or_default(),
                Place::Property(name) => schema["properties"][name].get("items").cloned().unwrap_or_default(),
            }
        }
    };
    if !schema.is_object() {
        schema = json!({});
    }
    if let Err(reason) = rules.callable(operation) {
        note.insert("callable".into(), false.into());
        note.insert("note".into(), reason.into());
    }
    let mut cut = false;
    if let Some(object) = schema.as_object_mut() {
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut)
            && properties.len() > columns
        {
            cut = true;
            *properties = std::mem::take(properties).into_iter().take(columns).collect();
        }
        object.insert("x-aam".into(), note.into());
    }
    (schema, cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(schema: Value, path: &str) -> Place {
        record(schema, path).place
    }

    #[test]
    fn records_are_found_where_services_put_them() {
        let rows = json!({"type": "array", "items": {"type": "object", "properties": {"id": {}}}});
        let words = json!({"type": "array", "items": {"type": "string"}});
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        assert_eq!(place(rows.clone(), "/pets"), Place::Whole);
        assert_eq!(place(object(json!({"data": rows, "next": {"type": "string"}})), "/pets"), Place::Property("data".into()));
        assert_eq!(
            place(object(json!({"pets": rows, "total": {"type": "integer"}})), "/v1/pets"),
            Place::Property("pets".into())
        );
        assert_eq!(place(object(json!({"errors": rows, "items": rows})), "/pets"), Place::Property("items".into()));
        assert_eq!(place(object(json!({"names": words})), "/x"), Place::Property("names".into()));
        assert_eq!(place(object(json!({"id": {}, "name": {}, "roles": rows})), "/users/{id}"), Place::Single);
        assert_eq!(place(json!({}), "/x"), Place::Single);
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(Place::Property("a/b~c".into()).pointer(), "/a~1b~0c");
    }
}
