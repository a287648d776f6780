//! Removes secrets from the messages of the protocol without changing their structure.
//!
//! Only texts that come from the source or from the config are searched: the values of records, states and configs, and
//! what is said in logs, statuses and traces. The frame of a message stays as it is, and so do names: of streams, of fields
//! and of the keywords of a JSON schema. A secret such as `sync` would otherwise turn `supported_sync_modes` into another
//! key. A short secret counts only where it is the whole value, see [`MIN_SUBSTRING_BYTES`].

use super::catalog::AirbyteStream;
use super::protocol::{ConnectionStatus, Message, TraceKind};
use super::value::{Dict, Value};
use std::collections::BTreeSet;

pub use super::secrets::MIN_SUBSTRING_BYTES;

/// The keywords of a JSON schema whose value is a map of names to schemas.
const NAMED_SCHEMAS: [&str; 4] = ["properties", "patternProperties", "definitions", "$defs"];
/// The keywords of a JSON schema whose value is a schema or a list of schemas.
const SCHEMAS: [&str; 7] = ["items", "additionalProperties", "oneOf", "anyOf", "allOf", "not", "prefixItems"];
/// The keywords of a JSON schema whose value is a text for people or a value of the data.
const SCHEMA_TEXTS: [&str; 8] = ["title", "description", "default", "const", "enum", "example", "examples", "$comment"];

/// What is removed from messages, and how.
pub struct Redactor<'a> {
    /// The secrets of fewer than [`MIN_SUBSTRING_BYTES`] bytes.
    pub short: &'a BTreeSet<String>,
    /// Returns the text without the longer secrets, or `None` if it does not contain one.
    pub remove: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the name of a field without a secret, or `None` if the name stays as it is. Only a text that is certainly a
    /// token should be removed from a name.
    pub remove_from_name: &'a dyn Fn(&str) -> Option<String>,
    /// The text that replaces a secret.
    pub mark: &'a str,
}

impl Redactor<'_> {
    /// Removes the secrets from `message`.
    pub fn message(&self, message: &mut Message<'_>) {
        match message {
            Message::Record(record) => self.value(&mut record.data),
            Message::State(state) => self.value(&mut state.state),
            Message::Log(log) => self.text(&mut log.message),
            // The specification is a part of the manifest and does not contain the config.
            Message::Spec(_) | Message::ConnectionStatus(ConnectionStatus::Succeeded) => {}
            Message::ConnectionStatus(ConnectionStatus::Failed(reason)) => self.text(reason),
            Message::Catalog(catalog) => catalog.streams.iter_mut().for_each(|stream| self.stream(stream)),
            Message::Trace(trace) => {
                if let TraceKind::Error(error) = &mut trace.what {
                    self.text(&mut error.message);
                    error.internal_message.iter_mut().for_each(|text| self.text(text));
                }
            }
            Message::Control(control) => self.value(&mut control.config),
        }
    }

    /// Removes the secrets from every text of `value`. The recursion is as deep as the value, whose depth is bounded when it
    /// is read.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::Str(text) => {
                if let Some(clean) = self.clean(text) {
                    *value = Value::str(clean);
                }
            }
            Value::Int(_) | Value::Big(_) => {
                if let Some(clean) = self.clean(&value.to_str()).filter(|clean| clean == self.mark) {
                    *value = Value::str(clean);
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Dict(dict) => {
                self.names(dict);
                dict.values_mut().for_each(|value| self.value(value));
            }
            Value::None | Value::Bool(_) | Value::Float(_) => {}
        }
    }

    fn names(&self, dict: &mut Dict) {
        if dict.keys().any(|name| (self.remove_from_name)(name).is_some()) {
            let renamed = std::mem::take(dict).into_iter();
            *dict = renamed.map(|(name, value)| ((self.remove_from_name)(&name).map_or(name, Into::into), value)).collect();
        }
    }

    fn stream(&self, stream: &mut AirbyteStream<'_>) {
        // The schema of the manifest stays borrowed if it does not contain a secret.
        let mut schema = stream.json_schema.clone().into_owned();
        self.schema(&mut schema);
        if schema != *stream.json_schema {
            stream.json_schema = std::borrow::Cow::Owned(schema);
        }
    }

    /// Removes the longer secrets from what a JSON schema says, not from its keywords and names.
    fn schema(&self, schema: &mut Value) {
        let Value::Dict(dict) = schema else { return };
        for (key, value) in dict {
            match (&**key, value) {
                (key, Value::Dict(named)) if NAMED_SCHEMAS.contains(&key) => {
                    self.names(named);
                    named.values_mut().for_each(|schema| self.schema(schema));
                }
                (key, Value::List(schemas)) if SCHEMAS.contains(&key) => {
                    schemas.iter_mut().for_each(|schema| self.schema(schema));
                }
                (key, value) if SCHEMAS.contains(&key) => self.schema(value),
                (key, value) if SCHEMA_TEXTS.contains(&key) => self.schema_text(value),
                _ => {}
            }
        }
    }

    fn schema_text(&self, value: &mut Value) {
        let long = Redactor { short: &BTreeSet::new(), ..*self };
        long.value(value);
    }

    fn text(&self, text: &mut String) {
        if let Some(clean) = self.clean(text) {
            *text = clean;
        }
    }

    fn clean(&self, text: &str) -> Option<String> {
        match text.len() < MIN_SUBSTRING_BYTES {
            true => (!self.short.is_empty() && self.short.contains(text.trim())).then(|| self.mark.to_string()),
            false if self.short.contains(text.trim()) => Some(self.mark.to_string()),
            false => (self.remove)(text),
        }
    }
}

#[cfg(test)]
#[path = "redaction_tests.rs"]
mod tests;
