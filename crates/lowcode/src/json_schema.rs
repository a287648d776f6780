//! JSON Schema validation with the messages of Python's `jsonschema` 4.26, which also selects the same error to show.
//!
//! The crate `jsonschema` cannot replace this module: it formats values as JSON where Python writes `repr`, and it has
//! no equivalent of Python's `best_match`. The result for an invalid config contains exactly one such message, and the
//! parity tests compare it with the CDK's. Formats are not checked, because the CDK does not pass a format checker.
//! References are followed only within the schema.

use super::problem::Step;
use super::value::{Dict, Value, float_repr};
use fancy_regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

/// The maximum number of steps of one validation. A limit is needed because a schema may refer to itself.
const MAX_STEPS: usize = 200_000;
const MAX_DEPTH: usize = 100;

/// Returns the message of the error that Python's `best_match` selects, or `None` if the instance is valid.
#[must_use]
pub fn best_error(schema: &Value, instance: &Value) -> Option<String> {
    let mut check = Check { root: schema, steps: 0, depth: 0, old: is_old(schema) };
    let errors = check.errors(schema, instance);
    best(errors).map(|error| error.message)
}

/// Whether the schema uses draft 7 or earlier, where keywords next to `$ref` are ignored.
fn is_old(schema: &Value) -> bool {
    let named = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    named.contains("draft-07") || named.contains("draft-06") || named.contains("draft-04") || named.contains("draft-03")
}

#[derive(Debug)]
struct Error {
    message: String,
    path: Vec<Step>,
    keyword: &'static str,
    /// Whether the instance has the type that the schema with this keyword requires.
    fits_type: Option<bool>,
    context: Vec<Error>,
}

/// The order of Python's `relevance`: shallow errors before deep ones, earlier siblings before later ones, and `anyOf`
/// and `oneOf` last.
fn relevance(a: &Error, b: &Error) -> Ordering {
    let weak = |error: &Error| matches!(error.keyword, "anyOf" | "oneOf");
    (b.path.len().cmp(&a.path.len()))
        .then_with(|| compare_paths(&a.path, &b.path))
        .then_with(|| (!weak(a)).cmp(&!weak(b)))
        .then_with(|| (a.fits_type != Some(true)).cmp(&(b.fits_type != Some(true))))
}

