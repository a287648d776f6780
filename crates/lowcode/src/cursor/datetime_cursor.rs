//! `DatetimeBasedCursor` without a previous state: an interval that is divided into slices
//! (`streams/concurrent/cursor.py`, `create_concurrent_cursor_from_datetime_based_cursor`).

use super::clamping::{Clamping, add};
use crate::context::EvalContext;
use crate::datetime::iso::{Span, parse_duration};
use crate::datetime::{self, DateTime, Delta};
use crate::error::{EvalError, Failed};
use crate::interpolation::{InterpolatedString, Scope};
use crate::node::{field, flag, items, kind, pair, parameters, set_field, text};
use crate::value::{Dict, Value};
use std::sync::Arc;

/// A `MinMaxDatetime`, or a plain string instead of it.
#[derive(Debug)]
pub struct MinMaxDatetime {
    datetime: InterpolatedString,
    min: Option<InterpolatedString>,
    max: Option<InterpolatedString>,
    format: String,
}

impl MinMaxDatetime {
    /// `format` is the format of the cursor. It is used if the date does not define its own.
    fn build(node: &Value, of_cursor: &Value, format: &str) -> MinMaxDatetime {
        if kind(node) != "MinMaxDatetime" {
            let datetime = InterpolatedString::new(&node.to_str(), parameters(of_cursor));
            return MinMaxDatetime { datetime, min: None, max: None, format: format.to_owned() };
        }
        let template = |key: &str| InterpolatedString::new(text(node, key).unwrap_or_default(), parameters(node));
        let bound = |key: &str| text(node, key).filter(|it| !it.is_empty()).map(|_| template(key));
        let own = text(node, "datetime_format").filter(|it| !it.is_empty());
        MinMaxDatetime {
            datetime: template("datetime"),
            min: bound("min_datetime"),
            max: bound("max_datetime"),
            format: own.unwrap_or(format).to_owned(),
        }
    }

    /// # Errors
    /// Fails with ValueError if a date does not match the format.
    fn eval(&self, scope: &Scope<'_>) -> Result<DateTime, EvalError> {
        let mut time = datetime::parse(&self.datetime.eval_str(scope)?, &self.format)?;
        for (bound, is_min) in [(&self.min, true), (&self.max, false)] {
            let text = bound.as_ref().map(|it| it.eval_str(scope)).transpose()?.unwrap_or_default();
            if !text.is_empty() {
                let bound = datetime::parse(&text, &self.format)?;
                if (is_min && after(&bound, &time)) || (!is_min && after(&time, &bound)) {
                    time = bound;
                }
            }
        }
        Ok(time)
    }
}

fn after(a: &DateTime, b: &DateTime) -> bool {
    a.epoch_micros() > b.epoch_micros()
}

/// A cursor over a time field.
#[derive(Debug)]
pub struct DatetimeCursor {
    pub field: Arc<str>,
    pub start_field: Arc<str>,
    pub end_field: Arc<str>,
    start: DateTime,
    end: Option<MinMaxDatetime>,
    step: Option<Span>,
    granularity: Option<Span>,
    format: String,
    input_formats: Vec<String>,
    clamping: Clamping,
    strict: bool,
}

fn duration(text: Option<&str>) -> Result<Option<Span>, EvalError> {
    text.filter(|it| !it.is_empty()).map(parse_duration).transpose()
}

/// Evaluates a templated duration. Returns `None` if the text is empty.
fn template_duration(node: &Value, key: &str, scope: &Scope<'_>) -> Result<Option<Span>, Failed> {
    let Some(text) = text(node, key).filter(|it| !it.is_empty()) else { return Ok(None) };
    match InterpolatedString::new(text, parameters(node)).eval(scope, &[])? {
        Value::Str(text) => Ok(duration(Some(&text))?),
        other if other.truthy() => Err(Failed::system("TypeError", format!("Expecting a string {}", other.repr()))),
        _ => Ok(None),
    }
}

