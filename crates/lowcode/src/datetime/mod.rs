//! The date and time types of Python's `datetime`, and the formats of the CDK's `datetime_parser.py`.
//!
//! jiff provides the calendar. This module adds what Python does differently: years from 1 to 9999 only, ordinals,
//! microseconds, naive times, and Python's error messages. [`parse`] and [`format()`] correspond to the CDK's parser, which
//! adds a few formats to Python's `strptime` and `strftime` ([`strptime`], [`strftime`]). [`iso`] reads the formats of
//! dateutil and isodate.

pub mod delta;
pub mod iso;
pub mod strftime;
pub mod strptime;

pub use delta::{Delta, Duration};

use super::error::EvalError;
use jiff::{SignedDuration, Timestamp, civil};
use std::cmp::Ordering;
use std::sync::Arc;

/// Microseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub(crate) const DAY: i64 = 86_400 * SECOND;
/// The first day of Python's calendar. Its ordinal is 1.
const FIRST_DAY: civil::Date = civil::date(1, 1, 1);
/// The ordinal of 9999-12-31, the last day of Python's calendar.
const MAX_ORDINAL: i64 = 3_652_059;
const EPOCH: civil::DateTime = civil::datetime(1970, 1, 1, 0, 0, 0, 0);

fn out_of_range() -> EvalError {
    EvalError::new("OverflowError", "date value out of range")
}

/// Moves `time` by `micros` microseconds.
///
/// # Errors
/// OverflowError if the result is outside the years 1 to 9999.
fn shift(time: civil::DateTime, micros: i128) -> Result<civil::DateTime, EvalError> {
    let second = i128::from(SECOND);
    let seconds = i64::try_from(micros.div_euclid(second)).map_err(|_| out_of_range())?;
    let rest = SignedDuration::from_micros(micros.rem_euclid(second) as i64);
    let span = SignedDuration::from_secs(seconds).checked_add(rest).ok_or_else(out_of_range)?;
    time.checked_add(span).ok().filter(|time| time.year() >= 1).ok_or_else(out_of_range)
}

/// A day of the proleptic Gregorian calendar, like Python's `date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

impl Date {
    /// The date that Python's `strftime` uses for a time of day.
    pub(crate) const YEAR_1900: Date = Date(civil::date(1900, 1, 1));

    /// # Errors
    /// ValueError if a part is out of range, as for Python's `date(year, month, day)`.
    pub fn new(year: i64, month: i64, day: i64) -> Result<Date, EvalError> {
        let year = i16::try_from(year)
            .ok()
            .filter(|year| (1..=9999).contains(year))
            .ok_or_else(|| EvalError::value_error(format!("year {year} is out of range")))?;
        let month = i8::try_from(month)
            .ok()
            .filter(|month| (1..=12).contains(month))
            .ok_or_else(|| EvalError::value_error("month must be in 1..12"))?;
        let day = i8::try_from(day).unwrap_or(i8::MAX);
        let date = civil::Date::new(year, month, day).map_err(|_| EvalError::value_error("day is out of range for month"));
        date.map(Date)
    }

    /// The date with this ordinal. Ordinals count days, and 0001-01-01 is day 1.
    ///
    /// # Errors
    /// OverflowError if the result is outside the years 1 to 9999.
    pub fn from_ordinal(ordinal: i64) -> Result<Date, EvalError> {
        if !(1..=MAX_ORDINAL).contains(&ordinal) {
            return Err(out_of_range());
        }
        FIRST_DAY.checked_add(SignedDuration::from_hours(24 * (ordinal - 1))).map(Date).map_err(|_| out_of_range())
    }

    /// The date of a weekday (0 for Monday) in an ISO week. A week number beyond the last week of the year continues into the
    /// next year, as in dateutil and `strptime`.
    ///
    /// # Errors
    /// ValueError if the year is out of range; OverflowError if the date is outside the years 1 to 9999.
    pub(crate) fn from_iso_week(year: i64, week: i64, weekday: i64) -> Result<Date, EvalError> {
        // The fourth of January is in the first week of every ISO year.
        let first_week = Date::new(year, 1, 4)?;
        Date::from_ordinal(first_week.ordinal() - first_week.weekday() + (week - 1) * 7 + weekday)
    }

