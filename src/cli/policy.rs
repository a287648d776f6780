//! `aam policy diff OLD NEW`: what would change, for which connections.

use super::{Common, Ended, Fail};
use crate::model::Intent;
use crate::policy::LoadedPolicy;
use crate::policy::diff::{self, ConnectionLine};
use crate::policy_loader;
use crate::registry::Reader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Say in plain words what would change from OLD to NEW, and for which connections
    Diff {
        /// The policy as it is, for example the file of the main branch
        old: PathBuf,
        /// The policy as it would be
        new: PathBuf,
    },
}

/// Exit 0; 78 when one of the two is bad.
pub fn run(common: &Common, command: &Command) -> Ended {
    let Command::Diff { old, new } = command;
    let (old, new) = (read(old)?, read(new)?);
    let lines = diff::diff(&old, &new, &connections(common));
    let text = if lines.is_empty() { "nothing changes\n".to_string() } else { lines.join("\n") + "\n" };
    common.print(&text, &lines);
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<LoadedPolicy, Fail> {
    policy_loader::load(path).loaded.map_err(|problems| Fail::config(&problems))
}

/// The connections of the registry; none when there is no registry yet.
fn connections(common: &Common) -> Vec<ConnectionLine> {
    let Ok(reader) = Reader::open(&common.registry) else { return Vec::new() };
    let Ok(snapshot) = reader.snapshot() else { return Vec::new() };
    let line = |(id, known): (&crate::model::ConnectionId, &crate::snapshot::Connection)| {
        let intent: Intent = serde_json::from_str(&reader.body(known.document).ok()??).ok()?;
        Some(ConnectionLine {
            id: *id,
            namespace: known.namespace.to_string(),
            source_type: known.source_type.to_string(),
            resource_ids: intent.resource_ids,
            risk: intent.risk_level,
            evidence_status: intent.evidence.status,
            confidence: intent.owner.confidence,
            state: known.state(),
        })
    };
    snapshot
        .connections
        .iter()
        .filter(|(_, known)| known.retired.is_none() && !snapshot.sealed.contains(&*known.namespace))
        .filter_map(|(id, known)| line((id, &**known)))
        .collect()
}
