//! The config of a connector: the template of the policy, filled with the resource id and the credential.

use crate::credentials::Credential;
use crate::model::{Class, Failure};
use crate::policy::ConnectorPolicy;
use airbyte_protocol::Spec;
use serde_json::{Map, Value};

/// How deep the specification of a config is read.
const MAX_DEPTH: usize = 32;

/// Fills the config of the policy with the resource id and the fields of the credential.
///
/// # Errors
/// Returns `CredentialMissing` with the names of all fields that the credential does not have.
pub fn fill(
    connector: &ConnectorPolicy,
    resource_id: &str,
    credential: Option<&Credential>,
    name: &str,
) -> Result<Value, Failure> {
    let filled = connector.filled_config(resource_id, &lookup(connector, credential));
    filled.map(Value::Object).map_err(|missing| missing_fields(&missing, credential, name))
}

/// Returns what finds the value of a field. A credential that is one plain value, or a minted token, is the value of the only
/// field that the connector needs.
pub fn lookup<'c>(connector: &ConnectorPolicy, credential: Option<&'c Credential>) -> impl Fn(&str) -> Option<String> + use<'c> {
    let needed: Vec<String> =
        connector.credential_fields().into_iter().filter(|field| !field.is_optional).map(|field| field.name).collect();
    move |field: &str| {
        let credential = credential?;
        let only = || {
            let plain = credential.plain();
            let minted = credential.field("token_type").and_then(|_| credential.field("access_token"));
            plain.or(minted).filter(|_| needed.as_slice() == [field])
        };
        credential.field(field).or_else(only).map(|secret| secret.expose().trim().to_string())
    }
}

fn missing_fields(missing: &[String], credential: Option<&Credential>, name: &str) -> Failure {
    let list = missing.join(", ");
    let title = match credential {
        None => format!("{name} needs a credential with {list}"),
        Some(_) => format!("the credential of {name} does not have {list}"),
    };
    let fix = format!(
        "store a JSON object with {list} behind credential_locator; airbyte.connectors.{name}.config in the policy names these fields"
    );
    Failure::new(Class::CredentialMissing, title, fix)
}

/// What the connector says about its config.
pub struct Described {
    pub spec: Spec,
    schema: Value,
}

impl Described {
    #[must_use]
    pub fn new(spec: Spec) -> Described {
        let schema = spec.connection_specification.parse().unwrap_or(Value::Null);
        Described { spec, schema }
    }

    /// The JSON schema of the config.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Returns the config with the types that the specification names: a credential has only texts.
    #[must_use]
    pub fn typed(&self, config: Value) -> Value {
        typed(config, &self.schema, 0)
    }

    /// Checks that the config has each required key.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if a secret is missing, and `Misconfigured` for other keys, with all names.
    pub fn complete(&self, config: &Value, name: &str) -> Result<(), Failure> {
        let required = self.schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let has_default = |key: &str| self.property(key).is_some_and(|property| property.get("default").is_some());
        let is_missing = |key: &&str| config.get(*key).is_none() && !has_default(key);
        let missing: Vec<&str> = required.iter().filter_map(Value::as_str).filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let is_secret = |key: &&str| self.property(key).and_then(|of| of.get("airbyte_secret")) == Some(&Value::Bool(true));
        let class = if missing.iter().any(is_secret) { Class::CredentialMissing } else { Class::Misconfigured };
        let list = missing.join(", ");
        Err(Failure::new(
            class,
            format!("the config of {name} does not have {list}"),
            format!(
                "add {list} to airbyte.connectors.{name}.config in the policy; write a secret as {{credential.FIELD}} and store it behind credential_locator"
            ),
        ))
    }

    fn property(&self, key: &str) -> Option<&Value> {
        self.schema.get("properties")?.get(key)
    }
}

fn typed(value: Value, schema: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return value;
    }
    match value {
        Value::String(text) => converted(text, schema),
        Value::Array(items) => {
            let item = schema.get("items").unwrap_or(&Value::Null);
            Value::Array(items.into_iter().map(|value| typed(value, item, depth + 1)).collect())
        }
        Value::Object(object) => {
            let variant = chosen(&object, schema);
            let property = |key: &str| {
                let of = |schema: &'_ Value| schema.get("properties").and_then(|all| all.get(key)).cloned();
                variant.and_then(of).or_else(|| of(schema)).unwrap_or_default()
            };
            let members = object.into_iter().map(|(key, value)| {
                let schema = property(&key);
                (key, typed(value, &schema, depth + 1))
            });
            Value::Object(members.collect())
        }
        other => other,
    }
}

