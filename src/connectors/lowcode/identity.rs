//! Checks that the response of the identity call is for the resource that the resource id names. Pure.

use super::address::fill;
use super::family_spec::{Identity, Match, Normal};
use crate::credentials::redact;
use crate::model::{Class, Evidence, Failure, Timestamp};
use ::lowcode::bounds::Bounds;
use ::lowcode::host::HostResponse;
use ::lowcode::response::Response;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// The fields that must match, of a record or of the claims of a token.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// All of these must match.
    pub matches: &'a [Match],
    /// At least one of these alternatives must match as a whole. An empty list requires nothing.
    pub any: &'a [Vec<Match>],
    /// Fields to show.
    pub show: &'a [String],
}

/// The maximum number of characters of a value in evidence and messages.
const MAX_SHOWN_CHARS: usize = 200;

/// A field that did not match: its name, its value, and the expected value.
struct Mismatch {
    field: String,
    met: Option<String>,
    wanted: String,
}

/// Compares `record` with the parts of the resource id and returns the fields to show.
///
/// # Errors
/// Returns `WrongService`, which names the value that was found and the expected one. `base_url` says where the base address
/// is configured, which is wrong if the response does not have the field at all.
pub fn prove(
    proof: Proof<'_>,
    record: &Value,
    parts: &BTreeMap<String, String>,
    title: &str,
    base_url: &str,
) -> Result<Evidence, Failure> {
    let other = |mismatch: Mismatch| other(&mismatch, (title, base_url));
    let mut matched = compare(proof.matches, record, parts)?.map_err(other)?;
    if !proof.any.is_empty() {
        let compared: Vec<_> = proof.any.iter().map(|list| compare(list, record, parts)).collect::<Result<_, _>>()?;
        let has_field = |mismatch: &Mismatch| mismatch.met.is_some();
        let (fine, mut wrong): (Vec<_>, Vec<_>) = compared.into_iter().partition(Result::is_ok);
        match fine.into_iter().flatten().find(|found| !found.is_empty()) {
            Some(found) => matched.extend(found),
            // A field that the record has says more than one that it does not have.
            None => {
                wrong.sort_by_key(|found| !found.as_ref().err().is_some_and(has_field));
                return Err(wrong.into_iter().find_map(Result::err).map_or_else(|| nothing_compared(title, base_url), other));
            }
        }
    }
    if matched.is_empty() {
        return Err(nothing_compared(title, base_url));
    }
    let mut evidence = shown(proof, record);
    evidence.insert("matched".to_string(), matched.join(", ").into());
    Ok(evidence)
}

/// Returns the fields to show.
#[must_use]
pub fn shown(proof: Proof<'_>, record: &Value) -> Evidence {
    let value = |pointer: &String| pointed(record, pointer).into_iter().find_map(|value| text(Some(value)));
    let value = |pointer: &String| value(pointer).map(|text| redact::scrub_and_cut(&text, MAX_SHOWN_CHARS));
    proof.show.iter().filter_map(|pointer| Some((name(pointer), value(pointer)?.into()))).collect()
}

/// Returns true if `record` has one of the fields that say which account it is.
#[must_use]
pub fn names_account(proof: Proof<'_>, record: &Value) -> bool {
    let mut fields = proof.matches.iter().chain(proof.any.iter().flatten());
    fields.any(|rule| pointed(record, &rule.field).into_iter().any(|value| text(Some(value)).is_some()))
}

/// Returns the evidence for an account that has a host or a path of its own, which accepts the credential.
#[must_use]
pub fn by_host(rule: &Identity, parts: &BTreeMap<String, String>, title: &str) -> Evidence {
    let host = parts.get("host").map(String::as_str).unwrap_or_default();
    let matched = match fill(&rule.accepted, parts) {
        Ok(accepted) if !accepted.is_empty() => accepted,
        _ => format!("host {host}, which accepts the credential; {title} gives each account a host of its own"),
    };
    [("matched".to_string(), matched.into())].into_iter().collect()
}

/// Returns the number of records that the response of an identity call names.
#[must_use]
pub fn total(rule: &Identity, response: &HostResponse) -> Option<u64> {
    let (_, value) = response.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(&rule.total))?;
    value.trim().parse().ok()
}

