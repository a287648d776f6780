//! The schema of an intent as programs should write it.
//!
//! The schema that the parser validates with (`GET /schemas/connection_intent.json`) allows every spelling that AAM
//! understands, and keeps values that it does not. A generated client would accept every typing mistake with it. The document
//! therefore describes the proper forms, which the same schema names in its examples.

use serde_json::{Map, Value, json};

/// The fields with fixed values.
const FIXED: [&str; 4] = [
    "/properties/scopes_mode",
    "/properties/risk_level",
    "/properties/evidence/properties/source",
    "/properties/owner/properties/why",
];

/// Returns the schema with the proper forms only. It has neither the keywords that only the root of a document may have, nor
/// defaults: generated clients would make a field with a default required.
#[must_use]
pub fn schema() -> Value {
    let mut schema: Value = serde_json::from_str(crate::intake::schema::TEXT).unwrap_or_default();
    for pointer in FIXED {
        if let Some(field) = schema.pointer_mut(pointer) {
            let values = field.get("examples").or(field.get("enum")).cloned().unwrap_or_default();
            *field = json!({"type": "string", "enum": values, "description": field["description"]});
        }
    }
    if let Some(time) = schema.pointer_mut("/properties/evidence/properties/ts") {
        *time = json!({"type": "string", "format": "date-time", "description": time["description"]});
    }
    if let Some(root) = schema.as_object_mut() {
        for keyword in ["$schema", "$id", "$comment"] {
            root.remove(keyword);
        }
    }
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        // AAM writes this field itself.
        fields.remove("as_sent");
        for field in fields.values_mut().filter_map(Value::as_object_mut) {
            field.remove("default");
            field.remove("$comment");
        }
    }
    schema
}

/// Returns the schema of a batch: the proper form of several.
#[must_use]
pub fn batch(max_items: usize) -> Value {
    let items = json!({"$ref": "#/components/schemas/connection_intent"});
    let fields = Map::from_iter([("intents".to_string(), json!({"type": "array", "maxItems": max_items, "items": items}))]);
    json!({"type": "object", "required": ["intents"], "properties": fields})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_values_are_enums_and_nothing_has_a_default() {
        let schema = schema();
        for (pointer, count) in FIXED.into_iter().zip([1, 3, 4, 5]) {
            let values = schema.pointer(&format!("{pointer}/enum")).and_then(Value::as_array);
            assert_eq!(values.map(Vec::len), Some(count), "{pointer}");
        }
        assert!(!schema.to_string().contains("\"default\""));
        assert!(schema["properties"].get("as_sent").is_none());
    }
}
