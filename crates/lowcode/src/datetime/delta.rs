//! Python's `timedelta`, and isodate's `Duration`, which also has years and months.

use super::{DAY, Date, DateTime, SECOND};
use crate::error::EvalError;

/// Python's `timedelta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Delta {
    pub micros: i128,
}

const MICROS_LIMIT: i128 = 1_000_000_000 * DAY as i128;

impl Delta {
    /// # Errors
    /// OverflowError if the result exceeds 999,999,999 days.
    pub fn new(micros: i128) -> Result<Delta, EvalError> {
        if micros.abs() < MICROS_LIMIT {
            return Ok(Delta { micros });
        }
        Err(EvalError::new("OverflowError", format!("days={}; must have magnitude <= 999999999", micros / i128::from(DAY))))
    }

    /// Sums pairs of an amount and the microseconds in its unit, and rounds the sum to microseconds.
    ///
    /// # Errors
    /// OverflowError if the result exceeds 999,999,999 days.
    pub fn from_parts(parts: &[(f64, i64)]) -> Result<Delta, EvalError> {
        let (mut whole, mut rest) = (0i128, 0f64);
        for (amount, unit) in parts {
            if !amount.is_finite() || amount.abs() > 1e18 {
                return Err(EvalError::new("OverflowError", "timedelta out of range"));
            }
            whole += amount.trunc() as i128 * i128::from(*unit);
            rest += amount.fract() * *unit as f64;
        }
        Delta::new(whole + rest.round_ties_even() as i128)
    }

    #[must_use]
    pub fn days(self) -> i64 {
        self.micros.div_euclid(i128::from(DAY)) as i64
    }

    /// The seconds beyond full days, 0 to 86,399.
    #[must_use]
    pub fn seconds(self) -> i64 {
        (self.micros.rem_euclid(i128::from(DAY)) as i64) / SECOND
    }

    #[must_use]
    pub fn microseconds(self) -> i64 {
        self.micros.rem_euclid(i128::from(SECOND)) as i64
    }

    #[must_use]
    pub fn total_seconds(self) -> f64 {
        self.micros as f64 / 1e6
    }

    /// Python's `str()`.
    #[must_use]
    pub fn to_str(self) -> String {
        let (days, seconds, micros) = (self.days(), self.seconds(), self.microseconds());
        let mut text = String::new();
        if days != 0 {
            text.push_str(&format!("{days} day{}, ", if days.abs() == 1 { "" } else { "s" }));
        }
        text.push_str(&format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
        if micros != 0 {
            text.push_str(&format!(".{micros:06}"));
        }
        text
    }

    /// Python's `repr()`.
    #[must_use]
    pub fn repr(self) -> String {
        let parts: Vec<String> = [("days", self.days()), ("seconds", self.seconds()), ("microseconds", self.microseconds())]
            .iter()
            .filter(|(_, value)| *value != 0)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("datetime.timedelta({})", if parts.is_empty() { "0".into() } else { parts.join(", ") })
    }
}

/// isodate's `Duration`: years and months, whose length varies, and a `timedelta`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duration {
    pub years: f64,
    pub months: f64,
    pub delta: Delta,
}

impl Duration {
    #[must_use]
    pub fn negated(self) -> Duration {
        Duration { years: -self.years, months: -self.months, delta: Delta { micros: -self.delta.micros } }
    }

    /// Moves `date` by the years and months. If the month does not have the day, the result is the last day of the month.
    ///
    /// # Errors
    /// ValueError if the years or months have fractions, or if the result is outside the years 1 to 9999.
    pub fn shift(self, date: Date) -> Result<Date, EvalError> {
        if self.years.fract() != 0.0 || self.months.fract() != 0.0 || self.years.abs() > 1e6 || self.months.abs() > 1e7 {
            return Err(EvalError::value_error("fractional years or months not supported for date calculations"));
        }
        let (year, month, day) = date.parts();
        let months = month - 1 + self.months as i64;
        let (year, month) = (year + self.years as i64 + months.div_euclid(12), months.rem_euclid(12) + 1);
        Date::new(year, month, day.min(Date::new(year, month, 1)?.days_in_month()))
    }

    /// `time + self`.
    ///
    /// # Errors
    /// Same as [`Self::shift`], and OverflowError if the result is outside the years 1 to 9999.
    pub fn add_to(self, time: &DateTime) -> Result<DateTime, EvalError> {
        let date = self.shift(time.date())?;
        DateTime::from_date(date, time.time(), time.zone.clone()).plus(self.delta)
    }

    /// Python's `str()`.
    #[must_use]
    pub fn to_str(self) -> String {
        let mut parts = Vec::new();
        if self.years != 0.0 {
            parts.push(format!("{} years", self.years.trunc()));
        }
        if self.months != 0.0 {
            parts.push(format!("{} month{}", self.months.trunc(), if self.months <= 1.0 { "" } else { "s" }));
        }
        parts.push(self.delta.to_str());
        parts.join(", ")
    }
}
