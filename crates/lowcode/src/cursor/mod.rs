//! Cursors: over a time field, and over a counter.

mod clamping;
mod datetime_cursor;

use crate::context::EvalContext;
use crate::error::Failed;
use crate::interpolation::InterpolatedString;
use crate::node::{kind, pair, parameters, set_field, text};
use crate::value::{Dict, Value};
use datetime_cursor::{DatetimeCursor, Intervals};
use std::sync::{Arc, OnceLock};

/// The names of the start and the end of a slice.
pub type Boundary = (Arc<str>, Arc<str>);

/// The cursor of a stream.
#[derive(Debug)]
pub struct Cursor {
    /// The name of the cursor field in a record.
    pub field: Arc<str>,
    node: Value,
    /// Set when the cursor has been built. With a partition router, that happens at the first slice, so an invalid
    /// start date fails only then.
    made: OnceLock<Result<Made, Failed>>,
}

#[derive(Debug)]
pub enum Made {
    Datetime(Box<DatetimeCursor>),
    /// An `IncrementingCountCursor`, with its start value.
    Count(i64),
}

/// The smallest fraction of a counter that counts.
const COUNT_SCALE: i128 = 1_000_000;

impl Cursor {
    /// Builds a cursor now or, with `lazily`, when its first slice is requested.
    ///
    /// # Errors
    /// Fails if the CDK refuses the cursor.
    pub fn build(node: &Value, lazily: bool, at: &EvalContext<'_>) -> Result<Cursor, Failed> {
        let name = InterpolatedString::new(text(node, "cursor_field").unwrap_or_default(), parameters(node));
        let field: Arc<str> = name.eval_str(&at.scope(Vec::new()))?.into();
        let cursor = Cursor { field, node: node.clone(), made: OnceLock::new() };
        if !lazily {
            cursor.made(at)?;
        }
        Ok(cursor)
    }

    /// # Errors
    /// Fails like [`Cursor::build`].
    pub fn made(&self, at: &EvalContext<'_>) -> Result<&Made, Failed> {
        let make = || match kind(&self.node) {
            "DatetimeBasedCursor" => Ok(Made::Datetime(Box::new(DatetimeCursor::build(&self.node, at)?))),
            "IncrementingCountCursor" => Ok(Made::Count(start_value(&self.node, at)?)),
            other => Err(Failed::config("UnsupportedComponent", format!("incremental_sync {other} is not supported"))),
        };
        self.made.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// Returns the slices of the cursor.
    ///
    /// # Errors
    /// Fails like [`Cursor::build`].
    pub fn slices(&self, at: &EvalContext<'_>) -> Result<CursorSlices, Failed> {
        Ok(match self.made(at)? {
            Made::Datetime(cursor) => CursorSlices::Datetime(cursor.intervals(at)?),
            Made::Count(start) => CursorSlices::Count(Some(*start)),
        })
    }

    /// Returns the next slice of `slices`.
    ///
    /// # Errors
    /// Fails like [`Cursor::build`].
    pub fn next(&self, slices: &mut CursorSlices, at: &EvalContext<'_>) -> Result<Option<Dict>, Failed> {
        match (slices, self.made(at)?) {
            (CursorSlices::Datetime(intervals), Made::Datetime(cursor)) => intervals.next(cursor),
            (CursorSlices::Count(start), _) => Ok(start.take().map(|start| {
                let mut dict = pair("start", Value::Int(start));
                dict.insert("end".into(), Value::Float(f64::INFINITY));
                dict
            })),
            _ => Ok(None),
        }
    }

    /// Whether the record is in the cursor's interval.
    ///
    /// # Errors
    /// Fails if the record is not a dict.
    pub fn should_be_synced(&self, record: &Value, at: &EvalContext<'_>) -> Result<bool, Failed> {
        match self.made(at)? {
            Made::Datetime(cursor) => cursor.should_be_synced(record, at),
            Made::Count(start) => {
                let value = record.get(&self.field).and_then(Value::number);
                Ok(value.is_none_or(|value| value >= *start as f64))
            }
        }
    }
}

impl Cursor {
    /// Returns the cursor value of a record, as a number for comparisons and in the format of the cursor.
    ///
    /// # Errors
    /// Fails if the record is not a dict. Fails with TypeError if the value of a counter is not a number, because the CDK
    /// compares it with the start value.
    pub fn position(&self, record: &Value, at: &EvalContext<'_>) -> Result<Option<(i128, Value)>, Failed> {
        match self.made(at)? {
            Made::Datetime(cursor) => {
                Ok(cursor.value_of(record)?.map(|time| (i128::from(time.epoch_micros()), cursor.text(&time))))
            }
            Made::Count(_) => match record.get(&self.field) {
                None | Some(Value::None) => Ok(None),
                Some(value) => match (value.as_i64(), value.number()) {
                    (Some(int), _) => Ok(Some((i128::from(int) * COUNT_SCALE, value.clone()))),
                    (None, Some(float)) => Ok(Some(((float * COUNT_SCALE as f64) as i128, value.clone()))),
                    (None, None) => {
                        let message = format!("'<' not supported between instances of '{}' and 'int'", value.type_name());
                        Err(Failed::system("TypeError", message))
                    }
                },
            },
        }
    }

    /// Returns the value of a slice from which the state continues if there are no records.
    ///
    /// # Errors
    /// Fails like [`Cursor::build`].
    pub fn start_of(&self, slice: &Value, at: &EvalContext<'_>) -> Result<Option<(i128, Value)>, Failed> {
        Ok(match self.made(at)? {
            Made::Datetime(cursor) => slice.get(&cursor.start_field).map(|start| (i128::MIN, start.clone())),
            Made::Count(start) => Some((i128::from(*start) * COUNT_SCALE, Value::Int(*start))),
        })
    }

    /// Returns the names of the start and the end of a slice, if the slices of this cursor are time intervals.
    ///
    /// # Errors
    /// Fails like [`Cursor::build`].
    pub fn boundary_fields(&self, at: &EvalContext<'_>) -> Result<Option<Boundary>, Failed> {
        Ok(match self.made(at)? {
            Made::Datetime(cursor) => Some((cursor.start_field.clone(), cursor.end_field.clone())),
            Made::Count(_) => None,
        })
    }
}

/// The remaining slices of a cursor.
#[derive(Debug)]
pub enum CursorSlices {
    Datetime(Intervals),
    Count(Option<i64>),
}

fn start_value(node: &Value, at: &EvalContext<'_>) -> Result<i64, Failed> {
    let Some(start) = set_field(node, "start_value") else { return Ok(0) };
    let value = InterpolatedString::new(&start.to_str(), parameters(node)).eval(&at.scope(Vec::new()), &[])?;
    let number = match &value {
        Value::Str(text) => text.trim().parse().ok(),
        Value::Float(float) => Some(*float as i64),
        Value::Bool(bool) => Some(i64::from(*bool)),
        other => other.as_i64(),
    };
    let message = || format!("invalid literal for int() with base 10: {}", value.repr());
    number.ok_or_else(|| Failed::system("ValueError", message()))
}
