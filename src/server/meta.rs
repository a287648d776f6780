//! Endpoints about the server itself: liveness, readiness, version, OpenAPI document, intent schema and metrics.

use super::ServerInfo;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::proof;
use super::representation::Rendered;
use super::request::{ApiRequest, ApiResult, JSON, insert_header, json, rendered_response, response};
use super::{auth::Caller, openapi};
use crate::funnel::funnel;
use crate::meters;
use crate::model::Timestamp;
use crate::reconcile::Handle;
use crate::report::metrics::{self, MAX_NAMESPACES, ProviderUsage, Scrape, WebhookFigures, Work};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};
use utoipa::ToSchema;

/// The published schema, which is the same one that the parser validates with.
const SCHEMA: &str = crate::intake::schema::TEXT;

/// The OpenAPI document.
static DOCUMENT: LazyLock<Arc<Rendered>> = LazyLock::new(|| Arc::new(Rendered::new(openapi::text())));

/// The media type of OpenMetrics.
pub const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The title of the problem that `GET /readyz` answers with while the registry cannot be used. `aam heal` ends at it, and
/// waits during the other reasons.
pub const REGISTRY_TROUBLE: &str = "The registry cannot be used";

/// The answer of `GET /healthz` and `GET /readyz`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusAnswer {
    pub status: String,
}

/// The answer of `GET /health` and `GET /api/health`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServiceHealth {
    /// Always `healthy`, because a process that does not run does not answer.
    pub status: String,
    /// Always `aam`.
    pub service: String,
    pub version: String,
    /// Whether `GET /readyz` answers 200.
    pub ready: bool,
}

/// `GET /health` and `GET /api/health`: reports that the process is running, and whether it is ready.
///
/// # Errors
/// This never fails.
pub async fn health(request: ApiRequest) -> ApiResult {
    let info = &request.app.info;
    request.app.handle.check_registry_files().await;
    let health = ServiceHealth {
        status: "healthy".to_string(),
        service: info.service.clone(),
        version: info.version.clone(),
        ready: not_ready(&request.app.handle).is_none(),
    };
    json(StatusCode::OK, &health)
}

/// `GET /healthz`: reports that the process is running.
///
/// # Errors
/// This never fails.
pub async fn healthz(_: ApiRequest) -> ApiResult {
    json(StatusCode::OK, &StatusAnswer { status: "ok".to_string() })
}

/// `GET /readyz`: reports whether the intents folder has been read once and the registry can write. The files of the registry
/// are looked at, because nothing may be written for a long time after they were moved away.
///
/// # Errors
/// Returns 503 with the reason.
pub async fn readyz(request: ApiRequest) -> ApiResult {
    request.app.handle.check_registry_files().await;
    match not_ready(&request.app.handle) {
        None => json(StatusCode::OK, &StatusAnswer { status: "ready".to_string() }),
        Some((title, reason)) => Err(ApiProblem::unavailable(ProblemCode::NotReady, title, reason)),
    }
}

/// Returns why AAM is not ready, as a title and a reason. Returns `None` if it is.
pub(super) fn not_ready(handle: &Handle) -> Option<(&'static str, String)> {
    const NOT_READY: &str = "Not ready";
    let trouble = handle.trouble.load();
    if *handle.stopping.borrow() {
        return Some((NOT_READY, "AAM is stopping.".to_string()));
    }
    if !trouble.is_empty() {
        return Some((REGISTRY_TROUBLE, trouble.to_string()));
    }
    // A replica with nothing to do writes nothing, and notices here that its database does not answer.
    if let Err(why) = handle.registry.may_call(None) {
        return Some((
            REGISTRY_TROUBLE,
            format!("AAM makes no calls: {why}; it continues automatically when the database answers."),
        ));
    }
    if !*handle.ready.borrow() {
        return Some((NOT_READY, "The first scan of the intents folder has not finished yet.".to_string()));
    }
    let age = handle.overdue()?;
    let reason = format!(
        "The policy and the intents folder were last read {} s ago; check that their file systems answer, for example with ls -l {} {}.",
        age.as_secs(),
        handle.policy_file.display(),
        handle.intents.display()
    );
    Some((NOT_READY, reason))
}

