//! `aam status [ID]`: connections, or the steps of one.

use super::report::policy_in_force;
use super::{Common, Ended, Fail};
use crate::model::{ConnectionId, Intent, StepReport};
use crate::registry::Reader;
use crate::report::status;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Options {
    /// A connection id, or the start of one
    id: Option<String>,
    /// Namespace; default: that of the policy
    #[arg(long)]
    namespace: Option<String>,
}

/// Exit 0; 1 when the id is not known.
pub fn run(common: &Common, options: &Options) -> Ended {
    let reader = Reader::open(&common.registry)?;
    let snapshot = reader.snapshot()?;
    let document = |seq: u64| -> Option<Intent> { serde_json::from_str(&reader.body(seq).ok()??).ok() };
    let Some(start) = &options.id else {
        let namespace = match &options.namespace {
            Some(namespace) => namespace.clone(),
            None => policy_in_force(common, &reader)?.policy.namespace.clone(),
        };
        let lines = status::lines(&snapshot, &namespace, document);
        common.print(&status::list(&lines), &lines);
        return Ok(ExitCode::SUCCESS);
    };
    let fitting: Vec<ConnectionId> =
        snapshot.connections.keys().filter(|id| id.to_string().starts_with(start.as_str())).copied().collect();
    let [id] = fitting.as_slice() else {
        let word = if fitting.is_empty() { "no connection" } else { "more than one connection" };
        return Err(Fail::new(format!("{word} starts with {start}; aam status lists them")));
    };
    let Some(known) = snapshot.connections.get(id) else { return Err(Fail::new("the connection went away")) };
    let body = known.last.as_ref().and_then(|last| reader.body(last.seq).ok().flatten());
    let steps: Vec<StepReport> = body.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let intent = document(known.document);
    let text = status::story(*id, known, intent.as_ref(), &steps);
    let value = serde_json::json!({ "connection_id": id, "status": known.state(), "intent": intent, "steps": steps });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}
