//! The Safe Mode pipeline. It runs seven steps in this order:
//!
//! 1. allowlist: the policy lists the family and accepts the intent; the resource ids are bound
//! 2. credential: the locator is resolved, unless the source does not need a credential; if the source rejects a
//!    credential that may have changed at its place since it was read, it is read anew once and step 3 begins again
//! 3. upsert: the connector opens the source and checks that it is the one that the resource id names
//! 4. discover: reads only metadata, which gives Catalog v1 and its drift from the previous version
//! 5. health: sends an authenticated probe
//! 6. tiny sync: reads at most `safe_mode.max_items` items and counts them
//! 7. registry: the outcome is appended
//!
//! A failed step ends the attempt, and the later steps are reported as skipped, with the reason. Each step runs under a
//! timeout, and a panic in a step becomes a failure. A failure is part of the report, never an `Err`.

mod denied;
mod discover;
mod planned;
mod preflight;
mod prove;
mod remedy;
mod run;
mod signed;

use crate::connectors::concurrent::{self, Limits};
use crate::connectors::{Connector, Discovery, Engines};
use crate::credentials::Credential;
use crate::credentials::redact::AttemptSecrets;
use crate::egress::{BudgetReservation, CallRecorder, Caller, Egress, Signing};
use crate::families::CustomSources;
use crate::memory_budget::AttemptMemory;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, ConnectionId, Drift, Evidence, Failure, Intent, Origin, Outcome, RecordedCalls, Scope, Step};
use crate::policy::Policy;
use crate::providers::{Providers, Reading};
use futures_util::future::BoxFuture;
pub use planned::planned_calls;
use preflight::Concurrency;
pub use preflight::{BoundConnection, assess, bind};
pub use prove::{provable, prove};
use run::{Runner, StepOutput};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// What all attempts in the process share.
pub struct Env {
    pub engines: Engines,
    pub egress: Arc<Egress>,
    pub providers: Arc<Providers>,
}

/// The input of one attempt.
pub struct Job {
    pub connection: ConnectionId,
    pub intent: Intent,
    pub scope: Scope,
    pub policy: Arc<Policy>,
    /// The custom sources that the policy defines.
    pub sources: Arc<CustomSources>,
    /// The origins that desire the document, the newest first. They decide which credentials it may name.
    pub origins: Vec<Origin>,
    /// The catalog in force, which drift is measured against. It is `None` on the first attempt.
    pub known: Option<Catalog>,
}

impl Job {
    /// Returns the texts that are never removed as secrets: what the caller wrote, and what the manifest of a custom source
    /// publishes as a default or an example.
    #[must_use]
    pub fn public_texts(&self) -> Vec<String> {
        let family = self.sources.family(&self.intent.source_type);
        let manifest = family.and_then(|family| family.manifest.as_ref());
        let published = manifest.map(|manifest| manifest.published_texts()).unwrap_or_default();
        self.intent.texts().into_iter().chain(published).collect()
    }
}

/// An attempt whose resource ids are bound. Binding is pure, so nothing has been called or written yet.
pub struct Attempt<'a> {
    env: &'a Env,
    job: &'a Job,
    /// The bound resources, or the failure that ends the attempt at its first step.
    bound: Result<BoundConnection, Failure>,
    memory: Arc<AttemptMemory>,
}