    /// The number of the day, where 0001-01-01 is day 1.
    #[must_use]
    pub fn ordinal(self) -> i64 {
        self.0.duration_since(FIRST_DAY).as_hours() / 24 + 1
    }

    /// Year, month and day.
    #[must_use]
    pub fn parts(self) -> (i64, i64, i64) {
        (self.0.year().into(), self.0.month().into(), self.0.day().into())
    }

    /// The day of the week; 0 is Monday.
    #[must_use]
    pub fn weekday(self) -> i64 {
        self.0.weekday().to_monday_zero_offset().into()
    }

    /// The day of the year; the first of January is 1.
    #[must_use]
    pub fn day_of_year(self) -> i64 {
        self.0.day_of_year().into()
    }

    /// The number of days in the month, 28 to 31.
    #[must_use]
    pub fn days_in_month(self) -> i64 {
        self.0.days_in_month().into()
    }

    /// The number of days in the year, 365 or 366.
    #[must_use]
    pub fn days_in_year(self) -> i64 {
        self.0.days_in_year().into()
    }

    /// ISO year, week and day (1 for Monday).
    #[must_use]
    pub fn isocalendar(self) -> (i64, i64, i64) {
        let week = self.0.iso_week_date();
        (week.year().into(), week.week().into(), week.weekday().to_monday_one_offset().into())
    }

    /// `YYYY-MM-DD`.
    #[must_use]
    pub fn isoformat(self) -> String {
        self.0.to_string()
    }
}

/// A fixed offset from UTC, like Python's `timezone`.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Microseconds east of UTC.
    pub offset: i64,
    /// The name that `%Z` writes. If it is `None`, `%Z` writes `UTC` or a name made from the offset.
    pub name: Option<Arc<str>>,
}

impl Zone {
    pub const UTC: Zone = Zone { offset: 0, name: None };

    /// The result of `tzname()`.
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

/// Python's `datetime`: a local time that has a zone or is naive.
#[derive(Clone, Debug)]
pub struct DateTime {
    local: civil::DateTime,
    /// `None` for a naive time.
    pub zone: Option<Zone>,
}

impl DateTime {
    /// The time `micros` microseconds after midnight of `date`. `micros` is less than a day.
    #[must_use]
    pub fn from_date(date: Date, micros: i64, zone: Option<Zone>) -> DateTime {
        let midnight = date.0.to_datetime(civil::Time::midnight());
        DateTime { local: midnight.saturating_add(SignedDuration::from_micros(micros)), zone }
    }

    /// `clock` is hour, minute, second and microsecond.
    ///
    /// # Errors
    /// ValueError if a part is out of range.
    pub fn new(date: Date, clock: [i64; 4], zone: Option<Zone>) -> Result<DateTime, EvalError> {
        Ok(DateTime::from_date(date, clock_micros(clock)?, zone))
    }

    /// # Errors
    /// OverflowError if the result is outside the years 1 to 9999.
    pub fn from_epoch_micros(micros: i128) -> Result<DateTime, EvalError> {
        Ok(DateTime { local: shift(EPOCH, micros)?, zone: Some(Zone::UTC) })
    }

    /// Converts seconds since 1970 to a time in UTC, rounded to microseconds as Python's `fromtimestamp` does.
    ///
    /// # Errors
    /// ValueError if the time is outside the years 1 to 9999.
    pub fn from_timestamp(seconds: f64) -> Result<DateTime, EvalError> {
        if !seconds.is_finite() || seconds.abs() > 1e12 {
            return Err(EvalError::value_error("year is out of range"));
        }
        let micros = (seconds.fract() * 1e6).round_ties_even();
        let total = seconds.trunc() as i128 * i128::from(SECOND) + micros as i128;
        DateTime::from_epoch_micros(total).map_err(|_| EvalError::value_error("year is out of range"))
    }

    /// The time of the host in UTC, or the epoch if Python cannot represent that time.
    #[must_use]
    pub fn from_jiff(now: Timestamp) -> DateTime {
        let epoch = DateTime { local: EPOCH, zone: Some(Zone::UTC) };
        DateTime::from_epoch_micros(i128::from(now.as_microsecond())).unwrap_or(epoch)
    }

    #[must_use]
    pub fn date(&self) -> Date {
        Date(self.local.date())
    }

