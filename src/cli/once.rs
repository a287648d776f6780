//! `aam once`: reconciles until nothing else is due and prints the exec summary.

use super::progress::{self, Progress, Reading};
use super::{CommandResult, CommonOptions, EXIT_NOT_YET, problems, report, stop_signal, terminal};
use crate::daemon::{self, StartError};
use crate::evidence_keeper;
use crate::funnel::funnel;
use crate::model::text::counted;
use crate::model::{ConnectionId, Intent, State, Timestamp};
use crate::plan::{self, PlanContext};
use crate::reconcile::{self, FolderSync, Handle, Until, interrupted};
use crate::report::holds::{self, HoldBody};
use crate::report::status_table;
use crate::shared_limits;
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is logged without a flag. The summary names what blocks connections, `aam status` shows each of them, and the problems of
/// files are printed at the end, so that thousands of connections do not become thousands of lines.
pub const LOG_FILTER: &str = "warn,aam::attempt=error,aam::intake=off";

/// The changes that are held.
fn held(handle: &Handle) -> Vec<HoldBody> {
    handle.holds.load().holds.iter().map(|hold| holds::body(hold, |id| document(handle, id))).collect()
}

/// The intent in force.
fn document(handle: &Handle, id: ConnectionId) -> Option<Intent> {
    let seq = handle.registry.snapshot().connections.get(&id)?.document;
    serde_json::from_str(&handle.registry.reader().body(seq).ok()??).ok()
}

/// The number of connections that are named after a stop.
const MAX_LEFT: usize = 5;

/// Exits with 0 if the SLO is met, with 2 if not or if a signal stopped it before everything was done, and with 1 on an error.
pub async fn run(common: &CommonOptions) -> CommandResult {
    let handle = daemon::open(&common.paths(), "once", crate::clock::from_env()).await?;
    let env = Arc::new(daemon::env(&handle));
    shared_limits::restore(&handle, &env).await.map_err(StartError::from)?;
    let limits = tokio::spawn(shared_limits::run(Arc::clone(&handle), Arc::clone(&env)));
    let folder_sync = FolderSync::open(&handle, false)?;
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    let stop = tokio::spawn(stop_signal::stop_on_signal(Arc::clone(&handle), move |attempts| {
        flag.store(true, Ordering::Relaxed);
        terminal::print_error(&stopping(attempts));
    }));
    let mut watch = Watch { handle: Arc::clone(&handle), names: BTreeMap::new() };
    let work = reconcile::run(Arc::clone(&handle), Arc::clone(&env), folder_sync, Until::Settled);
    Progress::start("checking", "connections", common.quiet).during(|| watch.read(), work).await;
    env.providers.close().await;
    evidence_keeper::finish(&handle, &env).await;
    terminal::print_error(&problems::text(&handle.problems.load(), "problem: "));
    terminal::print_error(&holds::text(&held(&handle)));
    let left = if stopped.load(Ordering::Relaxed) { left(&handle) } else { String::new() };
    terminal::print_error(&left);
    let trouble = handle.trouble.load().to_string();
    let policy = handle.policy();
    let folded = funnel(&handle.registry.snapshot(), &policy.namespace, policy.slo.coverage, handle.clock.now());
    limits.abort();
    env.egress.release_shares().await;
    handle.registry.close().await;
    stop.abort();
    report::print(common, &folded);
    if !trouble.is_empty() {
        return Err(super::CommandError::new(trouble));
    }
    Ok(if folded.slo_met && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}

/// What is printed at the first signal.
fn stopping(attempts: usize) -> String {
    match attempts {
        0 => "stopping\n".to_string(),
        attempts => {
            let running = counted(attempts, "check");
            format!("stopping: waiting up to 10 s for {running} in flight; a second signal stops at once\n")
        }
    }
}

/// What a stop left undone, or an empty text if everything was done.
fn left(handle: &Handle) -> String {
    const NEXT: &str = "the next aam once or aam serve goes on with the rest\n";
    if !*handle.ready.borrow() {
        return format!("stopped before the policy and the intents were read; {NEXT}");
    }
    let ids = {
        let snapshot = handle.registry.snapshot();
        interrupted::left(&snapshot, &context(handle, &snapshot), handle.started, handle.clock.now())
    };
    if ids.is_empty() {
        return String::new();
    }
    let mut text = format!("stopped by a signal; not checked: {}\n", counted(ids.len(), "connection"));
    for id in ids.iter().take(MAX_LEFT) {
        text.push_str(&format!("  {}\n", name(document(handle, *id).as_ref())));
    }
    if ids.len() > MAX_LEFT {
        text.push_str(&format!("  and {} more; aam plan lists them\n", ids.len() - MAX_LEFT));
    }
    text + NEXT
}

/// What the loop plans with.
fn context(handle: &Handle, snapshot: &Snapshot) -> PlanContext {
    let mut context = PlanContext::new(handle.loaded(), snapshot);
    let departures = handle.holds.load();
    let members = departures.holds.iter().flat_map(|hold| &hold.departures);
    context.held = members.map(|(id, departure)| (*id, departure.checkable)).collect();
    context
}

/// Reads how far the loop has come from what it shares with everybody.
struct Watch {
    handle: Arc<Handle>,
    /// The names of connections that were shown.
    names: BTreeMap<ConnectionId, String>,
}

impl Watch {
    fn read(&mut self) -> Reading {
        let handle = Arc::clone(&self.handle);
        if !*handle.ready.borrow() {
            return Reading { detail: "reading the policy and the intents".to_string(), ..Reading::default() };
        }
        let (done, due, counts) = {
            let snapshot = handle.registry.snapshot();
            let checked = |at: Option<Timestamp>| at.is_some_and(|at| at >= handle.started);
            let done = snapshot.connections.values().filter(|known| checked(known.last_checked())).count();
            let context = context(&handle, &snapshot);
            let now = handle.clock.now();
            let due = plan::plan(&snapshot, &context, &BTreeSet::new(), now).into_iter().filter(|item| {
                item.due <= now && !snapshot.connections.get(&item.connection).is_some_and(|known| checked(known.last_checked()))
            });
            let states = snapshot.of_namespace(&context.policy.namespace).map(|(_, known)| known.state());
            (done, due.count(), status_table::counts(states.filter(|state| *state != State::Retired)))
        };
        let slowest: Vec<(String, Duration)> =
            handle.in_flight.slowest(progress::MAX_NAMED).into_iter().map(|(id, time)| (self.name(id), time)).collect();
        let running = progress::running(handle.attempts_in_flight(), &slowest);
        Reading { done: done as u64, total: (done + due) as u64, detail: progress::joined(&[counts, running]) }
    }

    fn name(&mut self, id: ConnectionId) -> String {
        let handle = &self.handle;
        self.names.entry(id).or_insert_with(|| name(document(handle, id).as_ref())).clone()
    }
}

/// How the progress names a source.
pub fn name(intent: Option<&Intent>) -> String {
    let Some(intent) = intent else { return "a connection".to_string() };
    let more = match intent.resource_ids.len() {
        0 | 1 => String::new(),
        more => format!(" and {} more", more - 1),
    };
    format!("{} {}{more}", intent.source_type, intent.resource_ids.first().map_or("", String::as_str))
}
