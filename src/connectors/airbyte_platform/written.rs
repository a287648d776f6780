//! What AAM wrote into sources since the process started. Airbyte shows secrets masked, so it cannot be asked.

use super::sources::SourceSetup;
use crate::credentials::{Credential, Secret};
use crate::model::Digest;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The sources that are remembered. One that is not is written again, which changes nothing.
const MAX_SOURCES: usize = 10_000;

/// The digest of everything that a config is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs(Digest);

impl Inputs {
    #[must_use]
    pub fn new(setup: &SourceSetup) -> Inputs {
        let credential = setup.credential.as_ref();
        let plain = credential.and_then(Credential::plain).map(Secret::expose);
        let fields: BTreeMap<&str, &str> = credential
            .map(|credential| {
                let names = credential.field_names().into_iter();
                names.filter_map(|name| Some((name, credential.field(name)?.expose()))).collect()
            })
            .unwrap_or_default();
        let text = zeroize::Zeroizing::new(serde_json::json!([setup.resource_id, setup.config, plain, fields]).to_string());
        Inputs(Digest::from_bytes(text.as_bytes()))
    }
}

/// Digests by the id of the source. They never leave the process.
#[derive(Default)]
pub struct Written(Mutex<BTreeMap<String, (Inputs, Digest)>>);

impl Written {
    /// Notes that the source `id` was written from `inputs`, and how Airbyte shows it since.
    pub fn note(&self, id: &str, inputs: Inputs, shown: Digest) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(id) {
            sources.pop_first();
        }
        sources.insert(id.to_string(), (inputs, shown));
    }

    /// Whether the source was written from the same inputs and still looks the same.
    #[must_use]
    pub fn is_same(&self, id: &str, inputs: Inputs, shown: Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id) == Some(&(inputs, shown))
    }

    /// Whether this process wrote the source and Airbyte shows another one since.
    #[must_use]
    pub fn was_changed(&self, id: &str, shown: Digest) -> bool {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(id).is_some_and(|(_, written)| *written != shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(secret: &str) -> SourceSetup {
        SourceSetup {
            name: String::new(),
            earlier_name: None,
            search: String::new(),
            connector: String::new(),
            resource_id: "a".to_string(),
            config: serde_json::Map::new(),
            credential: Some(Credential::read(Secret::new(secret.to_string()))),
        }
    }

    #[test]
    fn a_new_secret_or_a_change_by_hand_is_written_again() {
        let (written, shown) = (Written::default(), Digest::from_bytes(b"shown"));
        let inputs = Inputs::new(&setup(r#"{"token": "a-secret-1"}"#));
        written.note("id", inputs, shown);
        assert!(written.is_same("id", inputs, shown));
        assert!(!written.is_same("id", Inputs::new(&setup(r#"{"token": "a-secret-2"}"#)), shown));
        assert!(!written.is_same("id", inputs, Digest::from_bytes(b"changed")));
        assert!(!written.is_same("other", inputs, shown));
        assert!(written.was_changed("id", Digest::from_bytes(b"changed")));
        assert!(!written.was_changed("id", shown) && !written.was_changed("other", shown));
    }
}
