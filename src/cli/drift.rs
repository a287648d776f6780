//! `aam drift`: lists schema changes, and records that somebody took note of them.

use super::daemon_request::DaemonRequest;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, connection, query, since};
use crate::clock;
use crate::daemon;
use crate::model::ConnectionId;
use crate::registry::{Notice, Reader};
use crate::report::drift::{self, DriftEntry, DriftFilter};
use crate::server::drift as api;
use crate::server::probe::{self, Listener};
use crate::snapshot::Snapshot;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// The number of entries that are listed if `--limit` does not say otherwise.
const DEFAULT_LIMIT: usize = 100;
/// How long the daemon may take to record an acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  aam drift --since 7d                        what changed in the last week
  aam drift --breaking --unacknowledged       what was not acknowledged yet
  aam drift acknowledge 3f2a --note TICKET-4711
  aam catalog diff 3f2a 1 4                   the same between any two versions"
)]
pub struct DriftOptions {
    #[command(subcommand)]
    command: Option<DriftCommand>,
    /// Only changes of this connection: its id, or the start of one
    id: Option<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
    /// Only connections of these families
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Only connections whose owner contains this text
    #[arg(long)]
    owner: Option<String>,
    /// Only changes that were found since then: 24h, or an RFC 3339 timestamp
    #[arg(long)]
    since: Option<String>,
    /// Only changes that break consumers
    #[arg(long)]
    breaking: bool,
    /// Only changes that were not acknowledged
    #[arg(long, conflicts_with = "acknowledged")]
    unacknowledged: bool,
    /// Only changes that somebody took note of
    #[arg(long)]
    acknowledged: bool,
    /// The number of entries at most
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_parser = query::limit)]
    limit: usize,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum DriftCommand {
    /// Record that the changes of a catalog version were taken note of; the state does not change
    Acknowledge(AcknowledgeOptions),
}

#[derive(clap::Args)]
struct AcknowledgeOptions {
    /// A connection id, or the start of one
    id: String,
    /// The version of the catalog that brought the changes; default: the latest
    #[arg(long)]
    version: Option<u32>,
    /// What was decided or done
    #[arg(long, default_value = "")]
    note: String,
    /// Who takes note; default: the user of the command
    #[arg(long, env = "USER", default_value = "")]
    by: String,
}

/// Exits with 0, or with 1 if there is nothing to acknowledge.
pub async fn run(common: &CommonOptions, options: &DriftOptions) -> CommandResult {
    match &options.command {
        Some(DriftCommand::Acknowledge(options)) => acknowledge(common, options).await,
        None => list(common, options),
    }
}

fn list(common: &CommonOptions, options: &DriftOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let (now, snapshot) = (clock::from_env().now(), reader.snapshot()?);
    let since = options.since.as_ref().map(|text| since::parse("--since", text, now)).transpose();
    let connection = options.id.as_ref().map(|start| connection::find(&snapshot, start)).transpose()?;
    let namespace = match (&options.namespace, connection.and_then(|id| snapshot.connections.get(&id))) {
        (Some(namespace), _) => namespace.clone(),
        (None, Some(known)) => known.namespace.to_string(),
        (None, None) => policy_in_force(common, &reader)?.policy.namespace.clone(),
    };
    let filter = DriftFilter {
        namespace,
        connection,
        version: None,
        families: options.family.clone(),
        owner: options.owner.clone(),
        since: since.map_err(CommandError::usage)?,
        breaking: options.breaking.then_some(true),
        acknowledged: (options.acknowledged || options.unacknowledged).then_some(options.acknowledged),
    };
    let (mut entries, mut more) = (Vec::<DriftEntry>::new(), false);
    let known = |id: ConnectionId| snapshot.connections.copy_of(&id);
    reader.drift(&filter, None, known, |entry| {
        more = entries.len() >= options.limit;
        if !more {
            entries.push(entry);
        }
        !more
    })?;
    let value = json!({ "namespace": filter.namespace, "drift": entries, "more": more });
    common.with_json(options.json).print(&drift::text(&entries, more, now), &value);
    Ok(ExitCode::SUCCESS)
}

