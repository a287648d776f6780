//! JSON as intake accepts it.
//!
//! It is `serde_json` with two requirements of its own: duplicate keys are reported, because `serde_json` silently
//! takes the last one, and nesting is bounded by the caller. Both need a visitor of their own.

use crate::model::FilePlace;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// Why a text is not acceptable as JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Syntax {
    pub message: String,
    pub place: FilePlace,
    /// True if the text is well-formed up to here but nested deeper than allowed.
    pub too_deep: bool,
}

/// Parses one JSON value. The flag is true if an object contains a key twice.
///
/// # Errors
/// The first syntax error, or nesting deeper than `max_depth`.
pub fn read(text: &str, max_depth: usize) -> Result<(Value, bool), Syntax> {
    let (twice, too_deep) = (Cell::new(false), Cell::new(false));
    let mut source = serde_json::Deserializer::from_str(text);
    let seed = Tree { left: max_depth, twice: &twice, too_deep: &too_deep };
    seed.deserialize(&mut source)
        .and_then(|value| source.end().map(|()| value))
        .map(|value| (value, twice.get()))
        .map_err(|error| syntax(text, &error, too_deep.get()))
}

fn syntax(text: &str, error: &serde_json::Error, too_deep: bool) -> Syntax {
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let bytes = line.as_bytes();
    let before = bytes.get(..error.column().saturating_sub(1).min(bytes.len())).unwrap_or_default();
    let column = String::from_utf8_lossy(before).chars().count() + 1;
    Syntax { message: message.to_string(), place: FilePlace { line: error.line().max(1), column }, too_deep }
}

/// Builds a [`Value`] and checks depth and duplicate keys on the way.
#[derive(Clone, Copy)]
struct Tree<'c> {
    left: usize,
    twice: &'c Cell<bool>,
    too_deep: &'c Cell<bool>,
}

impl Tree<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Tree { left, ..self }),
            None => {
                self.too_deep.set(true);
                Err(E::custom("nested too deeply"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.insert(key, entries.next_value_seed(inner)?).is_some() {
                self.twice.set(true);
            }
        }
        Ok(Value::Object(map))
    }
}

/// One reference token of a JSON pointer, escaped as in RFC 6901.
#[must_use]
pub fn token(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { Cow::Owned(key.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_name_line_and_character() {
        let error = read("{\"ä\": 1,\n  \"é\" 2}", 8).expect_err("a colon is missing");
        assert_eq!((error.message.as_str(), error.place), ("expected `:`", FilePlace { line: 2, column: 7 }));
        assert!(read("[[[1]]]", 2).is_err_and(|error| error.too_deep));
        assert!(read("[[1]]", 2).is_ok());
        assert!(read(&"[".repeat(100_000), 64).is_err());
        assert!(read("1 2", 8).is_err_and(|error| error.message == "trailing characters"));
    }
}
