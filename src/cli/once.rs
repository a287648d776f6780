//! `aam once`: reconciles until nothing else is due and prints the exec summary.

use super::{CommandResult, CommonOptions, EXIT_NOT_YET, report};
use crate::daemon;
use crate::funnel::funnel;
use crate::model::{ConnectionId, Intent};
use crate::reconcile::{self, FolderSync, Handle, Until};
use crate::report::holds::{self, HoldBody};
use std::process::ExitCode;
use std::sync::Arc;

/// The changes that are held.
fn held(handle: &Handle) -> Vec<HoldBody> {
    let reader = handle.registry.reader();
    let document = |id: ConnectionId| -> Option<Intent> {
        let seq = handle.registry.snapshot().connections.get(&id)?.document;
        serde_json::from_str(&reader.body(seq).ok()??).ok()
    };
    handle.holds.load().holds.iter().map(|hold| holds::body(hold, document)).collect()
}

/// Exits with 0 if the SLO is met, with 2 if not, and with 1 on an error.
pub async fn run(common: &CommonOptions) -> CommandResult {
    let handle = daemon::open(&common.paths(), "once", crate::clock::from_env()).await?;
    let env = Arc::new(daemon::env(&handle));
    let folder_sync = FolderSync::open(&handle, false)?;
    reconcile::run(Arc::clone(&handle), Arc::clone(&env), folder_sync, Until::Settled).await;
    env.providers.close().await;
    reconcile::evidence::finish(&handle, &env.egress).await;
    for problem in handle.problems.load().iter() {
        super::terminal::print_error(&format!("problem: {problem}\n"));
    }
    super::terminal::print_error(&holds::text(&held(&handle)));
    let trouble = handle.trouble.load().to_string();
    let policy = handle.policy();
    let folded = funnel(&handle.registry.snapshot(), &policy.namespace, policy.slo.coverage, handle.clock.now());
    handle.registry.close().await;
    report::print(common, &folded);
    if !trouble.is_empty() {
        return Err(super::CommandError::new(trouble));
    }
    Ok(if folded.slo_met { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}
