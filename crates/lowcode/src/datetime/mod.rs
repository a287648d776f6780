//! Dates and times as Python's `datetime` has them, and the formats of the CDK's `datetime_parser.py`.
//!
//! [`parse`] and [`format()`] are the CDK's parser: Python's `strptime` and `strftime` ([`strptime`], [`strftime`])
//! with a few whole formats of its own. [`iso`] holds what dateutil and isodate read.

pub mod delta;
pub mod iso;
pub mod strftime;
pub mod strptime;

pub use delta::{Delta, Duration};

use super::error::EvalError;
use jiff::Timestamp;
use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;
/// Days before 1970-01-01, counted from 0001-01-01 as day 1.
const EPOCH_ORDINAL: i64 = 719_163;
/// The ordinal of 9999-12-31.
pub(crate) const MAX_ORDINAL: i64 = 3_652_059;

/// A day of the proleptic Gregorian calendar, as Python's `date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Days since 0001-01-01, which is day 1.
    pub ordinal: i64,
}

#[must_use]
pub fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[must_use]
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap(year)),
        _ => 31,
    }
}

fn days_before_year(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400)
}

impl Date {
    /// # Errors
    /// ValueError where a part is out of range, as Python's `date(year, month, day)`.
    pub fn new(year: i64, month: i64, day: i64) -> Result<Date, EvalError> {
        if !(1..=9999).contains(&year) {
            return Err(EvalError::value_error(format!("year {year} is out of range")));
        }
        if !(1..=12).contains(&month) {
            return Err(EvalError::value_error("month must be in 1..12"));
        }
        if day < 1 || day > days_in_month(year, month) {
            return Err(EvalError::value_error("day is out of range for month"));
        }
        let before: i64 = (1..month).map(|it| days_in_month(year, it)).sum();
        Ok(Date { ordinal: days_before_year(year) + before + day })
    }

    /// # Errors
    /// OverflowError outside of the years 1 to 9999.
    pub fn from_ordinal(ordinal: i64) -> Result<Date, EvalError> {
        if (1..=MAX_ORDINAL).contains(&ordinal) {
            return Ok(Date { ordinal });
        }
        Err(EvalError::new("OverflowError", "date value out of range"))
    }

    /// Year, month and day.
    #[must_use]
    pub fn parts(self) -> (i64, i64, i64) {
        let mut year = (self.ordinal * 400).div_euclid(146_097).max(1);
        while days_before_year(year + 1) < self.ordinal {
            year += 1;
        }
        while days_before_year(year) >= self.ordinal {
            year -= 1;
        }
        let mut day = self.ordinal - days_before_year(year);
        let mut month = 1;
        while month < 12 && day > days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        (year, month, day)
    }

    /// 0 for Monday.
    #[must_use]
    pub fn weekday(self) -> i64 {
        (self.ordinal + 6).rem_euclid(7)
    }

    /// 1 for the first of January.
    #[must_use]
    pub fn day_of_year(self) -> i64 {
        self.ordinal - days_before_year(self.parts().0)
    }

    /// ISO year, week and day (1 for Monday).
    #[must_use]
    pub fn isocalendar(self) -> (i64, i64, i64) {
        let (mut year, _, _) = self.parts();
        if self.ordinal < iso_year_start(year) {
            year -= 1;
        } else if self.ordinal >= iso_year_start(year + 1) {
            year += 1;
        }
        let days = self.ordinal - iso_year_start(year);
        (year, days.div_euclid(7) + 1, days.rem_euclid(7) + 1)
    }

    /// `YYYY-MM-DD`.
    #[must_use]
    pub fn isoformat(self) -> String {
        let (year, month, day) = self.parts();
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// The ordinal of the Monday of the first ISO week.
pub(crate) fn iso_year_start(year: i64) -> i64 {
    let jan_4 = days_before_year(year) + 4;
    jan_4 - (jan_4 + 6).rem_euclid(7)
}

/// A fixed offset from UTC, as Python's `timezone`.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Microseconds east of UTC.
    pub offset: i64,
    /// The name that `%Z` gives; none for the one made of the offset.
    pub name: Option<Arc<str>>,
}

impl Zone {
    pub const UTC: Zone = Zone { offset: 0, name: None };

