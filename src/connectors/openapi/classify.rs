//! Classifies an HTTP response as a success or as a failure that quotes the message of the service.

use super::address::{host_of, same_origin};
use super::operations::is_json;
use super::parse::{self, ResponseProblem};
use super::schema::allows;
use super::settings::ServiceSettings;
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
    /// What the policy says about the service, for the fixes.
    pub settings: &'a ServiceSettings,
}

/// Returns the JSON body of a successful response.
///
/// # Errors
/// A failure of the matching class for every other status, for a web page or nothing instead of data, and for JSON that is
/// not valid or exceeds a limit of AAM.
pub fn parse_json(answer: &HttpResponse, context: ErrorContext<'_>) -> Result<Value, Failure> {
    check_status(answer, context)?;
    let (host, what) = (host_of(context.url), context.what);
    let media = answer.header("content-type").unwrap_or_default();
    let text = String::from_utf8_lossy(&answer.body);
    let xml = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let xml = !xml.contains("html") && (xml.ends_with("/xml") || xml.ends_with("+xml"));
    let page = media.to_ascii_lowercase().contains("html") || (!xml && text.trim_start().starts_with('<'));
    let wrong = |found: &str, fix: String| {
        Failure::new(Class::WrongService, format!("{host} returned {found} for {what}, not JSON"), fix)
    };
    if text.trim().is_empty() {
        let fix = format!("to check an operation that returns data, {}", context.settings.fix(OTHER_PATH));
        return Err(wrong("an empty response", fix).detail(format!("HTTP {}", answer.status)));
    }
    if page {
        let fix = "a sign-in page, a proxy or a portal may be responding in place of the service: check the URL and that this machine reaches the service itself";
        return Err(wrong("a web page", fix.to_string()));
    }
    let parsed = parse::parse_response(&text);
    // Some services send JSON as text/plain. A text that is not a list or an object is not taken for data.
    if !is_json(media) && !parsed.as_ref().is_ok_and(|value| value.is_object() || value.is_array()) {
        let found = if media.is_empty() { "a response without a content type".to_string() } else { scrub_and_cut(media) };
        return Err(wrong(&found, format!("to check an operation that returns JSON, {}", context.settings.fix(OTHER_PATH))));
    }
    let bytes = answer.body.len();
    let remote = |problem: &str| {
        let title = format!("{host} returned JSON for {what} that {problem}");
        Failure::new(Class::Remote, title, "ask the owner of the service; AAM retries automatically")
    };
    parsed.map_err(|problem| match problem {
        ResponseProblem::EndsEarly(message) => remote("is truncated").detail(format!("{message}; {bytes} bytes")),
        ResponseProblem::Invalid(message) => remote("is not valid").detail(format!("{message}; {bytes} bytes")),
        ResponseProblem::TooDeep => Failure::new(
            Class::Unsupported,
            format!("{host} returned JSON for {what} that is nested deeper than 127 levels, which is a limit of AAM"),
            format!("to check another operation, {}", context.settings.fix(OTHER_PATH)),
        ),
    })
}

/// The setting that names another path, in fixes.
pub const OTHER_PATH: &str = "health_path: /v1/status";

