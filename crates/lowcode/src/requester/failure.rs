//! The errors of a failed request, with the messages of `HttpClient`.

use super::Requester;
use crate::context::Run;
use crate::error::{Failed, FailureType};
use crate::errors::{Action, Outcome, Resolution, message};
use crate::host::HostRequest;
use crate::response::Response;
use crate::value::Value;

const TRACED: &str = "AirbyteTracedException";

impl Requester {
    /// The failure for a response for which the error handler decided FAIL.
    pub(super) fn failed(&self, run: &Run<'_>, request: &HostRequest, outcome: Outcome<'_>, resolution: &Resolution) -> Failed {
        let (method, url) = (&self.method, &request.url);
        let internal = match outcome {
            Outcome::Response(response) => {
                let text = message::error_message(response).map_or_else(|| "None".to_owned(), |it| message::cut(&it));
                let sent = sent_body(request);
                format!(
                    "'{method}' request to '{url}' failed with status code '{}' and error message: '{text}'. \
                     Request (body): '{}'. Response (body): '{}'. Response (headers): '{}'.",
                    response.status(),
                    message::cut(&sent),
                    message::body(response),
                    response.headers_value().repr()
                )
            }
            Outcome::Exception { class, message } => {
                format!("'{method}' request to '{url}' failed with exception: '{class}: {message}'")
            }
        };
        let internal = run.secrets.mask(&internal);
        let text = resolution.message.as_ref().map_or_else(|| internal.clone(), |it| run.secrets.mask(it));
        let mut failed = Failed::new(resolution.failure_type.unwrap_or(FailureType::SystemError), TRACED, text);
        failed.internal = Some(internal);
        self.with_outcome(run, failed, outcome)
    }

    /// The failure if no try is left, or if the host refuses to wait for another one.
    pub(super) fn exhausted(
        &self,
        run: &Run<'_>,
        request: &HostRequest,
        outcome: Outcome<'_>,
        resolution: &Resolution,
    ) -> Failed {
        let kind = match resolution.failure_type {
            Some(FailureType::SystemError) => "FailureType.system_error",
            Some(FailureType::ConfigError) => "FailureType.config_error",
            Some(FailureType::TransientError) => "FailureType.transient_error",
            None => "None",
        };
        let text = resolution.message.clone().unwrap_or_else(|| {
            let (url, action) = (&request.url, resolution.action.as_str());
            format!("Request to {url} failed with failure type {kind}, response action ResponseAction.{action}.")
        });
        let text = run.secrets.mask(&text);
        let limited = matches!(outcome, Outcome::Response(response) if response.status() == 429);
        let mut failed = if limited {
            let mut failed = Failed::new(FailureType::TransientError, TRACED, "API rate limit exceeded.");
            failed.internal = Some(format!("Rate limit retry budget exhausted. Last exception: {text}"));
            failed
        } else {
            let message = format!("Exhausted available request attempts. Please see logs for more details. Exception: {text}");
            let mut failed = Failed::new(resolution.failure_type.unwrap_or(FailureType::SystemError), TRACED, message);
            failed.internal = Some(format!("Exhausted available request attempts. Exception: {text}"));
            failed
        };
        failed = self.with_outcome(run, failed, outcome);
        failed
    }

    /// The failure for a control action, which the retriever handles.
    pub(super) fn signal(&self, run: &Run<'_>, class: &'static str, resolution: &Resolution, outcome: Outcome<'_>) -> Failed {
        let text = resolution.message.clone().unwrap_or_else(|| format!("Stream '{}': {class}", self.name));
        let mut failed = Failed::new(resolution.failure_type.unwrap_or(FailureType::SystemError), class, run.secrets.mask(&text));
        if resolution.action == Action::ReducePageSize {
            // Only what the error handler says about the response, if it says anything.
            failed.internal = resolution.message.as_ref().map(|it| run.secrets.mask(it));
        }
        self.with_outcome(run, failed, outcome)
    }

    /// Stores the response next to the message, so that the caller can classify the failure.
    pub(super) fn with_outcome(&self, run: &Run<'_>, mut failed: Failed, outcome: Outcome<'_>) -> Failed {
        if let Outcome::Response(response) = outcome {
            let (body, headers) = shown(response);
            failed.status = Some(response.status());
            failed.body = Some(run.secrets.mask(&body));
            failed.headers = headers;
        }
        failed
    }
}

/// Returns the body of the request as Python shows it: JSON is sent as bytes, and everything else as text.
fn sent_body(request: &HostRequest) -> String {
    let Some(body) = &request.body else { return "None".to_owned() };
    if request.header("Content-Type") != Some("application/json") {
        return String::from_utf8_lossy(body).into_owned();
    }
    let quote = if body.contains(&b'\'') && !body.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for byte in body {
        match char::from(*byte) {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char == quote => out.extend(['\\', char]),
            char if char.is_ascii_graphic() || char == ' ' => out.push(char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

/// Returns at most 2,000 bytes of the body, and the headers.
fn shown(response: &Response) -> (String, Vec<(String, String)>) {
    let bytes = response.content();
    let cut = bytes.get(..bytes.len().min(message::MAX_SHOWN_CHARS)).unwrap_or_default();
    (String::from_utf8_lossy(cut).into_owned(), response.headers().to_vec())
}

/// Returns the exception that the package `requests` raises for a URL whose scheme is not http.
pub(super) fn no_adapter(url: &str) -> String {
    format!("No connection adapters were found for {}", Value::str(url).repr())
}
