//! Python's `re` on top of fancy-regex, with a limit on backtracking.

use super::EvalError;
use fancy_regex::{Captures, Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

const CACHE_CAPACITY: usize = 64;
const MAX_BACKTRACKS: usize = 100_000;
const MAX_PATTERN_BYTES: usize = 10_000;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Rc<Regex>>> = RefCell::new(HashMap::new());
}

fn error(message: impl Into<String>) -> EvalError {
    // The Python class of this exception is `re.error`.
    EvalError::new("error", message)
}

/// Translates the parts of Python's syntax that differ from fancy-regex: `$`, which in Python also matches before a final
/// line break, `\Z` and `{,n}`.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let multiline = pattern.starts_with("(?m") || pattern.starts_with("(?sm") || pattern.starts_with("(?im");
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('Z') => out.push_str("\\z"),
                Some('"') => out.push('"'),
                Some('\'') => out.push('\''),
                Some(next) => {
                    out.push('\\');
                    out.push(next);
                }
                None => out.push('\\'),
            },
            '[' if in_class => out.push_str("\\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '&' | '~' if in_class && chars.peek() == Some(&char) => {
                out.push('\\');
                out.push(char);
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '$' if !in_class && !multiline => out.push_str("(?=\\n?\\z)"),
            '{' if !in_class && chars.peek() == Some(&',') => out.push_str("{0"),
            other => out.push(other),
        }
    }
    out
}

fn compiled(pattern: &str) -> Result<Rc<Regex>, EvalError> {
    if let Some(regex) = COMPILED.with_borrow(|cache| cache.get(pattern).cloned()) {
        return Ok(regex);
    }
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(error("the pattern is too long"));
    }
    let regex = RegexBuilder::new(&translated(pattern))
        .backtrack_limit(MAX_BACKTRACKS)
        .delegate_size_limit(1 << 21)
        .build()
        .map_err(|failed| error(failed.to_string()))?;
    let regex = Rc::new(regex);
    COMPILED.with_borrow_mut(|cache| {
        if cache.len() >= CACHE_CAPACITY {
            cache.clear();
        }
        cache.insert(pattern.to_owned(), Rc::clone(&regex));
    });
    Ok(regex)
}

fn too_long(failed: fancy_regex::Error) -> EvalError {
    EvalError::new("MemoryError", failed.to_string())
}

/// The CDK's filter `regex_search`. Returns the first group, an empty string if there is no match, or None if the group did
/// not take part in the match.
pub(super) fn search(text: &str, pattern: &str) -> Result<Option<String>, EvalError> {
    let found = compiled(pattern)?.captures(text).map_err(too_long)?;
    let Some(found) = found.filter(|found| found.len() > 1) else { return Ok(Some(String::new())) };
    Ok(found.get(1).map(|group| group.as_str().to_owned()))
}

/// Python's `re.sub`.
pub(super) fn replace(text: &str, pattern: &str, template: &str, limit: usize) -> Result<String, EvalError> {
    let regex = compiled(pattern)?;
    let mut out = String::new();
    let mut last = 0;
    for found in regex.captures_iter(text) {
        let found = found.map_err(too_long)?;
        let Some(all) = found.get(0) else { break };
        out.push_str(text.get(last..all.start()).unwrap_or_default());
        expand(template, &found, &mut out)?;
        last = all.end();
        if out.len() > limit {
            return super::ops::too_large();
        }
    }
    out.push_str(text.get(last..).unwrap_or_default());
    Ok(out)
}

fn expand(template: &str, found: &Captures<'_, str>, out: &mut String) -> Result<(), EvalError> {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let Some(char) = after.chars().next() else { return Err(error("bad escape (end of pattern)")) };
        rest = after.get(char.len_utf8()..).unwrap_or_default();
        match char {
            '0'..='9' => {
                let digits = after.bytes().take(2).take_while(u8::is_ascii_digit).count();
                let (number, left) = after.split_at(digits);
                rest = left;
                group(number, found, out)?;
            }
            'g' => {
                let named = rest.strip_prefix('<').and_then(|it| it.split_once('>'));
                let Some((name, left)) = named else { return Err(error("missing <")) };
                rest = left;
                group(name, found, out)?;
            }
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            '\\' => out.push('\\'),
            letter if letter.is_ascii_alphabetic() => return Err(error(format!("bad escape \\{letter}"))),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out.push_str(rest);
    Ok(())
}

fn group(name: &str, found: &Captures<'_, str>, out: &mut String) -> Result<(), EvalError> {
    let group = match name.parse::<usize>() {
        Ok(index) if index < found.len() => found.get(index),
        Ok(index) => return Err(error(format!("invalid group reference {index}"))),
        Err(_) => found.name(name),
    };
    out.push_str(group.map_or("", |group| group.as_str()));
    Ok(())
}
