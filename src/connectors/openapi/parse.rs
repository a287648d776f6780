//! Parses JSON or YAML, chosen by the content, with limits on bytes, values, depth and text.
//!
//! JSON has a separate reader although every JSON text is also YAML. Descriptions of several megabytes are common, and
//! `serde_json` reads them many times faster than a YAML parser can. The limits are the same for both.

use super::repair::repaired;
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

/// Why a text was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The text exceeds a limit of AAM. Holds the limit: `more than 500000 values`.
    Limit(String),
    /// The text is not valid. Holds the message of the parser.
    Invalid(String),
}

impl ParseError {
    /// The limit or the message.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            ParseError::Limit(message) | ParseError::Invalid(message) => message,
        }
    }
}

/// Parses JSON or YAML, chosen by the first character. A single value that cannot be represented does not lose the others:
/// in JSON it is replaced ([`repaired`]), and in YAML it is read as text.
///
/// # Errors
/// The message of the parser, or which limit was exceeded.
pub fn parse(text: &str) -> Result<Value, ParseError> {
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(ParseError::Limit(format!("more than {} MiB", MAX_DOCUMENT_BYTES >> 20)));
    }
    if text.trim_start().starts_with(['{', '[']) {
        return match parse_json(text) {
            Err(ParseError::Invalid(message)) => {
                let repaired = repaired(text);
                // The position in the message is that of the original text.
                if repaired == text { Err(ParseError::Invalid(message)) } else { parse_json(&repaired) }
            }
            read => read,
        };
    }
    let limits = json::Limits { values: MAX_NODES, text_bytes: MAX_TEXT, depth: MAX_DEPTH };
    json::parse_leniently(text, limits).map_err(|error| match error {
        positioned_yaml::Error::Limit { message, .. } if message.starts_with("nested") => {
            ParseError::Limit(format!("values {message}"))
        }
        positioned_yaml::Error::Limit { message, .. } => ParseError::Limit(message),
        // The parser has its own limit on nested brackets.
        other if other.to_string().contains("recursion limit") => {
            ParseError::Limit(format!("values nested deeper than {MAX_DEPTH}"))
        }
        other => ParseError::Invalid(format!("YAML: {other}")),
    })
}

/// Why the JSON of a response was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseProblem {
    EndsEarly(String),
    Invalid(String),
    /// The values are nested deeper than `serde_json` reads: 127 levels.
    TooDeep,
}

/// Parses the JSON of a response, whose length egress has limited. As in [`parse`], a single value that cannot be
/// represented does not lose the others.
///
/// # Errors
/// The reason why the text was not read.
pub fn parse_response(text: &str) -> Result<Value, ResponseProblem> {
    let text = text.trim_start_matches('\u{feff}');
    let problem = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Eof => ResponseProblem::EndsEarly(error.to_string()),
        _ if error.to_string().contains("recursion limit") => ResponseProblem::TooDeep,
        _ => ResponseProblem::Invalid(error.to_string()),
    };
    match serde_json::from_str(text).map_err(problem) {
        Err(ResponseProblem::Invalid(message)) => {
            serde_json::from_str(&repaired(text)).map_err(|_| ResponseProblem::Invalid(message))
        }
        read => read,
    }
}

fn parse_json(text: &str) -> Result<Value, ParseError> {
    let mut limits = Limits { nodes: MAX_NODES, text: MAX_TEXT, exceeded: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = Node { limits: &mut limits, depth: MAX_DEPTH };
    let read = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    read.map_err(|error| match limits.exceeded {
        Some(limit) => ParseError::Limit(limit),
        None => ParseError::Invalid(format!("JSON: {error}")),
    })
}

struct Limits {
    nodes: usize,
    text: usize,
    /// The limit that was exceeded.
    exceeded: Option<String>,
}

impl Limits {
    fn node<E: serde::de::Error>(&mut self) -> Result<(), E> {
        match self.nodes.checked_sub(1) {
            Some(left) => self.nodes = left,
            None => return self.exceed(format!("more than {MAX_NODES} values")),
        }
        Ok(())
    }

    fn text<E: serde::de::Error>(&mut self, length: usize) -> Result<(), E> {
        match self.text.checked_sub(length) {
            Some(left) => self.text = left,
            None => return self.exceed(format!("more than {} MiB of text", MAX_TEXT >> 20)),
        }
        Ok(())
    }

    fn below<E: serde::de::Error>(&mut self, depth: usize) -> Result<usize, E> {
        match depth.checked_sub(1) {
            Some(below) => Ok(below),
            None => self.exceed(format!("values nested deeper than {MAX_DEPTH}")),
        }
    }

    fn exceed<T, E: serde::de::Error>(&mut self, limit: String) -> Result<T, E> {
        self.exceeded = Some(limit.clone());
        Err(E::custom(limit))
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
        let depth = self.limits.below(self.depth)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Node { limits: &mut *self.limits, depth })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.limits.below(self.depth)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.limits.text(key.len())?;
            let value = entries.next_value_seed(Node { limits: &mut *self.limits, depth })?;
            if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("duplicate key {:?}", key.chars().take(80).collect::<String>())));
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
    fn duplicates_are_errors() {
        assert!(parse("{\"a\":1,\"a\":2}").unwrap_err().message().contains("duplicate key \"a\""));
        assert!(parse("a: 1\na: 2\n").unwrap_err().message().contains("duplicate key"));
    }

    #[test]
    fn one_odd_value_does_not_lose_the_document() {
        for text in [
            r#"{"a": 123456789012345678901234567890, "b": 1}"#,
            r#"{"a": -123456789012345678901234567890, "b": 1}"#,
            r#"{"a": 1e400, "b": 1}"#,
            r#"{"a": NaN, "b": 1}"#,
            r#"{"a": "\ud800", "b": 1}"#,
            "{\"a\": \"x\ty\", \"b\": 1}",
            "a: 123456789012345678901234567890\nb: 1\n",
            "a: !thing {b: 1}\nb: 1\n",
            "a: .nan\nb: 1\n",
            "a: 1\nb: 1\n---\n",
            "---\nb: 1\n---\nc: 2\n",
        ] {
            assert_eq!(parse(text).unwrap()["b"], 1, "{text}");
        }
    }

    #[test]
    fn limits_are_distinguished_from_mistakes() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let many = format!("[{}]", vec!["1"; MAX_NODES + 1].join(","));
        for (text, limit) in [
            (deep.clone(), "values nested deeper than 96"),
            (format!("a: {deep}"), "values nested deeper than 96"),
            (many.clone(), "more than 500000 values"),
            (format!("a: {many}"), "more than 500000 values"),
            (" ".repeat(9 << 20), "more than 8 MiB"),
        ] {
            assert_eq!(parse(&text).unwrap_err(), ParseError::Limit(limit.into()), "{}", &text[..20]);
        }
        assert!(matches!(parse("{\"a\": 1"), Err(ParseError::Invalid(_))));
        assert!(matches!(parse("a: [1"), Err(ParseError::Invalid(_))));
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
            assert!(message.message().len() < 500, "{message:?}");
        }
    }
}
