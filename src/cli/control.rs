//! `aam stop`, `aam restart` and `aam reload`: signals to the daemon that holds the registry.

use super::{CommandError, CommandResult, CommonOptions, daemon_request, serve, terminal};
use crate::server::probe::ProvenAam;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::process::ExitCode;
use std::time::Duration;

/// How long a daemon may take to stop: it gives attempts and requests in flight 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ends the daemon. Exits with 0 as soon as it has ended.
pub async fn stop(common: &CommonOptions) -> CommandResult {
    let pid = pid(&daemon_request::daemon(common).await?)?;
    end(pid).await?;
    terminal::print_line(&format!("AAM (pid {}) has stopped", pid.as_raw_nonzero()));
    Ok(ExitCode::SUCCESS)
}

/// Ends the daemon and serves in its place, with the environment and the flags of this command. Without `--port` and `--bind`, it
/// serves on the address of the daemon before.
pub async fn restart(common: &CommonOptions) -> CommandResult {
    let running = daemon_request::daemon(common).await?;
    let pid = pid(&running)?;
    let before = daemon_request::recorded(common).filter(|holder| holder.pid == running.info.pid);
    drop(running);
    end(pid).await?;
    let mut common = common.clone();
    if let Some(address) = before.and_then(|holder| holder.address) {
        common.port = if common.is_given("port") { common.port } else { address.port() };
        common.bind = if common.is_given("bind") { common.bind } else { address.ip() };
    }
    serve::run(&common).await
}

/// Makes the daemon read the policy and the intents now, also where the file system reports no changes.
pub async fn reload(common: &CommonOptions) -> CommandResult {
    let pid = pid(&daemon_request::daemon(common).await?)?;
    signal(pid, Signal::HUP)?;
    terminal::print_line(&format!(
        "AAM (pid {}) reads the policy and the intents again; aam check says what it finds",
        pid.as_raw_nonzero()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The id of the process that proved that it holds the registry.
fn pid(running: &ProvenAam) -> Result<Pid, CommandError> {
    let pid = i32::try_from(running.info.pid).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| {
        CommandError::new(format!("the daemon reports the pid {}, which is not one of a process", running.info.pid))
    })
}

fn signal(pid: Pid, signal: Signal) -> Result<(), CommandError> {
    kill_process(pid, signal).map_err(|error| {
        let pid = pid.as_raw_nonzero();
        CommandError::new(format!("cannot signal the daemon (pid {pid}): {error}; run this command as its user, on its machine"))
    })
}

/// Whether the process has ended, also if its parent has not taken notice of that yet.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    matches!(state, Some("Z" | "X")) || test_kill_process(pid).is_err()
}

async fn end(pid: Pid) -> Result<(), CommandError> {
    signal(pid, Signal::TERM)?;
    let gone = async {
        while !has_ended(pid) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(STOP_TIMEOUT, gone).await.map_err(|_| {
        let (pid, seconds) = (pid.as_raw_nonzero(), STOP_TIMEOUT.as_secs());
        CommandError::new(format!("the daemon (pid {pid}) has not stopped within {seconds} s; kill -9 {pid} is safe"))
    })
}
