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
         access_token_url: t, scopes: [{scope: s}], state: {min: 1, max: 2, more: 3}}}}}",
    );
    let json = serde_json::to_string(&message(&manifest).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"connectionSpecification":{"type":"object"},"documentationUrl":"https://example.com","supportsNormalization":false,"supportsDBT":false,"advanced_auth":{"auth_flow_type":"oauth2.0","predicate_key":["a"],"oauth_config_specification":{"oauth_connector_input_specification":{"consent_url":"c","access_token_url":"t","state":{"min":1,"max":2}}}}}"#
    );
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
