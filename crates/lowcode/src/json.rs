//! JSON as Python's `json.loads` reads it.
//!
//! `serde_json` cannot replace this parser. Python accepts NaN and the infinities, keeps integers of any size, and
//! tolerates half a surrogate pair, for which `serde_json` fails. Records and templates can contain such values, and
//! the parity tests compare them.

use crate::value::{Dict, Value};
use std::sync::Arc;

/// Why a text is not valid JSON, and the byte offset of the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    pub at: usize,
    pub what: &'static str,
}

/// Reads a document of at most `depth` levels. If a key occurs more than once, the last value wins.
///
/// # Errors
/// Fails with the position of the first invalid byte.
pub fn parse(text: &str, depth: usize) -> Result<Value, JsonError> {
    document(text, depth, false)
}

/// Like [`parse`], but an integer that does not fit into 64 bits becomes a float, as in orjson.
///
/// # Errors
/// Fails like [`parse`].
pub fn parse_orjson(text: &str, depth: usize) -> Result<Value, JsonError> {
    document(text, depth, true)
}

fn document(text: &str, depth: usize, big_is_float: bool) -> Result<Value, JsonError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, big_is_float };
    let value = reader.value(depth)?;
    reader.blanks();
    if reader.at < reader.bytes.len() { reader.error("extra data") } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    big_is_float: bool,
}

impl Reader<'_> {
    fn error<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Consumes `token` if it comes next.
    fn take(&mut self, token: &str) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(token.as_bytes()));
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.blanks();
        match self.peek() {
            Some(b'{' | b'[') if depth == 0 => self.error("nested too deeply"),
            Some(b'{') => self.dict(depth - 1),
            Some(b'[') => self.list(depth - 1),
            Some(b'"') => Ok(Value::Str(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.constant(),
        }
    }

    fn constant(&mut self) -> Result<Value, JsonError> {
        let constants = [
            ("null", Value::None),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
        ];
        for (name, value) in constants {
            if self.take(name) {
                return Ok(value);
            }
        }
        self.error("expected a value")
    }

    fn dict(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut dict = Dict::default();
        self.blanks();
        if self.take("}") {
            return Ok(Value::Dict(dict));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return self.error("expected a name in double quotes");
            }
            let key = self.string()?;
            self.blanks();
            if !self.take(":") {
                return self.error("expected a colon");
            }
            let value = self.value(depth)?;
            dict.insert(key, value);
            self.blanks();
            if self.take("}") {
                return Ok(Value::Dict(dict));
            }
            if !self.take(",") {
                return self.error("expected a comma");
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut list = Vec::new();
        self.blanks();
        if self.take("]") {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth)?);
            self.blanks();
            if self.take("]") {
                return Ok(Value::List(list));
            }
            if !self.take(",") {
                return self.error("expected a comma");
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        if self.take("-Infinity") {
            return Ok(Value::Float(f64::NEG_INFINITY));
        }
        let start = self.at;
        self.take("-");
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.error("expected a digit"),
        }
        let whole = self.at;
        if self.peek() == Some(b'.') && self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.bytes.get(self.at + 1), Some(b'+' | b'-')));
            if self.bytes.get(self.at + 1 + sign).is_some_and(u8::is_ascii_digit) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if self.at > whole {
            return Ok(Value::Float(text.parse().unwrap_or(f64::NAN)));
        }
        if let Ok(int) = text.parse() {
            return Ok(Value::Int(int));
        }
        let big = !self.big_is_float || text.parse::<u64>().is_ok();
        Ok(if big { Value::Big(text.into()) } else { Value::Float(text.parse().unwrap_or(f64::NAN)) })
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<Arc<str>, JsonError> {
        self.at += 1;
        let start = self.at;
        let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let run = |at: usize, bytes: &[u8]| bytes.get(at..).map_or(0, |rest| rest.iter().take_while(|byte| plain(byte)).count());
        self.at += run(self.at, self.bytes);
        let text = self.text;
        let piece = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(piece(start, self.at - 1).into());
        }
        let mut out = piece(start, self.at).to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(0..=0x1f) => return self.error("control character in a string"),
                None => return self.error("unterminated string"),
                Some(_) => {
                    let from = self.at;
                    self.at += run(from, self.bytes);
                    out.push_str(piece(from, self.at));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let char = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.error("unknown escape"),
        };
        self.at += 1;
        Ok(char)
    }

    /// Reads `\u` and four digits, or a surrogate pair of two such escapes. Python keeps an unpaired surrogate. A Rust
    /// string cannot contain one, so it becomes U+FFFD.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let Some(high) = self.unit(self.at + 1) else { return self.error("escape without four digits") };
        self.at += 5;
        if (0xd800..0xdc00).contains(&high)
            && self.bytes.get(self.at..self.at + 2) == Some(b"\\u")
            && let Some(low) = self.unit(self.at + 2).filter(|low| (0xdc00..0xe000).contains(low))
        {
            self.at += 6;
            return Ok(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}'));
        }
        Ok(char::from_u32(high).unwrap_or('\u{fffd}'))
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 4)?;
        digits.iter().try_fold(0, |sum, byte| Some(sum * 16 + char::from(*byte).to_digit(16)?))
    }
}
