//! What the interpreter needs from outside. In the daemon the host is the egress layer; in a test it is a script.
//!
//! Everything that crosses this seam is plain data: one request type, one response type, one error type.

use super::value::Value;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Why a request is made. The host decides by it which POSTs it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Reads data.
    Data,
    /// Gets an access token.
    Token,
}

/// One HTTP request as it goes out.
#[derive(Clone, Debug)]
pub struct HostRequest {
    pub purpose: Purpose,
    /// The manifest's method in upper case: GET, HEAD, POST, …
    pub method: String,
    /// Complete and encoded, query included.
    pub url: String,
    /// In order; names as the manifest writes them. Values may be secret.
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// The stream that the request is made for; for the log. Empty if there is none.
    pub stream: String,
    /// The manifest puts a secret into the URL, where logs of servers and proxies show it.
    /// A host may refuse such a request.
    pub secret_in_url: bool,
}

impl HostRequest {
    /// The first header called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// One HTTP response. What its status means is decided by the manifest's error handler.
#[derive(Clone, Debug)]
pub struct HostResponse {
    pub status: u16,
    /// In order; names as the server sent them.
    pub headers: Arc<[(String, String)]>,
    pub body: Bytes,
    /// The URL that answered, after redirects.
    pub url: String,
}

impl HostResponse {
    /// The first header called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// The first header called `name`, in any case.
pub(crate) fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Why the host has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    pub kind: HostErrorKind,
    /// One sentence for people.
    pub message: String,
    /// What the host itself knows about the failure. The interpreter hands it back unchanged, in
    /// [`Failed`](super::error::Failed), when the error ends the command.
    pub failure: Option<Box<HostFailure>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostErrorKind {
    /// The network failed. The manifest's error handler decides whether the request is sent again.
    Network,
    /// The host does not send this: a read-only guard, an address guard, a budget or a bound forbids it.
    /// Ends the command.
    Refused,
}

/// A failure in the host's own terms, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFailure {
    /// The host's name for this class of failure.
    pub class: String,
    /// One line: what happened and to what.
    pub title: String,
    /// What a person does about it.
    pub fix: String,
    /// The message of the source, quoted. May be empty.
    pub detail: String,
    /// How long to wait before the next try, where that is known.
    pub retry_after: Option<Duration>,
}

impl HostError {
    /// The network failed.
    #[must_use]
    pub fn network(message: impl Into<String>) -> HostError {
        HostError { kind: HostErrorKind::Network, message: message.into(), failure: None }
    }

    /// The host does not send the request.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> HostError {
        HostError { kind: HostErrorKind::Refused, message: message.into(), failure: None }
    }

    /// Adds what the host knows about the failure.
    #[must_use]
    pub fn with_failure(mut self, failure: HostFailure) -> HostError {
        self.failure = Some(Box::new(failure));
        self
    }
}

/// The outside of the interpreter.
pub trait Host: Send + Sync {
    /// Sends one request.
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>>;

    /// The current wall time, for `now_utc()` and the expiry of tokens.
    fn now(&self) -> Timestamp;

    /// Waits, or refuses to wait that long: the daemon ends the attempt and retries later instead of sleeping.
    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>>;

    /// A random UUID, for `generate_uuid()`.
    fn uuid(&self) -> String;

    /// A single-use refresh token was replaced; `config` is the config with the new tokens in it. If it is lost, the
    /// account is locked out, so a host with a vault overrides this. The run keeps it too: see `Run::tokens`.
    fn rotated(&self, config: &Value) {
        let _ = config;
    }
}
