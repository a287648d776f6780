//! Calls candidates until one works: for the health check, and for the tiny sync until one has records.
//!
//! An operation that fails is skipped with its reason. Only what concerns every operation ends the search: the connection,
//! the login, and a limit on the rate.

use super::address::host_of;
use super::call::JsonResponse;
use super::explain::{self, CalledBase, FailedCall};
use super::operations::Operation;
use super::records::{RecordPath, count};
use super::select::{Candidates, sample_candidates};
use super::service::Service;
use crate::connectors::Sample;
use crate::model::{Class, Evidence, Failure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Limit on the operations that may fail in one search. The caps of the family and the step timeout limit it too.
const MAX_FAILED: usize = 8;
/// Limit on the calls of one search.
const MAX_CALLS: usize = 50;
/// The number of operations that the evidence names.
const MAX_NAMED: usize = 5;

/// Whether a failure concerns every operation, so that the next candidate would fail too.
fn aborts(failure: &Failure) -> bool {
    matches!(
        failure.class,
        Class::Network | Class::BreakerOpen | Class::Throttled | Class::CredentialRejected | Class::Interrupted | Class::Bug
    )
}

/// One search: what failed, and how much time and how many calls are left.
struct Search<'s> {
    service: &'s Service,
    failed: Vec<FailedCall>,
    calls: usize,
    deadline: Instant,
}

