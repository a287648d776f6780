//! Looks up `x.name` and `x[key]` as Jinja2's sandbox does.

use super::object::{Object, undefined};
use super::ops::{length, sequence};
use super::{EvalError, methods};
use crate::value::Value;

/// Returns the value for a key of a dict.
///
/// # Errors
/// TypeError for an unhashable key.
pub(super) fn dict_get<'a>(dict: &Object<'a>, key: &Object<'a>) -> Result<Option<Object<'a>>, EvalError> {
    let hashed = match key.text() {
        Some(text) => {
            if let Object::Ref(Value::Dict(dict)) = dict {
                return Ok(dict.get(&**text).map(Object::from_value));
            }
            key.key()?
        }
        None => key.key()?,
    };
    Ok(match dict {
        Object::Dict(map) | Object::Namespace(map) => map.borrow().get(&hashed).map(|(_, value)| value.clone()),
        _ => None,
    })
}

/// Python's `obj[key]`. Returns `None` if Python raises LookupError or TypeError.
///
/// # Errors
/// UndefinedError if `obj` is undefined.
pub(super) fn item<'a>(obj: &Object<'a>, key: &Object<'a>) -> Result<Option<Object<'a>>, EvalError> {
    if let Object::Undefined(message) = obj {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    if obj.is_dict() {
        return Ok(dict_get(obj, key).unwrap_or(None));
    }
    let Some(index) = key.int() else { return Ok(None) };
    Ok(match obj {
        Object::Ref(Value::List(list)) => position(index, list.len()).and_then(|at| list.get(at)).map(Object::from_value),
        Object::List(list) => {
            let list = list.borrow();
            position(index, list.len()).and_then(|at| list.get(at)).cloned()
        }
        Object::Tuple(items) => position(index, items.len()).and_then(|at| items.get(at)).cloned(),
        Object::Str(text) => char_at(text, index).map(Object::str),
        Object::Markup(text) => char_at(text, index).map(|c| Object::Markup(c.into())),
        Object::Bytes(bytes) => position(index, bytes.len()).and_then(|at| bytes.get(at)).map(|b| Object::Int(i128::from(*b))),
        _ => None,
    })
}

fn char_at(text: &str, index: i128) -> Option<String> {
    let at = if text.is_ascii() { position(index, text.len())? } else { position(index, text.chars().count())? };
    text.chars().nth(at).map(String::from)
}

/// Converts an index to a position. A negative index counts from the end. Returns `None` if it is out of range.
pub(super) fn position(index: i128, length: usize) -> Option<usize> {
    let length = length as i128;
    let at = if index < 0 { index + length } else { index };
    usize::try_from(at).ok().filter(|at| (*at as i128) < length)
}

/// Jinja2's `environment.getitem`. Tries the item first, then the attribute; the result is undefined if neither exists.
pub(super) fn get_item<'a>(obj: &Object<'a>, key: &Object<'a>) -> Result<Object<'a>, EvalError> {
    if let Some(found) = item(obj, key)? {
        return Ok(found);
    }
    if let Some(name) = key.text()
        && let Some(found) = methods::attribute(obj, name)?
    {
        return Ok(found);
    }
    let shown = key.to_str().unwrap_or_default();
    Ok(missing(obj, &shown))
}

/// Jinja2's `environment.getattr`. Tries the attribute first, then the item; the result is undefined if neither exists.
pub(super) fn get_attr<'a>(obj: &Object<'a>, name: &str) -> Result<Object<'a>, EvalError> {
    if let Object::Undefined(message) = obj {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    if let Some(found) = methods::attribute(obj, name)? {
        return Ok(found);
    }
    if obj.is_dict()
        && let Some(found) = dict_get(obj, &Object::str(name))?
    {
        return Ok(found);
    }
    Ok(missing(obj, name))
}

pub(super) fn missing<'a>(obj: &Object<'a>, name: &str) -> Object<'a> {
    undefined(format!("'{} object' has no attribute '{name}'", obj.type_name()))
}

fn bound(part: &Object<'_>, default: i128, length: i128, step: i128) -> Result<i128, EvalError> {
    let Some(index) = part.int() else {
        return match part {
            Object::None => Ok(default),
            _ => Err(EvalError::type_error("slice indices must be integers or None or have an __index__ method")),
        };
    };
    let index = if index < 0 { index + length } else { index };
    Ok(if step > 0 { index.clamp(0, length) } else { index.clamp(-1, length - 1) })
}

/// `obj[start:stop:step]`.
///
/// # Errors
/// TypeError if `obj` cannot be sliced; ValueError for a step of 0.
pub(super) fn slice<'a>(obj: &Object<'a>, parts: &[Object<'a>; 3]) -> Result<Object<'a>, EvalError> {
    let [start, stop, step] = parts;
    if let Object::Undefined(message) = obj {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    if obj.is_dict() {
        return Err(EvalError::type_error("unhashable type: 'slice'"));
    }
    if !matches!(obj, Object::Str(_) | Object::Markup(_) | Object::Bytes(_) | Object::Tuple(_) | Object::List(_) | Object::Ref(_))
    {
        return Err(EvalError::type_error(format!("'{}' object is not subscriptable", obj.type_name())));
    }
    let step = bound(step, 1, 0, 1).and(Ok(step.int().unwrap_or(1)))?;
    if step == 0 {
        return Err(EvalError::value_error("slice step cannot be zero"));
    }
    let size = length(obj)? as i128;
    let (first, last) = if step > 0 { (0, size) } else { (size - 1, -1) };
    let mut at = bound(start, first, size, step)?;
    let stop = bound(stop, last, size, step)?;
    let mut picks = Vec::new();
    while if step > 0 { at < stop } else { at > stop } {
        picks.extend(usize::try_from(at).ok());
        at = at.saturating_add(step);
    }
    Ok(match obj {
        Object::Str(text) => Object::str(pick_text(text, &picks)),
        Object::Markup(text) => Object::Markup(pick_text(text, &picks).into()),
        Object::Bytes(bytes) => Object::Bytes(picks.iter().filter_map(|at| bytes.get(*at)).copied().collect()),
        Object::Tuple(items) => Object::tuple(picks.iter().filter_map(|at| items.get(*at)).cloned().collect()),
        list => {
            let list = sequence(list)?;
            Object::list(picks.iter().filter_map(|at| list.get(*at)).cloned().collect())
        }
    })
}

fn pick_text(text: &str, picks: &[usize]) -> String {
    let chars: Vec<char> = text.chars().collect();
    picks.iter().filter_map(|at| chars.get(*at)).collect()
}
