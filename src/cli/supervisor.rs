//! What the daemon reports to systemd: that it is ready, that it is alive, and that it stops.

use crate::reconcile::Handle;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

/// Reports that the daemon is ready, and afterwards that its threads run, as often as the watchdog asks for. A restart
/// would not help against a file system that does not answer, so that is not reported. Does nothing where no supervisor listens.
pub async fn report(handle: Arc<Handle>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if handle.ready.subscribe().wait_for(|ready| *ready).await.is_err() {
        return;
    }
    notify(&[NotifyState::Ready]);
    let Some(timeout) = watchdog() else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(timeout / 3).await;
    }
}

/// Reports that the daemon stops.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How long the supervisor waits for a sign of life, if it does.
fn watchdog() -> Option<Duration> {
    let us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(us)).filter(|timeout| !timeout.is_zero())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: "aam", %error, "cannot report to systemd");
    }
}
