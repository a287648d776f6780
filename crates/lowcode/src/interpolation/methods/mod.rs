//! Attributes and methods of Python's types, as far as the sandbox gives them.

mod collections;
mod strings;
mod times;

use super::EvalError;
use super::args::Args;
use super::eval::Eval;
use super::object::{Obj, type_error, undefined};
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

/// The method `name` of `obj`'s type.
fn method(obj: &Obj<'_>, name: &str) -> Option<&'static str> {
    match obj {
        Obj::Str(_) | Obj::Markup(_) => named(&STR, name),
        Obj::List(_) | Obj::Ref(Value::List(_)) => named(&LIST, name),
        Obj::Dict(_) | Obj::Ref(Value::Dict(_)) => named(&DICT, name),
        Obj::Tuple(_) => named(&["count", "index"], name),
        Obj::Set(_) => named(&SET, name),
        Obj::Bytes(_) => named(&["decode", "hex"], name),
        Obj::DateTime(_) => named(&DATETIME, name),
        Obj::Date(_) => named(&DATE, name),
        Obj::Time(_) => named(&["isoformat", "strftime"], name),
        Obj::Delta(_) => named(&["total_seconds"], name),
        Obj::Duration(_) => named(&["total_seconds", "totimedelta"], name),
        Obj::Int(_) | Obj::Bool(_) => named(&["bit_length", "conjugate"], name),
        Obj::Float(_) => named(&["is_integer", "conjugate", "hex"], name),
        Obj::Loop(_) => named(&["cycle", "changed"], name),
        Obj::Cycler(_) => named(&["next", "reset"], name),
        _ => None,
    }
}

/// `obj.name`: a field or a bound method.
///
/// # Errors
/// RecursionError only.
pub(super) fn attribute<'a>(obj: &Obj<'a>, name: &str) -> Result<Option<Obj<'a>>, EvalError> {
    if name.starts_with('_') {
        return Ok(None);
    }
    if let Some(name) = method(obj, name) {
        return Ok(Some(Obj::Method(Rc::new((obj.clone(), name)))));
    }
    Ok(match obj {
        Obj::DateTime(_) | Obj::Date(_) | Obj::Time(_) | Obj::Delta(_) | Obj::Duration(_) => times::field(obj, name),
        Obj::Int(_) | Obj::Bool(_) => match name {
            "real" | "numerator" => obj.int().map(Obj::Int),
            "imag" => Some(Obj::Int(0)),
            "denominator" => Some(Obj::Int(1)),
            _ => None,
        },
        Obj::Float(float) => match name {
            "real" => Some(Obj::Float(*float)),
            "imag" => Some(Obj::Float(0.0)),
            _ => None,
        },
        Obj::Loop(_) => loop_field(obj, name),
        Obj::Cycler(state) if name == "current" => {
            let state = state.borrow();
            state.0.get(state.1).cloned()
        }
        Obj::Namespace(_) => super::access::dict_get(obj, &Obj::str(name))?,
        Obj::Macro(code) => match name {
            "name" => Some(Obj::Str(code.code.name.clone())),
            "arguments" => Some(Obj::tuple(code.code.args.iter().map(|(name, _)| Obj::Str(name.clone())).collect())),
            _ => None,
        },
        Obj::Tuple(items) if items.len() == 3 => match name {
            // `isocalendar()`
            "year" => items.first().cloned(),
            "week" => items.get(1).cloned(),
            "weekday" => items.get(2).cloned(),
            _ => None,
        },
        Obj::Tuple(items) if items.len() == 2 => match name {
            // `groupby`
            "grouper" => items.first().cloned(),
            "list" => items.get(1).cloned(),
            _ => None,
        },
        _ => None,
    })
}

