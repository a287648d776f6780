use super::*;
use crate::bounds::Bounds;
use crate::load::load;

fn manifest(spec: &str) -> Manifest {
    let text = format!("version: '1'\ncheck: {{stream_names: []}}\nstreams: []\n{spec}");
    load(&text, "m.yaml", &Bounds::default()).unwrap()
}

#[test]
fn the_message_is_that_of_the_protocol() {
    let manifest = manifest(
        "spec: {documentation_url: https://example.com, connection_specification: {type: object}, advanced_auth: {auth_flow_type: oauth2.0, \
         predicate_key: [a], extra: 1, oauth_config_specification: {oauth_connector_input_specification: {consent_url: c, \
         access_token_url: t, state: {min: 1, max: 2, more: 3}}}}}",
    );
    let json = serde_json::to_string(&message(&manifest).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"connectionSpecification":{"type":"object"},"documentationUrl":"https://example.com","supportsNormalization":false,"supportsDBT":false,"advanced_auth":{"auth_flow_type":"oauth2.0","predicate_key":["a"],"oauth_config_specification":{"oauth_connector_input_specification":{"consent_url":"c","access_token_url":"t","scopes_join_strategy":"space","state":{"min":1,"max":2}}}}}"#
    );
}

/// The expected texts were printed by the CDK.
#[test]
fn scopes_are_kept_with_how_they_are_joined() {
    let input = |scopes: &str| {
        let manifest = manifest(&format!(
            "spec: {{connection_specification: {{}}, advanced_auth: {{auth_flow_type: oauth2.0, oauth_config_specification: \
             {{oauth_connector_input_specification: {{consent_url: c, access_token_url: t, scope: a{scopes}}}}}}}}}"
        ));
        let message = message(&manifest).unwrap();
        let config = message.get("advanced_auth").unwrap().get("oauth_config_specification").unwrap();
        serde_json::to_string(config.get("oauth_connector_input_specification").unwrap()).unwrap()
    };
    assert_eq!(
        input(", scopes: [{scope: a.read, x: 1}, {scope: b.read}], optional_scopes: [{scope: c}], scopes_join_strategy: comma"),
        r#"{"consent_url":"c","access_token_url":"t","scope":"a","scopes":[{"scope":"a.read","x":1},{"scope":"b.read"}],"optional_scopes":[{"scope":"c"}],"scopes_join_strategy":"comma"}"#
    );
    assert_eq!(
        input(", scopes: []"),
        r#"{"consent_url":"c","access_token_url":"t","scope":"a","scopes":[],"scopes_join_strategy":"space"}"#
    );
}

#[test]
fn a_custom_config_rule_does_not_hide_the_spec() {
    let manifest = manifest(
        "spec: {connection_specification: {type: object}, config_normalization_rules: {type: ConfigNormalizationRules, \
         config_migrations: [{type: ConfigMigration, transformations: [{type: CustomConfigTransformation, class_name: a.B}]}], \
         validations: [{type: DpathValidator, field_path: [a], validation_strategy: {type: CustomValidationStrategy, class_name: a.C}}]}}",
    );
    let json = serde_json::to_string(&message(&manifest).unwrap()).unwrap();
    assert_eq!(json, r#"{"connectionSpecification":{"type":"object"},"supportsNormalization":false,"supportsDBT":false}"#);
    assert!(manifest.runnable().is_err(), "the config itself needs the rule");
}

#[test]
fn a_manifest_without_a_spec_fails() {
    assert_eq!(message(&manifest("")).unwrap_err().class, "FileNotFoundError");
}

#[test]
fn a_config_is_held_against_it() {
    let manifest = manifest(
        "spec: {connection_specification: {type: object, required: [api_key], additionalProperties: false, properties: {api_key: {type: string}}}}",
    );
    let config =
        |text: &str| validate_config(&manifest, &serde_json::from_str(text).unwrap()).map_err(|failed| failed.message.clone());
    assert_eq!(config("{}"), Err("Config validation error: 'api_key' is a required property".into()));
    assert_eq!(config(r#"{"api_key": "x", "_limit": 5}"#), Ok(()));
    assert_eq!(
        config(r#"{"api_key": "x", "b": 1, "a": 2}"#),
        Err("Config validation error: Additional properties are not allowed ('a', 'b' were unexpected)".into())
    );
}
