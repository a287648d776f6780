//! Clamping: moves slice boundaries to whole days, weeks or months (`streams/concurrent/clamping.py`).

use crate::datetime::iso::Span;
use crate::datetime::{Date, DateTime, Delta};
use crate::error::{EvalError, Failed};
use crate::interpolation::{InterpolatedString, Scope};
use crate::node::{field, text};
use crate::value::Value;

const DAY: i128 = 86_400_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    None,
    Day,
    /// The first day of the week, where 0 is Monday.
    Week(i64),
    Month,
}

/// The positions that clamping allows for boundaries.
#[derive(Debug)]
pub struct Clamping {
    unit: Unit,
    /// The granularity, which is subtracted from the clamped end.
    granularity: Span,
}

impl Clamping {
    /// # Errors
    /// Fails with ValueError if the target is unknown, or if it is a week whose first day is not set.
    pub fn build(node: &Value, granularity: Option<Span>, scope: &Scope<'_>, parameters: &Value) -> Result<Clamping, Failed> {
        let default = |seconds: i128| granularity.unwrap_or(Span::Delta(Delta { micros: seconds * 1_000_000 }));
        if node.is_none() {
            return Ok(Clamping { unit: Unit::None, granularity: default(1) });
        }
        let target = InterpolatedString::new(text(node, "target").unwrap_or_default(), parameters).eval_str(scope)?;
        let (unit, granularity) = match target.as_str() {
            "DAY" => (Unit::Day, default(1)),
            "WEEK" => (Unit::Week(weekday(field(node, "target_details"))?), default(86_400)),
            "MONTH" => (Unit::Month, default(86_400)),
            other => {
                let message = format!("Invalid clamping target {other}, expected DAY, WEEK, MONTH");
                return Err(Failed::system("ValueError", message));
            }
        };
        Ok(Clamping { unit, granularity })
    }

    /// Returns the first boundary at or after `time`.
    ///
    /// # Errors
    /// Fails with OverflowError if the result is after the year 9999.
    pub fn clamp(&self, time: &DateTime) -> Result<DateTime, EvalError> {
        self.moved(time, true)
    }

    /// Returns the end of an interval: the last boundary at or before `time`, minus one granularity.
    ///
    /// # Errors
    /// Fails with OverflowError if the result is before the year 1.
    pub fn end(&self, time: DateTime) -> Result<DateTime, EvalError> {
        match self.unit {
            Unit::None => Ok(time),
            _ => add(&self.moved(&time, false)?, self.granularity, -1),
        }
    }

    fn moved(&self, time: &DateTime, up: bool) -> Result<DateTime, EvalError> {
        let midnight = DateTime::from_date(time.date(), 0, time.zone.clone());
        let days = |days: i64| midnight.plus(Delta { micros: i128::from(days) * DAY });
        match self.unit {
            Unit::None => Ok(time.clone()),
            Unit::Day if up && time.time() != 0 => days(1),
            Unit::Day => Ok(midnight),
            Unit::Week(first) => {
                let ahead = (first - time.date().weekday()).rem_euclid(7);
                days(if up || ahead == 0 { ahead } else { ahead - 7 })
            }
            Unit::Month => {
                let (year, month, day) = time.date().parts();
                let date = match (day, up) {
                    (1, _) => return Ok(midnight),
                    (_, true) if month == 12 => Date::new(year + 1, 1, 1)?,
                    (_, true) => Date::new(year, month + 1, 1)?,
                    (_, false) => Date::new(year, month, 1)?,
                };
                Ok(DateTime::from_date(date, 0, time.zone.clone()))
            }
        }
    }
}

/// Returns `time + sign * span`.
pub(super) fn add(time: &DateTime, span: Span, sign: i128) -> Result<DateTime, EvalError> {
    match span {
        Span::Delta(delta) => time.plus(Delta { micros: sign * delta.micros }),
        Span::Duration(duration) if sign < 0 => duration.negated().add_to(time),
        Span::Duration(duration) => duration.add_to(time),
    }
}

fn weekday(details: &Value) -> Result<i64, Failed> {
    let names = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
    let Some(name) = text(details, "weekday") else {
        let message = "Given WEEK clamping, weekday needs to be provided as target_details";
        return Err(Failed::system("ValueError", message));
    };
    let place = names.iter().position(|it| *it == name);
    place.map(|at| at as i64).ok_or_else(|| Failed::system("ValueError", format!("Unknown weekday {name}")))
}
