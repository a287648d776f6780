//! The methods of `str`.

use super::super::args::Args;
use super::super::eval::Eval;
use super::super::object::{Object, type_error};
use super::super::ops::{items, too_large};
use super::super::{EvalError, format};

/// Strips `chars` from the requested ends of the text, or whitespace if `chars` is not given.
pub(in super::super) fn strip<'t>(text: &'t str, chars: Option<&str>, start: bool, end: bool) -> &'t str {
    let cut = |c: char| chars.map_or(c.is_whitespace(), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(cut) } else { text };
    if end { text.trim_end_matches(cut) } else { text }
}

pub(in super::super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase())
}

fn need<'t>(name: &str, arg: &'t Option<Object<'_>>) -> Result<&'t str, EvalError> {
    match arg {
        Some(Object::Str(text) | Object::Markup(text)) => Ok(text),
        Some(other) => type_error(format!("{name}() argument must be str, not {}", other.type_name())),
        None => type_error(format!("{name}() missing an argument")),
    }
}

fn number(arg: &Option<Object<'_>>, default: i128) -> Result<i128, EvalError> {
    match arg {
        None => Ok(default),
        Some(it) => it
            .int()
            .ok_or_else(|| EvalError::type_error(format!("'{}' object cannot be interpreted as an integer", it.type_name()))),
    }
}

/// Reads an argument that must be a string or None.
fn optional<'t>(name: &str, arg: &'t Option<Object<'_>>) -> Result<Option<&'t str>, EvalError> {
    match arg {
        None | Some(Object::None) => Ok(None),
        _ => need(name, arg).map(Some),
    }
}

fn list<'a>(parts: impl IntoIterator<Item = impl AsRef<str>>) -> Object<'a> {
    Object::list(parts.into_iter().map(|part| Object::str(part.as_ref())).collect())
}

pub(super) fn call<'a>(eval: &mut Eval<'a>, text: &str, name: &'static str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    eval.tick(1 + text.len() / 64)?;
    match name {
        "split" | "rsplit" => split(text, name, args),
        "join" => join(eval, text, args),
        "replace" => replace(text, args),
        "format" => format::format(text, &args.positional, &args.named).map(Object::str),
        "format_map" => {
            let [mapping] = args.positional(name, 1)?;
            let mapping = mapping.unwrap_or(Object::None);
            let mut named = Vec::new();
            for key in items(&mapping)? {
                let value = super::super::access::dict_get(&mapping, &key)?.unwrap_or(Object::None);
                named.push((key.to_str()?.into(), value));
            }
            format::format(text, &[], &named).map(Object::str)
        }
        "startswith" | "endswith" | "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, args),
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.positional(name, 0)?;
            Ok(Object::str(strip(text, optional(name, &chars)?, name != "rstrip", name != "lstrip")))
        }
        "center" | "ljust" | "rjust" | "zfill" | "expandtabs" => padded(text, name, args),
        "partition" | "rpartition" => partition(text, name, args),
        "removeprefix" | "removesuffix" => {
            let [part] = args.positional(name, 1)?;
            let part = need(name, &part)?;
            let cut = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Ok(Object::str(cut.unwrap_or(text)))
        }
        "encode" => {
            let [encoding, _] = args.bind(name, ["encoding", "errors"], 0)?;
            encode(text, optional(name, &encoding)?.unwrap_or("utf-8")).map(|bytes| Object::Bytes(bytes.into()))
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"], 0)?;
            Ok(list(lines(text, keep.is_some_and(|it| it.truthy()))))
        }
        "maketrans" => type_error("str.maketrans is not supported"),
        _ => {
            let _: [Option<Object<'a>>; 0] = args.positional(name, 0)?;
            Ok(plain(text, name))
        }
    }
}

pub(in super::super) fn encode(text: &str, encoding: &str) -> Result<Vec<u8>, EvalError> {
    let bad = |position: usize| {
        EvalError::new("UnicodeEncodeError", format!("'{encoding}' codec can't encode character in position {position}"))
    };
    match encoding.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" => Ok(text.as_bytes().to_vec()),
        "ascii" => match text.chars().position(|c| !c.is_ascii()) {
            Some(at) => Err(bad(at)),
            None => Ok(text.as_bytes().to_vec()),
        },
        "latin1" | "iso88591" => text.chars().enumerate().map(|(at, c)| u8::try_from(c as u32).map_err(|_| bad(at))).collect(),
        _ => Err(EvalError::new("LookupError", format!("unknown encoding: {encoding}"))),
    }
}

