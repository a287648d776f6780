//! `aam heal`: asks the running daemon to check connections at once.

use super::daemon_request::DaemonRequest;
use super::heal_watch::HealWatch;
use super::progress::Progress;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET, problems};
use crate::model::ConnectionId;
use crate::registry::Reader;
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

/// The timeout of the request. It is longer than the time that the daemon waits for the checks (`Prefer: wait=300`).
const TIMEOUT: Duration = Duration::from_secs(330);

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
    let daemon = DaemonRequest { common, scope: "ops:heal", without_token: "", timeout: TIMEOUT, prefer: "wait=300" };
    problems::note(common, Reader::open(&common.registry).ok().as_ref());
    let watch = HealWatch::start(common, options);
    let work = daemon.post("/connections/heal", &body);
    let value = Progress::start("healing", "connections", common.quiet).during(|| watch.reading(), work).await?;
    drop(watch);
    let (mut text, mut active) = (String::new(), true);
    let results = value["results"].as_array().cloned().unwrap_or_default();
    for result in &results {
        let state = result["status"].as_str().unwrap_or("?");
        active &= state == "ACTIVE";
        text.push_str(&format!(
            "{:<20} {}  {}\n",
            state,
            result["connection_id"].as_str().unwrap_or_default(),
            result["message"].as_str().unwrap_or_default()
        ));
    }
    let skipped = value["skipped"].as_array().cloned().unwrap_or_default();
    for one in &skipped {
        let text_of = |key: &str| one[key].as_str().unwrap_or_default().to_string();
        text.push_str(&format!("{:<20} {}  {}\n", "not checked", text_of("id"), text_of("message")));
    }
    if results.is_empty() && skipped.is_empty() {
        text.push_str("nothing to heal: every connection is ACTIVE\n");
    }
    common.print(&text, &results.iter().chain(&skipped).collect::<Vec<_>>());
    Ok(match (skipped.is_empty(), active) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(EXIT_NOT_YET),
    })
}

/// Checks an id of the command line, which becomes part of a path.
fn connection_id(text: &str) -> Result<&str, CommandError> {
    match ConnectionId::parse(text) {
        Ok(_) => Ok(text),
        Err(reason) => Err(CommandError::usage(format!("invalid connection id: {reason}; aam status lists the connections"))),
    }
}
