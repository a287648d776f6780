//! Numbers, durations, names and other scalar values.

use super::super::yaml::{Node, NodeKind};
use super::{Reader, Spot, describe, near, shown};
use std::ops::RangeInclusive;
use std::time::Duration;

impl Reader {
    /// Reads a number in `range`. With `above_zero`, the number must be greater than 0.
    pub fn number(&mut self, spot: &Spot<'_>, range: RangeInclusive<f64>, above_zero: bool) -> Option<f64> {
        let allowed = match above_zero {
            true => format!("a number above 0, at most {}", range.end()),
            false => format!("a number from {} to {}", range.start(), range.end()),
        };
        let Some(value) = plain(spot.node).and_then(as_number) else {
            self.wrong_type(spot, &allowed, unquote(spot.node));
            return None;
        };
        if !range.contains(&value) || (above_zero && value <= 0.0) {
            self.report(spot, format!("{} is out of range", describe(spot.node)), format!("write {allowed}"));
            return None;
        }
        // Turns -0.0, which is in range, into 0.0.
        Some(value + 0.0)
    }

    /// Reads a whole number in `range`.
    pub fn whole(&mut self, spot: &Spot<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = match range.start() == range.end() {
            true => format!("the number {}", range.end()),
            false => format!("a whole number from {} to {}", range.start(), range.end()),
        };
        let value = plain(spot.node).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
        match value.map(str::parse::<u64>) {
            Some(Ok(value)) if range.contains(&value) => Some(value),
            Some(_) => {
                self.report(spot, format!("{} is out of range", describe(spot.node)), format!("write {allowed}"));
                None
            }
            None => {
                self.wrong_type(spot, &allowed, unquote(spot.node));
                None
            }
        }
    }

    /// As [`Reader::whole`], for a 32-bit field.
    pub fn whole32(&mut self, spot: &Spot<'_>, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = range.into_inner();
        self.whole(spot, u64::from(low)..=u64::from(high)).and_then(|value| u32::try_from(value).ok())
    }

    /// Reads a duration from 1 ms to 30 days, written as a number and a unit.
    pub fn duration(&mut self, spot: &Spot<'_>) -> Option<Duration> {
        const FORM: &str = "write a whole number and a unit (ms, s, m, h or d), for example 20s";
        let NodeKind::Scalar { text, .. } = &spot.node.kind else {
            self.wrong_type(spot, "a duration", FORM);
            return None;
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        if !digits.is_empty() && unit.is_empty() {
            self.report(
                spot,
                format!("{} has no unit", describe(spot.node)),
                format!("write {digits}s for seconds; units are ms, s, m, h and d"),
            );
            return None;
        }
        let size = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        let Some(number) = digits.parse::<u64>().ok().filter(|_| size > 0) else {
            self.wrong_type(spot, "a duration", FORM);
            return None;
        };
        match number.checked_mul(size).filter(|ms| (1..=30 * 86_400_000).contains(ms)) {
            Some(ms) => Some(Duration::from_millis(ms)),
            None => {
                self.report(spot, format!("{} is out of range", describe(spot.node)), "write a duration from 1ms to 30d");
                None
            }
        }
    }

    /// Reads a size from 16 MiB to 1024 GiB, written as a whole number and a unit.
    pub fn size(&mut self, spot: &Spot<'_>) -> Option<u64> {
        const FORM: &str = "write a whole number and a unit (KiB, MiB or GiB), for example 256MiB";
        let NodeKind::Scalar { text, .. } = &spot.node.kind else {
            self.wrong_type(spot, "a size", FORM);
            return None;
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let shift = match unit.trim_start() {
            "KiB" => Some(10),
            "MiB" => Some(20),
            "GiB" => Some(30),
            _ => None,
        };
        let (Ok(number), Some(shift)) = (digits.parse::<u64>(), shift) else {
            self.wrong_type(spot, "a size", FORM);
            return None;
        };
        match number.checked_mul(1 << shift).filter(|bytes| (16 << 20..=1 << 40).contains(bytes)) {
            Some(bytes) => Some(bytes),
            None => {
                self.report(spot, format!("{} is out of range", describe(spot.node)), "write a size from 16MiB to 1024GiB");
                None
            }
        }
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self, spot: &Spot<'_>) -> Option<bool> {
        match plain(spot.node) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => {
                self.wrong_type(spot, "true or false", "write true or false without quotes");
                None
            }
        }
    }

    /// Reads a text; `what` names it in messages.
    pub fn text<'a>(&mut self, spot: &Spot<'a>, what: &str) -> Option<&'a str> {
        match &spot.node.kind {
            NodeKind::Scalar { text, .. } if !spot.node.is_null() && !text.is_empty() && !text.chars().any(char::is_control) => {
                Some(text)
            }
            _ => {
                self.wrong_type(spot, what, "");
                None
            }
        }
    }

    /// Reads a name: lower-case letters, digits, `_`, `-` and `.`, at most 63 characters.
    pub fn name(&mut self, spot: &Spot<'_>, what: &str) -> Option<String> {
        let text = self.text(spot, what)?;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        if text.len() <= 63 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
            return Some(text.to_string());
        }
        let hint = "use lower-case letters, digits, _, - and ., starting with a letter or digit, at most 63 characters";
        self.report(spot, format!("{} is not valid as {what}", shown(text)), hint);
        None
    }

    /// Reads the name of a namespace, which may be a UUID. UUIDs are written in any case.
    pub fn namespace(&mut self, spot: &Spot<'_>) -> Option<String> {
        match self.text(spot, "a namespace")? {
            text if uuid::Uuid::parse_str(text).is_ok() => Some(text.to_ascii_lowercase()),
            _ => self.name(spot, "a namespace"),
        }
    }

    /// Reads one of the values `allowed`; `what` names them in messages.
    pub fn one_of<'w>(&mut self, spot: &Spot<'_>, what: &str, allowed: &[&'w str]) -> Option<&'w str> {
        let text = self.text(spot, what)?;
        let value = allowed.iter().find(|value| **value == text);
        if value.is_none() {
            let hint = match near(text, allowed.iter().copied()) {
                Some(near) => format!("did you mean {near}? Allowed: {}", either(allowed)),
                None => format!("allowed: {}", either(allowed)),
            };
            self.report(spot, format!("{} is not a valid {what}", shown(text)), hint);
        }
        value.copied()
    }
}

/// `a, b or c`.
fn either(values: &[&str]) -> String {
    match values {
        [] => String::new(),
        [one] => (*one).to_string(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn plain(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar { text, plain: true } => Some(text),
        _ => None,
    }
}

/// Parses the numbers of the YAML 1.2 core schema, except octal, hex and infinities.
fn as_number(text: &str) -> Option<f64> {
    let shape = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|value| shape && value.is_finite())
}

fn unquote(node: &Node) -> &'static str {
    match &node.kind {
        NodeKind::Scalar { text, plain: false } if as_number(text).is_some() => "remove the quotes",
        _ => "",
    }
}
