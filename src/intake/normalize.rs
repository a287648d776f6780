//! Reads documents as clients really write them: other names and spellings are replaced by the proper forms, each with a
//! warning, and values that AAM does not know are kept with a warning.
//!
//! The stored document has the proper forms, so that every spelling yields the same connection. What the client sent is
//! stored in its field `as_sent`, by JSON pointer.

use super::instant;
use super::schema::shown;
use crate::families::aliases::{self, Field};
use crate::model::Problem;
use crate::model::intent::SAFE_READONLY;
use serde_json::{Map, Value};

/// The field of a stored document that holds what the client sent.
pub const AS_SENT: &str = "as_sent";

/// The length up to which a text is read in another spelling. Longer ones are not valid in any field but `resource_ids`.
const MAX_TEXT: usize = 64;

/// The length up to which blanks around a resource id are removed, in characters.
const MAX_RESOURCE_ID: usize = 2048;

/// The same for a locator.
const MAX_LOCATOR: usize = 1024;

/// The text fields with a list of values.
const VALUES: [(&str, Field); 4] = [
    ("/risk_level", Field::RiskLevel),
    ("/evidence/status", Field::EvidenceStatus),
    ("/evidence/source", Field::EvidenceSource),
    ("/owner/why", Field::OwnerWhy),
];

/// Replaces other spellings by the proper forms, and returns a warning for each of them and for each value that AAM does
/// not know. A document that has only proper forms is not changed.
pub(super) fn normalize(document: &mut Value) -> Vec<Problem> {
    let mut normalizer = Normalizer { warnings: Vec::new(), as_sent: Map::new() };
    normalizer.absent(document);
    normalizer.source_type(document);
    normalizer.namespace(document);
    normalizer.scopes_mode(document);
    for (pointer, field) in VALUES {
        normalizer.value(document, pointer, field);
    }
    normalizer.instant(document);
    let Normalizer { warnings, as_sent } = normalizer;
    if let Some(fields) = document.as_object_mut().filter(|_| !as_sent.is_empty()) {
        let slot = fields.entry(AS_SENT).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(earlier) = slot {
            earlier.extend(as_sent);
        }
    }
    warnings
}

struct Normalizer {
    warnings: Vec<Problem>,
    as_sent: Map<String, Value>,
}

impl Normalizer {
    fn warn(&mut self, pointer: &str, message: String, hint: String) {
        self.warnings.push(Problem::new(pointer, message).hint(hint));
    }

    /// Replaces the text at `pointer`. A text that differs only in blanks around it is not recorded.
    fn replace(&mut self, document: &mut Value, pointer: &str, proper: &str) {
        let Some(slot) = document.pointer_mut(pointer) else { return };
        let sent = std::mem::replace(slot, proper.into());
        let trimmed = sent.as_str().map(str::trim);
        if trimmed == Some(proper) {
            return self.warn(pointer, blanks().to_string(), "remove them".to_string());
        }
        self.warnings.push(reading(pointer, &sent, proper));
        let original = trimmed.map_or_else(|| sent.clone(), Value::from);
        self.as_sent.insert(pointer.to_string(), original);
    }

    /// Removes fields that say with `null`, or with an empty text, that they are absent.
    fn absent(&mut self, document: &mut Value) {
        let Some(fields) = document.as_object_mut() else { return };
        for name in ["namespace", "scopes_mode"] {
            if fields.get(name) == Some(&Value::Null) {
                fields.remove(name);
            }
        }
        let locator = fields.get("credential_locator").and_then(Value::as_str).filter(|text| text.chars().count() <= MAX_LOCATOR);
        let Some(locator) = locator else { return };
        let trimmed = locator.trim().to_string();
        if trimmed.is_empty() {
            fields.remove("credential_locator");
            let hint = "leave the field out if the source does not need a secret";
            self.warn("/credential_locator", "is empty and is read as absent".to_string(), hint.to_string());
        } else if trimmed.len() != locator.len() {
            self.replace(document, "/credential_locator", &trimmed);
        }
    }

