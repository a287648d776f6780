//! `aam status [ID]`: lists connections, or shows one with its steps and its history.

use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, Format, complete, connection, left, problems, since, terminal};
use crate::clock;
use crate::daemon;
use crate::families::{self, aliases};
use crate::model::problem::nearest;
use crate::model::{DEMO_NAMESPACE, Intent, MissingFiles, State, StepReport, Timestamp};
use crate::plan::PlanContext;
use crate::plan::departures::Holds;
use crate::policy::LoadedPolicy;
use crate::reconcile::departures::{DepartureFinder, Departures};
use crate::registry::{Reader, RegistryError};
use crate::report::holds::{self, HeldBody, HoldBody};
use crate::report::status_table::{self, Column, ListOptions};
use crate::report::{history, status};
use crate::snapshot::{Snapshot, WebhookCursor};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How often `--watch` looks at the registry.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The number of events in the history of a connection.
const MAX_EVENTS: usize = 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam status                                  what is connected, and what blocks the rest
  aam status --state error,healing            what to look at first
  aam status --family okta --since 24h        what changed since yesterday
  aam status --columns state,resource,cause   one line for each connection
  aam status 3f2a                             the steps and the history of one")]
pub struct StatusOptions {
    /// A connection id, or the start of one
    id: Option<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
    /// Only connections in these states, for example error,healing
    #[arg(long, value_delimiter = ',', value_parser = state)]
    state: Vec<State>,
    /// Only connections of these families
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Only connections whose owner contains this text
    #[arg(long)]
    owner: Option<String>,
    /// Only connections of which something new was found since then: 24h, or an RFC 3339 timestamp
    #[arg(long)]
    since: Option<String>,
    /// The number of connections at most
    #[arg(long)]
    limit: Option<usize>,
    /// One line for each connection, with these columns
    #[arg(long, value_enum, value_delimiter = ',')]
    columns: Vec<Column>,
    /// Print again whenever something changes, until the command is interrupted
    #[arg(long)]
    watch: bool,
}

/// Parses a state in any case, with `-` or `_`.
pub(super) fn state(text: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::as_str).join(", ").to_lowercase();
    State::parse(&text.trim().replace('-', "_")).ok_or_else(|| format!("the states are {}", names()))
}

/// What is held according to the registry and the policy file. Changes of the folder are not read here; `aam plan` shows them.
fn held(snapshot: &Snapshot, policy: LoadedPolicy, document: &dyn Fn(u64) -> Option<Intent>) -> Holds {
    let engines = daemon::engines(clock::from_env());
    let context = PlanContext::new(policy, snapshot);
    let departures = Departures::find(snapshot, &DepartureFinder { engines: &engines, context: &context, document });
    Holds::new(snapshot, &departures, &context.policy)
}

/// What is printed.
struct Content {
    text: String,
    json: serde_json::Value,
    /// The archive files that are missing, so that what is in them is not printed.
    missing: MissingFiles,
}

