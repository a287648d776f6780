//! CPython's `datetime.strptime` in the C locale. It uses the regular expressions of `_strptime.py`, so it accepts the same
//! deviations from the format.
//!
//! jiff's `strptime` is stricter. It does not support Python's whitespace rules, `%c`, or hours without padding, and it does
//! not produce Python's error messages, which a stream reports.

use super::{Date, DateTime, SECOND, Zone, clock_micros};
use crate::error::EvalError;
use regex::{Captures, Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub(crate) const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
pub(crate) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
/// Limit on the compiled formats that a thread caches.
const CACHE_CAPACITY: usize = 64;
const MAX_FORMAT_BYTES: usize = 1000;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Rc<Regex>>> = RefCell::new(HashMap::new());
}

fn bad<T>(message: String) -> Result<T, EvalError> {
    Err(EvalError::value_error(message))
}

/// A regular expression that matches any of the names. As in `_strptime.py`, longer names come first, so that a short name
/// does not match in place of a longer one.
fn names(group: char, names: &[&str], short: bool) -> String {
    let mut names: Vec<&str> = names.iter().map(|name| if short { name.get(..3).unwrap_or(name) } else { name }).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    format!("(?P<{group}>{})", names.join("|"))
}

fn directive(letter: char) -> Option<String> {
    let pattern = match letter {
        'd' => "(?P<d>3[0-1]|[1-2][0-9]|0[1-9]|[1-9]| [1-9])",
        'f' => "(?P<f>[0-9]{1,6})",
        'H' => "(?P<H>2[0-3]|[0-1][0-9]|[0-9])",
        'I' => "(?P<I>1[0-2]|0[1-9]|[1-9])",
        'G' => "(?P<G>[0-9]{4})",
        'j' => "(?P<j>36[0-6]|3[0-5][0-9]|[1-2][0-9][0-9]|0[1-9][0-9]|00[1-9]|[1-9][0-9]|0[1-9]|[1-9])",
        'm' => "(?P<m>1[0-2]|0[1-9]|[1-9])",
        'M' => "(?P<M>[0-5][0-9]|[0-9])",
        'S' => "(?P<S>6[0-1]|[0-5][0-9]|[0-9])",
        'U' => "(?P<U>5[0-3]|[0-4][0-9]|[0-9])",
        'W' => "(?P<W>5[0-3]|[0-4][0-9]|[0-9])",
        'w' => "(?P<w>[0-6])",
        'u' => "(?P<u>[1-7])",
        'V' => "(?P<V>5[0-3]|0[1-9]|[1-4][0-9]|[0-9])",
        'y' => "(?P<y>[0-9]{2})",
        'Y' => "(?P<Y>[0-9]{4})",
        'z' => r"(?P<z>[+-][0-9]{2}:?[0-5][0-9](?::?[0-5][0-9](?:\.[0-9]{1,6})?)?|(?-i:Z))",
        'p' => "(?P<p>am|pm)",
        'Z' => "(?P<Z>utc|gmt)",
        '%' => "%",
        'A' => return Some(names('A', &WEEKDAYS, false)),
        'a' => return Some(names('a', &WEEKDAYS, true)),
        'B' => return Some(names('B', &MONTHS, false)),
        'b' => return Some(names('b', &MONTHS, true)),
        'c' => return pattern("%a %b %d %H:%M:%S %Y").ok(),
        'x' => return pattern("%m/%d/%y").ok(),
        'X' => return pattern("%H:%M:%S").ok(),
        _ => return None,
    };
    Some(pattern.to_owned())
}

fn pattern(format: &str) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '%' {
            let Some(letter) = chars.next() else { return bad(format!("stray % in format '{format}'")) };
            let Some(part) = directive(letter) else {
                return bad(format!("'{letter}' is a bad directive in format '{format}'"));
            };
            out.push_str(&part);
        } else if char.is_whitespace() {
            while chars.peek().is_some_and(|c| c.is_whitespace()) {
                chars.next();
            }
            out.push_str(r"\s+");
        } else {
            out.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
        }
    }
    Ok(out)
}

fn compiled(format: &str) -> Result<Rc<Regex>, EvalError> {
    if let Some(regex) = COMPILED.with_borrow(|cache| cache.get(format).cloned()) {
        return Ok(regex);
    }
    if format.len() > MAX_FORMAT_BYTES {
        return bad("the format is too long".into());
    }
    let text = format!("^(?:{})", pattern(format)?);
    let regex = RegexBuilder::new(&text).case_insensitive(true).size_limit(1 << 22).build();
    // A directive occurs twice. Python's `re` rejects a second group of the same name.
    let regex = Rc::new(regex.map_err(|_| EvalError::new("error", "redefinition of group name"))?);
    COMPILED.with_borrow_mut(|cache| {
        if cache.len() >= CACHE_CAPACITY {
            cache.clear();
        }
        cache.insert(format.to_owned(), Rc::clone(&regex));
    });
    Ok(regex)
}

