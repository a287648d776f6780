//! References: any text that starts with `#/` refers to another part of the manifest.
//!
//! The rules are those of manifest_reference_resolver.py: the remainder of a path is first tried as a single key, the
//! keys of an object take precedence over those of its `$ref`, and `config_overrides` is not resolved.

#![expect(clippy::result_large_err, reason = "a problem ends the load, so its size does not matter")]

use super::bounds::Bounds;
use super::problem::{Problem, Step, cut, pointer};
use super::value::{Dict, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// The only field whose content belongs to the config instead of the manifest.
const CONFIG_VALUES: &str = "config_overrides";

/// Whether the text is a reference.
#[must_use]
pub fn is_ref(text: &str) -> bool {
    text.starts_with("#/")
}

/// Resolves all references of `root`.
///
/// The values of the keys in `unused` are checked for invalid references but left out of the result. The engine reads
/// them only through references, and they often make up most of the manifest.
///
/// # Errors
/// Fails if a target is unknown, if references form a cycle, or if the manifest grows beyond its bounds.
pub fn resolve(root: &Dict, unused: &[&str], bounds: &Bounds) -> Result<Dict, Problem> {
    let mut resolver = Resolver { root, bounds, values: 0, depth: 0, open: Vec::new(), path: Vec::new(), fine: HashSet::new() };
    let mut resolved = Dict::with_capacity(root.len());
    let has_ref = root.contains_key("$ref");
    for (key, value) in root {
        if !has_ref && unused.contains(&&**key) && matches!(value, Value::Dict(_)) {
            resolver.path.push(Step::Key(key.clone()));
            resolver.check(value)?;
            resolver.path.pop();
            resolved.insert(key.clone(), Value::Dict(Dict::default()));
        }
    }
    resolver.values = 0;
    if has_ref {
        return match resolver.dict(root)? {
            Value::Dict(dict) => Ok(dict),
            _ => Err(Problem::error("", "the manifest is not an object once its `$ref` was followed")),
        };
    }
    let mut whole = Dict::with_capacity(root.len());
    for (key, value) in root {
        let value = match resolved.swap_remove(key) {
            Some(value) => value,
            None => resolver.field(key, value)?,
        };
        whole.insert(key.clone(), value);
    }
    Ok(whole)
}

struct Resolver<'m> {
    root: &'m Dict,
    bounds: &'m Bounds,
    values: usize,
    depth: usize,
    /// The references that are being resolved.
    open: Vec<&'m str>,
    /// The current position in the manifest.
    path: Vec<Step>,
    /// The references that have already been checked.
    fine: HashSet<&'m str>,
}

impl<'m> Resolver<'m> {
    fn enter(&mut self) -> Result<(), Problem> {
        self.values += 1;
        self.depth += 1;
        if self.values > self.bounds.manifest_values {
            let message = format!("more than {} values once references are followed", self.bounds.manifest_values);
            return Err(self.problem(message));
        }
        if self.depth > self.bounds.depth {
            return Err(self.problem(format!("nested deeper than {} once references are followed", self.bounds.depth)));
        }
        Ok(())
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(pointer(&self.path), message)
    }

