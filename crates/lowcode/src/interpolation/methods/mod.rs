//! The attributes and methods of Python's types that Jinja2's sandbox allows.

mod collections;
mod strings;
mod times;

use super::EvalError;
use super::args::Args;
use super::eval::Eval;
use super::object::{Object, type_error, undefined};
use crate::value::Value;
use std::rc::Rc;

pub(super) use collections::{copy, sorted};
pub(super) use strings::{capitalized, center, lines, replaced, strip};

const STR: [&str; 46] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
const LIST: [&str; 11] = ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const DICT: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const SET: [&str; 7] = ["union", "intersection", "difference", "issubset", "issuperset", "symmetric_difference", "copy"];
const DATETIME: [&str; 25] = [
    "astimezone",
    "combine",
    "ctime",
    "date",
    "dst",
    "fromisoformat",
    "fromordinal",
    "fromtimestamp",
    "isocalendar",
    "isoformat",
    "isoweekday",
    "now",
    "replace",
    "strftime",
    "strptime",
    "time",
    "timestamp",
    "timetuple",
    "today",
    "toordinal",
    "tzname",
    "utcfromtimestamp",
    "utcnow",
    "utcoffset",
    "weekday",
];
const DATE: [&str; 13] = [
    "ctime",
    "fromisoformat",
    "fromordinal",
    "fromtimestamp",
    "isocalendar",
    "isoformat",
    "isoweekday",
    "replace",
    "strftime",
    "timetuple",
    "today",
    "toordinal",
    "weekday",
];

fn named(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().find(|it| **it == name).copied()
}

/// Finds the method `name` of the type of `obj`.
fn method(obj: &Object<'_>, name: &str) -> Option<&'static str> {
    match obj {
        Object::Str(_) | Object::Markup(_) => named(&STR, name),
        Object::List(_) | Object::Ref(Value::List(_)) => named(&LIST, name),
        Object::Dict(_) | Object::Ref(Value::Dict(_)) => named(&DICT, name),
        Object::Tuple(_) => named(&["count", "index"], name),
        Object::Set(_) => named(&SET, name),
        Object::Bytes(_) => named(&["decode", "hex"], name),
        Object::DateTime(_) => named(&DATETIME, name),
        Object::Date(_) => named(&DATE, name),
        Object::Time(_) => named(&["isoformat", "strftime"], name),
        Object::Delta(_) => named(&["total_seconds"], name),
        Object::Duration(_) => named(&["total_seconds", "totimedelta"], name),
        Object::Int(_) | Object::Bool(_) => named(&["bit_length", "conjugate"], name),
        Object::Float(_) => named(&["is_integer", "conjugate", "hex"], name),
        Object::Loop(_) => named(&["cycle", "changed"], name),
        Object::Cycler(_) => named(&["next", "reset"], name),
        _ => None,
    }
}

/// Evaluates `obj.name`, which is a field or a bound method.
///
/// # Errors
/// RecursionError if the objects are nested too deeply.
pub(super) fn attribute<'a>(obj: &Object<'a>, name: &str) -> Result<Option<Object<'a>>, EvalError> {
    if name.starts_with('_') {
        return Ok(None);
    }
    if let Some(name) = method(obj, name) {
        return Ok(Some(Object::Method(Rc::new((obj.clone(), name)))));
    }
    Ok(match obj {
        Object::DateTime(_) | Object::Date(_) | Object::Time(_) | Object::Delta(_) | Object::Duration(_) => {
            times::field(obj, name)
        }
        Object::Int(_) | Object::Bool(_) => match name {
            "real" | "numerator" => obj.int().map(Object::Int),
            "imag" => Some(Object::Int(0)),
            "denominator" => Some(Object::Int(1)),
            _ => None,
        },
        Object::Float(float) => match name {
            "real" => Some(Object::Float(*float)),
            "imag" => Some(Object::Float(0.0)),
            _ => None,
        },
        Object::Loop(_) => loop_field(obj, name),
        Object::Cycler(state) if name == "current" => {
            let state = state.borrow();
            state.0.get(state.1).cloned()
        }
        Object::Namespace(_) => super::access::dict_get(obj, &Object::str(name))?,
        Object::Macro(code) => match name {
            "name" => Some(Object::Str(code.code.name.clone())),
            "arguments" => Some(Object::tuple(code.code.args.iter().map(|(name, _)| Object::Str(name.clone())).collect())),
            _ => None,
        },
        Object::Tuple(items) if items.len() == 3 => match name {
            // The fields of the result of `isocalendar()`.
            "year" => items.first().cloned(),
            "week" => items.get(1).cloned(),
            "weekday" => items.get(2).cloned(),
            _ => None,
        },
        Object::Tuple(items) if items.len() == 2 => match name {
            // The fields of a group that `groupby` yields.
            "grouper" => items.first().cloned(),
            "list" => items.get(1).cloned(),
            _ => None,
        },
        _ => None,
    })
}

