//! Python's `str.format` and its format specifications.

use super::EvalError;
use super::object::{Object, type_error};
use super::ops::{items, too_large};
use crate::value::float_repr;
use std::sync::Arc;

/// Limit for the width of a field.
pub(super) const MAX_WIDTH: usize = 100_000;

/// A format specification: fill, alignment, sign, width, precision and type.
#[derive(Default)]
pub(super) struct Spec {
    pub(super) fill: Option<char>,
    pub(super) align: Option<char>,
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) zero: bool,
    pub(super) width: usize,
    pub(super) group: Option<char>,
    pub(super) precision: Option<usize>,
    pub(super) kind: Option<char>,
}

pub(super) fn value_error<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::value_error(message))
}

impl Spec {
    fn read(text: &str) -> Result<Spec, EvalError> {
        let mut spec = Spec::default();
        let mut chars: Vec<char> = text.chars().collect();
        chars.reverse();
        let aligns = |c: Option<&char>| matches!(c, Some('<' | '>' | '^' | '='));
        if chars.len() > 1 && aligns(chars.get(chars.len() - 2)) {
            spec.fill = chars.pop();
        }
        if aligns(chars.last()) {
            spec.align = chars.pop();
        }
        if matches!(chars.last(), Some('+' | '-' | ' ')) {
            spec.sign = chars.pop();
        }
        if chars.pop_if(|c| *c == '#').is_some() {
            spec.alternate = true;
        }
        if chars.pop_if(|c| *c == '0').is_some() {
            spec.zero = true;
        }
        spec.width = digits(&mut chars)?.unwrap_or(0);
        spec.group = chars.pop_if(|c| matches!(c, ',' | '_'));
        if chars.pop_if(|c| *c == '.').is_some() {
            spec.precision = digits(&mut chars)?;
            if spec.precision.is_none() {
                return value_error("Format specifier missing precision");
            }
        }
        spec.kind = chars.pop();
        if chars.is_empty() { Ok(spec) } else { value_error("Invalid format specifier") }
    }

    /// Pads the text made of `sign` and `body` to the width of the specification.
    pub(super) fn pad(&self, sign: &str, body: &str, default: char) -> String {
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        let align = self.align.unwrap_or(if self.zero && default == '>' { '=' } else { default });
        let space = self.width.saturating_sub(sign.chars().count() + body.chars().count());
        let run = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
        match align {
            '<' => format!("{sign}{body}{}", run(space)),
            '^' => format!("{}{sign}{body}{}", run(space / 2), run(space - space / 2)),
            '=' => format!("{sign}{}{body}", run(space)),
            _ => format!("{}{sign}{body}", run(space)),
        }
    }

    pub(super) fn sign_of(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        }
    }
}

pub(super) fn digits(chars: &mut Vec<char>) -> Result<Option<usize>, EvalError> {
    let mut number = None;
    while let Some(digit) = chars.last().and_then(|c| c.to_digit(10)) {
        chars.pop();
        let next = number.unwrap_or(0usize) * 10 + digit as usize;
        if next > MAX_WIDTH {
            return too_large();
        }
        number = Some(next);
    }
    Ok(number)
}

fn grouped(digits: &str, group: Option<char>, every: usize) -> String {
    let Some(group) = group else { return digits.to_owned() };
    let (whole, rest) = digits.find(['.', 'e', 'E', '%']).map_or((digits, ""), |at| digits.split_at(at));
    let mut out = String::new();
    for (index, char) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % every == 0 {
            out.push(group);
        }
        out.push(char);
    }
    out + rest
}

/// Formats a float with the type `f`, `e`, `g` or `%`, without its sign.
pub(super) fn float_text(float: f64, kind: char, precision: usize, alternate: bool) -> String {
    if !float.is_finite() {
        let text = if float.is_nan() { "nan" } else { "inf" };
        return if kind.is_uppercase() { text.to_uppercase() } else { text.into() };
    }
    let float = float.abs();
    match kind.to_ascii_lowercase() {
        'e' => exponent(&format!("{float:.precision$e}"), kind),
        'g' => general(float, kind, precision.max(1), alternate),
        '%' => format!("{:.precision$}%", float * 100.0),
        _ => format!("{float:.precision$}"),
    }
}

