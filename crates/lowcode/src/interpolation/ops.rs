//! Python's operators: arithmetic, comparison, membership, subscripts.

use super::ast::{BinaryOp, Comparison, Sign};
use super::object::{Object, type_error};
use super::{EvalError, percent, time_ops};
use crate::datetime::{Delta, Duration};
use crate::value::Value;
use std::cmp::Ordering;

/// Limit for the length of a text or list that an operator produces.
pub(super) const MAX_LENGTH: usize = 1 << 20;

pub(super) fn too_large<T>() -> Result<T, EvalError> {
    Err(EvalError::new("MemoryError", "the template produces more text or items than allowed"))
}

pub(super) fn unsupported<T>(op: BinaryOp, a: &Object<'_>, b: &Object<'_>) -> Result<T, EvalError> {
    let (a, b) = (a.type_name(), b.type_name());
    type_error(format!("unsupported operand type(s) for {}: '{a}' and '{b}'", op.sign()))
}

fn undefined_error<T>(message: &str) -> Result<T, EvalError> {
    Err(EvalError::new("UndefinedError", message))
}

/// `a op b`.
pub(super) fn binary<'a>(op: BinaryOp, a: &Object<'a>, b: &Object<'a>) -> Result<Object<'a>, EvalError> {
    match (a, b) {
        // `'%s' % undefined` is formatted. Every other operation on an undefined operand raises an error.
        (Object::Str(template) | Object::Markup(template), _) if op == BinaryOp::Mod => {
            percent::percent(template, b).map(Object::str)
        }
        (Object::Undefined(message), _) | (_, Object::Undefined(message)) => undefined_error(message),
        _ => match (a.int(), b.int()) {
            (Some(x), Some(y)) => integers(op, x, y),
            _ => match (a.number(), b.number()) {
                (Some(x), Some(y)) => floats(op, x, y),
                _ => others(op, a, b),
            },
        },
    }
}

pub(super) fn zero_division<T>(message: &str) -> Result<T, EvalError> {
    Err(EvalError::new("ZeroDivisionError", message))
}

pub(super) fn integers<'a>(op: BinaryOp, x: i128, y: i128) -> Result<Object<'a>, EvalError> {
    let result = match op {
        BinaryOp::Add => x.checked_add(y),
        BinaryOp::Sub => x.checked_sub(y),
        BinaryOp::Mul => x.checked_mul(y),
        BinaryOp::Div if y == 0 => return zero_division("division by zero"),
        BinaryOp::Div => return Ok(Object::Float(x as f64 / y as f64)),
        BinaryOp::FloorDiv | BinaryOp::Mod if y == 0 => return zero_division("integer division or modulo by zero"),
        BinaryOp::FloorDiv => {
            x.checked_div(y).map(|q| if x.rem_euclid(y) != 0 && (x < 0) != (y < 0) { (x - floor_mod(x, y)) / y } else { q })
        }
        BinaryOp::Mod => Some(floor_mod(x, y)),
        BinaryOp::Pow if y < 0 => return floats(op, x as f64, y as f64),
        BinaryOp::Pow => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
    };
    // Python's integers have no size limit. Here, a result that does not fit in 128 bits is an error.
    result.map_or_else(too_large, |int| Ok(Object::Int(int)))
}

pub(super) fn floor_mod(x: i128, y: i128) -> i128 {
    let rest = x.checked_rem(y).unwrap_or(0);
    if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
}

fn floats<'a>(op: BinaryOp, x: f64, y: f64) -> Result<Object<'a>, EvalError> {
    Ok(Object::Float(match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div if y == 0.0 => return zero_division("float division by zero"),
        BinaryOp::Div => x / y,
        BinaryOp::FloorDiv if y == 0.0 => return zero_division("float floor division by zero"),
        BinaryOp::Mod if y == 0.0 => return zero_division("float modulo"),
        BinaryOp::FloorDiv => ((x - float_mod(x, y)) / y).round(),
        BinaryOp::Mod => float_mod(x, y),
        BinaryOp::Pow if x == 0.0 && y < 0.0 => return zero_division("0.0 cannot be raised to a negative power"),
        BinaryOp::Pow => {
            let result = x.powf(y);
            if result.is_infinite() && x.is_finite() && y.is_finite() {
                return Err(EvalError::new("OverflowError", "(34, 'Numerical result out of range')"));
            }
            result
        }
    }))
}

fn float_mod(x: f64, y: f64) -> f64 {
    let rest = x % y;
    if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
}

