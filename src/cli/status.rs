//! `aam status [ID]`: lists connections, or shows one with its steps.

use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions};
use crate::clock;
use crate::model::{ConnectionId, Intent, StepReport};
use crate::registry::{Reader, RegistryError};
use crate::report::status;
use crate::snapshot::{Snapshot, WebhookCursor};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct StatusOptions {
    /// A connection id, or the start of one
    id: Option<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
}

/// Exits with 0, or with 1 if the connection does not exist.
pub fn run(common: &CommonOptions, options: &StatusOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let snapshot = reader.snapshot()?;
    let document = |seq: u64| -> Option<Intent> { serde_json::from_str(&reader.body(seq).ok()??).ok() };
    let Some(start) = &options.id else {
        let namespace = match &options.namespace {
            Some(namespace) => namespace.clone(),
            None => policy_in_force(common, &reader)?.policy.namespace.clone(),
        };
        let lines = status::lines(&snapshot, &namespace, clock::from_env().now(), document);
        let failing = failing_webhooks(&reader, &snapshot)?;
        common.print(&format!("{}{}", status::list(&lines), status::failing_webhooks(&failing)), &lines);
        return Ok(ExitCode::SUCCESS);
    };
    let matches: Vec<ConnectionId> =
        snapshot.connections.keys().filter(|id| id.to_string().starts_with(start.as_str())).copied().collect();
    let [id] = matches.as_slice() else {
        return Err(CommandError::new(match matches.len() {
            0 => format!("no connection has an id that starts with {start}; aam status lists the connections"),
            many => format!("{many} connections have an id that starts with {start}; give more of the id"),
        }));
    };
    let Some(known) = snapshot.connections.get(id) else {
        return Err(CommandError::new(format!("connection {id} was not found")));
    };
    let body = known.last.as_ref().and_then(|last| reader.body(last.seq).ok().flatten());
    let steps: Vec<StepReport> = body.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let intent = document(known.document);
    let text = status::details(*id, known, intent.as_ref(), &steps, clock::from_env().now());
    let value = serde_json::json!({ "connection_id": id, "status": known.state(), "intent": intent, "steps": steps,
        "credential_ends_at": known.credential_ends_at().map(crate::model::Timestamp::rfc3339) });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}

/// The webhooks that were stopped, with no tries, and those whose current message was not accepted.
fn failing_webhooks(reader: &Reader, snapshot: &Snapshot) -> Result<Vec<(String, u32, String)>, RegistryError> {
    let stopped = |(name, cursor): (&Arc<str>, &WebhookCursor)| Some((name.to_string(), 0, cursor.stopped.as_ref()?.to_string()));
    let tried = reader.webhook_messages()?.into_iter().filter(|message| message.tries > 0);
    let tried = tried.map(|message| (message.webhook, message.tries, message.problem));
    Ok(snapshot.webhooks.iter().filter_map(stopped).chain(tried).collect())
}
