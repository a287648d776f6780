//! Paths into values, as implemented by the Python package dpath 2, with globs, list indexes and these peculiarities:
//!
//! - Empty keys are allowed: the CDK sets `ALLOW_EMPTY_STRING_KEYS` (sources/__init__.py).
//! - A list index also matches the negative index of the same item (`ListIndex.__eq__`).
//! - `delete` with a filter ignores the path: it deletes every leaf that the filter selects.

use crate::error::Failed;
use crate::value::{Dict, Value};

/// One step of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Key(&'a str),
    /// An index and the length of its list.
    Index(usize, usize),
}

/// A path whose parts are globs. A part that is not a string matches only list indexes.
pub type Glob = [Value];

/// Splits a path that is written as one string with `/` between its parts.
///
/// # Errors
/// AttributeError if `path` is a scalar other than a string.
pub fn split(path: &Value) -> Result<Vec<Value>, Failed> {
    match path {
        Value::Str(text) => Ok(text.trim_start_matches('/').split('/').map(Value::from).collect()),
        Value::List(list) => Ok(list.clone()),
        Value::Dict(dict) => Ok(dict.keys().map(|key| Value::Str(key.clone())).collect()),
        other => Err(Failed::system("AttributeError", format!("'{}' object has no attribute 'lstrip'", other.type_name()))),
    }
}

/// Returns the value at `glob`, or `None` if nothing matches. The empty path stands for the value itself.
///
/// # Errors
/// ValueError if more than one value matches.
pub fn get<'v>(value: &'v Value, glob: &Glob) -> Result<Option<&'v Value>, Failed> {
    if glob.is_empty() {
        return Ok(Some(value));
    }
    if glob.iter().any(is_wild) {
        let mut found = Vec::new();
        walk(value, &mut Vec::new(), &mut |path, item| {
            if matches(path, glob)? {
                found.push(item);
            }
            Ok(())
        })?;
        return match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(Failed::system("ValueError", "dpath.get() globs must match only one leaf")),
        };
    }
    Ok(straight(value, glob))
}

/// Like [`get`], for a path given as one value: a string with `/`, or a list.
///
/// # Errors
/// Same as [`get`].
pub fn get_at<'v>(value: &'v Value, path: &Value) -> Result<Option<&'v Value>, Failed> {
    match path {
        Value::Str(text) if text.is_empty() || &**text == "/" => Ok(Some(value)),
        Value::Str(_) | Value::List(_) | Value::Dict(_) => get(value, &split(path)?),
        other => Err(Failed::system("TypeError", format!("object of type '{}' has no len()", other.type_name()))),
    }
}

/// Returns all values that `glob` matches, parents before children.
///
/// # Errors
/// InvalidGlob if the glob has more than one `**`.
pub fn values<'v>(value: &'v Value, glob: &Glob) -> Result<Vec<&'v Value>, Failed> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, item| {
        if matches(path, glob)? {
            found.push(item);
        }
        Ok(())
    })?;
    Ok(found)
}

fn is_wild(part: &Value) -> bool {
    matches!(part, Value::Str(text) if text.contains(['*', '?', '[']))
}

/// Looks up a path without globs directly. The result is the same as that of a walk over all values.
fn straight<'v>(value: &'v Value, path: &Glob) -> Option<&'v Value> {
    let mut current = value;
    for part in path {
        current = match current {
            Value::Dict(dict) => dict.get(part.as_str()?)?,
            Value::List(list) => list.iter().enumerate().find(|(at, _)| step_matches(&Step::Index(*at, list.len()), part))?.1,
            _ => return None,
        };
    }
    Some(current)
}

type Visit<'v, 'f> = dyn FnMut(&[Step<'v>], &'v Value) -> Result<(), Failed> + 'f;

/// Visits all children of a value, then the children of each.
fn walk<'v>(value: &'v Value, path: &mut Vec<Step<'v>>, visit: &mut Visit<'v, '_>) -> Result<(), Failed> {
    let children: Vec<(Step<'v>, &'v Value)> = match value {
        Value::Dict(dict) => dict.iter().map(|(key, item)| (Step::Key(key), item)).collect(),
        Value::List(list) => list.iter().enumerate().map(|(at, item)| (Step::Index(at, list.len()), item)).collect(),
        _ => return Ok(()),
    };
    for (step, item) in &children {
        path.push(step.clone());
        visit(path, item)?;
        path.pop();
    }
    for (step, item) in children {
        path.push(step);
        walk(item, path, visit)?;
        path.pop();
    }
    Ok(())
}

