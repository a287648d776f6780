//! `aam health`: whether the daemon is ready, for the health checks of containers, which have no HTTP client.

use super::{CommandError, CommandResult, CommonOptions, terminal};
use crate::server::probe;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam health                    0 if the daemon has read the intents and can write its registry
  aam health --live             0 if the daemon answers at all")]
pub struct HealthOptions {
    /// Ask only whether the process answers (/healthz instead of /readyz)
    #[arg(long)]
    live: bool,
}

/// Exits with 0 if the daemon is ready, and with 1 and the reason if it is not.
pub async fn run(common: &CommonOptions, options: &HealthOptions) -> CommandResult {
    let address = common.listener();
    let path = if options.live { "/healthz" } else { "/readyz" };
    let (status, body) = probe::get(address, path).await.map_err(|error| {
        CommandError::new(format!(
            "no AAM answers on {address}: {error}; start one with aam serve, or pass its address with --port and --bind"
        ))
    })?;
    if !status.is_success() {
        let reason = body["detail"].as_str().unwrap_or("it gives no reason");
        return Err(CommandError::new(format!("the AAM on {address} is not ready: {reason}")));
    }
    terminal::print_line(body["status"].as_str().unwrap_or("ok"));
    Ok(ExitCode::SUCCESS)
}
