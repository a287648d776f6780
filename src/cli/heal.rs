//! `aam heal`: asks the running daemon to check connections at once.

use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::credentials::{Secret, redact};
use crate::server::{auth, probe};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::error::Error;
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
    let Some(running) = probe::running(common.port).await else {
        return Err(CommandError::new(format!(
            "no AAM answers on port {}; start one with aam serve, or pass its port with --port",
            common.port
        )));
    };
    let token = token(&running.registry)?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let base = format!("http://127.0.0.1:{}", common.port);
    let (mut text, mut values, mut active) = (String::new(), Vec::new(), true);
    let calls: Vec<(String, serde_json::Value)> = if options.ids.is_empty() {
        vec![(format!("{base}/connections/heal"), serde_json::json!({ "namespace": options.namespace }))]
    } else {
        options.ids.iter().map(|id| (format!("{base}/connections/{id}/heal"), serde_json::json!({}))).collect()
    };
    for (url, body) in calls {
        let response = tokio::time::timeout(TIMEOUT, post(&client, &url, &token, body.to_string())).await;
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

/// Sends the request. Returns the status and the body, which is `null` if it is not valid JSON.
async fn post(
    client: &Client<HttpConnector, Full<Bytes>>,
    url: &str,
    token: &Secret,
    body: String,
) -> Result<(StatusCode, serde_json::Value), Box<dyn Error + Send + Sync>> {
    let request = Request::post(url)
        .header("authorization", format!("Bearer {}", token.expose()))
        .header("content-type", "application/json")
        .header("prefer", "wait=300")
        .body(Full::from(body))?;
    let response = client.request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Returns `AAM_TOKEN` if it is set, or the admin token next to the daemon's registry.
fn token(registry: &str) -> Result<Secret, CommandError> {
    let token = match std::env::var("AAM_TOKEN") {
        Ok(token) if !token.is_empty() => Secret::new(token),
        _ => {
            let path = auth::admin_path(std::path::Path::new(registry));
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
