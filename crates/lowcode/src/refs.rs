//! References: any text that starts with `#/` refers to another part of the manifest.
//!
//! The rules are those of manifest_reference_resolver.py: the remainder of a path is first tried as a single key, the
//! keys of an object take precedence over those of its `$ref`, and `config_overrides` is not resolved.

#![expect(clippy::result_large_err, reason = "a problem ends the load, so its size does not matter")]

use super::bounds::Bounds;
use super::problem::{Problem, Step, cut, pointer};
use super::value::{Dict, Value};
use std::collections::{HashMap, HashSet};
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
    let mut resolver = Resolver {
        root,
        bounds,
        values: 0,
        depth: 0,
        open: Vec::new(),
        path: Vec::new(),
        known: HashMap::new(),
        shared: HashMap::new(),
        fine: HashSet::new(),
        fine_shared: HashSet::new(),
    };
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
        return match resolver.dict(root)?.value {
            Value::Dict(dict) => Ok(dict),
            _ => Err(Problem::error("", "the manifest is not an object once its `$ref` was followed")),
        };
    }
    let (mut whole, mut size) = (Dict::with_capacity(root.len()), 1);
    for (key, value) in root {
        let value = match resolved.swap_remove(key) {
            Some(value) => value,
            None => {
                let field = resolver.field(key, value)?;
                size = resolver.total(size, field.size)?;
                field.value
            }
        };
        whole.insert(key.clone(), value);
    }
    Ok(whole)
}

/// How many times the bound of values the expanded manifest may have. Parts that are referenced several times are stored once,
/// but a walk through the manifest meets them each time.
const EXPANSION: usize = 16;

/// A resolved part of the manifest.
#[derive(Clone)]
struct Resolved {
    value: Value,
    /// The number of values, counting a shared part each time.
    size: usize,
    /// The depth of the part, at least 1.
    height: usize,
}

struct Resolver<'m> {
    root: &'m Dict,
    bounds: &'m Bounds,
    /// The number of values that are stored. A part that is referenced several times counts once.
    values: usize,
    depth: usize,
    /// The references that are being resolved.
    open: Vec<&'m str>,
    /// The current position in the manifest.
    path: Vec<Step>,
    /// The targets of the references so far.
    known: HashMap<&'m str, Resolved>,
    /// The resolved forms of dicts that several aliases share.
    shared: HashMap<usize, Resolved>,
    /// The references and the shared dicts that have already been checked.
    fine: HashSet<&'m str>,
    fine_shared: HashSet<usize>,
}

impl<'m> Resolver<'m> {
    fn enter(&mut self) -> Result<(), Problem> {
        self.count(1)?;
        self.depth += 1;
        self.deep_enough(0)
    }

    fn count(&mut self, more: usize) -> Result<(), Problem> {
        self.values = self.values.saturating_add(more);
        match self.values > self.bounds.manifest_values {
            true => Err(self.too_many(self.bounds.manifest_values)),
            false => Ok(()),
        }
    }

    fn deep_enough(&self, height: usize) -> Result<(), Problem> {
        if self.depth + height > self.bounds.depth {
            return Err(self.problem(format!("nested deeper than {} once references are followed", self.bounds.depth)));
        }
        Ok(())
    }

    /// Returns the sum of two sizes.
    fn total(&self, one: usize, other: usize) -> Result<usize, Problem> {
        let (sum, bound) = (one.saturating_add(other), self.bounds.manifest_values.saturating_mul(EXPANSION));
        if sum > bound { Err(self.too_many(bound)) } else { Ok(sum) }
    }

    fn too_many(&self, bound: usize) -> Problem {
        self.problem(format!("more than {bound} values once references are followed"))
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(pointer(&self.path), message)
    }

    /// Uses a part again that was resolved before. Only what a copy of it does not share is counted.
    fn again(&mut self, known: Resolved) -> Result<Resolved, Problem> {
        self.deep_enough(known.height)?;
        self.count(known.value.unshared())?;
        Ok(known)
    }

    fn value(&mut self, node: &'m Value) -> Result<Resolved, Problem> {
        let shared = node.as_dict().filter(|dict| dict.is_shared()).map(Dict::identity);
        if let Some(known) = shared.and_then(|identity| self.shared.get(&identity)) {
            let known = known.clone();
            return self.again(known);
        }
        if let Value::Str(text) = node
            && let Some(known) = self.known.get(&**text)
        {
            let known = known.clone();
            return self.again(known);
        }
        self.enter()?;
        let resolved = match node {
            Value::Dict(dict) => self.dict(dict)?,
            Value::List(list) => self.list(list)?,
            Value::Str(text) if is_ref(text) => {
                let target = self.follow(text)?;
                let resolved = self.value(target)?;
                self.open.pop();
                self.known.insert(text, resolved.clone());
                resolved
            }
            other => Resolved { value: other.clone(), size: 1, height: 1 },
        };
        self.depth -= 1;
        if let Some(identity) = shared {
            self.shared.insert(identity, resolved.clone());
        }
        Ok(resolved)
    }

    fn list(&mut self, list: &'m [Value]) -> Result<Resolved, Problem> {
        let (mut out, mut size, mut height) = (Vec::with_capacity(list.len()), 1, 0);
        for (index, item) in list.iter().enumerate() {
            if matches!(item, Value::List(_) | Value::Dict(_) | Value::Str(_)) {
                self.path.push(Step::Index(index));
                let resolved = self.value(item)?;
                self.path.pop();
                (size, height) = (self.total(size, resolved.size)?, resolved.height.max(height));
                out.push(resolved.value);
            } else {
                out.push(item.clone());
            }
        }
        Ok(Resolved { value: Value::List(out), size, height: height + 1 })
    }

    fn field(&mut self, key: &Arc<str>, value: &'m Value) -> Result<Resolved, Problem> {
        if &**key == CONFIG_VALUES {
            return Ok(Resolved { value: value.clone(), size: 1, height: 1 });
        }
        self.path.push(Step::Key(key.clone()));
        let value = self.value(value)?;
        self.path.pop();
        Ok(value)
    }

    fn dict(&mut self, dict: &'m Dict) -> Result<Resolved, Problem> {
        let (mut own, mut size, mut height) = (Dict::with_capacity(dict.len()), 1, 0);
        for (key, value) in dict {
            if &**key != "$ref" {
                let field = self.field(key, value)?;
                (size, height) = (self.total(size, field.size)?, field.height.max(height));
                own.insert(key.clone(), field.value);
            }
        }
        let own = Resolved { value: Value::Dict(own), size, height: height + 1 };
        let Some((_, name, target)) = dict.get_full("$ref") else { return Ok(own) };
        let target = self.field(name, target)?;
        match (target.value, own.value) {
            (Value::Dict(mut whole), Value::Dict(fields)) => {
                if !fields.is_empty() {
                    // The entries of the target are copied, but not what is in them.
                    self.count(whole.len())?;
                    whole.extend(fields);
                }
                let size = self.total(own.size, target.size)?;
                Ok(Resolved { value: Value::Dict(whole), size, height: own.height.max(target.height) })
            }
            (value, _) => Ok(Resolved { value, ..target }),
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
        if let Some(dict) = node.as_dict().filter(|dict| dict.is_shared())
            && !self.fine_shared.insert(dict.identity())
        {
            return Ok(());
        }
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
