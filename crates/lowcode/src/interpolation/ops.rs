//! Python's operators: arithmetic, comparison, membership, subscripts.

use super::ast::{Cmp, Op, Sign};
use super::object::{Obj, type_error};
use super::{EvalError, percent};
use crate::datetime::{DAY, DateTime, Delta, Duration};
use crate::value::Value;
use std::cmp::Ordering;
use std::rc::Rc;

/// Longest text or list that an operator makes.
pub(super) const LENGTH: usize = 1 << 20;

pub(super) fn too_large<T>() -> Result<T, EvalError> {
    Err(EvalError::new("MemoryError", "a template made more than it may"))
}

fn unsupported<T>(op: Op, a: &Obj<'_>, b: &Obj<'_>) -> Result<T, EvalError> {
    let (a, b) = (a.type_name(), b.type_name());
    type_error(format!("unsupported operand type(s) for {}: '{a}' and '{b}'", op.sign()))
}

fn undefined_error<T>(message: &str) -> Result<T, EvalError> {
    Err(EvalError::new("UndefinedError", message))
}

/// `a op b`.
pub(super) fn binary<'a>(op: Op, a: &Obj<'a>, b: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
    match (a, b) {
        // `'%s' % undefined` formats; everything else with an undefined operand raises.
        (Obj::Str(template) | Obj::Markup(template), _) if op == Op::Mod => percent::percent(template, b).map(Obj::str),
        (Obj::Undefined(message), _) | (_, Obj::Undefined(message)) => undefined_error(message),
        _ => match (a.int(), b.int()) {
            (Some(x), Some(y)) => integers(op, x, y),
            _ => match (a.number(), b.number()) {
                (Some(x), Some(y)) => floats(op, x, y),
                _ => others(op, a, b),
            },
        },
    }
}

fn zero_division<T>(message: &str) -> Result<T, EvalError> {
    Err(EvalError::new("ZeroDivisionError", message))
}

fn integers<'a>(op: Op, x: i128, y: i128) -> Result<Obj<'a>, EvalError> {
    let result = match op {
        Op::Add => x.checked_add(y),
        Op::Sub => x.checked_sub(y),
        Op::Mul => x.checked_mul(y),
        Op::Div if y == 0 => return zero_division("division by zero"),
        Op::Div => return Ok(Obj::Float(x as f64 / y as f64)),
        Op::FloorDiv | Op::Mod if y == 0 => return zero_division("integer division or modulo by zero"),
        Op::FloorDiv => {
            x.checked_div(y).map(|q| if x.rem_euclid(y) != 0 && (x < 0) != (y < 0) { (x - floor_mod(x, y)) / y } else { q })
        }
        Op::Mod => Some(floor_mod(x, y)),
        Op::Pow if y < 0 => return floats(op, x as f64, y as f64),
        Op::Pow => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
    };
    // Python has no largest integer; what is beyond 128 bits is refused here.
    result.map_or_else(too_large, |int| Ok(Obj::Int(int)))
}

fn floor_mod(x: i128, y: i128) -> i128 {
    let rest = x.checked_rem(y).unwrap_or(0);
    if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
}

