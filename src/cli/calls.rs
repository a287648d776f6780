//! `aam calls`: lists the calls that AAM made.

use super::query::limit;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, Format, complete, since, terminal};
use crate::clock;
use crate::families::{self, aliases};
use crate::model::problem::nearest;
use crate::model::text::counted;
use crate::model::{CallPosition, CallPurpose, ConnectionId, MissingFiles, StoredCall, Timestamp};
use crate::registry::query::QueryLimits;
use crate::registry::{CallFilter, Reader};
use crate::report::calls::{CallBody, InterruptedAttemptBody, table};
use rusqlite::types::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The number of calls that are listed if `--limit` is not given.
const DEFAULT_LIMIT: usize = 100;
/// The names that calls outside of attempts have instead of a family.
const BACKGROUND_FAMILIES: [&str; 3] = ["vault", "token", "webhook"];
/// The bounds of the query for the families that were called once, but that this policy does not know.
const FAMILY_LIMITS: QueryLimits = QueryLimits { rows: 1000, time: Duration::from_secs(30) };

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
    /// Only calls for connections of this namespace; default: all
    #[arg(long)]
    namespace: Option<String>,
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
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_parser = limit)]
    limit: usize,
    /// Print JSON, like --format json
    #[arg(long)]
    json: bool,
}

fn purpose(text: &str) -> Result<CallPurpose, String> {
    let names = || CallPurpose::ALL.map(CallPurpose::as_str).join(", ");
    CallPurpose::parse(text).ok_or_else(|| format!("the purposes are {}", names()))
}

/// Exits with 0, or with 1 if the connection does not exist or an archive file with calls of the period is missing.
pub fn run(common: &CommonOptions, options: &CallsOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let now = clock::from_env().now();
    let instant = |option: &str, text: &Option<String>| {
        text.as_ref().map(|text| since::parse(option, text, now)).transpose().map_err(CommandError::usage)
    };
    let filter = CallFilter {
        connections: options.connection.as_ref().map(|start| find(&reader, start)).transpose()?.into_iter().collect(),
        families: options.family.iter().map(|name| family(common, &reader, name)).collect::<Result<_, _>>()?,
        hosts: options.host.clone(),
        purpose: options.purpose,
        since: instant("--since", &options.since)?,
        until: instant("--until", &options.until)?,
        without_archives: false,
    };
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        return Err(CommandError::usage(format!(
            "the period ends before it begins: --since {} is not before --until {}; give the earlier time to --since",
            since.rfc3339(),
            until.rfc3339()
        )));
    }
    let Newest { calls, total, missing } = newest(&reader, &filter, options)?;
    let interrupted = interrupted(&reader, &filter, options)?;
    let common = common.with_json(options.json);
    common.print(&table(&calls, total, &interrupted), &calls);
    if common.format == Format::Json {
        // The JSON is a list of calls, so what is not a call goes to stderr.
        for attempt in &interrupted {
            terminal::print_error(&format!("aam: {}\n", attempt.message));
        }
        if total > calls.len() as u64 {
            let (shown, all) = (calls.len(), counted(usize::try_from(total).unwrap_or(usize::MAX), "call"));
            terminal::print_error(&format!("aam: only the newest {shown} of {all} are printed; --limit {total} prints all\n"));
        }
    }
    complete(&missing)
}

/// The newest calls.
struct Newest {
    calls: Vec<CallBody>,
    /// The number of all calls that were selected.
    total: u64,
    /// The archive files whose calls were not read.
    missing: MissingFiles,
}

/// Returns the newest calls that `filter` selects by the time at which they began, and the number of all of them. Calls are
/// stored in the order in which their attempts ended, so all that match are read.
fn newest(reader: &Reader, filter: &CallFilter, options: &CallsOptions) -> Result<Newest, CommandError> {
    let (mut kept, mut total) = (BTreeMap::<(Timestamp, CallPosition), StoredCall>::new(), 0_u64);
    let missing = reader.calls(filter, None, |call| {
        if options.namespace.as_ref().is_none_or(|namespace| *namespace == call.namespace) {
            total += 1;
            kept.insert((call.at, call.position), call);
            if kept.len() > options.limit {
                kept.pop_first();
            }
        }
        true
    })?;
    Ok(Newest { calls: kept.into_values().rev().map(CallBody::new).collect(), total, missing })
}

/// Returns the attempts whose calls are not recorded, unless the options select calls that no attempt makes.
fn interrupted(
    reader: &Reader,
    filter: &CallFilter,
    options: &CallsOptions,
) -> Result<Vec<InterruptedAttemptBody>, CommandError> {
    let mut found = Vec::new();
    if filter.purpose == Some(CallPurpose::Webhook) {
        return Ok(found);
    }
    let snapshot = reader.snapshot()?;
    let selected = |id: ConnectionId| {
        let family = snapshot.connections.get(&id).map(|known| known.source_type.to_string()).unwrap_or_default();
        filter.families.is_empty() || filter.families.contains(&family)
    };
    reader.interrupted_attempts(filter, |attempt| {
        let in_namespace = options.namespace.as_ref().is_none_or(|namespace| *namespace == attempt.namespace);
        if in_namespace && selected(attempt.connection) {
            found.push(InterruptedAttemptBody::new(&attempt));
        }
        found.len() < options.limit
    })?;
    Ok(found)
}

/// Returns the name of the family that `name` means: one that AAM ships, a custom source, or one that was called once.
fn family(common: &CommonOptions, reader: &Reader, name: &str) -> Result<String, CommandError> {
    let name = name.trim().to_lowercase();
    let name = aliases::alias(&name).map_or(name, str::to_string);
    if families::find(&name).is_some()
        || BACKGROUND_FAMILIES.contains(&name.as_str())
        || policy_in_force(common, reader).is_ok_and(|policy| policy.family(&name).is_some())
    {
        return Ok(name);
    }
    let called = reader.query("SELECT DISTINCT family FROM calls", &[], FAMILY_LIMITS);
    let called: BTreeSet<String> =
        called.map(|result| result.rows).unwrap_or_default().into_iter().flatten().filter_map(text).collect();
    if called.contains(&name) {
        return Ok(name);
    }
    let all =
        families::all().iter().map(|family| &*family.id).chain(BACKGROUND_FAMILIES).chain(called.iter().map(String::as_str));
    let meant = nearest(&name, all).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    Err(CommandError::usage(format!("--family {name} is not known: {meant}aam families lists the families")))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => None,
    }
}

/// Returns the connection whose id starts with `start`.
fn find(reader: &Reader, start: &str) -> Result<ConnectionId, CommandError> {
    if let Ok(id) = ConnectionId::parse(start) {
        return Ok(id);
    }
    let snapshot = reader.snapshot()?;
    let matches: Vec<ConnectionId> = snapshot.connections.keys().filter(|id| id.to_string().starts_with(start)).collect();
    match matches.as_slice() {
        [id] => Ok(*id),
        [] => {
            Err(CommandError::new(format!("no connection has an id that starts with {start}; aam status lists the connections")))
        }
        many => {
            Err(CommandError::new(format!("{} connections have an id that starts with {start}; give more of the id", many.len())))
        }
    }
}
