//! Turns GET operations into the streams of Catalog v1.

use super::operations::{Operation, Operations};
use super::records::RecordPath;
use super::schema::json_bytes;
use super::select::callable;
use super::settings::ServiceSettings;
use crate::connectors::Bounds;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Stream, SyncMode};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Builds the catalog of all operations within the limits.
#[must_use]
pub fn catalog(operations: &Operations, settings: &ServiceSettings, bounds: Bounds) -> Catalog {
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
        let (json_schema, cut) = stream_schema(operation, settings, bounds.columns);
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
fn stream_schema(operation: &Operation, settings: &ServiceSettings, columns: usize) -> (Value, bool) {
    let mut note = Map::new();
    note.insert("path".into(), operation.path.clone().into());
    let described = operation.answer.as_ref().filter(|records| records.described);
    let response = described.map(|records| (&records.schema, &records.path));
    let mut schema = match response {
        None => {
            let unresolved = operation.answer.as_ref().and_then(|records| records.schema["x-aam-unresolved"].as_str());
            let reason = unresolved.map_or("the description does not describe a JSON response".to_string(), |reason| {
                format!("the structure of the response is unknown: {reason}")
            });
            note.insert("note".into(), reason.into());
            json!({})
        }
        Some((schema, path)) => {
            note.insert("record".into(), path.pointer().into());
            match path {
                RecordPath::Single => schema.clone(),
                RecordPath::Whole => schema.get("items").cloned().unwrap_or_default(),
                RecordPath::Property(name) => schema["properties"][name].get("items").cloned().unwrap_or_default(),
            }
        }
    };
    if !schema.is_object() {
        schema = json!({});
    }
    if let Err(reason) = callable(operation, settings) {
        note.insert("callable".into(), false.into());
        note.insert("note".into(), reason.message.into());
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
