//! Ends a process in order on SIGTERM or Ctrl-C: attempts in flight get time to end, and what they did is recorded.

use crate::reconcile::Handle;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code that shells report for a process that was ended by SIGTERM.
const EXIT_SIGTERM: i32 = 128 + 15;

/// Waits for the first signal, calls `begin` with the number of attempts in flight, and asks the loop to stop. A second signal
/// ends the process at once; the attempts in flight then count as interrupted.
pub async fn stop_on_signal(handle: Arc<Handle>, begin: impl FnOnce(usize)) {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(target: "aam", %error, "cannot handle SIGTERM; to stop aam, use kill -9, which is safe");
            return;
        }
    };
    next_signal(&mut terminate).await;
    begin(handle.attempts_in_flight());
    handle.stopping.send_replace(true);
    next_signal(&mut terminate).await;
    tracing::warn!(target: "aam", "stopped at once; attempts in flight count as interrupted");
    crate::connectors::airbyte::remove_runs();
    std::process::exit(EXIT_SIGTERM);
}

async fn next_signal(terminate: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
