//! The global functions of templates: the CDK's macros (`macros.py`), and those of Jinja2's functions that the CDK keeps.

use super::EvalError;
use super::args::Args;
use super::ast::Comparison;
use super::eval::{Eval, insert};
use super::object::{Map, Object, type_error};
use super::ops::{compare, items};
use crate::datetime::strftime::strftime;
use crate::datetime::strptime::strptime;
use crate::datetime::{self, DAY, DateTime, Delta, iso};
use std::cell::RefCell;
use std::rc::Rc;

const NAMES: [&str; 18] = [
    "now_utc",
    "today_utc",
    "timestamp",
    "max",
    "min",
    "day_delta",
    "duration",
    "format_datetime",
    "today_with_timezone",
    "str_to_datetime",
    "sanitize_url",
    "camel_case_to_snake_case",
    "generate_uuid",
    "dict",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
];

/// The function called `name`.
pub(super) fn global(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|it| **it == name).copied()
}

fn time<'a>(time: DateTime) -> Object<'a> {
    Object::DateTime(Rc::new(time))
}

fn text<'t>(function: &str, arg: &'t Option<Object<'_>>) -> Result<&'t str, EvalError> {
    match arg {
        Some(Object::Str(text) | Object::Markup(text)) => Ok(text),
        Some(Object::Undefined(message)) => Err(EvalError::new("UndefinedError", &**message)),
        other => {
            type_error(format!("{function}() argument must be str, not {}", other.as_ref().map_or("None", Object::type_name)))
        }
    }
}

fn is_given<'o, 'a>(arg: &'o Option<Object<'a>>) -> Option<&'o Object<'a>> {
    arg.as_ref().filter(|it| it.truthy())
}

pub(super) fn call<'a>(eval: &mut Eval<'a>, name: &'static str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let now = || DateTime::from_jiff(eval.scope.host.now());
    match name {
        "now_utc" | "today_utc" | "generate_uuid" => {
            let [] = args.positional(name, 0)?;
            Ok(match name {
                "now_utc" => time(now()),
                "today_utc" => Object::Date(now().date()),
                _ => Object::str(eval.scope.host.uuid()),
            })
        }
        "today_with_timezone" => {
            let [zone] = args.bind(name, ["timezone"], 1)?;
            today(eval, text(name, &zone)?)
        }
        "timestamp" => {
            let [value] = args.bind(name, ["dt"], 1)?;
            timestamp(&value)
        }
        "str_to_datetime" => {
            let [value] = args.bind(name, ["s"], 1)?;
            str_to_datetime(iso_text(name, &value)?).map(time)
        }
        "max" | "min" => extreme(name, args),
        "day_delta" => {
            let [days, format] = args.bind(name, ["num_days", "format"], 1)?;
            let Some(days) = days.as_ref().and_then(Object::number) else {
                return type_error("unsupported type for timedelta days component");
            };
            let moved = now().plus(Delta::from_parts(&[(days, DAY)])?)?;
            let format = if format.is_some() { text(name, &format)? } else { "%Y-%m-%dT%H:%M:%S.%f%z" };
            Ok(Object::str(strftime(&moved, format)))
        }
        "duration" => {
            let [value] = args.bind(name, ["datestring"], 1)?;
            let Some(value) = value.as_ref().and_then(Object::text) else { return type_error("Expecting a string") };
            Ok(match iso::parse_duration(value)? {
                iso::Span::Delta(delta) => Object::Delta(delta),
                iso::Span::Duration(duration) => Object::Duration(duration),
            })
        }
        "format_datetime" => format_datetime(args),
        "sanitize_url" => {
            let [value] = args.bind(name, ["value"], 1)?;
            Ok(Object::str(super::filters::text::quoted(text(name, &value)?, "", true)))
        }
        "camel_case_to_snake_case" => {
            let [value] = args.bind(name, ["value"], 1)?;
            Ok(Object::str(snake_case(text(name, &value)?)))
        }
        _ => jinja(name, args),
    }
}