fn floats<'a>(op: Op, x: f64, y: f64) -> Result<Obj<'a>, EvalError> {
    Ok(Obj::Float(match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x * y,
        Op::Div if y == 0.0 => return zero_division("float division by zero"),
        Op::Div => x / y,
        Op::FloorDiv if y == 0.0 => return zero_division("float floor division by zero"),
        Op::Mod if y == 0.0 => return zero_division("float modulo"),
        Op::FloorDiv => ((x - float_mod(x, y)) / y).round(),
        Op::Mod => float_mod(x, y),
        Op::Pow if x == 0.0 && y < 0.0 => return zero_division("0.0 cannot be raised to a negative power"),
        Op::Pow => {
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

fn others<'a>(op: Op, a: &Obj<'a>, b: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
    match (op, a, b) {
        (Op::Add, Obj::Str(x), Obj::Str(y)) => join_text(x, y).map(Obj::str),
        (Op::Add, Obj::Markup(x), Obj::Str(y)) => {
            join_text(x, &super::filters::text::escaped(y)).map(|it| Obj::Markup(it.into()))
        }
        (Op::Add, Obj::Str(x), Obj::Markup(y)) => {
            join_text(&super::filters::text::escaped(x), y).map(|it| Obj::Markup(it.into()))
        }
        (Op::Add, Obj::Markup(x), Obj::Markup(y)) => join_text(x, y).map(|it| Obj::Markup(it.into())),
        (Op::Add, Obj::Bytes(x), Obj::Bytes(y)) => Ok(Obj::Bytes([&**x, &**y].concat().into())),
        (Op::Add, Obj::Tuple(x), Obj::Tuple(y)) => Ok(Obj::tuple([x.as_slice(), y.as_slice()].concat())),
        (Op::Add, _, _) if a.is_list() && b.is_list() => {
            let mut items = sequence(a)?;
            items.extend(sequence(b)?);
            Ok(Obj::list(items))
        }
        (Op::Mul, x, y) if x.int().is_some() => repeat(y, x.int().unwrap_or(0), a, b),
        (Op::Mul, x, y) if y.int().is_some() => repeat(x, y.int().unwrap_or(0), a, b),
        (Op::Mul, Obj::Delta(delta), Obj::Float(by)) | (Op::Mul, Obj::Float(by), Obj::Delta(delta)) => {
            Delta::new((delta.micros as f64 * by).round_ties_even() as i128).map(Obj::Delta)
        }
        _ => times(op, a, b),
    }
}

fn join_text(a: &str, b: &str) -> Result<String, EvalError> {
    if a.len() + b.len() > LENGTH {
        return too_large();
    }
    Ok([a, b].concat())
}

fn repeat<'a>(item: &Obj<'a>, times: i128, a: &Obj<'a>, b: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
    let count = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    let fits = |length: usize| if length.saturating_mul(count) > LENGTH { too_large() } else { Ok(()) };
    Ok(match item {
        Obj::Str(text) => {
            fits(text.len())?;
            Obj::str(text.repeat(count))
        }
        Obj::Markup(text) => {
            fits(text.len())?;
            Obj::Markup(text.repeat(count).into())
        }
        Obj::Tuple(items) => {
            fits(items.len() * 16)?;
            Obj::tuple(repeated(items, count))
        }
        Obj::Delta(delta) => Obj::Delta(Delta::new(delta.micros.saturating_mul(times))?),
        Obj::Duration(it) => Obj::Duration(Duration {
            years: it.years * times as f64,
            months: it.months * times as f64,
            delta: Delta::new(it.delta.micros.saturating_mul(times))?,
        }),
        list if list.is_list() => {
            let items = sequence(list)?;
            fits(items.len() * 16)?;
            Obj::list(repeated(&items, count))
        }
        _ => return unsupported(Op::Mul, a, b),
    })
}

fn repeated<'a>(items: &[Obj<'a>], count: usize) -> Vec<Obj<'a>> {
    std::iter::repeat_n(items, count).flatten().cloned().collect()
}

