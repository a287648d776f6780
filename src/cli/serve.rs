//! `aam serve`: watch, reconcile, serve.

use super::{Common, Ended, Fail};
use crate::daemon;
use crate::funnel::funnel;
use crate::model::Timestamp;
use crate::reconcile::{self, FolderSync, Handle, Until};
use crate::server::{self, ServerInfo};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What a shell shows for a process that SIGTERM ended.
const EXIT_AT_ONCE: i32 = 128 + 15;

/// Exit 0 after a graceful stop (143 if a second signal cut it short), or when an AAM already serves the port.
pub async fn run(common: &Common) -> Ended {
    let Some(listener) = bind(common).await? else { return Ok(ExitCode::SUCCESS) };
    let handle = daemon::open(&common.paths(), "serve", crate::clock::of_process()).await?;
    let env = Arc::new(daemon::env(&handle));
    let folder_sync = FolderSync::open(&handle, true)?;
    let info = info(common, &handle, listener.local_addr().map_or(common.port, |address| address.port()));
    greet(common, &handle, &info);
    let stop = tokio::spawn(stop_on_signal(Arc::clone(&handle)));
    let server = tokio::spawn(server::serve(Arc::clone(&handle), listener, info));
    let summary = tokio::spawn(print_when_settled(Arc::clone(&handle)));
    reconcile::run(Arc::clone(&handle), env, folder_sync, Until::Stopped).await;
    // The loop also ends when it was never asked to: then the rest must end with it.
    handle.stopping.send_replace(true);
    let _ = server.await;
    summary.abort();
    stop.abort();
    say(&handle);
    handle.registry.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The listener; `None`: an AAM serves this port already and is reused.
async fn bind(common: &Common) -> Result<Option<TcpListener>, Fail> {
    let address = SocketAddr::new(common.bind, common.port);
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Err(Fail::new(format!("cannot listen on {address}: {error}; choose another --bind or --port")));
    }
    let Some(running) = server::probe::running(common.port).await else {
        return Err(Fail::new(format!(
            "port {} is taken by another program; stop it, or start aam with --port N or PORT=N (aam never moves to another port by itself)",
            common.port
        )));
    };
    println!(
        "port {} is served by an aam already: reusing it (pid {}, registry {}, version {})",
        common.port, running.pid, running.registry, running.version
    );
    let ours = absolute(&common.registry);
    if running.registry != ours {
        println!("note: this start named the registry {ours}; for a second one give it its own --port");
    }
    Ok(None)
}

fn info(common: &Common, handle: &Handle, port: u16) -> ServerInfo {
    ServerInfo {
        service: "aam".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        registry: absolute(&common.registry),
        started: handle.started.rfc3339(),
        port,
    }
}

fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

fn greet(common: &Common, handle: &Handle, info: &ServerInfo) {
    let policy = handle.policy.load();
    println!("aam {} serves http://{}:{} (pid {})", info.version, common.bind, info.port, info.pid);
    println!(
        "registry {}, intents {}, policy {} ({})",
        info.registry,
        common.intents.display(),
        common.policy.display(),
        policy.policy.digest.short()
    );
    if let Some(rejected) = &policy.rejected {
        println!("the policy file is rejected, the last accepted policy is in force:");
        for problem in &rejected.problems {
            println!("  {problem}");
        }
    }
}

async fn stop_on_signal(handle: Arc<Handle>) {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(target: "aam", %error, "SIGTERM cannot be caught; kill -9 is safe too");
            return;
        }
    };
    asked(&mut terminate).await;
    tracing::info!(target: "aam", "stopping: attempts in flight end, nothing new begins; a second signal ends at once");
    handle.stopping.send_replace(true);
    asked(&mut terminate).await;
    tracing::warn!(target: "aam", "ended at once: attempts in flight count as interrupted");
    std::process::exit(EXIT_AT_ONCE);
}

async fn asked(terminate: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Prints the exec summary once nothing is pending any more.
async fn print_when_settled(handle: Arc<Handle>) {
    let mut ready = handle.ready.subscribe();
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    let mut finishes = handle.finishes();
    loop {
        // Folding costs a look at every connection: only when nothing runs.
        if handle.attempts_in_flight() == 0 && fold(&handle, handle.clock.now()).pending == 0 {
            say(&handle);
            return;
        }
        if finishes.changed().await.is_err() {
            return;
        }
    }
}

fn fold(handle: &Handle, now: Timestamp) -> crate::funnel::Funnel {
    let policy = handle.policy();
    funnel(&handle.registry.snapshot(), &policy.namespace, policy.slo.coverage, now)
}

fn say(handle: &Handle) {
    let folded = fold(handle, handle.clock.now());
    println!("{}", folded.summary.join("\n"));
}