/// Rewrites an exponent from Rust's notation (`1e5`) to that of C (`1e+05`).
fn exponent(text: &str, kind: char) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |it| ('-', it));
    format!("{digits}{}{sign}{exponent:0>2}", if kind.is_uppercase() { 'E' } else { 'e' })
}

fn general(float: f64, kind: char, precision: usize, alternate: bool) -> String {
    let scientific = format!("{float:.*e}", precision - 1);
    let power: i32 = scientific.split_once('e').and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
    let trim = |text: &str| {
        if alternate || !text.contains('.') {
            text.to_owned()
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    if power < -4 || power >= precision as i32 {
        let (digits, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
        return exponent(&format!("{}e{power}", trim(digits)), kind);
    }
    let places = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
    trim(&format!("{float:.places$}"))
}

pub(super) fn integer(int: i128, spec: &Spec, kind: char) -> String {
    let size = int.unsigned_abs();
    let (prefix, body, every) = match kind {
        'x' => ("0x", format!("{size:x}"), 4),
        'X' => ("0X", format!("{size:X}"), 4),
        'o' => ("0o", format!("{size:o}"), 4),
        'b' => ("0b", format!("{size:b}"), 4),
        _ => ("", size.to_string(), 3),
    };
    let sign = spec.sign_of(int < 0).to_owned() + if spec.alternate { prefix } else { "" };
    spec.pad(&sign, &grouped(&body, spec.group, every), '>')
}

/// Python's `format(value, spec)`.
pub(super) fn format_value(value: &Object<'_>, spec: &str) -> Result<String, EvalError> {
    match value {
        Object::DateTime(_) | Object::Date(_) | Object::Time(_) if !spec.is_empty() => {
            let time = match value {
                Object::DateTime(time) => (**time).clone(),
                Object::Date(date) => crate::datetime::DateTime::from_date(*date, 0, None),
                _ => return value.to_str(),
            };
            return Ok(crate::datetime::strftime::strftime(&time, spec));
        }
        _ if spec.is_empty() => return value.to_str(),
        _ => {}
    }
    let spec = Spec::read(spec)?;
    let unknown = |kind: char| value_error(format!("Unknown format code '{kind}' for object of type '{}'", value.type_name()));
    match (value, spec.kind) {
        (Object::Str(text) | Object::Markup(text), None | Some('s')) => {
            if spec.align == Some('=') {
                return value_error("'=' alignment not allowed in string format specifier");
            }
            let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
            Ok(spec.pad("", &cut, '<'))
        }
        (_, None) if value.int().is_some() => Ok(integer(value.int().unwrap_or(0), &spec, 'd')),
        (_, Some(kind @ ('d' | 'n' | 'x' | 'X' | 'o' | 'b'))) if value.int().is_some() => {
            Ok(integer(value.int().unwrap_or(0), &spec, kind))
        }
        (_, Some('c')) if value.int().is_some() => {
            let char = value.int().and_then(|it| u32::try_from(it).ok()).and_then(char::from_u32).unwrap_or_default();
            Ok(spec.pad("", &char.to_string(), '<'))
        }
        (_, kind) if value.number().is_some() => {
            let float = value.number().unwrap_or(0.0);
            let body = match kind {
                Some(kind @ ('f' | 'F' | 'e' | 'E' | 'g' | 'G' | '%')) => {
                    float_text(float, kind, spec.precision.unwrap_or(6), spec.alternate)
                }
                None | Some('n') => match spec.precision {
                    Some(precision) => float_text(float, 'g', precision, false),
                    None => float_repr(float.abs()),
                },
                Some(kind) => return unknown(kind),
            };
            Ok(spec.pad(spec.sign_of(float.is_sign_negative()), &grouped(&body, spec.group, 3), '>'))
        }
        (_, Some(kind)) if value.text().is_some() => unknown(kind),
        _ => type_error(format!("unsupported format string passed to {}.__format__", value.type_name())),
    }
}

/// `text.format(*positional, **named)`.
pub(super) fn format<'a>(text: &str, positional: &[Object<'a>], named: &[(Arc<str>, Object<'a>)]) -> Result<String, EvalError> {
    let mut formatter = Formatter { positional, named, next: 0 };
    formatter.run(text, 0)
}

struct Formatter<'f, 'a> {
    positional: &'f [Object<'a>],
    named: &'f [(Arc<str>, Object<'a>)],
    next: usize,
}

