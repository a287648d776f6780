//! The filters of Jinja2 and of the CDK (`filters.py`), found by name.

mod encode;
mod json;
mod sequence;
pub(super) mod text;

use super::EvalError;
use super::args::Args;
use super::eval::Eval;
use super::object::{Object, type_error};

const NAMES: [&str; 61] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "items",
    "map",
    "min",
    "max",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
    "tojson",
    "hash",
    "base64encode",
    "base64decode",
    "base64binascii_decode",
    "regex_search",
    "regex_replace",
    "hmac",
];

pub(super) fn known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Applies the filter `name` to `value`.
///
/// # Errors
/// The exception that Python raises.
pub(super) fn apply<'a>(eval: &mut Eval<'a>, name: &str, value: Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    eval.tick(1)?;
    match name {
        "d" | "default" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"], 0)?;
            let replaced = value.is_undefined() || boolean.is_some_and(|it| it.truthy()) && !value.truthy();
            Ok(if replaced { default.unwrap_or_else(|| Object::str("")) } else { value })
        }
        "abs" | "round" | "int" | "float" | "filesizeformat" | "sum" => number(eval, name, value, args),
        "count" | "length" | "first" | "last" | "random" | "list" | "items" | "join" | "map" | "min" | "max" | "reject"
        | "rejectattr" | "select" | "selectattr" | "reverse" | "slice" | "batch" | "sort" | "unique" | "dictsort" | "groupby"
        | "attr" => sequence::apply(eval, name, value, args),
        "hash" | "hmac" | "base64encode" | "base64decode" | "base64binascii_decode" | "urlencode" => {
            encode::apply(name, &value, args)
        }
        "tojson" | "string" | "pprint" => json::apply(name, &value, args),
        _ if known(name) => text::apply(eval, name, &value, args),
        _ => Err(EvalError::new("TemplateRuntimeError", format!("No filter named '{name}' found."))),
    }
}

fn number<'a>(eval: &mut Eval<'a>, name: &str, value: Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    if let (Object::Undefined(message), "int" | "float" | "abs" | "round" | "filesizeformat") = (&value, name) {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    match name {
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"], 0)?;
            let base = base.and_then(|it| it.int()).and_then(|it| u32::try_from(it).ok()).unwrap_or(10);
            to_int(&value, default.unwrap_or(Object::Int(0)), base)
        }
        "float" => {
            let [default] = args.bind(name, ["default"], 0)?;
            let number = match &value {
                Object::Str(text) | Object::Markup(text) => parse_float(text),
                other => other.number(),
            };
            Ok(number.map_or_else(|| default.unwrap_or(Object::Float(0.0)), Object::Float))
        }
        "abs" => {
            let [] = args.positional(name, 0)?;
            match &value {
                Object::Float(float) => Ok(Object::Float(float.abs())),
                Object::Delta(delta) => Ok(Object::Delta(crate::datetime::Delta { micros: delta.micros.abs() })),
                other => match other.int() {
                    Some(int) => Ok(Object::Int(int.abs())),
                    None => type_error(format!("bad operand type for abs(): '{}'", other.type_name())),
                },
            }
        }
        "round" => round(&value, args),
        "sum" => {
            let [attribute, start] = args.bind(name, ["attribute", "start"], 0)?;
            let mut total = start.unwrap_or(Object::Int(0));
            for item in sequence::mapped(eval, &value, attribute.as_ref())? {
                eval.tick(1)?;
                total = super::ops::binary(super::ast::BinaryOp::Add, &total, &item)?;
            }
            Ok(total)
        }
        _ => file_size(&value, args),
    }
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let shaped = text.split('_').all(|part| part.starts_with(|c: char| c.is_ascii_digit()) || !text.contains('_'));
    if !shaped || text.is_empty() {
        return None;
    }
    let plain = text.replace('_', "");
    let bare = plain.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let named = matches!(bare.as_str(), "inf" | "infinity" | "nan");
    if !named && !bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    plain.parse().ok()
}

