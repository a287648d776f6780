//! The error message of a failed response, as the CDK's `JsonErrorMessageParser` and `HttpClient` find and show them.

use crate::response::Response;
use crate::value::Value;

/// Characters of a body that a message may carry.
pub const MAX_SHOWN_CHARS: usize = 2_000;

/// The keys of an error message, in the order of `json_error_message_parser.py`.
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

/// The error message of an answer; nothing where a JSON body has none.
#[must_use]
pub fn error_message(response: &Response) -> Option<String> {
    match response.json() {
        Some(body) => message_in(body),
        None => std::str::from_utf8(response.content()).ok().map(str::to_owned),
    }
}

/// The depth of recursion is that of the answer, which is bounded when it is read.
fn message_in(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        Value::List(items) => Some(items.iter().filter_map(message_in).collect::<Vec<_>>().join(", ")),
        Value::Dict(dict) => {
            // The last key counts even where its value is falsy.
            let found = KEYS.iter().filter_map(|key| dict.get(*key)).find(|it| it.truthy());
            found.or_else(|| dict.get("status_message")).and_then(message_in)
        }
        _ => None,
    }
}

/// The body as a message shows it: `str(response.json())`, else the text.
#[must_use]
pub fn body(response: &Response) -> String {
    let text = match response.json() {
        Some(value) => value.to_str(),
        None => std::str::from_utf8(response.content())
            .map_or_else(|_| "The Content of the Response couldn't be decoded.".to_owned(), str::to_owned),
    };
    cut(&text)
}

/// The first [`MAX_SHOWN_CHARS`] characters.
#[must_use]
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}
