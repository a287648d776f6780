//! Runs one attempt: read the rows, record its beginning, run the pipeline, record its outcome. Nothing is called before
//! the beginning is on disk.

use super::departures;
use super::handle::Handle;
use crate::fault;
use crate::meters::meters;
use crate::model::ledger::{AttemptContext, Why};
use crate::model::{Catalog, ConnectionId, Digest, Intent, Origin, Scope, StepStatus, Timestamp};
use crate::pipeline::{Attempt, Env, Job};
use crate::plan::PlanItem;
use crate::policy::LoadedPolicy;
use crate::policy::grants::Rights;
use crate::registry::{Registry, RegistryError, Ticket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a finished attempt waits before it tries again to record its outcome.
const WRITE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its outcome is recorded, or its connection was retired meanwhile.
    Recorded,
    /// It has not begun, because the attempts of other connections use the account. It may begin after this time.
    Postponed(Duration),
}

/// Runs one attempt for `item` and records it. An attempt that has to wait for others does not begin; one that a person asked
/// for does not wait.
///
/// # Errors
/// If the registry cannot be read or the beginning cannot be recorded, in which case nothing was called. Also if the
/// outcome cannot be recorded before the process stops; the attempt then counts as interrupted.
pub async fn run(handle: &Arc<Handle>, env: &Env, item: PlanItem) -> Result<Ending, RegistryError> {
    let of_read = Arc::clone(handle);
    let Some((job, context)) = handle.registry.waiting(move || prepare(&of_read, item)).await? else {
        return Ok(Ending::Recorded);
    };
    let attempt = Attempt::new(env, &job);
    let wait = if item.why == Why::Heal { Duration::ZERO } else { attempt.turn().await };
    if !wait.is_zero() {
        return Ok(Ending::Postponed(wait));
    }
    fault::boundary("before_begin");
    let ticket = begin(&handle.registry, env, &job, &attempt, context).await?;
    fault::boundary("after_begin");
    // The catalog stays in memory until it is recorded.
    let _memory = attempt.memory();
    let started = Instant::now();
    let (outcome, calls) = attempt.run_recorded().await;
    log(&job, &outcome);
    count(&job, &outcome, started.elapsed());
    fault::boundary("before_finish");
    loop {
        match handle.registry.finish_with_calls(&ticket, &outcome, &calls).await {
            Ok(_) => {
                fault::boundary("after_finish");
                return Ok(Ending::Recorded);
            }
            Err(RegistryError::NotHeld) => {
                // The outcome does not count, and what was called stays recorded.
                env.egress.background.add(job.connection, &job.intent.source_type, calls);
                return Err(RegistryError::NotHeld);
            }
            Err(error @ (RegistryError::Closed | RegistryError::Sealed(_))) => return Err(error),
            Err(error) if *handle.stopping.borrow() => return Err(error),
            // The outcome is kept until the registry can be written. After a crash, the attempt counts as interrupted.
            Err(error) => {
                handle.report_error(&error);
                tokio::time::sleep(WRITE_RETRY_INTERVAL).await;
            }
        }
    }
}

/// Records that the attempt begins and reserves the calls that it is going to make.
async fn begin(
    registry: &Registry,
    env: &Env,
    job: &Job,
    attempt: &Attempt<'_>,
    context: AttemptContext,
) -> Result<Ticket, RegistryError> {
    let budget_reservations = attempt.budget_reservations();
    let wanted = budget_reservations.iter().map(|(_, reservation)| reservation.clone()).collect();
    let (ticket, granted) = registry.begin_with_budget(job.connection, context, wanted).await?;
    for ((caller, reservation), granted) in budget_reservations.iter().zip(granted) {
        env.egress.funded(caller, reservation, granted);
    }
    Ok(ticket)
}

/// Reads what the attempt needs. Returns `None` if the connection was retired meanwhile.
fn prepare(handle: &Handle, item: PlanItem) -> Result<Option<(Job, AttemptContext)>, RegistryError> {
    let loaded = handle.loaded();
    let Some((job, generation, locator)) = read_job(handle, &loaded, item.connection, item.scope)? else { return Ok(None) };
    if let Some(slice) = held_slice(handle, item.connection) {
        // The attempt stands for the rules under which the connection was allowed, so that the change stays visible.
        let begun_at = Timestamp(0);
        let context =
            AttemptContext { begun_at, generation, scope: item.scope, why: item.why, policy: loaded.policy.digest, slice };
        return Ok(Some((job, context)));
    }
    let inputs = Rights::new(&loaded.policy).add_to(handle.slice(&loaded, &job.intent.source_type), job.origins.iter());
    let context = AttemptContext {
        begun_at: Timestamp(0),
        generation,
        scope: item.scope,
        why: item.why,
        policy: loaded.policy.digest,
        slice: loaded.policy.credentials.add_definition(inputs, locator.as_deref()),
    };
    Ok(Some((job, context)))
}