/// Arithmetic of dates, times and spans.
fn times<'a>(op: Op, a: &Obj<'a>, b: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
    let minus = op == Op::Sub;
    let signed = |delta: &Delta| Delta { micros: if minus { -delta.micros } else { delta.micros } };
    let time = |time: DateTime| Obj::DateTime(Rc::new(time));
    Ok(match (op, a, b) {
        (Op::Add | Op::Sub, Obj::DateTime(x), Obj::Delta(y)) => time(x.plus(signed(y))?),
        (Op::Add, Obj::Delta(y), Obj::DateTime(x)) => time(x.plus(*y)?),
        (Op::Sub, Obj::DateTime(x), Obj::DateTime(y)) => {
            if x.zone.is_some() != y.zone.is_some() {
                return type_error("can't subtract offset-naive and offset-aware datetimes");
            }
            Obj::Delta(Delta { micros: i128::from(x.epoch_micros() - y.epoch_micros()) })
        }
        (Op::Add | Op::Sub, Obj::Date(x), Obj::Delta(y)) => {
            // Python takes the days of the span only.
            let days = if minus { -y.days() } else { y.days() };
            Obj::Date(crate::datetime::Date::from_ordinal(x.ordinal + days)?)
        }
        (Op::Add, Obj::Delta(_), Obj::Date(_)) => return times(op, b, a),
        (Op::Sub, Obj::Date(x), Obj::Date(y)) => Obj::Delta(Delta { micros: i128::from((x.ordinal - y.ordinal) * DAY) }),
        (Op::Add | Op::Sub, Obj::Delta(x), Obj::Delta(y)) => Obj::Delta(Delta::new(x.micros + signed(y).micros)?),
        (Op::Add | Op::Sub, Obj::DateTime(x), Obj::Duration(y)) => {
            let by = if minus { y.negated() } else { *y };
            time(by.add_to(x)?)
        }
        (Op::Add | Op::Sub, Obj::Date(x), Obj::Duration(y)) => {
            let by = if minus { y.negated() } else { *y };
            let days = if minus { -y.delta.days() } else { y.delta.days() };
            Obj::Date(crate::datetime::Date::from_ordinal(by.shift(*x)?.ordinal + days)?)
        }
        (Op::Add, Obj::Duration(_), Obj::DateTime(_) | Obj::Date(_)) => return times(op, b, a),
        (Op::Add | Op::Sub, Obj::Duration(_) | Obj::Delta(_), Obj::Duration(_) | Obj::Delta(_)) => {
            let (x, y) = (duration(a), duration(b));
            let y = if minus { y.negated() } else { y };
            let delta = Delta::new(x.delta.micros + y.delta.micros)?;
            Obj::Duration(Duration { years: x.years + y.years, months: x.months + y.months, delta })
        }
        (Op::Div, Obj::Delta(_), Obj::Delta(y)) | (Op::FloorDiv | Op::Mod, Obj::Delta(_), Obj::Delta(y)) if y.micros == 0 => {
            return zero_division("division by zero");
        }
        (Op::Div, Obj::Delta(x), Obj::Delta(y)) => Obj::Float(x.micros as f64 / y.micros as f64),
        (Op::FloorDiv, Obj::Delta(x), Obj::Delta(y)) => return integers(op, x.micros, y.micros),
        (Op::Mod, Obj::Delta(x), Obj::Delta(y)) => Obj::Delta(Delta { micros: floor_mod(x.micros, y.micros) }),
        (Op::Div | Op::FloorDiv, Obj::Delta(x), by) if by.number().is_some() => return divided(op, *x, by),
        _ => return unsupported(op, a, b),
    })
}

fn duration(span: &Obj<'_>) -> Duration {
    match span {
        Obj::Duration(duration) => *duration,
        Obj::Delta(delta) => Duration { years: 0.0, months: 0.0, delta: *delta },
        _ => Duration { years: 0.0, months: 0.0, delta: Delta::default() },
    }
}

fn divided<'a>(op: Op, delta: Delta, by: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
    let number = by.number().unwrap_or(0.0);
    if number == 0.0 {
        return zero_division("integer division or modulo by zero");
    }
    match (op, by.int()) {
        (Op::FloorDiv, Some(int)) => {
            let Obj::Int(micros) = integers(Op::FloorDiv, delta.micros, int)? else { return too_large() };
            Delta::new(micros).map(Obj::Delta)
        }
        (Op::FloorDiv, None) => unsupported(op, &Obj::Delta(delta), by),
        _ => Delta::new((delta.micros as f64 / number).round_ties_even() as i128).map(Obj::Delta),
    }
}

/// `+a` and `-a`.
pub(super) fn signed<'a>(sign: Sign, a: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
    let minus = sign == Sign::Minus;
    Ok(match a {
        Obj::Undefined(message) => return undefined_error(message),
        Obj::Float(float) => Obj::Float(if minus { -float } else { *float }),
        Obj::Delta(delta) => Obj::Delta(Delta { micros: if minus { -delta.micros } else { delta.micros } }),
        Obj::Duration(it) if minus => Obj::Duration(it.negated()),
        other => match other.int() {
            Some(int) if minus => Obj::Int(int.checked_neg().map_or_else(too_large, Ok)?),
            Some(int) => Obj::Int(int),
            None => {
                return type_error(format!("bad operand type for unary {}: '{}'", if minus { '-' } else { '+' }, a.type_name()));
            }
        },
    })
}

