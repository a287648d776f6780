//! An HTTP answer -> what it means: a pass, or a failure in the service's own words.

use super::address::{host_of, same_origin};
use super::operations::is_json;
use super::schema::allows;
use crate::credentials::redact;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Characters of the service's words that are kept.
const WORDS: usize = 300;

/// What was asked, for the words of a failure.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The address asked, before redirects.
    pub url: &'a Url,
    /// The operation, or `the description`.
    pub what: &'a str,
    /// Scopes that the description asks for.
    pub scopes: &'a [String],
    /// The schemes under which a credential was sent; empty for an open call.
    pub schemes: &'a [String],
}

/// The body of a good answer as JSON.
///
/// # Errors
/// Every other status, a page instead of data, and JSON that is cut, each with its class.
pub fn json(answer: &HttpResponse, asked: ErrorContext<'_>) -> Result<Value, Failure> {
    status(answer, asked)?;
    let (host, what) = (host_of(asked.url), asked.what);
    let media = answer.header("content-type").unwrap_or_default();
    let text = String::from_utf8_lossy(&answer.body);
    let page = media.to_ascii_lowercase().contains("html") || text.trim_start().starts_with('<');
    if page {
        return Err(Failure::new(
            Class::WrongService,
            format!("{host} answers {what} with a web page, not with data"),
            "a sign-in page, a proxy or a portal answers in place of the service: check the URL, and that this machine reaches the service itself",
        ));
    }
    if !is_json(media) {
        let found = if media.is_empty() { "no content type".to_string() } else { short(media) };
        return Err(Failure::new(
            Class::WrongService,
            format!("{host} answers {what} with {found}, not with JSON"),
            "name an operation that answers JSON in the policy: families: {openapi: {health_path: /v1/status}}",
        ));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::new(
            Class::Remote,
            format!("{host} answers {what} with JSON that is cut or broken"),
            "ask the owner of the service; it is tried again by itself",
        )
        .detail(format!("{error}; {} bytes", answer.body.len()))
    })
}

/// Judges the status alone.
///
/// # Errors
/// For everything but 2xx.
pub fn status(answer: &HttpResponse, asked: ErrorContext<'_>) -> Result<(), Failure> {
    let ErrorContext { url, what, scopes, schemes } = asked;
    let host = host_of(url);
    let path = url.path();
    let scopes = if scopes.is_empty() { String::new() } else { format!(" (the description asks for {})", scopes.join(", ")) };
    let failure = match answer.status {
        200..=299 => return Ok(()),
        300..=399 => return Err(redirect(answer, asked)),
        401 if schemes.is_empty() => Failure::new(
            Class::CredentialMissing,
            format!("{host} asks for a credential for {what}{scopes}, and none was sent"),
            "name one with credential_locator, for example env:SERVICE_TOKEN",
        ),
        401 => Failure::new(
            Class::CredentialRejected,
            format!("{host} rejects the credential for {what}, sent as {}", schemes.join(" and ")),
            "put a valid credential where credential_locator points; it is read again at every attempt. If it is meant for another scheme of the description, write it as JSON: {\"<scheme>\": \"...\"}",
        ),
        403 => Failure::new(
            Class::PermissionDenied,
            format!("{host} forbids {what} to this credential{scopes}"),
            format!("grant the credential the right to GET {path}{scopes}, read-only"),
        ),
        404 | 410 => Failure::new(
            Class::NotFound,
            format!("{host} promises {what} at {path} and answers that it is not there"),
            "check that description and service are of the same version, or name another path in the policy: families: {openapi: {health_path: /v1/status}}",
        ),
        code @ (429 | 503) if code == 429 || answer.header("retry-after").is_some() => {
            Failure::new(Class::Throttled, format!("{host} says \"later\" to {what}"), "nothing: it is tried again by itself")
                .after(retry_after(answer))
        }
        400..=499 => Failure::new(
            Class::Misconfigured,
            format!("{host} refuses {what} as it was asked"),
            "name a call that needs no parameters in the policy: families: {openapi: {health_path: /v1/status}}",
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{host} fails at {what}"),
            "ask the owner of the service; it is tried again by itself",
        ),
    };
    Err(failure.detail(words(answer)))
}

fn redirect(answer: &HttpResponse, asked: ErrorContext<'_>) -> Failure {
    let (host, what) = (host_of(asked.url), asked.what);
    let target = answer.header("location").and_then(|text| answer.url.join(text).ok());
    match target {
        Some(target) if !same_origin(&target, &answer.url) => Failure::new(
            Class::EgressRefused,
            format!("{host} sends {what} on to {}, another place, where no credential is carried", host_of(&target)),
            "if the service moved, name its new URL in resource_ids; if this is a sign-in page, the call needs another credential",
        ),
        _ => Failure::new(Class::Remote, format!("{host} answers {what} with a redirect that leads nowhere"), "check the URL in resource_ids"),
    }
    .detail(format!("HTTP {}", answer.status))
}

