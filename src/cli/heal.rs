//! `aam heal`: asks the running daemon to check connections at once.

use super::daemon_request::DaemonRequest;
use super::heal_watch::HealWatch;
use super::progress::Progress;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET, connection, problems};
use crate::model::ConnectionId;
use crate::registry::Reader;
use crate::snapshot::Snapshot;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub struct HealOptions {
    /// Ids of the connections to check, or the start of each; default: every connection that is not ACTIVE
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
    let options = &HealOptions { ids: whole_ids(common, &options.ids)?, namespace: options.namespace.clone() };
    let body = match options.ids.is_empty() {
        true => serde_json::json!({ "namespace": options.namespace }),
        false => serde_json::json!({ "ids": options.ids }),
    };
    let prefer = format!("wait={WAIT_SECONDS}");
    let daemon =
        DaemonRequest { common, scope: "ops:heal", without_token: "", timeout: TIMEOUT, prefer: &prefer, ends_on_trouble: true };
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

/// The length of a whole id.
const ID_LENGTH: usize = 36;

/// Returns the whole id for each argument. The registry is read only if one of them is the start of an id.
fn whole_ids(common: &CommonOptions, arguments: &[String]) -> Result<Vec<String>, CommandError> {
    let mut snapshot: Option<Snapshot> = None;
    let mut ids = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let id = match ConnectionId::parse(argument) {
            Ok(_) => argument.clone(),
            Err(reason) if !is_start(argument) => {
                return Err(CommandError::usage(format!("invalid connection id: {reason}; aam status lists the connections")));
            }
            Err(_) => {
                let known = match snapshot.take() {
                    Some(known) => known,
                    None => Reader::open(&common.registry)?.snapshot()?,
                };
                let found = connection::find(&known, &argument.to_lowercase())?;
                snapshot = Some(known);
                found.to_string()
            }
        };
        ids.push(id);
    }
    Ok(ids)
}

/// Whether a text may be the start of an id.
fn is_start(text: &str) -> bool {
    let of_id = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    !text.is_empty() && text.len() < ID_LENGTH && text.bytes().all(of_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_of_an_id_is_looked_up() {
        for (text, expected) in [("97fb693c", true), ("97fb693c-8152", true), ("", false), ("okta", false), ("97fb/..", false)] {
            assert_eq!(is_start(text), expected, "{text}");
        }
        assert!(!is_start(&"a".repeat(ID_LENGTH)), "a whole id that is not valid");
    }
}