impl<'a> Formatter<'_, 'a> {
    fn run(&mut self, text: &str, depth: usize) -> Result<String, EvalError> {
        if depth > 2 {
            return value_error("Max string recursion exceeded");
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let brace = after.get(..1).unwrap_or_default();
            rest = after.get(1..).unwrap_or_default();
            if let Some(left) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = left;
                continue;
            }
            if brace == "}" {
                return value_error("Single '}' encountered in format string");
            }
            let Some(end) = closing(rest) else { return value_error("expected '}' before end of string") };
            out.push_str(&self.field(rest.get(..end).unwrap_or_default(), depth)?);
            rest = rest.get(end + 1..).unwrap_or_default();
            if out.len() > super::ops::MAX_LENGTH {
                return too_large();
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn field(&mut self, field: &str, depth: usize) -> Result<String, EvalError> {
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').map_or((name, None), |(name, it)| (name, Some(it)));
        let value = self.lookup(name)?;
        let spec = if spec.contains('{') { self.run(spec, depth + 1)? } else { spec.to_owned() };
        let value = match conversion {
            None => value,
            Some("s") => Object::str(value.to_str()?),
            Some("r" | "a") => Object::str(value.repr()?),
            Some(_) => return value_error("Unknown conversion specifier"),
        };
        format_value(&value, &spec)
    }

    fn lookup(&mut self, name: &str) -> Result<Object<'a>, EvalError> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let index = if first.is_empty() {
            self.next += 1;
            Some(self.next - 1)
        } else {
            first.parse().ok()
        };
        let mut value = match index {
            Some(at) => self.positional.get(at).cloned().ok_or_else(|| {
                EvalError::new("IndexError", format!("Replacement index {at} out of range for positional args tuple"))
            })?,
            None => {
                let found = self.named.iter().find(|(key, _)| &**key == first).map(|(_, value)| value.clone());
                found.ok_or_else(|| EvalError::new("KeyError", format!("'{first}'")))?
            }
        };
        while !path.is_empty() {
            let (key, rest, subscript) = if let Some(inner) = path.strip_prefix('[') {
                let Some((key, rest)) = inner.split_once(']') else { return value_error("Missing ']' in format string") };
                (key, rest, true)
            } else {
                let body = path.get(1..).unwrap_or_default();
                let end = body.find(['.', '[']).unwrap_or(body.len());
                (body.get(..end).unwrap_or_default(), body.get(end..).unwrap_or_default(), false)
            };
            path = rest;
            // Jinja2's sandbox looks up the fields of a format in the same way as attributes and items in an expression.
            value = match key.parse::<i128>() {
                Ok(index) if subscript => super::access::get_item(&value, &Object::Int(index))?,
                _ if subscript => super::access::get_item(&value, &Object::str(key))?,
                _ => super::access::get_attr(&value, key)?,
            };
        }
        Ok(value)
    }
}

/// Returns the end of the field that begins here. The field's format specification may contain further fields.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, char) in text.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether `obj` can be iterated. The check does not consume an iterator.
pub(super) fn iterable(obj: &Object<'_>) -> bool {
    matches!(obj, Object::Iter(_)) || items(obj).is_ok()
}