fn compare_paths(a: &[Step], b: &[Step]) -> Ordering {
    for pair in a.iter().zip(b) {
        let order = match pair {
            (Step::Key(a), Step::Key(b)) => a.cmp(b),
            (Step::Index(a), Step::Index(b)) => a.cmp(b),
            // Python cannot compare a key with an index. One position of an instance never has both.
            _ => Ordering::Equal,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn best(errors: Vec<Error>) -> Option<Error> {
    // Python's `max` returns the first of equal items.
    let mut best = errors.into_iter().reduce(|best, next| if relevance(&next, &best).is_gt() { next } else { best })?;
    while !best.context.is_empty() {
        let mut context = std::mem::take(&mut best.context);
        context.sort_by(relevance);
        let mut smallest = context.into_iter();
        match (smallest.next(), smallest.next()) {
            (Some(first), Some(second)) if relevance(&first, &second).is_eq() => return Some(best),
            (Some(first), _) => best = first,
            (None, _) => return Some(best),
        }
    }
    Some(best)
}

struct Check<'s> {
    root: &'s Value,
    steps: usize,
    depth: usize,
    old: bool,
}

impl<'s> Check<'s> {
    fn valid(&mut self, schema: &'s Value, instance: &Value) -> bool {
        self.errors(schema, instance).is_empty()
    }

    fn errors(&mut self, schema: &'s Value, instance: &Value) -> Vec<Error> {
        self.steps += 1;
        let schema = match schema {
            Value::Dict(schema) => schema,
            Value::Bool(false) => return vec![error("false", format!("False schema does not allow {}", instance.repr()))],
            _ => return Vec::new(),
        };
        if self.steps > MAX_STEPS || self.depth >= MAX_DEPTH {
            return Vec::new();
        }
        self.depth += 1;
        let mut errors = Vec::new();
        let only_ref = self.old && schema.contains_key("$ref");
        for (keyword, value) in schema {
            if !only_ref || &**keyword == "$ref" {
                self.keyword(keyword, value, schema, instance, &mut errors);
            }
        }
        self.depth -= 1;
        let fits = schema.get("type").is_some_and(|types| is_type(instance, types));
        for error in errors.iter_mut().filter(|error| error.fits_type.is_none()) {
            error.fits_type = Some(fits);
        }
        errors
    }

    fn keyword(&mut self, keyword: &str, value: &'s Value, schema: &'s Dict, instance: &Value, errors: &mut Vec<Error>) {
        if let Some(found) = simple(keyword, value, instance) {
            errors.extend(found);
            return;
        }
        match (keyword, value, instance) {
            ("$ref", Value::Str(target), _) => {
                if let Some(target) = self.target(target) {
                    errors.extend(self.errors(target, instance));
                }
            }
            ("properties", Value::Dict(fields), Value::Dict(dict)) => {
                for (name, schema) in fields {
                    if let Some(value) = dict.get(name) {
                        self.below(Step::Key(name.clone()), schema, value, errors);
                    }
                }
            }
            ("patternProperties", Value::Dict(fields), Value::Dict(dict)) => {
                for (pattern, schema) in fields {
                    for (name, value) in dict.iter().filter(|(name, _)| search(pattern, name)) {
                        self.below(Step::Key(name.clone()), schema, value, errors);
                    }
                }
            }
            ("propertyNames", names, Value::Dict(dict)) => {
                for name in dict.keys() {
                    errors.extend(self.errors(names, &Value::Str(name.clone())));
                }
            }
            ("additionalProperties", more, Value::Dict(dict)) => self.additional(more, schema, dict, errors),
            ("items", Value::List(schemas), Value::List(list)) => {
                for (index, (schema, value)) in schemas.iter().zip(list).enumerate() {
                    self.below(Step::Index(index), schema, value, errors);
                }
            }
            ("items", item, Value::List(list)) => {
                for (index, value) in list.iter().enumerate() {
                    self.below(Step::Index(index), item, value, errors);
                }
            }
            ("allOf", Value::List(all), _) => all.iter().for_each(|schema| errors.extend(self.errors(schema, instance))),
            ("anyOf" | "oneOf", Value::List(any), _) => self.either(keyword == "oneOf", any, instance, errors),
            ("not", not, _) if self.valid(not, instance) => {
                errors.push(error("not", format!("{} should not be valid under {}", instance.repr(), not.repr())));
            }
            ("if", condition, _) => {
                let branch = if self.valid(condition, instance) { "then" } else { "else" };
                if let Some(schema) = schema.get(branch) {
                    errors.extend(self.errors(schema, instance));
                }
            }
            ("dependencies" | "dependentSchemas" | "dependentRequired", Value::Dict(rules), Value::Dict(dict)) => {
                for (name, rule) in rules.iter().filter(|(name, _)| dict.contains_key(&**name)) {
                    match rule {
                        Value::List(needed) => errors.extend(needed.iter().filter_map(Value::as_str).filter_map(|need| {
                            let message = || format!("{} is a dependency of {}", Value::str(need).repr(), quoted(name));
                            (!dict.contains_key(need)).then(|| error("dependencies", message()))
                        })),
                        schema => errors.extend(self.errors(schema, instance)),
                    }
                }
            }
            ("contains", item, Value::List(list)) if !list.iter().any(|value| self.valid(item, value)) => {
                let message = if self.old {
                    format!("None of {} are valid under the given schema", instance.repr())
                } else {
                    format!("{} does not contain items matching the given schema", instance.repr())
                };
                errors.push(error("contains", message));
            }
            _ => {}
        }
    }

    fn below(&mut self, step: Step, schema: &'s Value, value: &Value, errors: &mut Vec<Error>) {
        for mut error in self.errors(schema, value) {
            prefix(&mut error, &step);
            errors.push(error);
        }
    }

    fn additional(&mut self, more: &'s Value, schema: &Dict, dict: &Dict, errors: &mut Vec<Error>) {
        let known = schema.get("properties").and_then(Value::as_dict);
        let patterns = schema.get("patternProperties").and_then(Value::as_dict);
        let mut extra: Vec<_> = dict
            .iter()
            .filter(|(name, _)| !known.is_some_and(|known| known.contains_key(&***name)))
            .filter(|(name, _)| !patterns.is_some_and(|patterns| patterns.keys().any(|pattern| search(pattern, name))))
            .collect();
        match more {
            Value::Dict(_) => {
                for (name, value) in extra {
                    self.below(Step::Key(name.clone()), more, value, errors);
                }
            }
            Value::Bool(false) if !extra.is_empty() => {
                extra.sort_by(|a, b| a.0.cmp(b.0));
                let names = extra.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
                let one = extra.len() == 1;
                let message = match patterns {
                    None => {
                        let verb = if one { "was" } else { "were" };
                        format!("Additional properties are not allowed ({names} {verb} unexpected)")
                    }
                    Some(patterns) => {
                        let mut patterns: Vec<String> = patterns.keys().map(|pattern| quoted(pattern)).collect();
                        patterns.sort();
                        let verb = if one { "does" } else { "do" };
                        format!("{names} {verb} not match any of the regexes: {}", patterns.join(", "))
                    }
                };
                errors.push(error("additionalProperties", message));
            }
            _ => {}
        }
    }

    fn either(&mut self, only_one: bool, schemas: &'s [Value], instance: &Value, errors: &mut Vec<Error>) {
        let keyword = if only_one { "oneOf" } else { "anyOf" };
        let mut context = Vec::new();
        for (index, schema) in schemas.iter().enumerate() {
            let found = self.errors(schema, instance);
            if !found.is_empty() {
                context.extend(found);
                continue;
            }
            let rest = schemas.get(index + 1..).unwrap_or_default().iter();
            let mut more: Vec<&Value> =
                if only_one { rest.filter(|other| self.valid(other, instance)).collect() } else { Vec::new() };
            if !more.is_empty() {
                more.push(schema);
                let each = more.iter().map(|schema| schema.repr()).collect::<Vec<_>>().join(", ");
                errors.push(error(keyword, format!("{} is valid under each of {each}", instance.repr())));
            }
            return;
        }
        let message = format!("{} is not valid under any of the given schemas", instance.repr());
        errors.push(Error { context, ..error(keyword, message) });
    }

    fn target(&self, text: &str) -> Option<&'s Value> {
        let mut node = self.root;
        for part in text.strip_prefix('#')?.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            node = match node {
                Value::Dict(dict) => dict.get(part.as_str())?,
                Value::List(list) => list.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }
}

/// Prefixes only the path of the error. The paths in its context are relative to its instance.
fn prefix(error: &mut Error, step: &Step) {
    error.path.insert(0, step.clone());
}

fn error(keyword: &'static str, message: String) -> Error {
    Error { message, path: Vec::new(), keyword, fits_type: None, context: Vec::new() }
}

fn quoted(text: &str) -> String {
    Value::str(text).repr()
}

/// The number of compiled patterns that each thread caches, because compiling is the slowest part of a validation.
const CACHE_CAPACITY: usize = 64;
/// The maximum size of a cached compiled pattern. Some patterns in manifests compile to megabytes.
const MAX_CACHED_BYTES: usize = 128 << 10;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

/// Implements Python's `re.search`. A pattern that does not compile matches everything.
fn search(pattern: &str, text: &str) -> bool {
    let finds = |regex: &Regex| regex.is_match(text).unwrap_or(true);
    COMPILED.with_borrow_mut(|cache| {
        if let Some(regex) = cache.get(pattern) {
            return finds(regex);
        }
        // Python writes the end of the text as `\Z`.
        let ours = pattern.replace("\\Z", "\\z");
        let Ok(small) = RegexBuilder::new(&ours).delegate_size_limit(MAX_CACHED_BYTES).build() else {
            return Regex::new(&ours).map_or(true, |regex| finds(&regex));
        };
        if cache.len() >= CACHE_CAPACITY {
            cache.clear();
        }
        let found = finds(&small);
        cache.insert(pattern.to_owned(), small);
        found
    })
}

fn is_type(instance: &Value, types: &Value) -> bool {
    match types {
        Value::List(list) => list.iter().any(|one| is_type(instance, one)),
        Value::Str(name) => match (&**name, instance) {
            ("object", Value::Dict(_))
            | ("array", Value::List(_))
            | ("string", Value::Str(_))
            | ("boolean", Value::Bool(_))
            | ("null", Value::None)
            | ("integer", Value::Int(_) | Value::Big(_))
            | ("number", Value::Int(_) | Value::Big(_) | Value::Float(_)) => true,
            ("integer", Value::Float(float)) => float.is_finite() && float.fract() == 0.0,
            _ => false,
        },
        _ => false,
    }
}

/// Compares two values as JSON Schema does. A boolean never equals a number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Bool(_), _) | (_, Value::Bool(_)) => false,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Dict(a), Value::Dict(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
        }
        (a, b) => a == b,
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Big(_) | Value::Float(_))
}

