//! Reading the fields of a component of the manifest.

use super::value::{Dict, Value};

static NONE: Value = Value::None;

/// The field `key`; None where it is absent.
#[must_use]
pub fn field<'v>(node: &'v Value, key: &str) -> &'v Value {
    node.get(key).unwrap_or(&NONE)
}

/// The field `key` where it is set (absent and null are one).
#[must_use]
pub fn set_field<'v>(node: &'v Value, key: &str) -> Option<&'v Value> {
    node.get(key).filter(|value| !value.is_none())
}

/// The text of a string field.
#[must_use]
pub fn text<'v>(node: &'v Value, key: &str) -> Option<&'v str> {
    field(node, key).as_str()
}

/// A boolean field; absent is false.
#[must_use]
pub fn flag(node: &Value, key: &str) -> bool {
    field(node, key).as_bool().unwrap_or(false)
}

/// The items of a list field; absent is empty.
#[must_use]
pub fn items<'v>(node: &'v Value, key: &str) -> &'v [Value] {
    field(node, key).as_list().unwrap_or_default()
}

/// `$parameters` of a component.
#[must_use]
pub fn parameters(node: &Value) -> &Value {
    field(node, "$parameters")
}

/// The component's type.
#[must_use]
pub fn kind(node: &Value) -> &str {
    text(node, "type").unwrap_or_default()
}

/// A dict with one pair.
#[must_use]
pub fn pair(key: impl Into<std::sync::Arc<str>>, value: Value) -> Dict {
    Dict::from_iter([(key.into(), value)])
}

/// The value at `path`: keys of dicts, indexes of lists.
#[must_use]
pub fn walk(value: &Value, path: impl IntoIterator<Item = String>) -> Option<&Value> {
    path.into_iter().try_fold(value, |value, step| match value {
        Value::Dict(dict) => dict.get(&*step),
        Value::List(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}