/// Python's `int(text, base)`.
fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = body.to_ascii_lowercase();
    let prefixed = |prefix: &str, of: u32| if base == of || base == 0 { lower.strip_prefix(prefix) } else { None };
    let (digits, base) = if let Some(digits) = prefixed("0x", 16) {
        (digits, 16)
    } else if let Some(digits) = prefixed("0o", 8) {
        (digits, 8)
    } else if let Some(digits) = prefixed("0b", 2) {
        (digits, 2)
    } else {
        (lower.as_str(), if base == 0 { 10 } else { base })
    };
    let digits = digits.strip_prefix('_').filter(|_| digits.len() < lower.len()).unwrap_or(digits);
    if !(2..=36).contains(&base) || digits.starts_with(['+', '-']) || digits.split('_').any(str::is_empty) {
        return None;
    }
    let int = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -int } else { int })
}

fn to_int<'a>(value: &Object<'a>, default: Object<'a>, base: u32) -> Result<Object<'a>, EvalError> {
    if let Some(text) = value.text() {
        if let Some(int) = parse_int(text, base) {
            return Ok(Object::Int(int));
        }
        let float = parse_float(text).filter(|it| it.is_finite());
        return Ok(float.map_or(default, |float| Object::Int(float.trunc() as i128)));
    }
    match value {
        // `int(inf)` raises OverflowError. Jinja2's filter does not catch it in its first attempt.
        Object::Float(float) if float.is_infinite() => super::macros::number_to_int(value),
        Object::Float(float) if float.is_nan() => Ok(default),
        other if other.number().is_some() => super::macros::number_to_int(other),
        _ => Ok(default),
    }
}

fn round<'a>(value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [precision, method] = args.bind("round", ["precision", "method"], 0)?;
    let method = method.and_then(|it| it.text().cloned()).unwrap_or_else(|| "common".into());
    let precision = precision.and_then(|it| it.int()).unwrap_or(0).clamp(-400, 400) as i32;
    if !matches!(&*method, "common" | "ceil" | "floor") {
        return Err(EvalError::new("FilterArgumentError", "method must be common, ceil or floor"));
    }
    let Some(number) = value.number() else {
        return type_error(format!("type {} doesn't define __round__ method", value.type_name()));
    };
    if &*method != "common" {
        let scale = 10f64.powi(precision);
        let scaled = number * scale;
        let whole = if &*method == "ceil" { scaled.ceil() } else { scaled.floor() };
        return Ok(Object::Float(whole / scale));
    }
    if let Some(int) = value.int() {
        if precision >= 0 {
            return Ok(Object::Int(int));
        }
        let unit = 10i128.checked_pow(precision.unsigned_abs()).unwrap_or(i128::MAX);
        let half = (int as f64 / unit as f64).round_ties_even() as i128;
        return Ok(Object::Int(half.saturating_mul(unit)));
    }
    if !number.is_finite() || precision > 22 {
        return Ok(value.clone());
    }
    if precision < 0 {
        let scale = 10f64.powi(-precision);
        return Ok(Object::Float((number / scale).round_ties_even() * scale));
    }
    // Like Python, Rust rounds the exact binary value, with ties to even.
    Ok(Object::Float(format!("{number:.*}", precision as usize).parse().unwrap_or(number)))
}

fn file_size<'a>(value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [binary] = args.bind("filesizeformat", ["binary"], 0)?;
    let binary = binary.is_some_and(|it| it.truthy());
    let size = value.number().or_else(|| value.text().and_then(|text| parse_float(text)));
    let Some(size) = size else { return Err(EvalError::value_error("could not convert to float")) };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if size == 1.0 {
        return Ok(Object::str("1 Byte"));
    }
    if size < base {
        return Ok(Object::str(format!("{} Bytes", size.trunc())));
    }
    let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut power = 1;
    while power < 8 && size >= base.powi(power + 1) {
        power += 1;
    }
    let prefix = prefixes.get(power as usize - 1).copied().unwrap_or("Y");
    let unit = if binary { format!("{}iB", prefix.to_uppercase()) } else { format!("{prefix}B") };
    Ok(Object::str(format!("{:.1} {unit}", base * size / base.powi(power + 1))))
}
