//! The key `blind` of a family file.

use serde::Deserialize;
use serde_json::Value;

/// The failure of a resource whose streams can all be read and are all empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blind {
    pub title: String,
    pub fix: String,
    /// The kinds of resources that this is for; empty means all.
    #[serde(default)]
    pub kinds: Vec<String>,
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
    /// The text that the list must contain.
    pub contains: String,
}

impl SeesRecords {
    /// Returns whether `body`, the response of a stream, shows that the caller sees records.
    #[must_use]
    pub fn shown_by(&self, body: &Value) -> bool {
        let list = body.pointer(&self.field).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|item| item.as_str() == Some(&self.contains)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_list_with_the_text_shows_that_records_are_seen() {
        let rule = SeesRecords { streams: vec!["p".into()], field: "/permissions".into(), contains: "projects.get".into() };
        for (body, expected) in [
            (json!({"permissions": ["projects.list", "projects.get"]}), true),
            (json!({"permissions": ["projects.list"]}), false),
            (json!({"permissions": "projects.get"}), false),
            (json!({}), false),
        ] {
            assert_eq!(rule.shown_by(&body), expected, "{body}");
        }
    }
}
