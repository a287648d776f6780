//! What keeps the running daemon from working, on stderr beside the output of commands that read the registry. What the daemon
//! cannot record, the registry does not show.

use super::daemon_request::recorded;
use super::{CommonOptions, reachable, terminal};
use crate::registry::Holder;
use crate::server::meta::REGISTRY_TROUBLE;
use crate::server::probe::{self, Listener};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a command waits for the daemon, at most. It is a little less than 2 s, which no command is delayed by.
const TIMEOUT: Duration = Duration::from_millis(1900);
/// How often a command that waits for the daemon asks for its trouble.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Prints one line if the daemon of the registry is not ready or does not answer. Does nothing if none runs.
pub(super) async fn note(common: &CommonOptions) {
    let holder = recorded(common);
    let recorded_address = holder.as_ref().and_then(|holder| holder.address).map(reachable);
    let address = if common.is_given("port") || common.is_given("bind") { Some(common.listener()) } else { recorded_address };
    let Some(address) = address else { return };
    let line = match tokio::time::timeout(TIMEOUT, reason(common, address)).await {
        Ok(reason) => reason.map(|reason| not_ready(&reason)),
        // Another program may listen there now, so this is said only of the address in the lock.
        Err(_) => holder.filter(|_| recorded_address == Some(address)).and_then(|holder| silent(&holder, address)),
    };
    if let Some(line) = line {
        terminal::print_error(&line);
    }
}

/// Why the daemon that holds the registry is not ready, or `None` if it is ready or if no daemon of this registry answers.
async fn reason(common: &CommonOptions, address: SocketAddr) -> Option<String> {
    let Listener::Aam(running) = probe::listener(address).await else { return None };
    running.prove(common.registry.local()).ok()?;
    let (status, body) = probe::get(address, "/readyz").await.ok()?;
    let detail = body["detail"].as_str().unwrap_or("it gives no reason");
    (!status.is_success()).then(|| detail.to_string())
}

/// Why the daemon at `address` cannot use its registry, as soon as it cannot.
pub(super) async fn of_registry(address: SocketAddr) -> String {
    loop {
        if let Ok((_, body)) = probe::get(address, "/readyz").await
            && body["title"] == REGISTRY_TROUBLE
        {
            return body["detail"].as_str().unwrap_or("it gives no reason").to_string();
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The line for a daemon that is not ready. Most reasons say what to do.
fn not_ready(reason: &str) -> String {
    let reason = reason.trim_end_matches('.').replace('\n', " ");
    let fix = if reason.contains(';') { "" } else { "; aam health says when it is ready again, and its log has the details" };
    format!("warning: the daemon is not ready: {reason}{fix}\n")
}

/// The line for a daemon that runs and does not answer.
fn silent(holder: &Holder, address: SocketAddr) -> Option<String> {
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw)?;
    let runs = matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM));
    let pid = holder.pid;
    runs.then(|| {
        format!(
            "warning: the daemon (pid {pid}) did not answer on {address} within 2 s; look at its log; if it hangs, kill -9 {pid} is safe, and aam serve starts it again\n"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_what_to_do() {
        let full = not_ready("the disk is full; free some space");
        assert_eq!(full, "warning: the daemon is not ready: the disk is full; free some space\n");
        let stopping = not_ready("AAM is stopping.");
        assert!(stopping.starts_with("warning: the daemon is not ready: AAM is stopping; aam health says"), "{stopping}");
        let address: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let holder = |pid| Holder { pid, command: "serve".to_string(), version: String::new(), address: Some(address) };
        let own = silent(&holder(std::process::id()), address).unwrap_or_default();
        assert!(own.contains("did not answer on 127.0.0.1:5000 within 2 s; look at its log"), "{own}");
        assert_eq!(silent(&holder(0), address), None);
    }
}
