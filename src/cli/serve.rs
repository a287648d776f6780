//! `aam serve`: the daemon.

use super::{CommandError, CommandResult, CommonOptions, stop_signal, supervisor, terminal};
use crate::daemon::{self, StartError};
use crate::evidence_keeper;
use crate::funnel::funnel;
use crate::model::Timestamp;
use crate::notify;
use crate::reconcile::{self, FolderSync, Handle, Until};
use crate::registry;
use crate::server::probe::{Listener, RunningAam};
use crate::server::{self, ServerInfo};
use crate::shared_limits;
use crate::telemetry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Exits with 0 after a graceful stop or if an AAM already runs on the port, and with 143 after a second signal.
pub async fn run(common: &CommonOptions) -> CommandResult {
    let Some(listener) = bind(common).await? else { return Ok(ExitCode::SUCCESS) };
    let handle = daemon::open(&common.paths(), "serve", crate::clock::from_env()).await?;
    let env = Arc::new(daemon::env(&handle));
    shared_limits::restore(&handle, &env).await.map_err(StartError::from)?;
    let limits = tokio::spawn(shared_limits::run(Arc::clone(&handle), Arc::clone(&env)));
    let folder_sync = FolderSync::open(&handle, true)?;
    let address = listener.local_addr();
    if let Ok(address) = address {
        registry::record_address(common.registry.local(), "serve", address);
        handle.registry.describe(address.to_string(), handle.policy().digest.to_string());
    }
    let info = info(common, &handle, address.map_or(common.port, |address| address.port()));
    greet(common, &handle, &info);
    let stop = tokio::spawn(stop_signal::stop_on_signal(Arc::clone(&handle), log_stop));
    let reload = tokio::spawn(reload_on_signal(Arc::clone(&handle)));
    let supervisor = tokio::spawn(supervisor::report(Arc::clone(&handle)));
    let server = tokio::spawn(server::serve(Arc::clone(&handle), Arc::clone(&env), listener, info));
    let summary = tokio::spawn(print_when_settled(Arc::clone(&handle)));
    let providers = Arc::clone(&env.providers);
    let upkeep = tokio::spawn(async move { providers.maintain().await });
    let notifier = tokio::spawn(notify::run(Arc::clone(&handle), Arc::clone(&env)));
    let evidence = tokio::spawn(evidence_keeper::keep(Arc::clone(&handle), Arc::clone(&env)));
    reconcile::run(Arc::clone(&handle), Arc::clone(&env), folder_sync, Until::Stopped).await;
    upkeep.abort();
    supervisor.abort();
    supervisor::stopping();
    env.providers.close().await;
    // If the loop has ended without a request to stop, which would be a defect, the server must stop too.
    handle.stopping.send_replace(true);
    let _ = server.await;
    let _ = notifier.await;
    summary.abort();
    stop.abort();
    reload.abort();
    evidence.abort();
    limits.abort();
    evidence_keeper::finish(&handle, &env).await;
    env.egress.release_shares().await;
    print_summary(&handle);
    handle.registry.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Binds the port. Returns `None` if an AAM already runs on it.
async fn bind(common: &CommonOptions) -> Result<Option<TcpListener>, CommandError> {
    let address = SocketAddr::new(common.bind, common.port);
    let error = match server::bind(address) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Err(CommandError::new(format!(
            "cannot listen on {address}: {error}; choose another address with --bind or another port with --port"
        )));
    }
    match server::probe::listener(common.listener()).await {
        Listener::Aam(running) => {
            reuse(common, *running)?;
            Ok(None)
        }
        Listener::Absent | Listener::Other => Err(CommandError::new(format!(
            "port {} is taken by another program; stop it, or choose another port with --port N or PORT=N (aam never switches ports by itself)",
            common.port
        ))),
    }
}