    /// What `tzname()` gives.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None if self.offset == 0 => "UTC".into(),
            None => format!("UTC{}", offset_text(self.offset, ":")),
        }
    }
}

/// `+HH:MM[:SS[.ffffff]]`.
pub(crate) fn offset_text(offset: i64, colon: &str) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    let size = offset.abs();
    let (seconds, micros) = (size / SECOND, size % SECOND);
    let mut text = format!("{sign}{:02}{colon}{:02}", seconds / 3600, seconds / 60 % 60);
    if seconds % 60 != 0 || micros != 0 {
        text.push_str(&format!("{colon}{:02}", seconds % 60));
    }
    if micros != 0 {
        text.push_str(&format!(".{micros:06}"));
    }
    text
}

/// Python's `datetime`: a local time, with a zone or naive.
#[derive(Clone, Debug)]
pub struct DateTime {
    /// Microseconds since 0001-01-01T00:00:00, local.
    pub local: i64,
    /// None for a naive time.
    pub zone: Option<Zone>,
}

impl DateTime {
    /// # Errors
    /// OverflowError outside of the years 1 to 9999.
    pub fn from_local(local: i128, zone: Option<Zone>) -> Result<DateTime, EvalError> {
        match i64::try_from(local) {
            Ok(local) if (0..MAX_ORDINAL * DAY).contains(&local) => Ok(DateTime { local, zone }),
            _ => Err(EvalError::new("OverflowError", "date value out of range")),
        }
    }

    /// Midnight of `date`, or `micros` after it.
    #[must_use]
    pub fn of(date: Date, micros: i64, zone: Option<Zone>) -> DateTime {
        DateTime { local: (date.ordinal - 1) * DAY + micros, zone }
    }

    /// `clock` is hour, minute, second and microsecond.
    ///
    /// # Errors
    /// ValueError where a part is out of range.
    pub fn new(date: Date, clock: [i64; 4], zone: Option<Zone>) -> Result<DateTime, EvalError> {
        Ok(DateTime::of(date, clock_micros(clock)?, zone))
    }

    /// # Errors
    /// OverflowError outside of the years 1 to 9999.
    pub fn from_epoch_micros(micros: i128) -> Result<DateTime, EvalError> {
        let epoch = i128::from((EPOCH_ORDINAL - 1) * DAY);
        DateTime::from_local(epoch + micros, Some(Zone::UTC))
    }

    /// Seconds since 1970, rounded to microseconds as Python's `fromtimestamp` does; in UTC.
    ///
    /// # Errors
    /// ValueError or OverflowError outside of the years 1 to 9999.
    pub fn from_timestamp(seconds: f64) -> Result<DateTime, EvalError> {
        if !seconds.is_finite() || seconds.abs() > 1e12 {
            return Err(EvalError::value_error("year is out of range"));
        }
        let micros = (seconds.fract() * 1e6).round_ties_even();
        let total = seconds.trunc() as i128 * i128::from(SECOND) + micros as i128;
        DateTime::from_epoch_micros(total).map_err(|_| EvalError::value_error("year is out of range"))
    }

    /// The host's time, in UTC.
    #[must_use]
    pub fn from_jiff(now: Timestamp) -> DateTime {
        DateTime::from_epoch_micros(i128::from(now.as_microsecond())).unwrap_or(DateTime { local: 0, zone: Some(Zone::UTC) })
    }

    #[must_use]
    pub fn date(&self) -> Date {
        Date { ordinal: self.local.div_euclid(DAY) + 1 }
    }

