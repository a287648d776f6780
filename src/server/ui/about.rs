//! About: the version, the process, its health, and the limits in force.

use super::super::meta::not_ready;
use super::super::request::{ApiRequest, ApiResult};
use super::super::{onboard, session};
use super::{Page, View, respond};
use crate::meters::meters;
use crate::model::Timestamp;
use crate::model::text::{age, counted};
use crate::page::Place;
use crate::page::about::{AboutPage, Health, RegistryFile, render, size};
use crate::page::policy::cap_text;
use crate::policy::duration_text::format as duration;
use crate::policy::{Policy, size_text};
use std::path::Path;
use std::time::Duration;

/// The commit that this binary was built from, or `unknown` if it was not built in a git checkout.
const COMMIT: &str = env!("AAM_COMMIT");
/// How late an attempt may be before the page says so. The loop begins many attempts at once.
const LATE: Duration = Duration::from_secs(30);

/// `GET /ui/about`
///
/// # Errors
/// 400, 403, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    respond(request, |view| {
        let main = render(&collect(view));
        Ok(Page { title: "About".to_string(), place: Place::About, main })
    })
    .await
}

fn collect(view: &View) -> AboutPage {
    let (info, handle) = (&view.app.info, &view.app.handle);
    AboutPage {
        links: view.links.clone(),
        now: view.now,
        is_past: view.is_past(),
        version: info.version.clone(),
        commit: COMMIT.to_string(),
        pid: info.pid,
        started: Timestamp::parse(&info.started).unwrap_or(handle.started),
        registry: view.sees_registry().then(|| registry(view)),
        health: health(view),
        limits: limits(view, &handle.policy()),
    }
}

/// The file of the registry as it is now.
fn registry(view: &View) -> RegistryFile {
    let path = view.app.handle.registry.path();
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let bytes = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.len());
    let size = bytes(path).map(|file| (file, bytes(Path::new(&log)).unwrap_or(0)));
    let snapshot = view.app.handle.registry.snapshot();
    RegistryFile { path: view.app.info.registry.clone(), size, entries: snapshot.seq, connections: snapshot.connections.len() }
}

fn health(view: &View) -> Health {
    let handle = &view.app.handle;
    let mut late = Vec::new();
    if let Some(age) = handle.overdue() {
        late.push(format!("The policy and the intents folder were last read {} s ago.", age.as_secs()));
    }
    let due = meters().read().queue_next_due_ms.map(Timestamp);
    if let Some(waited) = due.map(|due| view.now.since(due)).filter(|waited| *waited > LATE) {
        late.push(format!("The next attempt has been due for {}.", age(waited)));
    }
    if view.sees_registry() {
        let failing = handle.webhooks.load().iter().filter(|webhook| !webhook.problem.is_empty()).count();
        if failing > 0 {
            let verb = if failing == 1 { "does" } else { "do" };
            late.push(format!("{} {verb} not receive its messages.", counted(failing, "webhook")));
        }
    }
    Health {
        not_ready: not_ready(handle).map(|(title, reason)| (title.to_string(), reason)),
        late,
        attempts_in_flight: handle.attempts_in_flight(),
    }
}

fn limits(view: &View, policy: &Policy) -> Vec<(String, Vec<(String, String)>)> {
    let (server, mode) = (&view.app.limits, &policy.safe_mode);
    let bytes = |count: usize| size(u64::try_from(count).unwrap_or(u64::MAX));
    let groups = [
        (
            "Safe Mode",
            vec![
                ("Items of each stream in a first sync", mode.max_items.to_string()),
                ("A step", duration(&mode.step_timeout)),
                ("An attempt", duration(&mode.attempt_timeout)),
                ("Writes to a source", "none: AAM has no call that writes".to_string()),
            ],
        ),
        (
            "Calls and attempts",
            vec![
                ("Calls to one account by default", cap_text(&policy.caps.default)),
                ("Attempts at the same time", policy.reconcile.concurrency.to_string()),
                ("Memory of all attempts", size_text::format(&policy.reconcile.memory)),
                (
                    "Recorded calls are kept for",
                    counted(usize::try_from(policy.evidence.keep_calls).unwrap_or(usize::MAX), "day"),
                ),
            ],
        ),
        (
            "Server",
            vec![
                ("Open connections", format!("{}, and {} more for health checks and tokens", server.connections, server.reserve)),
                (
                    "Requests of one token",
                    format!("{} a second, {} in a burst", policy.api.rate.per_second, policy.api.rate.burst),
                ),
                ("Body of a request", bytes(onboard::MAX_BODY_BYTES)),
                ("Body of a batch", bytes(onboard::MAX_BATCH_BYTES)),
                ("Headers arrive within", duration(&server.header_read)),
                ("A body arrives within", duration(&server.body_read)),
                ("A response is ready within", duration(&server.request)),
                ("A session of a person lasts", duration(&session::LIFETIME)),
            ],
        ),
    ];
    let named = |(title, limits): (&str, Vec<(&str, String)>)| {
        (title.to_string(), limits.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<Vec<_>>())
    };
    groups.into_iter().map(named).collect()
}
