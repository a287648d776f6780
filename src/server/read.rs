//! Read endpoints: the list of connections, one connection, its health, history and catalog, and the funnel.

use super::app::App;
use super::bounded::{MAX_PAGE_BYTES, PageBytes, bounded_funnel, json_len};
use super::past_funnels::past_funnel;
use super::problem::ApiProblem;
use super::request::{ApiRequest, ApiResult, JSON, encode, json, response};
use crate::funnel::funnel;
use crate::model::{ConnectionId, State, Timestamp};
use crate::registry::Version;
use crate::report::result::{ConnectionResult, LedgerBodies, StepBody, error_attempt};
use crate::snapshot::{Connection, Snapshot};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
/// The maximum number of skipped streams in one response.
const MAX_SKIPPED: usize = 1000;

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

/// The append-only history of a connection, newest first. A page ends at 4 MiB, even if it holds fewer entries than asked
/// for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionPage {
    pub connection_id: String,
    pub versions: Vec<VersionBody>,
    pub next_cursor: Option<String>,
}

/// One entry of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionBody {
    /// The number of the entry in the ledger.
    pub seq: u64,
    pub at: String,
    /// intent_accepted, intent_withdrawn, attempt_begun, attempt_finished, catalog_registered or connection_retired.
    pub kind: String,
    /// The facts that states and funnels are computed from.
    #[schema(value_type = Object)]
    pub facts: Value,
    /// The size of the body in bytes.
    pub body_bytes: u64,
    /// The full intent, step reports or catalog. Null if it is larger than 4 MiB; `/catalog` returns a catalog in pages.
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
}

