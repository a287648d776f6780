//! The Safe Mode pipeline: seven steps, in this order, top to bottom on one screen.
//!
//! 1. allowlist   the policy lists the family and finds the document eligible
//! 2. credential  the locator resolves, or the source needs none
//! 3. upsert      the connector opens and meets the identity that the resource id names
//! 4. discover    metadata only: Catalog v1, and drift against the version before
//! 5. health      an authenticated probe
//! 6. tiny sync   at most `safe_mode.max_items` items, really read and counted
//! 7. registry    the outcome is appended
//!
//! A step that fails ends the attempt; the later ones are reported as skipped, with the reason. Each
//! step runs under a timeout and a panic guard. A failure is a report, never an `Err`.

mod discover;
mod gate;
mod run;

use crate::connectors::{Connector, Discovery, Engines};
use crate::credentials::{Credential, Resolver};
use crate::egress::{BudgetReservation, Caller, Egress};
use crate::families::{CustomSources, Family};
use crate::model::{Catalog, ConnectionId, Drift, Evidence, Failure, Intent, Outcome, Scope, Step};
use crate::policy::Policy;
use run::{Runner, StepOutput};
use std::sync::Arc;

/// What every attempt of a process shares.
pub struct Env {
    pub engines: Engines,
    pub egress: Arc<Egress>,
    pub resolver: Resolver,
}

/// One attempt's input.
pub struct Job {
    pub connection: ConnectionId,
    pub intent: Intent,
    pub scope: Scope,
    pub policy: Arc<Policy>,
    /// The custom sources of the policy.
    pub sources: Arc<CustomSources>,
    /// The catalog in force, for drift; `None` on the first attempt.
    pub known: Option<Catalog>,
}

/// An open resource of the connection.
struct Part {
    resource_id: String,
    connector: Box<dyn Connector>,
    discovery: Option<Discovery>,
}

/// Runs the pipeline. The outcome has one report for each step and no secret in it.
pub async fn attempt(env: &Env, job: &Job) -> Outcome {
    let mut runner = Runner::new(&job.policy.safe_mode);
    let mut found = AttemptOutput::default();
    let _ = steps(env, job, &mut runner, &mut found).await;
    run::scrubbed(Outcome {
        scope: job.scope,
        steps: runner.finish(),
        catalog: found.catalog,
        drift: found.drift,
        rows: found.rows,
        latency_ms: found.latency_ms,
    })
}

/// What the calls of this attempt need of the day's budgets and is not written down yet. Written with the
/// beginning it costs no sync of its own.
#[must_use]
pub fn budget_reservations(env: &Env, job: &Job) -> Vec<(Caller, BudgetReservation)> {
    let callers = gate::callers(env, job).into_iter();
    callers.filter_map(|caller| env.egress.lacking(&caller).map(|fund| (caller, fund))).collect()
}

/// What the allowlist step would say of `intent`, without running anything: for `aam plan`.
///
/// # Errors
/// The failure that would end the attempt there.
pub fn judge(engines: &Engines, policy: &Policy, sources: &CustomSources, intent: &Intent) -> Result<Arc<Family>, Failure> {
    gate::judge(engines, policy, sources, intent)
}

/// What the steps leave behind, also when a later one fails.
#[derive(Default)]
struct AttemptOutput {
    catalog: Option<Catalog>,
    drift: Drift,
    rows: Option<u64>,
    latency_ms: Option<u64>,
}

/// The story. `None`: a step failed and its report says why.
async fn steps(env: &Env, job: &Job, runner: &mut Runner, found: &mut AttemptOutput) -> Option<()> {
    let family = runner.step(Step::Allowlist, async { gate::allowlist(env, job) }).await?;
    let credential = runner.step(Step::Credential, async { gate::credential(env, job, &family) }).await?;
    let mut parts = runner.step(Step::Upsert, upsert(env, job, &family, credential)).await?;
    if job.scope == Scope::Health {
        runner.skip(Step::Discover, "a health re-check: the structure is looked at again by recheck.drift");
        runner.step(Step::Health, health(&parts)).await?;
        runner.skip(Step::TinySync, "a health re-check: the counters of the last full attempt stand");
    } else {
        let bounds = discover::bounds(&job.policy.safe_mode);
        runner.step(Step::Discover, discover::discover(&mut parts, job, bounds, found)).await?;
        runner.step(Step::Health, health(&parts)).await?;
        found.rows = Some(runner.step(Step::TinySync, tiny_sync(&parts, job.policy.safe_mode.max_items)).await?);
        found.latency_ms = runner.latency_ms(Step::TinySync);
    }
    runner.step(Step::Registry, async { Ok(StepOutput::new((), Evidence::new())) }).await
}

/// Opens every resource; all must open, because the connection is all of them.
async fn upsert(
    env: &Env,
    job: &Job,
    family: &Arc<Family>,
    credential: Option<Credential>,
) -> Result<StepOutput<Vec<Part>>, Failure> {
    let engine = gate::engine(env, job, family)?;
    let mut parts = Vec::new();
    let mut evidence = Evidence::new();
    let mut warning = None;
    for resource_id in &job.intent.resource_ids {
        let target = gate::target(env, job, family, &*engine, resource_id, credential.clone());
        let opened = engine.open(target).await?;
        let mut identity = opened.identity;
        identity.insert("privilege".to_string(), serde_json::json!(opened.privilege));
        warning = warning.or_else(|| gate::over_privileged(family, resource_id, &opened.privilege, credential.is_some()));
        run::note_traffic(&mut identity, opened.connector.traffic());
        evidence.insert(resource_id.clone(), identity.into());
        parts.push(Part { resource_id: resource_id.clone(), connector: opened.connector, discovery: None });
    }
    Ok(StepOutput { value: parts, evidence: run::flat(evidence), warning })
}

async fn health(parts: &[Part]) -> Result<StepOutput<()>, Failure> {
    let mut evidence = Evidence::new();
    for part in parts {
        evidence.insert(part.resource_id.clone(), part.connector.health().await?.into());
    }
    Ok(StepOutput::new((), run::flat(evidence)))
}

/// Reads at most `max_items` items over all resources together.
async fn tiny_sync(parts: &[Part], max_items: u32) -> Result<StepOutput<u64>, Failure> {
    let mut evidence = Evidence::new();
    let mut rows = 0;
    for part in parts {
        let left = u64::from(max_items).saturating_sub(rows);
        let Some(discovery) = &part.discovery else {
            continue;
        };
        if left == 0 {
            break;
        }
        let sample = part.connector.tiny_sync(&discovery.catalog, u32::try_from(left).unwrap_or(u32::MAX)).await?;
        rows += sample.rows.min(left);
        let mut seen = sample.evidence;
        run::note_traffic(&mut seen, part.connector.traffic());
        evidence.insert(part.resource_id.clone(), seen.into());
    }
    let mut evidence = run::flat(evidence);
    evidence.insert("rows".to_string(), rows.into());
    Ok(StepOutput::new(rows, evidence))
}

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
