//! Filters for strings.

use super::super::args::Args;
use super::super::eval::Eval;
use super::super::object::{Object, type_error};
use super::super::ops::{MAX_LENGTH, too_large};
use super::super::{EvalError, methods, percent, regex};

/// Percent-encodes everything except letters, digits, `_.-~` and the characters in `safe`. With `plus`, a space becomes `+`.
pub(in super::super) fn quoted(text: &str, safe: &str, plus: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"_.-~".contains(&b) || safe.as_bytes().contains(&b) => out.push(char::from(b)),
            b' ' if plus => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Escapes HTML as MarkupSafe does.
pub(in super::super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn need(what: &str, arg: Option<Object<'_>>) -> Result<String, EvalError> {
    match arg {
        Some(Object::Str(text) | Object::Markup(text)) => Ok(text.to_string()),
        other => type_error(format!("expected string for {what}, got {}", other.map_or("None", |it| it.type_name()))),
    }
}

fn count(arg: Option<Object<'_>>, default: i128) -> Result<usize, EvalError> {
    let value = match arg {
        None => default,
        Some(it) => it.int().ok_or_else(|| EvalError::type_error("an integer is required"))?,
    };
    match usize::try_from(value) {
        Ok(count) if count > MAX_LENGTH => too_large(),
        Ok(count) => Ok(count),
        Err(_) => Ok(0),
    }
}

pub(super) fn apply<'a>(eval: &mut Eval<'a>, name: &str, value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    match name {
        "regex_search" => {
            let [pattern] = args.bind(name, ["regex"], 1)?;
            let (text, pattern) = (need("re.search", Some(value.clone()))?, need("the pattern", pattern)?);
            return Ok(regex::search(&text, &pattern)?.map_or(Object::None, Object::str));
        }
        "regex_replace" => {
            let [pattern, to] = args.bind(name, ["regex", "replacement"], 2)?;
            let (text, pattern) = (need("re.sub", Some(value.clone()))?, need("the pattern", pattern)?);
            let made = regex::replace(&text, &pattern, &need("the replacement", to)?, eval.scope.bounds.template_bytes)?;
            return Ok(Object::str(made));
        }
        "format" => return percent::filter(&value.to_str()?, args).map(Object::str),
        "truncate" => return truncate(value, args),
        "indent" => return indent(value, args),
        "xmlattr" => return xml_attributes(value, args),
        "safe" => {
            let [] = args.positional(name, 0)?;
            return Ok(Object::Markup(value.to_str()?.into()));
        }
        "e" | "escape" | "forceescape" => {
            let [] = args.positional(name, 0)?;
            let keep = matches!(value, Object::Markup(_)) && name != "forceescape";
            return Ok(if keep { value.clone() } else { Object::Markup(escaped(&value.to_str()?).into()) });
        }
        _ => {}
    }
    let text = value.to_str()?;
    eval.tick(1 + text.len() / 64)?;
    let made = plain(name, &text, value, args)?;
    Ok(match (value, made) {
        (Object::Markup(_), Object::Str(made)) if !matches!(name, "replace" | "striptags" | "title") => Object::Markup(made),
        (_, made) => made,
    })
}

fn plain<'a>(name: &str, text: &str, value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let no_arguments = |args: Args<'a>| args.positional::<0>(name, 0).map(|_| ());
    Ok(match name {
        "replace" => {
            let [old, new, limit] = args.bind(name, ["old", "new", "count"], 2)?;
            let limit = limit.and_then(|it| it.int()).unwrap_or(-1);
            let (old, new) = (old.unwrap_or(Object::None).to_str()?, new.unwrap_or(Object::None).to_str()?);
            Object::str(methods::replaced(text, &old, &new, limit)?)
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"], 0)?;
            let chars = chars.filter(|it| !matches!(it, Object::None)).map(|it| need("strip", Some(it))).transpose()?;
            Object::str(methods::strip(text, chars.as_deref(), true, true))
        }
        "center" => {
            let [width] = args.bind(name, ["width"], 0)?;
            Object::str(methods::center(text, count(width, 80)?, " "))
        }
        "wordwrap" => {
            let [width, long, wrap, hyphens] =
                args.bind(name, ["width", "break_long_words", "wrapstring", "break_on_hyphens"], 0)?;
            let _ = hyphens;
            let wrap =
                wrap.filter(|it| !matches!(it, Object::None)).map_or(Ok("\n".to_owned()), |it| need("wrapstring", Some(it)))?;
            wrapped(value, count(width, 79)?, long.is_none_or(|it| it.truthy()), &wrap)?
        }
        "urlize" => return type_error("urlize is not supported"),
        "lower" | "upper" | "capitalize" | "title" | "wordcount" | "striptags" => {
            no_arguments(args)?;
            match name {
                "lower" => Object::str(text.to_lowercase()),
                "upper" => Object::str(text.to_uppercase()),
                "capitalize" => Object::str(methods::capitalized(text)),
                "title" => Object::str(title(text)),
                "wordcount" => Object::Int(word_count(text)),
                _ => Object::str(strip_tags(text)),
            }
        }
        _ => Object::str(text),
    })
}