impl DatetimeCursor {
    /// # Errors
    /// Fails if the CDK refuses the cursor: a start date in another format, a step without a granularity, or an invalid duration.
    pub fn build(node: &Value, at: &EvalContext<'_>) -> Result<DatetimeCursor, Failed> {
        let scope = at.scope(Vec::new());
        let name = |key: &str, default: &str| {
            let text = text(node, key).filter(|it| !it.is_empty()).unwrap_or(default);
            InterpolatedString::new(text, parameters(node)).eval_str(&scope).map(Arc::from)
        };
        let format = text(node, "datetime_format").unwrap_or_default().to_owned();
        let granularity = duration(text(node, "cursor_granularity"))?;
        template_duration(node, "lookback_window", &scope)?;
        let end = set_field(node, "end_datetime").filter(|it| it.truthy());
        let start = MinMaxDatetime::build(field(node, "start_datetime"), node, &format).eval(&scope)?;
        let steps = text(node, "step").is_some_and(|it| !it.is_empty());
        if steps != granularity.is_some() {
            return Err(Failed::system(
                "ValueError",
                format!(
                    "If step is defined, cursor_granularity should be as well and vice-versa. Right now, step is `{}` and \
                     cursor_granularity is `{}`",
                    field(node, "step").to_str(),
                    field(node, "cursor_granularity").to_str()
                ),
            ));
        }
        let mut input_formats: Vec<String> = items(node, "cursor_datetime_formats").iter().map(Value::to_str).collect();
        input_formats.push(format.clone());
        Ok(DatetimeCursor {
            field: name("cursor_field", "")?,
            start_field: name("partition_field_start", "start_time")?,
            end_field: name("partition_field_end", "end_time")?,
            start,
            end: end.map(|it| MinMaxDatetime::build(it, node, &format)),
            step: template_duration(node, "step", &scope)?,
            clamping: Clamping::build(field(node, "clamping"), granularity, &scope, parameters(node))?,
            granularity,
            format,
            input_formats,
            strict: flag(node, "is_compare_strictly"),
        })
    }

    /// Returns the end of the interval: `end_datetime`, or the current time if it is not set.
    ///
    /// # Errors
    /// Fails with ValueError if a date does not match the format.
    fn end(&self, at: &EvalContext<'_>) -> Result<DateTime, Failed> {
        let end = match &self.end {
            Some(end) => end.eval(&at.scope(Vec::new()))?,
            None => DateTime::from_jiff(at.host.now()),
        };
        Ok(self.clamping.end(end)?)
    }

    /// Returns the slices, which are produced one at a time.
    ///
    /// # Errors
    /// Fails like `DatetimeCursor::end`.
    pub fn intervals(&self, at: &EvalContext<'_>) -> Result<Intervals, Failed> {
        let upper = self.end(at)?;
        let lower = self.clamping.clamp(&self.start)?;
        let (from, to) = (lower.epoch_micros(), upper.epoch_micros());
        let start = self.start.epoch_micros();
        let none = start > to || (start == to && self.granularity.is_none()) || from > to || (from == to && self.strict);
        let whole = !none && self.later(&lower, &upper)?.epoch_micros() >= to;
        Ok(Intervals { lower, upper, whole, done: none })
    }

    /// Returns `lower + step`, or the end of the interval if that is beyond the year 9999 (`_evaluate_upper_safely`).
    fn later(&self, lower: &DateTime, upper: &DateTime) -> Result<DateTime, Failed> {
        match self.step.map(|step| add(lower, step, 1)) {
            Some(Ok(time)) => Ok(time),
            Some(Err(error)) if error.class != "OverflowError" => Err(error.into()),
            _ => Ok(upper.clone()),
        }
    }

    fn less_granularity(&self, time: &DateTime) -> Result<DateTime, Failed> {
        match self.granularity {
            Some(span) => Ok(add(time, span, -1)?),
            None => Ok(time.clone()),
        }
    }

    fn slice(&self, start: &DateTime, end: &DateTime) -> Dict {
        let mut dict = pair(self.start_field.clone(), Value::from(datetime::format(start, &self.format)));
        dict.insert(self.end_field.clone(), Value::from(datetime::format(end, &self.format)));
        dict
    }