/// The items of a list or a tuple.
pub(super) fn sequence<'a>(obj: &Obj<'a>) -> Result<Vec<Obj<'a>>, EvalError> {
    match obj {
        Obj::List(list) => Ok(list.borrow().clone()),
        Obj::Tuple(items) | Obj::View(_, items) => Ok(items.to_vec()),
        Obj::Ref(Value::List(list)) => Ok(list.iter().map(Obj::of).collect()),
        other => type_error(format!("'{}' object is not a sequence", other.type_name())),
    }
}

/// Python's `iter(x)`, all of it.
pub(super) fn items<'a>(obj: &Obj<'a>) -> Result<Vec<Obj<'a>>, EvalError> {
    Ok(match obj {
        Obj::Undefined(_) => Vec::new(),
        Obj::Str(text) | Obj::Markup(text) => text.chars().map(|c| Obj::str(c.encode_utf8(&mut [0; 4]) as &str)).collect(),
        Obj::Bytes(bytes) => bytes.iter().map(|b| Obj::Int(i128::from(*b))).collect(),
        Obj::Ref(Value::Dict(dict)) => dict.keys().map(|key| Obj::Str(key.clone())).collect(),
        Obj::Dict(map) => map.borrow().values().map(|(key, _)| key.clone()).collect(),
        Obj::Set(map) => map.values().map(|(key, _)| key.clone()).collect(),
        Obj::Iter(iter) => iter.borrow_mut().drain(..).collect(),
        Obj::List(_) | Obj::Tuple(_) | Obj::View(..) | Obj::Ref(_) => sequence(obj)?,
        other => return type_error(format!("'{}' object is not iterable", other.type_name())),
    })
}

/// Python's `len(x)`.
pub(super) fn length(obj: &Obj<'_>) -> Result<usize, EvalError> {
    Ok(match obj {
        Obj::Undefined(_) => 0,
        Obj::Str(text) | Obj::Markup(text) => text.chars().count(),
        Obj::Bytes(bytes) => bytes.len(),
        Obj::Ref(Value::Dict(dict)) => dict.len(),
        Obj::Ref(Value::List(list)) => list.len(),
        Obj::Dict(map) => map.borrow().len(),
        Obj::Set(map) => map.len(),
        Obj::List(list) => list.borrow().len(),
        Obj::Tuple(items) | Obj::View(_, items) => items.len(),
        Obj::Loop(it) => it.borrow().items.len(),
        other => return type_error(format!("object of type '{}' has no len()", other.type_name())),
    })
}

/// Python's `a == b`.
pub(super) fn equal<'a>(a: &Obj<'a>, b: &Obj<'a>) -> Result<bool, EvalError> {
    equal_at(a, b, 0)
}

fn equal_at<'a>(a: &Obj<'a>, b: &Obj<'a>, depth: usize) -> Result<bool, EvalError> {
    if depth > 100 {
        return Err(EvalError::new("RecursionError", "maximum recursion depth exceeded in comparison"));
    }
    let all = |x: &[Obj<'a>], y: &[Obj<'a>]| -> Result<bool, EvalError> {
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
        (Obj::None, Obj::None) | (Obj::Undefined(_), Obj::Undefined(_)) => true,
        (Obj::Tuple(x), Obj::Tuple(y)) => all(x, y)?,
        (Obj::Bytes(x), Obj::Bytes(y)) => x == y,
        (Obj::Set(x), Obj::Set(y)) => x.len() == y.len() && x.keys().all(|key| y.contains_key(key)),
        (Obj::View(x, a), Obj::View(y, b)) => x == y && *x != "dict_values" && all(a, b)?,
        (Obj::Date(x), Obj::Date(y)) => x == y,
        (Obj::Time(x), Obj::Time(y)) => x == y,
        (Obj::DateTime(x), Obj::DateTime(y)) => x.compare(y) == Some(Ordering::Equal),
        (Obj::Delta(x), Obj::Delta(y)) => x == y,
        (Obj::Duration(x), Obj::Duration(y)) => x.years * 12.0 + x.months == y.years * 12.0 + y.months && x.delta == y.delta,
        (Obj::Zone(x), Obj::Zone(y)) => x.offset == y.offset,
        (Obj::Global(x), Obj::Global(y)) => x == y,
        _ => false,
    })
}

