//! Read endpoints: the list of connections, one connection, its health, and the funnel.

use super::app::App;
use super::bounded::{PageBytes, bounded_funnel, json_len};
use super::past_funnels::past_funnel;
use super::problem::ApiProblem;
use super::request::{ApiRequest, ApiResult, JSON, encode, json};
use crate::families::aliases;
use crate::funnel::funnel;
use crate::model::{ConnectionId, State, Timestamp};
use crate::report::holds::HeldBody;
use crate::report::result::{ConnectionResult, LedgerBodies, StepBody, error_attempt};
use crate::snapshot::{Connection, Snapshot};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use utoipa::ToSchema;
use uuid::Uuid;

/// The default number of items on a page.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The maximum number of items on a page.
pub const MAX_PAGE_SIZE: usize = 1000;
/// The number of connections whose bodies are read together.
const CHUNK: usize = 16;
/// The maximum size of the bodies from which the results of a page are built. Intents are smaller. Steps that are larger
/// are left out.
const MAX_BODY_BYTES: usize = 2 << 20;
/// The same for the result of a single connection.
const MAX_SINGLE_BODY_BYTES: usize = 8 << 20;

/// One page of connections, in order of their ids. A page ends at 4 MiB, even if it holds fewer connections than asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPage {
    /// Always `database`.
    pub data_source: String,
    pub namespace: String,
    /// The number of connections that match the filters, on all pages.
    pub total: usize,
    pub connections: Vec<ConnectionResult>,
    /// Send it as `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// The health of a connection, and the counters of its last tiny sync.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthAnswer {
    pub connection_id: String,
    #[schema(value_type = State)]
    pub status: String,
    /// Whether the latest conclusive attempt passed the health step.
    pub healthy: bool,
    pub message: String,
    /// When the connection was last checked, whatever the result.
    pub checked_at: Option<String>,
    /// When discovery and tiny sync last ran.
    pub checked_full_at: Option<String>,
    pub failures_in_a_row: u32,
    /// True while an attempt runs.
    pub checking: bool,
    /// The health step of the latest attempt.
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

/// The filters of a list, and the position and size of the page.
pub struct ConnectionFilter {
    pub namespace: String,
    pub state: Option<State>,
    pub source_type: Option<String>,
    pub limit: usize,
    pub after: Option<ConnectionId>,
}

/// `GET /connections`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let filter = ConnectionFilter {
        namespace: request.namespace()?,
        state: request.query.state()?,
        source_type: request.query.get("source_type").map(source_type),
        limit: request.query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?,
        after: request.query.get("cursor").map(parse_cursor).transpose()?,
    };
    request.cached(JSON, move |app| encode(&page(app, &filter)?)).await
}

/// Returns the source type that a caller means by a name, as intake reads it.
fn source_type(name: &str) -> String {
    aliases::alias(name).map_or_else(|| name.to_string(), str::to_string)
}

/// Reads one page. States come from the snapshot, and intents from the ledger.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
pub fn page(app: &App, filter: &ConnectionFilter) -> Result<ConnectionPage, ApiProblem> {
    let (total, mut found) = select(&app.handle.registry.snapshot(), filter);
    let more = found.len() > filter.limit;
    found.truncate(filter.limit);
    let connections = page_of(app, &found, false)?;
    let more = more || connections.len() < found.len();
    let last = connections.len().checked_sub(1).and_then(|index| found.get(index)).filter(|_| more);
    Ok(ConnectionPage {
        data_source: "database".to_string(),
        namespace: filter.namespace.clone(),
        total,
        next_cursor: last.map(|(id, _)| encode_cursor(*id)),
        connections,
    })
}

/// Builds the results for the first of `found`, as many as fit on one page.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
pub fn page_of(app: &App, found: &[(ConnectionId, Connection)], steps: bool) -> Result<Vec<ConnectionResult>, ApiProblem> {
    let (mut page, mut results) = (PageBytes::default(), Vec::new());
    for chunk in found.chunks(CHUNK) {
        for result in describe(app, chunk, steps, MAX_BODY_BYTES)? {
            if !page.fits(json_len(&result)) {
                return Ok(results);
            }
            results.push(result);
        }
    }
    Ok(results)
}

/// Builds the results for `found`. If `steps` is true, they include the steps of the latest attempts. Bodies of more than
/// `max_bytes` bytes are left out.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
fn describe(
    app: &App,
    found: &[(ConnectionId, Connection)],
    steps: bool,
    max_bytes: usize,
) -> Result<Vec<ConnectionResult>, ApiProblem> {
    let seqs: Vec<u64> = found
        .iter()
        .flat_map(|(_, connection)| {
            // The title and the fix are part of the facts. The body of the attempt is read only for the message of the
            // source. Entries are numbered from 1, so no body is read for 0.
            let error = error_attempt(connection).map_or(0, |attempt| attempt.seq);
            let last = connection.last.as_ref().filter(|_| steps);
            [connection.document, error, last.map_or(0, |attempt| attempt.seq)]
        })
        .collect();
    let bodies = app.handle.registry.reader().bodies(&seqs, max_bytes)?;
    let holds = app.handle.holds.load();
    let text = |index: usize| bodies.get(index).and_then(Option::as_deref);
    let results = found.iter().enumerate().map(|(index, (id, connection))| {
        let bodies = LedgerBodies {
            document: text(index * 3),
            error_steps: text(index * 3 + 1),
            steps: steps.then(|| text(index * 3 + 2).unwrap_or("[]")),
        };
        let result = ConnectionResult::new(*id, connection, bodies, app.handle.checking(*id), app.handle.clock.now());
        ConnectionResult { held: HeldBody::new(&holds, *id), ..result }
    });
    Ok(results.collect())
}

