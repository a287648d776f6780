//! Validates one JSON document and normalizes it to an intent, or reports all its problems.

use super::instant::is_rfc3339;
use super::item::{Fault, Item, Refusal};
use super::json::token;
use super::normalize::{AS_SENT, normalize};
use super::{leaks, pasted, schema};
use crate::model::intent::SAFE_READONLY;
use crate::model::locator::LOCATOR_FORMS;
use crate::model::{DEMO_NAMESPACE, Intent, Problem};
use serde_json::{Map, Value};

/// The namespace of a document that does not name one.
pub const DEFAULT_NAMESPACE: &str = "autonomy";

/// Replaces a secret that was found in an unknown field.
pub const REMOVED: &str = "[removed: looked like a secret]";

/// The number of unknown fields of one document that are reported individually.
const MAX_WARNINGS: usize = 20;

/// Validates one document. Pointers are relative to it; positions are filled in later.
///
/// With `demo`, the document may be in the namespace `demo`.
pub(super) fn item(mut document: Value, demo: bool) -> Item {
    // Secrets are searched for in what was sent, before other spellings are replaced.
    let secrets = misplaced_secrets(&document);
    let mut warnings = unknown_fields(&mut document);
    // A document with a secret is refused, and a warning could repeat the secret in another spelling.
    if secrets.is_empty() {
        warnings.extend(normalize(&mut document));
    }
    let mut problems = schema::problems(&document);
    problems.extend(secrets);
    problems.extend(bad_instant(&document, &problems));
    let mut fault = if schema::unsafe_scopes(&document) { Fault::UnsafeScopes } else { Fault::Invalid };
    if !demo && document.get("namespace").and_then(Value::as_str) == Some(DEMO_NAMESPACE) {
        if problems.is_empty() {
            fault = Fault::ClosedNamespace;
        }
        problems.push(closed_namespace());
    }
    let outcome = if problems.is_empty() { accept(document) } else { Err(Refusal { fault, problems }) };
    Item { outcome, warnings }
}

/// The problem of a document in the namespace `demo`.
#[must_use]
pub fn closed_namespace() -> Problem {
    Problem::new("/namespace", "the namespace demo is sealed: it holds sample data and accepts no intents")
        .hint("remove namespace, which means autonomy, or name another one")
}

/// Times that could be read have the form of RFC 3339 now.
fn bad_instant(document: &Value, problems: &[Problem]) -> Option<Problem> {
    let pointer = "/evidence/ts";
    let ts = document.pointer(pointer)?;
    let known = problems.iter().any(|problem| problem.pointer == pointer);
    let message = || format!("{} is not an RFC 3339 timestamp", schema::shown(pointer, ts));
    (!known && !ts.as_str().is_some_and(is_rfc3339)).then(|| Problem::new(pointer, message()).hint(schema::describes(pointer)))
}

/// Warns of unknown fields and removes secrets from them, because documents are stored and displayed.
fn unknown_fields(document: &mut Value) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut unknown = 0_usize;
    for parent in ["", "/evidence", "/owner"] {
        let (Some(known), Some(Value::Object(fields))) = (schema::known_fields(parent), document.pointer_mut(parent)) else {
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
            warnings.push(Problem::new(format!("{parent}/{}", token(name)), "unknown field").hint(hint));
        }
    }
    if let Some(as_sent) = document.get_mut(AS_SENT) {
        remove_secrets(AS_SENT, as_sent);
    }
    let more = unknown.saturating_sub(MAX_WARNINGS);
    if more > 0 {
        warnings.push(Problem::new("", format!("{more} more unknown fields are not listed")));
    }
    warnings
}

/// Replaces secret strings in an unknown field, at any depth. Returns whether there was one.
fn remove_secrets(name: &str, value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let secret = leaks::secret_name(name) || leaks::secret_value(text) || leaks::secret_in_address(text);
            if secret {
                *text = REMOVED.to_string();
            }
            secret
        }
        // `count` visits every item; `any` would stop at the first secret and leave the others in place.
        Value::Array(items) => items.iter_mut().filter_map(|item| remove_secrets(name, item).then_some(())).count() > 0,
        Value::Object(map) => map.iter_mut().filter_map(|(key, item)| remove_secrets(key, item).then_some(())).count() > 0,
        _ => false,
    }
}

/// The texts of a document that are stored as they are.
const KEPT_TEXTS: [&str; 8] = [
    "/source_type",
    "/namespace",
    "/risk_level",
    "/evidence/status",
    "/evidence/source",
    "/evidence/ts",
    "/owner/user",
    "/owner/why",
];

/// Reports known fields that contain a credential. The messages do not repeat the value.
fn misplaced_secrets(document: &Value) -> Vec<Problem> {
    let hint = "remove it and rotate it; store it with `aam secret set NAME` and set \"credential_locator\": \"env:NAME\"";
    let mut problems = Vec::new();
    let ids = document.get("resource_ids").and_then(Value::as_array).into_iter().flatten().take(64).enumerate();
    for (index, id) in ids.filter_map(|(index, id)| id.as_str().map(|id| (index, id))) {
        if leaks::secret_in_address(id) || leaks::secret_value(id) {
            problems.push(Problem::new(format!("/resource_ids/{index}"), "contains a credential").hint(hint));
        }
    }
    for pointer in KEPT_TEXTS {
        if document.pointer(pointer).and_then(Value::as_str).is_some_and(leaks::secret_value) {
            problems.push(Problem::new(pointer, "contains a credential").hint(hint));
        }
    }
    if document
        .get("credential_locator")
        .and_then(Value::as_str)
        .map(str::trim)
        .is_some_and(|text| !text.is_empty() && pasted::is_credential(text))
    {
        let message = "looks like a credential and not like the location of one";
        let hint = format!("if it is one, {hint}; a locator is {LOCATOR_FORMS}");
        problems.push(Problem::new("/credential_locator", message).hint(hint));
    }
    problems
}

/// Fills in defaults and normalizes a document that matches the schema.
fn accept(mut document: Value) -> Result<Intent, Refusal> {
    // The digest must not depend on the order of keys, not even inside unknown fields.
    document.sort_all_objects();
    if let Some(fields) = document.as_object_mut() {
        fill_in(fields);
    }
    // The parser's message is dropped on purpose, because it may repeat a value.
    serde_json::from_value(document).map_err(|_| {
        let problem =
            Problem::new("", "passed the schema but does not fit AAM's model").hint("this is a defect in AAM; please report it");
        Refusal::new(Fault::Invalid, problem)
    })
}

/// Fills in the defaults, and sorts the resource ids.
fn fill_in(fields: &mut Map<String, Value>) {
    fields.entry("scopes_mode").or_insert_with(|| SAFE_READONLY.into());
    fields.entry("namespace").or_insert_with(|| DEFAULT_NAMESPACE.into());
    if let Some(Value::Array(ids)) = fields.get_mut("resource_ids") {
        ids.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
        ids.dedup();
    }
}
