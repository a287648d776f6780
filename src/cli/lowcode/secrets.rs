//! Finds the secrets of a config, so that the redactor removes them from all output.

use crate::credentials::redact;
use ::lowcode::value::Value;

/// Parts of a field name that indicate a secret, for fields that the spec does not describe.
const WORDS: [&str; 8] = ["pass", "secret", "token", "key", "pin", "pwd", "credential", "auth"];
/// Names that contain such a part although the field is not a secret.
const HARMLESS: [&str; 6] = ["auth_type", "auth_method", "credentials_title", "token_type", "primary_key", "keywords"];

/// Registers secrets of `config` with the redactor: the values that `spec` (a JSON schema) marks with `airbyte_secret`,
/// and those of fields that `spec` does not describe and whose name indicates a secret.
pub fn learn(spec: Option<&Value>, config: &Value) {
    of(spec, config, false);
}

/// Recursive implementation of [`learn`]. Its depth is bounded, because the config was read with a depth limit.
fn of(schema: Option<&Value>, value: &Value, secret: bool) {
    let secret = secret || schema.and_then(|schema| schema.get("airbyte_secret")).is_some_and(Value::truthy);
    match value {
        Value::Dict(dict) => {
            for (name, value) in dict {
                let described = described(schema, name);
                let sounds = described.is_empty() && sounds_secret(name);
                if described.is_empty() {
                    of(None, value, secret || sounds);
                }
                for schema in described {
                    of(Some(schema), value, secret);
                }
            }
        }
        Value::List(items) => {
            let schema = schema.and_then(|schema| schema.get("items"));
            items.iter().for_each(|item| of(schema, item, secret));
        }
        Value::None | Value::Bool(_) => {}
        scalar if secret => redact::learn_value(&scalar.to_str()),
        _ => {}
    }
}

/// Returns all schemas of the field `name`, including those in variants of the schema.
fn described<'a>(schema: Option<&'a Value>, name: &str) -> Vec<&'a Value> {
    let Some(schema) = schema else { return Vec::new() };
    let variants = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|word| schema.get(word)?.as_list()).flatten();
    let found = std::iter::once(schema).chain(variants);
    found.filter_map(|schema| schema.get("properties")?.get(name)).collect()
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&name.as_str()) && WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_decides_and_names_where_it_is_silent() {
        let spec = serde_json::json!({
            "properties": {
                "key_of_map": {"type": "string"},
                "door": {"airbyte_secret": true},
                "credentials": {"oneOf": [
                    {"properties": {"auth_type": {"const": "a"}}},
                    {"properties": {"code": {"airbyte_secret": true}}}
                ]},
            }
        });
        let config = serde_json::json!({
            "key_of_map": "lc-visible-1", "door": "lc-hidden-1", "api_token": "lc-hidden-2", "region": "lc-visible-2",
            "credentials": {"auth_type": "lc-visible-3", "code": "lc-hidden-3"}, "more": {"password": ["lc-hidden-4"]},
        });
        learn(Some(&spec.into()), &config.into());
        let text = "lc-visible-1 lc-visible-2 lc-visible-3 lc-hidden-1 lc-hidden-2 lc-hidden-3 lc-hidden-4";
        let mark = redact::MARK;
        assert_eq!(redact::scrub(text), format!("lc-visible-1 lc-visible-2 lc-visible-3 {mark} {mark} {mark} {mark}"));
    }
}
