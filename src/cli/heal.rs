//! `aam heal`: asks the running daemon to check connections at once.

use super::daemon_request::DaemonRequest;
use super::heal_watch::HealWatch;
use super::progress::Progress;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET, problems};
use crate::model::ConnectionId;
use crate::registry::Reader;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub struct HealOptions {
    /// Ids of the connections to check; default: every connection that is not ACTIVE
    pub(super) ids: Vec<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    pub(super) namespace: Option<String>,
}

/// How long the daemon waits for the checks.
const WAIT_SECONDS: u64 = 300;
/// The timeout of the request.
const TIMEOUT: Duration = Duration::from_secs(WAIT_SECONDS + 30);

/// Exits with 0 if all of the connections are ACTIVE, with 2 if not, and with 1 if the request to the daemon failed or an id
/// could not be checked.
pub async fn run(common: &CommonOptions, options: &HealOptions) -> CommandResult {
    let body = match options.ids.is_empty() {
        true => serde_json::json!({ "namespace": options.namespace }),
        false => {
            let ids = options.ids.iter().map(|id| connection_id(id)).collect::<Result<Vec<&str>, CommandError>>()?;
            serde_json::json!({ "ids": ids })
        }
    };
    let prefer = format!("wait={WAIT_SECONDS}");
    let daemon = DaemonRequest { common, scope: "ops:heal", without_token: "", timeout: TIMEOUT, prefer: &prefer };
    problems::note(common, Reader::open(&common.registry).ok().as_ref());
    let watch = HealWatch::start(common, options);
    let work = daemon.post("/connections/heal", &body);
    let value = Progress::start("healing", "connections", common.quiet).during(|| watch.reading(), work).await?;
    drop(watch);
    let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    let (results, skipped) = (list("results"), list("skipped"));
    common.print(&text(&value, &results, &skipped), &results.iter().chain(&skipped).collect::<Vec<_>>());
    Ok(match (skipped.is_empty(), value["active"] == value["total"]) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(EXIT_NOT_YET),
    })
}

/// The answer of the daemon as text.
fn text(answer: &Value, results: &[Value], skipped: &[Value]) -> String {
    let mut text = String::new();
    let mut line = |state: &str, id: &Value, message: &Value| {
        let (id, message) = (id.as_str().unwrap_or_default(), message.as_str().unwrap_or_default());
        let _ = writeln!(text, "{state:<20} {id}  {message}");
    };
    for result in results {
        line(result["status"].as_str().unwrap_or("?"), &result["connection_id"], &result["message"]);
    }
    for one in skipped {
        line("not checked", &one["id"], &one["message"]);
    }
    let number = |key: &str| answer[key].as_u64().unwrap_or_default();
    let (total, settled) = (number("total"), number("settled"));
    let left_out = total.saturating_sub(results.len() as u64);
    if left_out > 0 {
        let _ = writeln!(text, "and {left_out} more; aam status shows them");
    }
    if settled < total {
        let _ = writeln!(text, "{settled} of {total} were checked within {WAIT_SECONDS} s; the daemon goes on with the rest");
    }
    if results.is_empty() && skipped.is_empty() {
        let namespace = answer["namespace"].as_str().unwrap_or_default();
        let _ = writeln!(text, "nothing to heal: the namespace {namespace} has no connection that is not ACTIVE");
    }
    text
}

/// Checks an id of the command line, which becomes part of a path.
fn connection_id(text: &str) -> Result<&str, CommandError> {
    match ConnectionId::parse(text) {
        Ok(_) => Ok(text),
        Err(reason) => Err(CommandError::usage(format!("invalid connection id: {reason}; aam status lists the connections"))),
    }
}
