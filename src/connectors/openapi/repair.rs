//! Makes JSON readable that strict readers refuse for one value: a lone surrogate, a number beyond the range of a double,
//! a control character in a string, or `NaN`.
//!
//! Generators of descriptions write such values, mostly in examples and patterns that AAM does not use. This module is pure.

/// Returns `text` with these values replaced: a lone surrogate by U+FFFD, a control character by its escape, and a number
/// that JSON readers do not accept by `null`.
#[must_use]
pub fn repaired(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string(rest, &mut out),
            '-' | '+' | '.' | '0'..='9' | 'N' | 'I' => number(rest, &mut out),
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// Copies the string at the beginning of `text`; returns its length in bytes.
fn string(text: &str, out: &mut String) -> usize {
    out.push('"');
    let mut at = 1;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        match c {
            '"' => {
                out.push('"');
                return at + 1;
            }
            '\\' => {
                let (length, escape) = escape(text.get(at..).unwrap_or_default());
                out.push_str(escape);
                at += length;
                continue;
            }
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
        at += c.len_utf8();
    }
    text.len()
}

/// The length of the escape at the beginning of `text`, and what it becomes.
fn escape(text: &str) -> (usize, &str) {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, &text[..12]),
        (Some(0xD800..=0xDFFF), _) => (6, "\\ufffd"),
        _ => {
            let length = 1 + text.chars().nth(1).map_or(0, char::len_utf8);
            (length, text.get(..length).unwrap_or_default())
        }
    }
}

/// Copies the number at the beginning of `text`, or writes `null` in its place; returns its length in bytes.
fn number(text: &str, out: &mut String) -> usize {
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')).unwrap_or(text.len());
    let token = text.get(..length).unwrap_or_default();
    let special = matches!(token.trim_start_matches(['-', '+']), "NaN" | "Infinity" | "Inf");
    let infinite = || token.parse::<f64>().is_ok_and(f64::is_infinite);
    out.push_str(if special || infinite() { "null" } else { token });
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(text: &str) -> Value {
        serde_json::from_str(&repaired(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn one_bad_value_does_not_lose_the_rest() {
        assert_eq!(read(r#"{"a":"x\ud800y","b":1}"#), json!({"a": "x\u{fffd}y", "b": 1}));
        assert_eq!(read(r#"{"a":"\udc00\ud83d\ude00\\u","b":1}"#), json!({"a": "\u{fffd}😀\\u", "b": 1}));
        assert_eq!(read(r#"{"a":1e400,"b":-1e999,"c":NaN,"d":-Infinity,"e":1}"#)["e"], 1);
        assert_eq!(read("{\"a\":\"x\ny\"}"), json!({"a": "x\ny"}));
    }

    proptest! {
        #[test]
        fn any_text_ends(text: String, json in "[{}\\[\\]\"\\\\u0-9dDnN.eE+-]{0,60}") {
            let _ = (repaired(&text), repaired(&json));
        }

        #[test]
        fn valid_json_is_not_changed(text in "\\PC{0,20}", number: f64, int: i64) {
            let value = json!({"t": text, "n": number, "i": int, "l": [null, true]});
            prop_assert_eq!(read(&value.to_string()), value);
        }
    }
}
