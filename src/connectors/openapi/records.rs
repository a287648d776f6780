//! Finds where the records of a JSON response are.

use serde_json::Value;

/// Property names under which services return their lists, the most common first.
const WRAPPERS: [&str; 12] =
    ["data", "items", "results", "value", "values", "records", "entries", "content", "rows", "list", "objects", "result"];

/// The normalised schema of a successful response, and where its records are.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseRecords {
    /// The schema of the whole response.
    pub schema: Value,
    pub path: RecordPath,
}

/// Where the records of a response are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordPath {
    /// The response is a list of records.
    Whole,
    /// The property of this name is the list of records.
    Property(String),
    /// The response is one record.
    Single,
}

impl RecordPath {
    /// The JSON pointer of the list or of the single record.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self {
            RecordPath::Whole | RecordPath::Single => String::new(),
            RecordPath::Property(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        }
    }

    /// Whether the response has a list of records.
    #[must_use]
    pub fn is_list(&self) -> bool {
        *self != RecordPath::Single
    }
}

/// Locates the records in `schema`, the normalised schema of the response of the operation at `path`.
#[must_use]
pub fn locate_records(schema: Value, path: &str) -> ResponseRecords {
    let location = if has_type(&schema, "array") {
        RecordPath::Whole
    } else {
        list_property(&schema, path).map_or(RecordPath::Single, RecordPath::Property)
    };
    ResponseRecords { schema, path: location }
}

/// The property that is the list of records. This is a list of objects whose name is in [`WRAPPERS`] or is the last segment
/// of the path, or else the only property of the response. A user object with `roles` therefore stays one record.
fn list_property(schema: &Value, path: &str) -> Option<String> {
    let properties = schema["properties"].as_object()?;
    let lists = || properties.iter().filter(|(_, schema)| has_type(schema, "array"));
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let named = |name: &str| WRAPPERS.iter().any(|wrapper| wrapper.eq_ignore_ascii_case(name)) || name.eq_ignore_ascii_case(last);
    let objects: Vec<&String> =
        lists().filter(|(name, schema)| named(name) && is_object(&schema["items"])).map(|(name, _)| name).collect();
    let best = WRAPPERS.iter().find_map(|wrapper| objects.iter().find(|name| name.eq_ignore_ascii_case(wrapper)));
    if let Some(name) = best.or(objects.first()) {
        return Some((*name).clone());
    }
    let mut any = lists().filter(|(name, _)| named(name) || properties.len() == 1).map(|(name, _)| name.clone());
    any.next().filter(|_| any.next().is_none())
}

/// Whether the schema has this type, alone or among others.
fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(list) => list.iter().any(|one| one == name),
        _ => false,
    }
}

fn is_object(schema: &Value) -> bool {
    has_type(schema, "object") || schema.get("properties").is_some() || schema.get("x-aam-cycle").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path_of(schema: Value, path: &str) -> RecordPath {
        locate_records(schema, path).path
    }

    #[test]
    fn records_are_found_where_services_put_them() {
        let rows = json!({"type": "array", "items": {"type": "object", "properties": {"id": {}}}});
        let strings = json!({"type": "array", "items": {"type": "string"}});
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        assert_eq!(path_of(rows.clone(), "/pets"), RecordPath::Whole);
        assert_eq!(
            path_of(object(json!({"data": rows, "next": {"type": "string"}})), "/pets"),
            RecordPath::Property("data".into())
        );
        assert_eq!(
            path_of(object(json!({"pets": rows, "total": {"type": "integer"}})), "/v1/pets"),
            RecordPath::Property("pets".into())
        );
        assert_eq!(path_of(object(json!({"errors": rows, "items": rows})), "/pets"), RecordPath::Property("items".into()));
        assert_eq!(path_of(object(json!({"names": strings})), "/x"), RecordPath::Property("names".into()));
        assert_eq!(path_of(object(json!({"id": {}, "name": {}, "roles": rows})), "/users/{id}"), RecordPath::Single);
        assert_eq!(path_of(json!({}), "/x"), RecordPath::Single);
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(RecordPath::Property("a/b~c".into()).pointer(), "/a~1b~0c");
    }
}