/// The slice of the latest attempt of a connection whose departure is held.
fn held_slice(handle: &Handle, connection: ConnectionId) -> Option<Digest> {
    if !handle.holds.load().contains(connection) {
        return None;
    }
    let snapshot = handle.registry.snapshot();
    snapshot.connections.get(&connection)?.last.as_ref().map(|last| last.facts.slice)
}

/// Reads the job of a full attempt for `connection` under the policy in force, for what is not an attempt of the loop.
/// Returns `None` if the connection does not exist or was retired.
///
/// # Errors
/// If the registry cannot be read.
pub fn job(handle: &Handle, connection: ConnectionId) -> Result<Option<Job>, RegistryError> {
    Ok(read_job(handle, &handle.loaded(), connection, Scope::Full)?.map(|(job, ..)| job))
}

/// A job, the generation of its document, and the locator that the ledger records for it.
type RecordedJob = (Job, u32, Option<Arc<str>>);

/// Returns the job of `connection`, or `None` if the connection does not exist or was retired.
fn read_job(
    handle: &Handle,
    loaded: &LoadedPolicy,
    connection: ConnectionId,
    scope: Scope,
) -> Result<Option<RecordedJob>, RegistryError> {
    let registry = &handle.registry;
    let held = handle.holds.load().contains(connection);
    let (document, generation, catalog, origins, locator) = {
        let snapshot = registry.snapshot();
        let Some(known) = snapshot.connections.get(&connection).filter(|known| known.retired.is_none()) else {
            return Ok(None);
        };
        let before = held.then(|| known.before_departure());
        let known = before.as_ref().unwrap_or(&known);
        let origins: Vec<Origin> = known.origins_in_force().cloned().collect();
        (known.document, known.generation, known.catalog, origins, known.locator.clone())
    };
    let intent = read_intent(registry, connection, document)?;
    let known: Option<Catalog> = match catalog {
        Some((_, seq, _)) => registry.reader().body(seq)?.and_then(|text| serde_json::from_str(&text).ok()),
        None => None,
    };
    let sources = Arc::clone(&loaded.sources);
    let policy = match held {
        true => Arc::new(departures::admitting(&loaded.policy, &intent)),
        false => Arc::clone(&loaded.policy),
    };
    Ok(Some((Job { connection, intent, scope, policy, sources, origins, known }, generation, locator)))
}

fn read_intent(registry: &Registry, connection: ConnectionId, seq: u64) -> Result<Intent, RegistryError> {
    let text = registry.reader().body(seq)?.unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| RegistryError::Row { seq, why: format!("document of {connection}: {error}") })
}

/// Counts the attempt and the steps that ran. Intents may name any number of source types that do not exist.
fn count(job: &Job, outcome: &crate::model::Outcome, took: Duration) {
    let source_type = job.intent.source_type.as_str();
    let family = if job.sources.family(source_type).is_some() { source_type } else { "unknown" };
    let outcome_name = outcome.failure().map_or("passed", |(_, failure)| failure.class.as_str());
    meters().attempt(family, outcome_name, took);
    for report in outcome.steps.iter().filter(|report| !matches!(report.status, StepStatus::Skipped { .. })) {
        meters().step(family, report.step.as_str(), Duration::from_millis(report.duration_ms));
    }
}

fn log(job: &Job, outcome: &crate::model::Outcome) {
    let (id, kind) = (job.connection, &job.intent.source_type);
    match outcome.failure() {
        None => {
            tracing::info!(target: "aam::attempt", connection = %id, source_type = %kind, rows = outcome.rows, latency_ms = outcome.latency_ms, "passed")
        }
        Some((step, failure)) => tracing::warn!(
            target: "aam::attempt",
            connection = %id,
            source_type = %kind,
            step = step.as_str(),
            class = failure.class.as_str(),
            title = %failure.title,
            detail = %failure.detail,
            "failed"
        ),
    }
}
