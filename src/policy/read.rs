//! Typed reading that goes on after a problem, so that all of them are told at once.

use super::yaml::{Kind, MAX_PROBLEMS, Node, step};
use crate::model::problem::nearest;
use crate::model::{Place, Problem};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value and its JSON pointer.
#[derive(Clone)]
pub struct Spot<'a> {
    pub node: &'a Node,
    pub pointer: String,
}

/// The known keys of one mapping.
pub struct Fields<'a> {
    pub pointer: String,
    pub place: Place,
    entries: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Fields<'a> {
    /// The value of `name`, if it is written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Spot<'a>> {
        self.entries.get(name).map(|node| Spot {
            node,
            pointer: step(&self.pointer, name),
        })
    }
}

/// Collects problems while values are read.
pub struct Reader {
    pub problems: Vec<Problem>,
}

/// The longest text that a message repeats; a longer one may be a secret.
const SHOWN: usize = 24;

/// `text` in backquotes, or its length when it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    let length = text.chars().count();
    if length > SHOWN || text.chars().any(char::is_control) {
        format!("a text of {length} characters")
    } else {
        format!("`{text}`")
    }
}

fn found(node: &Node) -> String {
    match &node.kind {
        _ if node.is_null() => "nothing".to_string(),
        Kind::Scalar { text, plain: true } => shown(text),
        Kind::Scalar { text, plain: false } => format!("the quoted text {}", shown(text)),
        Kind::List(_) => "a list".to_string(),
        Kind::Map(_) => "a mapping".to_string(),
        Kind::Broken => "something else".to_string(),
    }
}

