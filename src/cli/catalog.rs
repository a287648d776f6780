//! `aam catalog`: the catalogs of the connections, their versions, and what changed between two of them.

use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, connection};
use crate::model::ledger::Fact;
use crate::model::text::{counted, printable};
use crate::model::{Catalog, ConnectionId, Stream};
use crate::registry::Reader;
use crate::report::drift;
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  aam catalog                    the latest catalog of each connection
  aam catalog 3f2a               all versions of one
  aam catalog show 3f2a          its streams and fields
  aam catalog diff 3f2a 1 4      what changed from version 1 to version 4"
)]
pub struct CatalogOptions {
    #[command(subcommand)]
    command: Option<CatalogCommand>,
    /// List the versions of this connection: its id, or the start of one
    id: Option<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
    /// Only connections of these families
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum CatalogCommand {
    /// Show the streams and fields of a version
    Show(ShowOptions),
    /// Show what changed between two versions
    Diff(DiffOptions),
}

#[derive(clap::Args)]
struct ShowOptions {
    /// A connection id, or the start of one
    id: String,
    /// Default: the latest
    #[arg(long)]
    version: Option<u32>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct DiffOptions {
    /// A connection id, or the start of one
    id: String,
    /// The earlier version; default: the one before V2
    v1: Option<u32>,
    /// The later version; default: the latest
    v2: Option<u32>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

/// Exits with 0, or with 1 if a version does not exist.
pub fn run(common: &CommonOptions, options: &CatalogOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let (text, value, json) = match &options.command {
        Some(CatalogCommand::Show(options)) => with(show(&reader, options)?, options.json),
        Some(CatalogCommand::Diff(options)) => with(diff(&reader, options)?, options.json),
        None => with(
            match &options.id {
                Some(start) => versions(&reader, start)?,
                None => list(common, options, &reader)?,
            },
            options.json,
        ),
    };
    common.with_json(json).print(&text, &value);
    Ok(ExitCode::SUCCESS)
}

fn with((text, value): (String, Value), json: bool) -> (String, Value, bool) {
    (text, value, json)
}

fn list(common: &CommonOptions, options: &CatalogOptions, reader: &Reader) -> Result<(String, Value), CommandError> {
    let namespace = match &options.namespace {
        Some(namespace) => namespace.clone(),
        None => policy_in_force(common, reader)?.policy.namespace.clone(),
    };
    let snapshot = reader.snapshot()?;
    let (mut text, mut all) = (String::new(), Vec::new());
    for (id, known) in snapshot.of_namespace(&namespace) {
        let is_family = options.family.is_empty() || options.family.iter().any(|family| *family == *known.source_type);
        let Some((version, seq, _)) = known.catalog.filter(|_| is_family) else { continue };
        let at = reader.entry_at(seq)?.map(crate::model::Timestamp::rfc3339).unwrap_or_default();
        let _ = writeln!(text, "{id}  {:<16} version {version:<4} {at}  {}", known.source_type, known.state());
        all.push(json!({ "connection_id": id, "source_type": &*known.source_type, "status": known.state(), "catalog_version": version, "at": at }));
    }
    if all.is_empty() {
        text.push_str("no catalogs yet: a connection has one after its first discovery\n");
    }
    Ok((text, json!({ "namespace": namespace, "catalogs": all })))
}

fn versions(reader: &Reader, start: &str) -> Result<(String, Value), CommandError> {
    let id = connection::find(&reader.snapshot()?, start)?;
    let (mut text, mut all) = (String::new(), Vec::new());
    for entry in reader.catalog_entries(id)? {
        let Fact::CatalogRegistered { version, streams, breaking, additive, .. } = &entry.fact else { continue };
        let (breaking, additive) = (breaking.len(), additive.len());
        let changes = if *version == 1 { "first".to_string() } else { drift::totals(breaking, additive) };
        let acknowledged = reader.acknowledgement(id, *version)?;
        let by = acknowledged.as_ref().map(|known| format!(", acknowledged by {}", known.by)).unwrap_or_default();
        let streams_text = counted(*streams as usize, "stream");
        let line = format!("version {version:<4} {}  {streams_text}, {changes}{by}", entry.at.rfc3339());
        let _ = writeln!(text, "{}", printable(&line, &[]));
        let acknowledged = acknowledged.map(drift::AcknowledgedBody::from);
        all.push(json!({
            "catalog_version": version, "at": entry.at.rfc3339(), "seq": entry.seq, "streams": streams,
            "breaking_total": breaking, "additive_total": additive, "acknowledged": acknowledged,
        }));
    }
    if all.is_empty() {
        text.push_str("no catalog yet: discovery has not passed\n");
    }
    Ok((text, json!({ "connection_id": id, "versions": all })))
}

fn show(reader: &Reader, options: &ShowOptions) -> Result<(String, Value), CommandError> {
    let id = connection::find(&reader.snapshot()?, &options.id)?;
    let (version, catalog) = catalog(reader, id, options.version)?;
    let parsed: Catalog = serde_json::from_str(&catalog).unwrap_or_default();
    let mut text = format!("catalog version {version} of {id}: {}\n", counted(parsed.streams.len(), "stream"));
    for stream in &parsed.streams {
        let _ = writeln!(text, "{}", printable(&described(stream), &['\n']));
    }
    for skipped in &parsed.skipped {
        let _ = writeln!(text, "not described: {}: {}", printable(&skipped.name, &[]), printable(&skipped.reason, &[]));
    }
    let value: Value = serde_json::from_str(&catalog).unwrap_or_default();
    Ok((text, json!({ "connection_id": id, "catalog_version": version, "catalog": value })))
}

fn described(stream: &Stream) -> String {
    let namespace = stream.namespace.as_ref().map(|namespace| format!("{namespace}.")).unwrap_or_default();
    let mut text = format!("  {namespace}{}", stream.name);
    for (name, schema) in stream.json_schema["properties"].as_object().into_iter().flatten() {
        let _ = write!(text, "\n    {name:<28} {}", schema["type"]);
    }
    text
}

fn diff(reader: &Reader, options: &DiffOptions) -> Result<(String, Value), CommandError> {
    let id = connection::find(&reader.snapshot()?, &options.id)?;
    let (later, later_text) = catalog(reader, id, options.v2)?;
    let earlier = match options.v1 {
        Some(version) => version,
        None => later
            .checked_sub(1)
            .filter(|version| *version > 0)
            .ok_or_else(|| CommandError::new(format!("{id} has one version of its catalog, so there is nothing to compare")))?,
    };
    let (_, earlier_text) = catalog(reader, id, Some(earlier))?;
    let changes = drift::changes(&earlier_text, &later_text);
    let breaking = changes.iter().filter(|change| change.breaking).count();
    let totals = drift::totals(breaking, changes.len() - breaking);
    let acknowledged = reader.acknowledgement(id, later)?.map(drift::AcknowledgedBody::from);
    let mut text =
        format!("catalog {earlier} -> {later} of {id}: {totals}\n{}", drift::lines(&changes, usize::MAX, changes.len()));
    if let Some(known) = &acknowledged {
        let note = if known.note.is_empty() { String::new() } else { format!(": {}", known.note) };
        let line = format!("version {later} was acknowledged by {} at {}{note}", known.by, known.at);
        let _ = writeln!(text, "{}", printable(&line, &[]));
    }
    let value = json!({
        "connection_id": id, "previous_version": earlier, "catalog_version": later, "breaking_total": breaking,
        "additive_total": changes.len() - breaking, "changes": changes, "acknowledged": acknowledged,
    });
    Ok((text, value))
}

fn catalog(reader: &Reader, id: ConnectionId, version: Option<u32>) -> Result<(u32, String), CommandError> {
    reader.catalog(id, version)?.ok_or_else(|| {
        CommandError::new(match version {
            Some(version) => format!("{id} does not have catalog version {version}; aam catalog {id} lists the versions"),
            None => format!("{id} does not have a catalog yet, because discovery has not passed"),
        })
    })
}
