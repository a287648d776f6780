//! Parses JSON or YAML, chosen by the content, with limits on bytes, values, depth and text.
//!
//! JSON has a separate reader although every JSON text is also YAML. Descriptions of several megabytes are common, and
//! `serde_json` reads them many times faster than a YAML parser can. The limits are the same for both.

use crate::credentials::redact;
use positioned_yaml::json;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Limit on the bytes of one document.
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
/// Limit on the values of one document, counting those that YAML aliases repeat.
const MAX_NODES: usize = 500_000;
/// Limit on the bytes of text in one document, counting those that YAML aliases repeat.
const MAX_TEXT: usize = 64 << 20;
/// Limit on nested values.
const MAX_DEPTH: usize = 96;

/// Parses JSON or YAML, chosen by the first character.
///
/// # Errors
/// The message of the parser, or which limit was exceeded.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(format!("it is longer than {} MiB", MAX_DOCUMENT_BYTES >> 20));
    }
    if text.trim_start().starts_with(['{', '[']) {
        let mut limits = Limits { nodes: MAX_NODES, text: MAX_TEXT };
        let mut json = serde_json::Deserializer::from_str(text);
        let seed = Node { limits: &mut limits, depth: MAX_DEPTH };
        let value = seed.deserialize(&mut json).map_err(|error| format!("JSON: {error}"))?;
        json.end().map_err(|error| format!("JSON: {error}"))?;
        return Ok(value);
    }
    let limits = json::Limits { values: MAX_NODES, text_bytes: MAX_TEXT, depth: MAX_DEPTH };
    json::parse(text, limits).map_err(|error| format!("YAML: {error}"))
}

struct Limits {
    nodes: usize,
    text: usize,
}

impl Limits {
    fn node<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.nodes = self.nodes.checked_sub(1).ok_or_else(|| E::custom(format!("more than {MAX_NODES} values")))?;
        Ok(())
    }

    fn text<E: serde::de::Error>(&mut self, length: usize) -> Result<(), E> {
        self.text =
            self.text.checked_sub(length).ok_or_else(|| E::custom(format!("more than {} MiB of text", MAX_TEXT >> 20)))?;
        Ok(())
    }
}

/// Reads one value under the limits. A duplicate key is an error.
struct Node<'l> {
    limits: &'l mut Limits,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.limits.node()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is infinite or NaN"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.limits.text(value.len())?;
        Ok(Value::String(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| A::Error::custom(format!("nested deeper than {MAX_DEPTH}")))?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Node { limits: &mut *self.limits, depth })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| A::Error::custom(format!("nested deeper than {MAX_DEPTH}")))?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.limits.text(key.len())?;
            let value = entries.next_value_seed(Node { limits: &mut *self.limits, depth })?;
            if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("duplicate key {:?}", redact::scrub_and_cut(&key, 80))));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_megabyte_is_read_at_once() {
        let schema =
            serde_json::json!({"type": "object", "properties": {"id": {"type": "integer", "description": "x".repeat(100)}}});
        let schemas: Map<String, Value> = (0..6000).map(|i| (format!("S{i}"), schema.clone())).collect();
        let text = serde_json::json!({"schemas": schemas}).to_string();
        assert!(text.len() > 1 << 20);
        let begun = Instant::now();
        assert!(parse(&text).is_ok());
        // An optimised build needs less than 100 ms. The test build is not optimised and runs beside other tests.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn duplicates_and_tags_are_errors() {
        assert!(parse("{\"a\":1,\"a\":2}").unwrap_err().contains("duplicate key \"a\""));
        assert!(parse("a: 1\na: 2\n").unwrap_err().contains("duplicate key"));
        assert!(parse("a: .nan\n").is_err());
        assert!(parse("a: !thing {b: 1}\n").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").unwrap_err().contains("more than one document"));
    }

    #[test]
    fn bombs_cost_a_bounded_error() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_string();
        for level in 1..10 {
            let names = vec![format!("*a{}", level - 1); 10].join(",");
            laughs.push_str(&format!("a{level}: &a{level} [{names}]\n"));
        }
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 200].join(","));
        let texts = [
            laughs,
            long,
            "[".repeat(4 << 20),
            format!("a: {}", "[".repeat(4 << 20)),
            "- ".repeat(2 << 20),
            "? ".repeat(2 << 20),
            "{\"a\":".repeat(1 << 20),
        ];
        for text in texts {
            let begun = Instant::now();
            let message = parse(&text).unwrap_err();
            assert!(begun.elapsed() < Duration::from_secs(20), "{} took {:?}", &text[..20], begun.elapsed());
            assert!(message.len() < 500, "{message}");
        }
    }
}
