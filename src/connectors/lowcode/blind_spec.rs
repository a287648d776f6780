//! The key `blind` of a family file.

use serde::Deserialize;
use serde_json::Value;

/// The failure of a resource whose data streams can all be read and are all empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blind {
    pub title: String,
    pub fix: String,
    /// The streams that are empty then; no names mean all of them. A vendor may show everybody what it offers.
    #[serde(default)]
    pub streams: Vec<String>,
    /// For a vendor whose resources can be empty: a stream that has a record if the credential sees the resource's contents.
    /// The failure then needs this stream to be empty, too.
    #[serde(default)]
    pub unless: Option<String>,
}

impl Blind {
    /// Returns true if the number of records that were read of each stream is 0 for all streams that count.
    #[must_use]
    pub fn sees_nothing(&self, read: &serde_json::Map<String, Value>) -> bool {
        let counts = |name: &String| self.streams.is_empty() || self.streams.contains(name);
        read.iter().filter(|(name, _)| counts(name)).all(|(_, records)| records.as_u64() == Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_streams_that_count_have_to_be_empty() {
        let blind =
            |streams: Value| serde_json::from_value::<Blind>(json!({"title": "t", "fix": "f", "streams": streams})).unwrap();
        let read = |value: Value| value.as_object().cloned().unwrap();
        let some = read(json!({"resources": 0, "providers": 20}));
        assert!(blind(json!(["resources"])).sees_nothing(&some));
        assert!(!blind(json!([])).sees_nothing(&some));
        assert!(blind(json!([])).sees_nothing(&read(json!({"resources": 0}))));
        assert!(!blind(json!(["resources"])).sees_nothing(&read(json!({"resources": 1}))));
    }
}