/// Checks only the status.
///
/// # Errors
/// A failure of the matching class for every status except 2xx.
pub fn check_status(answer: &HttpResponse, context: ErrorContext<'_>) -> Result<(), Failure> {
    let ErrorContext { url, what, scopes, schemes, settings } = context;
    let host = host_of(url);
    let path = url.path();
    let scopes = if scopes.is_empty() { String::new() } else { format!(" (the description requires {})", scopes.join(", ")) };
    let failure = match answer.status {
        200..=299 => return Ok(()),
        301 | 302 | 303 | 307 | 308 => return Err(redirect(answer, context)),
        code @ 300..=399 => Failure::new(
            Class::Remote,
            format!("{host} answered {code} for {what}, which is not a response with data"),
            "check the URL in resource_ids, and whether a proxy or cache answers in place of the service",
        ),
        401 if schemes.is_empty() => Failure::new(
            Class::CredentialMissing,
            format!("{host} requires a credential for {what}{scopes}, but AAM has none"),
            "name a credential with credential_locator, for example env:SERVICE_TOKEN",
        ),
        401 => Failure::new(
            Class::CredentialRejected,
            format!("{host} rejected the credential for {what} (sent as {})", schemes.join(" and ")),
            format!(
                "store a valid credential where credential_locator points; AAM reads it again at every attempt; if it is for another scheme of the description, write it as JSON: {{\"<scheme>\": \"...\"}}. If the service expects it in another header, {}",
                settings.fix("auth: {header: X-Api-Key}")
            ),
        ),
        403 if schemes.is_empty() => Failure::new(
            Class::PermissionDenied,
            format!("{host} does not allow {what} without a credential{scopes}"),
            "name a credential with credential_locator, for example env:SERVICE_TOKEN",
        ),
        403 => Failure::new(
            Class::PermissionDenied,
            format!("this credential does not have permission for {what} at {host}{scopes}"),
            format!("grant the credential read-only access to GET {path}{scopes}"),
        ),
        404 | 410 => Failure::new(
            Class::NotFound,
            format!("{host} answered {} for GET {path} ({what}), although the description lists it", answer.status),
            format!(
                "check that the description and the service have the same version; to check another path, {}",
                settings.fix(OTHER_PATH)
            ),
        ),
        code @ (429 | 503) if code == 429 || answer.header("retry-after").is_some() => {
            Failure::new(Class::Throttled, format!("{host} rate limited {what}"), "nothing to do: AAM retries automatically")
                .after(retry_after(answer))
        }
        400 | 422 => Failure::new(
            Class::Misconfigured,
            format!("{host} rejected the request for {what} as invalid"),
            format!("name a path that needs no parameters: {}", settings.fix(OTHER_PATH)),
        ),
        code @ 400..=499 => Failure::new(
            Class::Misconfigured,
            format!("{host} answered {code} for {what}"),
            format!(
                "ask the owner of the service why GET {path} is refused; to check another path, {}",
                settings.fix(OTHER_PATH)
            ),
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
        Some(target) if !same_origin(&target, &answer.url) => {
            let origin = |url: &Url| match url.origin().is_tuple() {
                true => url.origin().ascii_serialization(),
                false => format!("a {}: address", url.scheme()),
            };
            let (here, there) = (origin(&answer.url), origin(&target));
            // A service moves to a name, and not from an encrypted address to a plain one.
            let named = target.domain().is_some() || target.host() == answer.url.host();
            let may_be_service = named && (target.scheme() == "https" || target.scheme() == answer.url.scheme());
            let fix = if may_be_service {
                format!(
                    "if that is a sign-in page, the call needs another credential; if the service has moved, write {there} into resource_ids, or {}",
                    context.settings.fix(&format!("base_url: \"{there}\""))
                )
            } else {
                format!("ask the operator of {here} why it redirects there; a service does not move to such an address")
            };
            let title = format!("{here} redirects {what} to {there}; AAM does not send the credential there");
            Failure::new(Class::EgressRefused, title, fix)
        }
        Some(_) => Failure::new(
            Class::Remote,
            format!("{host} redirects {what} to a URL that contains a user name"),
            "ask the owner of the service to correct the redirect",
        ),
        None => Failure::new(
            Class::Remote,
            format!("{host} answered {} for {what} without a valid Location", answer.status),
            "check the URL in resource_ids, and ask the owner of the service to correct the redirect",
        ),
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
    let Some((expected, actual)) = mismatch(value, schema) else { return Ok(()) };
    let (host, what) = (host_of(context.url), context.what);
    Err(Failure::new(
        Class::WrongService,
        format!("{host} returned {actual} for {what}, but its description promises {expected}"),
        format!(
            "check that the description belongs to this service; to check another path, {}",
            context.settings.fix(OTHER_PATH)
        ),
    ))
}

/// What the schema promises and what the value is instead. Returns `None` if the value fits.
fn mismatch(value: &Value, schema: &Value) -> Option<(String, &'static str)> {
    let branches = ["oneOf", "anyOf"].iter().filter_map(|name| schema[*name].as_array()).flatten();
    if branches.into_iter().any(|branch| mismatch(value, branch).is_none()) {
        return None;
    }
    let actual = json_type(value);
    let integer = actual == "integer" && allows(schema, "number");
    // Several languages write an empty list as null.
    let empty_list = value.is_null() && allows(schema, "array");
    if !allows(schema, actual) && !integer && !empty_list {
        return Some((expected_type(&schema["type"]), actual));
    }
    let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty())?;
    let object = value.as_object()?;
    let required = schema["required"].as_array().is_some_and(|list| !list.is_empty());
    if !object.keys().any(|name| properties.contains_key(name)) && (required || !object.is_empty()) {
        let names: Vec<&str> = properties.keys().take(5).map(String::as_str).collect();
        return Some((format!("an object with {}", names.join(", ")), "an object without any of these fields"));
    }
    None
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
            ErrorContext {
                url: &url,
                what: "listPets",
                scopes: &["pets:read".into()],
                schemes: &["bearer".into()],
                settings: &ServiceSettings::default(),
            },
        )
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn every_status_has_its_class() {
        for (code, class) in [
            (401, Class::CredentialRejected),
            (403, Class::PermissionDenied),
            (404, Class::NotFound),
            (410, Class::NotFound),
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
        let title = |body: &str| judge(200, &[JSON], body).unwrap_err().title;
        assert!(title("").contains("an empty response") && title("[{\"id\":1},{").contains("is truncated"));
        assert!(title("[1,]").contains("is not valid"));
        assert_eq!(judge(200, &[JSON], "").unwrap_err().class, Class::WrongService);
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let failure = judge(200, &[JSON], &deep).unwrap_err();
        assert_eq!(failure.class, Class::Unsupported);
        assert!(failure.title.contains("which is a limit of AAM"), "{}", failure.title);
    }

    #[test]
    fn one_odd_value_does_not_lose_the_response() {
        for body in [r#"[{"a":1e400}]"#, r#"[{"a":"\ud800"}]"#, r#"[{"a":123456789012345678901234567890}]"#, "[{\"a\":NaN}]"] {
            assert!(judge(200, &[JSON], body).is_ok(), "{body}");
        }
        let text = ("content-type", "text/plain");
        assert_eq!(judge(200, &[text], "[1]"), Ok(json!([1])));
        assert_eq!(judge(200, &[text], "ok").unwrap_err().class, Class::WrongService);
    }

    #[test]
    fn a_denial_names_the_scope_and_quotes_the_service() {
        let failure = judge(403, &[JSON], r#"{"error":{"message":"needs role reader"}}"#).unwrap_err();
        assert!(failure.fix.contains("pets:read"), "{}", failure.fix);
        assert_eq!(failure.detail, "HTTP 403; the service said: \"needs role reader\"");
    }

    #[test]
    fn texts_do_not_say_more_than_the_response() {
        for code in [402, 405, 409, 418, 451] {
            let failure = judge(code, &[JSON], "{}").unwrap_err();
            assert!(failure.title.contains(&format!("answered {code}")), "{failure:?}");
            assert!(!failure.fix.contains("needs no parameters"), "{failure:?}");
        }
        for code in [301, 304] {
            let failure = judge(code, &[], "").unwrap_err();
            assert!(failure.title.contains(&format!("answered {code}")), "{failure:?}");
            assert!(!failure.title.contains("redirects"), "{failure:?}");
        }
        let failure = judge(200, &[("content-type", "application/xml; charset=utf-8")], "<items/>").unwrap_err();
        assert!(failure.title.contains("returned application/xml"), "{failure:?}");
        let failure = judge(200, &[("content-type", "application/xhtml+xml")], "<html/>").unwrap_err();
        assert!(failure.title.contains("a web page"), "{failure:?}");
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
        let settings = ServiceSettings::default();
        let context = ErrorContext { url: &url, what: "x", scopes: &[], schemes: &[], settings: &settings };
        let pet = json!({"type": "object", "required": ["id"], "properties": {"id": {}, "name": {}}});
        assert!(check_shape(&json!({"name": 1}), &pet, context).is_ok());
        assert!(check_shape(&json!({"ok": true}), &pet, context).is_err());
        assert!(check_shape(&json!({}), &pet, context).is_err());
        assert!(check_shape(&json!([]), &pet, context).is_err());
        assert!(check_shape(&json!(3), &json!({"type": "number"}), context).is_ok());
        assert!(check_shape(&json!({"any": 1}), &json!({}), context).is_ok());
        assert!(check_shape(&json!(null), &json!({"type": "array"}), context).is_ok());
        assert!(check_shape(&json!(null), &pet, context).is_err());
        let either = json!({"type": ["array", "object"], "properties": {"e": {}}, "oneOf": [
            {"type": "object", "properties": {"e": {}}}, {"type": "array"}, {"type": "object", "additionalProperties": true}
        ]});
        for value in [json!([]), json!({"e": 1}), json!({"other": 1})] {
            assert!(check_shape(&value, &either, context).is_ok(), "{value}");
        }
        assert!(check_shape(&json!("x"), &either, context).is_err());
    }
}