/// Returns the variant of `oneOf` or `anyOf` whose constants are those of the object.
fn chosen<'s>(object: &Map<String, Value>, schema: &'s Value) -> Option<&'s Value> {
    let variants = ["oneOf", "anyOf"].into_iter().find_map(|key| schema.get(key)?.as_array())?;
    let fits = |variant: &&Value| {
        let properties = variant.get("properties").and_then(Value::as_object);
        let is_same = |(key, property): (&String, &Value)| {
            let constant = property.get("const");
            constant.is_none_or(|constant| object.get(key).is_none_or(|value| value == constant))
        };
        properties.is_some_and(|all| all.iter().all(is_same) && object.keys().all(|key| all.contains_key(key)))
    };
    variants.iter().find(fits)
}

/// Converts a text to the type that the schema names, if it is written as that type.
fn converted(text: String, schema: &Value) -> Value {
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return Value::String(text),
    };
    if kinds.contains(&"string") {
        return Value::String(text);
    }
    let parsed = serde_json::from_str::<Value>(&text).ok().filter(|value| match value {
        Value::Bool(_) => kinds.contains(&"boolean"),
        Value::Number(number) => kinds.contains(&"number") || kinds.contains(&"integer") && !number.is_f64(),
        Value::Array(_) => kinds.contains(&"array"),
        Value::Object(_) => kinds.contains(&"object"),
        Value::Null | Value::String(_) => false,
    });
    parsed.unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use crate::policy::Run;
    use serde_json::json;

    fn connector(config: Value) -> ConnectorPolicy {
        ConnectorPolicy {
            run: Run::Command(vec!["/bin/true".to_string()]),
            version: String::new(),
            sha256: None,
            config: config.as_object().cloned().expect("an object"),
            hosts: Vec::new(),
            posts: Vec::new(),
            memory: 1,
            streams: Vec::new(),
            readable: Vec::new(),
        }
    }

    fn credential(text: &str) -> Credential {
        Credential::read(Secret::new(text.to_string()))
    }

    #[test]
    fn the_config_is_filled_and_what_is_missing_is_named() {
        let okta = connector(
            json!({"domain": "{resource_id.label}", "credentials": {"token": "SSWS {credential.token}"}, "user": "{credential.user}"}),
        );
        let held = credential(r#"{"token": "canary-77", "user": "ann"}"#);
        let config = fill(&okta, "acme.okta.com", Some(&held), "okta").expect("a config");
        assert_eq!(config, json!({"domain": "acme", "credentials": {"token": "SSWS canary-77"}, "user": "ann"}));
        let failure = fill(&okta, "a", Some(&credential(r#"{"token": "canary-77"}"#)), "okta").expect_err("user is missing");
        assert_eq!(
            (failure.class, failure.title.as_str()),
            (Class::CredentialMissing, "the credential of okta does not have user")
        );
        let failure = fill(&okta, "a", None, "okta").expect_err("no credential");
        assert_eq!(failure.title, "okta needs a credential with token, user");
    }

    #[test]
    fn one_plain_value_is_the_only_field() {
        let one = connector(json!({"token": "{credential.api_token}", "zone": "{credential.zone?}"}));
        let plain = fill(&one, "a", Some(&credential("canary-77\n")), "x").expect("a config");
        assert_eq!(plain, json!({"token": "canary-77"}), "an optional field is left out");
        let two = connector(json!({"a": "{credential.a}", "b": "{credential.b}"}));
        assert!(fill(&two, "a", Some(&credential("canary-77")), "x").is_err());
    }

    #[test]
    fn texts_become_what_the_schema_of_their_variant_says() {
        let schema = json!({"properties": {
            "count": {"type": "integer"}, "on": {"type": "boolean"}, "id": {"type": "string"}, "list": {"type": "array"},
            "credentials": {"oneOf": [
                {"properties": {"type": {"const": "a"}, "n": {"type": "string"}}},
                {"properties": {"type": {"const": "b"}, "n": {"type": ["integer", "null"]}}}
            ]}
        }});
        let config =
            json!({"count": "20", "on": "true", "id": "7", "list": "[1]", "other": "1", "credentials": {"type": "b", "n": "3"}});
        assert_eq!(
            typed(config, &schema, 0),
            json!({"count": 20, "on": true, "id": "7", "list": [1], "other": "1", "credentials": {"type": "b", "n": 3}})
        );
        assert_eq!(converted("1.5".to_string(), &json!({"type": "integer"})), json!("1.5"), "it is not an integer");
    }
}
