//! `aam heal`: asks the running daemon to check connections at once.

use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::credentials::{Secret, redact};
use crate::model::ConnectionId;
use crate::server::auth;
use crate::server::probe::{self, Listener, ProvenAam};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub struct HealOptions {
    /// Ids of the connections to check; default: every connection that is not ACTIVE
    ids: Vec<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
}

/// The timeout of the request. It is longer than the time that the daemon waits for the checks (`Prefer: wait=300`).
const TIMEOUT: Duration = Duration::from_secs(330);

/// Exits with 0 if all of the connections are ACTIVE, with 2 if not, and with 1 if the request to the daemon failed.
pub async fn run(common: &CommonOptions, options: &HealOptions) -> CommandResult {
    let (mut text, mut values, mut active) = (String::new(), Vec::new(), true);
    let calls: Vec<(String, serde_json::Value)> = if options.ids.is_empty() {
        vec![("/connections/heal".to_string(), serde_json::json!({ "namespace": options.namespace }))]
    } else {
        options
            .ids
            .iter()
            .map(|id| Ok((format!("/connections/{}/heal", connection_id(id)?), serde_json::json!({}))))
            .collect::<Result<_, CommandError>>()?
    };
    for (path, body) in calls {
        // Each call proves its own connection, because the daemon may close one that is not used.
        let mut daemon = daemon(common).await?;
        let token = token(&common.registry)?;
        let authorization = format!("Bearer {}", token.expose());
        let headers = [("authorization", &*authorization), ("content-type", "application/json"), ("prefer", "wait=300")];
        let response = tokio::time::timeout(TIMEOUT, daemon.post(&path, &headers, body.to_string())).await;
        let (status, value) =
            response.unwrap_or_else(|_| Err(format!("no response within {} s", TIMEOUT.as_secs()).into())).map_err(|error| {
                let port = common.port;
                CommandError::new(format!(
                    "the daemon on port {port} did not answer: {error}; see its log, or restart it with aam serve"
                ))
            })?;
        if !status.is_success() && value.get("status").and_then(|status| status.as_str()).is_none() {
            let reason = value["detail"].as_str().or(value["title"].as_str()).unwrap_or("it gives no reason").to_string();
            let hint = if status.as_u16() == 401 || status.as_u16() == 403 {
                "; set AAM_TOKEN to a token of the policy with the scope ops:heal"
            } else {
                ""
            };
            return Err(CommandError::new(format!("the daemon refused with {status}: {reason}{hint}")));
        }
        let results = match value.get("results").and_then(|results| results.as_array()) {
            Some(results) => results.clone(),
            None => vec![value],
        };
        for result in results {
            let state = result["status"].as_str().unwrap_or("?");
            active &= state == "ACTIVE";
            text.push_str(&format!(
                "{:<20} {}  {}\n",
                state,
                result["connection_id"].as_str().unwrap_or_default(),
                result["message"].as_str().unwrap_or_default()
            ));
            values.push(result);
        }
    }
    if values.is_empty() {
        text.push_str("nothing to heal: every connection is ACTIVE\n");
    }
    common.print(&text, &values);
    Ok(if active { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}

/// Connects to the daemon, and checks that it holds the registry of the command line. Any program can listen on the port,
/// so without this check a token could be sent to one that only pretends to be AAM.
pub async fn daemon(common: &CommonOptions) -> Result<ProvenAam, CommandError> {
    let address = common.listener();
    let registry = common.registry.display();
    match probe::listener(address).await {
        Listener::Absent => {
            Err(CommandError::new(format!("no AAM answers on {address}; start one with aam serve, or pass its port with --port")))
        }
        Listener::Other => Err(CommandError::new(format!(
            "the program that listens on {address} is not an AAM; pass the port of the AAM with --port"
        ))),
        Listener::Aam(running) => {
            let (pid, theirs) = (running.info.pid, running.info.registry.clone());
            running.prove(&common.registry).map_err(|reason| {
                CommandError::new(format!(
                    "no token was sent: the program that listens on {address} (it reports pid {pid} and the registry {theirs:?}) did not prove that it holds the registry {registry}: {reason}; pass the registry of the running daemon with --registry and its port with --port, and run this command as the user of the daemon"
                ))
            })
        }
    }
}

/// Checks an id of the command line, which becomes part of a path.
fn connection_id(text: &str) -> Result<&str, CommandError> {
    match ConnectionId::parse(text) {
        Ok(_) => Ok(text),
        Err(reason) => Err(CommandError::new(format!("invalid connection id: {reason}; aam status lists the connections"))),
    }
}

/// Returns `AAM_TOKEN` if it is set, or the admin token next to the registry.
fn token(registry: &Path) -> Result<Secret, CommandError> {
    let token = match std::env::var("AAM_TOKEN") {
        Ok(token) if !token.is_empty() => Secret::new(token),
        _ => {
            let path = auth::admin_path(registry);
            let read = std::fs::read_to_string(&path).map_err(|error| {
                CommandError::new(format!(
                    "no token: AAM_TOKEN is not set and {} cannot be read: {error}; set AAM_TOKEN to a token with the scope ops:heal",
                    path.display()
                ))
            })?;
            Secret::new(read.trim().to_string())
        }
    };
    redact::learn_value(token.expose());
    Ok(token)
}
