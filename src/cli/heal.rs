//! `aam heal`: ask the running daemon to verify again at once.

use super::{Common, EXIT_NOT_YET, Ended, Fail};
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
pub struct Options {
    /// Connections to verify; default: every one that is not ACTIVE
    ids: Vec<String>,
    /// Namespace; default: that of the policy
    #[arg(long)]
    namespace: Option<String>,
}

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(330);

/// Exit 0 when all that was asked for is ACTIVE, 2 when not, 1 when no daemon answers.
pub async fn run(common: &Common, options: &Options) -> Ended {
    let Some(running) = probe::running(common.port).await else {
        return Err(Fail::new(format!(
            "no aam serves port {}; start it with aam serve, or name its port with --port",
            common.port
        )));
    };
    let token = token(common, &running.registry)?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let base = format!("http://127.0.0.1:{}", common.port);
    let (mut text, mut values, mut active) = (String::new(), Vec::new(), true);
    let calls: Vec<(String, serde_json::Value)> = if options.ids.is_empty() {
        vec![(format!("{base}/connections/heal"), serde_json::json!({ "namespace": options.namespace }))]
    } else {
        options.ids.iter().map(|id| (format!("{base}/connections/{id}/heal"), serde_json::json!({}))).collect()
    };
    for (url, body) in calls {
        let asked = tokio::time::timeout(PATIENCE, ask(&client, &url, &token, body.to_string())).await;
        let (status, value) =
            asked.unwrap_or_else(|_| Err(format!("it took longer than {} s", PATIENCE.as_secs()).into())).map_err(|error| {
                let port = common.port;
                Fail::new(format!(
                    "the daemon on port {port} did not answer: {error}; see its log, or start it again with aam serve"
                ))
            })?;
        if !status.is_success() && value.get("status").and_then(|word| word.as_str()).is_none() {
            let words = value["detail"].as_str().or(value["title"].as_str()).unwrap_or("no reason given").to_string();
            let hint = if status.as_u16() == 401 || status.as_u16() == 403 {
                "; set AAM_TOKEN to a token of the policy with the scope ops:heal"
            } else {
                ""
            };
            return Err(Fail::new(format!("the daemon refused: {status}: {words}{hint}")));
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

/// Status and JSON of one answer; `null` where it is no JSON.
async fn ask(
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
    let answer = client.request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// `AAM_TOKEN`, or the admin token beside the daemon's registry.
fn token(common: &Common, registry: &str) -> Result<Secret, Fail> {
    let token = match std::env::var("AAM_TOKEN") {
        Ok(token) if !token.is_empty() => Secret::new(token),
        _ => {
            let path = auth::admin_path(std::path::Path::new(registry));
            let read = std::fs::read_to_string(&path).map_err(|error| {
                Fail::new(format!("no token: set AAM_TOKEN to one with the scope ops:heal ({}: {error})", path.display()))
            })?;
            Secret::new(read.trim().to_string())
        }
    };
    let _ = common;
    redact::learn_value(token.expose());
    Ok(token)
}
