//! One JSON document -> an intent in its one form, or every problem of it.

use super::json::token;
use super::wire::{Fault, Item, Refusal};
use super::{leaks, schema};
use crate::model::intent::SAFE_READONLY;
use crate::model::{Intent, Problem, Timestamp};
use serde_json::{Map, Value};

/// The namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "autonomy";

/// Written in place of a secret that sat in an unknown field.
pub const REMOVED: &str = "[removed: looked like a secret]";

/// Unknown fields of one document that are named one by one.
const MAX_WARNINGS: usize = 20;

/// Judges one document; pointers are relative to it and places are still open.
pub(super) fn item(mut document: Value) -> Item {
    let warnings = unknown_fields(&mut document);
    let mut problems = schema::problems(&document);
    problems.extend(misplaced_secrets(&document));
    problems.extend(bad_instant(&document, &problems));
    let fault = if schema::unsafe_scopes(&document) { Fault::UnsafeScopes } else { Fault::Invalid };
    let outcome = if problems.is_empty() { accept(document) } else { Err(Refusal { fault, problems }) };
    Item { outcome, warnings }
}

/// The schema's date-time and AAM's clock must agree on every instant.
fn bad_instant(document: &Value, problems: &[Problem]) -> Option<Problem> {
    let ts = document.pointer("/evidence/ts")?.as_str()?;
    let known = problems.iter().any(|problem| problem.pointer == "/evidence/ts");
    (!known && Timestamp::parse(ts).is_err())
        .then(|| Problem::new("/evidence/ts", "is not a timestamp that AAM supports").hint("for example 2026-11-08T18:00:00Z"))
}

/// Warns of unknown fields and takes secrets out of them: documents are stored and shown.
fn unknown_fields(document: &mut Value) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut unknown = 0_usize;
    for place in ["", "/evidence", "/owner"] {
        let (Some(known), Some(Value::Object(fields))) = (schema::known_fields(place), document.pointer_mut(place)) else {
            continue;
        };
        for (name, value) in fields.iter_mut().filter(|(name, _)| !known.contains(&name.as_str())) {
            let removed = remove_secrets(name, value);
            unknown += 1;
            if unknown > MAX_WARNINGS {
                continue;
            }
            let near = crate::model::problem::nearest(name, known.iter().copied());
            let hint = match near {
                _ if removed => {
                    format!("it looked like a secret and is stored as {REMOVED}; name its location in credential_locator instead")
                }
                Some(near) => format!("did you mean {near}?"),
                None => "it is stored with the intent and has no effect".to_string(),
            };
            warnings.push(Problem::new(format!("{place}/{}", token(name)), "unknown field").hint(hint));
        }
    }
    let more = unknown.saturating_sub(MAX_WARNINGS);
    if more > 0 {
        warnings.push(Problem::new("", format!("{more} more unknown fields are not listed")));
    }
    warnings
}

/// Replaces secret strings below an unknown field; says whether there was one.
fn remove_secrets(name: &str, value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let secret = leaks::secret_name(name) || leaks::secret_value(text) || leaks::secret_in_address(text);
            if secret {
                *text = REMOVED.to_string();
            }
            secret
        }
        // All are visited: one secret must not hide the next.
        Value::Array(items) => items.iter_mut().filter_map(|item| remove_secrets(name, item).then_some(())).count() > 0,
        Value::Object(map) => map.iter_mut().filter_map(|(key, item)| remove_secrets(key, item).then_some(())).count() > 0,
        _ => false,
    }
}

/// Known fields that hold a credential. The value is not repeated.
fn misplaced_secrets(document: &Value) -> Vec<Problem> {
    let hint = "remove it and rotate it; store it in an environment variable and set \"credential_locator\": \"env:NAME\"";
    let mut problems = Vec::new();
    let ids = document.get("resource_ids").and_then(Value::as_array).into_iter().flatten().take(64).enumerate();
    for (index, id) in ids.filter_map(|(index, id)| id.as_str().map(|id| (index, id))) {
        if leaks::secret_in_address(id) || leaks::secret_value(id) {
            problems.push(Problem::new(format!("/resource_ids/{index}"), "contains a credential").hint(hint));
        }
    }
    for pointer in ["/credential_locator", "/source_type", "/namespace", "/evidence/status", "/owner/user"] {
        let text = document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let behind = text.split_once(':').filter(|_| pointer == "/credential_locator").map_or(text, |(_, rest)| rest);
        if leaks::secret_value(behind) {
            problems.push(Problem::new(pointer, "contains a credential").hint(hint));
        }
    }
    problems
}

/// Fills defaults and brings the document into its one form. The schema has passed.
fn accept(mut document: Value) -> Result<Intent, Refusal> {
    // Nested extras too must not depend on the order in which they were written.
    document.sort_all_objects();
    if let Some(fields) = document.as_object_mut() {
        normalise(fields);
    }
    // The parser's words are dropped on purpose: they may repeat a value.
    serde_json::from_value(document).map_err(|_| {
        let problem =
            Problem::new("", "passed the schema but does not fit AAM's model").hint("this is a defect in AAM; please report it");
        Refusal::of(Fault::Invalid, problem)
    })
}

fn normalise(fields: &mut Map<String, Value>) {
    fields.entry("scopes_mode").or_insert_with(|| SAFE_READONLY.into());
    fields.entry("namespace").or_insert_with(|| DEFAULT_NAMESPACE.into());
    if let Some(Value::Array(ids)) = fields.get_mut("resource_ids") {
        ids.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
        ids.dedup();
    }
}