/// Counts all matches and returns those on the page, plus one more if there is another page.
fn select(snapshot: &Snapshot, filter: &ConnectionFilter) -> (usize, Vec<(ConnectionId, Connection)>) {
    let matches = |connection: &Connection| {
        *connection.namespace == *filter.namespace
            && filter.source_type.as_ref().is_none_or(|wanted| **wanted == *connection.source_type)
            && filter.state.is_none_or(|wanted| wanted == connection.state())
    };
    let total = snapshot.connections.values().filter(|c| matches(c)).count();
    let start = filter.after.map_or(Bound::Unbounded, Bound::Excluded);
    let found = snapshot
        .connections
        .range((start, Bound::Unbounded))
        .filter(|(_, connection)| matches(connection))
        .take(filter.limit + 1)
        .map(|(id, connection)| (*id, connection.as_ref().clone()))
        .collect();
    (total, found)
}

fn encode_cursor(id: ConnectionId) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id.0.as_bytes())
}

fn parse_cursor(text: &str) -> Result<ConnectionId, ApiProblem> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| Uuid::from_slice(&bytes).ok())
        .map(ConnectionId)
        .ok_or_else(invalid_cursor)
}

pub fn invalid_cursor() -> ApiProblem {
    ApiProblem::bad_request("cursor must be the next_cursor of an earlier page, unchanged.")
}

/// Returns the result body for one connection, with the steps of its latest attempt.
///
/// # Errors
/// Returns 404 if the connection does not exist, and 503 if the registry cannot be read.
pub fn connection_result(app: &App, id: ConnectionId) -> Result<ConnectionResult, ApiProblem> {
    let found = [(id, find_connection(app, id)?)];
    describe(app, &found, true, MAX_SINGLE_BODY_BYTES)?
        .pop()
        .ok_or_else(|| ApiProblem::defect("The connection has no result body."))
}

fn find_connection(app: &App, id: ConnectionId) -> Result<Connection, ApiProblem> {
    app.handle
        .registry
        .snapshot()
        .connections
        .get(&id)
        .map(|connection| connection.as_ref().clone())
        .ok_or_else(|| ApiProblem::not_found("No connection with this id."))
}

/// `GET /connections/{id}`
///
/// # Errors
/// 404, 503.
pub async fn connection(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    request.cached(JSON, move |app| encode(&connection_result(app, id)?)).await
}

/// `GET /connections/{id}/health`
///
/// # Errors
/// 404, 503.
pub async fn health(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let answer = request
        .app
        .blocking(move |app| {
            let connection = find_connection(app, id)?;
            let result = connection_result(app, id)?;
            let proven = connection.proven.as_ref();
            Ok(HealthAnswer {
                connection_id: result.connection_id,
                status: result.status,
                healthy: connection.conclusive.as_ref().is_some_and(|attempt| attempt.facts.healthy),
                message: result.message,
                checked_at: connection.last_checked().map(Timestamp::rfc3339),
                checked_full_at: connection.checked_full.map(Timestamp::rfc3339),
                failures_in_a_row: connection.failures,
                checking: result.checking,
                step: result.steps.unwrap_or_default().into_iter().find(|step| step.step == "health"),
                last_tiny_sync: proven.map(|attempt| TinySync {
                    at: attempt.at.rfc3339(),
                    rows: attempt.facts.rows,
                    latency_ms: attempt.facts.latency_ms,
                }),
            })
        })
        .await?;
    json(StatusCode::OK, &answer)
}

/// `GET /metrics/funnel`
///
/// # Errors
/// 400, 403, 503.
pub async fn metrics_funnel(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let Some(text) = request.query.get("at") else {
        return request
            .cached(JSON, move |app| {
                let target = app.handle.policy().slo.coverage;
                let now = app.handle.clock.now();
                encode(&bounded_funnel(funnel(&app.handle.registry.snapshot(), &namespace, target, now)))
            })
            .await;
    };
    let at = Timestamp::parse(text).map_err(|reason| {
        ApiProblem::bad_request(format!(
            "at must be an RFC 3339 timestamp, for example 2026-11-08T18:00:00Z (write + as %2B): {reason}."
        ))
    })?;
    let at = at.min(request.app.handle.clock.now());
    json(StatusCode::OK, &past_funnel(&request.app, namespace, at).await?)
}
