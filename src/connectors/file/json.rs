//! The first records of JSON and JSON Lines files.
//!
//! `serde_json` parses each record. The loop around it is needed because only the beginning of a file is read. If these bytes
//! end inside an array or a record, it is only cut off and not invalid.

use super::describe::Description;
use super::format::{Format, without_bom};
use super::types::{ColumnKinds, ValueKind};
use crate::model::Evidence;
use serde_json::{Map, Value, json};

/// The result of a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonScan {
    pub records: usize,
    /// Values that are not objects, or lines that are not JSON. They are not counted as records.
    pub odd: usize,
    /// Whether the bytes end inside a record.
    pub cut: bool,
}

/// Passes at most `limit` records to `take`. `whole` means that the bytes are the entire file.
///
/// # Errors
/// The parser's message if the first record is not valid JSON or the file ends inside its only array.
pub fn scan(
    bytes: &[u8],
    whole: bool,
    format: Format,
    limit: usize,
    take: &mut dyn FnMut(&Map<String, Value>),
) -> Result<JsonScan, String> {
    let text = without_bom(bytes);
    match format {
        Format::JsonLines => lines(text, whole, limit, take),
        _ => values(text, whole, limit, take),
    }
}

fn lines(text: &[u8], whole: bool, limit: usize, take: &mut dyn FnMut(&Map<String, Value>)) -> Result<JsonScan, String> {
    let mut scan = JsonScan::default();
    let mut rest = text.split_inclusive(|byte| *byte == b'\n').enumerate();
    while scan.records < limit {
        let Some((number, line)) = rest.next() else { return Ok(scan) };
        // A line without its newline may still be in the process of being written.
        let ended = line.ends_with(b"\n");
        if line.trim_ascii().is_empty() {
            continue;
        }
        if !ended && !whole {
            scan.cut = true;
            return Ok(scan);
        }
        match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(record)) => {
                scan.records += 1;
                take(&record);
            }
            Ok(_) => scan.odd += 1,
            Err(error) if scan.records == 0 => return Err(format!("line {}: {error}", number + 1)),
            Err(error) if error.is_eof() && !ended => scan.cut = true,
            Err(_) => scan.odd += 1,
        }
    }
    Ok(scan)
}

