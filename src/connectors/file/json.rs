//! The first records of JSON and JSON Lines files.
//!
//! `serde_json` parses each record. The loop around it is needed because only the beginning of a file is read: an array
//! or a record that ends with these bytes is cut off and not invalid.

use super::describe::Description;
use super::format::{Format, without_mark};
use super::types::{Kind, Seen};
use crate::model::Evidence;
use serde_json::{Map, Value, json};

/// How far a reading came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Walk {
    pub records: usize,
    /// Values that are not objects, or lines that are not JSON; they are not counted as records.
    pub odd: usize,
    /// The bytes end inside a record.
    pub cut: bool,
}

/// Hands at most `limit` records to `take`. `whole` says that the bytes are the entire file.
///
/// # Errors
/// The parser's words when the first record is not JSON, or the file ends inside its only array.
pub fn walk(
    bytes: &[u8],
    whole: bool,
    format: Format,
    limit: usize,
    take: &mut dyn FnMut(&Map<String, Value>),
) -> Result<Walk, String> {
    let text = without_mark(bytes);
    match format {
        Format::JsonLines => lines(text, whole, limit, take),
        _ => values(text, whole, limit, take),
    }
}

fn lines(text: &[u8], whole: bool, limit: usize, take: &mut dyn FnMut(&Map<String, Value>)) -> Result<Walk, String> {
    let mut walk = Walk::default();
    let mut rest = text.split_inclusive(|byte| *byte == b'\n').enumerate();
    while walk.records < limit {
        let Some((number, line)) = rest.next() else { return Ok(walk) };
        // Somebody may be writing this line now.
        let ended = line.ends_with(b"\n");
        if line.trim_ascii().is_empty() {
            continue;
        }
        if !ended && !whole {
            walk.cut = true;
            return Ok(walk);
        }
        match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(record)) => {
                walk.records += 1;
                take(&record);
            }
            Ok(_) => walk.odd += 1,
            Err(error) if walk.records == 0 => return Err(format!("line {}: {error}", number + 1)),
            Err(error) if error.is_eof() && !ended => walk.cut = true,
            Err(_) => walk.odd += 1,
        }
    }
    Ok(walk)
}

/// One array, one object, or objects one after the other.
fn values(text: &[u8], whole: bool, limit: usize, take: &mut dyn FnMut(&Map<String, Value>)) -> Result<Walk, String> {
    let mut walk = Walk::default();
    let mut rest = text.trim_ascii_start();
    let array = rest.first() == Some(&b'[');
    if array {
        rest = rest.get(1..).unwrap_or_default();
    }
    while walk.records < limit {
        rest = rest.trim_ascii_start();
        match rest.first() {
            Some(b']') if array => return Ok(walk),
            None if whole && array => return Err("the file ends inside the array".to_owned()),
            None => {
                walk.cut = !whole;
                return Ok(walk);
            }
            Some(_) => {}
        }
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        let next = stream.next();
        let used = stream.byte_offset();
        match next {
            Some(Ok(Value::Object(record))) => {
                walk.records += 1;
                take(&record);
            }
            Some(Ok(_)) => walk.odd += 1,
            Some(Err(error)) if error.is_eof() && !whole => {
                walk.cut = true;
                return Ok(walk);
            }
            Some(Err(error)) => return Err(format!("record {}: {error}", walk.records + walk.odd + 1)),
            None => return Ok(walk),
        }
        // A thousand odd values in a row are no table.
        if walk.records == 0 && walk.odd >= 1000 {
            return Ok(walk);
        }
        rest = rest.get(used..).unwrap_or_default().trim_ascii_start();
        if array {
            rest = match rest.first() {
                Some(b',') => rest.get(1..).unwrap_or_default(),
                Some(b']') => rest,
                None if !whole => {
                    walk.cut = true;
                    return Ok(walk);
                }
                None => return Err("the file ends inside the array".to_owned()),
                Some(_) => return Err(format!("record {}: expected `,` or `]` after it", walk.records + walk.odd)),
            };
        }
    }
    Ok(walk)
}