fn equal_dicts<'a>(a: &Obj<'a>, b: &Obj<'a>, depth: usize) -> Result<bool, EvalError> {
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

/// Python's order of `a` and `b`; none where a number is NaN.
pub(super) fn order<'a>(a: &Obj<'a>, b: &Obj<'a>, sign: &str) -> Result<Option<Ordering>, EvalError> {
    order_at(a, b, sign, 0)
}

fn order_at<'a>(a: &Obj<'a>, b: &Obj<'a>, sign: &str, depth: usize) -> Result<Option<Ordering>, EvalError> {
    if let (Some(x), Some(y)) = (a.text(), b.text()) {
        return Ok(Some(x.cmp(y)));
    }
    if let (Some(x), Some(y)) = (a.int(), b.int()) {
        return Ok(Some(x.cmp(&y)));
    }
    if let (Some(x), Some(y)) = (a.number(), b.number()) {
        return Ok(x.partial_cmp(&y));
    }
    let both = matches!((a, b), (Obj::Tuple(_), Obj::Tuple(_))) || a.is_list() && b.is_list();
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
        (Obj::Undefined(message), _) | (_, Obj::Undefined(message)) => undefined_error(message),
        (Obj::Bytes(x), Obj::Bytes(y)) => Ok(Some(x.cmp(y))),
        (Obj::Date(x), Obj::Date(y)) => Ok(Some(x.cmp(y))),
        (Obj::Time(x), Obj::Time(y)) => Ok(Some(x.cmp(y))),
        (Obj::Delta(x), Obj::Delta(y)) => Ok(Some(x.cmp(y))),
        (Obj::DateTime(x), Obj::DateTime(y)) => match x.compare(y) {
            Some(order) => Ok(Some(order)),
            None => type_error("can't compare offset-naive and offset-aware datetimes"),
        },
        (Obj::DateTime(_), Obj::Date(_)) | (Obj::Date(_), Obj::DateTime(_)) => {
            type_error("can't compare datetime.datetime to datetime.date")
        }
        _ => type_error(format!("'{sign}' not supported between instances of '{}' and '{}'", a.type_name(), b.type_name())),
    }
}

/// One comparison of a chain.
pub(super) fn compare<'a>(cmp: Cmp, a: &Obj<'a>, b: &Obj<'a>) -> Result<bool, EvalError> {
    Ok(match cmp {
        Cmp::Eq => equal(a, b)?,
        Cmp::Ne => !equal(a, b)?,
        Cmp::Gt => order(a, b, ">")? == Some(Ordering::Greater),
        Cmp::Ge => matches!(order(a, b, ">=")?, Some(Ordering::Greater | Ordering::Equal)),
        Cmp::Lt => order(a, b, "<")? == Some(Ordering::Less),
        Cmp::Le => matches!(order(a, b, "<=")?, Some(Ordering::Less | Ordering::Equal)),
        Cmp::In => contains(b, a)?,
        Cmp::NotIn => !contains(b, a)?,
    })
}

/// Python's `item in container`.
pub(super) fn contains<'a>(container: &Obj<'a>, item: &Obj<'a>) -> Result<bool, EvalError> {
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
        Obj::Set(map) => Ok(map.contains_key(&item.key()?)),
        Obj::Bytes(bytes) => Ok(item.int().is_some_and(|byte| bytes.iter().any(|b| i128::from(*b) == byte))),
        other if matches!(other, Obj::Undefined(_)) || items_of(other) => {
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

fn items_of(obj: &Obj<'_>) -> bool {
    matches!(obj, Obj::List(_) | Obj::Tuple(_) | Obj::View(..) | Obj::Ref(_) | Obj::Iter(_))
}
