//! The config of a source by the specification of its connector: what the template of the connector leaves open comes from the
//! fields of the credential, the resource id, and the constants and defaults of the specification.

use crate::credentials::Credential;
use crate::model::{Class, Failure};
use serde_json::{Map, Value};
use url::Url;

/// How deep a specification is read.
const MAX_DEPTH: usize = 8;

/// What a config is filled from.
#[derive(Clone, Copy)]
pub struct ConfigInput<'a> {
    pub resource_id: &'a str,
    pub credential: Option<&'a Credential>,
}

/// Returns `config` with what `specification` wants besides, where the input has it.
#[must_use]
pub fn complete(mut config: Map<String, Value>, specification: &Value, input: ConfigInput<'_>) -> Map<String, Value> {
    let required = required(specification);
    for (name, property) in properties(specification) {
        if config.contains_key(name) {
            continue;
        }
        let is_required = required.contains(&name.as_str());
        let found = from_credential(name, property, input, 0)
            .or_else(|| from_resource_id(name, input.resource_id).map(|text| typed(&text, property)))
            .or_else(|| is_required.then(|| fixed(property)).flatten());
        if let Some(value) = found {
            config.insert(name.clone(), value);
        }
    }
    config
}

/// Checks that the config has everything that the specification requires.
///
/// # Errors
/// Returns `CredentialMissing` with the names of what is missing.
pub fn check(config: &Map<String, Value>, specification: &Value, connector: &str) -> Result<(), Failure> {
    let missing: Vec<&str> = required(specification).into_iter().filter(|name| !config.contains_key(*name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(", ");
    Err(Failure::new(
        Class::CredentialMissing,
        format!(
            "the specification of {connector} requires {list}, and neither the intent nor its credential has {}",
            them(&missing)
        ),
        format!("store a JSON object that has {list} behind credential_locator"),
    ))
}

fn them(names: &[&str]) -> &'static str {
    if names.len() == 1 { "it" } else { "them" }
}

fn required(specification: &Value) -> Vec<&str> {
    let list = specification.get("required").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn properties(specification: &Value) -> impl Iterator<Item = (&String, &Value)> {
    specification.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Returns the constant or the default of a property.
fn fixed(property: &Value) -> Option<Value> {
    property.get("const").or_else(|| property.get("default")).cloned()
}

/// Returns the field of the credential with the name of the property, or the alternative of an object whose required
/// properties the credential has.
fn from_credential(name: &str, property: &Value, input: ConfigInput<'_>, depth: usize) -> Option<Value> {
    if let Some(secret) = input.credential.and_then(|credential| credential.field(name)) {
        return Some(typed(secret.expose().trim(), property));
    }
    let alternatives = property.get("oneOf").and_then(Value::as_array).filter(|_| depth < MAX_DEPTH)?;
    alternatives.iter().find_map(|alternative| {
        let required = required(alternative);
        let mut object = Map::new();
        let mut is_given = false;
        for (name, property) in properties(alternative) {
            if let Some(constant) = property.get("const") {
                object.insert(name.clone(), constant.clone());
            } else if let Some(value) = from_credential(name, property, input, depth + 1) {
                is_given = true;
                object.insert(name.clone(), value);
            }
        }
        let is_whole = is_given && required.iter().all(|name| object.contains_key(*name));
        is_whole.then_some(Value::Object(object))
    })
}

/// Returns the part of the resource id that a property of this name usually holds.
fn from_resource_id(name: &str, resource_id: &str) -> Option<String> {
    let text = if resource_id.contains("://") { resource_id.to_string() } else { format!("id://{resource_id}") };
    let url = Url::parse(&text).ok()?;
    let found = match name {
        "host" | "hostname" | "domain" | "server" => url.host_str().map(str::to_string),
        "port" => url.port().map(|port| port.to_string()),
        "database" => url.path().trim_start_matches('/').split('/').next().map(str::to_string),
        _ => None,
    };
    found.filter(|text| !text.is_empty())
}

/// Returns the text as the type that the property has: a credential and a resource id hold only texts.
fn typed(text: &str, property: &Value) -> Value {
    let kind = property.get("type").and_then(Value::as_str).unwrap_or("string");
    if kind == "string" {
        return text.into();
    }
    let fits = |value: &Value| match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    serde_json::from_str(text).ok().filter(fits).unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use serde_json::json;

    fn completed(template: &Value, specification: &Value, resource_id: &str, credential: &str) -> Value {
        let credential = Credential::read(Secret::new(credential.to_string()));
        let input = ConfigInput { resource_id, credential: Some(&credential) };
        Value::Object(complete(template.as_object().unwrap().clone(), specification, input))
    }

    #[test]
    fn a_database_gets_its_address_from_the_resource_id_and_its_login_from_the_credential() {
        let specification = json!({"required": ["host", "port", "database", "username"], "properties": {
            "host": {"type": "string"}, "port": {"type": "integer", "default": 5432}, "database": {"type": "string"},
            "username": {"type": "string"}, "password": {"type": "string", "airbyte_secret": true},
            "schemas": {"type": "array", "default": ["public"]}
        }});
        let credential = r#"{"username": "aam", "password": "77", "unknown": "x"}"#;
        assert_eq!(
            completed(&json!({}), &specification, "postgres://db.acme.example:6432/shop", credential),
            json!({"host": "db.acme.example", "port": 6432, "database": "shop", "username": "aam", "password": "77"})
        );
        let without_port = completed(&json!({}), &specification, "postgres://db.acme.example/shop", credential);
        assert_eq!(without_port["port"], 5432, "it is required and has a default");
        let failure = check(&Map::new(), &specification, "source-postgres").unwrap_err();
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(failure.title.contains("host, port, database, username") && failure.title.ends_with("has them"), "{failure:?}");
    }

    #[test]
    fn the_alternative_is_the_one_whose_fields_the_credential_has() {
        let specification = json!({"properties": {"domain": {"type": "string"}, "credentials": {"type": "object", "oneOf": [
            {"required": ["auth_type", "client_id", "client_secret"], "properties":
                {"auth_type": {"const": "oauth2.0"}, "client_id": {"type": "string"}, "client_secret": {"type": "string"}}},
            {"required": ["auth_type", "api_token"], "properties": {"auth_type": {"const": "api_token"}, "api_token": {"type": "string"}}}
        ]}}});
        let config = completed(&json!({}), &specification, "acme.okta.com", r#"{"api_token": "00t"}"#);
        assert_eq!(config, json!({"domain": "acme.okta.com", "credentials": {"auth_type": "api_token", "api_token": "00t"}}));
        let written = completed(&json!({"domain": "acme"}), &specification, "acme.okta.com", r#"{"token": "x"}"#);
        assert_eq!(written, json!({"domain": "acme"}), "the template comes first, and nothing is invented");
    }
}
