//! What a connector says about its configuration.

use crate::JsonText;
use crate::message::{SpecMessage, content, is_object, text};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// How many steps a secret path may have. Schemas may refer to themselves, so the search for secrets needs an end.
const MAX_PATH_STEPS: usize = 16;
/// How many schemas the search for secrets visits. References can make a small text very large.
const MAX_VISITED_SCHEMAS: usize = 100_000;
/// How deep the search goes, counted in schemas and references.
const MAX_SEARCH_DEPTH: usize = 150;

/// The answer of `spec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The JSON schema of the configuration.
    pub connection_specification: JsonText,
    pub documentation_url: Option<String>,
    /// The version of the protocol that the connector was written for, for example `0.2.0`.
    pub protocol_version: Option<String>,
    /// Where the configuration has secrets: the fields that the schema marks with `airbyte_secret`, also those of variants.
    pub secret_paths: Vec<SecretPath>,
}

/// The way to a field of a configuration.
pub type SecretPath = Vec<PathStep>;

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathStep {
    /// The field of this name.
    Field(String),
    /// Each item of a list, or each field of an object whose names the schema does not list.
    Each,
}

impl Spec {
    /// Reads the content of a SPEC message.
    pub(crate) fn from_message(raw: Option<&RawValue>) -> Option<Self> {
        let message: SpecMessage<'_> = content(raw)?;
        if !is_object(message.connection_specification) {
            return None;
        }
        let connection_specification = JsonText::new(message.connection_specification);
        let schema = connection_specification.parse().ok()?;
        Some(Self {
            secret_paths: secret_paths(&schema),
            documentation_url: text(message.documentation_url),
            protocol_version: text(message.protocol_version),
            connection_specification,
        })
    }

    /// Returns the texts of all scalars that are at or below a secret path of `config`. Sorted, without empty texts.
    #[must_use]
    pub fn secrets(&self, config: &Value) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for path in &self.secret_paths {
            follow(path, config, &mut found);
        }
        found
    }
}

fn follow(path: &[PathStep], value: &Value, found: &mut BTreeSet<String>) {
    let Some((step, rest)) = path.split_first() else { return collect_scalars(value, found) };
    match (step, value) {
        (PathStep::Field(name), Value::Object(fields)) => {
            if let Some(value) = fields.get(name) {
                follow(rest, value, found);
            }
        }
        (PathStep::Each, Value::Object(fields)) => fields.values().for_each(|value| follow(rest, value, found)),
        (PathStep::Each, Value::Array(items)) => items.iter().for_each(|value| follow(rest, value, found)),
        _ => {}
    }
}

/// Adds every scalar of a value that is secret as a whole.
fn collect_scalars(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => {
            found.insert(number.to_string());
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => {
            found.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|value| collect_scalars(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect_scalars(value, found)),
    }
}

/// Returns the paths of the fields that `schema` marks as secret, sorted, each once.
fn secret_paths(schema: &Value) -> Vec<SecretPath> {
    let mut search = Search { root: schema, visited: 0, depth: 0, found: BTreeSet::new() };
    search.visit(schema, &mut Vec::new());
    // A secret may be in what was not searched, so the whole configuration counts as secret.
    if search.visited > MAX_VISITED_SCHEMAS {
        search.found.insert(Vec::new());
    }
    search.found.into_iter().collect()
}

struct Search<'s> {
    root: &'s Value,
    visited: usize,
    depth: usize,
    found: BTreeSet<SecretPath>,
}

impl Search<'_> {
    fn visit(&mut self, schema: &Value, path: &mut SecretPath) {
        self.visited = self.visited.saturating_add(1);
        if self.visited > MAX_VISITED_SCHEMAS || self.depth > MAX_SEARCH_DEPTH || path.len() > MAX_PATH_STEPS {
            return;
        }
        self.depth += 1;
        self.visit_parts(schema, path);
        self.depth -= 1;
    }

    fn visit_parts(&mut self, schema: &Value, path: &mut SecretPath) {
        if schema.get("airbyte_secret").is_some_and(|mark| mark == true || mark == "true") {
            self.found.insert(path.clone());
        }
        // The text after `#` of a reference within the document is a JSON pointer.
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        if let Some(target) = reference.and_then(|pointer| self.root.pointer(pointer)) {
            self.visit(target, path);
        }
        // A variant describes the same value, so it adds no step to the path.
        for variants in ["oneOf", "anyOf", "allOf"] {
            for variant in schema.get(variants).and_then(Value::as_array).into_iter().flatten() {
                self.visit(variant, path);
            }
        }
        for variant in ["if", "then", "else"].into_iter().filter_map(|key| schema.get(key)) {
            self.visit(variant, path);
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.step(PathStep::Field(name.clone()), field, path);
        }
        for field in schema.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(|fields| fields.values()) {
            self.step(PathStep::Each, field, path);
        }
        for key in ["items", "additionalProperties"] {
            match schema.get(key) {
                Some(Value::Array(positions)) => positions.iter().for_each(|item| self.step(PathStep::Each, item, path)),
                Some(item) => self.step(PathStep::Each, item, path),
                None => {}
            }
        }
    }

    fn step(&mut self, step: PathStep, schema: &Value, path: &mut SecretPath) {
        path.push(step);
        self.visit(schema, path);
        path.pop();
    }
}
