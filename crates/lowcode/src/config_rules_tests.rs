use super::*;
use crate::host::{HostError, HostRequest, HostResponse};
use crate::load::load;
use futures_util::future::BoxFuture;
use std::time::Duration;

struct Nobody;

impl Host for Nobody {
    fn send(&self, _: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(std::future::pending())
    }
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
    fn pause(&self, _: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }
    fn uuid(&self) -> String {
        String::new()
    }
}

fn manifest(rules: &str) -> Manifest {
    let text = format!(
        "version: '1'\ncheck: {{stream_names: []}}\nstreams: []\n\
         spec: {{connection_specification: {{}}, config_normalization_rules: {{type: ConfigNormalizationRules, {rules}}}}}"
    );
    load(&text, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn migrations_come_before_transformations_and_are_told() {
    let manifest = manifest(
        "config_migrations: [{type: ConfigMigration, transformations: [{type: ConfigRemapField, map: {old: new}, field_path: [a, kind]}]}], \
         transformations: [{type: ConfigAddFields, fields: [{type: AddedFieldDefinition, path: [b, c], value: \"{{ config['a']['kind'] }}\"}]}, \
         {type: ConfigRemoveFields, field_pointers: [[x], [nowhere]]}]",
    );
    let done = normalise(&manifest, &value(r#"{"a": {"kind": "old"}, "x": 1}"#), &Nobody, &Bounds::default()).unwrap();
    assert_eq!(done.migrated.unwrap().repr(), "{'a': {'kind': 'new'}, 'x': 1}");
    assert_eq!(done.config.repr(), "{'a': {'kind': 'new'}, 'b': {'c': 'new'}}");
    let same = normalise(&manifest, &value(r#"{"a": {"kind": "new"}}"#), &Nobody, &Bounds::default()).unwrap();
    assert!(same.migrated.is_none(), "an unchanged config is not reported");
    assert_eq!(normalise(&manifest, &value("{}"), &Nobody, &Bounds::default()).unwrap().config.repr(), "{}");
}

#[test]
fn conditions_see_the_value() {
    let manifest = manifest(
        "transformations: [{type: ConfigAddFields, condition: '{{ value }}', fields: [\
         {type: AddedFieldDefinition, path: [a], value: 'yes'}, {type: AddedFieldDefinition, path: [b], value: 'False'}]}]",
    );
    assert_eq!(
        normalise(&manifest, &value(r#"{"x": 1}"#), &Nobody, &Bounds::default()).unwrap().config.repr(),
        "{'x': 1, 'a': 'yes'}"
    );
}

#[test]
fn validations_fail_with_the_sentence_of_the_cdk() {
    let manifest = manifest(
        "validations: [{type: DpathValidator, field_path: [ids, '*'], validation_strategy: \
         {type: ValidateAdheresToSchema, base_schema: {type: integer}}}]",
    );
    let check =
        |config: &str| validate(&manifest, &value(config), &Nobody, &Bounds::default()).map_err(|failed| failed.message.clone());
    assert_eq!(check(r#"{"ids": [1, "2"]}"#), Ok(()), "text is read as JSON first");
    assert_eq!(check(r#"{"ids": [1, true]}"#), Err("JSON schema validation error: True is not of type 'integer'".into()));
    assert_eq!(check("{}"), Ok(()), "what is not there is not checked");
}
