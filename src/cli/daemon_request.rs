//! Requests of a command to the running daemon, which is the only process that may write to the registry.

use super::{CommandError, CommonOptions, daemon_trouble, reachable};
use crate::admin_token;
use crate::credentials::{Secret, redact};
use crate::operator_file;
use crate::registry::{self, Holder};
use crate::server::auth;
use crate::server::probe::{self, Listener, ProvenAam};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How a command asks the daemon.
pub(super) struct DaemonRequest<'a> {
    pub common: &'a CommonOptions,
    /// The scope that the token needs, for messages.
    pub scope: &'a str,
    /// What to do without such a token, for messages; may be empty.
    pub without_token: &'a str,
    /// How long the daemon may take. It must be longer than `prefer` lets it wait.
    pub timeout: Duration,
    /// The Prefer header.
    pub prefer: &'a str,
    /// Whether to stop waiting as soon as the daemon cannot use its registry.
    pub ends_on_trouble: bool,
}

impl DaemonRequest<'_> {
    /// Sends a request and returns the JSON body of the response.
    ///
    /// # Errors
    /// If no AAM with this registry answers, or if it refuses the request.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        let mut daemon = daemon(self.common).await?;
        let token = token(self.common.registry.local(), self.scope)
            .map_err(|error| CommandError { message: format!("{}{}", error.message, self.without_token), ..error })?;
        let authorization = format!("Bearer {}", token.expose());
        let headers = [("authorization", &*authorization), ("content-type", "application/json"), ("prefer", self.prefer)];
        let address = daemon.address();
        let answer = tokio::time::timeout(self.timeout, daemon.post(path, &headers, body.to_string()));
        let response = tokio::select! {
            biased;
            response = answer => response,
            reason = daemon_trouble::of_registry(address), if self.ends_on_trouble => {
                return Err(CommandError::new(format!("the daemon cannot use its registry, so it checks nothing: {reason}")));
            }
        };
        let response = response.unwrap_or_else(|_| Err(format!("no response within {} s", self.timeout.as_secs()).into()));
        let (status, value) = response.map_err(|error| {
            let port = address.port();
            CommandError::new(format!(
                "the daemon on port {port} did not answer: {error}; see its log, or restart it with aam restart"
            ))
        })?;
        if status.is_success() {
            return Ok(value);
        }
        let reason = value["detail"].as_str().or(value["title"].as_str()).unwrap_or("it gives no reason").to_string();
        let from_file = std::env::var_os("AAM_TOKEN").is_none_or(|token| token.is_empty());
        let hint = match status.as_u16() {
            401 if from_file => format!(
                "; it was the admin token, which ends with the first token of the policy: {}, or keep the admin token with the entry that aam check prints{}",
                token_fix(self.scope),
                self.without_token
            ),
            401 | 403 => format!("; {}{}", token_fix(self.scope), self.without_token),
            _ => String::new(),
        };
        Err(CommandError::new(format!("the daemon refused with {status}: {reason}{hint}")))
    }
}

/// The process in the lock of the registry, if it is a daemon that names its address there.
pub(super) fn recorded(common: &CommonOptions) -> Option<Holder> {
    registry::holder(common.registry.local()).filter(|holder| holder.address.is_some())
}

/// The addresses at which the daemon may be reached: the one of `--port` and `--bind` if they are given, and otherwise first the
/// one in the lock of the registry and then the default.
fn addresses(common: &CommonOptions) -> Vec<SocketAddr> {
    let given = common.is_given("port") || common.is_given("bind");
    let recorded = recorded(common).and_then(|holder| holder.address).filter(|_| !given).map(reachable);
    let default = Some(common.listener()).filter(|default| Some(*default) != recorded);
    recorded.into_iter().chain(default).collect()
}

/// Connects to the daemon, and checks that it holds the registry of the command line. Any program can listen on the port,
/// so without this check a token could be sent to one that only pretends to be AAM.
pub(super) async fn daemon(common: &CommonOptions) -> Result<ProvenAam, CommandError> {
    registry::refuse_other(common.registry.local())?;
    let registry = &common.registry;
    let mut address = common.listener();
    let mut listener = Listener::Absent;
    for candidate in addresses(common) {
        (address, listener) = (candidate, probe::listener(candidate).await);
        // The daemon of the lock may have ended.
        if !matches!(listener, Listener::Absent) {
            break;
        }
    }
    match listener {
        Listener::Absent => {
            Err(CommandError::new(format!("no AAM answers on {address}; start one with aam serve, or pass its port with --port")))
        }
        Listener::Other => Err(CommandError::new(format!(
            "the program that listens on {address} is not an AAM; pass the port of the AAM with --port"
        ))),
        Listener::Aam(running) => {
            let (pid, theirs) = (running.info.pid, running.info.registry.clone());
            running.prove(common.registry.local()).map_err(|reason| {
                CommandError::new(format!(
                    "no token was sent: the program that listens on {address} (it reports pid {pid} and the registry {theirs:?}) did not prove that it holds the registry {registry}: {reason}; pass the registry of the running daemon with --registry and its port with --port, and run this command as the user of the daemon"
                ))
            })
        }
    }
}

/// How to get a token with `scope`.
fn token_fix(scope: &str) -> String {
    format!(
        "set AAM_TOKEN to a token of the policy with the scope {scope} (aam token new creates one; add {scope} to the scopes of its entry under api.tokens)"
    )
}

/// Returns `AAM_TOKEN` if it is set, or the admin token next to the registry.
pub(super) fn token(registry: &Path, scope: &str) -> Result<Secret, CommandError> {
    let token = match std::env::var("AAM_TOKEN") {
        Ok(token) if !token.is_empty() => Secret::new(token),
        _ => {
            let path = auth::admin_path(registry);
            let read = operator_file::read_text(&path, admin_token::MAX_FILE_BYTES).map_err(|error| {
                CommandError::new(format!(
                    "no token: AAM_TOKEN is not set and {} cannot be read: {error}; AAM writes this file only while the policy lists no token; {}",
                    path.display(),
                    token_fix(scope)
                ))
            })?;
            Secret::new(read.trim().to_string())
        }
    };
    redact::learn_value(token.expose());
    Ok(token)
}