/// Returns whether the response has one of `marks`, or none is asked for.
#[must_use]
pub fn has_mark(marks: &[String], record: &Value, response: Option<&HostResponse>) -> bool {
    let has_header = |name: &str| response.is_some_and(|it| it.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name)));
    let is_there = |mark: &String| match mark.strip_prefix("header:") {
        Some(name) => has_header(name),
        None => record.pointer(mark).is_some_and(|value| !value.is_null()),
    };
    marks.is_empty() || marks.iter().any(is_there)
}

/// Returns the failure for a response that accepts the credential and has nothing that only this vendor sends.
#[must_use]
pub fn unmarked(rule: &Identity, parts: &BTreeMap<String, String>, title: &str, base_url: &str) -> Failure {
    let host = parts.get("host").map(String::as_str).unwrap_or_default();
    Failure::new(
        Class::WrongService,
        format!("the response of {host} is not one of {title}: it has none of {}", rule.marks.join(", ")),
        format!(
            "if this is not the API of {title}, correct resource_ids or {base_url}; if it is, check whether a proxy or a portal answers in its place"
        ),
    )
}

/// Returns `record` with the relations of the response's `Link` header as the fields `link:REL`.
#[must_use]
pub fn with_links(record: &Value, response: Option<&HostResponse>) -> Value {
    let mut seen = record.as_object().cloned().unwrap_or_default();
    let links = response.and_then(|response| Some(Response::new(Arc::new(response.clone()), &Bounds::default()).ok()?.links()));
    if let Some(links) = links.as_ref().and_then(::lowcode::value::Value::as_dict) {
        for (relation, link) in links.iter() {
            if let Some(url) = link.get("url").and_then(::lowcode::value::Value::as_str) {
                seen.insert(format!("link:{relation}"), url.into());
            }
        }
    }
    Value::Object(seen)
}

/// Parses the end of a credential, which is a time or a day. A credential that ends on a day is not valid on that day.
#[must_use]
pub fn end(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z"))).ok()
}

/// Compares each field of `matches`, and returns what matched, or the first field that does not.
fn compare(
    matches: &[Match],
    record: &Value,
    parts: &BTreeMap<String, String>,
) -> Result<Result<Vec<String>, Mismatch>, Failure> {
    let mut matched = Vec::new();
    for rule in matches {
        let wanted = fill(&rule.equals, parts).map_err(|part| super::address::unknown_part(&part))?;
        let found: Vec<String> = pointed(record, &rule.field).into_iter().filter_map(|value| text(Some(value))).collect();
        let expected = normal(rule.normal, &wanted);
        if found.iter().any(|met| !expected.is_empty() && is_same(rule.normal, met, &expected)) {
            let how = if rule.normal == Normal::Prefix { "begins with" } else { "is" };
            matched.push(format!("{} {how} {wanted}", name(&rule.field)));
        } else if !found.is_empty() || !rule.optional {
            let met = (!found.is_empty()).then(|| redact::scrub_and_cut(&found.join(", "), MAX_SHOWN_CHARS));
            return Ok(Err(Mismatch { field: name(&rule.field), met, wanted }));
        }
    }
    Ok(Ok(matched))
}

/// Returns `failure` with the text that the family has for a record that does not match. A record without the field is not
/// explained by it, because the response may be that of something else.
#[must_use]
pub fn explained(rule: &Identity, record: &Value, failure: Failure) -> Failure {
    let Some(mismatch) = rule.mismatch.as_ref().filter(|_| failure.class == Class::WrongService) else { return failure };
    let texts =
        |field: &Match| pointed(record, &field.field).into_iter().filter_map(|value| text(Some(value))).collect::<Vec<_>>();
    let fields = rule.matches.iter().chain(rule.any.iter().flatten());
    let met = fields.map(texts).find(|met| !met.is_empty()).map(|met| met.join(", "));
    // A record without the field says nothing about the credential, unless the family gives it a class of its own.
    if met.is_none() && mismatch.class.is_none() {
        return failure;
    }
    let met = met.map_or_else(|| "nothing".to_string(), |met| redact::scrub_and_cut(&met, MAX_SHOWN_CHARS));
    let parts = [("met".to_string(), met)].into();
    let filled = |text: &str| fill(text, &parts).unwrap_or_else(|_| text.to_string());
    let class = mismatch.class.as_deref().and_then(super::errors::class).unwrap_or(failure.class);
    Failure::new(class, filled(&mismatch.title), filled(&mismatch.fix)).detail(failure.title)
}