    /// Microseconds since midnight.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.local.rem_euclid(DAY)
    }

    /// Microseconds east of UTC; 0 for a naive time.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.zone.as_ref().map_or(0, |zone| zone.offset)
    }

    /// Microseconds since 1970 in UTC; a naive time is taken for UTC.
    #[must_use]
    pub fn epoch_micros(&self) -> i64 {
        self.local - self.offset() - (EPOCH_ORDINAL - 1) * DAY
    }

    /// Python's `timestamp()`.
    #[must_use]
    pub fn timestamp(&self) -> f64 {
        self.epoch_micros() as f64 / 1e6
    }

    /// The same instant in another zone.
    ///
    /// # Errors
    /// OverflowError outside of the years 1 to 9999.
    pub fn in_zone(&self, zone: Zone) -> Result<DateTime, EvalError> {
        DateTime::from_local(i128::from(self.local) - i128::from(self.offset()) + i128::from(zone.offset), Some(zone))
    }

    /// A naive time is taken for UTC, as the CDK does.
    #[must_use]
    pub fn or_utc(self) -> DateTime {
        DateTime { zone: Some(self.zone.unwrap_or(Zone::UTC)), ..self }
    }

    /// `self + delta`.
    ///
    /// # Errors
    /// OverflowError outside of the years 1 to 9999.
    pub fn plus(&self, delta: Delta) -> Result<DateTime, EvalError> {
        DateTime::from_local(i128::from(self.local) + delta.micros, self.zone.clone())
    }

    /// Python's `isoformat(sep)`.
    #[must_use]
    pub fn isoformat(&self, sep: char) -> String {
        let zone = self.zone.as_ref().map_or_else(String::new, |zone| offset_text(zone.offset, ":"));
        format!("{}{sep}{}{zone}", self.date().isoformat(), clock_text(self.time()))
    }

    /// Python's `==` and `<`: by instant where both have a zone, none where only one has.
    #[must_use]
    pub fn compare(&self, other: &DateTime) -> Option<Ordering> {
        (self.zone.is_some() == other.zone.is_some()).then(|| self.epoch_micros().cmp(&other.epoch_micros()))
    }
}

/// `HH:MM:SS[.ffffff]` of microseconds since midnight.
#[must_use]
pub fn clock_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / SECOND, micros % SECOND);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    text
}

/// Microseconds since midnight of hour, minute, second and microsecond.
///
/// # Errors
/// ValueError where a part is out of range.
pub fn clock_micros([hour, minute, second, micro]: [i64; 4]) -> Result<i64, EvalError> {
    for (value, end, message) in [
        (hour, 24, "hour must be in 0..23"),
        (minute, 60, "minute must be in 0..59"),
        (second, 60, "second must be in 0..59"),
        (micro, SECOND, "microsecond must be in 0..999999"),
    ] {
        if !(0..end).contains(&value) {
            return Err(EvalError::value_error(message));
        }
    }
    Ok(((hour * 60 + minute) * 60 + second) * SECOND + micro)
}

fn python_int(text: &str) -> Result<i128, EvalError> {
    text.trim().parse().map_err(|_| EvalError::value_error(format!("invalid literal for int() with base 10: '{text}'")))
}

fn python_float(text: &str) -> Result<f64, EvalError> {
    text.trim().parse().map_err(|_| EvalError::value_error(format!("could not convert string to float: '{text}'")))
}

/// Reads `text` by the CDK's format, `DatetimeParser.parse`. A naive time is UTC.
///
/// # Errors
/// ValueError where the text does not match, OverflowError out of range.
pub fn parse(text: &str, format: &str) -> Result<DateTime, EvalError> {
    match format {
        "%s" => {
            let seconds = python_int(text)?;
            let out = |_| EvalError::value_error(format!("year is out of range: {seconds}"));
            DateTime::from_epoch_micros(seconds.saturating_mul(SECOND.into())).map_err(out)
        }
        "%s_as_float" => DateTime::from_timestamp(python_float(text)?),
        "%epoch_microseconds" => DateTime::from_epoch_micros(python_int(text)?),
        "%ms" => DateTime::from_epoch_micros(python_int(text)?.saturating_mul(1000)),
        other => Ok(strptime::strptime(text, &other.replace("%_ms", "%f"))?.or_utc()),
    }
}

/// Writes `time` by the CDK's format, `DatetimeParser.format`.
#[must_use]
pub fn format(time: &DateTime, format: &str) -> String {
    match format {
        "%s" => (time.timestamp() as i64).to_string(),
        "%s_as_float" => super::value::float_repr(time.timestamp()),
        "%epoch_microseconds" => ((time.timestamp() * 1e6) as i64).to_string(),
        "%ms" => ((time.timestamp() * 1e3) as i64).to_string(),
        other if other.contains("%_ms") => {
            // The CDK replaces the six digits wherever they stand in the text, not only those of %f.
            let micros = time.local.rem_euclid(SECOND);
            let text = strftime::strftime(time, &other.replace("%_ms", "%f"));
            text.replace(&format!("{micros:06}"), &format!("{:03}", micros / 1000))
        }
        other => strftime::strftime(time, other),
    }
}