    fn source_type(&mut self, document: &mut Value) {
        let Some(sent) = text_at(document, "/source_type") else { return };
        let ids = || document.get("resource_ids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let exact = crate::families::exists(&sent);
        let known = if exact { None } else { aliases::source_type_with(&sent, ids()) };
        let proper = match known {
            Some(family) => family.to_string(),
            None if exact => sent.clone(),
            None => aliases::snake_case(&sent),
        };
        // A name without any letter or digit is left to the schema, which refuses it.
        if proper != sent && !proper.is_empty() {
            self.replace(document, "/source_type", &proper);
        }
        self.resource_ids(document, &sent, &proper);
    }

    /// Removes blanks around resource ids, and writes them in the form of the family.
    fn resource_ids(&mut self, document: &mut Value, sent: &str, family: &str) {
        let Some(Value::Array(ids)) = document.pointer_mut("/resource_ids") else { return };
        let form = aliases::id_form(sent, family);
        let before = ids.clone();
        let mut rewritten = false;
        for (index, id) in ids.iter_mut().enumerate() {
            let Some(text) = id.as_str().filter(|text| text.chars().count() <= MAX_RESOURCE_ID) else { continue };
            let trimmed = text.trim();
            if trimmed.is_empty() {
                continue;
            }
            let written = form.and_then(|form| Some((form, form.rewrite(trimmed)?)));
            // The id is not repeated, because it may contain a user name or a password.
            let pointer = format!("/resource_ids/{index}");
            let new = match written {
                Some((form, written)) => {
                    rewritten = true;
                    let message = format!("is read as an address of the form {}", form.form);
                    self.warn(&pointer, message, format!("write {}", form.form));
                    written
                }
                None if trimmed.len() != text.len() => {
                    self.warn(&pointer, blanks().to_string(), "remove them".to_string());
                    trimmed.to_string()
                }
                None => continue,
            };
            *id = new.into();
        }
        if rewritten {
            let trimmed = |id: Value| id.as_str().map_or(id.clone(), |text| text.trim().into());
            self.as_sent.insert("/resource_ids".to_string(), before.into_iter().map(trimmed).collect());
        }
    }

    /// Names of namespaces are lower case. Ids that are UUIDs are namespaces too.
    fn namespace(&mut self, document: &mut Value) {
        let Some(sent) = text_at(document, "/namespace") else { return };
        let proper = sent.to_ascii_lowercase();
        let proper = proper.trim();
        if proper != sent && !proper.is_empty() {
            self.replace(document, "/namespace", proper);
        }
    }

    /// Another mode than `safe_readonly` is left as it is, because it is refused.
    fn scopes_mode(&mut self, document: &mut Value) {
        let Some(sent) = text_at(document, "/scopes_mode") else { return };
        let plain = sent.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        let is_safe = [SAFE_READONLY, "safe_read_only", "saferead_only", "safereadonly"].contains(&plain.as_str());
        if is_safe && sent != SAFE_READONLY {
            self.replace(document, "/scopes_mode", SAFE_READONLY);
        }
    }

    fn value(&mut self, document: &mut Value, pointer: &str, field: Field) {
        let Some(sent) = text_at(document, pointer) else { return };
        match field.proper(&sent) {
            Some(proper) if proper == sent => {}
            Some(proper) => self.replace(document, pointer, proper),
            // Which statuses are accepted is up to the policy.
            None if field == Field::EvidenceStatus || sent.trim().is_empty() => {}
            None => {
                let trimmed = sent.trim();
                if trimmed.len() != sent.len() {
                    self.replace(document, pointer, trimmed);
                }
                self.warnings.push(unknown_value(pointer, field, trimmed));
            }
        }
    }

    fn instant(&mut self, document: &mut Value) {
        let pointer = "/evidence/ts";
        let Some(proper) = document.pointer(pointer).and_then(instant::proper) else { return };
        self.replace(document, pointer, &proper);
    }
}

/// Returns a text that is short enough to be a value.
fn text_at(document: &Value, pointer: &str) -> Option<String> {
    let text = document.pointer(pointer).and_then(Value::as_str);
    text.filter(|text| text.chars().count() <= MAX_TEXT).map(str::to_string)
}

fn blanks() -> &'static str {
    "has blanks around it, which do not belong to it"
}

/// The warning about a value of a stored document that was sent in another spelling. Returns `None` if the document does
/// not have a text or texts there.
#[must_use]
pub fn replaced(pointer: &str, sent: &Value, proper: &Value) -> Option<Problem> {
    match proper {
        Value::String(text) => Some(reading(pointer, sent, text)),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            Some(reading(pointer, sent, &items.join(", ")))
        }
        _ => None,
    }
}

/// The warning about a value that was sent in another spelling. It repeats nothing that could be a secret.
fn reading(pointer: &str, sent: &Value, proper: &str) -> Problem {
    let instant = pointer == "/evidence/ts" && instant::proper(sent).as_deref() == Some(proper);
    let repeats = |text: &str| instant || aliases::source_type(text).is_some();
    let shown = match sent {
        Value::String(text) if repeats(text) => format!("{:?}", text.trim()),
        other => shown(pointer, other),
    };
    Problem::new(pointer, format!("{shown} is read as {proper}")).hint(format!("write {proper}"))
}

/// The warning about a value that AAM does not know.
#[must_use]
pub fn unknown_value(pointer: &str, field: Field, text: &str) -> Problem {
    let message = format!("{} is not a known value; the intent is kept and is not eligible", shown(pointer, &Value::from(text)));
    let near = super::schema::nearest_value(text, field);
    let accepted = field.accepted();
    Problem::new(pointer, message).hint(match near {
        Some(near) => format!("did you mean {near}? The values are {accepted}"),
        None => format!("write {accepted}"),
    })
}