/// A version of a connection's catalog. A page ends at 4 MiB.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CatalogAnswer {
    pub connection_id: String,
    pub catalog_version: u32,
    /// The number of streams, on all pages.
    pub streams_total: usize,
    /// Send it as `cursor` for further streams of the same version; null on the last page.
    pub next_cursor: Option<String>,
    /// An Airbyte catalog: `streams` with name, json_schema, supported_sync_modes and keys.
    #[schema(value_type = Object)]
    pub catalog: Value,
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
        source_type: request.query.get("source_type").map(str::to_string),
        limit: request.query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?,
        after: request.query.get("cursor").map(parse_cursor).transpose()?,
    };
    request.cached(JSON, move |app| encode(&page(app, &filter)?)).await
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
    let text = |index: usize| bodies.get(index).and_then(Option::as_deref);
    let results = found.iter().enumerate().map(|(index, (id, connection))| {
        let bodies = LedgerBodies {
            document: text(index * 3),
            error_steps: text(index * 3 + 1),
            steps: steps.then(|| text(index * 3 + 2).unwrap_or("[]")),
        };
        ConnectionResult::new(*id, connection, bodies, app.handle.checking(*id))
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

fn invalid_cursor() -> ApiProblem {
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

/// `GET /connections/{id}/versions`
///
/// # Errors
/// 400, 404, 503.
pub async fn versions(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let limit = request.query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?;
    let before = match request.query.get("cursor") {
        Some(text) => Some(text.parse::<u64>().map_err(|_| invalid_cursor())?),
        None => None,
    };
    let body = request
        .app
        .blocking(move |app| {
            let (mut page, mut entries, mut next) = (PageBytes::default(), Vec::new(), None);
            let (mut last, mut failed) = (None, None);
            app.handle.registry.reader().history(id, before, MAX_PAGE_BYTES, |version| {
                let seq = version.entry.seq;
                match version_json(version) {
                    Ok(entry) if entries.len() < limit && page.fits(entry.len()) => {
                        entries.push(entry);
                        last = Some(seq);
                        return true;
                    }
                    Ok(_) => next = last,
                    Err(problem) => failed = Some(problem),
                }
                false
            })?;
            failed.map_or(Ok(()), Err)?;
            let head = encode(&serde_json::json!({ "connection_id": id, "next_cursor": next.map(|seq| seq.to_string()) }))?;
            Ok(with_member(head, "versions", &[b"[".as_slice(), &entries.join(&b','), b"]"].concat()))
        })
        .await?;
    Ok(response(StatusCode::OK, JSON, body.into()))
}

/// Returns one entry as JSON. The text of the body becomes part of it as it is stored, because parsing it would take many
/// times its size in memory.
fn version_json(version: Version) -> Result<Vec<u8>, ApiProblem> {
    let body = version.body.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let mut head = serde_json::to_value(VersionBody {
        seq: version.entry.seq,
        at: version.entry.at.rfc3339(),
        kind: version.entry.fact.kind().to_string(),
        facts: serde_json::to_value(&version.entry.fact).unwrap_or_default(),
        body_bytes: version.body_bytes,
        body: None,
    })
    .unwrap_or_default();
    if let Some(head) = head.as_object_mut() {
        head.remove("body");
    }
    Ok(with_member(encode(&head)?, "body", body.as_deref().unwrap_or("null").as_bytes()))
}

/// Adds a member to the JSON object `head`, which has other members. `value` is JSON.
fn with_member(mut head: Vec<u8>, name: &str, value: &[u8]) -> Vec<u8> {
    head.pop();
    head.extend_from_slice(format!(",\"{name}\":").as_bytes());
    head.extend_from_slice(value);
    head.push(b'}');
    head
}

/// `GET /connections/{id}/catalog`
///
/// # Errors
/// 400, 404, 503.
pub async fn catalog(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let limit = request.query.number("limit", usize::MAX, 1_000_000)?;
    let (version, start) =
        match (request.query.get("version"), request.query.get("cursor")) {
            (Some(_), Some(_)) => return Err(ApiProblem::bad_request("A cursor belongs to a version; leave out version.")),
            (Some(text), None) => (
                Some(text.parse::<u32>().map_err(|_| {
                    ApiProblem::bad_request("version must be a whole number, a catalog_version of the connection.")
                })?),
                0,
            ),
            (None, Some(cursor)) => {
                let (version, start) = cursor.split_once('.').ok_or_else(invalid_cursor)?;
                (Some(version.parse().map_err(|_| invalid_cursor())?), start.parse().map_err(|_| invalid_cursor())?)
            }
            (None, None) => (None, 0),
        };
    let answer = request
        .app
        .blocking(move |app| match app.handle.registry.reader().catalog(id, version)? {
            Some((version, text)) => encode(&catalog_page(id, version, &text, start, limit)),
            None => Err(ApiProblem::not_found(match version {
                Some(version) => format!("This connection does not have catalog version {version}."),
                None => "This connection does not have a catalog yet, because discovery has not passed.".to_string(),
            })),
        })
        .await?;
    Ok(response(StatusCode::OK, JSON, answer.into()))
}

/// Returns the streams from `start` on, at most `limit` and as many as fit on one page.
fn catalog_page(id: ConnectionId, version: u32, text: &str, start: usize, limit: usize) -> CatalogAnswer {
    let mut catalog: Value = serde_json::from_str(text).unwrap_or_default();
    let all = catalog.get_mut("streams").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    let (streams_total, mut page, mut streams) = (all.len(), PageBytes::default(), Vec::new());
    for stream in all.into_iter().skip(start) {
        if streams.len() >= limit || !page.fits(json_len(&stream)) {
            break;
        }
        streams.push(stream);
    }
    let next = start.saturating_add(streams.len());
    if let Some(object) = catalog.as_object_mut() {
        object.insert("streams".to_string(), Value::Array(streams));
        if start > 0 {
            object.remove("skipped");
        } else if let Some(skipped) = object.get_mut("skipped").and_then(Value::as_array_mut) {
            skipped.truncate(MAX_SKIPPED);
        }
    }
    CatalogAnswer {
        connection_id: id.to_string(),
        catalog_version: version,
        streams_total,
        next_cursor: (next < streams_total).then(|| format!("{version}.{next}")),
        catalog,
    }
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