/// Methods without arguments.
fn plain<'a>(text: &str, name: &str) -> Object<'a> {
    let all = |test: fn(char) -> bool| Object::Bool(!text.is_empty() && text.chars().all(test));
    let cased = |test: fn(&char) -> bool, not: fn(&char) -> bool| {
        Object::Bool(text.chars().any(|c| test(&c)) && !text.chars().any(|c| not(&c)))
    };
    match name {
        "capitalize" => Object::str(capitalized(text)),
        "lower" => Object::str(text.to_lowercase()),
        "casefold" => Object::str(text.to_lowercase().replace('ß', "ss")),
        "upper" => Object::str(text.to_uppercase()),
        "swapcase" => Object::str(
            text.chars()
                .map(|c| if c.is_uppercase() { c.to_lowercase().collect::<String>() } else { c.to_uppercase().collect() })
                .collect::<String>(),
        ),
        "title" => Object::str(title(text)),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => Object::Bool(text.is_ascii()),
        "isdecimal" | "isdigit" => all(|c| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())),
        "isnumeric" => all(char::is_numeric),
        "isidentifier" => Object::Bool(
            text.chars().all(|c| c.is_alphanumeric() || c == '_') && !text.starts_with(char::is_numeric) && !text.is_empty(),
        ),
        "islower" => cased(|c| c.is_lowercase(), |c| c.is_uppercase()),
        "isupper" => cased(|c| c.is_uppercase(), |c| c.is_lowercase()),
        "isprintable" => Object::Bool(!text.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' '))),
        "isspace" => all(char::is_whitespace),
        "istitle" => Object::Bool(text.chars().any(char::is_alphabetic) && title(text) == text),
        _ => Object::str(text),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for char in text.chars() {
        if inside {
            out.extend(char.to_lowercase())
        } else {
            out.extend(char.to_uppercase())
        }
        inside = char.is_alphabetic();
    }
    out
}

/// Splits the text into lines as Python's `str.splitlines` does.
pub(in super::super) fn lines(text: &str, keep: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if !matches!(char, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            line.push(char);
            continue;
        }
        if keep {
            line.push(char);
        }
        if char == '\r' && chars.next_if_eq(&'\n').is_some() && keep {
            line.push('\n');
        }
        lines.push(std::mem::take(&mut line));
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

fn split<'a>(text: &str, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [sep, max] = args.bind(name, ["sep", "maxsplit"], 0)?;
    let sep = optional(name, &sep)?;
    let max = usize::try_from(number(&max, -1)?).unwrap_or(usize::MAX);
    let limit = max.saturating_add(1);
    let Some(sep) = sep else { return Ok(list(split_blank(text, name == "split", max))) };
    if sep.is_empty() {
        return Err(EvalError::value_error("empty separator"));
    }
    if name == "split" {
        return Ok(list(text.splitn(limit, sep)));
    }
    let mut parts: Vec<&str> = text.rsplitn(limit, sep).collect();
    parts.reverse();
    Ok(list(parts))
}

fn split_blank(text: &str, forward: bool, max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let cut = if forward { rest.find(char::is_whitespace) } else { rest.rfind(char::is_whitespace) };
        let Some(at) = cut.filter(|_| parts.len() < max) else { break };
        let width = rest.get(at..).and_then(|it| it.chars().next()).map_or(1, char::len_utf8);
        let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + width..).unwrap_or_default());
        if forward {
            parts.push(before);
            rest = after.trim_start();
        } else {
            parts.push(after);
            rest = before.trim_end();
        }
    }
    if !rest.is_empty() {
        // Python does not strip the whitespace at the far end of the part that is left unsplit.
        let whole = if parts.len() < max {
            rest
        } else if forward {
            tail(text, rest)
        } else {
            head(text, rest)
        };
        parts.push(whole);
    }
    if !forward {
        parts.reverse();
    }
    parts
}

fn tail<'t>(text: &'t str, rest: &str) -> &'t str {
    let trimmed = text.len() - text.trim_end().len();
    text.get(text.len() - trimmed - rest.len()..).unwrap_or_default()
}

fn head<'t>(text: &'t str, rest: &str) -> &'t str {
    let trimmed = text.len() - text.trim_start().len();
    text.get(..trimmed + rest.len()).unwrap_or_default()
}

fn join<'a>(eval: &mut Eval<'a>, sep: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [parts] = args.positional("join", 1)?;
    let parts = parts.unwrap_or(Object::None);
    let Ok(parts) = items(&parts) else { return type_error("can only join an iterable") };
    eval.tick(parts.len())?;
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(text) = part.text() else {
            return type_error(format!("sequence item {index}: expected str instance, {} found", part.type_name()));
        };
        if index > 0 {
            out.push_str(sep);
        }
        out.push_str(text);
        if out.len() > eval.scope.bounds.template_bytes {
            return too_large();
        }
    }
    Ok(Object::str(out))
}

