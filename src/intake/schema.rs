//! The published JSON Schema of `connection_intent`, which intents are validated with.

use super::json::token;
use super::leaks;
use crate::families::aliases::Field;
use crate::model::Problem;
use crate::model::problem::nearest;
use crate::model::text::{counted, is_unprintable};
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// The text that `GET /schemas/connection_intent.json` returns.
pub const TEXT: &str = include_str!("connection_intent.schema.json");

/// The number of problems that are reported for one document.
const MAX_PROBLEMS: usize = 50;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TEXT).unwrap_or_default());

/// `None` only if the schema in this build is not valid; a test checks that it is.
static VALIDATOR: LazyLock<Option<Validator>> = LazyLock::new(|| {
    let options = jsonschema::draft202012::options().offline();
    options.build(&SCHEMA).ok()
});

/// Compiles the schema ahead of the first document, because compiling takes longer than validating.
pub fn prepare() {
    LazyLock::force(&VALIDATOR);
}

/// The fields that the schema declares at `pointer` (`""`, `"/evidence"` or `"/owner"`); `None` for any other pointer.
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

/// Validates `document` and returns all problems, with pointers relative to it.
#[must_use]
pub fn problems(document: &Value) -> Vec<Problem> {
    let Some(validator) = VALIDATOR.as_ref() else {
        return vec![Problem::new("", "the built-in schema is not valid").hint("this is a defect in AAM; please report it")];
    };
    let mut all = Vec::new();
    unprintable("", document, &mut all);
    if all.is_empty() && validator.is_valid(document) {
        return Vec::new();
    }
    let pointers: Vec<String> = all.iter().map(|problem| problem.pointer.clone()).collect();
    let errors = validator.iter_errors(document).take(MAX_PROBLEMS).map(|error| describe(document, &error));
    all.extend(errors.filter(|problem| !pointers.contains(&problem.pointer)));
    all.sort_by(|a, b| (&a.pointer, &a.message).cmp(&(&b.pointer, &b.message)));
    all.dedup();
    if all.len() >= MAX_PROBLEMS {
        all.push(Problem::new("", format!("there are more problems than these {MAX_PROBLEMS}")));
    }
    all
}

/// Reports every text with a character that is invisible but changes how a terminal or a page shows the text around it.
fn unprintable(pointer: &str, value: &Value, problems: &mut Vec<Problem>) {
    let mut check = |pointer: &str, text: &str| {
        let found = text.chars().find(|c| is_unprintable(*c));
        if let Some(c) = found.filter(|_| problems.len() < MAX_PROBLEMS) {
            let message = format!("contains U+{:04X}, a control character or an invisible character", u32::from(c));
            problems.push(Problem::new(pointer, message).hint("remove it; it could change how the text is shown"));
        }
    };
    match value {
        Value::String(text) => check(pointer, text),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| unprintable(&format!("{pointer}/{at}"), item, problems));
        }
        Value::Object(fields) => {
            fields.keys().for_each(|name| check(&format!("{pointer}/{}", token(name)), name));
            fields.iter().for_each(|(name, value)| unprintable(&format!("{pointer}/{}", token(name)), value, problems));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether an object has a field that every intent has.
#[must_use]
pub fn resembles_an_intent(fields: &Map<String, Value>) -> bool {
    let required = SCHEMA.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    required.into_iter().any(|name| fields.contains_key(name))
}

/// Whether `document` asks for another scopes mode than `safe_readonly`. The API answers that with 403.
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
        ValidationErrorKind::Pattern { .. } if found.as_str().is_some_and(|text| text.trim().is_empty()) => {
            plain("is empty".to_string())
        }
        ValidationErrorKind::Pattern { .. } => plain(format!("{} is not valid here", shown(&pointer, found))),
        ValidationErrorKind::Minimum { limit } => plain(format!("{} is less than {limit}", shown(&pointer, found))),
        ValidationErrorKind::Maximum { limit } => plain(format!("{} is more than {limit}", shown(&pointer, found))),
        ValidationErrorKind::MinLength { .. } if found.as_str() == Some("") => plain("is empty".to_string()),
        ValidationErrorKind::MinLength { limit } => plain(format!("is shorter than {limit} characters")),
        ValidationErrorKind::MaxLength { limit } => plain(format!("is longer than {limit} characters")),
        ValidationErrorKind::MinItems { .. } => plain("is empty".to_string()),
        ValidationErrorKind::MaxItems { limit } => plain(format!("has more than {limit} items")),
        other => plain(format!("does not match the schema ({})", other.keyword())),
    }
}

