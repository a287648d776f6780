//! The JSON schema of Parquet types.

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::schema::types::Type;
use serde_json::{Map, Value, json};

/// Whether a field is required, optional or repeated. The root of a schema is required.
pub fn repetition(field: &Type) -> Repetition {
    let info = field.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

/// The JSON schema of a field, down to `levels` levels of nested fields.
pub fn schema(field: &Type, levels: usize) -> Value {
    let mut inner = schema_without_repetition(field, levels);
    match repetition(field) {
        Repetition::REQUIRED => inner,
        Repetition::OPTIONAL => {
            if let Some(object) = inner.as_object_mut() {
                let one = object.get("type").cloned().unwrap_or(Value::Null);
                object.insert("type".to_owned(), json!(["null", one]));
            }
            inner
        }
        // The legacy form of a list is a repeated field without a group around it:
        // https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#backward-compatibility-rules
        Repetition::REPEATED => json!({"type": "array", "items": inner}),
    }
}

fn schema_without_repetition(field: &Type, levels: usize) -> Value {
    let info = field.get_basic_info();
    if field.is_primitive() {
        return primitive(field.get_physical_type(), info.logical_type_ref(), info.converted_type());
    }
    let list = matches!(info.logical_type_ref(), Some(LogicalType::List)) || info.converted_type() == ConvertedType::LIST;
    let map = matches!(info.logical_type_ref(), Some(LogicalType::Map))
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    if list {
        // The specification has three levels: list, repeated group, element.
        // https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists
        let element = field.get_fields().first().filter(|group| group.is_group()).and_then(|group| group.get_fields().first());
        return match element {
            Some(element) if levels > 0 => json!({"type": "array", "items": schema(element, levels - 1)}),
            _ => json!({"type": "array"}),
        };
    }
    if map || levels == 0 {
        return json!({"type": "object"});
    }
    let inner: Map<String, Value> =
        field.get_fields().iter().take(100).map(|child| (child.name().to_owned(), schema(child, levels - 1))).collect();
    json!({"type": "object", "properties": inner})
}

fn primitive(physical: Physical, logical: Option<&LogicalType>, converted: ConvertedType) -> Value {
    let stamp = |zoned: bool| {
        let kind = if zoned { "timestamp_with_timezone" } else { "timestamp_without_timezone" };
        json!({"type": "string", "format": "date-time", "airbyte_type": kind})
    };
    match logical {
        Some(LogicalType::Date) => return json!({"type": "string", "format": "date"}),
        Some(LogicalType::Time(_)) => return json!({"type": "string", "format": "time"}),
        Some(LogicalType::Timestamp(stamped)) => return stamp(stamped.is_adjusted_to_u_t_c),
        Some(LogicalType::Decimal(_) | LogicalType::Float16) => return json!({"type": "number"}),
        Some(LogicalType::Integer(_)) => return json!({"type": "integer"}),
        Some(LogicalType::Uuid) => return json!({"type": "string", "format": "uuid"}),
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => return json!({"type": "string"}),
        _ => {}
    }
    match converted {
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => return json!({"type": "string"}),
        ConvertedType::DATE => return json!({"type": "string", "format": "date"}),
        ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => return json!({"type": "string", "format": "time"}),
        // Timestamps in the legacy annotations are UTC by definition.
        ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS => return stamp(true),
        ConvertedType::DECIMAL => return json!({"type": "number"}),
        _ => {}
    }
    match physical {
        Physical::BOOLEAN => json!({"type": "boolean"}),
        Physical::INT32 | Physical::INT64 => json!({"type": "integer"}),
        Physical::INT96 => stamp(false),
        Physical::FLOAT | Physical::DOUBLE => json!({"type": "number"}),
        Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => json!({"type": "string", "contentEncoding": "base64"}),
    }
}
