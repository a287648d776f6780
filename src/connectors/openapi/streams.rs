//! Turns GET operations into the streams of Catalog v1.

use super::operations::{Operation, Operations};
use super::records::RecordPath;
use super::schema::json_bytes;
use super::select::OperationRules;
use crate::connectors::Bounds;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Stream, SyncMode};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Builds the catalog of all operations within the limits.
#[must_use]
pub fn catalog(operations: &Operations, rules: &OperationRules, bounds: Bounds) -> Catalog {
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
        bytes += json_bytes(&json_schema) as u64;
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

/// The schema of one record with the annotation `x-aam`, and whether the limit `columns` cut its properties.
fn stream_schema(operation: &Operation, rules: &OperationRules, columns: usize) -> (Value, bool) {
    let mut note = Map::new();
    note.insert("path".into(), operation.path.clone().into());
    let response = operation.answer.as_ref().map(|records| (records.schema(), &records.path));
    let mut schema = match response {
        None => {
            note.insert("note".into(), "the description does not describe a JSON response".into());
            json!({})
        }
        Some((mut schema, path)) => {
            note.insert("record".into(), path.pointer().into());
            let records = match path {
                RecordPath::Single => Some(&mut schema),
                RecordPath::Whole => schema.get_mut("items"),
                RecordPath::Property(name) => {
                    schema.get_mut("properties").and_then(|properties| properties.get_mut(name)?.get_mut("items"))
                }
            };
            records.map(Value::take).unwrap_or_default()
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