/// Checks the keywords that concern only the instance itself. Returns `None` for all other keywords.
fn simple(keyword: &str, value: &Value, instance: &Value) -> Option<Vec<Error>> {
    let size = match instance {
        Value::Str(text) => text.chars().count(),
        Value::List(list) => list.len(),
        Value::Dict(dict) => dict.len(),
        _ => 0,
    };
    let bound = value.number().unwrap_or_default();
    let small = (size as f64) < bound;
    let large = (size as f64) > bound;
    let number = instance.number().unwrap_or_default();
    let shown = || instance.repr();
    let short = |phrase: &str| format!("{} {}", shown(), if bound == 1.0 { "should be non-empty" } else { phrase });
    let long = |phrase: &str| format!("{} {}", shown(), if bound == 0.0 { "is expected to be empty" } else { phrase });
    let wrong = match (keyword, instance) {
        ("type", _) => {
            let names =
                value.as_list().map_or_else(|| value.repr(), |list| list.iter().map(Value::repr).collect::<Vec<_>>().join(", "));
            (!is_type(instance, value)).then(|| ("type", format!("{} is not of type {names}", shown())))
        }
        ("enum", _) => {
            let known = value.as_list().is_some_and(|list| list.iter().any(|one| equal(one, instance)));
            (!known).then(|| ("enum", format!("{} is not one of {}", shown(), value.repr())))
        }
        ("const", _) => (!equal(value, instance)).then(|| ("const", format!("{} was expected", value.repr()))),
        ("required", Value::Dict(dict)) => {
            let missing =
                value.as_list().unwrap_or_default().iter().filter_map(Value::as_str).filter(|name| !dict.contains_key(*name));
            return Some(missing.map(|name| error("required", format!("{} is a required property", quoted(name)))).collect());
        }
        ("pattern", Value::Str(text)) => {
            let fits = value.as_str().is_none_or(|pattern| search(pattern, text));
            (!fits).then(|| ("pattern", format!("{} does not match {}", shown(), value.repr())))
        }
        ("minLength", Value::Str(_)) => small.then(|| ("minLength", short("is too short"))),
        ("maxLength", Value::Str(_)) => large.then(|| ("maxLength", long("is too long"))),
        ("minItems", Value::List(_)) => small.then(|| ("minItems", short("is too short"))),
        ("maxItems", Value::List(_)) => large.then(|| ("maxItems", long("is too long"))),
        ("minProperties", Value::Dict(_)) => small.then(|| ("minProperties", short("does not have enough properties"))),
        ("maxProperties", Value::Dict(_)) => large.then(|| ("maxProperties", long("has too many properties"))),
        ("uniqueItems", Value::List(list)) => {
            let twice =
                list.iter().take(2_000).enumerate().any(|(at, item)| list.iter().take(at).any(|other| equal(item, other)));
            (value.truthy() && twice).then(|| ("uniqueItems", format!("{} has non-unique elements", shown())))
        }
        (_, instance) if is_number(instance) => range(keyword, value, number, &shown),
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf", _) => None,
        _ => return None,
    };
    Some(wrong.map(|(keyword, message)| error(keyword, message)).into_iter().collect()).filter(|found: &Vec<Error>| {
        // Returns `None` so that the caller still checks keywords that apply to numbers too (allOf, $ref and others).
        !found.is_empty() || SIMPLE.contains(&keyword)
    })
}

const SIMPLE: [&str; 18] = [
    "type",
    "enum",
    "const",
    "required",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "uniqueItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "format",
];

fn range(keyword: &str, value: &Value, number: f64, shown: &dyn Fn() -> String) -> Option<(&'static str, String)> {
    let bound = value.number()?;
    let limit = || if let Value::Float(float) = value { float_repr(*float) } else { value.repr() };
    let compared = |phrase: &str| format!("{} {phrase} {}", shown(), limit());
    match keyword {
        "minimum" if number < bound => Some(("minimum", compared("is less than the minimum of"))),
        "maximum" if number > bound => Some(("maximum", compared("is greater than the maximum of"))),
        "exclusiveMinimum" if number <= bound => Some(("exclusiveMinimum", compared("is less than or equal to the minimum of"))),
        "exclusiveMaximum" if number >= bound => {
            Some(("exclusiveMaximum", compared("is greater than or equal to the maximum of")))
        }
        "multipleOf" if bound != 0.0 && (number / bound).fract() != 0.0 => Some(("multipleOf", compared("is not a multiple of"))),
        _ => None,
    }
}

#[cfg(test)]
#[path = "json_schema_tests.rs"]
mod tests;