/// Counts words, which are runs of letters, digits and underscores.
fn word_count(text: &str) -> i128 {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count() as i128
}

/// Converts to title case. A word begins after whitespace, a hyphen or one of `({[<`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut first = true;
    for char in text.chars() {
        let breaks = char.is_whitespace() || matches!(char, '-' | '(' | '{' | '[' | '<');
        if first && !breaks {
            out.extend(char.to_uppercase())
        } else {
            out.extend(char.to_lowercase())
        }
        first = breaks;
    }
    out
}

fn strip_tags(text: &str) -> String {
    let mut rest = text.to_owned();
    while let Some((start, end)) = rest.find("<!--").and_then(|start| Some((start, start + rest.get(start..)?.find("-->")? + 3)))
    {
        rest.replace_range(start..end, "");
    }
    while let Some((start, end)) = rest.find('<').and_then(|start| Some((start, start + rest.get(start..)?.find('>')? + 1))) {
        rest.replace_range(start..end, "");
    }
    let joined = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(joined, |text, (from, to)| text.replace(from, to))
}

fn truncate<'a>(value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [length, kill, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let end = end.map_or_else(|| Ok("...".to_owned()), |end| need("end", Some(end)))?;
    let (length, leeway) = (count(length, 255)?, count(leeway.filter(|it| !matches!(it, Object::None)), 5)?);
    let size = end.chars().count();
    if length < size {
        return Err(EvalError::new("AssertionError", format!("expected length >= {size}, got {length}")));
    }
    if let Object::Undefined(_) = value {
        return Ok(value.clone());
    }
    let Some(text) = value.text() else { return type_error(format!("object of type '{}' has no len()", value.type_name())) };
    if text.chars().count() <= length + leeway {
        return Ok(value.clone());
    }
    let cut: String = text.chars().take(length - size).collect();
    let kept =
        if kill.is_some_and(|it| it.truthy()) { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(it, _)| it) };
    Ok(Object::str(format!("{kept}{end}")))
}

fn indent<'a>(value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"], 0)?;
    if let Object::Undefined(message) = value {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    let indention = match &width {
        Some(Object::Str(text)) => text.to_string(),
        _ => " ".repeat(count(width, 4)?.min(1000)),
    };
    let text = need("indent", Some(value.clone()))?;
    let flag = |arg: Option<Object<'a>>| arg.is_some_and(|it| it.truthy());
    let (first, blank) = (flag(first), flag(blank));
    let lines = methods::lines(&(text + "\n"), false);
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if (index == 0 && first) || (index > 0 && (blank || !line.is_empty())) {
            out.push_str(&indention);
        }
        out.push_str(line);
        if out.len() > MAX_LENGTH {
            return too_large();
        }
    }
    Ok(Object::str(out))
}

fn xml_attributes<'a>(value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [space] = args.bind("xmlattr", ["autospace"], 0)?;
    if !value.is_dict() {
        return Err(EvalError::new("AttributeError", format!("'{}' object has no attribute 'items'", value.type_name())));
    }
    let mut parts = Vec::new();
    for (key, value) in methods::copy(value)?.into_values() {
        if matches!(value, Object::None | Object::Undefined(_)) {
            continue;
        }
        let key = key.to_str()?;
        if key.contains([' ', '\t', '\n', '\r', '/', '>', '=']) {
            return Err(EvalError::value_error(format!("Invalid character in attribute name: '{key}'")));
        }
        parts.push(format!("{}=\"{}\"", escaped(&key), escaped(&value.to_str()?)));
    }
    let joined = parts.join(" ");
    let spaced = space.is_none_or(|it| it.truthy()) && !joined.is_empty();
    Ok(Object::str(if spaced { format!(" {joined}") } else { joined }))
}

/// Wraps the text at spaces into lines of at most `width` characters.
fn wrapped<'a>(value: &Object<'a>, width: usize, long: bool, wrap: &str) -> Result<Object<'a>, EvalError> {
    let Some(text) = value.text() else { return type_error("expected a string") };
    if width == 0 {
        return Err(EvalError::value_error("invalid width 0 (must be > 0)"));
    }
    let mut out = Vec::new();
    for line in methods::lines(text, false) {
        let mut current = String::new();
        for word in line.split_inclusive(' ') {
            let mut word = word.to_owned();
            let size = |text: &str| text.chars().count();
            if size(&current) + size(word.trim_end()) > width && !current.trim().is_empty() {
                out.push(std::mem::take(&mut current).trim_end().to_owned());
            }
            while long && size(word.trim_end()) > width {
                let head: String = word.chars().take(width).collect();
                word = word.chars().skip(width).collect();
                out.push(head);
            }
            current.push_str(&word);
        }
        out.push(current.trim_end().to_owned());
    }
    Ok(Object::str(out.join(wrap)))
}
