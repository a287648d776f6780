use super::*;

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn schemas_are_lent_and_merged() {
    let stream = value(r#"{"schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object"}}}"#);
    assert!(matches!(of_stream(&stream).unwrap(), Some(Cow::Borrowed(_))));
    let both = value(
        r#"{"schema_loader": [{"type": "InlineSchemaLoader", "schema": {"properties": {"a": 1}}},
        {"type": "InlineSchemaLoader", "schema": {"properties": {"a": 2, "b": 3}}}]}"#,
    );
    assert_eq!(of_stream(&both).unwrap().unwrap().get("properties").unwrap().repr(), "{'a': 1, 'b': 3}");
    let bare = value(r#"{"schema_loader": [{"type": "InlineSchemaLoader", "schema": {}}]}"#);
    assert_eq!(of_stream(&bare).unwrap_err().class, "KeyError");
}

#[test]
fn files_do_not_stand_beside_a_manifest() {
    assert_eq!(of_stream(&value("{}")).unwrap().unwrap().repr(), "{}", "no loader: no schema");
    let file = value(r#"{"schema_loader": {"type": "JsonFileSchemaLoader", "$parameters": {"name": "users"}}}"#);
    assert_eq!(of_stream(&file).unwrap().unwrap().repr(), "{}");
    assert!(of_stream(&value(r#"{"schema_loader": {"type": "DynamicSchemaLoader"}}"#)).unwrap().is_none());
}

#[test]
fn there_are_eleven_types() {
    assert_eq!(airbyte_type("date").unwrap().repr(), "{'type': ['null', 'string'], 'format': 'date'}");
    assert_eq!(airbyte_type("datetime").unwrap_err().message, "Invalid Airbyte data type: datetime");
}