/// Python's `str.replace`. A negative count replaces all occurrences.
pub(in super::super) fn replaced(text: &str, old: &str, new: &str, count: i128) -> Result<String, EvalError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let hits = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    if text.len().saturating_add(hits.min(count).saturating_mul(new.len())) > super::super::ops::MAX_LENGTH {
        return too_large();
    }
    Ok(text.replacen(old, new, count))
}

fn replace<'a>(text: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [old, new, count] = args.positional("replace", 2)?;
    replaced(text, need("replace", &old)?, need("replace", &new)?, number(&count, -1)?).map(Object::str)
}

fn search<'a>(text: &str, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [what, start, end] = args.positional(name, 1)?;
    let chars = text.chars().count() as i128;
    let bound = |arg: &Option<Object<'a>>, default: i128| -> Result<usize, EvalError> {
        let at = match arg {
            Some(Object::None) | None => default,
            other => number(other, default)?,
        };
        Ok((if at < 0 { at + chars } else { at }).clamp(0, chars) as usize)
    };
    let (start, end) = (bound(&start, 0)?, bound(&end, chars)?);
    let part: String = if start == 0 && end as i128 == chars {
        text.to_owned()
    } else {
        text.chars().skip(start).take(end.saturating_sub(start)).collect()
    };
    let what = what.unwrap_or(Object::None);
    if matches!(name, "startswith" | "endswith") {
        let options = if let Object::Tuple(items) = &what { items.to_vec() } else { vec![what] };
        for option in options {
            let Some(option) = option.text() else {
                return type_error(format!("{name} first arg must be str or a tuple of str, not {}", option.type_name()));
            };
            if if name == "startswith" { part.starts_with(&**option) } else { part.ends_with(&**option) } {
                return Ok(Object::Bool(true));
            }
        }
        return Ok(Object::Bool(false));
    }
    let Some(what) = what.text() else { return type_error(format!("must be str, not {}", what.type_name())) };
    if name == "count" {
        return Ok(Object::Int(part.matches(&**what).count() as i128));
    }
    let found = if name.starts_with('r') { part.rfind(&**what) } else { part.find(&**what) };
    match found.and_then(|at| part.get(..at)) {
        Some(before) => Ok(Object::Int((before.chars().count() + start) as i128)),
        None if name.ends_with("index") => Err(EvalError::value_error("substring not found")),
        None => Ok(Object::Int(-1)),
    }
}

fn padded<'a>(text: &str, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    if name == "expandtabs" {
        let [size] = args.bind(name, ["tabsize"], 0)?;
        return Ok(Object::str(text.replace('\t', &" ".repeat(number(&size, 8)?.clamp(0, 100) as usize))));
    }
    let [width, fill] = args.positional(name, 1)?;
    let width = usize::try_from(number(&width, 0)?).unwrap_or(0);
    if width > super::super::ops::MAX_LENGTH {
        return too_large();
    }
    let fill = if let Some(fill) = optional(name, &fill)? { fill.to_owned() } else { " ".into() };
    if fill.chars().count() != 1 {
        return type_error("The fill character must be exactly one character long");
    }
    let space = width.saturating_sub(text.chars().count());
    Ok(Object::str(match name {
        "ljust" => text.to_owned() + &fill.repeat(space),
        "rjust" => fill.repeat(space) + text,
        "zfill" => {
            let (sign, digits) = if text.starts_with(['+', '-']) { text.split_at(1) } else { ("", text) };
            format!("{sign}{}{digits}", "0".repeat(space))
        }
        _ => center(text, width, &fill),
    }))
}

/// Python's `str.center`. With an odd width, the extra space goes to the left.
pub(in super::super) fn center(text: &str, width: usize, fill: &str) -> String {
    let space = width.saturating_sub(text.chars().count());
    let left = space / 2 + (space & width & 1);
    format!("{}{text}{}", fill.repeat(left), fill.repeat(space - left))
}

fn partition<'a>(text: &str, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [sep] = args.positional(name, 1)?;
    let sep = need(name, &sep)?;
    if sep.is_empty() {
        return Err(EvalError::value_error("empty separator"));
    }
    let found = if name == "partition" { text.split_once(sep) } else { text.rsplit_once(sep) };
    let parts = match found {
        Some((before, after)) => [before, sep, after],
        None if name == "partition" => [text, "", ""],
        None => ["", "", text],
    };
    Ok(Object::tuple(parts.iter().map(|part| Object::str(*part)).collect()))
}
