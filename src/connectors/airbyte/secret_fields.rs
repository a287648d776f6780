//! Which fields of a connector's config are secret: those that its specification marks, and those that the policy fills from
//! the credential. Only these are learned and only these are kept when the connector replaces them, because every other value
//! belongs to one connection, or is an ordinary word.

use super::config::Described;
use crate::credentials::redact;
use crate::policy::ConnectorPolicy;
use crate::policy::airbyte::{Placeholder, placeholders};
use airbyte_protocol::{PathStep, SecretPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// The length from which a secret of the config is removed from texts, in bytes.
const MIN_SECRET_BYTES: usize = 8;
/// How deep a config is searched.
const MAX_DEPTH: usize = 32;
/// The keys of a JSON schema whose values everybody can read.
const PUBLISHED: [&str; 5] = ["default", "const", "enum", "example", "examples"];

/// The secret fields of a config.
#[derive(Debug, Default)]
pub struct SecretFields {
    /// The fields that the specification marks.
    marked: Vec<SecretPath>,
    /// The fields that the policy fills from the credential alone.
    filled: Vec<SecretPath>,
    /// The texts that the specification publishes.
    published: BTreeSet<String>,
}

impl SecretFields {
    /// Finds the secret fields in the specification of the connector and in the config of the policy.
    #[must_use]
    pub fn new(described: &Described, connector: &ConnectorPolicy) -> SecretFields {
        let mut fields = SecretFields { marked: described.spec.secret_paths.clone(), ..SecretFields::default() };
        for (key, value) in &connector.config {
            fields.add_filled(value, &mut vec![PathStep::Field(key.clone())]);
        }
        add_published(described.schema(), 0, &mut fields.published);
        fields
    }

    fn add_filled(&mut self, value: &Value, path: &mut SecretPath) {
        match value {
            Value::String(text) if is_of_credential(text) => self.filled.push(path.clone()),
            Value::Object(object) if path.len() < MAX_DEPTH => {
                for (key, value) in object {
                    path.push(PathStep::Field(key.clone()));
                    self.add_filled(value, path);
                    path.pop();
                }
            }
            Value::Array(items) if path.len() < MAX_DEPTH => {
                // An item may be left out, so its number says little.
                path.push(PathStep::Each);
                items.iter().for_each(|value| self.add_filled(value, path));
                path.pop();
            }
            _ => {}
        }
    }

    /// Whether the field with these steps is secret or belongs to a secret.
    #[must_use]
    pub fn has(&self, steps: &[String]) -> bool {
        self.marked.iter().chain(&self.filled).any(|path| covers(path, steps))
    }

    /// Remembers the secrets of the config, so that they are removed from texts. A value that the specification publishes is
    /// not secret, and a short one occurs in too many texts.
    pub fn learn(&self, config: &Value) {
        for text in self.texts(config) {
            redact::learn_long(&text, MIN_SECRET_BYTES);
        }
    }

    /// The secrets of the config.
    fn texts(&self, config: &Value) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for path in &self.marked {
            follow(path, config, &mut found);
        }
        // What the credential itself holds is learned where it is read, with the names of its fields. Only what replaced it is
        // not known there, and a name such as `user` does not say that the value is secret.
        let is_secret = |path: &&SecretPath| match path.last() {
            Some(PathStep::Field(name)) => redact::is_secret_field(name),
            _ => false,
        };
        for path in self.filled.iter().filter(is_secret) {
            follow(path, config, &mut found);
        }
        found.retain(|text| text.len() >= MIN_SECRET_BYTES && !self.published.contains(text.trim()));
        found
    }
}

/// Whether the text is filled from the credential. One that the resource id fills too belongs to one connection.
fn is_of_credential(text: &str) -> bool {
    let found = placeholders(text).unwrap_or_default();
    let is_credential = |placeholder: &Placeholder| matches!(placeholder, Placeholder::Credential(_));
    !found.is_empty() && found.iter().all(is_credential)
}

fn covers(path: &[PathStep], steps: &[String]) -> bool {
    let is_same = |(step, name): (&PathStep, &String)| match step {
        PathStep::Field(field) => field == name,
        PathStep::Each => true,
    };
    path.len() <= steps.len() && path.iter().zip(steps).all(is_same)
}

