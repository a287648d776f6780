//! Turns an error response into a failure, by the family's error rules first and then by the HTTP status. Pure.

pub use super::body_format::{html_page, no_list, not_json};
pub use super::hidden_error::{hidden, not_in_form};

use super::body_excerpt::{excerpt, shape};
use super::body_format::{begins_like_html, is_html};
use super::challenge;
use super::family_spec::{Errors, Rule};
use super::privilege::fits as fits_glob;
use crate::credentials::redact;
use crate::egress::named_wait;
use crate::model::{Class, Failure};
use ::lowcode::bounds::Bounds;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The parts of a response that classification uses.
pub struct ResponseView<'a> {
    pub method: &'a str,
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
    /// The stream for which the request was made.
    pub stream: &'a str,
    /// Whether an earlier response of this attempt proved the identity of the resource.
    pub proven: bool,
    /// Where the base address of the calls is configured, as people read it.
    pub base_url: &'a str,
    /// The kind of the resource; empty for custom sources.
    pub kind: &'a str,
    /// The parts of the resource id, which the texts of a rule may contain.
    pub parts: &'a BTreeMap<String, String>,
    /// The name of the authentication method; empty for custom sources.
    pub auth: &'a str,
}

/// The maximum number of characters of a vendor's message; longer messages are cut.
const MAX_MESSAGE_CHARS: usize = 400;
/// The maximum number of characters of a text that a rule takes from a response.
const MAX_CAPTURED_CHARS: usize = 120;

/// Returns the failure that `response` stands for, or `None` if the response is data.
#[must_use]
pub fn classify(errors: Option<&Errors>, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let rules = rules_for(errors, response, context);
    if rules.is_empty() && response.status < 300 {
        return None;
    }
    let body = parsed(response);
    let rule = rules.into_iter().find(|rule| fits_body(rule, response, &body));
    // A text that only this vendor writes shows who answered, whatever the format.
    let known = rule.is_some_and(|rule| rule.text_pattern.is_some());
    let foreign = !context.proven && response.status >= 400 && !known && !is_vendor_format(errors, response, &body);
    if foreign && is_about_the_address(response.status) {
        return Some(foreign_response(response, context));
    }
    let failure = match rule {
        Some(rule) => by_rule(rule, errors, response, &body, context),
        None if response.status >= 300 => by_status(errors, response, &body, context),
        None => return None,
    };
    Some(match failure.class {
        Class::CredentialRejected | Class::PermissionDenied if foreign => {
            let fix = format!(
                "{}; this response is not in the format of {}, so also check {}",
                failure.fix, context.title, context.base_url
            );
            Failure { fix, ..failure }
        }
        _ => failure,
    })
}

/// Returns the failure of the family's rule for `response`, or `None` if no rule matches.
#[must_use]
pub fn by_rules(errors: Option<&Errors>, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let body = parsed(response);
    let rule = rules_for(errors, response, context).into_iter().find(|rule| fits_body(rule, response, &body))?;
    Some(by_rule(rule, errors, response, &body, context))
}

/// Returns true if the body speaks of a limit of calls.
#[must_use]
pub fn is_about_limits(response: &ResponseView<'_>) -> bool {
    let texts = ["rate limit", "ratelimit", "rate_limit", "quota", "too many", "throttl", "limit exceeded", "limit_exceeded"];
    says(response.body, &texts.map(str::to_string))
}

/// Returns the body as a value: JSON, or an XML document as `XmlDecoder` reads it (`/Response/Error/Code`). A body that is
/// neither is null, and so is a page for people.
pub(super) fn parsed(response: &ResponseView<'_>) -> Value {
    if let Ok(value) = serde_json::from_slice(response.body) {
        return value;
    }
    let text = std::str::from_utf8(response.body).ok().filter(|text| text.trim_start().starts_with('<'));
    let text = text.filter(|_| !begins_like_html(response.body));
    let document = text.and_then(|text| ::lowcode::decode::xml_document(text, &Bounds::default()));
    document.and_then(|value| serde_json::to_value(&value).ok()).unwrap_or(Value::Null)
}

