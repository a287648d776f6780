//! Reads CSV as Python's `csv.DictReader` does with the dialect `excel`.

use super::text::Encoding;
use crate::error::Failed;
use crate::value::{Dict, Value};
use std::sync::Arc;

/// Limit on the size of a field, from Python's `csv.field_size_limit()`.
const MAX_FIELD_LENGTH: usize = 131_072;

/// The CDK's `CsvDecoder`.
#[derive(Clone, Debug)]
pub struct CsvParser {
    encoding: Encoding,
    delimiter: char,
    none: Vec<String>,
}

impl CsvParser {
    /// Reads the component `node`.
    ///
    /// # Errors
    /// TypeError if the delimiter is not one character.
    pub(super) fn build(node: &Value, encoding: Encoding) -> Result<CsvParser, Failed> {
        let text = node.get("delimiter").and_then(Value::as_str).filter(|it| !it.is_empty()).unwrap_or(",");
        let text = if text.starts_with('\\') { unescaped(text) } else { text.to_owned() };
        let mut chars = text.chars();
        let (Some(delimiter), None) = (chars.next(), chars.next()) else {
            return Err(Failed::system("TypeError", "\"delimiter\" must be a 1-character string"));
        };
        let none = node.get("set_values_to_none").and_then(Value::as_list).unwrap_or_default();
        Ok(CsvParser { encoding, delimiter, none: none.iter().map(Value::to_str).collect() })
    }

    /// Returns one dict for each row. Blank rows are left out, missing fields are None, and surplus fields become a list under
    /// the key `null`.
    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Vec<Value>, Failed> {
        let text = self.encoding.decode(bytes)?;
        let mut rows = Rows::new(&text, self.delimiter);
        let Some(names) = rows.next_row()? else { return Ok(Vec::new()) };
        let names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let mut out = Vec::new();
        while let Some(row) = rows.next_row()? {
            if !row.is_empty() {
                out.push(Value::Dict(self.record(&names, row)));
            }
        }
        Ok(out)
    }

    fn record(&self, names: &[Arc<str>], row: Vec<String>) -> Dict {
        let mut dict = Dict::with_capacity(names.len());
        let mut fields = row.into_iter();
        for name in names {
            let value = fields.next().filter(|field| !self.none.contains(field));
            dict.insert(name.clone(), value.map_or(Value::None, Value::from));
        }
        let surplus: Vec<Value> = fields.map(Value::from).collect();
        if !surplus.is_empty() {
            dict.insert("null".into(), Value::List(surplus));
        }
        dict
    }
}

/// Resolves escapes such as `\t`, as Python's codec `unicode_escape` does.
fn unescaped(text: &str) -> String {
    let rest = text.get(1..).unwrap_or_default();
    let code = |digits: &str| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).map(String::from);
    let hex = rest.strip_prefix('x').or_else(|| rest.strip_prefix('u')).and_then(code);
    match rest {
        "t" => "\t".into(),
        "n" => "\n".into(),
        "r" => "\r".into(),
        "\\" => "\\".into(),
        _ => hex.unwrap_or_else(|| text.to_owned()),
    }
}

/// The rows of a CSV text.
pub(super) struct Rows<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    delimiter: char,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    StartRecord,
    StartField,
    InField,
    InQuotes,
    QuoteInQuotes,
}

impl<'a> Rows<'a> {
    pub(super) fn new(text: &'a str, delimiter: char) -> Rows<'a> {
        Rows { chars: text.chars().peekable(), delimiter }
    }

    /// Reads the next row. A blank line is an empty row. Line breaks inside quotes are kept.
    pub(super) fn next_row(&mut self) -> Result<Option<Vec<String>>, Failed> {
        let (mut row, mut field, mut state) = (Vec::new(), String::new(), State::StartRecord);
        if self.chars.peek().is_none() {
            return Ok(None);
        }
        loop {
            let char = self.chars.next();
            match (state, char) {
                (State::StartRecord, Some('\n' | '\r')) => {
                    self.end_of_line(char);
                    return Ok(Some(row));
                }
                (State::StartRecord, None) => return Ok(Some(row)),
                (State::InQuotes, Some('"')) => state = State::QuoteInQuotes,
                (State::InQuotes, Some(char)) => field.push(char),
                (_, None) => {
                    row.push(field);
                    return Ok(Some(row));
                }
                (State::QuoteInQuotes, Some('"')) => {
                    field.push('"');
                    state = State::InQuotes;
                }
                (State::StartRecord | State::StartField, Some('"')) => state = State::InQuotes,
                (_, Some('\n' | '\r')) => {
                    self.end_of_line(char);
                    row.push(field);
                    return Ok(Some(row));
                }
                (_, Some(char)) if char == self.delimiter => {
                    row.push(std::mem::take(&mut field));
                    state = State::StartField;
                }
                (_, Some(char)) => {
                    field.push(char);
                    state = State::InField;
                }
            }
            if field.len() > MAX_FIELD_LENGTH {
                let message = format!("field larger than field limit ({MAX_FIELD_LENGTH})");
                return Err(Failed::system("Error", message));
            }
        }
    }

    /// Consumes one line break. `\r\n` counts as one line break.
    fn end_of_line(&mut self, char: Option<char>) {
        if char == Some('\r') && self.chars.peek() == Some(&'\n') {
            self.chars.next();
        }
    }
}
