//! Checks that the response of the identity call is for the resource that the resource id names. Pure.

use super::address::fill;
use super::family_spec::{Identity, Match, Normal};
use crate::credentials::redact;
use crate::model::{Class, Evidence, Failure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Compares `record` with the parts of the resource id and returns the fields to show.
///
/// # Errors
/// Returns `WrongService`, which names the value that was found and the expected one. `base_url` says where the base address
/// is configured, which is wrong if the response does not have the field at all.
pub fn prove(
    rule: &Identity,
    record: &Value,
    parts: &BTreeMap<String, String>,
    title: &str,
    base_url: &str,
) -> Result<Evidence, Failure> {
    let mut evidence = Evidence::new();
    for field in &rule.matches {
        let wanted = fill(&field.equals, parts).map_err(|part| super::address::unknown_part(&part))?;
        let met = text(record.pointer(&field.field));
        if met.as_deref().map(|met| normal(field.normal, met)) != Some(normal(field.normal, &wanted)) {
            return Err(other(&field.field, met.as_deref(), &wanted, (title, base_url)));
        }
        evidence.insert("matched".to_string(), format!("{} is {wanted}", name(&field.field)).into());
    }
    for pointer in &rule.show {
        if let Some(value) = text(record.pointer(pointer)) {
            evidence.insert(name(pointer), value.into());
        }
    }
    Ok(evidence)
}

/// Checks that the account that a credential belongs to is the one that the resource id names. A record without the
/// field proves nothing and passes.
///
/// # Errors
/// Returns `WrongService`, which names both accounts.
pub fn same_account(rule: &Match, record: &Value, parts: &BTreeMap<String, String>, title: &str) -> Result<(), Failure> {
    let wanted = fill(&rule.equals, parts).map_err(|part| super::address::unknown_part(&part))?;
    match text(record.pointer(&rule.field)) {
        Some(met) if normal(rule.normal, &met) != normal(rule.normal, &wanted) => Err(Failure::new(
            Class::WrongService,
            format!("this credential of {title} belongs to {met}, and the resource id names {wanted}"),
            format!("use a credential for {wanted}, or write {met} into resource_ids"),
        )),
        _ => Ok(()),
    }
}

fn other(field: &str, met: Option<&str>, wanted: &str, (title, base_url): (&str, &str)) -> Failure {
    let field = name(field);
    let address = if met.is_none() { format!("; if this is not the API of {title}, correct {base_url}") } else { String::new() };
    let met = met.map_or(format!("no {field}"), |met| format!("{field} {met}"));
    Failure::new(
        Class::WrongService,
        format!("{title} answers as {met}, and the resource id names {wanted}"),
        format!("correct resource_ids, or use the credential of that resource{address}"),
    )
}

/// Normalizes `text` for a comparison.
fn normal(form: Normal, text: &str) -> String {
    match form {
        Normal::Exact => text.to_string(),
        Normal::Caseless => text.to_lowercase(),
        Normal::First15 => text.chars().take(15).collect(),
        Normal::Alphanumeric => text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect(),
    }
}

/// Returns a string or number as text, cut so that it is short enough for evidence.
#[must_use]
pub fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(redact::scrub_and_cut(text, 200)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn name(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::super::family_spec::Match;
    use super::*;
    use serde_json::json;

    fn proven(normal: Normal, met: &Value, wanted: &str) -> Result<Evidence, Failure> {
        let rule = Identity {
            kind: String::new(),
            stream: String::new(),
            matches: vec![Match { field: "/login".to_string(), equals: "{org}".to_string(), normal }],
            show: vec!["/id".to_string(), "/none".to_string()],
        };
        prove(&rule, met, &[("org".to_string(), wanted.to_string())].into(), "GitHub", "base_url")
    }

    #[test]
    fn names_match_in_their_normal_form() {
        for (normal, met, wanted, fine) in [
            (Normal::Exact, "T01", "T01", true),
            (Normal::Exact, "T01", "t01", false),
            (Normal::Caseless, "Acme", "aCME", true),
            (Normal::First15, "00D000000000001AAA", "00D000000000001", true),
            (Normal::First15, "00D000000000002AAA", "00D000000000001", false),
            (Normal::Alphanumeric, "123456_SB1", "123456-sb1", true),
            (Normal::Alphanumeric, "1234567_SB1", "123456-sb1", false),
        ] {
            assert_eq!(proven(normal, &json!({"login": met}), wanted).is_ok(), fine, "{met} {wanted}");
        }
    }

    #[test]
    fn what_was_met_is_named() {
        let evidence = proven(Normal::Caseless, &json!({"login": "Acme", "id": 7}), "acme").unwrap();
        assert_eq!(Value::Object(evidence), json!({"matched": "login is acme", "id": "7"}));
        let failure = proven(Normal::Caseless, &json!({"login": "other"}), "acme").unwrap_err();
        assert_eq!(failure.class, Class::WrongService);
        assert_eq!(failure.title, "GitHub answers as login other, and the resource id names acme");
        for nothing in [json!({}), json!(null), json!({"login": null}), json!({"login": ["acme"]}), json!({"login": ""})] {
            assert!(proven(Normal::Caseless, &nothing, "acme").unwrap_err().title.contains("no login"), "{nothing}");
        }
    }
}