/// Returns the missing permission that `response` names, or `None` if it is not a denial that names one.
#[must_use]
pub fn missing(errors: Option<&Errors>, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<String> {
    let body = parsed(response);
    let rule = rules_for(errors, response, context).into_iter().find(|rule| fits_body(rule, response, &body))?;
    let missing = missing_permission(rule, response, &body).filter(|_| class(&rule.class) == Some(Class::PermissionDenied))?;
    Some(if rule.alternatives && missing.contains(',') { format!("one of {missing}") } else { missing })
}

/// Returns the rules whose conditions hold as far as they do not concern the body. Most successful responses have none, and
/// their bodies are not parsed.
fn rules_for<'r>(errors: Option<&'r Errors>, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Vec<&'r Rule> {
    let rules = errors.map(|errors| errors.rules.as_slice()).unwrap_or_default();
    rules.iter().filter(|rule| fits_call(rule, response, context)).collect()
}

fn fits_call(rule: &Rule, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> bool {
    let header = |(name, texts): (&String, &Vec<String>)| {
        header(response, name).is_some_and(|value| texts.is_empty() || texts.iter().any(|text| value.contains(text.as_str())))
    };
    (rule.streams.is_empty() || rule.streams.iter().any(|glob| fits_glob(glob, context.stream)))
        && (rule.kinds.is_empty() || rule.kinds.iter().any(|kind| kind == context.kind))
        && rule.proven.is_none_or(|proven| proven == context.proven)
        && (rule.status.is_empty() || rule.status.contains(&response.status))
        && rule.header.iter().all(header)
        && (rule.hosts.is_empty() || host(response).is_some_and(|host| rule.hosts.iter().any(|glob| fits_glob(glob, &host))))
        && (rule.auth.is_empty() || rule.auth.iter().any(|name| name == context.auth))
}

fn fits_body(rule: &Rule, response: &ResponseView<'_>, body: &Value) -> bool {
    let value = |(pointer, values): (&String, &Vec<Value>)| match body.pointer(pointer) {
        None => false,
        // Many bodies have the field of an error in every response, and it is null in a success.
        Some(found) if values.is_empty() => !found.is_null(),
        Some(found) => values.contains(found),
    };
    rule.body.iter().all(value)
        && (rule.text.is_empty() || says(response.body, &rule.text))
        && rule.text_pattern.as_ref().is_none_or(|pattern| pattern.0.is_match(&String::from_utf8_lossy(response.body)))
}

/// Returns the host that answered, with the port if it is not the default one.
fn host(response: &ResponseView<'_>) -> Option<String> {
    super::address::host_of(&url::Url::parse(response.url).ok()?)
}

/// Returns what the named groups of the rule's pattern match, by their names.
fn captured(rule: &Rule, response: &ResponseView<'_>) -> BTreeMap<String, String> {
    let Some(pattern) = &rule.text_pattern else { return BTreeMap::new() };
    let body = String::from_utf8_lossy(response.body);
    let Some(captures) = pattern.0.captures(&body) else { return BTreeMap::new() };
    let named = pattern.0.capture_names().flatten().filter_map(|name| Some((name, captures.name(name)?.as_str())));
    named.map(|(name, text)| (name.to_string(), redact::scrub_and_cut(text, MAX_CAPTURED_CHARS))).collect()
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
    let missing = missing_permission(rule, response, body);
    let granted = named(&rule.granted, response, body);
    let mut parts: BTreeMap<String, String> = context.parts.clone();
    parts.extend(captured(rule, response));
    parts.insert("resource".to_string(), context.resource.to_string());
    parts.insert("stream".to_string(), context.stream.to_string());
    parts.insert("call".to_string(), call(response));
    parts.insert("missing".to_string(), missing.clone().unwrap_or_else(|| format!("({})", context.least_privilege)));
    parts.insert("granted".to_string(), granted.clone().unwrap_or_else(|| "nothing that was named".to_string()));
    let text = |text: &str| super::address::fill(text, &parts).unwrap_or_else(|_| text.to_string());
    let class = class(&rule.class).unwrap_or(Class::Remote);
    let mut detail = vendor_message(errors, response, body, context.title);
    for (what, value) in [("needed", missing), ("provided", granted)] {
        if let Some(value) = value {
            detail.push_str(&format!("; {what}: {value}"));
        }
    }
    for place in &rule.shown {
        if let Some(value) = named(std::slice::from_ref(place), response, body) {
            detail.push_str(&format!("; {}: {value}", place.trim_start_matches("header:")));
        }
    }
    let failure = Failure::new(class, text(&rule.title), text(&rule.fix)).detail(redact::scrub(&detail));
    match class {
        Class::Throttled => failure.after(named_wait(response.body).unwrap_or(Duration::from_secs(rule.wait.unwrap_or(60)))),
        _ => failure,
    }
}

/// Returns the missing permission as the response names it, in a field, a header or the group `missing` of the rule's pattern,
/// otherwise as the rule does.
fn missing_permission(rule: &Rule, response: &ResponseView<'_>, body: &Value) -> Option<String> {
    let known = Some(&rule.permission).filter(|permission| !permission.is_empty());
    let in_text = || captured(rule, response).remove("missing");
    named(&rule.missing, response, body).or_else(in_text).or_else(|| known.cloned())
}

/// Returns the first value found at one of `places`.
fn named(places: &[String], response: &ResponseView<'_>, body: &Value) -> Option<String> {
    places.iter().find_map(|place| {
        let text = match place.strip_prefix("header:") {
            Some(name) => in_header(response, name),
            None => match body.pointer(place)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
                _ => None,
            },
        }?;
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        (!text.is_empty()).then_some(text)
    })
}

