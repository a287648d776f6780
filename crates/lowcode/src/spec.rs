//! The `spec` of a manifest: what a user has to configure, and whether a given config satisfies it.

use super::error::Failed;
use super::json_schema;
use super::load::Manifest;
use super::value::{Dict, Value};

/// The fields of `oauth_connector_input_specification` that the protocol defines. Other fields are dropped.
const OAUTH_INPUT: [&str; 17] = [
    "consent_url",
    "access_token_url",
    "scope",
    "scopes",
    "optional_scopes",
    SCOPES_JOIN,
    "access_token_headers",
    "access_token_params",
    "extract_output",
    "state",
    "client_id_key",
    "client_secret_key",
    "scope_key",
    "state_key",
    "auth_code_key",
    "redirect_uri_key",
    "token_expiry_key",
];

/// How `scopes` become one text. The model of the CDK sets it where a manifest does not have it.
const SCOPES_JOIN: &str = "scopes_join_strategy";

const OAUTH_CONFIG: [&str; 4] = [
    "oauth_user_input_from_connector_config_specification",
    "complete_oauth_output_specification",
    "complete_oauth_server_input_specification",
    "complete_oauth_server_output_specification",
];

/// Returns the content of a SPEC message.
///
/// # Errors
/// Fails if the manifest has no `spec`, or has one from which the CDK cannot create a message.
pub fn message(manifest: &Manifest) -> Result<Value, Failed> {
    let spec = manifest.root.get("spec").filter(|spec| spec.truthy());
    let Some(spec) = spec else {
        return Err(Failed::system("FileNotFoundError", "Unable to find spec.yaml or spec.json in the package."));
    };
    let mut out = Dict::default();
    out.insert("connectionSpecification".into(), spec.get("connection_specification").cloned().unwrap_or_default());
    if let Some(url) = spec.get("documentation_url").filter(|url| url.truthy()) {
        out.insert("documentationUrl".into(), url.clone());
    }
    out.insert("supportsNormalization".into(), Value::Bool(false));
    out.insert("supportsDBT".into(), Value::Bool(false));
    if let Some(flow) = spec.get("advanced_auth") {
        out.insert("advanced_auth".into(), advanced_auth(flow)?);
    }
    Ok(Value::Dict(out))
}

fn advanced_auth(flow: &Value) -> Result<Value, Failed> {
    if flow.get("auth_flow_type").is_none_or(Value::is_none) {
        return Err(Failed::system("AttributeError", "'NoneType' object has no attribute 'value'"));
    }
    let mut out = Dict::default();
    keep(flow, &["auth_flow_type", "predicate_key", "predicate_value"], &mut out);
    if let Some(config) = flow.get("oauth_config_specification").filter(|config| !config.is_none()) {
        let mut oauth = Dict::default();
        keep(config, &OAUTH_CONFIG, &mut oauth);
        if let Some(input) = config.get("oauth_connector_input_specification").filter(|input| !input.is_none()) {
            let mut whole = input.as_dict().cloned().unwrap_or_default();
            whole.entry(SCOPES_JOIN.into()).or_insert_with(|| Value::str("space"));
            let mut kept = Dict::default();
            keep(&Value::Dict(whole), &OAUTH_INPUT, &mut kept);
            if let Some(state) = kept.get_mut("state") {
                let mut bounds = Dict::default();
                keep(state, &["min", "max"], &mut bounds);
                *state = Value::Dict(bounds);
            }
            oauth.insert("oauth_connector_input_specification".into(), Value::Dict(kept));
        }
        out.insert("oauth_config_specification".into(), Value::Dict(oauth));
    }
    Ok(Value::Dict(out))
}

/// Copies the fields that are present and not null.
fn keep(from: &Value, names: &[&str], to: &mut Dict) {
    for name in names {
        if let Some(value) = from.get(name).filter(|value| !value.is_none()) {
            to.insert((*name).into(), value.clone());
        }
    }
}

/// Validates a config against the spec, which is the first step of the commands `check`, `discover` and `read`.
///
/// # Errors
/// Fails with the message of the CDK, for example `Config validation error: 'api_key' is a required property`. Fails
/// like [`message`] if the manifest has no `spec`.
pub fn validate_config(manifest: &Manifest, config: &Value) -> Result<(), Failed> {
    let Some(spec) = manifest.root.get("spec").filter(|spec| spec.truthy()) else {
        return message(manifest).map(|_| ());
    };
    let schema = spec.get("connection_specification").cloned().unwrap_or_default();
    // The CDK's own acceptance tests use these two keys. They are not part of the config.
    let shorter = config.as_dict().filter(|dict| dict.contains_key("_limit") || dict.contains_key("_page_size")).map(|dict| {
        let rest = dict.iter().filter(|(key, _)| !matches!(&***key, "_limit" | "_page_size"));
        Value::Dict(rest.map(|(key, value)| (key.clone(), value.clone())).collect())
    });
    match json_schema::best_error(&schema, shorter.as_ref().unwrap_or(config)) {
        None => Ok(()),
        Some(error) => {
            Err(Failed::config("ValidationError", format!("Config validation error: {error}"))
                .with(|it| it.internal = Some(error)))
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
