//! `schema_normalization: Default`. It converts values to the type that the schema names (`utils/transform.py`).

use crate::value::Value;

/// Converts the fields of `record` whose schema names a single type. A value that cannot be converted stays as it is.
pub fn normalise(record: &mut Value, schema: &Value) {
    match record {
        Value::Dict(dict) => {
            let Some(Value::Dict(properties)) = schema.get("properties") else { return };
            for (key, subschema) in properties {
                if let Some(item) = dict.get_mut(key) {
                    convert(item, subschema);
                    normalise(item, subschema);
                }
            }
        }
        Value::List(list) => {
            let Some(items @ Value::Dict(_)) = schema.get("items") else { return };
            for item in list {
                convert(item, items);
                normalise(item, items);
            }
        }
        _ => {}
    }
}

fn convert(item: &mut Value, schema: &Value) {
    let target = match schema.get("type") {
        Some(Value::Str(one)) => &**one,
        Some(Value::List(list)) => {
            if item.is_none() && list.iter().any(|it| it.as_str() == Some("null")) {
                return;
            }
            let mut others = list.iter().filter_map(Value::as_str).filter(|it| *it != "null");
            match (others.next(), others.next()) {
                (Some(one), None) => one,
                _ => return,
            }
        }
        _ => return,
    };
    // Python evaluates `'null' in type`. This is also true if `type` is the string `null`.
    if item.is_none() && target.contains("null") {
        return;
    }
    let converted = match target {
        "string" => Some(Value::from(item.to_str())),
        "number" => to_float(item),
        "integer" => to_int(item),
        "boolean" => to_bool(item),
        "array" => to_array(item, schema),
        _ => None,
    };
    if let Some(converted) = converted {
        *item = converted;
    }
}

fn to_float(item: &Value) -> Option<Value> {
    match item {
        Value::Str(text) => text.trim().replace('_', "").parse().ok().map(Value::Float),
        other => other.number().map(Value::Float),
    }
}

fn to_int(item: &Value) -> Option<Value> {
    match item {
        Value::Int(_) | Value::Big(_) => Some(item.clone()),
        Value::Bool(bool) => Some(Value::Int(i64::from(*bool))),
        Value::Float(float) if float.is_finite() && float.abs() < 9e18 => Some(Value::Int(*float as i64)),
        Value::Str(text) => text.trim().replace('_', "").parse().ok().map(Value::Int),
        _ => None,
    }
}

fn to_bool(item: &Value) -> Option<Value> {
    match item {
        Value::Str(text) => match text.to_lowercase().trim() {
            "y" | "yes" | "t" | "true" | "on" | "1" => Some(Value::Bool(true)),
            "n" | "no" | "f" | "false" | "off" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        other => Some(Value::Bool(other.truthy())),
    }
}

/// Wraps a scalar in a list if the schema of the items has a scalar type or does not name a type.
fn to_array(item: &Value, schema: &Value) -> Option<Value> {
    if matches!(item, Value::List(_) | Value::Dict(_)) {
        return None;
    }
    let simple = |it: &Value| matches!(it.as_str(), Some("string" | "number" | "integer" | "boolean" | "null"));
    match schema.get("items").and_then(|items| items.get("type")) {
        None => Some(Value::List(vec![item.clone()])),
        Some(Value::List(types)) if types.iter().all(simple) => Some(Value::List(vec![item.clone()])),
        // If the type is a single name, the CDK iterates over its letters, and no letter is the name of a type.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected record is the output of TypeTransformer of airbyte-cdk 7.39.1 (sources/utils/transform.py).
    #[test]
    fn converts_as_the_cdk_does() {
        let schema: Value = serde_json::from_str(
            r#"{"properties": {"s": {"type": ["null", "string"]}, "n": {"type": "number"}, "i": {"type": "integer"},
                "b": {"type": "boolean"}, "a": {"type": "array"}, "l": {"type": "array", "items": {"type": "integer"}},
                "o": {"type": "object", "properties": {"x": {"type": "string"}}}, "m": {"type": ["string", "integer"]}}}"#,
        )
        .unwrap();
        let mut record: Value = serde_json::from_str(
            r#"{"s": {"k": true}, "n": "1.5", "i": "x", "b": "Yes", "a": 3, "l": ["7", 2.9], "o": {"x": null}, "m": 1}"#,
        )
        .unwrap();
        normalise(&mut record, &schema);
        assert_eq!(
            record.repr(),
            r#"{'s': "{'k': True}", 'n': 1.5, 'i': 'x', 'b': True, 'a': [3], 'l': [7, 2], 'o': {'x': 'None'}, 'm': 1}"#
        );
    }
}
