//! Turns an error response into a failure, by the family's error rules first and then by the HTTP status. Pure.

use super::family_spec::{Errors, Rule};
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The parts of a response that classification uses.
pub struct ResponseView<'a> {
    pub status: u16,
    /// Header names and values as the server sent them; names may be in any case.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub url: &'a str,
}

/// What was called, for the messages of the failure.
pub struct ErrorContext<'a> {
    /// The family's title.
    pub title: &'a str,
    pub resource: &'a str,
    pub least_privilege: &'a str,
}

/// The maximum number of characters of a vendor's message; longer messages are cut.
const MAX_MESSAGE_CHARS: usize = 400;

/// Returns the failure that `response` stands for, or `None` if the response is data.
#[must_use]
pub fn classify(errors: Option<&Errors>, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let rules = errors.map(|errors| errors.rules.as_slice()).unwrap_or_default();
    if rules.is_empty() && response.status < 300 {
        return None;
    }
    let body: Value = serde_json::from_slice(response.body).unwrap_or(Value::Null);
    match rules.iter().find(|rule| fits(rule, response, &body)) {
        Some(rule) => Some(by_rule(rule, errors, response, &body, context)),
        None if response.status >= 300 => Some(by_status(errors, response, &body, context)),
        None => None,
    }
}

fn fits(rule: &Rule, response: &ResponseView<'_>, body: &Value) -> bool {
    let header = |(name, texts): (&String, &Vec<String>)| {
        header(response, name).is_some_and(|value| texts.is_empty() || texts.iter().any(|text| value.contains(text.as_str())))
    };
    let value = |(pointer, values): (&String, &Vec<Value>)| body.pointer(pointer).is_some_and(|found| values.contains(found));
    (rule.status.is_empty() || rule.status.contains(&response.status))
        && rule.header.iter().all(header)
        && rule.body.iter().all(value)
        && (rule.text.is_empty() || says(response.body, &rule.text))
}

fn says(body: &[u8], texts: &[String]) -> bool {
    let body = String::from_utf8_lossy(body).to_lowercase();
    texts.iter().any(|text| body.contains(&text.to_lowercase()))
}

fn by_rule(
    rule: &Rule,
    errors: Option<&Errors>,
    response: &ResponseView<'_>,
    body: &Value,
    context: &ErrorContext<'_>,
) -> Failure {
    let missing = named(&rule.missing, response, body);
    let granted = named(&rule.granted, response, body);
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    parts.insert("resource".to_string(), context.resource.to_string());
    parts.insert("missing".to_string(), missing.clone().unwrap_or_else(|| format!("({})", context.least_privilege)));
    parts.insert("granted".to_string(), granted.clone().unwrap_or_else(|| "nothing that was named".to_string()));
    let text = |text: &str| super::address::fill(text, &parts).unwrap_or_else(|_| text.to_string());
    let class = class(&rule.class).unwrap_or(Class::Remote);
    let mut detail = vendor_message(errors, response, body);
    for (what, value) in [("needed", missing), ("provided", granted)] {
        if let Some(value) = value {
            detail.push_str(&format!("; {what}: {value}"));
        }
    }
    let failure = Failure::new(class, text(&rule.title), text(&rule.fix)).detail(redact::scrub(&detail));
    match class {
        Class::Throttled => failure.after(Duration::from_secs(rule.wait.unwrap_or(60))),
        _ => failure,
    }
}

/// Returns the first value found at one of `places`.
fn named(places: &[String], response: &ResponseView<'_>, body: &Value) -> Option<String> {
    places.iter().find_map(|place| {
        let text = match place.strip_prefix("header:") {
            Some(name) => header(response, name).map(str::to_string),
            None => match body.pointer(place)? {
                Value::String(text) => Some(text.clone()),
                Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
                _ => None,
            },
        }?;
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        (!text.is_empty()).then_some(text)
    })
}

/// Returns the failure for a response that no rule of the family matches, judged by its HTTP status.
fn by_status(errors: Option<&Errors>, response: &ResponseView<'_>, body: &Value, context: &ErrorContext<'_>) -> Failure {
    let ErrorContext { title, resource, least_privilege } = context;
    let detail = vendor_message(errors, response, body);
    let failure = match response.status {
        300..=399 => Failure::new(
            Class::WrongService,
            format!("{title} redirects this call to another address"),
            "write the final address into the resource id, or as base_url into the policy",
        ),
        401 => Failure::new(
            Class::CredentialRejected,
            format!("{title} does not accept the credential"),
            "it is wrong, expired or revoked: create a new one and store it behind credential_locator",
        ),
        403 => Failure::new(
            Class::PermissionDenied,
            format!("the credential is not allowed to read this of {resource}"),
            format!("least privilege: {least_privilege}"),
        ),
        404 | 410 => Failure::new(
            Class::NotFound,
            format!("{resource} was not found at {title}, or this credential cannot see it"),
            "correct the resource id; if it is right, give the credential access to it",
        ),
        429 => {
            Failure::new(Class::Throttled, format!("rate limited by {title}"), "no action is required: AAM retries automatically")
                .after(Duration::from_secs(60))
        }
        status @ 500.. => Failure::new(
            Class::Remote,
            format!("{title} failed with {status}"),
            "AAM retries automatically; check the vendor's status page",
        ),
        status => Failure::new(
            Class::Remote,
            format!("{title} does not accept this call ({status})"),
            "see the detail; the API may have changed, or base_url may be wrong",
        ),
    };
    failure.detail(redact::scrub(&detail))
}

/// Returns the status, the path and the vendor's own message.
fn vendor_message(errors: Option<&Errors>, response: &ResponseView<'_>, body: &Value) -> String {
    let path = url::Url::parse(response.url).map(|url| url.path().to_string()).unwrap_or_default();
    let places = errors.map(|errors| errors.words.as_slice()).unwrap_or_default();
    let mut said: Vec<String> = places.iter().filter_map(|place| plain(body.pointer(place)?)).collect();
    if said.is_empty() && places.is_empty() {
        said = ["/message", "/error", "/error/message", "/error_description", "/detail", "/errors/0/message", "/title"]
            .into_iter()
            .filter_map(|place| plain(body.pointer(place)?))
            .collect();
    }
    if said.is_empty() {
        said.push(excerpt(response.body));
    }
    let said = redact::scrub_and_cut(&said.join(": "), MAX_MESSAGE_CHARS);
    format!("{} for {path}: {said}", response.status).trim_end_matches([':', ' ']).to_string()
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the beginning of a body. Secrets are removed before the text is cut, because a partial secret would not be
/// recognized.
fn excerpt(body: &[u8]) -> String {
    redact::scrub_and_cut(&String::from_utf8_lossy(body), 200)
}

fn header<'a>(response: &ResponseView<'a>, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Parses the name of a failure class in a family file.
#[must_use]
pub fn class(word: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.as_str() == word)
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