    /// Parses a cursor value. Returns `None` if no format matches.
    ///
    /// # Errors
    /// Fails with the exceptions of Python other than ValueError.
    pub fn parse(&self, value: &Value) -> Result<Option<DateTime>, Failed> {
        for format in &self.input_formats {
            let whole = matches!(format.as_str(), "%s" | "%ms" | "%epoch_microseconds");
            let text = match value {
                Value::Float(float) if whole && float.is_finite() => format!("{:.0}", float.trunc()),
                Value::Bool(bool) if whole || format == "%s_as_float" => u8::from(*bool).to_string(),
                Value::List(_) | Value::Dict(_) | Value::None if whole || format == "%s_as_float" => {
                    let message = format!("int() argument must be a string or a real number, not '{}'", value.type_name());
                    return Err(Failed::system("TypeError", message));
                }
                other => other.to_str(),
            };
            match datetime::parse(&text, format) {
                Ok(time) => return Ok(Some(time)),
                Err(error) if error.class == "ValueError" => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether the record is in the cursor's interval. A record without a readable cursor value counts as being in it.
    ///
    /// # Errors
    /// Fails like `DatetimeCursor::end`, or if the record is not a dict.
    pub fn should_be_synced(&self, record: &Value, at: &EvalContext<'_>) -> Result<bool, Failed> {
        let Some(time) = self.value_of(record)? else { return Ok(true) };
        let time = time.epoch_micros();
        Ok(self.start.epoch_micros() <= time && time <= self.end(at)?.epoch_micros())
    }

    /// Returns the time in the cursor field of a record.
    ///
    /// # Errors
    /// Fails if the record is not a dict.
    pub fn value_of(&self, record: &Value) -> Result<Option<DateTime>, Failed> {
        let Value::Dict(dict) = record else {
            return Err(Failed::system("AttributeError", format!("'{}' object has no attribute 'get'", record.type_name())));
        };
        match dict.get(&self.field) {
            None | Some(Value::None) => Ok(None),
            Some(value) => self.parse(value),
        }
    }

    /// Formats a time in the cursor's own format.
    #[must_use]
    pub fn text(&self, time: &DateTime) -> Value {
        Value::from(datetime::format(time, &self.format))
    }

    /// Returns the start of the interval.
    #[must_use]
    pub fn start(&self) -> &DateTime {
        &self.start
    }

    /// Returns the next instant after `time`: one granularity later, or one millisecond later if there is no granularity.
    #[must_use]
    pub fn increment(&self, time: &DateTime) -> i64 {
        let span = self.granularity.unwrap_or(Span::Delta(Delta { micros: 1000 }));
        add(time, span, 1).map_or(i64::MAX, |it| it.epoch_micros())
    }
}

/// The remaining slices of one interval.
#[derive(Debug)]
pub struct Intervals {
    lower: DateTime,
    upper: DateTime,
    /// Whether the interval is no longer than one step.
    whole: bool,
    done: bool,
}

impl Intervals {
    /// Returns the next cursor slice. The last slice ends at the end of the interval. The others end one granularity
    /// before the next slice starts.
    ///
    /// # Errors
    /// Fails if a date is beyond the year 9999.
    pub fn next(&mut self, cursor: &DatetimeCursor) -> Result<Option<Dict>, Failed> {
        if self.done {
            return Ok(None);
        }
        if self.whole {
            self.done = true;
            let end = match cursor.granularity {
                Some(_) => self.upper.clone(),
                None => cursor.clamping.clamp(&self.upper)?,
            };
            return Ok(Some(cursor.slice(&self.lower, &end)));
        }
        let later = cursor.later(&self.lower, &self.upper)?;
        let to = self.upper.epoch_micros();
        let reached = later.epoch_micros() >= to;
        let next = if reached { self.upper.clone() } else { cursor.clamping.clamp(&later)? };
        let reached = reached || next.epoch_micros() == to;
        let lower = cursor.clamping.clamp(&self.lower)?;
        if lower.epoch_micros() >= next.epoch_micros() {
            self.done = true;
            return Ok(None);
        }
        let end = if reached { next.clone() } else { cursor.less_granularity(&next)? };
        self.lower = next;
        self.done = reached;
        Ok(Some(cursor.slice(&lower, &end)))
    }
}

#[cfg(test)]
#[path = "datetime_cursor_tests.rs"]
mod tests;