impl<'a> Attempt<'a> {
    /// Checks the intent of `job` against the policy and binds its resource ids.
    #[must_use]
    pub fn new(env: &'a Env, job: &'a Job) -> Attempt<'a> {
        let bind = AssertUnwindSafe(|| preflight::bind(&env.engines, &job.policy, &job.sources, &job.intent));
        let bound = std::panic::catch_unwind(bind).unwrap_or_else(|panic| Err(run::panicked(Step::Allowlist, &*panic)));
        let memory = env.egress.memory.attempt(job.policy.reconcile.memory);
        Attempt { env, job, bound, memory }
    }

    /// Returns the account of the memory that the attempt holds. What the attempt keeps until its end, such as its
    /// catalog, is given back when the last copy of this is dropped.
    #[must_use]
    pub fn memory(&self) -> Arc<AttemptMemory> {
        Arc::clone(&self.memory)
    }

    /// Returns the daily budget reservations that this attempt needs and that are not recorded yet. The caller can
    /// record them in the transaction that begins the attempt, which saves a separate disk sync.
    #[must_use]
    pub fn budget_reservations(&self) -> Vec<(Caller, BudgetReservation)> {
        let Ok(bound) = &self.bound else { return Vec::new() };
        let callers = preflight::certain_callers(self.job, bound).into_iter();
        callers.filter_map(|caller| self.env.egress.lacking(&caller).map(|reservation| (caller, reservation))).collect()
    }

    /// Returns how long the attempt has to wait for others that use the same accounts. Nothing may be called before.
    pub async fn turn(&self) -> Duration {
        let Ok(bound) = &self.bound else { return Duration::ZERO };
        if preflight::lacks_credential(self.env, self.job, bound).await {
            return Duration::ZERO;
        }
        let calls = preflight::planned_callers(self.job, bound);
        calls.iter().map(|(caller, calls)| self.env.egress.turn(caller, *calls)).max().unwrap_or_default()
    }

    /// Runs the pipeline. The outcome has one report for each step and does not contain secrets. The calls are left to
    /// [`Egress::background`].
    pub async fn run(self) -> Outcome {
        let (egress, job) = (&self.env.egress, self.job);
        let (outcome, calls) = self.run_recorded().await;
        egress.background.add(job.connection, &job.intent.source_type, calls);
        outcome
    }

    /// Runs the pipeline like [`Attempt::run`], and returns its calls. If this is dropped before its end, the calls that were
    /// made are left to [`Egress::background`].
    pub async fn run_recorded(self) -> (Outcome, RecordedCalls) {
        let (egress, job) = (&self.env.egress, self.job);
        let recording = async {
            let unfinished = UnfinishedCalls { recorder: CallRecorder::new(), egress, job };
            let outcome = unfinished.recorder.run(self.run_steps()).await;
            (outcome, unfinished.recorder.take())
        };
        // The secrets of the attempt are forgotten at its end.
        AttemptSecrets::new(&job.public_texts()).run(recording).await
    }

    async fn run_steps(self) -> Outcome {
        let Attempt { env, job, bound, memory } = self;
        let safe_mode = job.policy.safe_mode(&job.intent.source_type);
        let mut runner = Runner::new(&safe_mode, &memory);
        let mut output = AttemptOutput::default();
        let _ = steps(env, job, bound, &mut runner, &mut output).await;
        let outcome = Outcome {
            scope: job.scope,
            steps: runner.finish(),
            catalog: output.catalog,
            drift: output.drift,
            rows: output.rows,
            latency_ms: output.latency_ms,
        };
        run::scrubbed(remedy::adapt(outcome, job))
    }
}

/// The calls of an attempt that may not reach its end.
struct UnfinishedCalls<'a> {
    recorder: Arc<CallRecorder>,
    egress: &'a Egress,
    job: &'a Job,
}

impl Drop for UnfinishedCalls<'_> {
    /// After the end of the attempt, its calls are taken already.
    fn drop(&mut self) {
        self.egress.background.add(self.job.connection, &self.job.intent.source_type, self.recorder.take());
    }
}

/// An open resource of the connection.
struct OpenResource {
    resource_id: String,
    connector: Box<dyn Connector>,
    discovery: Option<Discovery>,
}

/// The results of the steps. They are kept even if a later step fails.
#[derive(Default)]
struct AttemptOutput {
    catalog: Option<Catalog>,
    drift: Drift,
    rows: Option<u64>,
    latency_ms: Option<u64>,
}

