//! The meaning of a status that the manifest does not define: `DEFAULT_ERROR_MAPPING` of
//! `streams/http/error_handlers/default_error_mapping.py`, and the fallback of `response_models.py`.

use super::message;
use super::resolution::{Action, Outcome, Resolution};
use crate::error::FailureType::{self, ConfigError, SystemError, TransientError};
use crate::response::Response;

type Row = (u16, Action, FailureType, &'static str);

const ROWS: &[Row] = &[
    (400, Action::Fail, SystemError, "Bad request. Please check your request parameters."),
    (401, Action::Fail, ConfigError, "Unauthorized. Please ensure you are authenticated correctly."),
    (403, Action::Fail, ConfigError, "Forbidden. You don't have permission to access this resource."),
    (404, Action::Fail, SystemError, "Not found. The requested resource was not found on the server."),
    (405, Action::Fail, SystemError, "Method not allowed. Please check your request method."),
    (408, Action::Retry, TransientError, "Request timeout."),
    (429, Action::RateLimited, TransientError, "Too many requests."),
    (500, Action::Retry, TransientError, "Internal server error."),
    (502, Action::Retry, TransientError, "Bad gateway."),
    (503, Action::Retry, TransientError, "Service unavailable."),
    (504, Action::Retry, TransientError, "Gateway timeout."),
];

/// Returns the decision that the mapping contains for a status.
pub(super) fn by_status(status: u16) -> Option<Resolution> {
    let (_, action, kind, text) = ROWS.iter().find(|(code, ..)| *code == status)?;
    let message = format!("HTTP Status Code: {status}. Error: {text}");
    Some(Resolution { action: *action, failure_type: Some(*kind), message: Some(message) })
}

fn by_class(class: &str) -> Option<Resolution> {
    let (action, kind, text) = match class {
        "InvalidSchema" => (
            Action::Fail,
            ConfigError,
            "Invalid Protocol Schema: The endpoint that data is being requested from is using an invalid or insecure.",
        ),
        "InvalidURL" => (
            Action::Retry,
            TransientError,
            "Invalid URL specified or DNS error occurred: The endpoint that data is being requested from is not a valid URL.",
        ),
        "RequestException" => (Action::Retry, TransientError, "An exception occurred when making the request."),
        _ => return None,
    };
    let message = format!("{text} Exception: requests.exceptions.{class}");
    Some(Resolution { action, failure_type: Some(kind), message: Some(message) })
}

/// Returns the decision if no filter of the manifest made one.
pub(super) fn by_default(outcome: Outcome<'_>) -> Resolution {
    let mapped = match outcome {
        Outcome::Response(response) => by_status(response.status()),
        Outcome::Exception { class, .. } => by_class(class),
    };
    mapped.unwrap_or_else(|| {
        let message = match outcome {
            Outcome::Exception { class, message } => format!("{class}: {message}"),
            Outcome::Response(response) if response.ok() => {
                format!("Unexpected response with HTTP status {}", response.status())
            }
            Outcome::Response(response) => {
                let text = response.text();
                let cut: String = text.chars().take(message::MAX_SHOWN_CHARS).collect();
                format!("Response was not ok: `{}`. Response content is: {cut}", http_error(response))
            }
        };
        Resolution { action: Action::Retry, failure_type: Some(SystemError), message: Some(message) }
    })
}

/// Returns the message of `raise_for_status` in the package `requests`. It contains the standard reason phrase,
/// because a host does not pass on the one that the server sent.
#[must_use]
pub fn http_error(response: &Response) -> String {
    let status = response.status();
    let side = if status < 500 { "Client" } else { "Server" };
    format!("{status} {side} Error: {} for url: {}", reason(status), response.url())
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a Teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