fn loop_field<'a>(obj: &Obj<'a>, name: &str) -> Option<Obj<'a>> {
    let Obj::Loop(state) = obj else { return None };
    let state = state.borrow();
    let (index, length) = (state.index as i128, state.items.len() as i128);
    let neighbour = |at: i128| {
        let found = usize::try_from(at).ok().and_then(|at| state.items.get(at)).cloned();
        found.unwrap_or_else(|| undefined("there is no neighbour item"))
    };
    Some(match name {
        "index" => Obj::Int(index + 1),
        "index0" => Obj::Int(index),
        "revindex" => Obj::Int(length - index),
        "revindex0" => Obj::Int(length - index - 1),
        "first" => Obj::Bool(index == 0),
        "last" => Obj::Bool(index + 1 == length),
        "length" => Obj::Int(length),
        "depth" => Obj::Int(state.depth + 1),
        "depth0" => Obj::Int(state.depth),
        "previtem" => neighbour(index - 1),
        "nextitem" => neighbour(index + 1),
        _ => return None,
    })
}

/// Calls `obj.name(args)`.
///
/// # Errors
/// What Python raises.
pub(super) fn call<'a>(eval: &mut Eval<'a>, obj: &Obj<'a>, name: &'static str, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
    match obj {
        Obj::Str(text) => strings::call(eval, text, name, args),
        Obj::Markup(text) => strings::call(eval, text, name, args).map(|made| match made {
            Obj::Str(text) => Obj::Markup(text),
            other => other,
        }),
        Obj::List(_) | Obj::Tuple(_) | Obj::Ref(Value::List(_)) => collections::list(eval, obj, name, args),
        Obj::Dict(_) | Obj::Ref(_) => collections::dict(eval, obj, name, args),
        Obj::Set(map) => collections::set(map, name, args),
        Obj::Bytes(bytes) => {
            let _: [Option<Obj<'a>>; 2] = args.bind(name, ["encoding", "errors"], 0)?;
            Ok(Obj::str(match name {
                "hex" => data_encoding::HEXLOWER.encode(bytes),
                _ => std::str::from_utf8(bytes)
                    .map_err(|_| EvalError::new("UnicodeDecodeError", "'utf-8' codec can't decode the bytes"))?
                    .to_owned(),
            }))
        }
        Obj::DateTime(_) | Obj::Date(_) | Obj::Time(_) | Obj::Delta(_) | Obj::Duration(_) => times::call(eval, obj, name, args),
        Obj::Int(_) | Obj::Bool(_) | Obj::Float(_) => number(obj, name, args),
        Obj::Loop(_) => loop_method(obj, name, args),
        Obj::Cycler(state) => {
            let _: [Option<Obj<'a>>; 0] = args.positional(name, 0)?;
            let mut state = state.borrow_mut();
            let current = state.0.get(state.1).cloned().unwrap_or(Obj::None);
            state.1 = if name == "reset" { 0 } else { (state.1 + 1) % state.0.len().max(1) };
            Ok(if name == "reset" { Obj::None } else { current })
        }
        _ => type_error("not callable"),
    }
}

fn number<'a>(obj: &Obj<'a>, name: &str, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
    let _: [Option<Obj<'a>>; 0] = args.positional(name, 0)?;
    Ok(match (obj, name) {
        (Obj::Float(float), "is_integer") => Obj::Bool(float.is_finite() && float.fract() == 0.0),
        (Obj::Float(_), "hex") => return type_error("float.hex is not supported"),
        (Obj::Float(float), _) => Obj::Float(*float),
        (_, "bit_length") => Obj::Int(i128::from(128 - obj.int().unwrap_or(0).unsigned_abs().leading_zeros())),
        _ => Obj::Int(obj.int().unwrap_or(0)),
    })
}

fn loop_method<'a>(obj: &Obj<'a>, name: &str, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
    let Obj::Loop(state) = obj else { return Ok(Obj::None) };
    let mut state = state.borrow_mut();
    if name == "cycle" {
        let count = args.positional.len();
        let at = state.index.checked_rem(count).ok_or_else(|| EvalError::type_error("no items for cycling given"))?;
        return Ok(args.positional.get(at).cloned().unwrap_or(Obj::None));
    }
    let same = match &state.changed {
        Some(before) => super::ops::equal(&Obj::tuple(before.clone()), &Obj::tuple(args.positional.clone()))?,
        None => false,
    };
    state.changed = Some(args.positional);
    Ok(Obj::Bool(!same))
}