fn follow(path: &[PathStep], value: &Value, found: &mut BTreeSet<String>) {
    let Some((step, rest)) = path.split_first() else { return add_texts(value, 0, found) };
    match (step, value) {
        (PathStep::Field(name), Value::Object(fields)) => {
            fields.get(name).into_iter().for_each(|value| follow(rest, value, found))
        }
        (PathStep::Each, Value::Object(fields)) => fields.values().for_each(|value| follow(rest, value, found)),
        (PathStep::Each, Value::Array(items)) => items.iter().for_each(|value| follow(rest, value, found)),
        _ => {}
    }
}

fn add_texts(value: &Value, depth: usize, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Number(number) => drop(found.insert(number.to_string())),
        Value::Array(items) if depth < MAX_DEPTH => items.iter().for_each(|value| add_texts(value, depth + 1, found)),
        Value::Object(fields) if depth < MAX_DEPTH => fields.values().for_each(|value| add_texts(value, depth + 1, found)),
        _ => {}
    }
}

/// Adds what a schema publishes, also in variants and definitions.
fn add_published(schema: &Value, depth: usize, found: &mut BTreeSet<String>) {
    if depth > 2 * MAX_DEPTH {
        return;
    }
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                if PUBLISHED.contains(&key.as_str()) {
                    let mut texts = BTreeSet::new();
                    add_texts(value, 0, &mut texts);
                    found.extend(texts.iter().map(|text| text.trim().to_string()));
                }
                add_published(value, depth + 1, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| add_published(item, depth + 1, found)),
        _ => {}
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::policy::Run;
    use airbyte_protocol::{Answer, Command, Limits, Reader};
    use serde_json::json;

    /// The secret fields of a connector with this specification and this config of the policy.
    pub fn fields(schema: &Value, config: &Value) -> SecretFields {
        let message = json!({"type": "SPEC", "spec": {"connectionSpecification": schema}});
        let mut reader = Reader::new(Command::Spec, Limits::for_command(Command::Spec));
        let _ = reader.push(format!("{message}\n").as_bytes());
        let Ok(Answer::Spec(spec)) = reader.finish(Some(0), None) else { panic!("no specification") };
        let connector = ConnectorPolicy {
            run: Run::Command(vec!["/bin/true".to_string()]),
            version: String::new(),
            sha256: None,
            config: config.as_object().cloned().expect("an object"),
            hosts: Vec::new(),
            posts: Vec::new(),
            memory: 1,
            streams: Vec::new(),
            readable: Vec::new(),
        };
        SecretFields::new(&Described::new(spec), &connector)
    }

    fn schema() -> Value {
        json!({"properties": {
            "token": {"airbyte_secret": true},
            "tenant": {"airbyte_secret": true, "default": "organizations"},
            "mode": {"type": "string"},
            "list": {"items": {"properties": {"key": {"airbyte_secret": true}}}},
        }})
    }

    fn steps(text: &str) -> Vec<String> {
        text.split('.').map(str::to_string).collect()
    }

    #[test]
    fn secret_fields_are_those_of_the_specification_and_of_the_credential() {
        let template = json!({"refresh_token": "{credential.refresh_token}", "url": "https://{resource_id}/{credential.key}", "site": "{resource_id}"});
        let fields = fields(&schema(), &template);
        for (path, expected) in [
            ("token", true),
            ("token.part", true),
            ("list.0.key", true),
            ("refresh_token", true),
            ("mode", false),
            ("list.0.name", false),
            ("list", false),
            ("site", false),
            ("sites", false),
            ("url", false),
        ] {
            assert_eq!(fields.has(&steps(path)), expected, "{path}");
        }
    }

    #[test]
    fn ordinary_values_published_ones_and_short_ones_are_not_secret() {
        let template = json!({"access_token": "{credential.access_token}", "user": "{credential.user}"});
        let fields = fields(&schema(), &template);
        let config = json!({
            "token": "canary-token-77", "tenant": "organizations", "mode": "items-of-a-stream", "list": [{"key": "canary-key-78"}, {"key": "items"}],
            "access_token": "canary-access-79", "user": "ann@acme.example",
        });
        let found: Vec<String> = fields.texts(&config).into_iter().collect();
        assert_eq!(found, ["canary-access-79", "canary-key-78", "canary-token-77"]);
    }
}
