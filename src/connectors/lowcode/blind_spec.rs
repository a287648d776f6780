//! The key `blind` of a family file.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The failure of a resource whose streams can all be read and are all empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blind {
    pub title: String,
    pub fix: String,
    /// The kinds of resources that this is for; empty means all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The streams that are empty then; empty means all. A vendor may show everybody what it offers.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Present if a resource of this vendor may be empty: how to tell that from a caller that sees nothing.
    #[serde(default)]
    pub unless: Option<SeesRecords>,
}

/// What shows that the caller would see records if there were any: the vendor lists what the caller may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeesRecords {
    /// Streams that are read for another reason; they are not read for this. The first that the vendor answered decides.
    pub streams: Vec<String>,
    /// JSON pointer to the list in its response. A response without the list names nothing.
    pub field: String,
    /// The text that the list must contain. Without it, the list must have an item.
    #[serde(default)]
    pub contains: Option<String>,
}

impl Blind {
    /// Returns whether the number of records that were read of each stream is 0 for all streams that count.
    #[must_use]
    pub fn sees_nothing(&self, read: &Map<String, Value>) -> bool {
        let counts = |name: &String| self.streams.is_empty() || self.streams.contains(name);
        read.iter().filter(|(name, _)| counts(name)).all(|(_, records)| records.as_u64() == Some(0))
    }
}

impl SeesRecords {
    /// Returns whether `body`, the response of a stream, shows that the caller sees records.
    #[must_use]
    pub fn shown_by(&self, body: &Value) -> bool {
        let list = body.pointer(&self.field).and_then(Value::as_array);
        let fits = |item: &Value| self.contains.as_deref().is_none_or(|text| item.as_str() == Some(text));
        list.is_some_and(|list| list.iter().any(fits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_list_with_the_text_shows_that_records_are_seen() {
        let rule = SeesRecords { streams: vec!["p".into()], field: "/permissions".into(), contains: Some("projects.get".into()) };
        for (body, expected) in [
            (json!({"permissions": ["projects.list", "projects.get"]}), true),
            (json!({"permissions": ["projects.list"]}), false),
            (json!({"permissions": "projects.get"}), false),
            (json!({}), false),
        ] {
            assert_eq!(rule.shown_by(&body), expected, "{body}");
        }
        let any = SeesRecords { streams: vec!["p".into()], field: "/value".into(), contains: None };
        for (body, expected) in [(json!({"value": [{"actions": ["*/read"]}]}), true), (json!({"value": []}), false)] {
            assert_eq!(any.shown_by(&body), expected, "{body}");
        }
    }

    #[test]
    fn only_the_streams_that_count_have_to_be_empty() {
        let blind: Blind = serde_json::from_value(json!({"title": "t", "fix": "f", "streams": ["resources"]})).unwrap();
        let read = |resources, providers| json!({"resources": resources, "providers": providers}).as_object().unwrap().clone();
        assert!(blind.sees_nothing(&read(0, 7)) && !blind.sees_nothing(&read(1, 0)));
    }
}
