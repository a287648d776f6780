//! Whether the body of a response is in the format that its reader needs. Pure.

use super::errors::{ErrorContext, ResponseView, call, header, vendor_message};
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde_json::Value;

/// Returns the failure for a successful response whose body is not the JSON that its reader needs, or `None` if it is
/// JSON, or if the status is 204, which has no body.
#[must_use]
pub fn not_json(response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let ErrorContext { title, base_url, .. } = context;
    let body = response.body.trim_ascii();
    if !(200..300).contains(&response.status) || response.status == 204 {
        return None;
    }
    let (class, found) = match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => return None,
        Err(_) if body.is_empty() => (Class::Remote, "an empty body"),
        Err(_) if is_html(response) => (Class::WrongService, "an HTML page"),
        Err(error) if error.is_eof() => (Class::Remote, "truncated JSON"),
        Err(_) => (Class::WrongService, "text that is not JSON"),
    };
    let fix = match class {
        Class::WrongService => {
            format!(
                "correct {base_url}; if it is correct, check whether a sign-in page, a portal or a proxy answers in place of the API"
            )
        }
        _ => format!("AAM retries automatically; if this happens again, check {base_url} and whether a proxy cuts responses"),
    };
    let failure = Failure::new(class, format!("{} answered with {found} instead of the JSON of {title}", call(response)), fix);
    Some(failure.detail(redact::scrub(&vendor_message(None, response, &Value::Null, title))))
}

/// Returns the failure for a response that does not have the list in which its records would be. `message` says which one,
/// and `call` is the call that was answered, if it is known.
#[must_use]
pub fn no_list(call: Option<&str>, message: &str, context: &ErrorContext<'_>) -> Failure {
    let ErrorContext { title, base_url, stream, resource, .. } = context;
    let stream = super::open::named(stream);
    let detail = call.map(|call| format!("see the response of {call}")).unwrap_or_default();
    let (class, fix) = match context.proven {
        true => (
            Class::Remote,
            format!(
                "AAM retries automatically; if this happens again, check whether this version of the API of {title} differs, or a proxy answers in its place ({base_url})"
            ),
        ),
        false => (
            Class::WrongService,
            format!(
                "if this is not the API of {title}, correct {base_url}; if it is, check whether a proxy or a portal answers in its place"
            ),
        ),
    };
    let title = format!("the response of {title} for {stream} of {resource} is not in its format: {message}");
    Failure::new(class, title, fix).detail(detail)
}

/// Returns the failure for a successful response that is an HTML page although the stream needs another format, or `None`.
#[must_use]
pub fn html_page(response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let is_page = (200..300).contains(&response.status) && begins_like_html(response.body);
    is_page.then(|| {
        let title = format!("{} answered with an HTML page instead of the data of {}", call(response), context.title);
        let fix = format!(
            "correct {}; if it is correct, check whether a sign-in page, a portal or a proxy answers in place of the API",
            context.base_url
        );
        let detail = vendor_message(None, response, &Value::Null, context.title);
        Failure::new(Class::WrongService, title, fix).detail(redact::scrub(&detail))
    })
}

/// Returns true if the response is a page for people.
pub(super) fn is_html(response: &ResponseView<'_>) -> bool {
    header(response, "content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
        || begins_like_html(response.body)
}

pub(super) fn begins_like_html(body: &[u8]) -> bool {
    let begin: Vec<u8> = body.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect();
    begin.starts_with(b"<!doctype html") || begin.starts_with(b"<html")
}
