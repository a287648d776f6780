//! Finds the secrets of a config and removes them from what the commands print.

use crate::credentials::redact;
use ::lowcode::protocol::Message;
use ::lowcode::redaction::{MIN_SUBSTRING_BYTES, Redactor};
use ::lowcode::secrets;
use ::lowcode::value::Value;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The short secrets of the command. They are removed only where they are the whole value.
static SHORT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Registers the secrets of `config`: the values that `spec` (a JSON schema) marks with `airbyte_secret`, and those of
/// fields that `spec` does not describe and whose name indicates a secret. What `spec` publishes is not a secret.
pub fn learn(spec: Option<&Value>, config: &Value) {
    for text in secrets::texts(spec, config) {
        redact::learn_long(&text, MIN_SUBSTRING_BYTES);
        let text = text.trim();
        if text.len() < MIN_SUBSTRING_BYTES {
            SHORT.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_string());
        }
    }
}

/// Returns the line of `message` without the secrets of the config, but with the structure of the message.
pub fn line(mut message: Message<'_>) -> String {
    let short = SHORT.lock().unwrap_or_else(PoisonError::into_inner);
    let redactor = Redactor {
        short: &short,
        remove: &|text| redact::scrub_if_secret(text),
        remove_from_name: &|name| redact::scrub_name(name),
        mark: redact::MARK,
    };
    redactor.message(&mut message);
    message.line()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::lowcode::protocol::Record;

    #[test]
    fn secrets_are_removed_and_the_structure_stays() {
        let spec = serde_json::json!({"properties": {
            "tenant": {"airbyte_secret": true, "default": "common"},
            "door": {"airbyte_secret": true},
            "mode": {"airbyte_secret": true},
        }});
        let config = serde_json::json!({"tenant": "common", "door": "lc-hidden-1", "mode": "sync", "api_token": "lc-hidden-2"});
        learn(Some(&spec.into()), &config.into());
        let data = serde_json::json!({"common": "common", "sync": "sync", "full_refresh sync": "lc-hidden-1, not a sync", "lc-hidden-2": 1});
        let record = Record { stream: "sync".into(), data: data.into(), emitted_at: 1 };
        let expected = r#"{"type":"RECORD","record":{"stream":"sync","data":{"common":"common","sync":"[redacted]","full_refresh sync":"[redacted], not a sync","lc-hidden-2":1},"emitted_at":1}}"#;
        let sorted = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(sorted(&line(Message::Record(record))), sorted(expected));
    }
}
