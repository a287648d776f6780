//! Catalog v1 from what a connector discovered.

use crate::connectors::Bounds;
use crate::model::Catalog;
use crate::model::catalog::{SkippedStream, Stream, SyncMode};
use airbyte_protocol::{Catalog as Discovered, Stream as Found, SyncMode as Mode};
use serde_json::Value;

/// Returns the streams within `bounds`, sorted. A stream whose schema cannot be read is skipped with the reason.
#[must_use]
pub fn catalog(discovered: &Discovered, bounds: Bounds) -> Catalog {
    let mut catalog = Catalog { truncated: discovered.left_out > 0, ..Catalog::default() };
    let mut streams: Vec<&Found> = discovered.streams.iter().collect();
    streams.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    streams.dedup_by(|one, other| (&one.namespace, &one.name) == (&other.namespace, &other.name));
    let mut bytes = 0_u64;
    for found in streams {
        bytes = bytes.saturating_add(found.json_schema.as_str().len() as u64);
        if catalog.streams.len() >= bounds.streams || bytes > bounds.bytes {
            catalog.truncated = true;
            break;
        }
        match found.json_schema.parse() {
            Ok(schema) => catalog.streams.push(stream(found, schema, bounds.columns)),
            Err(_) => catalog.skipped.push(SkippedStream::new(found.name.as_str(), "its schema is not valid JSON")),
        }
    }
    catalog.sorted()
}

fn stream(found: &Found, mut json_schema: Value, columns: usize) -> Stream {
    if let Some(properties) = json_schema.get_mut("properties").and_then(Value::as_object_mut)
        && properties.len() > columns
    {
        let kept = std::mem::take(properties).into_iter().take(columns);
        properties.extend(kept);
    }
    let mode = |mode: &Mode| match mode {
        Mode::FullRefresh => SyncMode::FullRefresh,
        Mode::Incremental => SyncMode::Incremental,
    };
    let mut modes: Vec<SyncMode> = found.sync_modes.iter().map(mode).collect();
    if modes.is_empty() {
        modes.push(SyncMode::FullRefresh);
    }
    Stream {
        name: found.name.clone(),
        namespace: found.namespace.clone(),
        json_schema,
        supported_sync_modes: modes,
        source_defined_primary_key: found.primary_key.clone(),
        row_estimate: None,
    }
}

/// Returns the streams in the order in which the tiny sync tries them: those of the policy, then the others of `described`.
#[must_use]
pub fn in_order<'c>(discovered: &'c Discovered, wanted: &[String], described: &Catalog) -> Vec<&'c Found> {
    let is_described = |found: &&Found| {
        described.streams.iter().any(|stream| {
            // With several resources, the namespace of the catalog begins with the resource id.
            stream.name == found.name
        })
    };
    let mut streams: Vec<&Found> = discovered.streams.iter().filter(is_described).collect();
    streams.sort_by_key(|found| {
        let place = wanted.iter().position(|name| *name == found.name).unwrap_or(usize::MAX);
        (place, found.namespace.clone(), found.name.clone())
    });
    streams
}
