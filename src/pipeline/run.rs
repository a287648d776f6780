//! Runs each step under its timeout, turns a panic into a failure, and collects the reports.

use crate::credentials::redact;
use crate::egress::Traffic;
use crate::memory_budget::AttemptMemory;
use crate::model::text::printable;
use crate::model::{Catalog, Class, Evidence, Failure, Outcome, Step, StepReport, StepStatus};
use crate::policy::{SafeMode, duration_text};
use futures_util::FutureExt;
use std::borrow::Cow;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a step returns when it succeeds.
pub(super) struct StepOutput<T> {
    pub value: T,
    pub evidence: Evidence,
    /// A problem that a person should fix even though the step passed.
    pub warning: Option<Failure>,
}

impl<T> StepOutput<T> {
    pub(super) fn new(value: T, evidence: Evidence) -> StepOutput<T> {
        StepOutput { value, evidence, warning: None }
    }
}

/// Collects the reports of one attempt.
pub(super) struct Runner {
    reports: Vec<StepReport>,
    step_timeout: Duration,
    deadline: Instant,
    attempt_timeout: Duration,
    latencies: Vec<(Step, u64)>,
    memory: Arc<AttemptMemory>,
}

impl Runner {
    pub(super) fn new(safe_mode: &SafeMode, memory: &Arc<AttemptMemory>) -> Runner {
        Runner {
            memory: Arc::clone(memory),
            reports: Vec::with_capacity(Step::ALL.len()),
            step_timeout: safe_mode.step_timeout,
            deadline: Instant::now() + safe_mode.attempt_timeout,
            attempt_timeout: safe_mode.attempt_timeout,
            latencies: Vec::new(),
        }
    }

    pub(super) fn memory(&self) -> &Arc<AttemptMemory> {
        &self.memory
    }

    /// Runs one step. The time in which the attempt waits for memory is not counted in its timeouts. Returns `None` if it failed; its report gives the reason.
    pub(super) async fn step<T>(&mut self, step: Step, work: impl Future<Output = Result<StepOutput<T>, Failure>>) -> Option<T> {
        crate::fault::boundary(step.as_str());
        let started = Instant::now();
        let left = (self.deadline + self.memory.waited()).saturating_duration_since(started);
        let (limit, whole) = if left < self.step_timeout { (left, true) } else { (self.step_timeout, false) };
        let busy = Arc::new(Mutex::new(Duration::ZERO));
        let guarded = measured(AssertUnwindSafe(work).catch_unwind(), Arc::clone(&busy));
        // Do not start the step if no time is left, because its first poll could already make a call.
        let ended = if limit.is_zero() { None } else { self.memory.timeout(limit, guarded).await };
        let took = started.elapsed();
        let result = match ended {
            None => {
                let busy = *busy.lock().unwrap_or_else(PoisonError::into_inner);
                Err(match whole {
                    true => timed_out(step, ("attempt_timeout", self.attempt_timeout), (busy, took)),
                    false => timed_out(step, ("step_timeout", self.step_timeout), (busy, took)),
                })
            }
            Some(Err(panic)) => Err(panicked(step, &*panic)),
            Some(Ok(result)) => result,
        };
        // Round up, so that a step that ran never shows 0 ms.
        self.latencies.push((step, u64::try_from(took.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)));
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (status, evidence, value) = match result {
            Ok(StepOutput { value, evidence, warning: None }) => (StepStatus::Passed, evidence, Some(value)),
            Ok(StepOutput { value, evidence, warning: Some(failure) }) => (StepStatus::Warned { failure }, evidence, Some(value)),
            Err(failure) => (StepStatus::Failed { failure }, Evidence::new(), None),
        };
        self.reports.push(StepReport { step, status, duration_ms, evidence });
        value
    }

    /// Whether a step failed with a failure of `class`.
    pub(super) fn failed_with(&self, class: Class) -> bool {
        self.reports.iter().filter_map(StepReport::failure).any(|failure| failure.class == class)
    }