/// `a, b or c`.
fn either(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl Reader {
    /// Notes a problem with a value.
    pub fn complain(
        &mut self,
        spot: &Spot<'_>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.complain_at(&spot.pointer, spot.node.place, message, hint);
    }

    /// Notes a problem at a place, for what is missing.
    pub fn complain_at(
        &mut self,
        pointer: &str,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems
                .push(Problem::new(pointer, message).at(place).hint(hint));
        }
    }

    fn wrong_type(&mut self, spot: &Spot<'_>, expected: &str, hint: impl Into<String>) {
        if !matches!(spot.node.kind, Kind::Broken) {
            self.complain(
                spot,
                format!("expected {expected}, found {}", found(spot.node)),
                hint,
            );
        }
    }

    /// The mapping behind `spot`, whose keys are all of `allowed`.
    pub fn fields<'a>(&mut self, spot: &Spot<'a>, allowed: &[&str]) -> Option<Fields<'a>> {
        let Kind::Map(pairs) = &spot.node.kind else {
            let hint = if spot.node.is_null() {
                "leave the key out, or write its values".to_string()
            } else {
                keys_are(allowed)
            };
            self.wrong_type(spot, "a mapping (key: value)", hint);
            return None;
        };
        let mut entries = BTreeMap::new();
        for (key, value) in pairs {
            if allowed.contains(&key.text.as_str()) {
                entries.insert(key.text.as_str(), value);
                continue;
            }
            let hint = match nearest(&key.text, allowed.iter().copied()) {
                Some(name) => format!("did you mean {name}?"),
                None => keys_are(allowed),
            };
            self.complain_at(
                &step(&spot.pointer, &key.text),
                key.place,
                format!("unknown key {}", shown(&key.text)),
                hint,
            );
        }
        Some(Fields {
            pointer: spot.pointer.clone(),
            place: spot.node.place,
            entries,
        })
    }

    /// The entries of a mapping whose keys are names of families; unknown names are problems.
    pub fn by_family<'a>(&mut self, spot: &Spot<'a>) -> Vec<(&'a str, Spot<'a>)> {
        let Kind::Map(pairs) = &spot.node.kind else {
            self.wrong_type(
                spot,
                "a mapping of families",
                "write family: {...}, or leave the key out",
            );
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, node) in pairs {
            let pointer = step(&spot.pointer, &key.text);
            if self.known_family(&key.text, &pointer, key.place) {
                entries.push((key.text.as_str(), Spot { node, pointer }));
            }
        }
        entries
    }

    /// Whether `name` is a family; if not, that is a problem.
    pub fn known_family(&mut self, name: &str, pointer: &str, place: Place) -> bool {
        if super::known::FAMILIES.contains(&name) {
            return true;
        }
        let hint = match nearest(name, super::known::FAMILIES) {
            Some(near) => format!("did you mean {near}?"),
            None => "`aam families` lists the families there are".to_string(),
        };
        self.complain_at(
            pointer,
            place,
            format!("unknown family {}", shown(name)),
            hint,
        );
        false
    }

    /// The field `name` read by `read`, or `default` when it is not written or was wrong.
    pub fn field<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        default: T,
        read: impl FnOnce(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> T {
        fields
            .get(name)
            .and_then(|spot| read(self, &spot))
            .unwrap_or(default)
    }

    /// A field that may be left out or be null.
    pub fn optional<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        read: impl FnOnce(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> Option<T> {
        fields
            .get(name)
            .filter(|spot| !spot.node.is_null())
            .and_then(|spot| read(self, &spot))
    }

    /// A field that must be there.
    pub fn required<'a>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        hint: &str,
    ) -> Option<Spot<'a>> {
        let spot = fields.get(name);
        if spot.is_none() {
            self.complain_at(
                &fields.pointer,
                fields.place,
                format!("the key {name} is missing"),
                hint,
            );
        }
        spot
    }

    /// A number in `range`; `above_zero` leaves the lower end out.
    pub fn number(
        &mut self,
        spot: &Spot<'_>,
        range: RangeInclusive<f64>,
        above_zero: bool,
    ) -> Option<f64> {
        let allowed = match above_zero {
            true => format!("a number above 0, at most {}", range.end()),
            false => format!("a number from {} to {}", range.start(), range.end()),
        };
        let Some(value) = plain(spot.node).and_then(as_number) else {
            self.wrong_type(spot, &allowed, unquote(spot.node));
            return None;
        };
        if !range.contains(&value) || (above_zero && value <= 0.0) {
            self.complain(
                spot,
                format!("{} is out of range", found(spot.node)),
                format!("write {allowed}"),
            );
            return None;
        }
        // -0.0 is in range, and would print as itself.
        Some(value + 0.0)
    }

    /// A whole number in `range`.
    pub fn whole(&mut self, spot: &Spot<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = match range.start() == range.end() {
            true => format!("the number {}", range.end()),
            false => format!("a whole number from {} to {}", range.start(), range.end()),
        };
        let value = plain(spot.node)
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
        match value.map(str::parse::<u64>) {
            Some(Ok(value)) if range.contains(&value) => Some(value),
            Some(_) => {
                self.complain(
                    spot,
                    format!("{} is out of range", found(spot.node)),
                    format!("write {allowed}"),
                );
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
        self.whole(spot, u64::from(low)..=u64::from(high))
            .and_then(|value| u32::try_from(value).ok())
    }

    /// A duration from 1 ms to 30 days: one number and one unit.
    pub fn duration(&mut self, spot: &Spot<'_>) -> Option<Duration> {
        const FORM: &str = "one whole number and one unit: ms, s, m, h or d, for example 20s";
        let Kind::Scalar { text, .. } = &spot.node.kind else {
            self.wrong_type(spot, "a duration", FORM);
            return None;
        };
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        if !digits.is_empty() && unit.is_empty() {
            self.complain(
                spot,
                format!("{} has no unit", found(spot.node)),
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
        match number
            .checked_mul(size)
            .filter(|ms| (1..=30 * 86_400_000).contains(ms))
        {
            Some(ms) => Some(Duration::from_millis(ms)),
            None => {
                self.complain(
                    spot,
                    format!("{} is out of range", found(spot.node)),
                    "write a duration from 1ms to 30d",
                );
                None
            }
        }
    }

    /// A text; `what` names it in messages.
    pub fn text<'a>(&mut self, spot: &Spot<'a>, what: &str) -> Option<&'a str> {
        match &spot.node.kind {
            Kind::Scalar { text, .. }
                if !spot.node.is_null()
                    && !text.is_empty()
                    && !text.chars().any(char::is_control) =>
            {
                Some(text)
            }
            _ => {
                self.wrong_type(spot, what, "");
                None
            }
        }
    }

    /// A name: lower-case letters, digits, `_`, `-` and `.`, at most 63 characters.
    pub fn name(&mut self, spot: &Spot<'_>, what: &str) -> Option<String> {
        let text = self.text(spot, what)?;
        let fits =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        if text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(fits)
        {
            return Some(text.to_string());
        }
        let hint = "lower-case letters, digits, _, - and ., starting with a letter or digit, at most 63 characters";
        self.complain(spot, format!("{} cannot be {what}", shown(text)), hint);
        None
    }

    /// One of `allowed`.
    pub fn word<'w>(
        &mut self,
        spot: &Spot<'_>,
        what: &str,
        allowed: &[&'w str],
    ) -> Option<&'w str> {
        let text = self.text(spot, what)?;
        let hit = allowed.iter().find(|word| **word == text);
        if hit.is_none() {
            let hint = match nearest(text, allowed.iter().copied()) {
                Some(near) => format!("did you mean {near}? Allowed: {}", either(allowed)),
                None => format!("allowed: {}", either(allowed)),
            };
            self.complain(spot, format!("{} is no {what}", shown(text)), hint);
        }
        hit.copied()
    }

    /// The items of a list.
    pub fn list<'a>(&mut self, spot: &Spot<'a>, of: &str) -> Option<Vec<Spot<'a>>> {
        let Kind::List(items) = &spot.node.kind else {
            let hint = match &spot.node.kind {
                Kind::Scalar { text, .. }
                    if !spot.node.is_null() && text.chars().count() <= SHOWN =>
                {
                    format!("write [{text}]")
                }
                _ => "write [a, b], or [] for none".to_string(),
            };
            self.wrong_type(spot, &format!("a list of {of}"), hint);
            return None;
        };
        let spot_of = |(index, node)| Spot {
            node,
            pointer: step(&spot.pointer, &usize::to_string(&index)),
        };
        Some(items.iter().enumerate().map(spot_of).collect())
    }

    /// A list whose items `read` turns into values, none twice.
    pub fn unique<'a, T: PartialEq>(
        &mut self,
        spot: &Spot<'a>,
        of: &str,
        mut read: impl FnMut(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut values: Vec<T> = Vec::new();
        for item in self.list(spot, of)? {
            let Some(value) = read(self, &item) else {
                continue;
            };
            if values.contains(&value) {
                self.complain(
                    &item,
                    format!("{} is listed twice", found(item.node)),
                    "remove one of the two",
                );
            } else {
                values.push(value);
            }
        }
        Some(values)
    }
}

fn keys_are(allowed: &[&str]) -> String {
    format!("the keys here are {}", allowed.join(", "))
}

fn plain(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { text, plain: true } => Some(text),
        _ => None,
    }
}

/// YAML 1.2's core numbers, without octal, hex and infinities.
fn as_number(text: &str) -> Option<f64> {
    let shape = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse::<f64>()
        .ok()
        .filter(|value| shape && value.is_finite())
}

fn unquote(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Scalar { text, plain: false } if as_number(text).is_some() => "remove the quotes",
        _ => "",
    }
}