/// Parses `text` according to `format`. A time without a zone is naive.
///
/// # Errors
/// ValueError if the text does not match or is not a valid date.
pub fn strptime(text: &str, format: &str) -> Result<DateTime, EvalError> {
    let regex = compiled(format)?;
    let Some(found) = regex.captures(text) else {
        return bad(format!("time data '{text}' does not match format '{format}'"));
    };
    let end = found.get(0).map_or(0, |all| all.end());
    if end != text.len() {
        return bad(format!("unconverted data remains: {}", text.get(end..).unwrap_or_default()));
    }
    Parts(&found).time()
}

struct Parts<'a>(&'a Captures<'a>);

impl Parts<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.name(name).map(|it| it.as_str())
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    /// The index of a name that is given in full or abbreviated.
    fn index(&self, group: &str, names: &[&str]) -> Option<i64> {
        let text = self.text(group)?.to_lowercase();
        names.iter().position(|name| name.to_lowercase().starts_with(&text)).and_then(|at| i64::try_from(at).ok())
    }

    fn time(&self) -> Result<DateTime, EvalError> {
        let date = self.date()?;
        let micros = self.text("f").map_or(0, |f| format!("{f:0<6}").parse().unwrap_or_default());
        let clock = [self.hour(), self.int("M").unwrap_or(0), self.int("S").unwrap_or(0), micros];
        Ok(DateTime::from_date(date, clock_micros(clock)?, self.zone()?))
    }

    fn hour(&self) -> i64 {
        if let Some(hour) = self.int("H") {
            return hour;
        }
        let hour = self.int("I").unwrap_or(0) % 12;
        let afternoon = self.text("p").is_some_and(|p| p.eq_ignore_ascii_case("pm"));
        hour + if afternoon { 12 } else { 0 }
    }

    fn weekday(&self) -> Option<i64> {
        let number = self.int("w").map(|w| (w + 6) % 7).or_else(|| self.int("u").map(|u| u - 1));
        number.or_else(|| self.index("A", &WEEKDAYS)).or_else(|| self.index("a", &WEEKDAYS))
    }

    fn date(&self) -> Result<Date, EvalError> {
        let year = self.int("Y").or_else(|| self.int("y").map(|y| if y <= 68 { 2000 + y } else { 1900 + y }));
        let (iso_year, iso_week, weekday) = (self.int("G"), self.int("V"), self.weekday());
        let week = self.int("U").or_else(|| self.int("W"));
        if year.is_none() && iso_year.is_some() {
            if iso_week.is_none() || weekday.is_none() || self.int("j").is_some() {
                return bad("ISO year directive '%G' must be used with the ISO week directive '%V' and a weekday".into());
            }
        } else if week.is_none() && iso_week.is_some() {
            return bad("ISO week directive '%V' must be used with the ISO year directive '%G' and a weekday".into());
        }
        let month = self.int("m").or_else(|| self.index("B", &MONTHS).or_else(|| self.index("b", &MONTHS)).map(|m| m + 1));
        let (month, day) = (month.unwrap_or(1), self.int("d").unwrap_or(1));
        let start = year.unwrap_or(1900);
        let first = Date::new(start, 1, 1)?;
        if let Some(day_of_year) = self.int("j") {
            return Date::from_ordinal(first.ordinal() + day_of_year - 1);
        }
        match (weekday, week, iso_year, iso_week) {
            (Some(weekday), Some(week), _, _) => {
                Date::from_ordinal(first.ordinal() + day_of_year(first, week, weekday, self.int("W").is_some()) - 1)
            }
            (Some(weekday), None, Some(iso_year), Some(iso_week)) => Date::from_iso_week(iso_year, iso_week, weekday),
            _ => Date::new(start, month, day),
        }
    }

    fn zone(&self) -> Result<Option<Zone>, EvalError> {
        let Some(text) = self.text("z") else { return Ok(None) };
        let name = self.text("Z").map(Into::into);
        if text == "Z" {
            return Ok(Some(Zone { offset: 0, name }));
        }
        let bytes = text.as_bytes();
        let colons = bytes.get(3) == Some(&b':');
        if colons && bytes.len() > 6 && bytes.get(6) != Some(&b':') {
            return bad(format!("Inconsistent use of : in {text}"));
        }
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = digits(whole);
        let two = |at: usize| whole.get(at..at + 2).and_then(|it| it.parse::<i64>().ok()).unwrap_or(0);
        let micros: i64 = format!("{fraction:0<6}").parse().unwrap_or(0);
        let offset = ((two(0) * 60 + two(2)) * 60 + two(4)) * SECOND + micros;
        if offset >= 86_400 * SECOND {
            return bad("offset must be a timedelta strictly between -timedelta(hours=24) and timedelta(hours=24)".into());
        }
        Ok(Some(Zone { offset: if text.starts_with('-') { -offset } else { offset }, name }))
    }
}

/// The day of the year for a weekday and a week number. Weeks are numbered as for `%W` if `monday` is set, otherwise as for
/// `%U`. `first` is the first of January.
fn day_of_year(first: Date, week: i64, weekday: i64, monday: bool) -> i64 {
    let shift = i64::from(!monday);
    let first_weekday = (first.weekday() + shift) % 7;
    let weekday = (weekday + shift) % 7;
    if week == 0 {
        return 1 + weekday - first_weekday;
    }
    1 + (7 - first_weekday) % 7 + 7 * (week - 1) + weekday
}
