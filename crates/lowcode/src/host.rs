//! What the interpreter needs from outside. The daemon's host is the egress layer; a test's host is a script.

use super::value::Value;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// Why a call is made. The host allows a POST by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Reads data.
    Data,
    /// Gets an access token.
    Token,
}

/// One HTTP request as it goes out.
#[derive(Clone, Debug)]
pub struct Call {
    pub purpose: Purpose,
    /// GET, HEAD, POST ... as the manifest says, in upper case.
    pub method: String,
    /// Complete and encoded, query included.
    pub url: String,
    /// In order; names as the manifest writes them. Values may be secret.
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// The stream that asks, for the log; empty for none.
    pub stream: String,
    /// A secret stands in the URL, where logs of servers and proxies show it: the manifest's own choice.
    /// A host may refuse such a call.
    pub secret_in_url: bool,
}

/// One answer; what a status means is decided by the manifest's error handler.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// In order; names as they came.
    pub headers: Arc<[(String, String)]>,
    pub body: Bytes,
    /// The URL that answered.
    pub url: String,
}

impl Reply {
    /// The first header called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// No answer came.
#[derive(Clone)]
pub struct NoReply {
    pub kind: NoReplyKind,
    /// One sentence for people.
    pub message: String,
    /// The host's own failure, given back unchanged to whoever started the command.
    pub source: Option<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for NoReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NoReply({:?}: {})", self.kind, self.message)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReplyKind {
    /// The network failed; trying again may help.
    Network,
    /// The host will not send this: read-only guard, address guard, budget, bounds. Ends the command.
    Refused,
}

/// The outside of the interpreter.
pub trait Host: Send + Sync {
    /// Sends one call.
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, NoReply>>;

    /// Wall time, for `now_utc()` and token expiry.
    fn now(&self) -> Timestamp;

    /// Waits, or refuses to wait that long: a daemon gives the attempt back instead of sleeping.
    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), NoReply>>;

    /// A random UUID, for `generate_uuid()`.
    fn uuid(&self) -> String;

    /// A single-use refresh token was replaced: `config` is the config with the new tokens in it. Who does not keep
    /// it is locked out, so a host with a vault overrides this. Also kept by the run, see `Run::tokens`.
    fn rotated(&self, config: &Value) {
        let _ = config;
    }
}