/// Whether `glob` matches `path`; `**` matches any number of steps.
fn matches(path: &[Step<'_>], glob: &Glob) -> Result<bool, Failed> {
    let is_deep = |part: &Value| part.as_str() == Some("**");
    let Some(at) = glob.iter().position(is_deep) else {
        return Ok(path.len() == glob.len() && path.iter().zip(glob).all(|(step, part)| step_matches(step, part)));
    };
    if glob.iter().skip(at + 1).any(is_deep) {
        return Err(Failed::system("InvalidGlob", "Invalid glob. Only one '**' is permitted per glob"));
    }
    let (before, after) = (glob.get(..at).unwrap_or_default(), glob.get(at + 1..).unwrap_or_default());
    if path.len() < before.len() + after.len() {
        return Ok(false);
    }
    let head = path.iter().zip(before).all(|(step, part)| step_matches(step, part));
    Ok(head && path.iter().rev().zip(after.iter().rev()).all(|(step, part)| step_matches(step, part)))
}

fn step_matches(step: &Step<'_>, part: &Value) -> bool {
    match step {
        Step::Key(key) => part.as_str().is_some_and(|glob| fnmatch(key, glob)),
        Step::Index(at, length) => match index_of(part) {
            Some(index) => index == *at as i64 || index.saturating_add(*length as i64) == *at as i64,
            None => part.as_str().is_some_and(|glob| fnmatch(&at.to_string(), glob)),
        },
    }
}

/// Python's `int(part)`.
fn index_of(part: &Value) -> Option<i64> {
    match part {
        Value::Int(int) => Some(*int),
        Value::Bool(bool) => Some(i64::from(*bool)),
        Value::Float(float) => Some(*float as i64),
        Value::Str(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Python's `fnmatch.fnmatchcase`.
#[must_use]
pub fn fnmatch(text: &str, glob: &str) -> bool {
    if !glob.contains(['*', '?', '[']) {
        return text == glob;
    }
    let (text, glob): (Vec<char>, Vec<char>) = (text.chars().collect(), glob.chars().collect());
    // The usual algorithm for matching globs. It only needs to backtrack to the last star.
    let (mut at, mut part, mut back) = (0, 0, None);
    loop {
        match (text.get(at), glob.get(part)) {
            (None, None) => return true,
            (_, Some('*')) => {
                back = Some((at, part));
                part += 1;
                continue;
            }
            (Some(char), Some(_)) => {
                if let Some(next) = one_matches(*char, &glob, part) {
                    (at, part) = (at + 1, next);
                    continue;
                }
            }
            _ => {}
        }
        match back {
            Some((from, star)) if from < text.len() => {
                back = Some((from + 1, star));
                (at, part) = (from + 1, star + 1);
            }
            _ => return false,
        }
    }
}

/// Matches `char` against the glob at position `part`, and returns the position after the match.
fn one_matches(char: char, glob: &[char], part: usize) -> Option<usize> {
    match glob.get(part)? {
        '?' => Some(part + 1),
        '[' => {
            let negated = glob.get(part + 1) == Some(&'!');
            let first = part + 1 + usize::from(negated);
            let Some(end) = (first + 1..glob.len()).find(|at| glob.get(*at) == Some(&']')) else {
                return (char == '[').then_some(part + 1);
            };
            (set_has(glob.get(first..end)?, char) != negated).then_some(end + 1)
        }
        other => (*other == char).then_some(part + 1),
    }
}

fn set_has(set: &[char], char: char) -> bool {
    let mut at = 0;
    while let Some(from) = set.get(at) {
        match (set.get(at + 1), set.get(at + 2)) {
            (Some('-'), Some(to)) => {
                if (*from..=*to).contains(&char) {
                    return true;
                }
                at += 3;
            }
            _ => {
                if *from == char {
                    return true;
                }
                at += 1;
            }
        }
    }
    false
}

/// One step of a path that owns its keys.
#[derive(Clone, Debug)]
enum OwnStep {
    Key(std::sync::Arc<str>),
    Index(usize),
}

/// A filter that selects values.
pub type Filter<'f> = &'f mut dyn FnMut(&Value) -> Result<bool, Failed>;

/// Deletes the values that `glob` matches and returns their number. An item in the middle of a list becomes None instead.
///
/// # Errors
/// Same as [`values`], or an error of the filter.
pub fn delete(value: &mut Value, glob: &Glob, mut filter: Option<Filter<'_>>) -> Result<usize, Failed> {
    let mut found: Vec<(Vec<OwnStep>, bool)> = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, item| {
        let picked = match filter.as_mut() {
            None => matches(path, glob)?,
            Some(filter) => !matches!(item, Value::List(_) | Value::Dict(_)) && filter(item)?,
        };
        found.push((path.iter().map(own).collect(), picked));
        Ok(())
    })?;
    let mut count = 0;
    for (path, picked) in found {
        if picked && delete_one(value, &path) {
            count += 1;
        }
    }
    Ok(count)
}

fn own(step: &Step<'_>) -> OwnStep {
    match step {
        Step::Key(key) => OwnStep::Key((*key).into()),
        Step::Index(at, _) => OwnStep::Index(*at),
    }
}

fn delete_one(value: &mut Value, path: &[OwnStep]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut current = value;
    for step in parents {
        let next = match (current, step) {
            (Value::Dict(dict), OwnStep::Key(key)) => dict.get_mut(key),
            (Value::List(list), OwnStep::Index(at)) => list.get_mut(*at),
            _ => None,
        };
        let Some(next) = next else { return false };
        current = next;
    }
    match (current, last) {
        (Value::Dict(dict), OwnStep::Key(key)) => dict.shift_remove(key).is_some(),
        (Value::List(list), OwnStep::Index(at)) if *at + 1 == list.len() => list.pop().is_some(),
        (Value::List(list), OwnStep::Index(at)) => list.get_mut(*at).map(|item| *item = Value::None).is_some(),
        _ => false,
    }
}

/// Replaces the values that `glob` matches and returns their number.
///
/// # Errors
/// Same as [`values`].
pub fn set(value: &mut Value, glob: &Glob, new: &Value) -> Result<usize, Failed> {
    let mut found: Vec<Vec<OwnStep>> = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, _| {
        if matches(path, glob)? {
            found.push(path.iter().map(own).collect());
        }
        Ok(())
    })?;
    let mut count = 0;
    for path in found {
        let mut current = Some(&mut *value);
        for step in &path {
            current = match (current, step) {
                (Some(Value::Dict(dict)), OwnStep::Key(key)) => dict.get_mut(key),
                (Some(Value::List(list)), OwnStep::Index(at)) => list.get_mut(*at),
                _ => None,
            };
        }
        if let Some(item) = current {
            *item = new.clone();
            count += 1;
        }
    }
    Ok(count)
}

/// Sets the value at `path`. Missing containers on the way are created: a list if the next part is a number, otherwise a
/// dict.
///
/// # Errors
/// PathNotFound if the path leads through a scalar; TypeError or ValueError if a part is not an index of the list.
pub fn new(value: &mut Value, path: &[Value], new: Value, most: usize) -> Result<(), Failed> {
    let Some((last, parents)) = path.split_last() else {
        return Err(Failed::system("IndexError", "tuple index out of range"));
    };
    let mut current = value;
    for (at, part) in parents.iter().enumerate() {
        let next_is_index = path.get(at + 1).is_some_and(|next| decimal(next).is_some());
        let empty = || if next_is_index { Value::List(Vec::new()) } else { Value::Dict(Dict::default()) };
        current = match current {
            Value::Dict(dict) => dict.entry(key_of(part)).or_insert_with(empty),
            Value::List(list) => {
                let index = list_index(part, list.len(), most)?;
                if index >= list.len() {
                    list.resize(index + 1, Value::None);
                    if let Some(item) = list.last_mut() {
                        *item = empty();
                    }
                }
                list.get_mut(index).ok_or_else(|| Failed::system("IndexError", "list index out of range"))?
            }
            _ => return Err(not_found(path)),
        };
        if !matches!(current, Value::Dict(_) | Value::List(_)) {
            return Err(not_found(path));
        }
    }
    match current {
        Value::Dict(dict) => {
            dict.insert(key_of(last), new);
        }
        Value::List(list) => {
            let index = list_index(last, list.len(), most)?;
            if index >= list.len() {
                list.resize(index + 1, Value::None);
            }
            if let Some(item) = list.get_mut(index) {
                *item = new;
            }
        }
        other => {
            let message = format!("'{}' object does not support item assignment", other.type_name());
            return Err(Failed::system("TypeError", message));
        }
    }
    Ok(())
}

fn not_found(path: &[Value]) -> Failed {
    Failed::system("PathNotFound", format!("Path: {}", Value::List(path.to_vec()).repr()))
}

fn key_of(part: &Value) -> std::sync::Arc<str> {
    match part {
        Value::Str(text) => text.clone(),
        other => other.to_str().into(),
    }
}

/// Parses a number that dpath accepts as the index of a list.
fn decimal(part: &Value) -> Option<i64> {
    match part {
        Value::Int(int) => Some(*int),
        Value::Str(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn list_index(part: &Value, length: usize, most: usize) -> Result<usize, Failed> {
    let index = decimal(part).ok_or_else(|| Failed::system("TypeError", "list indices must be integers or slices, not str"))?;
    let index = if index < 0 { index + length as i64 } else { index };
    let index = usize::try_from(index).map_err(|_| Failed::system("IndexError", "list assignment index out of range"))?;
    // The index is limited here, because dpath extends the list up to it and a manifest could request a billion items.
    if index >= length.max(most) { Err(Failed::bound("items of a list", most)) } else { Ok(index) }
}

#[cfg(test)]
#[path = "dpath_tests.rs"]
mod tests;
