//! CPython's `strftime`. It formats `%f`, `%z` and `%Z` as Python does, and everything else, including flags, as glibc does
//! in the C locale. jiff's `strftime` is not used, because it fails on unknown directives, which glibc copies, and pads
//! some fields differently.

use super::strptime::{MONTHS, WEEKDAYS};
use super::{Date, DateTime, SECOND, offset_text};

/// Limit for the padding that a format can request.
const MAX_WIDTH: usize = 1000;

/// Formats `time` according to `format`.
#[must_use]
pub fn strftime(time: &DateTime, format: &str) -> String {
    let zoned = python_part(time, format);
    let mut out = String::with_capacity(zoned.len() + 16);
    let parts = Parts::new(time);
    let mut rest = zoned.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let spec = Spec::parse(after);
        match parts.field(&spec) {
            Some(field) => spec.pad(field, &mut out),
            // glibc copies unknown directives, including the percent sign.
            None => {
                out.push('%');
                out.push_str(after.get(..spec.length).unwrap_or(after));
            }
        }
        rest = after.get(spec.length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Replaces the directives that Python handles itself before it calls glibc.
fn python_part(time: &DateTime, format: &str) -> String {
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mut letters = after.chars();
        let letter = letters.next();
        match letter {
            Some('f') => out.push_str(&format!("{:06}", time.microsecond())),
            Some('z') => out.push_str(&time.zone.as_ref().map_or_else(String::new, |zone| offset_text(zone.offset, ""))),
            Some('Z') => {
                out.push_str(&time.zone.as_ref().map_or_else(String::new, |zone| zone.name().replace('%', "%%")));
            }
            other => {
                out.push('%');
                out.extend(other);
            }
        }
        rest = letters.as_str();
        if letter.is_none() {
            return out;
        }
    }
    out.push_str(rest);
    out
}

/// The flags, the width and the letter that follow a percent sign.
struct Spec {
    pad: Option<char>,
    upper: bool,
    swap: bool,
    width: usize,
    letter: char,
    /// The length of the directive in bytes, without the percent sign.
    length: usize,
}

/// A field before padding: its text, its default width and its padding character.
struct Field {
    text: String,
    width: usize,
    pad: char,
}

fn number(value: i64, width: usize) -> Field {
    Field { text: value.to_string(), width, pad: '0' }
}

fn spaced(value: i64) -> Field {
    Field { text: value.to_string(), width: 2, pad: ' ' }
}

fn text(text: impl Into<String>) -> Field {
    Field { text: text.into(), width: 0, pad: ' ' }
}

impl Spec {
    fn parse(text: &str) -> Spec {
        let mut spec = Spec { pad: None, upper: false, swap: false, width: 0, letter: '\0', length: 0 };
        let mut chars = text.char_indices().peekable();
        while let Some((_, flag @ ('_' | '-' | '0' | '^' | '#' | '+'))) = chars.peek().copied() {
            match flag {
                '^' => spec.upper = true,
                '#' => spec.swap = true,
                other => spec.pad = Some(other),
            }
            chars.next();
        }
        while let Some(digit) = chars.peek().and_then(|(_, c)| c.to_digit(10)) {
            spec.width = (spec.width * 10 + digit as usize).min(MAX_WIDTH);
            chars.next();
        }
        chars.next_if(|(_, c)| matches!(c, 'E' | 'O'));
        if let Some((_, letter)) = chars.next() {
            spec.letter = letter;
        }
        spec.length = chars.peek().map_or(text.len(), |(at, _)| *at);
        spec
    }

    fn pad(&self, field: Field, out: &mut String) {
        let pad = match self.pad {
            Some('_') => ' ',
            Some('0' | '+') => '0',
            _ => field.pad,
        };
        let width = if self.pad == Some('-') { 0 } else { self.width.max(field.width) };
        out.extend(std::iter::repeat_n(pad, width.saturating_sub(field.text.chars().count())));
        match (self.upper, self.swap) {
            (true, _) => out.push_str(&field.text.to_uppercase()),
            (_, true) if self.letter == 'p' || self.letter == 'Z' => out.push_str(&field.text.to_lowercase()),
            (_, true) if self.width == 0 || field.width == 0 => out.push_str(&field.text.to_uppercase()),
            _ => out.push_str(&field.text),
        }
    }
}

struct Parts {
    date: Date,
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    epoch: i64,
}

impl Parts {
    fn new(time: &DateTime) -> Parts {
        let date = time.date();
        let (year, month, day) = date.parts();
        let seconds = time.time() / SECOND;
        // glibc interprets the fields in the time zone of the machine. In the CDK's container images this is UTC.
        let epoch = (time.epoch_micros() + time.offset()).div_euclid(SECOND);
        Parts { date, year, month, day, hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60, epoch }
    }

    fn weekday(&self) -> &'static str {
        WEEKDAYS.get(self.date.weekday() as usize).copied().unwrap_or_default()
    }

    fn month_name(&self) -> &'static str {
        MONTHS.get((self.month - 1) as usize).copied().unwrap_or_default()
    }

    fn clock(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }

    /// The week of the year. Weeks begin `start` days after Monday.
    fn week(&self, start: i64) -> i64 {
        let weekday = (self.date.weekday() - start).rem_euclid(7);
        (self.date.day_of_year() - 1 + 7 - weekday) / 7
    }

    fn field(&self, spec: &Spec) -> Option<Field> {
        let twelve = (self.hour + 11) % 12 + 1;
        let (iso_year, iso_week, iso_day) = self.date.isocalendar();
        let year = if spec.pad == Some('_') { spaced(self.year) } else { number(self.year, 0) };
        Some(match spec.letter {
            'a' => text(self.weekday().get(..3)?),
            'A' => text(self.weekday()),
            'b' | 'h' => text(self.month_name().get(..3)?),
            'B' => text(self.month_name()),
            'c' => {
                let (weekday, month) = (self.weekday().get(..3)?, self.month_name().get(..3)?);
                text(format!("{weekday} {month} {:>2} {} {}", self.day, self.clock(), self.year))
            }
            'C' => number(self.year / 100, 2),
            'd' => number(self.day, 2),
            'D' | 'x' => text(format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100)),
            'e' => spaced(self.day),
            'F' => text(format!("{}-{:02}-{:02}", self.year, self.month, self.day)),
            'g' => number(iso_year % 100, 2),
            'G' => number(iso_year, 0),
            'H' => number(self.hour, 2),
            'I' => number(twelve, 2),
            'j' => number(self.date.day_of_year(), 3),
            'k' => spaced(self.hour),
            'l' => spaced(twelve),
            'm' => number(self.month, 2),
            'M' => number(self.minute, 2),
            'n' => text("\n"),
            'p' => text(if self.hour < 12 { "AM" } else { "PM" }),
            'P' => text(if self.hour < 12 { "am" } else { "pm" }),
            'r' => {
                text(format!("{twelve:02}:{:02}:{:02} {}", self.minute, self.second, if self.hour < 12 { "AM" } else { "PM" }))
            }
            'R' => text(format!("{:02}:{:02}", self.hour, self.minute)),
            's' => number(self.epoch, 0),
            'S' => number(self.second, 2),
            't' => text("\t"),
            'T' | 'X' => text(self.clock()),
            'u' => number(iso_day, 1),
            'U' => number(self.week(6), 2),
            'V' => number(iso_week, 2),
            'w' => number(iso_day % 7, 1),
            'W' => number(self.week(0), 2),
            'y' => number(self.year % 100, 2),
            'Y' => year,
            '%' => text("%"),
            _ => return None,
        })
    }
}
