//! `aam calls`: lists the calls that AAM made.

use super::{CommandError, CommandResult, CommonOptions, Format, since};
use crate::clock;
use crate::model::{CallPurpose, ConnectionId};
use crate::registry::{CallFilter, Reader};
use crate::report::calls::{CallBody, table};
use std::process::ExitCode;

/// The number of calls that are listed if `--limit` is not given.
const DEFAULT_LIMIT: usize = 100;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam calls --since 24h                                  what AAM called since yesterday
  aam calls --family salesforce --since 2026-10-01T00:00:00Z --until 2026-11-01T00:00:00Z
  aam calls --connection 3f2a --json                     with the rule that allowed each call
  aam calls --host api.github.com --limit 1000
  aam calls --purpose token                              requests for tokens

Calls are kept for evidence.keep_calls of the policy, 90 days if it does not say. No daemon is needed.")]
pub struct CallsOptions {
    /// Only calls for this connection: its id, or the start of it
    #[arg(long)]
    connection: Option<String>,
    /// Only calls for connections of these families
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Only calls to these hosts, with or without a port
    #[arg(long, value_delimiter = ',')]
    host: Vec<String>,
    /// Only calls that were made for this
    #[arg(long, value_parser = purpose)]
    purpose: Option<CallPurpose>,
    /// Only calls since then: 24h, or an RFC 3339 timestamp
    #[arg(long)]
    since: Option<String>,
    /// Only calls before then: 24h, or an RFC 3339 timestamp
    #[arg(long)]
    until: Option<String>,
    /// The number of calls at most, the newest first
    #[arg(long, default_value_t = DEFAULT_LIMIT)]
    limit: usize,
    /// Print JSON, like --format json
    #[arg(long)]
    json: bool,
}

fn purpose(text: &str) -> Result<CallPurpose, String> {
    let names = || CallPurpose::ALL.map(CallPurpose::as_str).join(", ");
    CallPurpose::parse(text).ok_or_else(|| format!("the purposes are {}", names()))
}

/// Exits with 0, or with 1 if the connection does not exist.
pub fn run(common: &CommonOptions, options: &CallsOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let now = clock::from_env().now();
    let instant = |option: &str, text: &Option<String>| {
        text.as_ref().map(|text| since::parse(option, text, now)).transpose().map_err(CommandError::usage)
    };
    let filter = CallFilter {
        connections: options.connection.as_ref().map(|start| find(&reader, start)).transpose()?.into_iter().collect(),
        families: options.family.clone(),
        hosts: options.host.clone(),
        purpose: options.purpose,
        since: instant("--since", &options.since)?,
        until: instant("--until", &options.until)?,
    };
    let total = reader.count_calls(&filter)?;
    let mut calls = Vec::new();
    reader.calls(&filter, None, |call| {
        let wanted = calls.len() < options.limit;
        if wanted {
            calls.push(CallBody::new(call));
        }
        wanted
    })?;
    let common = match options.json {
        true => &CommonOptions { format: Format::Json, ..common.clone() },
        false => common,
    };
    common.print(&table(&calls, total), &calls);
    Ok(ExitCode::SUCCESS)
}

/// Returns the connection whose id starts with `start`.
fn find(reader: &Reader, start: &str) -> Result<ConnectionId, CommandError> {
    if let Ok(id) = ConnectionId::parse(start) {
        return Ok(id);
    }
    let snapshot = reader.snapshot()?;
    let matches: Vec<&ConnectionId> = snapshot.connections.keys().filter(|id| id.to_string().starts_with(start)).collect();
    match matches.as_slice() {
        [id] => Ok(**id),
        [] => {
            Err(CommandError::new(format!("no connection has an id that starts with {start}; aam status lists the connections")))
        }
        many => {
            Err(CommandError::new(format!("{} connections have an id that starts with {start}; give more of the id", many.len())))
        }
    }
}
