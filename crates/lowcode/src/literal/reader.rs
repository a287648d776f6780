//! The parser of Python literals.
//!
//! A JSON parser is not enough, because the CDK parses every rendered template with `ast.literal_eval`. That function also
//! accepts tuples, sets, single quotes, string prefixes, `None` and `1_000`. The tests compare the results with Python's.

use super::Literal;
use super::number::{negate, number_length, read_number};

/// Limit for the nesting of brackets. Python's tokenizer stops at 200.
const MAX_DEPTH: usize = 100;

/// Parses `text`, which must be a single literal.
pub(super) fn read(text: &str) -> Option<Literal> {
    let mut reader = Reader { text, at: 0, depth: 0, brackets: 0 };
    reader.blank_lines()?;
    let first = reader.expression()?;
    let value = reader.rest_of_tuple(first)?;
    reader.end()?;
    Some(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    brackets: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Skips blank lines and comment lines before the expression. The line of the expression must not be indented.
    fn blank_lines(&mut self) -> Option<()> {
        loop {
            let start = self.at;
            self.space();
            match self.peek() {
                Some(b'\n' | b'\r') => self.at += 1,
                _ if self.at == start || start == 0 => return Some(()),
                _ => return None,
            }
        }
    }

    /// Skips spaces and comments. Inside brackets it also skips line breaks.
    fn space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\x0c' => self.at += 1,
                b'\n' | b'\r' if self.brackets > 0 => self.at += 1,
                b'\\' if self.peek_at(1) == Some(b'\n') => self.at += 2,
                b'#' => {
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn end(&mut self) -> Option<()> {
        self.space();
        while matches!(self.peek(), Some(b'\n' | b'\r')) {
            self.at += 1;
            self.space();
        }
        (self.at == self.text.len()).then_some(())
    }

    /// Parses `first, second, …`, which is a tuple whether or not it is in brackets.
    fn rest_of_tuple(&mut self, first: Literal) -> Option<Literal> {
        self.space();
        if self.peek() != Some(b',') {
            return Some(first);
        }
        let mut items = vec![first];
        while self.take(b',') {
            self.space();
            if matches!(self.peek(), None | Some(b')' | b'\n' | b'\r')) {
                break;
            }
            items.push(self.expression()?);
            self.space();
        }
        Some(Literal::Tuple(items))
    }

    fn expression(&mut self) -> Option<Literal> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        self.space();
        let value = match self.peek()? {
            sign @ (b'+' | b'-') => {
                self.at += 1;
                negate(self.expression_of_number()?, sign == b'-')
            }
            b'0'..=b'9' => self.number(),
            b'.' if self.rest().starts_with("...") => {
                self.at += 3;
                Some(Literal::Ellipsis)
            }
            b'.' => self.number(),
            b'(' => self.bracketed(b')'),
            b'[' => self.bracketed(b']'),
            b'{' => self.bracketed(b'}'),
            _ => self.name_or_string(),
        };
        self.depth -= 1;
        value
    }

    /// Parses the number after a sign. The number may be in brackets.
    fn expression_of_number(&mut self) -> Option<Literal> {
        self.space();
        match self.peek()? {
            b'0'..=b'9' => self.number(),
            b'.' if !self.rest().starts_with("...") => self.number(),
            b'(' => match self.expression()? {
                number @ (Literal::Int(0..) | Literal::Big(_) | Literal::Float(_)) => Some(number),
                _ => None,
            },
            _ => None,
        }
    }

    fn bracketed(&mut self, close: u8) -> Option<Literal> {
        self.at += 1;
        self.brackets += 1;
        let value = match close {
            b'}' => self.braces(),
            b']' => self.items(close).map(Literal::List),
            _ => self.parens(),
        };
        self.brackets -= 1;
        value
    }

    fn parens(&mut self) -> Option<Literal> {
        self.space();
        if self.take(b')') {
            return Some(Literal::Tuple(Vec::new()));
        }
        let first = self.expression()?;
        let value = self.rest_of_tuple(first)?;
        self.space();
        self.take(b')').then_some(value)
    }

    fn items(&mut self, close: u8) -> Option<Vec<Literal>> {
        let mut items = Vec::new();
        loop {
            self.space();
            if self.take(close) {
                return Some(items);
            }
            items.push(self.expression()?);
            self.space();
            if !self.take(b',') {
                return self.take(close).then_some(items);
            }
        }
    }

    fn braces(&mut self) -> Option<Literal> {
        self.space();
        if self.take(b'}') {
            return Some(Literal::Dict(Vec::new()));
        }
        let first = self.expression()?;
        self.space();
        if !first.hashable() {
            return None;
        }
        if self.peek() != Some(b':') {
            let mut items = vec![first];
            if self.take(b',') {
                items.extend(self.items(b'}')?);
            } else if !self.take(b'}') {
                return None;
            }
            return items.iter().all(Literal::hashable).then_some(Literal::Set(items));
        }
        self.pairs(first).map(Literal::Dict)
    }

    fn pairs(&mut self, first: Literal) -> Option<Vec<(Literal, Literal)>> {
        let mut pairs = Vec::new();
        let mut key = first;
        loop {
            self.space();
            if !self.take(b':') || !key.hashable() {
                return None;
            }
            pairs.push((key, self.expression()?));
            self.space();
            if !self.take(b',') {
                return self.take(b'}').then_some(pairs);
            }
            self.space();
            if self.take(b'}') {
                return Some(pairs);
            }
            key = self.expression()?;
        }
    }

    fn name_or_string(&mut self) -> Option<Literal> {
        for (word, value) in [("None", Literal::None), ("True", Literal::Bool(true)), ("False", Literal::Bool(false))] {
            if let Some(after) = self.rest().strip_prefix(word) {
                self.at += word.len();
                return (!after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'' || c == '"')).then_some(value);
            }
        }
        if self.rest().starts_with("set") {
            self.at += 3;
            self.space();
            if !self.take(b'(') {
                return None;
            }
            self.space();
            return self.take(b')').then_some(Literal::Set(Vec::new()));
        }
        self.strings()
    }

    /// Parses one string or several adjacent strings. Python concatenates adjacent strings.
    fn strings(&mut self) -> Option<Literal> {
        let (mut text, mut bytes, mut is_bytes) = (String::new(), Vec::new(), None);
        while let Some(prefix) = string_prefix(self.rest()) {
            if *is_bytes.get_or_insert(prefix.bytes) != prefix.bytes {
                return None;
            }
            self.at += prefix.length;
            self.string_body(&prefix, &mut text, &mut bytes)?;
            self.space();
        }
        Some(if is_bytes? { Literal::Bytes(bytes) } else { Literal::Str(text) })
    }

    fn string_body(&mut self, prefix: &Prefix, text: &mut String, bytes: &mut Vec<u8>) -> Option<()> {
        let quote = self.peek()?;
        let triple = self.peek_at(1) == Some(quote) && self.peek_at(2) == Some(quote);
        self.at += if triple { 3 } else { 1 };
        loop {
            let char = self.rest().chars().next()?;
            self.at += char.len_utf8();
            let closes =
                char as u32 == u32::from(quote) && (!triple || (self.peek() == Some(quote) && self.peek_at(1) == Some(quote)));
            if closes {
                self.at += if triple { 2 } else { 0 };
                return Some(());
            }
            if (!triple && matches!(char, '\n' | '\r')) || (prefix.bytes && !char.is_ascii()) || char == '\0' {
                return None;
            }
            match char {
                '\\' if prefix.raw => {
                    let next = self.rest().chars().next()?;
                    self.at += next.len_utf8();
                    push(text, bytes, '\\');
                    push(text, bytes, next);
                }
                '\\' => self.escape(prefix.bytes, text, bytes)?,
                '\r' => {
                    self.take(b'\n');
                    push(text, bytes, '\n');
                }
                char => push(text, bytes, char),
            }
        }
    }

    fn escape(&mut self, is_bytes: bool, text: &mut String, bytes: &mut Vec<u8>) -> Option<()> {
        let char = self.rest().chars().next()?;
        self.at += char.len_utf8();
        let code = match char {
            '\n' => return Some(()),
            '\\' | '\'' | '"' => char as u32,
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '0'..='7' => {
                let digits = self.rest().bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let code = u32::from_str_radix(self.text.get(self.at - 1..self.at + digits)?, 8).ok()?;
                self.at += digits;
                code
            }
            'x' => self.hex(2)?,
            'u' if !is_bytes => self.hex(4)?,
            'U' if !is_bytes => self.hex(8)?,
            'N' if !is_bytes => return None,
            other => {
                push(text, bytes, '\\');
                other as u32
            }
        };
        if is_bytes {
            bytes.push((code & 0xff) as u8);
        } else {
            // A Rust string cannot contain a lone surrogate.
            text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        (code <= 0x10_ffff).then_some(())
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.text.get(self.at..self.at + digits)?;
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += digits;
        u32::from_str_radix(text, 16).ok()
    }

    fn number(&mut self) -> Option<Literal> {
        let rest = self.rest();
        let length = number_length(rest)?;
        self.at += length;
        let value = read_number(rest.get(..length)?);
        let after = self.rest().chars().next();
        if after.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') {
            return None; // A complex number, a name right after the number, or a second point.
        }
        value
    }
}

fn push(text: &mut String, bytes: &mut Vec<u8>, char: char) {
    text.push(char);
    bytes.push((char as u32 & 0xff) as u8);
}

struct Prefix {
    length: usize,
    raw: bool,
    bytes: bool,
}

fn string_prefix(text: &str) -> Option<Prefix> {
    let length = text.bytes().position(|b| matches!(b, b'\'' | b'"'))?;
    let word = text.get(..length).filter(|word| word.len() <= 2)?.to_ascii_lowercase();
    let (raw, bytes) = match word.as_str() {
        "" | "u" => (false, false),
        "r" => (true, false),
        "b" => (false, true),
        "rb" | "br" => (true, true),
        _ => return None,
    };
    Some(Prefix { length, raw, bytes })
}