impl<'s> Search<'s> {
    /// Leaves a tenth of the step's time for what follows the last call.
    fn new(service: &'s Service) -> Search<'s> {
        let deadline = Instant::now() + service.step_timeout.mul_f32(0.9);
        Search { service, failed: Vec::new(), calls: 0, deadline }
    }

    fn is_over(&self) -> bool {
        self.failed.len() >= MAX_FAILED || self.calls >= MAX_CALLS || self.left() < Duration::from_millis(20)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Calls one operation. Returns `None` if it failed and the search goes on.
    ///
    /// # Errors
    /// A failure that concerns every operation.
    async fn call(&mut self, operation: &Operation, wanted: u32, is_last: bool) -> Result<Option<JsonResponse>, Failure> {
        self.calls += 1;
        // An operation that does not answer must leave time for others.
        let limit = if is_last { self.left() } else { self.left() / 2 };
        let failure = match tokio::time::timeout(limit, self.service.get(operation, Some(wanted))).await {
            Ok(Ok(response)) => return Ok(Some(response)),
            Ok(Err(failure)) if aborts(&failure) => return Err(failure),
            Ok(Err(failure)) => failure,
            Err(_) => slow(operation, limit),
        };
        self.fail(operation, failure);
        Ok(None)
    }

    fn fail(&mut self, operation: &Operation, failure: Failure) {
        self.service.remember_failure(&operation.name);
        self.failed.push(FailedCall { name: operation.name.clone(), path: operation.path.clone(), failure });
    }

    fn failure(&self) -> Failure {
        let base = self.service.servers.base().unwrap_or_else(|_| self.service.description.clone());
        let host = host_of(&base);
        let called = CalledBase { host: &host, base: &base, description: &self.service.description };
        explain::nothing_worked(&self.failed, &self.service.settings, called)
    }

    /// The evidence of a response, and which operations did not work before it.
    fn evidence(&self, operation: &Operation, response: &JsonResponse) -> Evidence {
        let mut evidence = Evidence::new();
        evidence.insert("operation".into(), operation.name.clone().into());
        evidence.insert("path".into(), operation.path.clone().into());
        evidence.insert("status".into(), response.status.into());
        evidence.insert("bytes".into(), response.bytes.into());
        let security = if response.schemes.is_empty() {
            "none: the call does not need a credential".to_string()
        } else {
            response.schemes.join(" and ")
        };
        evidence.insert("security".into(), security.into());
        if !self.failed.is_empty() {
            let named: Vec<Value> = self.failed.iter().take(MAX_NAMED).map(|call| call.message().into()).collect();
            evidence.insert("failed_operations".into(), self.failed.len().into());
            evidence.insert("failed".into(), named.into());
        }
        evidence
    }
}

fn slow(operation: &Operation, limit: Duration) -> Failure {
    Failure::new(
        Class::Network,
        format!("there was no response to {} within {:.1} s", operation.name, limit.as_secs_f32()),
        "check whether the service is overloaded; if it is only slow, raise safe_mode.step_timeout in the policy; if the call waited for AAM's own limit, raise caps.families.openapi there",
    )
}

impl Service {
    /// Calls the candidates of the health check until one works.
    ///
    /// # Errors
    /// Why none works.
    pub(super) async fn check_health(&self) -> Result<Evidence, Failure> {
        let candidates = self.health_candidates()?;
        let mut search = Search::new(self);
        for (at, operation) in candidates.iter().enumerate() {
            if search.is_over() {
                break;
            }
            if let Some(response) = search.call(operation, 1, at + 1 == candidates.len()).await? {
                self.remember_acceptance(!response.schemes.is_empty());
                return Ok(search.evidence(operation, &response));
            }
        }
        Err(search.failure())
    }

    /// Calls the candidates of the tiny sync until one has records. Operations that failed in the health check are left out.
    ///
    /// # Errors
    /// Why none works.
    pub(super) async fn sample(&self, max_items: u32) -> Result<Sample, Failure> {
        let mut candidates: Candidates<'_> =
            sample_candidates(&self.operations, &self.settings, &self.servers, max_items, |operation| self.fit(operation))?;
        if candidates.iter().any(|operation| !self.has_failed(&operation.name)) {
            candidates.retain(|operation| !self.has_failed(&operation.name));
        }
        let mut search = Search::new(self);
        let mut empty: Vec<Sample> = Vec::new();
        let mut single: Option<Sample> = None;
        for (at, operation) in candidates.iter().enumerate() {
            let more_lists = candidates.get(at..).is_some_and(|rest| rest.iter().any(|operation| operation.is_list()));
            if search.is_over() || (single.is_some() && !more_lists) {
                break;
            }
            let response = match search.call(operation, max_items, at + 1 == candidates.len()).await {
                Ok(Some(response)) => response,
                Ok(None) => continue,
                // What was read before a rate limit is still true.
                Err(failure) if failure.class == Class::Throttled && (single.is_some() || !empty.is_empty()) => break,
                Err(failure) => return Err(failure),
            };
            match self.records(&mut search, operation, &response, max_items) {
                None => {}
                Some((sample, _)) if sample.rows == 0 => empty.push(sample),
                Some((sample, true)) => return Ok(with_empty(sample, empty.len())),
                Some((sample, false)) => {
                    single.get_or_insert(sample);
                }
            }
        }
        let lists = empty.len();
        let nothing = || empty.into_iter().next().map(|sample| with_empty(sample, lists - 1));
        single.map(|sample| with_empty(sample, lists)).or_else(nothing).ok_or_else(|| search.failure())
    }

    /// Counts the records of a response, and says whether they are a list. Returns `None` if they cannot be found.
    fn records(
        &self,
        search: &mut Search<'_>,
        operation: &Operation,
        response: &JsonResponse,
        max_items: u32,
    ) -> Option<(Sample, bool)> {
        let path =
            operation.answer.as_ref().map_or(RecordPath::Single, |records| records.path_in(&response.value, &operation.path));
        let Some(available) = count(&response.value, &path) else {
            let title = format!(
                "the response of {} does not have a list at \"{}\", although the description promises one",
                operation.name,
                path.pointer()
            );
            let fix = "check that the description and the service have the same version";
            search.fail(operation, Failure::new(Class::WrongService, title, fix));
            return None;
        };
        let rows = available.min(max_items.into());
        let mut evidence = search.evidence(operation, response);
        evidence.insert("records".into(), rows.into());
        if available > rows {
            evidence.insert("more_available".into(), true.into());
        }
        if rows == 0 {
            evidence.insert(
                "note".into(),
                "the service returned an empty list: it has no records, or does not show any to this credential".into(),
            );
        }
        Some((Sample::new(rows, evidence), path.is_list()))
    }
}

/// Adds how many operations returned an empty list.
fn with_empty(mut sample: Sample, empty: usize) -> Sample {
    if empty > 0 {
        sample.evidence.insert("empty_operations".into(), empty.into());
    }
    sample
}
