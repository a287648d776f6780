//! Types of columns, from the values seen in them.

use serde_json::{Value, json};

/// What one value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    Empty = 1,
    Boolean = 2,
    Integer = 4,
    Number = 8,
    Date = 16,
    /// Date and time without offset.
    Local = 32,
    /// Date and time with offset.
    Zoned = 64,
    Text = 128,
    Object = 256,
    Array = 512,
}

/// The kinds seen in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u16);

impl Kind {
    /// The kind of a cell of text. `007` is text: a leading zero would be lost in a number.
    #[must_use]
    pub fn of_text(text: &str) -> Kind {
        let text = text.trim();
        match text.as_bytes().first() {
            None => Kind::Empty,
            Some(b'0'..=b'9' | b'-' | b'.') => numeric(text).or_else(|| moment(text)).unwrap_or(Kind::Text),
            Some(b't' | b'T' | b'f' | b'F') if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => {
                Kind::Boolean
            }
            Some(_) => Kind::Text,
        }
    }

    /// The kind of a JSON value.
    #[must_use]
    pub fn of_json(value: &Value) -> Kind {
        match value {
            Value::Null => Kind::Empty,
            Value::Bool(_) => Kind::Boolean,
            Value::Number(number) if number.is_i64() || number.is_u64() => Kind::Integer,
            Value::Number(_) => Kind::Number,
            Value::String(text) => moment(text).unwrap_or(Kind::Text),
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        }
    }
}

fn numeric(text: &str) -> Option<Kind> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes().get(1) != Some(&b'.');
    if leading_zero || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    if text.parse::<i64>().is_ok() {
        return Some(Kind::Integer);
    }
    // A longer run of digits is an identifier: a float would not keep it.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|_| Kind::Number)
}

fn moment(text: &str) -> Option<Kind> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes.len() > 40 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    if bytes.len() == 10 {
        return text.parse::<jiff::civil::Date>().ok().map(|_| Kind::Date);
    }
    if !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let zoned = bytes.iter().skip(11).any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
    match zoned {
        true => text.parse::<jiff::Timestamp>().ok().map(|_| Kind::Zoned),
        false => text.parse::<jiff::civil::DateTime>().ok().map(|_| Kind::Local),
    }
}

impl Seen {
    /// Adds one value.
    pub fn add(&mut self, kind: Kind) {
        self.0 |= kind as u16;
    }

    fn has(self, kind: Kind) -> bool {
        self.0 & kind as u16 != 0
    }

    fn only(self, kind: Kind) -> bool {
        self.0 & !(Kind::Empty as u16) == kind as u16
    }

    /// The schema of a text column. A mixture is text, and every column may be empty: the format
    /// promises nothing, so a first gap in row 5000 is no change of the structure.
    #[must_use]
    pub fn of_texts(self) -> Value {
        let numbers = Kind::Integer as u16 | Kind::Number as u16;
        let kinds = self.0 & !(Kind::Empty as u16);
        if kinds != 0 && kinds & !numbers == 0 {
            return json!({"type": ["null", if self.has(Kind::Number) { "number" } else { "integer" }]});
        }
        if self.only(Kind::Boolean) {
            return json!({"type": ["null", "boolean"]});
        }
        self.text()
    }

    /// The schema of a JSON field: a union where types really differ.
    #[must_use]
    pub fn of_json(self) -> Value {
        let strings = Kind::Date as u16 | Kind::Local as u16 | Kind::Zoned as u16 | Kind::Text as u16;
        let mut types = vec!["null"];
        let mut push = |is: bool, word| {
            if is {
                types.push(word);
            }
        };
        push(self.has(Kind::Boolean), "boolean");
        push(self.has(Kind::Integer) && !self.has(Kind::Number), "integer");
        push(self.has(Kind::Number), "number");
        push(self.has(Kind::Object), "object");
        push(self.has(Kind::Array), "array");
        push(self.0 & strings != 0, "string");
        match types.as_slice() {
            ["null"] | ["null", "string"] => self.text(),
            _ => json!({"type": types}),
        }
    }

    fn text(self) -> Value {
        if self.only(Kind::Date) {
            json!({"type": ["null", "string"], "format": "date"})
        } else if self.only(Kind::Zoned) {
            json!({"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_with_timezone"})
        } else if self.only(Kind::Local) {
            json!({"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_without_timezone"})
        } else {
            json!({"type": ["null", "string"]})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(cells: &[&str]) -> String {
        let mut seen = Seen::default();
        cells.iter().for_each(|cell| seen.add(Kind::of_text(cell)));
        let schema = seen.of_texts();
        format!("{} {}", schema["type"][1].as_str().unwrap(), schema["format"].as_str().unwrap_or("-"))
    }

    #[test]
    fn text_columns() {
        for (cells, expected) in [
            (vec!["1", "-2", ""], "integer -"),
            (vec!["1", "2.5"], "number -"),
            (vec!["1e3"], "number -"),
            (vec!["007"], "string -"),
            (vec!["0", "0.5"], "number -"),
            (vec!["12345678901234567890"], "string -"),
            (vec!["-", "1"], "string -"),
            (vec!["NaN", "1.0"], "string -"),
            (vec!["TRUE", "false"], "boolean -"),
            (vec!["true", "1"], "string -"),
            (vec!["2026-02-28"], "string date"),
            (vec!["2026-02-30"], "string -"),
            (vec!["2026-02-28T10:00:00Z", "2026-02-28T10:00:00+02:00"], "string date-time"),
            (vec!["2026-02-28 10:00:00"], "string date-time"),
            (vec!["2026-02-28", "2026-02-28T10:00:00Z"], "string -"),
            (vec!["", ""], "string -"),
        ] {
            assert_eq!(column(&cells), expected, "{cells:?}");
        }
    }

    #[test]
    fn json_fields_keep_their_union() {
        let mut seen = Seen::default();
        for value in [json!(1), json!("a"), json!(null), json!(1.5)] {
            seen.add(Kind::of_json(&value));
        }
        assert_eq!(seen.of_json(), json!({"type": ["null", "number", "string"]}));
        assert_eq!(Seen::default().of_json(), json!({"type": ["null", "string"]}));
    }

    proptest! {
        #[test]
        fn any_text_has_a_kind(text in "\\PC{0,40}") {
            let mut seen = Seen::default();
            seen.add(Kind::of_text(&text));
            prop_assert_eq!(&seen.of_texts()["type"][0], "null");
        }

        #[test]
        fn integers_are_integers(number: i64) {
            prop_assert_eq!(Kind::of_text(&number.to_string()), Kind::Integer);
        }
    }
}
