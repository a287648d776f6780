//! Classifies an HTTP response as a success or as a failure that quotes the message of the service.

use super::address::{host_of, same_origin};
use super::operations::is_json;
use super::schema::allows;
use crate::credentials::redact;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Limit on the number of characters that are kept from a message of the service.
const MAX_MESSAGE_CHARS: usize = 300;

/// Describes what was requested, for the messages of a failure.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The requested URL, before redirects.
    pub url: &'a Url,
    /// The name of the operation, or `the description`.
    pub what: &'a str,
    /// The scopes that the description requires.
    pub scopes: &'a [String],
    /// The schemes with which a credential was sent; empty for a call without one.
    pub schemes: &'a [String],
}

/// Returns the JSON body of a successful response.
///
/// # Errors
/// A failure of the matching class for every other status, for a web page instead of data, and for JSON that is not valid.
pub fn parse_json(answer: &HttpResponse, context: ErrorContext<'_>) -> Result<Value, Failure> {
    check_status(answer, context)?;
    let (host, what) = (host_of(context.url), context.what);
    let media = answer.header("content-type").unwrap_or_default();
    let text = String::from_utf8_lossy(&answer.body);
    let page = media.to_ascii_lowercase().contains("html") || text.trim_start().starts_with('<');
    if page {
        return Err(Failure::new(
            Class::WrongService,
            format!("{host} returned a web page for {what}, not JSON"),
            "a sign-in page, a proxy or a portal may be responding in place of the service: check the URL and that this machine reaches the service itself",
        ));
    }
    if !is_json(media) {
        let found = if media.is_empty() { "a response without a content type".to_string() } else { scrub_and_cut(media) };
        return Err(Failure::new(
            Class::WrongService,
            format!("{host} returned {found} for {what}, not JSON"),
            "name an operation that returns JSON in the policy: families: {openapi: {health_path: /v1/status}}",
        ));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::new(
            Class::Remote,
            format!("{host} returned JSON for {what} that is truncated or not valid"),
            "ask the owner of the service; AAM retries automatically",
        )
        .detail(format!("{error}; {} bytes", answer.body.len()))
    })
}

/// Checks only the status.
///
/// # Errors
/// A failure of the matching class for every status except 2xx.
pub fn check_status(answer: &HttpResponse, context: ErrorContext<'_>) -> Result<(), Failure> {
    let ErrorContext { url, what, scopes, schemes } = context;
    let host = host_of(url);
    let path = url.path();
    let scopes = if scopes.is_empty() { String::new() } else { format!(" (the description requires {})", scopes.join(", ")) };
    let failure = match answer.status {
        200..=299 => return Ok(()),
        300..=399 => return Err(redirect(answer, context)),
        401 if schemes.is_empty() => Failure::new(
            Class::CredentialMissing,
            format!("{host} requires a credential for {what}{scopes}, but AAM has none"),
            "name a credential with credential_locator, for example env:SERVICE_TOKEN",
        ),
        401 => Failure::new(
            Class::CredentialRejected,
            format!("{host} rejected the credential for {what} (sent as {})", schemes.join(" and ")),
            "store a valid credential where credential_locator points; AAM reads it again at every attempt. If it is for another scheme of the description, write it as JSON: {\"<scheme>\": \"...\"}",
        ),
        403 => Failure::new(
            Class::PermissionDenied,
            format!("this credential does not have permission for {what} at {host}{scopes}"),
            format!("grant the credential read-only access to GET {path}{scopes}"),
        ),
        404 | 410 => Failure::new(
            Class::NotFound,
            format!("{what} was not found at {path} on {host}, although the description lists it"),
            "check that the description and the service have the same version, or name another path in the policy: families: {openapi: {health_path: /v1/status}}",
        ),
        code @ (429 | 503) if code == 429 || answer.header("retry-after").is_some() => {
            Failure::new(Class::Throttled, format!("{host} rate limited {what}"), "nothing to do: AAM retries automatically")
                .after(retry_after(answer))
        }
        400..=499 => Failure::new(
            Class::Misconfigured,
            format!("{host} rejected the request for {what} as invalid"),
            "name a path that needs no parameters in the policy: families: {openapi: {health_path: /v1/status}}",
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{host} failed to serve {what}"),
            "ask the owner of the service; AAM retries automatically",
        ),
    };
    Err(failure.detail(response_detail(answer)))
}

fn redirect(answer: &HttpResponse, context: ErrorContext<'_>) -> Failure {
    let (host, what) = (host_of(context.url), context.what);
    let target = answer.header("location").and_then(|text| answer.url.join(text).ok());
    match target {
        Some(target) if !same_origin(&target, &answer.url) => Failure::new(
            Class::EgressRefused,
            format!("{host} redirects {what} to {}, another host, to which AAM does not send the credential", host_of(&target)),
            "if the service has moved, name its new URL in resource_ids; if this is a sign-in page, the call needs another credential",
        ),
        _ => Failure::new(Class::Remote, format!("{host} redirects {what} without a valid target"), "check the URL in resource_ids"),
    }
    .detail(format!("HTTP {}", answer.status))
}

fn retry_after(answer: &HttpResponse) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(60);
    Duration::from_secs(seconds.clamp(1, 86_400))
}