    /// Runs the credential step again. If it passes and `differs` says that the result is worth another try, its report
    /// replaces that of the first run, and the reports of all later steps are removed. Otherwise the reports stay.
    pub(super) async fn again<T>(
        &mut self,
        work: impl Future<Output = Result<StepOutput<T>, Failure>>,
        differs: impl Fn(&StepOutput<T>) -> bool,
    ) -> Option<T> {
        let before = self.reports.len();
        let work = async {
            let output = work.await?;
            if differs(&output) { Ok(output) } else { Err(Failure::new(Class::CredentialRejected, "unchanged", "")) }
        };
        let value = self.step(Step::Credential, work).await;
        let report = self.reports.split_off(before);
        if value.is_some() {
            self.reports.retain(|report| report.step < Step::Credential);
            self.reports.extend(report);
        }
        value
    }

    /// Reports that a step was skipped, and the reason.
    pub(super) fn skip(&mut self, step: Step, reason: &str) {
        let status = StepStatus::Skipped { reason: reason.to_string() };
        self.reports.push(StepReport { step, status, duration_ms: 0, evidence: Evidence::new() });
    }

    /// Reports that the tiny sync could not look at records, and why: the connection has a catalog and nothing else. A skipped
    /// step does not hide a failure, because the attempt goes on only after a step that passed.
    pub(super) fn metadata_only(&mut self, why: &str) {
        let Some(report) = self.reports.iter_mut().rev().find(|report| report.step == Step::TinySync) else { return };
        report.status = StepStatus::Skipped { reason: format!("metadata only: {why}") };
    }

    /// Returns how long `step` took in milliseconds, rounded up.
    pub(super) fn latency_ms(&self, step: Step) -> Option<u64> {
        self.latencies.iter().find(|(ran, _)| *ran == step).map(|(_, ms)| *ms)
    }

    /// Returns all seven reports. A step that did not run is reported as skipped, with the reason. The registry step
    /// writes the row that contains these reports, so it is reported as passed even after a failure.
    pub(super) fn finish(mut self) -> Vec<StepReport> {
        let failed = self.reports.iter().find(|report| report.failure().is_some()).map(|report| report.step);
        for step in Step::ALL {
            if self.reports.iter().any(|report| report.step == step) {
                continue;
            }
            match failed {
                Some(failed) if step != Step::Registry => self.skip(step, &format!("not run: {} failed", failed.as_str())),
                _ => {
                    self.reports.push(StepReport { step, status: StepStatus::Passed, duration_ms: 0, evidence: Evidence::new() })
                }
            }
        }
        self.reports.sort_by_key(|report| report.step);
        self.reports
    }
}

/// Adds the time for which polling `work` takes to `busy`: in this time it computes and does not wait.
async fn measured<T>(work: impl Future<Output = T>, busy: Arc<Mutex<Duration>>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let started = Instant::now();
        let polled = work.as_mut().poll(context);
        *busy.lock().unwrap_or_else(PoisonError::into_inner) += started.elapsed();
        polled
    })
    .await
}

/// The failure of a step that did not finish in time, and was `busy` itself for a part of the time that it `took`.
fn timed_out(step: Step, (key, limit): (&str, Duration), (busy, took): (Duration, Duration)) -> Failure {
    let limit = duration_text::format(&limit);
    let detail = format!("safe_mode.{key} is {limit}");
    let title = format!("the {} step did not finish within {limit}", step.as_str());
    if !took.is_zero() && busy > took / 2 {
        return Failure::new(
            Class::Interrupted,
            format!("{title}, because AAM itself was computing for {:.1} s", busy.as_secs_f32()),
            format!("this says nothing about the source: give this machine more processor time, or raise safe_mode.{key} in the policy"),
        )
        .detail(detail);
    }
    let reached = if step == Step::Credential { "the vault or the token endpoint" } else { "the source" };
    let fix = format!("check that this machine can reach {reached}; if it is only slow, raise safe_mode.{key} in the policy");
    Failure::new(Class::Network, title, fix).detail(detail)
}

pub(super) fn panicked(step: Step, panic: &(dyn std::any::Any + Send)) -> Failure {
    let message = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::new(
        Class::Bug,
        format!("a defect in aam ended the {} step", step.as_str()),
        "report it with the detail; other connections are not affected",
    )
    .detail(message.unwrap_or_else(|| "no message".to_string()))
}