/// Fields and types of the records seen, at most `columns` of them.
#[derive(Default)]
pub struct Fields {
    seen: std::collections::BTreeMap<String, Seen>,
    beyond: std::collections::BTreeSet<String>,
    columns: usize,
}

impl Fields {
    /// Collects at most `columns` fields.
    #[must_use]
    pub fn new(columns: usize) -> Fields {
        Fields { columns, ..Fields::default() }
    }

    /// Adds one record.
    pub fn add(&mut self, record: &Map<String, Value>) {
        for (name, value) in record {
            let kind = Kind::of_json(value);
            if let Some(seen) = self.seen.get_mut(name) {
                seen.add(kind);
            } else if self.seen.len() < self.columns {
                self.seen.entry(name.clone()).or_default().add(kind);
            } else if self.beyond.len() < 100_000 {
                // Counted up to a bound of their own: records may all have different fields.
                self.beyond.insert(name.clone());
            }
        }
    }

    /// The description of all records added.
    #[must_use]
    pub fn describe(self, walk: &Walk) -> Description {
        let mut notes = Evidence::new();
        if walk.records == 0 {
            notes.insert("note".to_owned(), json!("empty"));
        }
        if walk.odd > 0 {
            notes.insert("values_that_are_no_objects".to_owned(), json!(walk.odd));
        }
        Description {
            columns: self.seen.len() + self.beyond.len(),
            truncated: !self.beyond.is_empty(),
            properties: self.seen.into_iter().map(|(name, seen)| (name, seen.of_json())).collect(),
            rows_seen: walk.records,
            notes,
            ..Description::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, whole: bool, format: Format) -> Result<(Walk, Description), String> {
        let mut fields = Fields::new(3);
        let walk = walk(text.as_bytes(), whole, format, 100, &mut |record| fields.add(record))?;
        let description = fields.describe(&walk);
        Ok((walk, description))
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
            let (walk, _) = read(text, true, Format::Json).unwrap();
            assert_eq!((walk.records, walk.cut), (records, false), "{text}");
        }
        let (_, found) = read(r#"[{"a":1,"at":"2026-01-02"},{"a":2.5,"d":{"e":1}}]"#, true, Format::Json).unwrap();
        assert_eq!(found.properties["a"], json!({"type": ["null", "number"]}));
        assert_eq!(found.properties["at"]["format"], "date");
        assert_eq!(found.properties["d"], json!({"type": ["null", "object"]}));
    }

    #[test]
    fn a_cut_is_known_for_what_it_is() {
        let part = r#"[{"a":1},{"a":"#;
        assert_eq!(read(part, false, Format::Json).unwrap().0, Walk { records: 1, odd: 0, cut: true });
        assert!(read(part, true, Format::Json).unwrap_err().contains("EOF"));
        assert!(read(r#"[{"a":1}"#, true, Format::Json).unwrap_err().contains("ends inside the array"));
        assert!(read("[", true, Format::Json).is_err());
        assert!(read(r#"[{"a":1} {"a":2}]"#, true, Format::Json).unwrap_err().contains("expected"));
    }

    #[test]
    fn lines_being_appended_do_not_break() {
        let (walk, _) = read("{\"a\":1}\n\n{\"a\":2}\n{\"a\":", true, Format::JsonLines).unwrap();
        assert_eq!(walk, Walk { records: 2, odd: 0, cut: true });
        let (walk, _) = read("{\"a\":1}\nnot json\n[1]\n{\"a\":2}", true, Format::JsonLines).unwrap();
        assert_eq!(walk, Walk { records: 2, odd: 2, cut: false });
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
                if let Ok(found) = walk(&bytes, whole, format, 3, &mut |_| {}) {
                    prop_assert!(found.records <= 3);
                }
            }
        }

        #[test]
        fn any_prefix_of_an_array_is_a_prefix(rows in 0usize..6, at in 0usize..80) {
            let text = Value::Array((0..rows).map(|n| json!({"n": n, "t": "x,]}"})).collect()).to_string();
            let cut = text.as_bytes().get(..at.min(text.len())).unwrap();
            let found = walk(cut, false, Format::Json, 100, &mut |_| {}).unwrap();
            prop_assert!(found.records <= rows);
            prop_assert!(found.cut || found.records == rows);
        }
    }
}
