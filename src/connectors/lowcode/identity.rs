//! Checks that the response of the identity call is for the resource that the resource id names. Pure.

use super::address::fill;
use super::family_spec::{Identity, Match, Normal};
use crate::credentials::redact;
use crate::model::{Class, Evidence, Failure};
use ::lowcode::bounds::Bounds;
use ::lowcode::host::HostResponse;
use ::lowcode::response::Response;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Compares `record` and the response that it is from with the parts of the resource id, and returns the fields to show.
///
/// # Errors
/// Returns `WrongService`, which names the value that was found and the expected one. `base_url` says where the base address
/// is configured, which is wrong if the response does not have the field at all.
pub fn prove(
    rule: &Identity,
    (record, response): (&Value, Option<&HostResponse>),
    parts: &BTreeMap<String, String>,
    title: &str,
    base_url: &str,
) -> Result<Evidence, Failure> {
    let mut evidence = Evidence::new();
    for field in &rule.matches {
        let filled = |text: &String| fill(text, parts).map_err(|part| super::address::unknown_part(&part));
        let wanted = filled(&field.equals)?;
        let others = field.or.iter().map(filled).collect::<Result<Vec<_>, _>>()?;
        let met = found(&field.field, record, response);
        if met.is_none() && field.optional {
            continue;
        }
        let fits = |wanted: &String| met.as_deref().map(|met| normal(field.normal, met)) == Some(normal(field.normal, wanted));
        let Some(equal) = std::iter::once(&wanted).chain(&others).find(|wanted| fits(wanted)) else {
            return Err(other(&field.field, met.as_deref(), &wanted, (title, base_url)));
        };
        evidence.insert("matched".to_string(), format!("{} is {equal}", name(&field.field)).into());
    }
    if evidence.is_empty() {
        let host = parts.get("host").map(String::as_str).unwrap_or_default();
        let matched = format!("host {host}, which accepts the credential; {title} gives each account a host of its own");
        evidence.insert("matched".to_string(), matched.into());
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

/// Returns the value of a field of the record, of a header, or of a relation of the `Link` header.
fn found(field: &str, record: &Value, response: Option<&HostResponse>) -> Option<String> {
    if let Some(header) = field.strip_prefix("header:") {
        return response?.header(header).map(|value| redact::scrub_and_cut(value, 200));
    }
    let Some(relation) = field.strip_prefix("link:") else { return text(record.pointer(field)) };
    let links = Response::new(Arc::new(response?.clone()), &Bounds::default()).ok()?.links();
    links.get(relation)?.get("url")?.as_str().map(|url| redact::scrub_and_cut(url, 200))
}

/// Normalizes `text` for a comparison.
fn normal(form: Normal, text: &str) -> String {
    match form {
        Normal::Exact => text.to_string(),
        Normal::Caseless => text.to_lowercase(),
        Normal::First15 => text.chars().take(15).collect(),
        Normal::Alphanumeric => text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect(),
        Normal::Host => {
            let url = if text.contains("://") { Cow::Borrowed(text) } else { Cow::Owned(format!("https://{text}")) };
            url::Url::parse(&url).ok().and_then(|url| super::address::host_of(&url)).unwrap_or_else(|| text.to_lowercase())
        }
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
        let field = Match { field: "/login".to_string(), equals: "{org}".to_string(), normal, ..Match::default() };
        let show = vec!["/id".to_string(), "/none".to_string()];
        let rule = Identity { matches: vec![field], show, ..Identity::default() };
        prove(&rule, (met, None), &[("org".to_string(), wanted.to_string())].into(), "GitHub", "base_url")
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
            (Normal::Host, "https://Acme.example/api/v1/users?limit=1", "acme.example", true),
            (Normal::Host, "https://acme.example:443/", "acme.example", true),
            (Normal::Host, "https://acme.example:8443/", "acme.example", false),
            (Normal::Host, "https://acme.example.evil/", "acme.example", false),
            (Normal::Host, "https://acme.example@evil/", "acme.example", false),
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

    #[test]
    fn headers_and_links_prove_a_host_and_may_be_absent() {
        let field = |field: &str, optional| Match {
            field: field.to_string(),
            equals: "{org}.okta.com".to_string(),
            or: vec!["{host}".to_string()],
            normal: Normal::Host,
            optional,
        };
        let parts = [("org".to_string(), "acme".to_string()), ("host".to_string(), "127.0.0.1:8080".to_string())].into();
        let prove = |field: Match, links: &[&str]| {
            let headers = links.iter().map(|link| ("Link".to_string(), (*link).to_string())).collect();
            let url = "https://acme.okta.com/api/v1/users".to_string();
            let response = HostResponse { status: 200, headers, body: "[]".into(), url };
            let rule = Identity { matches: vec![field], ..Identity::default() };
            super::prove(&rule, (&Value::Null, Some(&response)), &parts, "Okta", "base_url")
        };
        // Okta sends one header for each relation (recordings of its Python package).
        let next = r#"<https://other.okta.com/api/v1/users?after=2>; rel="next""#;
        for itself in
            [r#"<https://acme.okta.com/api/v1/users>; rel="self""#, r#"<http://127.0.0.1:8080/api/v1/users>; rel="self""#]
        {
            assert!(prove(field("link:self", false), &[itself, next]).is_ok(), "{itself}");
        }
        let other = prove(field("link:self", true), &[r#"<https://other.okta.com/api/v1/users>; rel="self""#]).unwrap_err();
        assert!(other.title.contains("other.okta.com") && other.title.contains("names acme.okta.com"), "{}", other.title);
        assert!(prove(field("link:self", false), &[next]).is_err());
        let alone = prove(field("link:self", true), &[next]).unwrap();
        assert_eq!(
            alone["matched"],
            "host 127.0.0.1:8080, which accepts the credential; Okta gives each account a host of its own"
        );
        assert!(prove(field("header:link", true), &[]).is_ok());
    }
}