/// Checks that the account that a credential belongs to is the one that the resource id names. A record without the
/// field proves nothing and passes.
///
/// # Errors
/// Returns `WrongService`, which names both accounts.
pub fn same_account(rule: &Match, record: &Value, parts: &BTreeMap<String, String>, title: &str) -> Result<(), Failure> {
    let wanted = fill(&rule.equals, parts).map_err(|part| super::address::unknown_part(&part))?;
    match text(record.pointer(&rule.field)) {
        Some(met) if normal(rule.normal, &met) != normal(rule.normal, &wanted) => {
            let met = redact::scrub_and_cut(&met, MAX_SHOWN_CHARS);
            Err(Failure::new(
                Class::WrongService,
                format!("this credential of {title} belongs to {met}, and the resource id names {wanted}"),
                format!("use a credential for {wanted}, or write {met} into resource_ids"),
            ))
        }
        _ => Ok(()),
    }
}

fn other(mismatch: &Mismatch, (title, base_url): (&str, &str)) -> Failure {
    let Mismatch { field, met, wanted } = mismatch;
    let address = if met.is_none() { format!("; if this is not the API of {title}, correct {base_url}") } else { String::new() };
    let met = met.as_ref().map_or(format!("no {field}"), |met| format!("{field} {met}"));
    Failure::new(
        Class::WrongService,
        format!("{title} answers as {met}, and the resource id names {wanted}"),
        format!("correct resource_ids, or use the credential of that resource{address}"),
    )
}

fn nothing_compared(title: &str, base_url: &str) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("the response of {title} has none of the fields that say which account it is"),
        format!("if this is not the API of {title}, correct {base_url}"),
    )
}

/// Compares a value that was found with the normalized expected one.
fn is_same(form: Normal, met: &str, expected: &str) -> bool {
    match form {
        Normal::Prefix => met.starts_with(expected),
        _ => normal(form, met) == expected,
    }
}

/// Normalizes `text` for a comparison.
fn normal(form: Normal, text: &str) -> String {
    match form {
        Normal::Exact | Normal::Prefix => text.to_string(),
        Normal::Caseless => text.to_lowercase(),
        Normal::First15 => text.chars().take(15).collect(),
        Normal::Alphanumeric => text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect(),
        Normal::Host => host_and_path(text).0,
        Normal::Url => {
            let (host, path) = host_and_path(text);
            format!("{host}{}", path.to_lowercase())
        }
    }
}

/// Returns host and path of an address, which may have no scheme. Both are empty if it is not an address.
fn host_and_path(text: &str) -> (String, String) {
    let text = text.trim();
    let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("https://{text}")) };
    let Ok(url) = url else { return (String::new(), String::new()) };
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_lowercase();
    (host, url.path().trim_end_matches('/').to_string())
}

/// Returns the values at `pointer`, in which `*` stands for every key or index.
fn pointed<'v>(value: &'v Value, pointer: &str) -> Vec<&'v Value> {
    let Some((before, after)) = pointer.split_once("/*") else { return value.pointer(pointer).into_iter().collect() };
    let children: Vec<&Value> = match value.pointer(before) {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(Value::Object(fields)) => fields.values().collect(),
        _ => Vec::new(),
    };
    children.into_iter().flat_map(|child| pointed(child, after)).collect()
}

