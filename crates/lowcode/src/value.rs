//! Values with Python's semantics, as they occur in YAML, JSON and templates.
//!
//! The CDK is written in Python, so `1`, `1.0` and `"1"` are three different values, `True == 1`, and a list is
//! printed as `['a', None]`. Such rules are implemented here and in `literal`.

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

mod dict;

pub use dict::{Dict, Entries};

/// A value of a manifest, a config, a response or a template.
#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    None,
    Bool(bool),
    Int(i64),
    /// An integer that does not fit into 64 bits, in decimal digits with an optional sign.
    Big(Arc<str>),
    Float(f64),
    Str(Arc<str>),
    List(Vec<Value>),
    Dict(Dict),
}

impl Value {
    /// A string.
    #[must_use]
    pub fn str(text: impl Into<Arc<str>>) -> Value {
        Value::Str(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Value::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Value::None)
    }

    /// Returns the value of `key`, or `None` if this is not a dict or does not have the key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_dict()?.get(key)
    }

    /// Returns Python's `bool(x)`.
    #[must_use]
    pub fn truthy(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(bool) => *bool,
            Value::Int(int) => *int != 0,
            Value::Big(_) => true,
            Value::Float(float) => *float != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Dict(dict) => !dict.is_empty(),
        }
    }

    /// Returns Python's name of the type, for messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Big(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
        }
    }

    /// Returns Python's `str(x)`.
    #[must_use]
    pub fn to_str(&self) -> String {
        match self {
            Value::Str(text) => text.to_string(),
            other => other.repr(),
        }
    }

    /// Returns Python's `repr(x)`.
    #[must_use]
    pub fn repr(&self) -> String {
        let mut out = String::new();
        self.write_repr(&mut out);
        out
    }

    fn write_repr(&self, out: &mut String) {
        match self {
            Value::None => out.push_str("None"),
            Value::Bool(bool) => out.push_str(if *bool { "True" } else { "False" }),
            Value::Int(int) => out.push_str(&int.to_string()),
            Value::Big(digits) => out.push_str(digits),
            Value::Float(float) => out.push_str(&float_repr(*float)),
            Value::Str(text) => str_repr(text, out),
            Value::List(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    item.write_repr(out);
                }
                out.push(']');
            }
            Value::Dict(dict) => {
                out.push('{');
                for (index, (key, item)) in dict.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    str_repr(key, out);
                    out.push_str(": ");
                    item.write_repr(out);
                }
                out.push('}');
            }
        }
    }
}

/// Returns Python's `repr` of a float: the shortest digits that read back as the same number, with an exponent from
/// 1e16 on and below 1e-4.
#[must_use]
pub fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// Appends Python's `repr` of a string, with its choice of quotes.
pub fn str_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Appends a string as Python's `json.dumps` writes it, in ASCII.
pub fn str_json(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(char),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// Compares like Python's `==`: numbers by value, with `True == 1`, and dicts regardless of their order.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) | (Value::Big(a), Value::Big(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Dict(a), Value::Dict(b)) => {
                a.identity() == b.identity()
                    || a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|it| it == value))
            }
            (a, b) => match (a.int(), b.int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((a.number(), b.number()), (Some(a), Some(b)) if a == b),
            },
        }
    }
}

impl Value {
    /// Counts the values that a copy of this value does not share with it: dicts share their entries, lists do not.
    #[must_use]
    pub fn unshared(&self) -> usize {
        match self {
            Value::List(list) => list.iter().map(Value::unshared).fold(1, usize::saturating_add),
            _ => 1,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Value::Bool(bool) => Some(i64::from(*bool)),
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// Returns the value as a number; booleans count as 0 and 1.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Float(float) => Some(*float),
            Value::Big(digits) => digits.parse().ok(),
            other => other.int().map(|int| int as f64),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Str(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Str(text.into())
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(bool) => Value::Bool(bool),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(int) => Value::Int(int),
                None if number.is_u64() => Value::Big(number.to_string().into()),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            serde_json::Value::String(text) => Value::Str(text.into()),
            serde_json::Value::Array(list) => Value::List(list.into_iter().map(Value::from).collect()),
            serde_json::Value::Object(map) => {
                Value::Dict(map.into_iter().map(|(key, value)| (Arc::from(key), Value::from(value))).collect())
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::None => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Int(int) => serializer.serialize_i64(*int),
            Value::Big(digits) => match digits.parse::<i128>() {
                Ok(int) => serializer.serialize_i128(int),
                Err(_) => serializer.serialize_f64(digits.parse().unwrap_or(f64::MAX)),
            },
            Value::Float(float) => serializer.serialize_f64(*float),
            Value::Str(text) => serializer.serialize_str(text),
            Value::List(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                for item in list {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Value::Dict(dict) => {
                let mut map = serializer.serialize_map(Some(dict.len()))?;
                for (key, item) in dict {
                    map.serialize_entry(&**key, item)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Int(int))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Value, E> {
        Ok(i64::try_from(int).map_or_else(|_| Value::Big(int.to_string().into()), Value::Int))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Str(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut dict = Dict::default();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            dict.insert(key.into(), value);
        }
        Ok(Value::Dict(dict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_python_does() {
        let value: Value =
            serde_json::from_str(r#"{"a":[1,1.5,true,null,"it's","q\"'"],"b":1e22,"c":18446744073709551615}"#).unwrap();
        assert_eq!(value.repr(), r#"{'a': [1, 1.5, True, None, "it's", 'q"\''], 'b': 1e+22, 'c': 18446744073709551615}"#);
        assert_eq!(float_repr(0.00001), "1e-05");
        assert_eq!(float_repr(100.0), "100.0");
        assert_eq!(Value::Bool(true), Value::Int(1));
        assert_eq!(Value::Float(1.0), Value::Int(1));
        assert_ne!(Value::str("1"), Value::Int(1));
    }
}