fn retry_after(answer: &HttpResponse) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(60);
    Duration::from_secs(seconds.clamp(1, 86_400))
}

/// Status, challenge and message of the answer, without secrets and never long.
#[must_use]
pub fn words(answer: &HttpResponse) -> String {
    let mut text = format!("HTTP {}", answer.status);
    if let Some(challenge) = answer.header("www-authenticate") {
        text.push_str(&format!("; {}", short(challenge)));
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if let Some(message) = body.as_ref().and_then(message) {
        text.push_str(&format!("; {}", short(&message)));
    }
    redact::scrub(&text).into_owned()
}

/// The message of an error body, in the fields that services use.
fn message(body: &Value) -> Option<String> {
    let names = ["detail", "error_description", "message", "error", "title", "errors", "code"];
    let found = names.iter().find_map(|name| body.get(name).filter(|value| !value.is_null()))?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => message(found).or_else(|| Some(found.to_string())),
        other => Some(other.to_string()),
    }
}

/// Scrubbed before it is cut: half a secret would not be recognised.
fn short(text: &str) -> String {
    redact::scrub(text).chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

/// Whether a good answer is the kind of value that the description promises: any web server must
/// not pass.
///
/// # Errors
/// `WrongService`, naming what was promised and what came.
pub fn fits(value: &Value, schema: &Value, asked: ErrorContext<'_>) -> Result<(), Failure> {
    let (host, what) = (host_of(asked.url), asked.what);
    let wrong = |promised: &str, came: &str| {
        Err(Failure::new(
            Class::WrongService,
            format!("{host} answers {what} with {came}, where its description promises {promised}"),
            "check that description and service belong together, or name another path in the policy: families: {openapi: {health_path: /v1/status}}",
        ))
    };
    let came = kind(value);
    let integer = came == "integer" && allows(schema, "number");
    if !allows(schema, came) && !integer {
        return wrong(&promised(&schema["type"]), came);
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
        return wrong(&format!("an object with {}", names.join(", ")), "an object that has none of its fields");
    }
    Ok(())
}

/// The promised type or types, for a person.
fn promised(kind: &Value) -> String {
    match kind {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        other => other.as_str().unwrap_or_default().to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
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
        json(&answer, ErrorContext { url: &url, what: "listPets", scopes: &["pets:read".into()], schemes: &["bearer".into()] })
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
    fn pages_and_cut_answers_do_not_pass() {
        assert_eq!(judge(200, &[("content-type", "text/html")], "<html>").unwrap_err().class, Class::WrongService);
        assert_eq!(judge(200, &[JSON], "<html>").unwrap_err().class, Class::WrongService);
        assert_eq!(judge(200, &[("content-type", "text/plain")], "ok").unwrap_err().class, Class::WrongService);
        assert_eq!(judge(200, &[JSON], "[{\"id\":1},{").unwrap_err().class, Class::Remote);
        assert_eq!(judge(200, &[JSON], "").unwrap_err().class, Class::Remote);
    }

    #[test]
    fn a_denial_names_the_scope_and_the_words_of_the_service() {
        let failure = judge(403, &[JSON], r#"{"error":{"message":"needs role reader"}}"#).unwrap_err();
        assert!(failure.fix.contains("pets:read"), "{}", failure.fix);
        assert_eq!(failure.detail, "HTTP 403; needs role reader");
    }

    #[test]
    fn a_redirect_to_another_host_is_named() {
        let failure = judge(302, &[("location", "https://login.example/sso?x=y")], "").unwrap_err();
        assert_eq!(failure.class, Class::EgressRefused);
        assert!(failure.title.contains("login.example") && !failure.title.contains("x=y"), "{}", failure.title);
    }

    #[test]
    fn another_kind_of_answer_does_not_fit() {
        let url = Url::parse("https://a.example/").unwrap();
        let asked = ErrorContext { url: &url, what: "x", scopes: &[], schemes: &[] };
        let pet = json!({"type": "object", "required": ["id"], "properties": {"id": {}, "name": {}}});
        assert!(fits(&json!({"name": 1}), &pet, asked).is_ok());
        assert!(fits(&json!({"ok": true}), &pet, asked).is_err());
        assert!(fits(&json!({}), &pet, asked).is_err());
        assert!(fits(&json!([]), &pet, asked).is_err());
        assert!(fits(&json!(3), &json!({"type": "number"}), asked).is_ok());
        assert!(fits(&json!({"any": 1}), &json!({}), asked).is_ok());
    }
}