/// Returns the header at `place`, which is `NAME`, or `NAME;PARAMETER` for one parameter of a challenge (RFC 9110, section
/// 11.6.1), for example the scope that `www-authenticate` names.
fn in_header(response: &ResponseView<'_>, place: &str) -> Option<String> {
    match place.split_once(';') {
        Some((name, parameter)) => challenge::parameter(header(response, name)?, parameter),
        None => header(response, place).map(str::to_string),
    }
}

/// Returns the failure for a response that no rule of the family matches, judged by its HTTP status.
fn by_status(errors: Option<&Errors>, response: &ResponseView<'_>, body: &Value, context: &ErrorContext<'_>) -> Failure {
    let ErrorContext { title, resource, least_privilege, stream, base_url, .. } = context;
    let stream = super::open::named(stream);
    let detail = vendor_message(errors, response, body, title);
    let failure = match response.status {
        // Some vendors use the status of a redirect for an error, with their own text and without an address.
        300..=399 if header(response, "location").is_none() => Failure::new(
            Class::Remote,
            format!("{title} does not accept this call ({})", response.status),
            "see the detail, which has the vendor's own text; AAM retries automatically",
        ),
        300..=399 => Failure::new(
            Class::WrongService,
            format!("{title} redirects this call to another address"),
            format!("write the final address into {base_url}"),
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
        404 | 410 if context.proven => Failure::new(
            Class::NotFound,
            format!("{title} answered {} for {stream} of {resource}", response.status),
            format!(
                "{resource} itself was found, so its resource id is correct: give the credential access to {stream} \
                 ({least_privilege}), or check that this version of the API has the path in the detail"
            ),
        ),
        404 | 410 => Failure::new(
            Class::NotFound,
            format!("{} answered {}", call(response), response.status),
            format!(
                "check {base_url}, the path of {stream}, and the resource id {resource}; if all are correct, the credential has no access"
            ),
        ),
        429 => {
            Failure::new(Class::Throttled, format!("rate limited by {title}"), "no action is required: AAM retries automatically")
                .after(Duration::from_secs(60))
        }
        status @ (408 | 500..) => Failure::new(
            Class::Remote,
            format!("{title} failed with {status}"),
            "AAM retries automatically; check the vendor's status page",
        ),
        status => Failure::new(
            Class::Remote,
            format!("{title} does not accept this call ({status})"),
            format!("see the detail; the API may have changed, or {base_url} may be wrong"),
        ),
    };
    failure.detail(redact::scrub(&detail))
}

/// Returns true if `status` can mean that the call went to a wrong address.
fn is_about_the_address(status: u16) -> bool {
    matches!(status, 400 | 404..=406 | 410 | 421 | 501)
}

/// Returns the JSON pointers to the vendor's own message.
fn message_places(errors: Option<&Errors>) -> &[String] {
    errors.map(|errors| errors.messages.as_slice()).unwrap_or_default()
}

/// Returns true if an error response may come from the vendor. The formats of custom sources are not known, so only a
/// response that is not JSON is foreign there.
fn is_vendor_format(errors: Option<&Errors>, response: &ResponseView<'_>, body: &Value) -> bool {
    match message_places(errors) {
        places if !places.is_empty() => {
            places.iter().any(|place| match (place.strip_prefix("header:"), place.strip_prefix("text:")) {
                (Some(name), _) => in_header(response, name).is_some(),
                (_, Some(beginning)) => plain_text(response, beginning).is_some(),
                _ => body.pointer(place).is_some(),
            })
        }
        _ => body.is_object() || body.is_array() || response.body.trim_ascii().is_empty(),
    }
}

/// Returns the failure for an error response that the vendor did not write.
fn foreign_response(response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Failure {
    let ErrorContext { title, base_url, .. } = context;
    let kind = match () {
        () if response.body.trim_ascii().is_empty() => "an empty body",
        () if is_html(response) => "an HTML page",
        () => "a response that is not in its format",
    };
    Failure::new(
        Class::WrongService,
        format!("{} answered {} with {kind}: this is not the API of {title}", call(response), response.status),
        format!("correct {base_url}; if it is correct, check whether a proxy or a portal answers in place of the API"),
    )
    .detail(redact::scrub(&vendor_message(None, response, &Value::Null, title)))
}

/// Returns method, scheme, host, port and path of the call, without the query, which may hold a secret.
pub(super) fn call(response: &ResponseView<'_>) -> String {
    let address = match url::Url::parse(response.url) {
        Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        Err(_) => "the address".to_string(),
    };
    redact::scrub(&format!("{} {address}", response.method)).into_owned()
}

/// Returns the call, the status and the vendor's own message in quotes.
pub(super) fn vendor_message(errors: Option<&Errors>, response: &ResponseView<'_>, body: &Value, title: &str) -> String {
    let places = message_places(errors);
    let at = |place: &String| match (place.strip_prefix("header:"), place.strip_prefix("text:")) {
        (Some(name), _) => in_header(response, name),
        (_, Some(beginning)) => plain_text(response, beginning),
        _ => plain(body.pointer(place)?),
    };
    let mut said: Vec<String> = places.iter().filter_map(at).collect();
    if said.is_empty() && places.is_empty() {
        said = ["/message", "/error", "/error/message", "/error_description", "/detail", "/errors/0/message", "/title"]
            .into_iter()
            .filter_map(|place| plain(body.pointer(place)?))
            .collect();
    }
    let answered = format!("{} answered {}", call(response), response.status);
    let said = redact::scrub_and_cut(&said.join(": "), MAX_MESSAGE_CHARS);
    if !said.is_empty() {
        return format!("{answered}; {title} said: \"{said}\"");
    }
    if (200..300).contains(&response.status)
        && let Some(shape) = shape(body, response.body)
    {
        return format!("{answered}; {shape}");
    }
    match excerpt(response.body) {
        begin if begin.is_empty() => answered,
        begin => format!("{answered}; the body begins: \"{begin}\""),
    }
}

/// Returns the body in one line if it is a text that begins with `beginning`.
fn plain_text(response: &ResponseView<'_>, beginning: &str) -> Option<String> {
    let text = std::str::from_utf8(response.body).ok()?.trim_start();
    text.starts_with(beginning).then(|| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns the call, the status and the message of the source, for a response of any vendor.
#[must_use]
pub fn summary(response: &ResponseView<'_>) -> String {
    let body = parsed(response);
    redact::scrub(&vendor_message(None, response, &body, "the source")).into_owned()
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn header<'a>(response: &ResponseView<'a>, name: &str) -> Option<&'a str> {
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
