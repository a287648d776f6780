//! The published JSON Schema of `connection_intent`. It is the one that is enforced.

use super::json::token;
use super::leaks;
use crate::model::Problem;
use crate::model::problem::nearest;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use std::sync::LazyLock;

/// The text that `GET /schemas/connection_intent.json` answers.
pub const TEXT: &str = include_str!("connection_intent.schema.json");

/// Problems of one document that are named one by one.
const MAX_PROBLEMS: usize = 50;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TEXT).unwrap_or_default());

/// `None` only if this build ships a broken schema; a test holds against that.
static VALIDATOR: LazyLock<Option<Validator>> = LazyLock::new(|| {
    let options = jsonschema::draft202012::options().should_validate_formats(true).offline();
    options.build(&SCHEMA).ok()
});

/// Compiles the schema, which takes longer than the first document does.
pub fn prepare() {
    LazyLock::force(&VALIDATOR);
}

/// The names the schema knows below `pointer` (`""`, `"/evidence"`, `"/owner"`); none for other places.
#[must_use]
pub fn known_fields(pointer: &str) -> Option<Vec<&'static str>> {
    let place = match pointer {
        "" => "/properties",
        "/evidence" => "/properties/evidence/properties",
        "/owner" => "/properties/owner/properties",
        _ => return None,
    };
    SCHEMA.pointer(place).and_then(Value::as_object).map(|fields| fields.keys().map(String::as_str).collect())
}

/// Everything that the schema finds wrong with `document`, with pointers relative to it.
#[must_use]
pub fn problems(document: &Value) -> Vec<Problem> {
    let Some(validator) = VALIDATOR.as_ref() else {
        return vec![Problem::new("", "this build of aam has a broken schema").hint("report this as a defect of aam")];
    };
    if validator.is_valid(document) {
        return Vec::new();
    }
    let mut all: Vec<Problem> =
        validator.iter_errors(document).take(MAX_PROBLEMS).map(|error| describe(document, &error)).collect();
    all.sort_by(|a, b| (&a.pointer, &a.message).cmp(&(&b.pointer, &b.message)));
    all.dedup();
    if all.len() == MAX_PROBLEMS {
        all.push(Problem::new("", format!("there are more than these {MAX_PROBLEMS} problems")));
    }
    all
}

/// Whether `document` asks for another scopes mode than the one there is: HTTP answers that with 403.
#[must_use]
pub fn unsafe_scopes(document: &Value) -> bool {
    document.get("scopes_mode").and_then(Value::as_str).is_some_and(|mode| mode != crate::model::intent::SAFE_READONLY)
}

fn describe(document: &Value, error: &ValidationError<'_>) -> Problem {
    let pointer = error.instance_path().to_string();
    let found = error.instance();
    let text = description(&error.schema_path().to_string());
    let plain = |message: String| Problem::new(pointer.clone(), message).hint(text);
    match error.kind() {
        ValidationErrorKind::Required { property } => missing(document, &pointer, property.as_str().unwrap_or_default()),
        ValidationErrorKind::Type { kind } => plain(format!("expected {}, found {}", expected(kind), shown(&pointer, found))),
        ValidationErrorKind::Enum { options } => one_of(&pointer, found, options, text),
        ValidationErrorKind::Pattern { .. } => plain(format!("{} does not have the form of this field", shown(&pointer, found))),
        ValidationErrorKind::Format { .. } => plain(format!("{} is no instant by RFC 3339", shown(&pointer, found))),
        ValidationErrorKind::Minimum { limit } => plain(format!("{} is less than {limit}", shown(&pointer, found))),
        ValidationErrorKind::Maximum { limit } => plain(format!("{} is more than {limit}", shown(&pointer, found))),
        ValidationErrorKind::MinLength { .. } if found.as_str() == Some("") => plain("is empty".to_string()),
        ValidationErrorKind::MinLength { limit } => plain(format!("is shorter than {limit} characters")),
        ValidationErrorKind::MaxLength { limit } => plain(format!("is longer than {limit} characters")),
        ValidationErrorKind::MinItems { .. } => plain("is empty".to_string()),
        ValidationErrorKind::MaxItems { limit } => plain(format!("holds more than {limit} entries")),
        other => plain(format!("does not fit the schema ({})", other.keyword())),
    }
}