    /// Microseconds since midnight.
    #[must_use]
    pub fn time(&self) -> i64 {
        let time = self.local.time();
        let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
        seconds * SECOND + self.microsecond()
    }

    /// Microseconds since the last full second.
    #[must_use]
    pub fn microsecond(&self) -> i64 {
        i64::from(self.local.subsec_nanosecond()) / 1000
    }

    /// Microseconds east of UTC; 0 for a naive time.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.zone.as_ref().map_or(0, |zone| zone.offset)
    }

    /// Microseconds since 1970 in UTC. A naive time is treated as UTC.
    #[must_use]
    pub fn epoch_micros(&self) -> i64 {
        let local = self.local.duration_since(EPOCH);
        local.as_secs() * SECOND + i64::from(local.subsec_micros()) - self.offset()
    }

    /// Python's `timestamp()`.
    #[must_use]
    pub fn timestamp(&self) -> f64 {
        self.epoch_micros() as f64 / 1e6
    }

    /// The same instant in another zone.
    ///
    /// # Errors
    /// OverflowError if the result is outside the years 1 to 9999.
    pub fn in_zone(&self, zone: Zone) -> Result<DateTime, EvalError> {
        let local = shift(self.local, i128::from(zone.offset) - i128::from(self.offset()))?;
        Ok(DateTime { local, zone: Some(zone) })
    }

    /// Keeps the zone of the time. As in the CDK, a naive time is treated as UTC.
    #[must_use]
    pub fn or_utc(self) -> DateTime {
        DateTime { zone: Some(self.zone.unwrap_or(Zone::UTC)), ..self }
    }

    /// The same local time without its zone.
    #[must_use]
    pub fn naive(self) -> DateTime {
        DateTime { zone: None, ..self }
    }

    /// `self + delta`.
    ///
    /// # Errors
    /// OverflowError if the result is outside the years 1 to 9999.
    pub fn plus(&self, delta: Delta) -> Result<DateTime, EvalError> {
        Ok(DateTime { local: shift(self.local, delta.micros)?, zone: self.zone.clone() })
    }

    /// Python's `isoformat(sep)`.
    #[must_use]
    pub fn isoformat(&self, sep: char) -> String {
        let zone = self.zone.as_ref().map_or_else(String::new, |zone| offset_text(zone.offset, ":"));
        format!("{}{sep}{}{zone}", self.date().isoformat(), clock_text(self.time()))
    }

    /// Compares instants as Python's `==` and `<` do. Returns `None` if only one of the two times has a zone, because Python
    /// cannot compare them.
    #[must_use]
    pub fn compare(&self, other: &DateTime) -> Option<Ordering> {
        (self.zone.is_some() == other.zone.is_some()).then(|| self.epoch_micros().cmp(&other.epoch_micros()))
    }
}

/// Formats microseconds since midnight as `HH:MM:SS[.ffffff]`.
#[must_use]
pub fn clock_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / SECOND, micros % SECOND);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    text
}

/// Converts hour, minute, second and microsecond to microseconds since midnight.
///
/// # Errors
/// ValueError if a part is out of range.
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

/// Parses `text` in a format of the CDK, as its `DatetimeParser.parse` does. A naive time is treated as UTC.
///
/// # Errors
/// ValueError if the text does not match; OverflowError if the time is outside the years 1 to 9999.
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

/// Writes `time` in a format of the CDK, as its `DatetimeParser.format` does.
#[must_use]
pub fn format(time: &DateTime, format: &str) -> String {
    match format {
        "%s" => (time.timestamp() as i64).to_string(),
        "%s_as_float" => super::value::float_repr(time.timestamp()),
        "%epoch_microseconds" => ((time.timestamp() * 1e6) as i64).to_string(),
        "%ms" => ((time.timestamp() * 1e3) as i64).to_string(),
        other if other.contains("%_ms") => {
            // The CDK replaces the six digits wherever they occur in the text, not only where `%f` wrote them.
            let micros = time.microsecond();
            let text = strftime::strftime(time, &other.replace("%_ms", "%f"));
            text.replace(&format!("{micros:06}"), &format!("{:03}", micros / 1000))
        }
        other => strftime::strftime(time, other),
    }
}