/// Exits with 0, or with 1 if the connection does not exist or an archive file with what was asked for is missing.
pub async fn run(common: &CommonOptions, options: &StatusOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    problems::note(common, Some(&reader));
    if !options.watch {
        let content = content(common, options, &reader)?;
        common.print(&content.text, &content.json);
        return complete(&content.missing);
    }
    let mut last = String::new();
    loop {
        let Content { mut text, json, missing } = content(common, options, &reader)?;
        if !missing.is_empty() {
            text.push_str(&format!("\n{}\n", missing.text()));
        }
        if text != last {
            if common.format == Format::Text {
                terminal::clear();
            }
            common.print(&text, &json);
            last = text;
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// Returns the output as text and as JSON.
fn content(common: &CommonOptions, options: &StatusOptions, reader: &Reader) -> Result<Content, CommandError> {
    match &options.id {
        Some(start) => one(common, reader, start),
        None => list(common, options, reader),
    }
}

fn list(common: &CommonOptions, options: &StatusOptions, reader: &Reader) -> Result<Content, CommandError> {
    let now = clock::from_env().now();
    let policy = policy_in_force(common, reader);
    let namespace = match &options.namespace {
        Some(namespace) => namespace.clone(),
        None => policy.as_ref().map_err(CommandError::copy)?.policy.namespace.clone(),
    };
    let (snapshot, document) = (reader.snapshot()?, |seq| document(reader, seq));
    if options.namespace.is_some() {
        check_namespace(&namespace, &snapshot, policy.as_ref().ok())?;
    }
    let families = family_names(&options.family, &snapshot, policy.as_ref().ok())?;
    let since = options.since.as_ref().map(|text| since::parse("--since", text, now)).transpose();
    let list = ListOptions {
        states: options.state.clone(),
        families,
        owner: options.owner.clone(),
        since: since.map_err(CommandError::usage)?,
        limit: options.limit,
        columns: options.columns.clone(),
    };
    let held = policy.map(|policy| held(&snapshot, policy, &document)).unwrap_or_default();
    let mut all = status::lines(&snapshot, &namespace, now, document);
    for line in &mut all {
        line.held = HeldBody::new(&held, line.connection_id);
    }
    let of_namespace = held.holds.iter().filter(|hold| hold.namespace == namespace);
    let bodies: Vec<HoldBody> =
        of_namespace.map(|hold| holds::body(hold, |id| document(snapshot.connections.get(&id)?.document))).collect();
    let shown = list.select(&all);
    let json = serde_json::to_value(&shown).unwrap_or_default();
    let failing = status::failing_webhooks(&failing_webhooks(reader, &snapshot)?);
    let text = holds::text(&bodies) + &status_table::list(&all, &shown, &list, now) + &failing;
    // Intents are never in archive files.
    Ok(Content { text, json, missing: MissingFiles::default() })
}

/// Refuses a namespace that neither the registry nor the policy knows.
fn check_namespace(namespace: &str, snapshot: &Snapshot, policy: Option<&LoadedPolicy>) -> Result<(), CommandError> {
    let mut known = snapshot.open_namespaces();
    known.extend(snapshot.sealed.iter().cloned());
    known.insert(DEMO_NAMESPACE.to_string());
    if let Some(loaded) = policy {
        known.insert(loaded.policy.namespace.clone());
        known.extend(loaded.policy.api.tokens.iter().flat_map(|token| token.namespaces.iter().cloned()));
    }
    if known.contains(namespace) {
        return Ok(());
    }
    // A token of the policy may name all namespaces.
    known.remove("*");
    let known: Vec<String> = known.into_iter().collect();
    Err(CommandError::usage(format!("unknown namespace {namespace}; the namespaces are {}", known.join(", "))))
}

/// Returns the proper name of each family. Families of the registry count, because an intent may name one that does not exist.
fn family_names(wanted: &[String], snapshot: &Snapshot, policy: Option<&LoadedPolicy>) -> Result<Vec<String>, CommandError> {
    let mut known: BTreeSet<&str> = families::ids().collect();
    known.extend(policy.into_iter().flat_map(|loaded| loaded.sources.ids()));
    known.extend(snapshot.families.iter().map(|family| &**family));
    let proper = |name: &String| {
        let lower = name.trim().to_lowercase();
        if known.contains(&*lower) {
            return Ok(lower);
        }
        if let Some(alias) = aliases::alias(&lower) {
            return Ok(alias.to_string());
        }
        let near = nearest(&lower, known.iter().copied()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Err(CommandError::usage(format!("unknown family {name}{near}; aam families lists all families")))
    };
    wanted.iter().map(proper).collect()
}

fn document(reader: &Reader, seq: u64) -> Option<Intent> {
    serde_json::from_str(&reader.body(seq).ok()??).ok()
}

fn one(common: &CommonOptions, reader: &Reader, start: &str) -> Result<Content, CommandError> {
    let snapshot = reader.snapshot()?;
    let id = &connection::find(&snapshot, start)?;
    let Some(known) = snapshot.connections.get(id) else {
        return Err(CommandError::new(format!("connection {id} was not found")));
    };
    let mut missing = MissingFiles::default();
    let body = known.last.as_ref().and_then(|last| left(reader, last.seq, &mut missing));
    let steps: Vec<StepReport> = body.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let intent = document(reader, known.document);
    let now = clock::from_env().now();
    let (mut events, mut more) = (Vec::new(), false);
    reader.history(*id, None, 0, |version| {
        more = events.len() == MAX_EVENTS;
        if !more {
            events.extend(history::event(&version.entry));
        }
        !more
    })?;
    let held = policy_in_force(common, reader).map(|policy| held(&snapshot, policy, &|seq| document(reader, seq)));
    let held = HeldBody::new(&held.unwrap_or_default(), *id);
    let mut text = status::details(*id, &known, intent.as_ref(), &steps, now);
    if let Some(held) = &held {
        text.push_str(&holds::held_line(held));
    }
    text.push_str(&history::text(&events, more, now));
    let mut json = serde_json::json!({ "connection_id": id, "status": known.state(), "intent": intent, "steps": steps, "held": held,
        "credential_ends_at": known.credential_ends_at().map(Timestamp::rfc3339), "history": events });
    if !missing.is_empty() {
        json["missing_files"] = serde_json::json!(missing.named());
    }
    Ok(Content { text, json, missing })
}

/// The webhooks that were stopped, with no tries, and those whose current message was not accepted.
fn failing_webhooks(reader: &Reader, snapshot: &Snapshot) -> Result<Vec<(String, u32, String)>, RegistryError> {
    let stopped = |(name, cursor): (&Arc<str>, &WebhookCursor)| Some((name.to_string(), 0, cursor.stopped.as_ref()?.to_string()));
    let tried = reader.webhook_messages()?.into_iter().filter(|message| message.tries > 0);
    let tried = tried.map(|message| (message.webhook, message.tries, message.problem));
    Ok(snapshot.webhooks.iter().filter_map(stopped).chain(tried).collect())
}
