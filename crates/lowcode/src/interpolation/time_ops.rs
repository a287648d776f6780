//! Arithmetic of `date`, `datetime`, `timedelta` and isodate's `Duration`.

use super::EvalError;
use super::ast::BinaryOp;
use super::object::{Object, type_error};
use super::ops::{floor_mod, integers, too_large, unsupported, zero_division};
use crate::datetime::{DAY, Date, DateTime, Delta, Duration};
use std::rc::Rc;

/// Evaluates `a op b`. At least one operand is a date, a time or a duration.
///
/// # Errors
/// TypeError if Python does not support the operation for these types; OverflowError and ZeroDivisionError as in Python.
pub(super) fn binary<'a>(op: BinaryOp, a: &Object<'a>, b: &Object<'a>) -> Result<Object<'a>, EvalError> {
    let minus = op == BinaryOp::Sub;
    let signed = |delta: &Delta| Delta { micros: if minus { -delta.micros } else { delta.micros } };
    let time = |time: DateTime| Object::DateTime(Rc::new(time));
    Ok(match (op, a, b) {
        (BinaryOp::Add | BinaryOp::Sub, Object::DateTime(x), Object::Delta(y)) => time(x.plus(signed(y))?),
        (BinaryOp::Add, Object::Delta(y), Object::DateTime(x)) => time(x.plus(*y)?),
        (BinaryOp::Sub, Object::DateTime(x), Object::DateTime(y)) => {
            if x.zone.is_some() != y.zone.is_some() {
                return type_error("can't subtract offset-naive and offset-aware datetimes");
            }
            Object::Delta(Delta { micros: i128::from(x.epoch_micros() - y.epoch_micros()) })
        }
        (BinaryOp::Add | BinaryOp::Sub, Object::Date(x), Object::Delta(y)) => {
            // For a date plus or minus a `timedelta`, Python uses only the days of the `timedelta`.
            let days = if minus { -y.days() } else { y.days() };
            Object::Date(Date::from_ordinal(x.ordinal() + days)?)
        }
        (BinaryOp::Add, Object::Delta(_), Object::Date(_)) => return binary(op, b, a),
        (BinaryOp::Sub, Object::Date(x), Object::Date(y)) => {
            Object::Delta(Delta { micros: i128::from((x.ordinal() - y.ordinal()) * DAY) })
        }
        (BinaryOp::Add | BinaryOp::Sub, Object::Delta(x), Object::Delta(y)) => {
            Object::Delta(Delta::new(x.micros + signed(y).micros)?)
        }
        (BinaryOp::Add | BinaryOp::Sub, Object::DateTime(x), Object::Duration(y)) => {
            let by = if minus { y.negated() } else { *y };
            time(by.add_to(x)?)
        }
        (BinaryOp::Add | BinaryOp::Sub, Object::Date(x), Object::Duration(y)) => {
            let by = if minus { y.negated() } else { *y };
            let days = if minus { -y.delta.days() } else { y.delta.days() };
            Object::Date(Date::from_ordinal(by.shift(*x)?.ordinal() + days)?)
        }
        (BinaryOp::Add, Object::Duration(_), Object::DateTime(_) | Object::Date(_)) => return binary(op, b, a),
        (BinaryOp::Add | BinaryOp::Sub, Object::Duration(_) | Object::Delta(_), Object::Duration(_) | Object::Delta(_)) => {
            let (x, y) = (duration(a), duration(b));
            let y = if minus { y.negated() } else { y };
            let delta = Delta::new(x.delta.micros + y.delta.micros)?;
            Object::Duration(Duration { years: x.years + y.years, months: x.months + y.months, delta })
        }
        (BinaryOp::Div, Object::Delta(_), Object::Delta(y))
        | (BinaryOp::FloorDiv | BinaryOp::Mod, Object::Delta(_), Object::Delta(y))
            if y.micros == 0 =>
        {
            return zero_division("division by zero");
        }
        (BinaryOp::Div, Object::Delta(x), Object::Delta(y)) => Object::Float(x.micros as f64 / y.micros as f64),
        (BinaryOp::FloorDiv, Object::Delta(x), Object::Delta(y)) => return integers(op, x.micros, y.micros),
        (BinaryOp::Mod, Object::Delta(x), Object::Delta(y)) => Object::Delta(Delta { micros: floor_mod(x.micros, y.micros) }),
        (BinaryOp::Div | BinaryOp::FloorDiv, Object::Delta(x), by) if by.number().is_some() => return divided(op, *x, by),
        _ => return unsupported(op, a, b),
    })
}

fn duration(span: &Object<'_>) -> Duration {
    match span {
        Object::Duration(duration) => *duration,
        Object::Delta(delta) => Duration { years: 0.0, months: 0.0, delta: *delta },
        _ => Duration { years: 0.0, months: 0.0, delta: Delta::default() },
    }
}

fn divided<'a>(op: BinaryOp, delta: Delta, by: &Object<'a>) -> Result<Object<'a>, EvalError> {
    let number = by.number().unwrap_or(0.0);
    if number == 0.0 {
        return zero_division("integer division or modulo by zero");
    }
    match (op, by.int()) {
        (BinaryOp::FloorDiv, Some(int)) => {
            let Object::Int(micros) = integers(BinaryOp::FloorDiv, delta.micros, int)? else { return too_large() };
            Delta::new(micros).map(Object::Delta)
        }
        (BinaryOp::FloorDiv, None) => unsupported(op, &Object::Delta(delta), by),
        _ => Delta::new((delta.micros as f64 / number).round_ties_even() as i128).map(Object::Delta),
    }
}
