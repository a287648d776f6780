//! The error message of a failed response, extracted and formatted like the CDK's `JsonErrorMessageParser` and `HttpClient`.

use crate::response::Response;
use crate::value::Value;

/// The maximum number of characters of a body that a message contains.
pub const MAX_SHOWN_CHARS: usize = 2_000;

/// The keys that may contain an error message, in the order of `json_error_message_parser.py`.
const KEYS: &[&str] = &[
    "message",
    "messages",
    "error",
    "errors",
    "failures",
    "failure",
    "detail",
    "err",
    "error_message",
    "msg",
    "reason",
    "status_message",
];

/// Returns the error message of a response, or `None` if the body does not contain one.
#[must_use]
pub fn error_message(response: &Response) -> Option<String> {
    match response.json() {
        Some(body) => message_in(body),
        None => std::str::from_utf8(response.content()).ok().map(str::to_owned),
    }
}

/// The recursion is as deep as the response, whose depth is bounded when it is read.
fn message_in(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        Value::List(items) => Some(items.iter().filter_map(message_in).collect::<Vec<_>>().join(", ")),
        Value::Dict(dict) => {
            // The last key is used even if its value is falsy.
            let found = KEYS.iter().filter_map(|key| dict.get(*key)).find(|it| it.truthy());
            found.or_else(|| dict.get("status_message")).and_then(message_in)
        }
        _ => None,
    }
}

/// Returns the body as messages show it: `str(response.json())`, or the text if the body is not JSON.
#[must_use]
pub fn body(response: &Response) -> String {
    let text = match response.json() {
        Some(value) => value.to_str(),
        None => std::str::from_utf8(response.content())
            .map_or_else(|_| "The Content of the Response couldn't be decoded.".to_owned(), str::to_owned),
    };
    cut(&text)
}

/// Returns the first [`MAX_SHOWN_CHARS`] characters.
#[must_use]
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}
