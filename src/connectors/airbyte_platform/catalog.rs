//! Catalog v1 from what Airbyte discovers.

use super::address::Api;
use crate::connectors::Bounds;
use crate::model::Catalog;
use crate::model::catalog::{Stream, SyncMode};
use serde_json::{Map, Value, json};

/// Reads the streams of a response, or returns `None` if it does not have a list of streams.
#[must_use]
pub fn catalog(api: Api, body: &Value, bounds: Bounds) -> Option<Catalog> {
    let listed = match api {
        Api::Configuration => body.get("catalog")?.get("streams")?,
        Api::Public => body,
    };
    let listed = listed.as_array()?;
    let mut catalog = Catalog { truncated: listed.len() > bounds.streams, ..Catalog::default() };
    for entry in listed.iter().take(bounds.streams) {
        let stream = match api {
            Api::Configuration => entry.get("stream").and_then(described),
            Api::Public => named(entry),
        };
        let Some(mut stream) = stream else { continue };
        catalog.truncated |= cut(&mut stream.json_schema, bounds.columns);
        catalog.streams.push(stream);
    }
    Some(catalog.sorted())
}

/// A stream of the configuration API.
fn described(stream: &Value) -> Option<Stream> {
    let schema = stream.get("jsonSchema").or_else(|| stream.get("json_schema")).filter(|schema| schema.is_object());
    let modes = stream.get("supportedSyncModes").and_then(Value::as_array);
    let modes = modes.into_iter().flatten().filter_map(Value::as_str);
    Some(Stream {
        name: text(stream, "name")?,
        namespace: text(stream, "namespace"),
        json_schema: schema.cloned().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        supported_sync_modes: sync_modes(modes),
        source_defined_primary_key: key(stream),
        row_estimate: None,
    })
}

/// A stream of the public API, which names fields without types.
fn named(stream: &Value) -> Option<Stream> {
    let paths = stream.get("propertyFields").and_then(Value::as_array);
    let tops = paths.into_iter().flatten().filter_map(|path| path.get(0)?.as_str());
    let properties: Map<String, Value> = tops.map(|name| (name.to_string(), json!({}))).collect();
    let modes = stream.get("syncModes").and_then(Value::as_array);
    let modes = modes.into_iter().flatten().filter_map(Value::as_str);
    Some(Stream {
        name: text(stream, "streamName")?,
        namespace: text(stream, "streamnamespace"),
        json_schema: json!({"type": "object", "properties": properties}),
        supported_sync_modes: sync_modes(modes),
        source_defined_primary_key: key(stream),
        row_estimate: None,
    })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_string)
}

/// Returns the modes without those of destinations: `incremental_append` is `incremental`.
fn sync_modes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<SyncMode> {
    let names: Vec<&str> = names.collect();
    let has = |mode: &SyncMode| names.iter().any(|name| name.starts_with(mode.as_str()));
    SyncMode::ALL.into_iter().filter(has).collect()
}

fn key(stream: &Value) -> Vec<Vec<String>> {
    let paths = stream.get("sourceDefinedPrimaryKey").and_then(Value::as_array);
    let path = |path: &Value| -> Option<Vec<String>> {
        let parts: Option<Vec<String>> = path.as_array()?.iter().map(|part| part.as_str().map(str::to_string)).collect();
        parts.filter(|parts| !parts.is_empty())
    };
    paths.into_iter().flatten().filter_map(path).collect()
}

/// Removes the properties that are too many. Returns whether there were any.
fn cut(schema: &mut Value, columns: usize) -> bool {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return false };
    let over: Vec<String> = properties.keys().skip(columns).cloned().collect();
    for name in &over {
        properties.remove(name);
    }
    !over.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_apis_give_the_same_names_and_keys() {
        let described = json!({"catalog": {"streams": [
            {"stream": {"name": "users", "jsonSchema": {"type": "object", "properties": {"id": {"type": "integer"}, "at": {"type": "string"}}},
                "supportedSyncModes": ["full_refresh", "incremental"], "sourceDefinedPrimaryKey": [["id"]]}, "config": {}},
            {"stream": {"name": "groups", "namespace": "public", "jsonSchema": {"properties": {}}, "supportedSyncModes": ["full_refresh"]}},
            {"stream": {"namespace": "without a name"}}
        ]}});
        let named = json!([
            {"streamName": "users", "syncModes": ["full_refresh_overwrite", "incremental_append"], "propertyFields": [["id"], ["at", "day"]],
                "sourceDefinedPrimaryKey": [["id"]]},
            {"streamName": "groups", "streamnamespace": "public", "syncModes": ["full_refresh_append"], "propertyFields": []}
        ]);
        let from_configuration = catalog(Api::Configuration, &described, Bounds::default()).unwrap();
        let from_public = catalog(Api::Public, &named, Bounds::default()).unwrap();
        for found in [&from_configuration, &from_public] {
            let names: Vec<&str> = found.streams.iter().map(|stream| stream.name.as_str()).collect();
            assert_eq!(names, ["users", "groups"]);
            let users = &found.streams[0];
            assert_eq!(users.source_defined_primary_key, [["id"]]);
            assert_eq!(users.supported_sync_modes, SyncMode::ALL);
            let mut columns: Vec<&String> = users.json_schema["properties"].as_object().unwrap().keys().collect();
            columns.sort();
            assert_eq!(columns, ["at", "id"]);
        }
        assert_eq!(catalog(Api::Configuration, &json!({"jobInfo": {}}), Bounds::default()), None);
        let few = Bounds { columns: 1, ..Bounds::default() };
        assert!(catalog(Api::Configuration, &described, few).unwrap().truncated);
    }
}