/// Runs the seven steps. Returns `None` if a step failed; its report gives the reason.
async fn steps(
    env: &Env,
    job: &Job,
    bound: Result<BoundConnection, Failure>,
    runner: &mut Runner,
    output: &mut AttemptOutput,
) -> Option<()> {
    let bound = runner.step(Step::Allowlist, async { preflight::allowlist(job, bound) }).await?;
    let provided = runner.step(Step::Credential, preflight::credential(env, job, &bound, Reading::Cached)).await?;
    let changeable = provided.as_ref().filter(|provided| provided.facts.changeable).map(|provided| provided.credential.clone());
    let issued_earlier = provided.as_ref().is_some_and(|provided| provided.facts.issued_earlier);
    let credential = provided.map(|provided| provided.credential);
    let passed = from_upsert(env, job, (bound, credential), runner, output).await;
    // A token keeps the permissions that it was issued with: one that was granted since needs a new token.
    let replace = runner.failed_with(Class::CredentialRejected) || issued_earlier && runner.failed_with(Class::PermissionDenied);
    let (None, Some(rejected), true) = (passed, changeable, replace) else { return passed };
    let bound = preflight::bind(&env.engines, &job.policy, &job.sources, &job.intent).ok()?;
    let read = preflight::credential(env, job, &bound, Reading::Anew);
    let anew = runner.again(read, |step| step.value.as_ref().is_some_and(|provided| provided.credential != rejected)).await??;
    *output = AttemptOutput::default();
    from_upsert(env, job, (bound, Some(anew.credential)), runner, output).await
}

/// Runs the steps that need the credential.
async fn from_upsert(
    env: &Env,
    job: &Job,
    (bound, credential): (BoundConnection, Option<Credential>),
    runner: &mut Runner,
    output: &mut AttemptOutput,
) -> Option<()> {
    let concurrency = Concurrency::new(job, &bound.family);
    let limits = concurrency.resources;
    let memory = Arc::clone(runner.memory());
    let mut resources = runner.step(Step::Upsert, upsert(env, job, (bound, credential), (concurrency, &memory))).await?;
    if job.scope == Scope::Health {
        runner.skip(Step::Discover, "a health re-check: recheck.drift says when the structure is checked again");
        runner.step(Step::Health, health(&resources, limits)).await?;
        runner.skip(Step::TinySync, "a health re-check: the counters of the last full attempt stay");
    } else {
        let bounds = discover::bounds(&job.policy.safe_mode(&job.intent.source_type));
        runner.step(Step::Discover, discover::discover(&mut resources, job, (bounds, limits), output)).await?;
        runner.step(Step::Health, health(&resources, limits)).await?;
        let before = reused_time(&resources);
        match runner.step(Step::TinySync, tiny_sync(&resources, job)).await? {
            Read::Rows(rows) => output.rows = Some(rows),
            Read::MetadataOnly(why) => runner.metadata_only(&why),
        }
        // The time that the source took for the rows, also for those that arrived in an earlier step.
        let reused = reused_time(&resources).saturating_sub(before);
        let latency = runner.latency_ms(Step::TinySync);
        output.latency_ms = latency.map(|ms| ms.saturating_add(u64::try_from(reused.as_millis()).unwrap_or(u64::MAX)));
    }
    runner.step(Step::Registry, async { Ok(StepOutput::new((), Evidence::new())) }).await
}

