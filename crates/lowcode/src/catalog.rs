//! The CATALOG message: how `discover` describes each stream.

use super::context::Context;
use super::error::Failed;
use super::interpolation::{InterpolatedString, Scope};
use super::value::Value;
use serde::Serialize;
use std::borrow::Cow;

/// One stream as the Airbyte protocol describes it. Absent fields are not written.
#[derive(Clone, Debug, Serialize)]
pub struct AirbyteStream<'m> {
    pub name: Cow<'m, str>,
    /// Borrowed from the manifest if the manifest contains it.
    pub json_schema: Cow<'m, Value>,
    pub supported_sync_modes: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_defined_cursor: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_cursor_field: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_defined_primary_key: Option<Vec<Vec<String>>>,
    pub is_resumable: bool,
    pub is_file_based: bool,
}

/// The content of a CATALOG message.
#[derive(Clone, Debug, Serialize)]
pub struct AirbyteCatalog<'m> {
    pub streams: Vec<AirbyteStream<'m>>,
}

/// The cursor of a stream, after its name has been rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorField {
    pub name: String,
    /// `allow_catalog_defined_cursor_field`: whether the user may choose a different cursor field.
    pub user_may_choose: bool,
}

/// Describes one stream. `stream` is its component, for example a `DeclarativeStream`.
///
/// # Errors
/// Fails if the primary key has more than one level.
pub fn describe<'m>(
    stream: &'m Value,
    json_schema: Cow<'m, Value>,
    cursor: Option<CursorField>,
) -> Result<AirbyteStream<'m>, Failed> {
    let keys = primary_key(stream.get("primary_key"))?;
    Ok(AirbyteStream {
        name: Cow::Borrowed(stream.get("name").and_then(Value::as_str).unwrap_or_default()),
        json_schema,
        supported_sync_modes: if cursor.is_some() { &["full_refresh", "incremental"] } else { &["full_refresh"] },
        source_defined_cursor: cursor.as_ref().map(|cursor| !cursor.user_may_choose),
        is_resumable: cursor.is_some(),
        default_cursor_field: cursor.map(|cursor| vec![cursor.name]),
        source_defined_primary_key: (!keys.is_empty()).then(|| keys.into_iter().map(|key| vec![key]).collect()),
        is_file_based: stream.get("file_uploader").is_some_and(Value::truthy),
    })
}

/// Returns the cursor field that the `incremental_sync` of a stream names, or `None` if the stream has no `incremental_sync`.
///
/// # Errors
/// Fails if the template of the field fails.
pub fn cursor_field(stream: &Value, context: &Context<'_>) -> Result<Option<CursorField>, Failed> {
    let Some(sync) = stream.get("incremental_sync").filter(|sync| sync.truthy()) else { return Ok(None) };
    let parameters = sync.get("$parameters").unwrap_or(&Value::None);
    let text = sync.get("cursor_field").and_then(Value::as_str).unwrap_or_default();
    let scope = Scope { config: context.config, parameters, vars: Vec::new(), host: context.host, bounds: context.bounds };
    let name = InterpolatedString::new(text, parameters).eval_str(&scope)?;
    let user_may_choose = sync.get("allow_catalog_defined_cursor_field").is_some_and(Value::truthy);
    // An empty name still counts as a cursor, because the CDK creates a cursor object for it.
    Ok(Some(CursorField { name, user_may_choose }))
}

/// Returns the names of the fields of a primary key.
///
/// # Errors
/// Fails if the key has more than one level, which the CDK does not support.
pub fn primary_key(key: Option<&Value>) -> Result<Vec<String>, Failed> {
    match key {
        None | Some(Value::None) => Ok(Vec::new()),
        Some(Value::Str(name)) => Ok(vec![name.to_string()]),
        Some(Value::List(list)) => {
            let flat: Option<Vec<String>> = list.iter().map(|part| part.as_str().map(str::to_owned)).collect();
            let nested = || {
                let one = |part: &Value| match part.as_list() {
                    Some([Value::Str(name)]) => Some(name.to_string()),
                    _ => None,
                };
                list.iter().map(one).collect::<Option<Vec<String>>>()
            };
            flat.or_else(nested).ok_or_else(|| nested_keys(key))
        }
        Some(_) => Err(nested_keys(key)),
    }
}

fn nested_keys(key: Option<&Value>) -> Failed {
    let shown = key.map(Value::repr).unwrap_or_default();
    Failed::system("ValueError", format!("Nested primary keys are not supported. Found {shown}"))
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