async fn acknowledge(common: &CommonOptions, options: &AcknowledgeOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let snapshot = reader.snapshot()?;
    let id = connection::find(&snapshot, &options.id)?;
    let earlier = earlier(&reader, &snapshot, options, id)?;
    drop((reader, snapshot));
    let running = !matches!(probe::listener(common.listener()).await, Listener::Absent);
    let entry: DriftEntry = if running {
        let daemon = DaemonRequest {
            common,
            scope: "ops:confirm",
            without_token: "",
            timeout: TIMEOUT,
            prefer: "respond-async",
            ends_on_trouble: false,
        };
        let body = json!({ "catalog_version": options.version, "note": options.note, "by": options.by });
        let answer = daemon.post(&format!("/connections/{id}/drift/acknowledge"), &body).await?;
        serde_json::from_value(answer).map_err(|error| CommandError::new(format!("the answer cannot be read: {error}")))?
    } else {
        offline(common, options, id).await?
    };
    let text = match &entry.acknowledged {
        Some(known) if earlier => format!(
            "the changes of catalog version {} of {id} were acknowledged before, by {} at {}{}; nothing was recorded now\n",
            entry.catalog_version,
            known.by,
            known.at,
            if known.note.is_empty() { String::new() } else { format!(" with the note {:?}", known.note) }
        ),
        Some(known) => format!(
            "the changes of catalog version {} of {id} are acknowledged by {} at {}\n",
            entry.catalog_version, known.by, known.at
        ),
        None => format!("the changes of catalog version {} of {id} are not acknowledged\n", entry.catalog_version),
    };
    common.print(&text, &entry);
    Ok(ExitCode::SUCCESS)
}

/// Whether somebody acknowledged the changes before this command. Only the first acknowledgement is recorded.
fn earlier(reader: &Reader, snapshot: &Snapshot, options: &AcknowledgeOptions, id: ConnectionId) -> Result<bool, CommandError> {
    let latest = snapshot.connections.get(&id).and_then(|known| known.catalog).map(|(version, ..)| version);
    let version = options.version.or(latest).unwrap_or_default();
    Ok(reader.acknowledgement(id, version)?.is_some())
}

/// Records without a daemon.
async fn offline(common: &CommonOptions, options: &AcknowledgeOptions, id: ConnectionId) -> Result<DriftEntry, CommandError> {
    let handle = daemon::open(&common.paths(), "drift acknowledge", crate::clock::from_env()).await?;
    let result = record(&handle.registry, options, id).await;
    handle.registry.close().await;
    result
}

async fn record(
    registry: &crate::registry::Registry,
    options: &AcknowledgeOptions,
    id: ConnectionId,
) -> Result<DriftEntry, CommandError> {
    let known = registry.snapshot().connections.copy_of(&id);
    let known = known.filter(|known| known.retired.is_none());
    let known =
        known.ok_or_else(|| CommandError::new(format!("{id} is retired, so its schema changes do not affect anybody")))?;
    let version = options.version.or(known.catalog.map(|(version, ..)| version)).unwrap_or_default();
    let find = || -> Result<DriftEntry, CommandError> {
        let found = api::entry(registry.reader(), id, &known, version)?;
        found.ok_or_else(|| {
            CommandError::new(format!(
                "catalog version {version} of {id} has no schema changes to take note of; aam drift {id} lists them"
            ))
        })
    };
    if find()?.acknowledged.is_none() {
        let cut = |text: &str| text.trim().chars().take(api::MAX_NOTE_CHARS).collect::<String>();
        let by = if options.by.trim().is_empty() { "aam drift acknowledge".to_string() } else { cut(&options.by) };
        let notice = Notice::DriftAcknowledged { connection: id, version, by, note: cut(&options.note) };
        registry.record_notices(vec![notice]).await?;
    }
    find()
}