fn missing(document: &Value, pointer: &str, property: &str) -> Problem {
    let present = document.pointer(pointer).and_then(Value::as_object);
    let known = known_fields(pointer).unwrap_or_default();
    // A known name is there by right; only a stray one can be a slip of the keyboard.
    let stray = present.into_iter().flat_map(|map| map.keys()).map(String::as_str).filter(|key| !known.contains(key));
    let slip = nearest(property, stray).filter(|key| leaks::may_be_shown(key));
    let place = if pointer.is_empty() { "/properties".to_string() } else { format!("/properties{pointer}/properties") };
    let text = SCHEMA.pointer(&format!("{place}/{property}/description")).and_then(Value::as_str).unwrap_or_default();
    let hint = match slip {
        Some(key) => format!("there is a field {key}: rename it to {property}"),
        None => text.to_string(),
    };
    Problem::new(format!("{pointer}/{}", token(property)), format!("the required field {property} is missing")).hint(hint)
}

fn one_of(pointer: &str, found: &Value, options: &Value, text: &str) -> Problem {
    let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let near = found.as_str().filter(|word| leaks::may_be_shown(word)).and_then(|word| near_word(word, &words));
    let hint = near.map_or_else(|| text.to_string(), |word| format!("did you mean {word}?"));
    Problem::new(pointer, format!("expected {}, found {}", listed(&words), shown(pointer, found))).hint(hint)
}

/// `a, b or c`.
fn listed(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => words.concat(),
    }
}

/// The option that is meant: the same word in other letters first, then the nearest, then a longer form.
fn near_word<'w>(found: &str, words: &[&'w str]) -> Option<&'w str> {
    let lower = found.to_ascii_lowercase();
    let same = words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(found) || (word.len() >= 3 && lower.starts_with(&word.to_ascii_lowercase())));
    same.copied().or_else(|| nearest(found, words.iter().copied()))
}

/// The description of the schema that a keyword belongs to.
fn description(keyword: &str) -> &'static str {
    let owner = keyword.rsplit_once('/').map_or("", |(owner, _)| owner);
    SCHEMA.pointer(&format!("{owner}/description")).and_then(Value::as_str).unwrap_or_default()
}

fn expected(kind: &TypeKind) -> String {
    let word = |name: &str| match name {
        "array" | "object" | "integer" => format!("an {name}"),
        "null" => name.to_string(),
        _ => format!("a {name}"),
    };
    match kind {
        TypeKind::Single(one) => word(&one.to_string()),
        TypeKind::Multiple(many) => many.iter().map(|one| word(&one.to_string())).collect::<Vec<_>>().join(" or "),
    }
}

/// What was found, without repeating anything that could be a secret.
#[must_use]
pub fn shown(pointer: &str, value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if number.to_string().len() <= 6 && !pointer.ends_with("credential_locator") => number.to_string(),
        Value::Number(_) => "a number".to_string(),
        Value::String(text) if text.is_empty() => "an empty string".to_string(),
        Value::String(text) if leaks::may_be_shown(text) && !pointer.ends_with("credential_locator") => {
            format!("{text:?}")
        }
        Value::String(text) => format!("a string of {} characters", text.chars().count()),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_a_valid_one_and_every_field_explains_itself() {
        assert!(VALIDATOR.is_some());
        assert!(jsonschema::meta::is_valid(&SCHEMA));
        for place in ["", "/evidence", "/owner"] {
            for field in known_fields(place).expect("a known place") {
                let path = if place.is_empty() {
                    format!("/properties/{field}")
                } else {
                    format!("/properties{place}/properties/{field}")
                };
                assert!(!description(&format!("{path}/type")).is_empty(), "{path}");
            }
        }
        assert_eq!(known_fields("/elsewhere"), None);
    }

    #[test]
    fn near_words_are_found_across_case_and_length() {
        assert_eq!(near_word("HIGH", &["low", "med", "high"]), Some("high"));
        assert_eq!(near_word("medium", &["low", "med", "high"]), Some("med"));
        assert_eq!(near_word("idp", &["IdP", "CMDB"]), Some("IdP"));
        assert_eq!(near_word("catastrophic", &["low", "med", "high"]), None);
    }
}
