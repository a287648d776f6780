//! One runner for every step: timeout, panic guard, report.

use crate::credentials::redact;
use crate::egress::Traffic;
use crate::model::{Class, Evidence, Failure, Outcome, Step, StepReport, StepStatus};
use crate::policy::{SafeMode, duration_words};
use futures_util::FutureExt;
use std::borrow::Cow;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// What a step gives when it did its work.
pub(super) struct Ran<T> {
    pub value: T,
    pub evidence: Evidence,
    /// Something a person should mend although the step passed.
    pub warning: Option<Failure>,
}

impl<T> Ran<T> {
    pub(super) fn new(value: T, evidence: Evidence) -> Ran<T> {
        Ran { value, evidence, warning: None }
    }
}

/// Collects the reports of one attempt.
pub(super) struct Runner {
    reports: Vec<StepReport>,
    step_timeout: Duration,
    deadline: Instant,
    attempt_timeout: Duration,
    latencies: Vec<(Step, u64)>,
}

impl Runner {
    pub(super) fn new(safe_mode: &SafeMode) -> Runner {
        Runner {
            reports: Vec::with_capacity(Step::ALL.len()),
            step_timeout: safe_mode.step_timeout,
            deadline: Instant::now() + safe_mode.attempt_timeout,
            attempt_timeout: safe_mode.attempt_timeout,
            latencies: Vec::new(),
        }
    }

    /// Runs one step. `None`: it failed, and the report says why.
    pub(super) async fn step<T>(&mut self, step: Step, work: impl Future<Output = Result<Ran<T>, Failure>>) -> Option<T> {
        let started = Instant::now();
        let left = self.deadline.saturating_duration_since(started);
        let (limit, whole) = if left < self.step_timeout { (left, true) } else { (self.step_timeout, false) };
        let ended = tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind()).await;
        let took = started.elapsed();
        let result = match ended {
            Err(_) if whole => Err(timed_out(step, "attempt_timeout", self.attempt_timeout)),
            Err(_) => Err(timed_out(step, "step_timeout", self.step_timeout)),
            Ok(Err(panic)) => Err(panicked(step, &*panic)),
            Ok(Ok(result)) => result,
        };
        // Rounded up: what was measured took time.
        self.latencies.push((step, u64::try_from(took.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)));
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (status, evidence, value) = match result {
            Ok(Ran { value, evidence, warning: None }) => (StepStatus::Passed, evidence, Some(value)),
            Ok(Ran { value, evidence, warning: Some(failure) }) => (StepStatus::Warned { failure }, evidence, Some(value)),
            Err(failure) => (StepStatus::Failed { failure }, Evidence::new(), None),
        };
        self.reports.push(StepReport { step, status, duration_ms, evidence });
        value
    }

    /// Adds evidence to the report of the step that ran last, whether it passed or not.
    pub(super) fn skip(&mut self, step: Step, reason: &str) {
        let status = StepStatus::Skipped { reason: reason.to_string() };
        self.reports.push(StepReport { step, status, duration_ms: 0, evidence: Evidence::new() });
    }

    /// Milliseconds that `step` took, rounded up.
    pub(super) fn latency_ms(&self, step: Step) -> Option<u64> {
        self.latencies.iter().find(|(ran, _)| *ran == step).map(|(_, ms)| *ms)
    }

    /// All seven reports: what did not run is skipped, with the reason. The registry's report is
    /// written with the row itself, so it stands also after a failure.
    pub(super) fn finish(mut self) -> Vec<StepReport> {
        let failed = self.reports.iter().find(|report| report.failure().is_some()).map(|report| report.step);
        for step in Step::ALL {
            if self.reports.iter().any(|report| report.step == step) {
                continue;
            }
            match failed {
                Some(failed) if step != Step::Registry => self.skip(step, &format!("not run: {} failed", failed.word())),
                _ => {
                    self.reports.push(StepReport { step, status: StepStatus::Passed, duration_ms: 0, evidence: Evidence::new() })
                }
            }
        }
        self.reports.sort_by_key(|report| report.step);
        self.reports
    }
}

fn timed_out(step: Step, key: &str, limit: Duration) -> Failure {
    let limit = duration_words::word(&limit);
    Failure::new(
        Class::Network,
        format!("the {} step gave no answer within {limit}", step.word()),
        format!("check that the source answers from this machine; if it is only slow, raise safe_mode.{key} in the policy"),
    )
    .detail(format!("safe_mode.{key} is {limit}"))
}

fn panicked(step: Step, panic: &(dyn std::any::Any + Send)) -> Failure {
    let words = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::new(
        Class::Bug,
        format!("a defect of aam was met in the {} step", step.word()),
        "report it with the detail; the other connections are not affected",
    )
    .detail(words.unwrap_or_else(|| "no message".to_string()))
}

/// Adds calls and bytes so far.
pub(super) fn note_traffic(evidence: &mut Evidence, traffic: Traffic) {
    evidence.insert("traffic".to_string(), serde_json::json!(traffic));
}

/// The evidence of one resource as it is; of several, by resource id.
pub(super) fn flat(evidence: Evidence) -> Evidence {
    if evidence.len() == 1
        && let Some((_, serde_json::Value::Object(only))) = evidence.iter().next()
    {
        return only.clone();
    }
    evidence
}

/// The outcome without any known secret, by value. The last gate before log, row and answer.
pub(super) fn scrubbed(mut outcome: Outcome) -> Outcome {
    outcome.steps = clean(outcome.steps);
    outcome.catalog = outcome.catalog.map(clean);
    outcome
}

fn clean<T: serde::Serialize + serde::de::DeserializeOwned>(value: T) -> T {
    let text = serde_json::to_string(&value).unwrap_or_default();
    match redact::scrub(&text) {
        Cow::Borrowed(_) => value,
        Cow::Owned(scrubbed) => serde_json::from_str(&scrubbed).unwrap_or(value),
    }
}
