//! Maps native column types to JSON Schema, and tables to streams of Catalog v1.

use crate::model::{Stream, SyncMode};
use serde_json::{Map, Value, json};

/// One column as the database describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// The type as the database writes it. The catalog shows it as `x-native-type`.
    pub native: String,
    pub nullable: bool,
    /// The JSON Schema of a value that is not null.
    pub schema: Value,
}

/// One table or view as the database describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub namespace: Option<String>,
    pub name: String,
    /// One of `table`, `view`, `materialized view`, `foreign table` and `virtual table`.
    pub kind: &'static str,
    pub columns: Vec<Column>,
    pub key: Vec<String>,
    pub rows: Option<u64>,
}

/// Builds the stream of a table. Nullability becomes part of the type, as JSON Schema requires.
#[must_use]
pub fn stream(table: Table) -> Stream {
    let mut properties = Map::new();
    for column in table.columns {
        let mut schema = column.schema;
        if column.nullable {
            allow_null(&mut schema);
        }
        if !column.native.is_empty() {
            schema["x-native-type"] = Value::String(column.native);
        }
        properties.insert(column.name, schema);
    }
    Stream {
        name: table.name,
        namespace: table.namespace,
        json_schema: json!({"type": "object", "x-kind": table.kind, "properties": properties}),
        supported_sync_modes: vec![SyncMode::FullRefresh],
        source_defined_primary_key: table.key.into_iter().map(|column| vec![column]).collect(),
        row_estimate: table.rows,
    }
}

fn allow_null(schema: &mut Value) {
    match schema.get_mut("type") {
        Some(Value::String(one)) => {
            let one = std::mem::take(one);
            schema["type"] = json!(["null", one]);
        }
        Some(Value::Array(many)) if !many.iter().any(|name| name == "null") => many.insert(0, json!("null")),
        _ => {}
    }
}

fn any() -> Value {
    json!({"type": ["null", "object", "array", "string", "number", "boolean"]})
}

fn binary() -> Value {
    json!({"type": "string", "contentEncoding": "base64"})
}

fn formatted(format: &str) -> Value {
    json!({"type": "string", "format": format})
}

/// The schema of a PostgreSQL type that is written as `format_type` prints it. A domain must be given as its base type.
#[must_use]
pub fn postgres(native: &str) -> Value {
    if let Some(item) = native.strip_suffix("[]") {
        return json!({"type": "array", "items": postgres(item)});
    }
    match native.split('(').next().unwrap_or_default().trim_end() {
        "smallint" | "integer" | "bigint" | "oid" => json!({"type": "integer"}),
        "numeric" | "real" | "double precision" => json!({"type": "number"}),
        "boolean" => json!({"type": "boolean"}),
        "date" => formatted("date"),
        "uuid" => formatted("uuid"),
        "bytea" => binary(),
        "json" | "jsonb" => any(),
        // The precision can be in the middle of a type, as in `timestamp(3) without time zone`, and `split` cuts there.
        "timestamp" | "timestamp without time zone" | "timestamp with time zone" => formatted("date-time"),
        "time" | "time without time zone" | "time with time zone" => formatted("time"),
        _ => json!({"type": "string"}),
    }
}

/// The schema of a MySQL or MariaDB `column_type`.
#[must_use]
pub fn mysql(native: &str) -> Value {
    let lower = native.to_ascii_lowercase();
    if lower == "tinyint(1)" {
        return json!({"type": "boolean"});
    }
    let base_type = lower.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    match base_type {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "year" => {
            json!({"type": "integer"})
        }
        "decimal" | "numeric" | "float" | "double" | "real" => json!({"type": "number"}),
        "date" => formatted("date"),
        "datetime" | "timestamp" => formatted("date-time"),
        "time" => formatted("time"),
        "uuid" => formatted("uuid"),
        "json" => any(),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "bit" | "geometry" => binary(),
        _ => json!({"type": "string"}),
    }
}

/// The schema of a declared type of SQLite. SQLite does not enforce declared types, so the schema is only what the table
/// promises. Common names for dates and booleans are checked before the rules of affinity (sqlite.org/datatype3.html).
#[must_use]
pub fn sqlite(native: &str) -> Value {
    let upper = native.to_ascii_uppercase();
    let base_type = upper.split('(').next().unwrap_or_default().trim();
    match base_type {
        "" | "ANY" => any(),
        "BOOLEAN" | "BOOL" => json!({"type": "boolean"}),
        "DATE" => formatted("date"),
        "DATETIME" | "TIMESTAMP" => formatted("date-time"),
        "TIME" => formatted("time"),
        "JSON" | "JSONB" => any(),
        "UUID" => formatted("uuid"),
        _ if upper.contains("INT") => json!({"type": "integer"}),
        _ if ["CHAR", "CLOB", "TEXT"].iter().any(|part| upper.contains(part)) => {
            json!({"type": "string"})
        }
        _ if upper.contains("BLOB") => binary(),
        _ if ["REAL", "FLOA", "DOUB", "NUM", "DEC"].iter().any(|part| upper.contains(part)) => {
            json!({"type": "number"})
        }
        _ => json!({"type": "string"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_types_map_to_json_types() {
        for (native, expected) in [
            ("bigint", json!({"type": "integer"})),
            ("numeric(10,2)", json!({"type": "number"})),
            ("timestamp(3) without time zone", json!({"type": "string", "format": "date-time"})),
            ("time with time zone", json!({"type": "string", "format": "time"})),
            ("integer[]", json!({"type": "array", "items": {"type": "integer"}})),
            ("character varying(20)", json!({"type": "string"})),
            ("mood", json!({"type": "string"})),
        ] {
            assert_eq!(postgres(native), expected, "{native}");
        }
        assert_eq!(mysql("int(10) unsigned"), json!({"type": "integer"}));
        assert_eq!(mysql("tinyint(1)"), json!({"type": "boolean"}));
        assert_eq!(mysql("enum('int','b')"), json!({"type": "string"}));
        assert_eq!(sqlite("UNSIGNED BIG INT"), json!({"type": "integer"}));
        assert_eq!(sqlite("varchar(20)"), json!({"type": "string"}));
        assert_eq!(sqlite("DECIMAL(10,2)"), json!({"type": "number"}));
    }

    #[test]
    fn a_nullable_column_admits_null_and_keeps_its_native_type() {
        let column = |nullable| Column { name: "n".into(), native: "bigint".into(), nullable, schema: postgres("bigint") };
        let schema = |nullable| {
            let table = Table { name: "t".into(), kind: "table", columns: vec![column(nullable)], ..Table::default() };
            stream(table).json_schema["properties"]["n"].clone()
        };
        assert_eq!(schema(true), json!({"type": ["null", "integer"], "x-native-type": "bigint"}));
        assert_eq!(schema(false), json!({"type": "integer", "x-native-type": "bigint"}));
    }
}