/// Reports the AAM that listens on the port. It must prove that it holds its registry, because any program could claim to
/// be an AAM.
fn reuse(common: &CommonOptions, running: RunningAam) -> Result<(), CommandError> {
    let (ours, theirs) = (absolute(common.registry.local()), running.info.registry.clone());
    let registry = if theirs == ours { common.registry.local().to_path_buf() } else { PathBuf::from(&theirs) };
    let running = running.prove(&registry).map_err(|reason| {
        CommandError::new(format!(
            "port {} is taken by a program that reports to be an AAM, but did not prove that it holds the registry {theirs:?}: {reason}; stop it, or choose another port with --port N or PORT=N",
            common.port
        ))
    })?;
    let info = running.info;
    terminal::print_line(&format!("AAM already runs on port {} (pid {}); this command changed nothing", common.port, info.pid));
    terminal::print_line(&format!("registry {}, version {}", info.registry, info.version));
    terminal::print_line(&format!(
        "to restart it, for example with new environment variables: aam stop --registry {}, then run this command again",
        quoted(&info.registry)
    ));
    if theirs != ours {
        terminal::print_line(&format!("note: you asked for the registry {ours}; to run a second AAM, give it its own --port"));
    }
    Ok(())
}

/// Quotes a path for a shell, if that is needed.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    match path.chars().all(plain) {
        true => path.to_string(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

fn info(common: &CommonOptions, handle: &Handle, port: u16) -> ServerInfo {
    ServerInfo {
        service: "aam".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        registry: absolute(common.registry.local()),
        started: handle.started.rfc3339(),
        port,
    }
}

fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

fn greet(common: &CommonOptions, handle: &Handle, info: &ServerInfo) {
    let policy = handle.policy.load();
    terminal::print_line(&format!("aam {} serves http://{}:{} (pid {})", info.version, common.bind, info.port, info.pid));
    terminal::print_line(&format!(
        "registry {}, intents {}, policy {} ({})",
        info.registry,
        common.intents.display(),
        common.policy.display(),
        policy.policy.digest.short()
    ));
    if let Some(rejected) = &policy.rejected {
        terminal::print_line("the policy file is not valid; the last accepted policy stays in force:");
        for problem in &rejected.problems {
            terminal::print_line(&format!("  {problem}"));
        }
    }
}

/// Logs that the daemon was asked to stop while `attempts` were in flight.
fn log_stop(attempts: usize) {
    match attempts {
        0 => tracing::info!(target: "aam", "stopping: no attempt is in flight"),
        attempts => {
            tracing::info!(target: "aam", attempts, "stopping: waiting for the attempts in flight; send a second signal to stop at once");
        }
    }
}

/// Opens the log file again and wakes the loop on SIGHUP, which `aam reload` and programs that rotate logs send.
async fn reload_on_signal(handle: Arc<Handle>) {
    let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        if let Err(error) = telemetry::reopen() {
            tracing::error!(target: "aam", "{error}; the log goes on in the file that is open");
        }
        tracing::info!(target: "aam", "reading the policy and the intents again");
        handle.wake_signal().notify_one();
    }
}

/// Prints the exec summary as soon as none of the connections is PENDING.
async fn print_when_settled(handle: Arc<Handle>) {
    let mut ready = handle.ready.subscribe();
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    let mut finishes = handle.finishes();
    loop {
        // Computing the funnel visits every connection, so this is done only while no attempt is running.
        if handle.attempts_in_flight() == 0 && current_funnel(&handle, handle.clock.now()).pending == 0 {
            print_summary(&handle);
            return;
        }
        if finishes.changed().await.is_err() {
            return;
        }
    }
}

fn current_funnel(handle: &Handle, now: Timestamp) -> crate::funnel::Funnel {
    let policy = handle.policy();
    funnel(&handle.registry.snapshot(), &policy.namespace, policy.slo.coverage, now)
}

fn print_summary(handle: &Handle) {
    terminal::print_line(&current_funnel(handle, handle.clock.now()).summary.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("/var/lib/aam/aam.db"), "/var/lib/aam/aam.db");
        assert_eq!(quoted("/tmp/my aam's.db"), r"'/tmp/my aam'\''s.db'");
    }
}
