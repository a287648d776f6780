//! `aam confirm`: confirms a change that is held, or lists the held changes.

use super::daemon_request::DaemonRequest;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::daemon;
use crate::plan::departures::Hold;
use crate::reconcile::{self, FolderSync, Until};
use crate::report::holds::{self, HoldBody};
use crate::server::probe::{self, Listener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(clap::Args)]
pub struct ConfirmOptions {
    /// The digest of the change, as aam status, aam plan and aam once show it; without one, list what is held
    digest: Option<String>,
}

/// How long the daemon may take to record a confirmation.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running daemon records the confirmation. It needs a token with the scope `ops:confirm`, or the admin token, which exists
/// only while the policy lists no token.
///
/// Exits with 0 if the change was confirmed or nothing is held, with 2 if something is held and no digest was given, and
/// with 1 on an error.
pub async fn run(common: &CommonOptions, options: &ConfirmOptions) -> CommandResult {
    let Some(digest) = &options.digest else { return list(common).await };
    if digest.len() < 12 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(CommandError::usage(
            "the digest of a held change is 12 to 64 hex digits; aam confirm without a digest lists what is held",
        ));
    }
    let running = !matches!(probe::listener(common.listener()).await, Listener::Absent);
    if running {
        let without_token =
            format!("; or write the digest into the policy, which needs no token: reconcile: {{confirm: [\"{digest}\"]}}");
        let daemon = DaemonRequest {
            common,
            scope: "ops:confirm",
            without_token: &without_token,
            timeout: TIMEOUT,
            prefer: "respond-async",
            ends_on_trouble: false,
        };
        let answer = daemon.post(&format!("/holds/{digest}/confirm"), &serde_json::json!({})).await?;
        common.print(&format!("{}\n", answer["message"].as_str().unwrap_or_default()), &answer);
        return Ok(ExitCode::SUCCESS);
    }
    offline(common, digest).await
}

/// Confirms without a daemon: reads the folder and the policy, as the next run would, and retires what is confirmed.
async fn offline(common: &CommonOptions, digest: &str) -> CommandResult {
    let handle = daemon::open(&common.paths(), "confirm", crate::clock::from_env()).await?;
    let env = Arc::new(daemon::env(&handle));
    let sync = async |handle: &Arc<reconcile::Handle>| -> Result<(), CommandError> {
        let folder_sync = FolderSync::open(handle, false)?;
        reconcile::run(Arc::clone(handle), Arc::clone(&env), folder_sync, Until::Synced).await;
        Ok(())
    };
    sync(&handle).await?;
    let all = handle.holds.load_full();
    let hold = all.holds.iter().find(|hold| hold.digest.to_string().starts_with(&digest.to_lowercase()));
    let result = match hold {
        None => Err(CommandError::new(match all.holds.first() {
            Some(other) => format!(
                "the held change is another one now: {}; nothing was confirmed; aam confirm without a digest shows it",
                other.digest.short()
            ),
            None => "nothing is held, so nothing was confirmed".to_string(),
        })),
        Some(hold) => confirm(&handle, hold).await,
    };
    if result.is_ok() {
        sync(&handle).await?;
    }
    handle.registry.close().await;
    let text = result?;
    common.print(&format!("{text}\n"), &serde_json::json!({ "message": text }));
    Ok(ExitCode::SUCCESS)
}

async fn confirm(handle: &reconcile::Handle, hold: &Hold) -> Result<String, CommandError> {
    let members = hold.departures.iter().map(|(id, departure)| (*id, departure.cause)).collect();
    handle.registry.confirm(members, "aam confirm").await?;
    Ok(holds::confirmed(hold))
}

/// Lists what is held, as `aam plan` sees it.
async fn list(common: &CommonOptions) -> CommandResult {
    let held: Vec<HoldBody> = super::plan::held(common)?;
    let text = match held.is_empty() {
        true => "nothing is held\n".to_string(),
        false => holds::text(&held),
    };
    common.print(&text, &held);
    Ok(if held.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}
