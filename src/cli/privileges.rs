//! `aam privileges`: the connections whose credential can do more than read, and what takes the excess away.

use super::query;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, complete, left, since, status};
use crate::clock;
use crate::model::{MissingFiles, State};
use crate::registry::Reader;
use crate::report::privileges::{PrivilegeFilter, PrivilegeVerdict, Privileges, collect};
use crate::report::privileges_text;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam privileges                         who may write, and the statement that takes it away
  aam privileges --verdict unknown       what the sources do not say, and why
  aam privileges --family postgres --json | jq -r '.connections[].resources[].statements[]'

Only the registry is read. The verdicts are those of the latest checks; aam heal ID checks again.")]
pub struct PrivilegesOptions {
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
    /// Only connections with these verdicts; the totals count all
    #[arg(long, value_enum, value_delimiter = ',', default_value = "over")]
    verdict: Vec<PrivilegeVerdict>,
    /// Only connections in these states, for example active,healing
    #[arg(long, value_delimiter = ',', value_parser = status::state)]
    state: Vec<State>,
    /// Only connections of these families
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Only connections whose owner contains this text
    #[arg(long)]
    owner: Option<String>,
    /// Only verdicts that were found since then: 24h, or an RFC 3339 timestamp
    #[arg(long)]
    since: Option<String>,
    /// The number of connections at most
    #[arg(long, value_parser = query::limit)]
    limit: Option<usize>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

/// Exits with 0, or with 1 if an archive file with a verdict is missing.
pub fn run(common: &CommonOptions, options: &PrivilegesOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let now = clock::from_env().now();
    let since = options.since.as_ref().map(|text| since::parse("--since", text, now)).transpose();
    let namespace = match &options.namespace {
        Some(namespace) => namespace.clone(),
        None => policy_in_force(common, &reader)?.policy.namespace.clone(),
    };
    let filter = PrivilegeFilter {
        states: options.state.clone(),
        families: options.family.clone(),
        owner: options.owner.clone(),
        since: since.map_err(CommandError::usage)?,
        verdicts: options.verdict.clone(),
    };
    let mut missing = MissingFiles::default();
    let found = collect(&reader.snapshot()?.shared(&namespace), &filter, |seq| left(&reader, seq, &mut missing));
    let limit = options.limit.unwrap_or(usize::MAX);
    let text = privileges_text::text(&found, limit, now);
    let Privileges { totals, unknown, mut connections } = found;
    let truncated = connections.len() > limit;
    connections.truncate(limit);
    let mut value = serde_json::json!({
        "namespace": namespace, "totals": totals, "unknown": unknown, "connections": connections, "truncated": truncated,
    });
    if !missing.is_empty() {
        value["missing_files"] = serde_json::json!(missing.named());
    }
    common.with_json(options.json).print(&text, &value);
    complete(&missing)
}
