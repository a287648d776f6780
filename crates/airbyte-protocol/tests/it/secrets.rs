//! Where a specification marks secrets, and what is never shown.

use crate::{answer, run};
use airbyte_protocol::{Answer, Command, PathStep, Spec};
use serde_json::{Value, json};

fn spec(schema: &Value) -> Spec {
    let output = json!({"type": "SPEC", "spec": {"connectionSpecification": schema, "documentationUrl": "https://vendor.example/docs",
        "protocol_version": "0.2.0"}});
    match answer(Command::Spec, &output.to_string()) {
        Answer::Spec(spec) => spec,
        other => panic!("{other:?}"),
    }
}

fn secrets(schema: &Value, config: &Value) -> Vec<String> {
    spec(schema).secrets(config).into_iter().collect()
}

#[test]
fn secrets_are_found_in_variants_lists_maps_and_references() {
    let schema = json!({
        "properties": {
            "host": {"type": "string"},
            "credentials": {"oneOf": [
                {"properties": {"auth_type": {"const": "token"}, "token": {"type": "string", "airbyte_secret": true}}},
                {"properties": {"client_secret": {"type": "string", "airbyte_secret": true}, "client_id": {"type": "string"}}},
            ]},
            "keys": {"type": "array", "items": {"properties": {"pin": {"airbyte_secret": true}}}},
            "headers": {"additionalProperties": {"airbyte_secret": true}},
            "patterned": {"patternProperties": {"^x": {"airbyte_secret": true}}},
            "account": {"$ref": "#/definitions/login"},
            "whole": {"airbyte_secret": true, "type": "object"},
            "open": {"airbyte_secret": false},
        },
        "definitions": {"login": {"allOf": [{"properties": {"password": {"airbyte_secret": true}, "again": {"$ref": "#/definitions/login"}}}]}},
    });
    let config = json!({
        "host": "host-open",
        "credentials": {"auth_type": "token", "token": "token-1", "client_secret": "client-1", "client_id": "id-open"},
        "keys": [{"pin": 4711, "name": "open"}, {"pin": "0042"}],
        "headers": {"X-Key": "header-1"},
        "patterned": {"x1": "pattern-1"},
        "account": {"password": "password-1", "again": {"password": "password-2", "user": "open"}},
        "whole": {"a": ["whole-1", null, true], "b": ""},
        "open": "open",
    });
    assert_eq!(
        secrets(&schema, &config),
        ["0042", "4711", "client-1", "header-1", "password-1", "password-2", "pattern-1", "token-1", "whole-1"]
    );
    let spec = spec(&schema);
    let token = vec![PathStep::Field("credentials".to_owned()), PathStep::Field("token".to_owned())];
    assert!(spec.secret_paths.contains(&token), "{:?}", spec.secret_paths);
    assert_eq!(spec.documentation_url.as_deref(), Some("https://vendor.example/docs"));
    assert_eq!(spec.protocol_version.as_deref(), Some("0.2.0"));
    assert_eq!(spec.connection_specification.parse().unwrap(), schema);
}

#[test]
fn a_schema_that_grows_by_references_makes_everything_secret() {
    // Each level refers twice to itself, so the search would visit 2^16 schemas for each of the 20 roots.
    let node = json!({"properties": {"a": {"$ref": "#/definitions/n"}, "b": {"$ref": "#/definitions/n"}, "c": {"$ref": "#/definitions/n"}}});
    let schema = json!({"properties": {"n": {"$ref": "#/definitions/n"}}, "definitions": {"n": node}});
    assert_eq!(secrets(&schema, &json!({"x": {"y": "anything"}})), ["anything"]);
    // A reference to itself alone ends.
    assert_eq!(secrets(&json!({"$ref": "#", "airbyte_secret": "true"}), &json!({"x": "all"})), ["all"]);
    assert_eq!(secrets(&json!({"$ref": "#"}), &json!({"x": "none"})), Vec::<String>::new());
}

#[test]
fn configurations_and_records_are_not_shown_for_debugging() {
    let output = concat!(
        "{\"type\":\"CONTROL\",\"control\":{\"connectorConfig\":{\"config\":{\"token\":\"hunter-2\"}}}}\n",
        "{\"type\":\"RECORD\",\"record\":{\"stream\":\"a\",\"data\":{\"name\":\"Jane\"}}}\n",
        "hunter-2 on standard output",
    );
    let (answer, mut reader) = run(Command::Read, output, 0);
    let shown = format!("{answer:?} {reader:?} {:?}", reader.take_config());
    assert!(!shown.contains("hunter-2") && !shown.contains("Jane"), "{shown}");
}