/// Scans one array, one object, or a sequence of objects.
fn values(text: &[u8], whole: bool, limit: usize, take: &mut dyn FnMut(&Map<String, Value>)) -> Result<JsonScan, String> {
    let mut scan = JsonScan::default();
    let mut rest = text.trim_ascii_start();
    let array = rest.first() == Some(&b'[');
    if array {
        rest = rest.get(1..).unwrap_or_default();
    }
    while scan.records < limit {
        rest = rest.trim_ascii_start();
        match rest.first() {
            Some(b']') if array => return Ok(scan),
            None if whole && array => return Err("the file ends inside the array".to_owned()),
            None => {
                scan.cut = !whole;
                return Ok(scan);
            }
            Some(_) => {}
        }
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        let next = stream.next();
        let used = stream.byte_offset();
        match next {
            Some(Ok(Value::Object(record))) => {
                scan.records += 1;
                take(&record);
            }
            Some(Ok(_)) => scan.odd += 1,
            Some(Err(error)) if error.is_eof() && !whole => {
                scan.cut = true;
                return Ok(scan);
            }
            Some(Err(error)) => return Err(format!("record {}: {error}", scan.records + scan.odd + 1)),
            None => return Ok(scan),
        }
        // A file whose first thousand values do not include an object is not a table.
        if scan.records == 0 && scan.odd >= 1000 {
            return Ok(scan);
        }
        rest = rest.get(used..).unwrap_or_default().trim_ascii_start();
        if array {
            rest = match rest.first() {
                Some(b',') => rest.get(1..).unwrap_or_default(),
                Some(b']') => rest,
                None if !whole => {
                    scan.cut = true;
                    return Ok(scan);
                }
                None => return Err("the file ends inside the array".to_owned()),
                Some(_) => return Err(format!("record {}: expected `,` or `]` after it", scan.records + scan.odd)),
            };
        }
    }
    Ok(scan)
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

    /// Adds one record.
    pub fn add(&mut self, record: &Map<String, Value>) {
        for (name, value) in record {
            let kind = ValueKind::from_json(value);
            if let Some(kinds) = self.kinds.get_mut(name) {
                kinds.add(kind);
            } else if self.kinds.len() < self.columns {
                self.kinds.entry(name.clone()).or_default().add(kind);
            } else if self.beyond.len() < 100_000 {
                // Fields beyond the limit are only counted. The count has its own limit, because every record may
                // have different fields.
                self.beyond.insert(name.clone());
            }
        }
    }

    /// The description of all records added.
    #[must_use]
    pub fn describe(self, scan: &JsonScan) -> Description {
        let mut notes = Evidence::new();
        if scan.records == 0 {
            notes.insert("note".to_owned(), json!("empty"));
        }
        if scan.odd > 0 {
            notes.insert("values_not_objects".to_owned(), json!(scan.odd));
        }
        Description {
            columns: self.kinds.len() + self.beyond.len(),
            truncated: !self.beyond.is_empty(),
            properties: self.kinds.into_iter().map(|(name, kinds)| (name, kinds.json_schema())).collect(),
            rows_seen: scan.records,
            notes,
            ..Description::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, whole: bool, format: Format) -> Result<(JsonScan, Description), String> {
        let mut fields = FieldKinds::new(3);
        let scan = scan(text.as_bytes(), whole, format, 100, &mut |record| fields.add(record))?;
        let description = fields.describe(&scan);
        Ok((scan, description))
    }

    #[test]
    fn arrays_objects_and_sequences() {
        for (text, records) in [
            (r#"[{"a":1},{"a":2.5}]"#, 2),
            (r#" {"a":1} "#, 1),
            ("{\"a\":1}\n{\"a\":2}\n", 2),
            ("[]", 0),
            ("[ {\"a\": 1} , {\"b\": [1]} ]\n", 2),
        ] {
            let (scan, _) = read(text, true, Format::Json).unwrap();
            assert_eq!((scan.records, scan.cut), (records, false), "{text}");
        }
        let (_, found) = read(r#"[{"a":1,"at":"2026-01-02"},{"a":2.5,"d":{"e":1}}]"#, true, Format::Json).unwrap();
        assert_eq!(found.properties["a"], json!({"type": ["null", "number"]}));
        assert_eq!(found.properties["at"]["format"], "date");
        assert_eq!(found.properties["d"], json!({"type": ["null", "object"]}));
    }

    #[test]
    fn a_truncated_file_is_recognised() {
        let part = r#"[{"a":1},{"a":"#;
        assert_eq!(read(part, false, Format::Json).unwrap().0, JsonScan { records: 1, odd: 0, cut: true });
        assert!(read(part, true, Format::Json).unwrap_err().contains("EOF"));
        assert!(read(r#"[{"a":1}"#, true, Format::Json).unwrap_err().contains("ends inside the array"));
        assert!(read("[", true, Format::Json).is_err());
        assert!(read(r#"[{"a":1} {"a":2}]"#, true, Format::Json).unwrap_err().contains("expected"));
    }

    #[test]
    fn lines_being_appended_do_not_break() {
        let (scan, _) = read("{\"a\":1}\n\n{\"a\":2}\n{\"a\":", true, Format::JsonLines).unwrap();
        assert_eq!(scan, JsonScan { records: 2, odd: 0, cut: true });
        let (scan, _) = read("{\"a\":1}\nnot json\n[1]\n{\"a\":2}", true, Format::JsonLines).unwrap();
        assert_eq!(scan, JsonScan { records: 2, odd: 2, cut: false });
        assert!(read("{\"a\" 1}\n", true, Format::JsonLines).unwrap_err().starts_with("line 1"));
        assert_eq!(read("", true, Format::JsonLines).unwrap().1.notes["note"], "empty");
    }

    #[test]
    fn depth_and_width_are_bounded() {
        let deep = "[".repeat(100_000);
        assert!(read(&deep, true, Format::Json).unwrap_err().contains("recursion limit"));
        let nested = format!("{{\"a\":{deep}");
        assert!(read(&nested, true, Format::JsonLines).unwrap_err().contains("recursion limit"));
        let (_, found) = read(r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, true, Format::Json).unwrap();
        assert_eq!((found.columns, found.properties.len(), found.truncated), (5, 3, true));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>, whole: bool) {
            for format in [Format::Json, Format::JsonLines] {
                if let Ok(found) = scan(&bytes, whole, format, 3, &mut |_| {}) {
                    prop_assert!(found.records <= 3);
                }
            }
        }

        #[test]
        fn any_prefix_of_an_array_is_a_prefix(rows in 0usize..6, at in 0usize..80) {
            let text = Value::Array((0..rows).map(|n| json!({"n": n, "t": "x,]}"})).collect()).to_string();
            let cut = text.as_bytes().get(..at.min(text.len())).unwrap();
            let found = scan(cut, false, Format::Json, 100, &mut |_| {}).unwrap();
            prop_assert!(found.records <= rows);
            prop_assert!(found.cut || found.records == rows);
        }
    }
}
