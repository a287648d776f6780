//! Maps the data types of SHOW COLUMNS to JSON Schema.
//!
//! Source: docs.snowflake.com, "SHOW COLUMNS" \[V\]: `data_type` is a JSON text such as
//! `{"type":"FIXED","precision":38,"scale":0,"nullable":true}`.

use serde_json::{Value, json};

/// Returns the schema of a column. `data_type` is the JSON text of SHOW COLUMNS, or the name of a type; `nullable` is the
/// value of the column `null?`, which is used if the JSON text does not say it.
#[must_use]
pub fn schema(data_type: &str, nullable: Option<&str>) -> Value {
    let described: Value = serde_json::from_str(data_type).unwrap_or(Value::Null);
    let name = described.get("type").and_then(Value::as_str).unwrap_or(data_type).to_uppercase();
    let scale = described.get("scale").and_then(Value::as_i64);
    let nullable = match described.get("nullable").and_then(Value::as_bool) {
        Some(nullable) => nullable,
        None => nullable.is_none_or(|text| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("yes")),
    };
    let base = name.split('(').next().unwrap_or_default().trim().to_string();
    let mut schema = match base.as_str() {
        "FIXED" | "NUMBER" | "DECIMAL" | "NUMERIC" if scale == Some(0) => json!({"type": "integer"}),
        "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT" | "BYTEINT" => json!({"type": "integer"}),
        "FIXED" | "NUMBER" | "DECIMAL" | "NUMERIC" | "REAL" | "FLOAT" | "DOUBLE" | "DECFLOAT" => json!({"type": "number"}),
        "BOOLEAN" => json!({"type": "boolean"}),
        "DATE" => json!({"type": "string", "format": "date"}),
        "TIME" => json!({"type": "string", "format": "time"}),
        "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ" | "TIMESTAMP" | "DATETIME" => {
            json!({"type": "string", "format": "date-time"})
        }
        "BINARY" | "VARBINARY" => json!({"type": "string", "contentEncoding": "base64"}),
        "ARRAY" | "VECTOR" => json!({"type": "array"}),
        "OBJECT" | "MAP" | "GEOGRAPHY" | "GEOMETRY" | "FILE" => json!({"type": "object"}),
        "VARIANT" => json!({"type": ["null", "object", "array", "string", "number", "boolean"]}),
        _ => json!({"type": "string"}),
    };
    if let (true, Some(only)) = (nullable, schema["type"].as_str().map(str::to_string)) {
        schema["type"] = json!(["null", only]);
    }
    schema["x-native-type"] = native(&base, &described).into();
    schema
}

/// Writes a type as SQL does: `NUMBER(38,0)`.
fn native(base: &str, described: &Value) -> String {
    let number = |key: &str| described.get(key).and_then(Value::as_i64);
    match (base, number("precision"), number("scale"), number("length")) {
        ("FIXED", Some(precision), Some(scale), _) => format!("NUMBER({precision},{scale})"),
        ("REAL", ..) => "FLOAT".to_string(),
        ("TEXT", .., Some(length)) => format!("VARCHAR({length})"),
        ("BINARY", .., Some(length)) => format!("BINARY({length})"),
        ("TIME", _, Some(scale), _) => format!("TIME({scale})"),
        (base, _, Some(scale), _) if base.starts_with("TIMESTAMP_") => format!("{base}({scale})"),
        _ => base.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_becomes_a_schema() {
        for (data_type, expected) in [
            (
                r#"{"type":"FIXED","precision":38,"scale":0,"nullable":false}"#,
                json!({"type": "integer", "x-native-type": "NUMBER(38,0)"}),
            ),
            (
                r#"{"type":"FIXED","precision":10,"scale":2,"nullable":true}"#,
                json!({"type": ["null", "number"], "x-native-type": "NUMBER(10,2)"}),
            ),
            (
                r#"{"type":"TEXT","length":16777216,"byteLength":16777216,"nullable":true,"fixed":false}"#,
                json!({"type": ["null", "string"], "x-native-type": "VARCHAR(16777216)"}),
            ),
            (
                r#"{"type":"TIMESTAMP_NTZ","precision":0,"scale":9,"nullable":false}"#,
                json!({"type": "string", "format": "date-time", "x-native-type": "TIMESTAMP_NTZ(9)"}),
            ),
            (
                r#"{"type":"VARIANT","nullable":true}"#,
                json!({"type": ["null", "object", "array", "string", "number", "boolean"], "x-native-type": "VARIANT"}),
            ),
            (r#"{"type":"REAL","nullable":false}"#, json!({"type": "number", "x-native-type": "FLOAT"})),
            ("BOOLEAN", json!({"type": ["null", "boolean"], "x-native-type": "BOOLEAN"})),
            ("", json!({"type": ["null", "string"], "x-native-type": ""})),
        ] {
            assert_eq!(schema(data_type, None), expected, "{data_type}");
        }
        assert_eq!(schema("DATE", Some("false"))["type"], "string");
    }
}
