//! Query strings and form bodies: Python's `urlencode` as `requests` calls it, and `parse_qs`.

use super::{quote, unquote};
use crate::value::{Dict, Value};
use std::borrow::Cow;

/// `urllib.parse.quote_plus`. A space becomes `+`, `~` is kept and `*` is escaped.
#[must_use]
pub fn quote_plus(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_quoted(text, &mut out);
    out
}

fn push_quoted(text: &str, out: &mut String) {
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            out.push('+');
        }
        quote(part.as_bytes(), b"", out);
    }
}

/// The pairs that `requests` sends for a dict. A list repeats its key, None is left out, and a nested dict is treated as the
/// list of its keys.
#[must_use]
pub fn encode_params(params: &Dict) -> String {
    let mut pairs = Vec::new();
    for (key, value) in params {
        match value {
            Value::List(items) => items.iter().for_each(|item| push_pairs(key, item, &mut pairs)),
            Value::Dict(dict) => dict.keys().for_each(|item| pairs.push((&**key, item.to_string()))),
            other => push_pairs(key, other, &mut pairs),
        }
    }
    encode_pairs(pairs.iter().map(|(key, value)| (*key, value.as_str())))
}

/// Adds one item of a list. If the item is a list itself, `urlencode(doseq=True)` expands it as well.
fn push_pairs<'a>(key: &'a str, item: &Value, pairs: &mut Vec<(&'a str, String)>) {
    match item {
        Value::None => {}
        Value::List(items) => pairs.extend(items.iter().map(|item| (key, item.to_str()))),
        Value::Dict(dict) => pairs.extend(dict.keys().map(|item| (key, item.to_string()))),
        other => pairs.push((key, other.to_str())),
    }
}

/// Python's `urlencode` for pairs of text.
#[must_use]
pub fn encode_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        push_quoted(key, &mut out);
        out.push('=');
        push_quoted(value, &mut out);
    }
    out
}

/// `urllib.parse.parse_qsl`. Returns the pairs in order and leaves out those without a value.
pub fn parse_qs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(_, value)| !value.is_empty());
    pairs.map(|(key, value)| (unquote_plus(key), unquote_plus(value)))
}

fn unquote_plus(text: &str) -> Cow<'_, str> {
    match text.contains('+') {
        true => Cow::Owned(unquote(&text.replace('+', " ")).into_owned()),
        false => unquote(text),
    }
}
