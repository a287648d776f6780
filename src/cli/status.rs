//! `aam status [ID]`: lists connections, or shows one with its steps.

use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions};
use crate::clock;
use crate::daemon;
use crate::model::{ConnectionId, Intent, StepReport};
use crate::plan::PlanContext;
use crate::plan::departures::Holds;
use crate::policy::LoadedPolicy;
use crate::reconcile::departures::{DepartureFinder, Departures};
use crate::registry::Reader;
use crate::report::holds::{self, HeldBody, HoldBody};
use crate::report::status;
use crate::snapshot::Snapshot;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct StatusOptions {
    /// A connection id, or the start of one
    id: Option<String>,
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
}

/// What is held according to the registry and the policy file. Changes of the folder are not read here; `aam plan` shows them.
fn held(snapshot: &Snapshot, policy: LoadedPolicy, document: &dyn Fn(u64) -> Option<Intent>) -> Holds {
    let engines = daemon::engines(clock::from_env());
    let context = PlanContext::new(policy, snapshot);
    let departures = Departures::find(snapshot, &DepartureFinder { engines: &engines, context: &context, document });
    Holds::new(snapshot, &departures, &context.policy)
}

/// Exits with 0, or with 1 if the connection does not exist.
pub fn run(common: &CommonOptions, options: &StatusOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let snapshot = reader.snapshot()?;
    let document = |seq: u64| -> Option<Intent> { serde_json::from_str(&reader.body(seq).ok()??).ok() };
    let Some(start) = &options.id else {
        let policy = policy_in_force(common, &reader);
        let namespace = match &options.namespace {
            Some(namespace) => namespace.clone(),
            None => policy.as_ref().map_err(CommandError::copy)?.policy.namespace.clone(),
        };
        let held = policy.map(|policy| held(&snapshot, policy, &document)).unwrap_or_default();
        let mut lines = status::lines(&snapshot, &namespace, clock::from_env().now(), document);
        for line in &mut lines {
            line.held = HeldBody::new(&held, line.connection_id);
        }
        let of_namespace = held.holds.iter().filter(|hold| hold.namespace == namespace);
        let bodies: Vec<HoldBody> =
            of_namespace.map(|hold| holds::body(hold, |id| document(snapshot.connections.get(&id)?.document))).collect();
        common.print(&(holds::text(&bodies) + &status::list(&lines)), &lines);
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
    let held = policy_in_force(common, &reader).map(|policy| held(&snapshot, policy, &document)).unwrap_or_default();
    let held = HeldBody::new(&held, *id);
    let mut text = status::details(*id, known, intent.as_ref(), &steps, clock::from_env().now());
    if let Some(held) = &held {
        text.push_str(&holds::held_line(held));
    }
    let value = serde_json::json!({ "connection_id": id, "status": known.state(), "intent": intent, "steps": steps, "held": held,
        "credential_ends_at": known.credential_ends_at().map(crate::model::Timestamp::rfc3339) });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}