fn loop_field<'a>(obj: &Object<'a>, name: &str) -> Option<Object<'a>> {
    let Object::Loop(state) = obj else { return None };
    let state = state.borrow();
    let (index, length) = (state.index as i128, state.items.len() as i128);
    let neighbour = |at: i128| {
        let found = usize::try_from(at).ok().and_then(|at| state.items.get(at)).cloned();
        found.unwrap_or_else(|| undefined("there is no neighbour item"))
    };
    Some(match name {
        "index" => Object::Int(index + 1),
        "index0" => Object::Int(index),
        "revindex" => Object::Int(length - index),
        "revindex0" => Object::Int(length - index - 1),
        "first" => Object::Bool(index == 0),
        "last" => Object::Bool(index + 1 == length),
        "length" => Object::Int(length),
        "depth" => Object::Int(state.depth + 1),
        "depth0" => Object::Int(state.depth),
        "previtem" => neighbour(index - 1),
        "nextitem" => neighbour(index + 1),
        _ => return None,
    })
}

/// Calls `obj.name(args)`.
///
/// # Errors
/// The exception that Python raises.
pub(super) fn call<'a>(
    eval: &mut Eval<'a>,
    obj: &Object<'a>,
    name: &'static str,
    args: Args<'a>,
) -> Result<Object<'a>, EvalError> {
    match obj {
        Object::Str(text) => strings::call(eval, text, name, args),
        Object::Markup(text) => strings::call(eval, text, name, args).map(|made| match made {
            Object::Str(text) => Object::Markup(text),
            other => other,
        }),
        Object::List(_) | Object::Tuple(_) | Object::Ref(Value::List(_)) => collections::list(eval, obj, name, args),
        Object::Dict(_) | Object::Ref(_) => collections::dict(eval, obj, name, args),
        Object::Set(map) => collections::set(map, name, args),
        Object::Bytes(bytes) => {
            let _: [Option<Object<'a>>; 2] = args.bind(name, ["encoding", "errors"], 0)?;
            Ok(Object::str(match name {
                "hex" => data_encoding::HEXLOWER.encode(bytes),
                _ => std::str::from_utf8(bytes)
                    .map_err(|_| EvalError::new("UnicodeDecodeError", "'utf-8' codec can't decode the bytes"))?
                    .to_owned(),
            }))
        }
        Object::DateTime(_) | Object::Date(_) | Object::Time(_) | Object::Delta(_) | Object::Duration(_) => {
            times::call(eval, obj, name, args)
        }
        Object::Int(_) | Object::Bool(_) | Object::Float(_) => number(obj, name, args),
        Object::Loop(_) => loop_method(obj, name, args),
        Object::Cycler(state) => {
            let _: [Option<Object<'a>>; 0] = args.positional(name, 0)?;
            let mut state = state.borrow_mut();
            let current = state.0.get(state.1).cloned().unwrap_or(Object::None);
            state.1 = if name == "reset" { 0 } else { (state.1 + 1) % state.0.len().max(1) };
            Ok(if name == "reset" { Object::None } else { current })
        }
        _ => type_error("not callable"),
    }
}

fn number<'a>(obj: &Object<'a>, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let _: [Option<Object<'a>>; 0] = args.positional(name, 0)?;
    Ok(match (obj, name) {
        (Object::Float(float), "is_integer") => Object::Bool(float.is_finite() && float.fract() == 0.0),
        (Object::Float(_), "hex") => return type_error("float.hex is not supported"),
        (Object::Float(float), _) => Object::Float(*float),
        (_, "bit_length") => Object::Int(i128::from(128 - obj.int().unwrap_or(0).unsigned_abs().leading_zeros())),
        _ => Object::Int(obj.int().unwrap_or(0)),
    })
}

fn loop_method<'a>(obj: &Object<'a>, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let Object::Loop(state) = obj else { return Ok(Object::None) };
    let mut state = state.borrow_mut();
    if name == "cycle" {
        let count = args.positional.len();
        let at = state.index.checked_rem(count).ok_or_else(|| EvalError::type_error("no items for cycling given"))?;
        return Ok(args.positional.get(at).cloned().unwrap_or(Object::None));
    }
    let same = match &state.changed {
        Some(before) => super::ops::equal(&Object::tuple(before.clone()), &Object::tuple(args.positional.clone()))?,
        None => false,
    };
    state.changed = Some(args.positional);
    Ok(Object::Bool(!same))
}
