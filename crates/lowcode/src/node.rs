//! Helpers that read the fields of a manifest component.

use super::value::{Dict, Value};

static NONE: Value = Value::None;

/// Returns the field `key`, or Python's `None` if it is absent.
#[must_use]
pub fn field<'v>(node: &'v Value, key: &str) -> &'v Value {
    node.get(key).unwrap_or(&NONE)
}

/// Returns the field `key` if it is set. A field that is null counts as absent.
#[must_use]
pub fn set_field<'v>(node: &'v Value, key: &str) -> Option<&'v Value> {
    node.get(key).filter(|value| !value.is_none())
}

/// Returns the text of a string field.
#[must_use]
pub fn text<'v>(node: &'v Value, key: &str) -> Option<&'v str> {
    field(node, key).as_str()
}

/// Returns a boolean field; an absent field is false.
#[must_use]
pub fn flag(node: &Value, key: &str) -> bool {
    field(node, key).as_bool().unwrap_or(false)
}

/// Returns the items of a list field; an absent field is an empty list.
#[must_use]
pub fn items<'v>(node: &'v Value, key: &str) -> &'v [Value] {
    field(node, key).as_list().unwrap_or_default()
}

/// Returns the `$parameters` of a component.
#[must_use]
pub fn parameters(node: &Value) -> &Value {
    field(node, "$parameters")
}

/// Returns the component's type.
#[must_use]
pub fn kind(node: &Value) -> &str {
    text(node, "type").unwrap_or_default()
}

/// Creates a dict with one pair.
#[must_use]
pub fn pair(key: impl Into<std::sync::Arc<str>>, value: Value) -> Dict {
    Dict::from_iter([(key.into(), value)])
}

/// Returns the value at `path`, which consists of keys of dicts and indexes of lists.
#[must_use]
pub fn walk(value: &Value, path: impl IntoIterator<Item = String>) -> Option<&Value> {
    path.into_iter().try_fold(value, |value, step| match value {
        Value::Dict(dict) => dict.get(&*step),
        Value::List(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}
