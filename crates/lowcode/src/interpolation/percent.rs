//! Python's `%` formatting.

use super::EvalError;
use super::format::{MAX_WIDTH, Spec, digits, float_text, integer, value_error};
use super::object::{Object, type_error};

/// `text % args`.
pub(super) fn percent(text: &str, args: &Object<'_>) -> Result<String, EvalError> {
    let (list, single) = match args {
        Object::Tuple(items) => (items.to_vec(), false),
        other => (vec![other.clone()], true),
    };
    let mut next = list.iter();
    let mut used = false;
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mut value = None;
        let mut after = after;
        if let Some(named) = after.strip_prefix('(') {
            let Some((key, left)) = named.split_once(')') else { return value_error("incomplete format key") };
            if !args.is_dict() {
                return type_error("format requires a mapping");
            }
            let found = super::access::dict_get(args, &Object::str(key))?;
            value = Some(found.ok_or_else(|| EvalError::new("KeyError", format!("'{key}'")))?);
            used = true;
            after = left;
        }
        let (spec, kind, left) = percent_spec(after, &mut next)?;
        rest = left;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => {
                used = true;
                next.next().cloned().ok_or_else(|| EvalError::type_error("not enough arguments for format string"))?
            }
        };
        out.push_str(&percent_value(&value, kind, spec)?);
    }
    out.push_str(rest);
    // Python ignores a dict or list that the format does not use, and raises TypeError for any other unused argument.
    let mapping = single && (args.is_dict() || args.is_list());
    if !mapping && (next.next().is_some() || (single && !used)) && !args.is_undefined_tuple() {
        return type_error("not all arguments converted during string formatting");
    }
    Ok(out)
}

impl Object<'_> {
    fn is_undefined_tuple(&self) -> bool {
        matches!(self, Object::Tuple(items) if items.is_empty())
    }
}

fn percent_spec<'t, 'a>(text: &'t str, next: &mut std::slice::Iter<'_, Object<'a>>) -> Result<(Spec, char, &'t str), EvalError> {
    let mut spec = Spec::default();
    let mut chars: Vec<char> = text.chars().rev().collect();
    let before = |left: usize| text.chars().count() - left;
    while let Some(flag) = chars.pop_if(|c| matches!(c, '-' | '+' | ' ' | '#' | '0')) {
        match flag {
            '-' => spec.align = Some('<'),
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            sign => spec.sign = if spec.sign == Some('+') { Some('+') } else { Some(sign) },
        }
    }
    let mut star = |chars: &mut Vec<char>| -> Result<Option<usize>, EvalError> {
        if chars.pop_if(|c| *c == '*').is_none() {
            return digits(chars);
        }
        match next.next().and_then(Object::int).and_then(|it| usize::try_from(it).ok()) {
            Some(width) if width <= MAX_WIDTH => Ok(Some(width)),
            _ => type_error("* wants int"),
        }
    };
    spec.width = star(&mut chars)?.unwrap_or(0);
    if chars.pop_if(|c| *c == '.').is_some() {
        spec.precision = Some(star(&mut chars)?.unwrap_or(0));
    }
    while chars.pop_if(|c| matches!(c, 'h' | 'l' | 'L')).is_some() {}
    let Some(kind) = chars.pop() else { return value_error("incomplete format") };
    let at = text.char_indices().nth(before(chars.len())).map_or(text.len(), |(at, _)| at);
    Ok((spec, kind, text.get(at..).unwrap_or_default()))
}

fn percent_value(value: &Object<'_>, kind: char, mut spec: Spec) -> Result<String, EvalError> {
    if spec.align == Some('<') {
        spec.zero = false;
    }
    if let Object::Undefined(message) = value
        && !matches!(kind, 's' | 'r' | 'a')
    {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    let text = |text: String, mut spec: Spec| {
        spec.zero = false;
        let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
        spec.pad("", &cut, '>')
    };
    let wants = |what: &str| type_error(format!("%{kind} format: {what} is required, not {}", value.type_name()));
    Ok(match kind {
        's' => text(value.to_str()?, spec),
        'r' | 'a' => text(value.repr()?, spec),
        'd' | 'i' | 'u' => match (value.int(), value.number()) {
            (Some(int), _) => integer(int, &spec, 'd'),
            (None, Some(float)) if float.is_finite() => integer(float.trunc() as i128, &spec, 'd'),
            _ => return wants("a real number"),
        },
        'x' | 'X' | 'o' => match value.int() {
            Some(int) => integer(int, &spec, kind),
            None => return wants("an integer"),
        },
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' => match value.number() {
            Some(float) => {
                let body = float_text(float, kind, spec.precision.unwrap_or(6), spec.alternate);
                spec.pad(spec.sign_of(float.is_sign_negative()), &body, '>')
            }
            None => return type_error(format!("must be real number, not {}", value.type_name())),
        },
        'c' => match (value.text(), value.int().and_then(|it| u32::try_from(it).ok()).and_then(char::from_u32)) {
            (Some(it), _) if it.chars().count() == 1 => text(it.to_string(), spec),
            (_, Some(char)) => text(char.to_string(), spec),
            _ => return type_error("%c requires int or char"),
        },
        other => return value_error(format!("unsupported format character '{other}' ({:#x})", other as u32)),
    })
}

/// The `format` filter.
pub(super) fn filter(text: &str, args: super::args::Args<'_>) -> Result<String, EvalError> {
    if args.named.is_empty() {
        return percent(text, &Object::tuple(args.positional));
    }
    if !args.positional.is_empty() {
        return Err(EvalError::new("FilterArgumentError", "can't handle positional and keyword arguments at the same time"));
    }
    let mut map = super::object::Map::default();
    for (key, value) in args.named {
        super::eval::insert(&mut map, Object::Str(key), value)?;
    }
    percent(text, &Object::dict(map))
}