/// Adds the number of calls and bytes so far to `evidence`.
pub(super) fn note_traffic(evidence: &mut Evidence, traffic: Traffic) {
    evidence.insert("traffic".to_string(), serde_json::json!(traffic));
}

/// Returns the evidence itself if there is only one resource, or the evidence keyed by resource id if there are
/// several.
pub(super) fn flat(evidence: Evidence) -> Evidence {
    if evidence.len() == 1
        && let Some((_, serde_json::Value::Object(only))) = evidence.iter().next()
    {
        return only.clone();
    }
    evidence
}

/// Removes the values of all known secrets from the outcome. This is the last step before the outcome is logged, stored
/// or sent.
///
/// Each text is scrubbed on its own instead of scrubbing the serialized JSON, because replacing a secret such as `1234`
/// or `passed` in the JSON could make it invalid.
pub(super) fn scrubbed(mut outcome: Outcome) -> Outcome {
    for report in &mut outcome.steps {
        report.status = match std::mem::replace(&mut report.status, StepStatus::Passed) {
            StepStatus::Passed => StepStatus::Passed,
            StepStatus::Warned { failure } => StepStatus::Warned { failure: clean_failure(failure) },
            StepStatus::Failed { failure } => StepStatus::Failed { failure: clean_failure(failure) },
            StepStatus::Skipped { reason } => StepStatus::Skipped { reason: clean(reason) },
        };
        let mut evidence = serde_json::Value::Object(std::mem::take(&mut report.evidence));
        redact::scrub_json(&mut evidence);
        if let serde_json::Value::Object(evidence) = evidence {
            report.evidence = evidence;
        }
    }
    outcome.drift.additive = clean_all(outcome.drift.additive);
    outcome.drift.breaking = clean_all(outcome.drift.breaking);
    outcome.catalog = outcome.catalog.map(clean_catalog);
    outcome
}

fn clean_catalog(mut catalog: Catalog) -> Catalog {
    for stream in &mut catalog.streams {
        stream.name = clean(std::mem::take(&mut stream.name));
        stream.namespace = stream.namespace.take().map(clean);
        clean_schema(&mut stream.json_schema);
        for path in &mut stream.source_defined_primary_key {
            *path = clean_all(std::mem::take(path));
        }
    }
    for skipped in &mut catalog.skipped {
        skipped.name = clean(std::mem::take(&mut skipped.name));
        skipped.reason = clean(std::mem::take(&mut skipped.reason));
        skipped.missing = skipped.missing.take().map(clean);
        skipped.fix = skipped.fix.take().map(clean);
    }
    catalog
}

/// The keywords of a JSON schema whose texts are types or names of fields.
const STRUCTURE: [&str; 6] = ["type", "format", "required", "airbyte_type", "$schema", "$ref"];

/// Removes secrets from what a JSON schema says. Its types and the names of its fields stay as they are.
fn clean_schema(schema: &mut serde_json::Value) {
    let serde_json::Value::Object(object) = schema else { return redact::scrub_json(schema) };
    redact::scrub_keys(object);
    for (key, value) in object {
        match value {
            serde_json::Value::String(_) if STRUCTURE.contains(&key.as_str()) => {}
            serde_json::Value::Array(items) if STRUCTURE.contains(&key.as_str()) && items.iter().all(|item| item.is_string()) => {
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(clean_schema),
            value => clean_schema(value),
        }
    }
}

/// Removes secrets, and escapes the line feeds that a source or a caller could have put into a text to make it look like
/// several messages, or to add a line to what a person pastes.
pub(super) fn clean_failure(failure: Failure) -> Failure {
    let mut failure = redact::scrub_failure(failure);
    for line in [&mut failure.title, &mut failure.fix, &mut failure.detail] {
        if let Cow::Owned(escaped) = printable(line, &[]) {
            *line = escaped;
        }
    }
    failure
}

fn clean(text: String) -> String {
    match redact::scrub(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(scrubbed) => scrubbed,
    }
}

fn clean_all(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(clean).collect()
}