/// The status, challenge and message of the response, for the detail of a failure. Secrets are scrubbed, and the length is
/// limited.
#[must_use]
pub fn response_detail(answer: &HttpResponse) -> String {
    let mut text = format!("HTTP {}", answer.status);
    if let Some(challenge) = answer.header("www-authenticate") {
        text.push_str(&format!("; WWW-Authenticate: {}", scrub_and_cut(challenge)));
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if let Some(message) = body.as_ref().and_then(message) {
        text.push_str(&format!("; the service said: \"{}\"", scrub_and_cut(&message)));
    }
    redact::scrub(&text).into_owned()
}

/// The message in an error body, read from the fields in which services usually put it.
fn message(body: &Value) -> Option<String> {
    let names = ["detail", "error_description", "message", "error", "title", "errors", "code"];
    let found = names.iter().find_map(|name| body.get(name).filter(|value| !value.is_null()))?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => message(found).or_else(|| Some(found.to_string())),
        other => Some(other.to_string()),
    }
}

/// Scrubs secrets, then cuts the text. The order matters, because the scrubber would not recognise half of a secret.
fn scrub_and_cut(text: &str) -> String {
    redact::scrub_and_cut(text, MAX_MESSAGE_CHARS)
}

/// Checks that a successful response has the type and fields that the description promises. Without this check any web
/// server would pass.
///
/// # Errors
/// `WrongService`, naming what was expected and what was returned.
pub fn check_shape(value: &Value, schema: &Value, context: ErrorContext<'_>) -> Result<(), Failure> {
    let (host, what) = (host_of(context.url), context.what);
    let wrong = |expected: &str, actual: &str| {
        Err(Failure::new(
            Class::WrongService,
            format!("{host} returned {actual} for {what}, but its description promises {expected}"),
            "check that the description belongs to this service, or name another path in the policy: families: {openapi: {health_path: /v1/status}}",
        ))
    };
    let actual = json_type(value);
    let integer = actual == "integer" && allows(schema, "number");
    if !allows(schema, actual) && !integer {
        return wrong(&expected_type(&schema["type"]), actual);
    }
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) else {
        return Ok(());
    };
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    let required = schema["required"].as_array().is_some_and(|list| !list.is_empty());
    if !object.keys().any(|name| properties.contains_key(name)) && (required || !object.is_empty()) {
        let names: Vec<&str> = properties.keys().take(5).map(String::as_str).collect();
        return wrong(&format!("an object with {}", names.join(", ")), "an object without any of these fields");
    }
    Ok(())
}

/// The expected type or types, for messages.
fn expected_type(json_type: &Value) -> String {
    match json_type {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        other => other.as_str().unwrap_or_default().to_string(),
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judge(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Value, Failure> {
        let url = Url::parse("https://a.example/v1/pets").unwrap();
        let headers = headers.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        let answer = HttpResponse { status, headers, body: body.as_bytes().to_vec().into(), url: url.clone() };
        parse_json(
            &answer,
            ErrorContext { url: &url, what: "listPets", scopes: &["pets:read".into()], schemes: &["bearer".into()] },
        )
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn every_status_has_its_class() {
        for (code, class) in [
            (401, Class::CredentialRejected),
            (403, Class::PermissionDenied),
            (404, Class::NotFound),
            (429, Class::Throttled),
            (503, Class::Remote),
            (400, Class::Misconfigured),
            (500, Class::Remote),
            (302, Class::Remote),
        ] {
            assert_eq!(judge(code, &[JSON], "{}").unwrap_err().class, class, "{code}");
        }
        assert_eq!(judge(200, &[JSON], "[]"), Ok(json!([])));
    }

    #[test]
    fn pages_and_truncated_responses_are_refused() {
        assert_eq!(judge(200, &[("content-type", "text/html")], "<html>").unwrap_err().class, Class::WrongService);
        assert_eq!(judge(200, &[JSON], "<html>").unwrap_err().class, Class::WrongService);
        assert_eq!(judge(200, &[("content-type", "text/plain")], "ok").unwrap_err().class, Class::WrongService);
        assert_eq!(judge(200, &[JSON], "[{\"id\":1},{").unwrap_err().class, Class::Remote);
        assert_eq!(judge(200, &[JSON], "").unwrap_err().class, Class::Remote);
    }

    #[test]
    fn a_denial_names_the_scope_and_quotes_the_service() {
        let failure = judge(403, &[JSON], r#"{"error":{"message":"needs role reader"}}"#).unwrap_err();
        assert!(failure.fix.contains("pets:read"), "{}", failure.fix);
        assert_eq!(failure.detail, "HTTP 403; the service said: \"needs role reader\"");
    }

    #[test]
    fn a_redirect_to_another_host_is_named() {
        let failure = judge(302, &[("location", "https://login.example/sso?x=y")], "").unwrap_err();
        assert_eq!(failure.class, Class::EgressRefused);
        assert!(failure.title.contains("login.example") && !failure.title.contains("x=y"), "{}", failure.title);
    }

    #[test]
    fn a_response_of_another_type_is_refused() {
        let url = Url::parse("https://a.example/").unwrap();
        let context = ErrorContext { url: &url, what: "x", scopes: &[], schemes: &[] };
        let pet = json!({"type": "object", "required": ["id"], "properties": {"id": {}, "name": {}}});
        assert!(check_shape(&json!({"name": 1}), &pet, context).is_ok());
        assert!(check_shape(&json!({"ok": true}), &pet, context).is_err());
        assert!(check_shape(&json!({}), &pet, context).is_err());
        assert!(check_shape(&json!([]), &pet, context).is_err());
        assert!(check_shape(&json!(3), &json!({"type": "number"}), context).is_ok());
        assert!(check_shape(&json!({"any": 1}), &json!({}), context).is_ok());
    }
}
