//! The first records of JSON and JSON Lines files.
//!
//! `serde_json` splits the text into records and fields; values keep their text, from which their type follows. So no file
//! is refused for the depth of its values, for a number that no type of this machine holds, or for half of a surrogate
//! pair, all of which JSON allows. The loop around it is needed because only the beginning of a file is read: if the bytes
//! end inside an array or a record, it is cut off and not invalid.

use super::describe::Description;
use super::format::Format;
use super::types::{ColumnKinds, ValueKind};
use crate::model::Evidence;
use crate::model::text::counted;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::json;
use serde_json::value::RawValue;

/// The result of a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonScan {
    pub records: usize,
    /// Values that are not objects. They are not counted as records.
    pub odd: usize,
    /// Lines that are not JSON, in a file of JSON Lines.
    pub invalid_lines: usize,
    /// The first of these lines, counted from one.
    pub first_invalid_line: usize,
    /// Whether the bytes end inside a record, or before the end of the array.
    pub cut: bool,
    /// The number of the last line, counted from one, if the file ends inside its record.
    pub cut_line: Option<usize>,
    /// Where a comma stands that no value follows, such as in `[1,]`.
    pub trailing_comma: Option<String>,
}

/// Takes the name of a field and the text of its value. Values are not parsed, so neither their depth nor the size of
/// their numbers matters.
pub type TakeField<'a> = dyn FnMut(&str, &str) + 'a;

/// Passes the fields of the first `limit` records to `take` and checks that everything behind them is JSON, too. `whole` means that
/// the bytes are the entire file. The bytes are UTF-8 without a byte order mark.
///
/// # Errors
/// Where and why the text is not JSON. In JSON Lines, only a first line that is not JSON is an error; later ones are counted.
pub fn scan(text: &[u8], whole: bool, format: Format, limit: usize, take: &mut TakeField<'_>) -> Result<JsonScan, String> {
    match format {
        Format::JsonLines => lines(text, whole, limit, take),
        _ => values(text, whole, limit, take),
    }
}

/// Whether a text that is named otherwise is JSON: an object, or an array that begins with an object.
#[must_use]
pub fn is_json(text: &[u8], whole: bool) -> bool {
    let begins = matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
    begins && values(text, whole, 1, &mut |_, _| {}).is_ok_and(|scan| scan.records > 0)
}

fn lines(text: &[u8], whole: bool, limit: usize, take: &mut TakeField<'_>) -> Result<JsonScan, String> {
    let mut scan = JsonScan::default();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // A line without its newline may still be in the process of being written.
        let ended = line.ends_with(b"\n");
        if line.trim_ascii().is_empty() {
            continue;
        }
        if !ended && !whole {
            scan.cut = true;
            break;
        }
        match serde_json::from_slice::<&RawValue>(line) {
            Ok(value) if is_object(value) => {
                scan.records += 1;
                if scan.records <= limit {
                    fields(value, take);
                }
            }
            Ok(_) => scan.odd += 1,
            Err(error) if scan.records + scan.odd == 0 => return Err(format!("line {}: {error}", number + 1)),
            Err(error) if error.is_eof() && !ended => {
                scan.cut = true;
                scan.cut_line = Some(number + 1);
            }
            Err(_) => {
                scan.invalid_lines += 1;
                scan.first_invalid_line = if scan.invalid_lines == 1 { number + 1 } else { scan.first_invalid_line };
            }
        }
    }
    Ok(scan)
}

/// Scans one array, one object, or a sequence of objects.
fn values(text: &[u8], whole: bool, limit: usize, take: &mut TakeField<'_>) -> Result<JsonScan, String> {
    let mut scan = JsonScan::default();
    let mut rest = text.trim_ascii_start();
    let array = rest.first() == Some(&b'[');
    if array {
        rest = rest.get(1..).unwrap_or_default();
    }
    let at = |rest: &[u8]| position(text, text.len() - rest.len());
    let number = |scan: &JsonScan| scan.records + scan.odd;
    // The text from the comma that separates the last value from the next one.
    let mut comma: Option<&[u8]> = None;
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            Some(b']') if array => {
                scan.trailing_comma = comma.map(at);
                let behind = rest.get(1..).unwrap_or_default().trim_ascii_start();
                return match behind.is_empty() {
                    true => Ok(scan),
                    false => Err(format!("the array ends, but more text follows {}", at(behind))),
                };
            }
            None if whole && array => return Err("the file ends inside the array".to_owned()),
            None => {
                scan.cut = !whole;
                return Ok(scan);
            }
            Some(_) => {}
        }
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        let next = stream.next();
        let used = stream.byte_offset();
        match next {
            Some(Ok(value)) if is_object(value) => {
                scan.records += 1;
                if scan.records <= limit {
                    fields(value, take);
                }
            }
            Some(Ok(_)) => scan.odd += 1,
            Some(Err(error)) if error.is_eof() && !whole => {
                scan.cut = true;
                return Ok(scan);
            }
            Some(Err(error)) => {
                // The parser counts lines from the beginning of this value, so its position is left out.
                let why = error.to_string();
                let why = why.split(" at line ").next().unwrap_or_default();
                return Err(format!("value {}, which begins {}: {why}", number(&scan) + 1, at(rest)));
            }
            None => return Ok(scan),
        }
        rest = rest.get(used..).unwrap_or_default().trim_ascii_start();
        if array {
            comma = rest.first().filter(|byte| **byte == b',').map(|_| rest);
            rest = match rest.first() {
                Some(b',') => rest.get(1..).unwrap_or_default(),
                Some(b']') => rest,
                None if !whole => {
                    scan.cut = true;
                    return Ok(scan);
                }
                None => return Err("the file ends inside the array".to_owned()),
                Some(_) => return Err(format!("value {}: expected `,` or `]` {}", number(&scan), at(rest))),
            };
        }
    }
}