fn missing(document: &Value, pointer: &str, property: &str) -> Problem {
    let present = document.pointer(pointer).and_then(Value::as_object);
    let known = known_fields(pointer).unwrap_or_default();
    // A misspelled field is one that the schema does not declare.
    let unknown = present.into_iter().flat_map(|map| map.keys()).map(String::as_str).filter(|key| !known.contains(key));
    let misspelled = nearest(property, unknown).filter(|key| leaks::may_be_shown(key));
    let place = if pointer.is_empty() { "/properties".to_string() } else { format!("/properties{pointer}/properties") };
    let text = SCHEMA.pointer(&format!("{place}/{property}/description")).and_then(Value::as_str).unwrap_or_default();
    let hint = match misspelled {
        Some(key) => format!("rename the field {key} to {property}"),
        None => text.to_string(),
    };
    Problem::new(format!("{pointer}/{}", token(property)), format!("the required field {property} is missing")).hint(hint)
}

/// Returns the value of `field` that is probably meant by `text`.
#[must_use]
pub fn nearest_value(text: &str, field: Field) -> Option<&'static str> {
    let shown = Some(text).filter(|text| leaks::may_be_shown(text))?.to_ascii_lowercase();
    field.proper_forms().find(|proper| nearest(&shown, [proper.to_ascii_lowercase().as_str()]).is_some())
}

/// Returns the description of the field at `pointer`, which must be in the schema.
#[must_use]
pub fn describes(pointer: &str) -> &'static str {
    let place = pointer.trim_start_matches('/').replace('/', "/properties/");
    SCHEMA.pointer(&format!("/properties/{place}/description")).and_then(Value::as_str).unwrap_or_default()
}

/// The description in the schema that the keyword at this path belongs to.
fn description(keyword: &str) -> &'static str {
    let owner = keyword.rsplit_once('/').map_or("", |(owner, _)| owner);
    SCHEMA.pointer(&format!("{owner}/description")).and_then(Value::as_str).unwrap_or_default()
}

fn expected(kind: &TypeKind) -> String {
    let with_article = |name: &str| match name {
        "array" | "object" | "integer" => format!("an {name}"),
        "null" => name.to_string(),
        _ => format!("a {name}"),
    };
    match kind {
        TypeKind::Single(one) => with_article(&one.to_string()),
        TypeKind::Multiple(many) => many.iter().map(|one| with_article(&one.to_string())).collect::<Vec<_>>().join(" or "),
    }
}

/// Describes a value without repeating anything that could be a secret.
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
        Value::String(text) => format!("a string of {}", counted(text.chars().count(), "character")),
        Value::Array(items) => format!("an array of {}", counted(items.len(), "item")),
        Value::Object(_) => "an object".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_valid_and_describes_every_field() {
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
    fn the_nearest_value_is_found_in_any_case() {
        assert_eq!(nearest_value("hihg", Field::RiskLevel), Some("high"));
        assert_eq!(nearest_value("CMBD", Field::EvidenceSource), Some("CMDB"));
        assert_eq!(nearest_value("oauth_consentr", Field::OwnerWhy), Some("oauth_consenter"));
        assert_eq!(nearest_value("catastrophic", Field::RiskLevel), None);
        assert!(describes("/evidence/ts").starts_with("an RFC 3339 timestamp"));
    }
}