/// `GET /version`. With a challenge in a header, the response proves that this process holds its registry.
///
/// # Errors
/// This never fails.
pub async fn version(request: ApiRequest) -> ApiResult {
    let mut response = json::<ServerInfo>(StatusCode::OK, &request.app.info)?;
    let challenge = request.headers.get(proof::CHALLENGE).and_then(|value| value.to_str().ok());
    let key = request.app.listener_key.as_ref();
    if let Some(proof) = key.zip(challenge).and_then(|(key, challenge)| key.prove(challenge, request.client.local)) {
        insert_header(&mut response, proof::PROOF, proof);
    }
    Ok(response)
}

/// `GET /openapi.json`
///
/// # Errors
/// This never fails.
pub async fn document(_: ApiRequest) -> ApiResult {
    Ok(rendered_response(StatusCode::OK, JSON, &DOCUMENT))
}

/// `GET /schemas/connection_intent.json`
///
/// # Errors
/// This never fails.
pub async fn intent_schema(_: ApiRequest) -> ApiResult {
    let body = Bytes::from_static(SCHEMA.as_bytes());
    Ok(response(StatusCode::OK, "application/schema+json", body))
}

/// `GET /metrics`
///
/// # Errors
/// 500.
pub async fn prometheus(request: ApiRequest) -> ApiResult {
    let caller = request.caller()?.clone();
    let text = request.app.blocking(move |app| Ok(metrics::text(&scrape(app, &caller)))).await?;
    Ok(response(StatusCode::OK, METRICS, text.into()))
}

fn provider_usage(app: &super::app::App, now: Timestamp) -> Vec<ProviderUsage> {
    let usage = app.env.providers.usage().into_iter().map(|(count, next_end)| ProviderUsage {
        provider: count.provider,
        lookups: count.lookups,
        cache_hits: count.cache_hits,
        failures: count.failures,
        next_end_seconds: next_end.map(|end| end.0.saturating_sub(now.0).div_euclid(1000)),
    });
    usage.collect()
}

fn scrape(app: &super::app::App, caller: &Caller) -> Scrape {
    let handle = &app.handle;
    let active = handle.policy.load();
    let now = handle.clock.now();
    let snapshot = handle.registry.snapshot();
    let mut namespaces = snapshot.namespaces();
    // First, so that no number of other namespaces pushes it out.
    let main = &*active.policy.namespace;
    namespaces.remove(main);
    let target = active.policy.slo.coverage;
    let funnels = std::iter::once(main)
        .chain(namespaces.iter().map(String::as_str))
        .filter(|namespace| caller.may_see(namespace))
        .take(MAX_NAMESPACES)
        .map(|namespace| funnel(&snapshot, namespace, target, now))
        .collect();
    Scrape {
        version: app.info.version.clone(),
        funnels,
        held: handle.holds.load().holds.iter().map(|hold| (hold.namespace.clone(), hold.departures.len())).collect(),
        attempts_in_flight: handle.attempts_in_flight(),
        intake_problems: handle.problems.load().len(),
        trouble: !handle.trouble.load().is_empty(),
        policy_rejected: active.rejected.is_some(),
        ledger_seq: snapshot.seq,
        uptime_seconds: now.since(handle.started).as_secs_f64(),
        ready: *handle.ready.borrow(),
        credentials: provider_usage(app, now),
        work: caller.may_read(main).then(|| work(app, now, snapshot.seq)),
    }
}

fn work(app: &super::app::App, now: Timestamp, head: u64) -> Work {
    let meters = meters::meters().read();
    let due = meters.queue_next_due_ms.map(Timestamp);
    let webhooks = app.handle.webhooks.load();
    let figures = webhooks.iter().map(|webhook| WebhookFigures {
        name: webhook.name.clone(),
        delivered: webhook.delivered,
        failed: webhook.failed,
        failing: !webhook.problem.is_empty(),
        lag: head.saturating_sub(webhook.up_to),
    });
    Work {
        open_breakers: app.env.egress.open_breakers(&app.handle.policy().breaker),
        queue_delay_seconds: due.map_or(0.0, |due| now.since(due).as_secs_f64()),
        event_readers: app.event_readers.count(),
        webhooks: figures.collect(),
        meters,
    }
}