    fn value(&mut self, node: &'m Value) -> Result<Value, Problem> {
        self.enter()?;
        let value = match node {
            Value::Dict(dict) => self.dict(dict)?,
            Value::List(list) => {
                let mut out = Vec::with_capacity(list.len());
                for (index, item) in list.iter().enumerate() {
                    if matches!(item, Value::List(_) | Value::Dict(_) | Value::Str(_)) {
                        self.path.push(Step::Index(index));
                        out.push(self.value(item)?);
                        self.path.pop();
                    } else {
                        out.push(item.clone());
                    }
                }
                Value::List(out)
            }
            Value::Str(text) if is_ref(text) => {
                let target = self.follow(text)?;
                let value = self.value(target)?;
                self.open.pop();
                value
            }
            other => other.clone(),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn field(&mut self, key: &Arc<str>, value: &'m Value) -> Result<Value, Problem> {
        if &**key == CONFIG_VALUES {
            return Ok(value.clone());
        }
        self.path.push(Step::Key(key.clone()));
        let value = self.value(value)?;
        self.path.pop();
        Ok(value)
    }

    fn dict(&mut self, dict: &'m Dict) -> Result<Value, Problem> {
        let mut own = Dict::with_capacity(dict.len());
        for (key, value) in dict {
            if &**key != "$ref" {
                own.insert(key.clone(), self.field(key, value)?);
            }
        }
        let Some((_, name, target)) = dict.get_full("$ref") else { return Ok(Value::Dict(own)) };
        match self.field(name, target)? {
            Value::Dict(mut whole) => {
                whole.extend(own);
                Ok(Value::Dict(whole))
            }
            other => Ok(other),
        }
    }

    /// Looks up a reference and marks it as being resolved.
    fn follow(&mut self, text: &'m str) -> Result<&'m Value, Problem> {
        if self.open.contains(&text) {
            return Err(self.problem(format!("the reference `{}` leads to itself", cut(text, 120))));
        }
        let Some(target) = lookup(self.root, text) else {
            let name = cut(text, 120);
            let near: Vec<String> = self.neighbours(text);
            let problem = self.problem(format!("the reference `{name}` leads nowhere")).found(text);
            let mut problem = problem.allowed(near, Some(text));
            problem.allowed.clear();
            return Err(problem);
        };
        self.open.push(text);
        Ok(target)
    }

    /// Returns the valid references that differ from `text` only in their last part.
    fn neighbours(&self, text: &str) -> Vec<String> {
        let Some((parent, _)) = text.rsplit_once('/') else { return Vec::new() };
        let dict = if parent == "#" { Some(self.root) } else { lookup(self.root, parent).and_then(Value::as_dict) };
        dict.into_iter().flat_map(Dict::keys).take(1_000).map(|key| format!("{parent}/{key}")).collect()
    }

    /// Checks a part that is not included in the result. Each reference is followed once.
    fn check(&mut self, node: &'m Value) -> Result<(), Problem> {
        self.enter()?;
        match node {
            Value::Dict(dict) => {
                for (key, value) in dict {
                    if &**key != CONFIG_VALUES && matches!(value, Value::List(_) | Value::Dict(_) | Value::Str(_)) {
                        self.path.push(Step::Key(key.clone()));
                        self.check(value)?;
                        self.path.pop();
                    }
                }
            }
            Value::List(list) => {
                for (index, value) in list.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.check(value)?;
                    self.path.pop();
                }
            }
            Value::Str(text) if is_ref(text) && !self.fine.contains(&**text) => {
                let target = self.follow(text)?;
                self.check(target)?;
                self.open.pop();
                self.fine.insert(text);
            }
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }
}

/// Returns the target of a reference.
#[must_use]
pub fn lookup<'m>(root: &'m Dict, text: &str) -> Option<&'m Value> {
    lookup_path(root, text).map(|(value, _)| value)
}

/// Returns the target of a reference, together with the keys that lead to it.
#[must_use]
pub fn lookup_path<'m>(root: &'m Dict, text: &str) -> Option<(&'m Value, Vec<String>)> {
    let mut rest = text.strip_prefix("#/")?.split('\n').next()?;
    let mut path = Vec::new();
    let mut node = match root.get(rest) {
        Some(value) => return Some((value, vec![rest.to_owned()])),
        None => {
            let (head, tail) = rest.split_once('/').unwrap_or((rest, ""));
            rest = tail;
            path.push(head.to_owned());
            // A part that consists of digits is an index. It never matches a key of a dict, because the CDK converts
            // it to an integer and all keys of a manifest are text.
            root.get(head).filter(|_| head.parse::<i64>().is_err())?
        }
    };
    while !rest.is_empty() {
        if let Value::Dict(dict) = node
            && let Some(value) = dict.get(rest)
        {
            path.push(rest.to_owned());
            return Some((value, path));
        }
        let (head, tail) = rest.split_once('/').unwrap_or((rest, ""));
        rest = tail;
        node = match (node, head.parse::<i64>()) {
            (Value::Dict(dict), Err(_)) => dict.get(head)?,
            (Value::List(list), Ok(index)) => {
                let length = i64::try_from(list.len()).ok()?;
                let index = if index < 0 { index + length } else { index };
                list.get(usize::try_from(index).ok()?)?
            }
            _ => return None,
        };
        path.push(head.to_owned());
    }
    Some((node, path))
}

#[cfg(test)]
#[path = "refs_tests.rs"]
mod tests;
