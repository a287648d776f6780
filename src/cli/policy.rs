//! `aam policy diff OLD NEW`: shows what would change and for which connections.

use super::{CommandError, CommandResult, CommonOptions};
use crate::families::{self, aliases::not_understood};
use crate::model::Intent;
use crate::policy::LoadedPolicy;
use crate::policy::diff::{self, ConnectionLine};
use crate::policy_loader;
use crate::registry::Reader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum PolicyCommand {
    /// Explain what would change from OLD to NEW, and for which connections
    Diff {
        /// The policy as it is, for example the file of the main branch
        old: PathBuf,
        /// The policy as it would be
        new: PathBuf,
    },
}

/// Exits with 0, or with 78 if one of the policies is not valid.
pub fn run(common: &CommonOptions, command: &PolicyCommand) -> CommandResult {
    let PolicyCommand::Diff { old, new } = command;
    let (old, new) = (read(old)?, read(new)?);
    let lines = diff::diff(&old, &new, connections(common).as_deref());
    let text = if lines.is_empty() { "no changes\n".to_string() } else { lines.join("\n") + "\n" };
    common.print(&text, &lines);
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<LoadedPolicy, CommandError> {
    policy_loader::load(path).loaded.map_err(|problems| CommandError::config(&problems))
}

/// Returns the connections of the registry, or `None` if it cannot be read, for example because it does not exist.
fn connections(common: &CommonOptions) -> Option<Vec<ConnectionLine>> {
    let reader = Reader::open(&common.registry).ok()?;
    let snapshot = reader.snapshot().ok()?;
    let line = |(id, known): (&crate::model::ConnectionId, &crate::snapshot::Connection)| {
        let intent: Intent = serde_json::from_str(&reader.body(known.document).ok()??).ok()?;
        Some(ConnectionLine {
            is_understood: not_understood(&intent).is_empty(),
            id: *id,
            namespace: known.namespace.to_string(),
            source_type: known.source_type.to_string(),
            resource_ids: intent.resource_ids,
            risk: families::risk(&known.source_type, intent.risk_level.risk()),
            evidence_status: intent.evidence.status,
            confidence: intent.owner.confidence,
            state: known.state(),
            origins: known.origins_in_force().cloned().collect(),
            locator: intent.credential_locator,
        })
    };
    let lines = snapshot
        .connections
        .iter()
        .filter(|(_, known)| known.retired.is_none() && !snapshot.is_closed(&known.namespace))
        .filter_map(|(id, known)| line((id, &**known)))
        .collect();
    Some(lines)
}