/// Opens the resources concurrently. The step fails unless all of them open, because the connection consists of all its
/// resources.
async fn upsert(
    env: &Env,
    job: &Job,
    (bound, credential): (BoundConnection, Option<Credential>),
    (concurrency, memory): (Concurrency, &Arc<AttemptMemory>),
) -> Result<StepOutput<Vec<OpenResource>>, Failure> {
    let (family, credential) = (&Arc::clone(&bound.family), &credential);
    let open = |resource| -> BoxFuture<'_, _> {
        Box::pin(async move {
            let (authorized, caller) = preflight::authorize(job, family, resource, credential.clone())?;
            let signing = credential.as_ref().and_then(Credential::signer).cloned().map(Signing::new);
            let session = env.egress.session(caller).with_concurrency(concurrency.calls).with_memory(Arc::clone(memory));
            signed::open(authorized, session, signing).await
        })
    };
    let opened = concurrent::all(concurrency.resources, bound.into_resources()?.into_iter().map(open).collect()).await?;
    let mut resources = Vec::new();
    let mut evidence = Evidence::new();
    let mut warning = None;
    for (resource_id, opened) in job.intent.resource_ids.iter().zip(opened) {
        let mut identity = opened.identity;
        identity.insert("privilege".to_string(), preflight::privilege_evidence(&opened.privilege, &opened.removal));
        warning = warning.or_else(|| opened.connector.warning());
        warning = warning.or_else(|| preflight::over_privileged(family, resource_id, &opened.privilege, credential.is_some()));
        run::note_traffic(&mut identity, opened.connector.traffic());
        evidence.insert(resource_id.clone(), identity.into());
        resources.push(OpenResource { resource_id: resource_id.clone(), connector: opened.connector, discovery: None });
    }
    Ok(StepOutput { value: resources, evidence: run::flat(evidence), warning })
}

async fn health(resources: &[OpenResource], limits: Limits) -> Result<StepOutput<()>, Failure> {
    let checked = concurrent::all(limits, resources.iter().map(|resource| resource.connector.health()).collect()).await?;
    let mut evidence = Evidence::new();
    for (resource, mut checked) in resources.iter().zip(checked) {
        run::note_traffic(&mut checked, resource.connector.traffic());
        evidence.insert(resource.resource_id.clone(), checked.into());
    }
    Ok(StepOutput::new((), run::flat(evidence)))
}

/// Returns how long the sources took for all responses that were used again so far.
fn reused_time(resources: &[OpenResource]) -> Duration {
    resources.iter().map(|resource| resource.connector.traffic().reused_time).sum()
}

/// What the tiny sync found out.
enum Read {
    /// The number of items that all resources returned together.
    Rows(u64),
    /// Why no resource's records could be looked at.
    MetadataOnly(String),
}

/// Reads at most `max_items` items from all resources together. The resources are read one after the other, because the
/// items read from one reduce the number that may be read from the next.
async fn tiny_sync(resources: &[OpenResource], job: &Job) -> Result<StepOutput<Read>, Failure> {
    let max_items = job.policy.safe_mode.max_items;
    let mut evidence = Evidence::new();
    let mut rows = 0;
    let (mut denied, mut tried): (Vec<SkippedStream>, usize) = Default::default();
    let (mut is_read, mut only_described) = (false, None);
    let mut warning = None;
    for resource in resources {
        let left = u64::from(max_items).saturating_sub(rows);
        let Some(discovery) = &resource.discovery else {
            continue;
        };
        if left == 0 {
            break;
        }
        let sample = resource.connector.tiny_sync(&discovery.catalog, u32::try_from(left).unwrap_or(u32::MAX)).await?;
        rows += sample.rows.min(left);
        warning = warning.or(sample.warning);
        let mut sampled = sample.evidence;
        match sample.metadata_only {
            Some(why) => only_described = only_described.or(Some(why)),
            None => is_read = true,
        }
        if !sample.denied.is_empty() {
            tried += sample.denied.len() + sampled.get("streams").and_then(|read| read.as_object()).map_or(0, |read| read.len());
            denied.extend(sample.denied);
        }
        run::note_traffic(&mut sampled, resource.connector.traffic());
        evidence.insert(resource.resource_id.clone(), sampled.into());
    }
    let mut evidence = run::flat(evidence);
    let read = match only_described.filter(|_| !is_read) {
        Some(why) => Read::MetadataOnly(why),
        None => {
            evidence.insert("rows".to_string(), rows.into());
            Read::Rows(rows)
        }
    };
    let not_readable = denied::warning(&denied, tried, job);
    if not_readable.is_some() {
        evidence.insert(denied::DENIED.to_string(), denied::evidence(&denied));
    }
    let warning = not_readable.or(warning);
    Ok(StepOutput { value: read, evidence, warning })
}

#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod doubles;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod prove_tests;
#[cfg(test)]
mod tests;
