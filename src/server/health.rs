//! The health of connections: of one, and of all connections of a namespace.

use super::app::App;
use super::problem::ApiProblem;
use super::read::{self, ConnectionFilter, Selected, connection_result, find_connection, next_cursor, page_of};
use super::request::{ApiRequest, ApiResult, JSON, encode, json};
use crate::model::{ConnectionId, State, Timestamp};
use crate::report::result::{ConnectionResult, ErrorBody, StepBody};
use crate::snapshot::Connection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The health of a connection, and the counters of its last tiny sync.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthAnswer {
    pub connection_id: String,
    /// The same as `connection_id`.
    pub id: String,
    /// The source type and the first resource id, for people.
    pub name: String,
    pub namespace: String,
    pub source_type: String,
    /// HEALING, ERROR, NETWORK_BLOCKED, AWAITING_CREDENTIALS, UNSUPPORTED, REJECTED, PENDING, ACTIVE or RETIRED.
    pub status: String,
    /// The same as `status`.
    pub connection_status: String,
    /// The state in the terms of the predecessor: healthy (ACTIVE), degraded (HEALING), unknown (PENDING and RETIRED), or
    /// down.
    pub health_status: String,
    /// Whether the latest conclusive attempt passed the health step.
    pub healthy: bool,
    pub message: String,
    /// What keeps the connection from being ACTIVE, and how to fix it.
    pub error: Option<ErrorBody>,
    /// The title and the fix of `error` as one text; null if there is no error.
    pub error_message: Option<String>,
    /// When the connection was first accepted. RFC 3339.
    pub created_at: String,
    /// When the connection was last changed or checked. RFC 3339.
    pub updated_at: String,
    /// When the connection was last checked, whatever the result. RFC 3339.
    pub last_health_check: Option<String>,
    /// The same as `last_health_check`.
    pub checked_at: Option<String>,
    /// When discovery and tiny sync last ran.
    pub checked_full_at: Option<String>,
    pub failures_in_a_row: u32,
    /// True while an attempt runs.
    pub checking: bool,
    /// The duration of the health step of the latest attempt in milliseconds; null if it did not run, and in lists.
    pub response_time_ms: Option<u64>,
    /// The number of items that the latest successful tiny sync read.
    pub first_sync_rows: Option<u64>,
    /// The duration of that tiny sync in milliseconds.
    pub latency_ms: Option<u64>,
    /// The risk of the source: low, med or high.
    pub risk_level: Option<String>,
    /// The health step of the latest attempt; null in lists.
    pub step: Option<StepBody>,
    pub last_tiny_sync: Option<TinySync>,
}

/// The counters of the latest successful tiny sync.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TinySync {
    pub at: String,
    pub rows: Option<u64>,
    pub latency_ms: Option<u64>,
}

/// One page of the health of connections, in order of their ids. A page ends at 4 MiB.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthPage {
    /// Always `database`.
    pub data_source: String,
    pub namespace: String,
    /// The number of connections that match the filters, on all pages.
    pub total: usize,
    /// How many of them are healthy, on all pages.
    pub healthy: usize,
    pub connections: Vec<HealthAnswer>,
    /// Send it as `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
    /// The page shows all entries of the ledger up to this one, and may show later ones.
    pub registry_seq: u64,
}

impl HealthAnswer {
    /// Builds the health of `connection` from its result. If the result has no steps, neither has the health.
    fn new(connection: &Connection, result: ConnectionResult) -> HealthAnswer {
        let step = result.steps.unwrap_or_default().into_iter().find(|step| step.step == "health");
        let proven = connection.proven.as_ref();
        HealthAnswer {
            connection_id: result.connection_id,
            id: result.id,
            name: result.name,
            namespace: result.namespace,
            source_type: result.source_type,
            connection_status: result.status.clone(),
            status: result.status,
            health_status: health_status(connection.state()).to_string(),
            healthy: connection.is_healthy(),
            message: result.message,
            error: result.error,
            error_message: result.error_message,
            created_at: result.created_at,
            updated_at: result.updated_at,
            checked_at: result.last_health_check.clone(),
            last_health_check: result.last_health_check,
            checked_full_at: connection.checked_full.map(Timestamp::rfc3339),
            failures_in_a_row: connection.failures,
            checking: result.checking,
            response_time_ms: step.as_ref().filter(|step| step.status != "skipped").map(|step| step.duration_ms),
            first_sync_rows: result.first_sync_rows,
            latency_ms: result.latency_ms,
            risk_level: result.risk_level,
            step,
            last_tiny_sync: proven.map(|attempt| TinySync {
                at: attempt.at.rfc3339(),
                rows: attempt.facts.rows,
                latency_ms: attempt.facts.latency_ms,
            }),
        }
    }

    /// The health for a caller that may only request checks: the id and the state.
    #[must_use]
    pub fn state_only(self) -> HealthAnswer {
        let message = format!("{}; a token with the scope registry:read sees the details", self.status);
        HealthAnswer {
            name: String::new(),
            source_type: String::new(),
            message,
            error: None,
            error_message: None,
            failures_in_a_row: 0,
            response_time_ms: None,
            first_sync_rows: None,
            latency_ms: None,
            risk_level: None,
            step: None,
            last_tiny_sync: None,
            ..self
        }
    }
}

fn health_status(state: State) -> &'static str {
    match state {
        State::Active => "healthy",
        State::Healing => "degraded",
        State::Pending | State::Retired => "unknown",
        _ => "down",
    }
}

/// Reads the health of one connection.
///
/// # Errors
/// Returns 404 if the connection does not exist, and 503 if the registry cannot be read.
pub fn health_of(app: &App, id: ConnectionId) -> Result<HealthAnswer, ApiProblem> {
    let connection = find_connection(app, id)?;
    Ok(HealthAnswer::new(&connection, connection_result(app, id)?))
}

/// `GET /connections/{id}/health` and `GET /connections/health/{id}`
///
/// # Errors
/// 404, 503.
pub async fn one(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    json(StatusCode::OK, &request.app.blocking(move |app| health_of(app, id)).await?)
}

/// `GET /connections/health`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let filter = ConnectionFilter::from_request(&request).await?;
    request.cached(JSON, move |app| encode(&page(app, &filter)?)).await
}

fn page(app: &App, filter: &ConnectionFilter) -> Result<HealthPage, ApiProblem> {
    let Selected { totals, mut found, seq } = read::select(app, filter);
    let more = found.len() > filter.limit;
    found.truncate(filter.limit);
    let results = page_of(app, &found, false)?;
    let next_cursor = next_cursor(&found, results.len(), more);
    let connections = found.iter().zip(results).map(|((_, connection), result)| HealthAnswer::new(connection, result));
    Ok(HealthPage {
        data_source: "database".to_string(),
        namespace: filter.namespace.clone(),
        total: totals.total,
        healthy: totals.healthy,
        connections: connections.collect(),
        next_cursor,
        registry_seq: seq,
    })
}