/// Returns a string or number as text. It is what the vendor sent, so it can be compared. Before it is shown, it must be
/// scrubbed: an id may be the beginning of a token, as at Salesforce.
#[must_use]
pub fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn name(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(field: &str, normal: Normal, optional: bool) -> Match {
        Match { field: field.to_string(), equals: "{org}".to_string(), normal, optional }
    }

    fn judged(matches: &[Match], any: &[Vec<Match>], met: &Value, wanted: &str) -> Result<Evidence, Failure> {
        let show = ["/id".to_string(), "/none".to_string()];
        prove(Proof { matches, any, show: &show }, met, &[("org".to_string(), wanted.to_string())].into(), "GitHub", "base_url")
    }

    fn proven(normal: Normal, met: &Value, wanted: &str) -> Result<Evidence, Failure> {
        judged(&[rule("/login", normal, false)], &[], met, wanted)
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
            (Normal::Prefix, "00D000000000001AAA", "00D", true),
            (Normal::Prefix, "005000000000001AAA", "00D", false),
            (Normal::Host, "https://Acme.example:8443/x/", "acme.example", true),
            (Normal::Host, "https://acme.example.evil.example", "acme.example", false),
            (Normal::Host, "https://acme.example@evil.example", "acme.example", false),
            (Normal::Url, "http://acme.example/Jira/", "acme.example:8443/jira", true),
            (Normal::Url, "http://acme.example/other", "acme.example/jira", false),
        ] {
            assert_eq!(proven(normal, &json!({"login": met}), wanted).is_ok(), fine, "{met} {wanted}");
        }
        assert!(proven(Normal::Host, &json!({"login": "::"}), "//").is_err(), "two texts that are not addresses");
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
    fn the_text_of_a_family_explains_other_values_of_a_list() {
        let rule: Identity = serde_json::from_value(json!({"stream": "databases",
            "match": [{"field": "/Databases/*", "equals": "{org}"}], "mismatch": {"title": "found {met}", "fix": "fix"}}))
        .unwrap();
        let record = json!({"Databases": ["prod", "test"]});
        let failure = judged(&rule.matches, &[], &record, "dev").unwrap_err();
        assert_eq!(explained(&rule, &record, failure).title, "found prod, test");
    }

    #[test]
    fn one_of_several_values_or_alternatives_is_enough() {
        let domains = [rule("/verifiedDomains/*/name", Normal::Caseless, false)];
        let tenant = json!({"id": "t1", "verifiedDomains": [{"name": "acme.example"}, {"name": "Acme.onmicrosoft.example"}]});
        let evidence = judged(&domains, &[], &tenant, "acme.onmicrosoft.example").unwrap();
        assert_eq!(evidence["matched"], "verifiedDomains.*.name is acme.onmicrosoft.example");
        let failure = judged(&domains, &[], &tenant, "evil.example").unwrap_err();
        assert!(failure.title.contains("acme.example, Acme.onmicrosoft.example"), "{failure:?}");
        for nothing in
            [json!({"verifiedDomains": []}), json!({"verifiedDomains": [{}]}), json!({"verifiedDomains": "x"}), json!({})]
        {
            assert!(judged(&domains, &[], &nothing, "acme.example").is_err(), "{nothing}");
        }
        let any = [vec![rule("/id", Normal::Exact, false)], domains.to_vec()];
        for wanted in ["t1", "acme.example"] {
            assert!(judged(&[], &any, &tenant, wanted).is_ok(), "{wanted}");
        }
        assert_eq!(judged(&[], &any, &tenant, "t2").unwrap_err().title, "GitHub answers as id t1, and the resource id names t2");
        assert!(judged(&[], &any, &json!({}), "t2").unwrap_err().fix.contains("base_url"));
    }

    #[test]
    fn an_optional_field_may_be_missing_but_not_all_fields() {
        let matches = [rule("/login", Normal::Exact, false), rule("/host", Normal::Host, true)];
        assert!(judged(&matches, &[], &json!({"login": "acme"}), "acme").is_ok());
        assert!(judged(&matches, &[], &json!({"login": "acme", "host": "https://acme/"}), "acme").is_ok());
        assert!(judged(&matches, &[], &json!({"login": "acme", "host": "https://other/"}), "acme").is_err());
        let all_optional = [rule("/login", Normal::Exact, true)];
        assert!(judged(&all_optional, &[], &json!({}), "acme").unwrap_err().title.contains("none of the fields"));
        assert!(judged(&[], &[all_optional.to_vec()], &json!({}), "acme").unwrap_err().title.contains("none of the fields"));
    }

    #[test]
    fn a_host_proves_nothing_without_a_mark_of_the_vendor() {
        let marks = ["/id", "header:x-okta-request-id"].map(str::to_string);
        let response = |headers: &[(&str, &str)]| HostResponse {
            status: 200,
            headers: headers.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect::<Vec<_>>().into(),
            body: Default::default(),
            url: "https://login.acme.example/api/v1/org".into(),
        };
        assert!(has_mark(&marks, &json!({"id": "00o1"}), None));
        assert!(has_mark(&marks, &Value::Null, Some(&response(&[("X-Okta-Request-Id", "a1")]))));
        assert!(!has_mark(&marks, &json!({"ok": true, "id": null}), Some(&response(&[("x-request-id", "a1")]))));
        assert!(has_mark(&[], &json!({"ok": true}), None), "nothing is asked for");
    }

    #[test]
    fn a_total_counts_the_records_that_the_credential_may_not_see() {
        let rule: Identity = serde_json::from_value(json!({"stream": "me", "only": true, "total": "x-total-count"})).unwrap();
        let response = |value: &str| HostResponse {
            status: 200,
            headers: vec![("X-Total-Count".to_string(), value.to_string())].into(),
            body: Default::default(),
            url: "https://acme.service-now.com/".into(),
        };
        assert_eq!(total(&rule, &response("4711")), Some(4711));
        assert_eq!(total(&rule, &response("many")), None);
    }

    #[test]
    fn links_prove_a_host_and_may_be_absent() {
        let any = ["{org}.okta.com", "{host}"].map(|equals| {
            vec![Match { field: "/link:self".to_string(), equals: equals.to_string(), normal: Normal::Host, ..Match::default() }]
        });
        let parts = [("org", "acme"), ("host", "127.0.0.1:8080")].map(|(name, part)| (name.to_string(), part.to_string())).into();
        let proof = Proof { matches: &[], any: &any, show: &[] };
        let seen = |links: &[&str]| {
            let headers = links.iter().map(|link| ("Link".to_string(), (*link).to_string())).collect();
            let url = "https://acme.okta.com/api/v1/users".to_string();
            with_links(&Value::Null, Some(&HostResponse { status: 200, headers, body: "[]".into(), url }))
        };
        // Okta sends one header for each relation (recordings of its Python package).
        let next = r#"<https://other.okta.com/api/v1/users?after=2>; rel="next""#;
        for itself in
            [r#"<https://acme.okta.com/api/v1/users>; rel="self""#, r#"<http://127.0.0.1:8080/api/v1/users>; rel="self""#]
        {
            assert!(prove(proof, &seen(&[itself, next]), &parts, "Okta", "base_url").is_ok(), "{itself}");
        }
        let other = seen(&[r#"<https://other.okta.com/api/v1/users>; rel="self""#]);
        assert!(names_account(proof, &other));
        let failure = prove(proof, &other, &parts, "Okta", "base_url").unwrap_err();
        assert!(failure.title.contains("other.okta.com") && failure.title.contains("names acme.okta.com"), "{}", failure.title);
        assert!(!names_account(proof, &seen(&[next])));
        let mut rule: Identity = serde_json::from_value(json!({"stream": "users", "host": true})).unwrap();
        let matched = "host 127.0.0.1:8080, which accepts the credential; Okta gives each account a host of its own";
        assert_eq!(by_host(&rule, &parts, "Okta")["matched"], matched);
        rule.accepted = "address {host}/{org}, which accepts the credential".to_string();
        assert_eq!(by_host(&rule, &parts, "Okta")["matched"], "address 127.0.0.1:8080/acme, which accepts the credential");
    }

    #[test]
    fn ends_are_times_or_days() {
        assert_eq!(end("2026-08-15").map(Timestamp::rfc3339), end("2026-08-15T00:00:00Z").map(Timestamp::rfc3339));
        assert!(end("2026-08-15").is_some());
        for nothing in ["", "never", "2026-13-45", "T00:00:00Z"] {
            assert_eq!(end(nothing), None, "{nothing}");
        }
    }
}