fn others<'a>(op: BinaryOp, a: &Object<'a>, b: &Object<'a>) -> Result<Object<'a>, EvalError> {
    match (op, a, b) {
        (BinaryOp::Add, Object::Str(x), Object::Str(y)) => join_text(x, y).map(Object::str),
        (BinaryOp::Add, Object::Markup(x), Object::Str(y)) => {
            join_text(x, &super::filters::text::escaped(y)).map(|it| Object::Markup(it.into()))
        }
        (BinaryOp::Add, Object::Str(x), Object::Markup(y)) => {
            join_text(&super::filters::text::escaped(x), y).map(|it| Object::Markup(it.into()))
        }
        (BinaryOp::Add, Object::Markup(x), Object::Markup(y)) => join_text(x, y).map(|it| Object::Markup(it.into())),
        (BinaryOp::Add, Object::Bytes(x), Object::Bytes(y)) => Ok(Object::Bytes([&**x, &**y].concat().into())),
        (BinaryOp::Add, Object::Tuple(x), Object::Tuple(y)) => Ok(Object::tuple([x.as_slice(), y.as_slice()].concat())),
        (BinaryOp::Add, _, _) if a.is_list() && b.is_list() => {
            let mut items = sequence(a)?;
            items.extend(sequence(b)?);
            Ok(Object::list(items))
        }
        (BinaryOp::Mul, x, y) if x.int().is_some() => repeat(y, x.int().unwrap_or(0), a, b),
        (BinaryOp::Mul, x, y) if y.int().is_some() => repeat(x, y.int().unwrap_or(0), a, b),
        (BinaryOp::Mul, Object::Delta(delta), Object::Float(by)) | (BinaryOp::Mul, Object::Float(by), Object::Delta(delta)) => {
            Delta::new((delta.micros as f64 * by).round_ties_even() as i128).map(Object::Delta)
        }
        _ => time_ops::binary(op, a, b),
    }
}

fn join_text(a: &str, b: &str) -> Result<String, EvalError> {
    if a.len() + b.len() > MAX_LENGTH {
        return too_large();
    }
    Ok([a, b].concat())
}

fn repeat<'a>(item: &Object<'a>, times: i128, a: &Object<'a>, b: &Object<'a>) -> Result<Object<'a>, EvalError> {
    let count = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    let fits = |length: usize| if length.saturating_mul(count) > MAX_LENGTH { too_large() } else { Ok(()) };
    Ok(match item {
        Object::Str(text) => {
            fits(text.len())?;
            Object::str(text.repeat(count))
        }
        Object::Markup(text) => {
            fits(text.len())?;
            Object::Markup(text.repeat(count).into())
        }
        Object::Tuple(items) => {
            fits(items.len() * 16)?;
            Object::tuple(repeated(items, count))
        }
        Object::Delta(delta) => Object::Delta(Delta::new(delta.micros.saturating_mul(times))?),
        Object::Duration(it) => Object::Duration(Duration {
            years: it.years * times as f64,
            months: it.months * times as f64,
            delta: Delta::new(it.delta.micros.saturating_mul(times))?,
        }),
        list if list.is_list() => {
            let items = sequence(list)?;
            fits(items.len() * 16)?;
            Object::list(repeated(&items, count))
        }
        _ => return unsupported(BinaryOp::Mul, a, b),
    })
}

fn repeated<'a>(items: &[Object<'a>], count: usize) -> Vec<Object<'a>> {
    std::iter::repeat_n(items, count).flatten().cloned().collect()
}

/// `+a` and `-a`.
pub(super) fn signed<'a>(sign: Sign, a: &Object<'a>) -> Result<Object<'a>, EvalError> {
    let minus = sign == Sign::Minus;
    Ok(match a {
        Object::Undefined(message) => return undefined_error(message),
        Object::Float(float) => Object::Float(if minus { -float } else { *float }),
        Object::Delta(delta) => Object::Delta(Delta { micros: if minus { -delta.micros } else { delta.micros } }),
        Object::Duration(it) if minus => Object::Duration(it.negated()),
        other => match other.int() {
            Some(int) if minus => Object::Int(int.checked_neg().map_or_else(too_large, Ok)?),
            Some(int) => Object::Int(int),
            None => {
                return type_error(format!("bad operand type for unary {}: '{}'", if minus { '-' } else { '+' }, a.type_name()));
            }
        },
    })
}

/// The items of a list or a tuple.
pub(super) fn sequence<'a>(obj: &Object<'a>) -> Result<Vec<Object<'a>>, EvalError> {
    match obj {
        Object::List(list) => Ok(list.borrow().clone()),
        Object::Tuple(items) | Object::View(_, items) => Ok(items.to_vec()),
        Object::Ref(Value::List(list)) => Ok(list.iter().map(Object::from_value).collect()),
        other => type_error(format!("'{}' object is not a sequence", other.type_name())),
    }
}

