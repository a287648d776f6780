use super::*;

/// A schema, an instance, and the message of `jsonschema.validate` in Python's `jsonschema` 4.26.
#[test]
fn the_sentences_are_those_of_python() {
    for (schema, instance, expected) in [
        (r#"{"type": "object", "required": ["a", "b"]}"#, r#"{}"#, Some(r#"'a' is a required property"#)),
        (
            r#"{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}"#,
            r#"{"a": 1, "b": "x"}"#,
            Some(r#"'x' is not of type 'integer'"#),
        ),
        (r#"{"properties": {"a": {"type": ["string", "null"]}}}"#, r#"{"a": 1}"#, Some(r#"1 is not of type 'string', 'null'"#)),
        (r#"{"properties": {"a": {"enum": ["x", 1, true]}}}"#, r#"{"a": "y"}"#, Some(r#"'y' is not one of ['x', 1, True]"#)),
        (r#"{"properties": {"a": {"enum": [1]}}}"#, r#"{"a": true}"#, Some(r#"True is not one of [1]"#)),
        (r#"{"properties": {"a": {"const": "k"}}}"#, r#"{"a": "z"}"#, Some(r#"'k' was expected"#)),
        (r#"{"properties": {"a": {"pattern": "^[0-9]{4}$"}}}"#, r#"{"a": "12"}"#, Some(r#"'12' does not match '^[0-9]{4}$'"#)),
        (
            r#"{"properties": {"a": {"minLength": 1}, "b": {"maxLength": 2}}}"#,
            r#"{"a": "", "b": "abc"}"#,
            Some(r#"'abc' is too long"#),
        ),
        (r#"{"properties": {"a": {"minimum": 1, "maximum": 5}}}"#, r#"{"a": 0.5}"#, Some(r#"0.5 is less than the minimum of 1"#)),
        (
            r#"{"properties": {"a": {"exclusiveMaximum": 5}}}"#,
            r#"{"a": 5}"#,
            Some(r#"5 is greater than or equal to the maximum of 5"#),
        ),
        (r#"{"properties": {"a": {"multipleOf": 2}}}"#, r#"{"a": 5}"#, Some(r#"5 is not a multiple of 2"#)),
        (r#"{"properties": {"a": {"minItems": 1, "type": "array"}}}"#, r#"{"a": []}"#, Some(r#"[] should be non-empty"#)),
        (
            r#"{"properties": {"a": {"uniqueItems": true, "items": {"type": "integer"}}}}"#,
            r#"{"a": [1, 1, "x"]}"#,
            Some(r#"[1, 1, 'x'] has non-unique elements"#),
        ),
        (
            r#"{"additionalProperties": false, "properties": {"a": {}}}"#,
            r#"{"a": 1, "x": 2}"#,
            Some(r#"Additional properties are not allowed ('x' was unexpected)"#),
        ),
        (
            r#"{"additionalProperties": false, "patternProperties": {"^x": {}}}"#,
            r#"{"y": 1, "x1": 2}"#,
            Some(r#"'y' does not match any of the regexes: '^x'"#),
        ),
        (
            r#"{"properties": {"c": {"oneOf": [{"type": "object", "required": ["auth"], "properties": {"auth": {"const": "oauth"}, "t": {"type": "string"}}}, {"type": "object", "required": ["auth", "key"], "properties": {"auth": {"const": "key"}, "key": {"type": "string"}}}]}}}"#,
            r#"{"c": {"auth": "key"}}"#,
            Some(r#"'oauth' was expected"#),
        ),
        (
            r#"{"properties": {"c": {"oneOf": [{"type": "object", "required": ["auth"], "properties": {"auth": {"const": "oauth"}, "t": {"type": "string"}}}, {"type": "object", "required": ["auth", "key"], "properties": {"auth": {"const": "key"}, "key": {"type": "string"}}}]}}}"#,
            r#"{"c": {"auth": "none"}}"#,
            Some(r#"{'auth': 'none'} is not valid under any of the given schemas"#),
        ),
        (
            r#"{"properties": {"c": {"oneOf": [{"type": "object"}, {"required": ["a"]}]}}}"#,
            r#"{"c": {"a": 1}}"#,
            Some(r#"{'a': 1} is valid under each of {'required': ['a']}, {'type': 'object'}"#),
        ),
        (
            r#"{"properties": {"c": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}"#,
            r#"{"c": []}"#,
            Some(r#"[] is not valid under any of the given schemas"#),
        ),
        (
            r#"{"properties": {"c": {"anyOf": [{"type": "string", "minLength": 5}, {"type": "integer"}]}}}"#,
            r#"{"c": "abc"}"#,
            Some(r#"'abc' is too short"#),
        ),
        (
            r#"{"allOf": [{"required": ["a"]}, {"properties": {"b": {"type": "integer"}}}]}"#,
            r#"{"b": "x"}"#,
            Some(r#"'a' is a required property"#),
        ),
        (r#"{"not": {"required": ["a"]}}"#, r#"{"a": 1}"#, Some(r#"{'a': 1} should not be valid under {'required': ['a']}"#)),
        (
            r#"{"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}"#,
            r#"{"a": 1}"#,
            Some(r#"'b' is a required property"#),
        ),
        (
            r#"{"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": ["b"]}}"#,
            r#"{"a": 1}"#,
            Some(r#"'b' is a dependency of 'a'"#),
        ),
        (
            r##"{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"s": {"type": "string"}}, "properties": {"a": {"$ref": "#/definitions/s", "minLength": 9}}}"##,
            r#"{"a": 1}"#,
            Some(r#"1 is not of type 'string'"#),
        ),
        (r#"{"properties": {"a": false}}"#, r#"{"a": 1}"#, Some(r#"False schema does not allow 1"#)),
        (
            r#"{"properties": {"a": {"properties": {"b": {"type": "string"}}}, "z": {"type": "string"}}}"#,
            r#"{"a": {"b": 1}, "z": 1}"#,
            Some(r#"1 is not of type 'string'"#),
        ),
        (r#"{"properties": {"a": {"type": "integer"}}}"#, r#"{"a": 1.0}"#, None),
        (
            r#"{"properties": {"a": {"items": {"required": ["k"]}}}}"#,
            r#"{"a": [{"k": 1}, {}, {}]}"#,
            Some(r#"'k' is a required property"#),
        ),
        (r#"{"properties": {"a": {"type": "string"}}}"#, r#"{"a": null}"#, Some(r#"None is not of type 'string'"#)),
        (r#"{"properties": {"a": {"minProperties": 1}}}"#, r#"{"a": {}}"#, Some(r#"{} should be non-empty"#)),
        (
            r#"{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"contains": {"type": "string"}}}}"#,
            r#"{"a": [1]}"#,
            Some(r#"None of [1] are valid under the given schema"#),
        ),
        (r#"{"propertyNames": {"pattern": "^[a-z]+$"}}"#, r#"{"A": 1}"#, Some(r#"'A' does not match '^[a-z]+$'"#)),
    ] {
        let (schema, instance): (Value, Value) = (serde_json::from_str(schema).unwrap(), serde_json::from_str(instance).unwrap());
        assert_eq!(best_error(&schema, &instance).as_deref(), expected, "{} {}", schema.repr(), instance.repr());
    }
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let schema: Value = serde_json::from_str(r##"{"$ref": "#"}"##).unwrap();
    assert_eq!(best_error(&schema, &Value::Int(1)), None);
    let wide: Value = serde_json::from_str(r##"{"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}"##).unwrap();
    assert_eq!(best_error(&wide, &Value::Int(1)), None);
}

/// The compiled form of `\w{50}` is too large for the cache. The pattern `(` does not compile and therefore matches everything.
#[test]
fn a_pattern_says_the_same_again_whether_it_is_kept_or_not() {
    let long = "a".repeat(50);
    for _ in 0..2 {
        assert!(search("^[0-9]{4}\\Z", "2024") && !search("^[0-9]{4}\\Z", "20245"));
        assert!(search("^\\w{50}$", &long) && !search("^\\w{50}$", "a"));
        assert!(search("(", "x"));
    }
    let kept = COMPILED.with_borrow(|kept| kept.keys().cloned().collect::<Vec<_>>());
    assert_eq!(kept, ["^[0-9]{4}\\Z"]);
}