/// Line and column of a byte, both counted from one.
fn position(text: &[u8], at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    format!("at line {line}, column {column}")
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Passes the fields of an object to `take`. The parser has already checked the object.
fn fields(value: &RawValue, take: &mut TakeField<'_>) {
    let _ = serde_json::Deserializer::from_str(value.get()).deserialize_map(FieldVisitor(take));
}

struct FieldVisitor<'t, 'f>(&'t mut TakeField<'f>);

impl<'de> Visitor<'de> for FieldVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key()? {
            (self.0)(&name, map.next_value::<&'de RawValue>()?.get());
        }
        Ok(())
    }
}

/// The name of a field. As bytes, because the parser refuses half of a surrogate pair in a text only.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("the name of a field")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

/// The fields of the records added so far and their kinds, at most `columns` fields.
#[derive(Default)]
pub struct FieldKinds {
    kinds: std::collections::BTreeMap<String, ColumnKinds>,
    beyond: std::collections::BTreeSet<String>,
    columns: usize,
}

impl FieldKinds {
    /// Collects at most `columns` fields.
    #[must_use]
    pub fn new(columns: usize) -> FieldKinds {
        FieldKinds { columns, ..FieldKinds::default() }
    }

    /// Adds a field of a record.
    pub fn add(&mut self, name: &str, value: &str) {
        let kind = ValueKind::from_json(value);
        if let Some(kinds) = self.kinds.get_mut(name) {
            kinds.add(kind);
        } else if self.kinds.len() < self.columns {
            self.kinds.entry(name.to_owned()).or_default().add(kind);
        } else if self.beyond.len() < 100_000 {
            // Fields beyond the limit are only counted. The count has its own limit, because every record may
            // have different fields.
            self.beyond.insert(name.to_owned());
        }
    }

    /// The description of the records added, which are the first `limit` records of `scan`.
    #[must_use]
    pub fn describe(self, scan: &JsonScan, limit: usize) -> Description {
        let mut notes = Evidence::new();
        if scan.records == 0 {
            notes.insert("note".to_owned(), json!("empty"));
        }
        let mut warnings = Vec::new();
        if scan.odd > 0 {
            notes.insert("values_not_objects".to_owned(), json!(scan.odd));
            let all = counted(scan.odd + scan.records, "value");
            warnings.push(format!("{} of {all} {} not an object", scan.odd, if scan.odd == 1 { "is" } else { "are" }));
        }
        if scan.invalid_lines > 0 {
            notes.insert("lines_not_json".to_owned(), json!(scan.invalid_lines));
            let lines = counted(scan.invalid_lines, "line");
            let are = if scan.invalid_lines == 1 { "is" } else { "are" };
            warnings.push(format!("{lines} {are} not valid JSON; the first is line {}", scan.first_invalid_line));
        }
        if let Some(line) = scan.cut_line {
            notes.insert("end".to_owned(), json!("damaged: the last line is incomplete"));
            warnings.push(format!(
                "the file ends inside the record of line {line}, which was left out: it is truncated, or is still being written"
            ));
        }
        if let Some(comma) = &scan.trailing_comma {
            notes.insert("end".to_owned(), json!("damaged: a comma stands before the end of the array"));
            warnings.push(format!("the array ends after a comma {comma}, which is not valid JSON: a record may be missing"));
        }
        Description {
            columns: self.kinds.len() + self.beyond.len(),
            truncated: !self.beyond.is_empty(),
            properties: self.kinds.into_iter().map(|(name, kinds)| (name, kinds.json_schema())).collect(),
            rows_seen: scan.records.min(limit),
            notes,
            warnings,
            ..Description::default()
        }
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
