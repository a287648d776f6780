//! The static schema loaders: inline, file, and a list of them. What a `DynamicSchemaLoader` requests is in `stream_schema`.

use super::error::Failed;
use super::value::{Dict, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// Returns the schema of a stream if no request is needed for it, or `None` if a `DynamicSchemaLoader` has to request it.
///
/// Schemas are borrowed from the manifest, because some of them are a megabyte in size.
///
/// # Errors
/// Fails if a loader is of an unknown kind, or if one of several schemas does not have `properties`.
pub fn of_stream(stream: &Value) -> Result<Option<Cow<'_, Value>>, Failed> {
    match stream.get("schema_loader") {
        None | Some(Value::None) => Ok(Some(Cow::Owned(Value::Dict(Dict::default())))),
        Some(Value::List(loaders)) if loaders.is_empty() => Ok(Some(Cow::Owned(Value::Dict(Dict::default())))),
        Some(Value::List(loaders)) => {
            let mut parts = Vec::with_capacity(loaders.len());
            for loader in loaders {
                match of_loader(loader)? {
                    Some(schema) => parts.push(schema),
                    None => return Ok(None),
                }
            }
            merge(parts.iter().map(|part| &**part)).map(|schema| Some(Cow::Owned(schema)))
        }
        Some(loader) => of_loader(loader),
    }
}

/// Returns the schema that one loader provides, or `None` for a `DynamicSchemaLoader`.
///
/// # Errors
/// Fails if the loader is of an unknown kind.
pub fn of_loader(loader: &Value) -> Result<Option<Cow<'_, Value>>, Failed> {
    match loader.get("type").and_then(Value::as_str) {
        Some("InlineSchemaLoader") => Ok(Some(match loader.get("schema").filter(|schema| schema.truthy()) {
            Some(schema) => Cow::Borrowed(schema),
            None => Cow::Owned(Value::Dict(Dict::default())),
        })),
        Some("DynamicSchemaLoader") => Ok(None),
        // The file belongs to the connector's code and is not available here. The CDK fails without it. This engine
        // uses an empty schema instead, so that the stream can still be read.
        Some("JsonFileSchemaLoader") => Ok(Some(Cow::Owned(Value::Dict(Dict::default())))),
        other => Err(Failed::system("ValueError", format!("the schema loader `{}` is not supported", other.unwrap_or("none")))),
    }
}

/// Merges the properties of several schemas. If a property occurs more than once, the first schema takes precedence.
///
/// # Errors
/// Fails if a schema does not have `properties`.
pub fn merge<'s>(schemas: impl Iterator<Item = &'s Value>) -> Result<Value, Failed> {
    let mut properties = Dict::default();
    for schema in schemas {
        let Some(own) = schema.get("properties") else {
            return Err(Failed::system("KeyError", "'properties'"));
        };
        // The CDK puts the later properties in front, but a name that an earlier schema has keeps its value.
        let mut all = own.as_dict().cloned().unwrap_or_default();
        all.extend(properties);
        properties = all;
    }
    let mut out = Dict::default();
    out.insert("$schema".into(), Value::str("http://json-schema.org/draft-07/schema#"));
    out.insert("type".into(), Value::List(vec![Value::str("null"), Value::str("object")]));
    out.insert("properties".into(), Value::Dict(properties));
    Ok(Value::Dict(out))
}

/// Returns the JSON schema of one of the types that a `DynamicSchemaLoader` may name.
///
/// # Errors
/// Fails if the CDK does not know the type.
pub fn airbyte_type(name: &str) -> Result<Value, Failed> {
    let rows: &[(&str, &[&str])] = match name {
        "string" => &[("type", &["null", "string"])],
        "boolean" => &[("type", &["null", "boolean"])],
        "date" => &[("type", &["null", "string"]), ("format", &["date"])],
        "timestamp_without_timezone" => {
            &[("type", &["null", "string"]), ("format", &["date-time"]), ("airbyte_type", &["timestamp_without_timezone"])]
        }
        "timestamp_with_timezone" => &[("type", &["null", "string"]), ("format", &["date-time"])],
        "time_without_timezone" => {
            &[("type", &["null", "string"]), ("format", &["time"]), ("airbyte_type", &["time_without_timezone"])]
        }
        "time_with_timezone" => {
            &[("type", &["null", "string"]), ("format", &["time"]), ("airbyte_type", &["time_with_timezone"])]
        }
        "integer" => &[("type", &["null", "integer"])],
        "number" => &[("type", &["null", "number"])],
        "array" => &[("type", &["null", "array"])],
        "object" => &[("type", &["null", "object"])],
        _ => return Err(Failed::system("ValueError", format!("Invalid Airbyte data type: {name}"))),
    };
    let value = |names: &[&str]| match names {
        [one] => Value::str(*one),
        many => Value::List(many.iter().map(|word| Value::str(*word)).collect()),
    };
    Ok(Value::Dict(rows.iter().map(|(key, names)| (Arc::from(*key), value(names))).collect()))
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
