//! Limits the parts of a response that a document or a source can make arbitrarily large. The ledger keeps all of them:
//! `GET /connections/{id}/versions` returns the full bodies.

use super::WarningBody;
use crate::model::text::printable;
use serde_json::{Map, Value};

/// The maximum number of warnings of one connection.
pub const MAX_WARNINGS: usize = 20;
/// The maximum length of one text, in characters.
pub const MAX_TEXT_CHARS: usize = 4000;
/// The maximum number of items of a list, and of keys of an object, in the evidence of a step.
pub const MAX_ITEMS: usize = 200;
/// About how long the evidence of a step may be, in bytes of JSON.
const MAX_EVIDENCE_BYTES: usize = 64 << 10;
/// About how long one value of the evidence may be, so that it does not hide the others.
const MAX_VALUE_BYTES: usize = 16 << 10;

/// Limits the length of a text, and escapes the characters that change how the text around them is shown: texts of sources
/// reach people and assistants through programs that do not escape them.
#[must_use]
pub fn text(text: &str) -> String {
    let text = printable(text, &['\n', '\t']);
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}… ({} bytes in total)", text.get(..end).unwrap_or_default(), text.len()),
        None => text.into_owned(),
    }
}

/// Limits the number of warnings. The last one says that there are more.
pub fn warnings(mut all: Vec<WarningBody>) -> Vec<WarningBody> {
    if all.len() > MAX_WARNINGS {
        all.truncate(MAX_WARNINGS - 1);
        all.push(WarningBody {
            pointer: String::new(),
            message: "further warnings are not shown".to_string(),
            hint: "GET /connections/{id}/versions returns the intent and the steps in full".to_string(),
            class: None,
        });
    }
    all
}

/// Limits the evidence of a step.
pub fn map(evidence: Map<String, Value>) -> Map<String, Value> {
    let mut left = MAX_EVIDENCE_BYTES;
    object(evidence, &mut left, MAX_VALUE_BYTES)
}

/// Limits an object to `left` bytes, and each of its values to `max_value` bytes. Subtracts what it used from `left`.
fn object(object: Map<String, Value>, left: &mut usize, max_value: usize) -> Map<String, Value> {
    let total = object.len();
    let mut bounded = Map::new();
    for (key, value) in object {
        if bounded.len() >= MAX_ITEMS || *left == 0 {
            bounded.insert("…".to_string(), Value::String(format!("{total} keys in total")));
            break;
        }
        let key = text(&key);
        *left = left.saturating_sub(key.len());
        let before = max_value.min(*left);
        let mut left_for_value = before;
        bounded.insert(key, bounded_value(value, &mut left_for_value));
        *left = left.saturating_sub(before - left_for_value);
    }
    bounded
}

fn bounded_value(value: Value, left: &mut usize) -> Value {
    // The quotes and the comma of a text, or about the length of a number.
    *left = left.saturating_sub(4);
    match value {
        Value::String(long) => {
            let short = text(&long);
            *left = left.saturating_sub(short.len());
            Value::String(short)
        }
        Value::Array(items) => {
            let total = items.len();
            let mut bounded = Vec::new();
            for item in items {
                if bounded.len() >= MAX_ITEMS || *left == 0 {
                    bounded.push(Value::String(format!("… {total} items in total")));
                    break;
                }
                bounded.push(bounded_value(item, left));
            }
            Value::Array(bounded)
        }
        Value::Object(members) => Value::Object(object(members, left, usize::MAX)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn evidence_of_any_size_becomes_small_and_small_evidence_stays() {
        let small = json!({"version": "16.2", "tables": ["a", "b"], "nested": {"n": 1}});
        assert_eq!(json!(map(small.as_object().cloned().unwrap_or_default())), small);
        let wide: Map<String, Value> = (0..5000).map(|n| (format!("k{n}"), json!(n))).collect();
        let long = json!({
            "list": (0..100_000).collect::<Vec<u32>>(), "text": "ü".repeat(1 << 20), "wide": wide,
            "deep": (0..300).map(|_| (0..300).collect::<Vec<u32>>()).collect::<Vec<_>>(),
        });
        let bounded = map(long.as_object().cloned().unwrap_or_default());
        assert!(json!(bounded).to_string().len() < 100_000);
        assert_eq!(bounded["list"][MAX_ITEMS], "… 100000 items in total");
        assert!(bounded["text"].as_str().is_some_and(|text| text.ends_with("(2097152 bytes in total)")));
        assert_eq!(bounded["wide"]["…"], "5000 keys in total");
    }

    #[test]
    fn what_reorders_a_text_is_escaped_wherever_a_source_put_it() {
        assert_eq!(text("a\u{202e}b\nc\td"), "a\\u{202e}b\nc\td");
        let evidence = json!({"k\u{2066}": ["v\u{200f}", {"n": "zwölf 漢字"}]});
        let bounded = json!(map(evidence.as_object().cloned().unwrap_or_default()));
        assert_eq!(bounded, json!({"k\\u{2066}": ["v\\u{200f}", {"n": "zwölf 漢字"}]}));
    }
}