/// The items that Python's `iter(x)` yields.
pub(super) fn items<'a>(obj: &Object<'a>) -> Result<Vec<Object<'a>>, EvalError> {
    Ok(match obj {
        Object::Undefined(_) => Vec::new(),
        Object::Str(text) | Object::Markup(text) => {
            text.chars().map(|c| Object::str(c.encode_utf8(&mut [0; 4]) as &str)).collect()
        }
        Object::Bytes(bytes) => bytes.iter().map(|b| Object::Int(i128::from(*b))).collect(),
        Object::Ref(Value::Dict(dict)) => dict.keys().map(|key| Object::Str(key.clone())).collect(),
        Object::Dict(map) => map.borrow().values().map(|(key, _)| key.clone()).collect(),
        Object::Set(map) => map.values().map(|(key, _)| key.clone()).collect(),
        Object::Iter(iter) => iter.borrow_mut().drain(..).collect(),
        Object::List(_) | Object::Tuple(_) | Object::View(..) | Object::Ref(_) => sequence(obj)?,
        other => return type_error(format!("'{}' object is not iterable", other.type_name())),
    })
}

/// Python's `len(x)`.
pub(super) fn length(obj: &Object<'_>) -> Result<usize, EvalError> {
    Ok(match obj {
        Object::Undefined(_) => 0,
        Object::Str(text) | Object::Markup(text) => text.chars().count(),
        Object::Bytes(bytes) => bytes.len(),
        Object::Ref(Value::Dict(dict)) => dict.len(),
        Object::Ref(Value::List(list)) => list.len(),
        Object::Dict(map) => map.borrow().len(),
        Object::Set(map) => map.len(),
        Object::List(list) => list.borrow().len(),
        Object::Tuple(items) | Object::View(_, items) => items.len(),
        Object::Loop(it) => it.borrow().items.len(),
        other => return type_error(format!("object of type '{}' has no len()", other.type_name())),
    })
}

/// Python's `a == b`.
pub(super) fn equal<'a>(a: &Object<'a>, b: &Object<'a>) -> Result<bool, EvalError> {
    equal_at(a, b, 0)
}

