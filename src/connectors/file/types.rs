//! Infers the type of a column from its values.

use serde_json::{Value, json};

/// The kind of value that a text or a JSON value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ValueKind {
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

/// Kinds between which a column may vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Boolean,
    Number,
    Time,
    Text,
    Nested,
}

impl Family {
    /// The family of one kind; an empty value counts as text.
    #[must_use]
    pub fn from_kind(kind: ValueKind) -> Family {
        match kind {
            ValueKind::Boolean => Family::Boolean,
            ValueKind::Integer | ValueKind::Number => Family::Number,
            ValueKind::Date | ValueKind::Local | ValueKind::Zoned => Family::Time,
            ValueKind::Empty | ValueKind::Text => Family::Text,
            ValueKind::Object | ValueKind::Array => Family::Nested,
        }
    }
}

/// The set of kinds that occur in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnKinds(u16);

impl ValueKind {
    /// All kinds except `Empty`.
    const VALUES: [ValueKind; 9] = [
        ValueKind::Boolean,
        ValueKind::Integer,
        ValueKind::Number,
        ValueKind::Date,
        ValueKind::Local,
        ValueKind::Zoned,
        ValueKind::Text,
        ValueKind::Object,
        ValueKind::Array,
    ];

    /// The kind of a text cell. `007` is text, because a number would lose the leading zeros.
    #[must_use]
    pub fn from_text(text: &str) -> ValueKind {
        let text = text.trim();
        match text.as_bytes().first() {
            None => ValueKind::Empty,
            Some(b'0'..=b'9' | b'-' | b'.') => numeric(text).or_else(|| date_or_time(text)).unwrap_or(ValueKind::Text),
            Some(b't' | b'T' | b'f' | b'F') if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => {
                ValueKind::Boolean
            }
            Some(_) => ValueKind::Text,
        }
    }

    /// The kind of a JSON value, judged by its text.
    #[must_use]
    pub fn from_json(text: &str) -> ValueKind {
        let text = text.trim();
        match text.as_bytes().first() {
            None | Some(b'n') => ValueKind::Empty,
            Some(b't' | b'f') => ValueKind::Boolean,
            Some(b'{') => ValueKind::Object,
            Some(b'[') => ValueKind::Array,
            Some(b'"') => date_or_time(text.trim_matches('"')).unwrap_or(ValueKind::Text),
            Some(_) if text.contains(['.', 'e', 'E']) => ValueKind::Number,
            Some(_) => ValueKind::Integer,
        }
    }
}

fn numeric(text: &str) -> Option<ValueKind> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes().get(1) != Some(&b'.');
    if leading_zero || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    if text.parse::<i64>().is_ok() {
        return Some(ValueKind::Integer);
    }
    // A run of digits that is too long for an i64 is treated as an identifier, because a float would not preserve it.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|_| ValueKind::Number)
}

fn date_or_time(text: &str) -> Option<ValueKind> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes.len() > 40 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    if bytes.len() == 10 {
        return text.parse::<jiff::civil::Date>().ok().map(|_| ValueKind::Date);
    }
    if !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let zoned = bytes.iter().skip(11).any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
    match zoned {
        true => text.parse::<jiff::Timestamp>().ok().map(|_| ValueKind::Zoned),
        false => text.parse::<jiff::civil::DateTime>().ok().map(|_| ValueKind::Local),
    }
}

impl ColumnKinds {
    /// Adds one value.
    pub fn add(&mut self, kind: ValueKind) {
        self.0 |= kind as u16;
    }

    /// The family of all values. Returns `None` if the values belong to several families or there is no value.
    #[must_use]
    pub fn family(self) -> Option<Family> {
        let mut families = ValueKind::VALUES.into_iter().filter(|kind| self.has(*kind)).map(Family::from_kind);
        let first = families.next()?;
        families.all(|other| other == first).then_some(first)
    }

    fn has(self, kind: ValueKind) -> bool {
        self.0 & kind as u16 != 0
    }

    fn only(self, kind: ValueKind) -> bool {
        self.0 & !(ValueKind::Empty as u16) == kind as u16
    }

    /// The JSON schema of a column in a text file. Mixed kinds become text. Every column is nullable, because the format does
    /// not promise values. A first empty cell in row 5000 must not count as a schema change.
    #[must_use]
    pub fn text_schema(self) -> Value {
        let numbers = ValueKind::Integer as u16 | ValueKind::Number as u16;
        let kinds = self.0 & !(ValueKind::Empty as u16);
        if kinds != 0 && kinds & !numbers == 0 {
            return json!({"type": ["null", if self.has(ValueKind::Number) { "number" } else { "integer" }]});
        }
        if self.only(ValueKind::Boolean) {
            return json!({"type": ["null", "boolean"]});
        }
        self.string_schema()
    }

    /// The JSON schema of a JSON field. It is a union if the values have different types.
    #[must_use]
    pub fn json_schema(self) -> Value {
        let strings = ValueKind::Date as u16 | ValueKind::Local as u16 | ValueKind::Zoned as u16 | ValueKind::Text as u16;
        let mut types = vec!["null"];
        let mut push = |present: bool, name| {
            if present {
                types.push(name);
            }
        };
        push(self.has(ValueKind::Boolean), "boolean");
        push(self.has(ValueKind::Integer) && !self.has(ValueKind::Number), "integer");
        push(self.has(ValueKind::Number), "number");
        push(self.has(ValueKind::Object), "object");
        push(self.has(ValueKind::Array), "array");
        push(self.0 & strings != 0, "string");
        match types.as_slice() {
            ["null"] | ["null", "string"] => self.string_schema(),
            _ => json!({"type": types}),
        }
    }

    fn string_schema(self) -> Value {
        if self.only(ValueKind::Date) {
            json!({"type": ["null", "string"], "format": "date"})
        } else if self.only(ValueKind::Zoned) {
            json!({"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_with_timezone"})
        } else if self.only(ValueKind::Local) {
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
        let mut kinds = ColumnKinds::default();
        cells.iter().for_each(|cell| kinds.add(ValueKind::from_text(cell)));
        let schema = kinds.text_schema();
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
        let mut kinds = ColumnKinds::default();
        for value in ["1", "\"a\"", "null", "1.5"] {
            kinds.add(ValueKind::from_json(value));
        }
        assert_eq!(kinds.json_schema(), json!({"type": ["null", "number", "string"]}));
        assert_eq!(ColumnKinds::default().json_schema(), json!({"type": ["null", "string"]}));
    }

    proptest! {
        #[test]
        fn any_text_has_a_kind(text in "\\PC{0,40}") {
            let mut kinds = ColumnKinds::default();
            kinds.add(ValueKind::from_text(&text));
            prop_assert_eq!(&kinds.text_schema()["type"][0], "null");
        }

        #[test]
        fn integers_are_integers(number: i64) {
            prop_assert_eq!(ValueKind::from_text(&number.to_string()), ValueKind::Integer);
        }
    }
}
