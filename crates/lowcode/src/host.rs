//! What the interpreter needs from its environment. In the daemon the host is the egress layer; in a test it is a script.
//!
//! Everything that crosses this interface is plain data: one request type, one response type, one error type.

use super::value::Value;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Why a request is made. The host uses it to decide which POST requests it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The request reads data.
    Data,
    /// The request gets an access token.
    Token,
}

/// Why the interpreter waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The source asked for the wait in a header or a body, or the manifest calls the response a rate limit.
    Requested,
    /// The retries after a failure wait. The source did not ask for it.
    Retry,
    /// A job of the source is not complete. The interpreter looks at it again after the wait.
    Job,
    /// The manifest's `api_budget` allows no further request until the wait is over.
    Budget,
}

/// One HTTP request as it is sent.
#[derive(Clone, Debug)]
pub struct HostRequest {
    pub purpose: Purpose,
    /// The manifest's method in upper case, for example GET, HEAD or POST.
    pub method: String,
    /// The complete, encoded URL, including the query.
    pub url: String,
    /// Headers in the order in which they are sent, with names as the manifest writes them. Values may be secret.
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// The stream for which the request is made, used in the log. Empty if there is no such stream.
    pub stream: String,
    /// Whether the manifest puts a secret into the URL, where the logs of servers and proxies would show it. A host
    /// may refuse such a request.
    pub secret_in_url: bool,
    /// True if an equal request was sent just before and its response asks for another try. A host that uses a response
    /// for several equal requests sends this one.
    pub is_retry: bool,
    /// True if the reader of the response decodes it as JSON.
    pub expects_json: bool,
}

impl HostRequest {
    /// Returns the first header called `name`, ignoring case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// One HTTP response. The manifest's error handler decides what its status means.
#[derive(Clone, Debug)]
pub struct HostResponse {
    pub status: u16,
    /// Headers in the order and spelling in which the server sent them.
    pub headers: Arc<[(String, String)]>,
    pub body: Bytes,
    /// The URL that returned the response, after redirects.
    pub url: String,
}

impl HostResponse {
    /// Returns the first header called `name`, ignoring case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// Returns the first header called `name`, ignoring case.
pub(crate) fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Why the host has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    pub kind: HostErrorKind,
    /// One sentence for people.
    pub message: String,
    /// What the host itself knows about the failure. If the error ends the command, the interpreter returns it
    /// unchanged in [`Failed`](super::error::Failed).
    pub failure: Option<Box<HostFailure>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostErrorKind {
    /// The network failed. The manifest's error handler decides whether the request is sent again.
    Network,
    /// The host does not send this request because a read-only guard, an address guard, a budget or a bound forbids
    /// it. This ends the command.
    Refused,
}

/// A failure in the host's own terms, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFailure {
    /// The host's name for this class of failure.
    pub class: String,
    /// One line: what happened and to what.
    pub title: String,
    /// What a person can do about it.
    pub fix: String,
    /// The message of the source, verbatim. May be empty.
    pub detail: String,
    /// How long to wait before the next try, if that is known.
    pub retry_after: Option<Duration>,
}

impl HostError {
    /// Creates an error for a network failure.
    #[must_use]
    pub fn network(message: impl Into<String>) -> HostError {
        HostError { kind: HostErrorKind::Network, message: message.into(), failure: None }
    }

    /// Creates an error for a request that the host does not send.
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

/// The environment in which the interpreter runs.
pub trait Host: Send + Sync {
    /// Sends one request.
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>>;

    /// Returns the current wall-clock time, for `now_utc()` and for the expiry of tokens.
    fn now(&self) -> Timestamp;

    /// Waits for the given time. A host may refuse a long wait: the daemon ends the attempt and retries later instead
    /// of sleeping.
    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>>;

    /// Like [`Host::pause`], with the reason of the wait. A host overrides this method if it treats the reasons
    /// differently.
    fn pause_for(&self, wait: Duration, reason: PauseReason) -> BoxFuture<'_, Result<(), HostError>> {
        let _ = reason;
        self.pause(wait)
    }

    /// Returns a random UUID, for `generate_uuid()`.
    fn uuid(&self) -> String;

    /// Called when a single-use refresh token was replaced. `config` is the config with the new tokens in it. Losing
    /// it would lock the user out of the account, so a host with a vault overrides this method. The run stores it too:
    /// see `Run::tokens`.
    fn rotated(&self, config: &Value) {
        let _ = config;
    }
}