/// The functions of Jinja2.
fn jinja<'a>(name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    match name {
        "dict" | "namespace" => {
            let Args { positional, named } = args;
            let [first] = Args::from_positional(positional).positional(name, 0)?;
            let mut map = Map::default();
            if let Some(first) = first {
                map = super::methods::copy(&first)?;
            }
            for (key, value) in named {
                insert(&mut map, Object::Str(key), value)?;
            }
            Ok(if name == "dict" { Object::dict(map) } else { Object::Namespace(Rc::new(RefCell::new(map))) })
        }
        "cycler" if args.positional.is_empty() => Err(EvalError::new("RuntimeError", "at least one item has to be provided")),
        "cycler" => Ok(Object::Cycler(Rc::new(RefCell::new((args.positional, 0))))),
        "joiner" => {
            let [sep] = args.bind(name, ["sep"], 0)?;
            let sep = sep.and_then(|it| it.text().cloned()).unwrap_or_else(|| ", ".into());
            Ok(Object::Joiner(Rc::new(RefCell::new((sep, false)))))
        }
        _ => type_error(format!("{name} is not supported")),
    }
}

fn today<'a>(eval: &Eval<'a>, zone: &str) -> Result<Object<'a>, EvalError> {
    let zone = jiff::tz::TimeZone::get(zone).map_err(|_| EvalError::new("UnknownTimeZoneError", format!("'{zone}'")))?;
    let day = eval.scope.host.now().to_zoned(zone).date();
    Ok(Object::Date(datetime::Date::new(day.year().into(), day.month().into(), day.day().into())?))
}

/// The error for a value that is not text. dateutil reads the length of its argument before it checks the type, so
/// the error is about the length.
fn iso_text<'t>(function: &str, arg: &'t Option<Object<'_>>) -> Result<&'t str, EvalError> {
    match arg {
        Some(it) if it.text().is_none() && !it.is_undefined() && super::ops::length(it).is_ok_and(|length| length < 4) => {
            Err(EvalError::value_error("ISO string too short"))
        }
        _ => text(function, arg),
    }
}

fn str_to_datetime(value: &str) -> Result<DateTime, EvalError> {
    iso::isoparse(value)?.or_utc().in_zone(datetime::Zone::UTC)
}

fn timestamp<'a>(value: &Option<Object<'a>>) -> Result<Object<'a>, EvalError> {
    match value {
        Some(it) if it.number().is_some() => number_to_int(it),
        it => str_to_datetime(iso_text("timestamp", it)?).map(|time| Object::Float(time.timestamp())),
    }
}

/// Python's `int(x)` of a number.
pub(super) fn number_to_int<'a>(value: &Object<'a>) -> Result<Object<'a>, EvalError> {
    match (value, value.int()) {
        (_, Some(int)) => Ok(Object::Int(int)),
        (Object::Float(float), _) if float.is_nan() => Err(EvalError::value_error("cannot convert float NaN to integer")),
        (Object::Float(float), _) if float.is_infinite() => {
            Err(EvalError::new("OverflowError", "cannot convert float infinity to integer"))
        }
        (Object::Float(float), _) => Ok(Object::Int(float.trunc() as i128)),
        _ => Ok(value.clone()),
    }
}

fn extreme<'a>(name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    if !args.named.is_empty() || args.positional.is_empty() {
        return type_error(format!("{name} expected at least 1 argument, got 0"));
    }
    let candidates = match args.positional.as_slice() {
        [only] => items(only)?,
        _ => args.positional,
    };
    let cmp = if name == "max" { Comparison::Gt } else { Comparison::Lt };
    let mut candidates = candidates.into_iter();
    let Some(mut best) = candidates.next() else {
        return Err(EvalError::value_error(format!("{name}() arg is an empty sequence")));
    };
    for candidate in candidates {
        if compare(cmp, &candidate, &best)? {
            best = candidate;
        }
    }
    Ok(best)
}

fn format_datetime<'a>(args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [value, format, input] = args.bind("format_datetime", ["dt", "format", "input_format"], 2)?;
    if let Some(Object::DateTime(time)) = &value {
        return Ok(Object::str(strftime(time, text("format_datetime", &format)?)));
    }
    let parsed = match (&value, is_given(&input)) {
        (Some(it), input_given) if it.int().is_some() => {
            let format = if input_given.is_some() { text("format_datetime", &input)? } else { "%s" };
            // `int(True)` is 1 in Python, although `int(str(True))` fails.
            datetime::parse(&it.int().unwrap_or(0).to_string(), format)?
        }
        (it, Some(_)) => strptime(text("strptime", it)?, text("strptime", &input)?)?,
        (it, None) => str_to_datetime(iso_text("format_datetime", it)?)?,
    };
    let format = text("format_datetime", &format)?;
    Ok(Object::str(datetime::format(&parsed.or_utc(), format)))
}

/// Inserts an underscore before every capital letter that is not at the start of the text.
fn snake_case(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    for (index, char) in value.chars().enumerate() {
        if index > 0 && char.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(char);
    }
    out.to_lowercase()
}
