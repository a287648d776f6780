//! Finds where the records of a JSON response are.

use serde_json::Value;

/// Property names under which services return their lists, the most common first.
const WRAPPERS: [&str; 12] =
    ["data", "items", "results", "value", "values", "records", "entries", "content", "rows", "list", "objects", "result"];

/// The normalised schema of a successful response, and where its records are.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseRecords {
    /// The schema of the whole response; empty if it is not known.
    pub schema: Value,
    pub path: RecordPath,
    /// Whether the description describes the response. If not, the records are located in the response itself.
    pub described: bool,
}

impl ResponseRecords {
    /// A response that the description does not describe.
    #[must_use]
    pub fn unknown() -> ResponseRecords {
        ResponseRecords { schema: Value::Object(serde_json::Map::new()), path: RecordPath::Single, described: false }
    }

    /// Whether the response has a list of records, as far as the description says.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.path.is_list()
    }

    /// Where the records are in `value`, the response of the operation at `path`. A response without a described
    /// structure is searched for a list in the places where services put it.
    #[must_use]
    pub fn path_in(&self, value: &Value, path: &str) -> RecordPath {
        match (&self.path, value) {
            (_, Value::Array(_)) => RecordPath::Whole,
            (RecordPath::Whole, Value::Object(_)) | (RecordPath::Single, _) if self.schema.get("properties").is_none() => {
                list_in(value, path).map_or(RecordPath::Single, RecordPath::Property)
            }
            // The schema allows a list and an object, and the response is an object.
            (RecordPath::Whole, Value::Object(_)) => RecordPath::Single,
            (described, _) => described.clone(),
        }
    }
}

/// The number of records of `value` at `path`. A null stands for an empty list, which is how some services write it.
/// Returns `None` if the value at the path is not a list.
#[must_use]
pub fn count(value: &Value, path: &RecordPath) -> Option<u64> {
    let list = match path {
        RecordPath::Single if value.is_null() => return Some(0),
        RecordPath::Single => return Some(1),
        RecordPath::Whole => value,
        RecordPath::Property(name) => value.get(name).unwrap_or(&Value::Null),
    };
    match list {
        Value::Array(list) => Some(list.len() as u64),
        Value::Null => Some(0),
        _ => None,
    }
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
    ResponseRecords { schema, path: location, described: true }
}

/// The property of `value` that is a list and has one of the names in [`WRAPPERS`] or the last segment of `path`.
fn list_in(value: &Value, path: &str) -> Option<String> {
    let fields = value.as_object()?;
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let lists = || fields.iter().filter(|(_, value)| value.is_array()).map(|(name, _)| name);
    let named = |wanted: &str| lists().find(|name| name.eq_ignore_ascii_case(wanted));
    let only = || lists().next().filter(|_| fields.len() == 1);
    WRAPPERS.iter().find_map(|wrapper| named(wrapper)).or_else(|| named(last)).or_else(only).cloned()
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
    fn records_are_counted_where_they_are() {
        let list = RecordPath::Property("data".into());
        assert_eq!(count(&json!({"data": [1, 2]}), &list), Some(2));
        assert_eq!(count(&json!({"data": null}), &list), Some(0));
        assert_eq!(count(&json!({"data": "no"}), &list), None);
        assert_eq!(count(&json!([1, 2, 3]), &RecordPath::Whole), Some(3));
        assert_eq!(count(&json!(null), &RecordPath::Whole), Some(0));
        assert_eq!(count(&json!({}), &RecordPath::Whole), None);
        assert_eq!(count(&json!({"a": 1}), &RecordPath::Single), Some(1));
    }

    #[test]
    fn records_of_an_unknown_response_are_found_in_it() {
        let rows = |value: Value| count(&value, &ResponseRecords::unknown().path_in(&value, "/v1/pets"));
        assert_eq!(rows(json!([1, 2])), Some(2));
        assert_eq!(rows(json!({"pets": [1, 2, 3], "errors": []})), Some(3));
        assert_eq!(rows(json!({"data": [1], "pets": []})), Some(1));
        assert_eq!(rows(json!({"id": 7, "roles": [1, 2]})), Some(1));
        let either = locate_records(json!({"type": ["array", "object"], "properties": {"e": {}}}), "/pets");
        for (value, count_of) in [(json!([1, 2]), 2), (json!({"e": 1}), 1)] {
            assert_eq!(count(&value, &either.path_in(&value, "/pets")), Some(count_of));
        }
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(RecordPath::Property("a/b~c".into()).pointer(), "/a~1b~0c");
    }
}
