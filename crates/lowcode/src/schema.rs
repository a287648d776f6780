//! The static schema loaders: inline, file, and a list of them. What `DynamicSchemaLoader` asks for is not here.

use super::error::Failed;
use super::value::{Dict, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The schema of a stream, when no call is needed for it; `None` where a `DynamicSchemaLoader` has to ask.
///
/// Schemas are lent from the manifest: some are a megabyte.
///
/// # Errors
/// A loader of another kind, or a list of loaders of which one has no `properties`.
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

/// The schema that one loader gives; `None` for a `DynamicSchemaLoader`.
///
/// # Errors
/// A loader of another kind.
pub fn of_loader(loader: &Value) -> Result<Option<Cow<'_, Value>>, Failed> {
    match loader.get("type").and_then(Value::as_str) {
        Some("InlineSchemaLoader") => Ok(Some(match loader.get("schema").filter(|schema| schema.truthy()) {
            Some(schema) => Cow::Borrowed(schema),
            None => Cow::Owned(Value::Dict(Dict::default())),
        })),
        Some("DynamicSchemaLoader") => Ok(None),
        // The file stood beside the connector's code, not beside its manifest. The CDK fails without it; a stream
        // that can be read without its schema is worth more.
        Some("JsonFileSchemaLoader") => Ok(Some(Cow::Owned(Value::Dict(Dict::default())))),
        other => Err(Failed::system("ValueError", format!("the schema loader `{}` is not supported", other.unwrap_or("none")))),
    }
}

/// Merges the properties of several schemas; the first one wins.
///
/// # Errors
/// A schema without `properties`.
pub fn merge<'s>(schemas: impl Iterator<Item = &'s Value>) -> Result<Value, Failed> {
    let mut properties = Dict::default();
    for schema in schemas {
        let Some(own) = schema.get("properties") else {
            return Err(Failed::system("KeyError", "'properties'"));
        };
        // The CDK puts the later properties in front; a name of an earlier schema keeps its value.
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

/// The JSON schema of one of the types that a `DynamicSchemaLoader` may name.
///
/// # Errors
/// A type that the CDK does not know.
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