fn equal_at<'a>(a: &Object<'a>, b: &Object<'a>, depth: usize) -> Result<bool, EvalError> {
    if depth > 100 {
        return Err(EvalError::new("RecursionError", "maximum recursion depth exceeded in comparison"));
    }
    let all = |x: &[Object<'a>], y: &[Object<'a>]| -> Result<bool, EvalError> {
        if x.len() != y.len() {
            return Ok(false);
        }
        for (x, y) in x.iter().zip(y) {
            if !equal_at(x, y, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if let (Some(x), Some(y)) = (a.text(), b.text()) {
        return Ok(x == y);
    }
    if let (Some(x), Some(y)) = (a.int(), b.int()) {
        return Ok(x == y);
    }
    if let (Some(x), Some(y)) = (a.number(), b.number()) {
        return Ok(x == y);
    }
    if a.is_list() && b.is_list() {
        return all(&sequence(a)?, &sequence(b)?);
    }
    if a.is_dict() && b.is_dict() {
        return equal_dicts(a, b, depth);
    }
    Ok(match (a, b) {
        (Object::None, Object::None) | (Object::Undefined(_), Object::Undefined(_)) => true,
        (Object::Tuple(x), Object::Tuple(y)) => all(x, y)?,
        (Object::Bytes(x), Object::Bytes(y)) => x == y,
        (Object::Set(x), Object::Set(y)) => x.len() == y.len() && x.keys().all(|key| y.contains_key(key)),
        (Object::View(x, a), Object::View(y, b)) => x == y && *x != "dict_values" && all(a, b)?,
        (Object::Date(x), Object::Date(y)) => x == y,
        (Object::Time(x), Object::Time(y)) => x == y,
        (Object::DateTime(x), Object::DateTime(y)) => x.compare(y) == Some(Ordering::Equal),
        (Object::Delta(x), Object::Delta(y)) => x == y,
        (Object::Duration(x), Object::Duration(y)) => {
            x.years * 12.0 + x.months == y.years * 12.0 + y.months && x.delta == y.delta
        }
        (Object::Zone(x), Object::Zone(y)) => x.offset == y.offset,
        (Object::Global(x), Object::Global(y)) => x == y,
        _ => false,
    })
}

fn equal_dicts<'a>(a: &Object<'a>, b: &Object<'a>, depth: usize) -> Result<bool, EvalError> {
    if length(a)? != length(b)? {
        return Ok(false);
    }
    for key in items(a)? {
        match (super::access::dict_get(a, &key)?, super::access::dict_get(b, &key)?) {
            (Some(x), Some(y)) if equal_at(&x, &y, depth + 1)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Compares `a` and `b` as Python does. Returns `None` if one of them is NaN.
pub(super) fn order<'a>(a: &Object<'a>, b: &Object<'a>, sign: &str) -> Result<Option<Ordering>, EvalError> {
    order_at(a, b, sign, 0)
}

fn order_at<'a>(a: &Object<'a>, b: &Object<'a>, sign: &str, depth: usize) -> Result<Option<Ordering>, EvalError> {
    if let (Some(x), Some(y)) = (a.text(), b.text()) {
        return Ok(Some(x.cmp(y)));
    }
    if let (Some(x), Some(y)) = (a.int(), b.int()) {
        return Ok(Some(x.cmp(&y)));
    }
    if let (Some(x), Some(y)) = (a.number(), b.number()) {
        return Ok(x.partial_cmp(&y));
    }
    let both = matches!((a, b), (Object::Tuple(_), Object::Tuple(_))) || a.is_list() && b.is_list();
    if both && depth < 100 {
        let (x, y) = (sequence(a)?, sequence(b)?);
        for (x, y) in x.iter().zip(&y) {
            if !equal_at(x, y, depth)? {
                return order_at(x, y, sign, depth + 1);
            }
        }
        return Ok(Some(x.len().cmp(&y.len())));
    }
    match (a, b) {
        (Object::Undefined(message), _) | (_, Object::Undefined(message)) => undefined_error(message),
        (Object::Bytes(x), Object::Bytes(y)) => Ok(Some(x.cmp(y))),
        (Object::Date(x), Object::Date(y)) => Ok(Some(x.cmp(y))),
        (Object::Time(x), Object::Time(y)) => Ok(Some(x.cmp(y))),
        (Object::Delta(x), Object::Delta(y)) => Ok(Some(x.cmp(y))),
        (Object::DateTime(x), Object::DateTime(y)) => match x.compare(y) {
            Some(order) => Ok(Some(order)),
            None => type_error("can't compare offset-naive and offset-aware datetimes"),
        },
        (Object::DateTime(_), Object::Date(_)) | (Object::Date(_), Object::DateTime(_)) => {
            type_error("can't compare datetime.datetime to datetime.date")
        }
        _ => type_error(format!("'{sign}' not supported between instances of '{}' and '{}'", a.type_name(), b.type_name())),
    }
}

/// One comparison of a chain such as `a < b <= c`.
pub(super) fn compare<'a>(cmp: Comparison, a: &Object<'a>, b: &Object<'a>) -> Result<bool, EvalError> {
    Ok(match cmp {
        Comparison::Eq => equal(a, b)?,
        Comparison::Ne => !equal(a, b)?,
        Comparison::Gt => order(a, b, ">")? == Some(Ordering::Greater),
        Comparison::Ge => matches!(order(a, b, ">=")?, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Lt => order(a, b, "<")? == Some(Ordering::Less),
        Comparison::Le => matches!(order(a, b, "<=")?, Some(Ordering::Less | Ordering::Equal)),
        Comparison::In => contains(b, a)?,
        Comparison::NotIn => !contains(b, a)?,
    })
}

/// Python's `item in container`.
pub(super) fn contains<'a>(container: &Object<'a>, item: &Object<'a>) -> Result<bool, EvalError> {
    if let Some(text) = container.text() {
        return match item.text() {
            Some(part) => Ok(text.contains(&**part)),
            None => type_error(format!("'in <string>' requires string as left operand, not {}", item.type_name())),
        };
    }
    if container.is_dict() {
        return Ok(super::access::dict_get(container, item)?.is_some());
    }
    match container {
        Object::Set(map) => Ok(map.contains_key(&item.key()?)),
        Object::Bytes(bytes) => Ok(item.int().is_some_and(|byte| bytes.iter().any(|b| i128::from(*b) == byte))),
        other if matches!(other, Object::Undefined(_)) || items_of(other) => {
            for it in items(other)? {
                if equal(&it, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        other => type_error(format!("argument of type '{}' is not iterable", other.type_name())),
    }
}

fn items_of(obj: &Object<'_>) -> bool {
    matches!(obj, Object::List(_) | Object::Tuple(_) | Object::View(..) | Object::Ref(_) | Object::Iter(_))
}
