//! Python's `ast.literal_eval`. The CDK uses it to parse the text of every interpolated string.
//!
//! Strings without tags are parsed too (`interpolation/jinja.py`): `1` becomes a number and `None` becomes null. A text
//! that is not a literal stays text.

mod number;
mod reader;

use super::value::{Dict, Value, float_repr};
use std::sync::Arc;

/// A literal. It has more types than [`Value`], because the CDK's type checks distinguish a tuple from a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Big(Arc<str>),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Ellipsis,
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Set(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    fn hashable(&self) -> bool {
        match self {
            Literal::List(_) | Literal::Set(_) | Literal::Dict(_) => false,
            Literal::Tuple(items) => items.iter().all(Literal::hashable),
            _ => true,
        }
    }

    /// Converts the literal to the types of JSON: tuples and sets become lists, and keys become text.
    #[must_use]
    pub fn into_value(self) -> Value {
        match self {
            Literal::None => Value::None,
            Literal::Bool(bool) => Value::Bool(bool),
            Literal::Int(int) => Value::Int(int),
            Literal::Big(digits) => Value::Big(digits),
            Literal::Float(float) => Value::Float(float),
            Literal::Str(text) => Value::Str(text.into()),
            Literal::Bytes(bytes) => Value::str(String::from_utf8_lossy(&bytes).as_ref()),
            Literal::Ellipsis => Value::str("Ellipsis"),
            Literal::List(items) | Literal::Tuple(items) | Literal::Set(items) => {
                Value::List(items.into_iter().map(Literal::into_value).collect())
            }
            Literal::Dict(pairs) => {
                let mut dict = Dict::with_capacity(pairs.len());
                for (key, item) in pairs {
                    dict.insert(key.into_key(), item.into_value());
                }
                Value::Dict(dict)
            }
        }
    }

    /// The text that Python's `json.dumps` writes for a key.
    fn into_key(self) -> Arc<str> {
        match self {
            Literal::None => "null".into(),
            Literal::Bool(bool) => if bool { "true" } else { "false" }.into(),
            Literal::Float(float) => float_repr(float).into(),
            Literal::Str(text) => text.into(),
            other => other.into_value().to_str().into(),
        }
    }
}

/// Parses `text` as a literal. Returns `None` if Python raises an error.
#[must_use]
pub fn literal_eval(text: &str) -> Option<Literal> {
    let text = text.trim_start_matches([' ', '\t']);
    if !may_be_literal(text) {
        return None;
    }
    reader::read(text)
}

/// Whether `text` may be a literal, judging by its first bytes. This check is cheap and rejects most plain texts.
fn may_be_literal(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => false,
        Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'\'' | b'"' | b'(' | b'[' | b'{' | b'\n' | b'\r' | b'#' | b'\x0c') => true,
        Some(b'N') => text.starts_with("None"),
        Some(b'T') => text.starts_with("True"),
        Some(b'F') => text.starts_with("False"),
        Some(b's') => text.starts_with("set"),
        Some(b'r' | b'R' | b'b' | b'B' | b'u' | b'U') => bytes.iter().skip(1).take(2).any(|b| matches!(b, b'\'' | b'"')),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Option<String> {
        literal_eval(text).map(|it| it.into_value().repr())
    }

    /// The expected values were checked against `ast.literal_eval` of Python 3.11.
    #[test]
    fn reads_what_python_reads() {
        for (text, expected) in [
            ("1", Some("1")),
            ("1_000", Some("1000")),
            ("0x1F", Some("31")),
            ("-5", Some("-5")),
            (" 5", Some("5")),
            ("(-5)", Some("-5")),
            ("1e3", Some("1000.0")),
            (".5", Some("0.5")),
            ("1, 2", Some("[1, 2]")),
            ("[1, 'a', None,]", Some("[1, 'a', None]")),
            ("{'a': 1, 2: True}", Some("{'a': 1, '2': True}")),
            ("'a' \"b\"", Some("'ab'")),
            ("r'\\d'", Some("'\\\\d'")),
            ("'''a\nb'''", Some("'a\\nb'")),
            ("1 # note", Some("1")),
            ("12345678901234567890", Some("12345678901234567890")),
            ("-9223372036854775808", Some("-9223372036854775808")),
            ("set()", Some("[]")),
            ("2024-01-02", None),
            ("007", None),
            ("1__0", None),
            ("--5", None),
            ("1+2j", None),
            ("true", None),
            ("{'a': true}", None),
            ("[1, 2", None),
            ("1 2", None),
            ("None1", None),
            ("{[]: 1}", None),
            ("f'x'", None),
            ("", None),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{text}");
        }
        assert_eq!(literal_eval(&"[".repeat(100_000)), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e300..1e300f64).prop_map(Value::Float),
            ".*".prop_map(|text: String| Value::str(text)),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::vec((".*", inner), 0..5)
                    .prop_map(|pairs| Value::Dict(pairs.into_iter().map(|(key, it)| (key.into(), it)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_back_what_repr_wrote(value in values()) {
            let read = literal_eval(&value.repr()).map(Literal::into_value);
            prop_assert_eq!(read, Some(value));
        }

        #[test]
        fn never_panics(text in any::<String>(), code in "[-+0-9a-z_.'\"()\\[\\]{}:, #\n]{0,40}") {
            let _ = literal_eval(&text);
            let _ = literal_eval(&code);
        }
    }
}
