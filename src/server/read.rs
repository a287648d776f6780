//! What is known: pages of connections, one connection, its health, history and catalog, the funnel.

use super::app::App;
use super::call::{Answer, Call, JSON, answer, encode, json};
use super::problem::Problem;
use crate::funnel::funnel;
use crate::model::{ConnectionId, State, Timestamp};
use crate::report::result::{Bodies, ConnectionResult, StepBody, error_attempt};
use crate::snapshot::{Connection, Snapshot};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Bound;
use utoipa::ToSchema;
use uuid::Uuid;

/// Connections of a page.
pub const PAGE: usize = 100;
/// The most a page may hold.
pub const MAX_PAGE: usize = 1000;

/// One page of connections, in order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPage {
    /// Always `database`.
    pub data_source: String,
    pub namespace: String,
    /// All that match the filters, on every page.
    pub total: usize,
    pub connections: Vec<ConnectionResult>,
    /// Give it back as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Health and the counters of the last tiny sync.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthAnswer {
    pub connection_id: String,
    pub status: String,
    /// The latest attempt that says something passed the health step.
    pub healthy: bool,
    pub message: String,
    /// When it was last looked at, also without a finding.
    pub checked_at: Option<String>,
    /// When discovery and tiny sync last ran.
    pub checked_full_at: Option<String>,
    pub failures_in_a_row: u32,
    /// An attempt runs right now.
    pub checking: bool,
    /// The health step of the latest attempt.
    pub step: Option<StepBody>,
    pub last_tiny_sync: Option<TinySync>,
}

/// What the latest passed tiny sync read.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TinySync {
    pub at: String,
    pub rows: Option<u64>,
    pub latency_ms: Option<u64>,
}

/// The append-only history of a connection, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionPage {
    pub connection_id: String,
    pub versions: Vec<VersionBody>,
    pub next_cursor: Option<String>,
}

/// One entry of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionBody {
    /// The entry's number in the ledger.
    pub seq: u64,
    pub at: String,
    /// intent_accepted, intent_withdrawn, attempt_begun, attempt_finished, catalog_registered or connection_retired.
    pub kind: String,
    /// What every fold needs.
    #[schema(value_type = Object)]
    pub facts: Value,
    /// The document, the step reports or the catalog behind them.
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
}

/// Catalog v1 in one of its versions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CatalogAnswer {
    pub connection_id: String,
    pub catalog_version: u32,
    /// The Airbyte form: `streams` with name, json_schema, supported_sync_modes, keys.
    #[schema(value_type = Object)]
    pub catalog: Value,
}

/// What a list asks for.
pub struct Filter {
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
pub async fn list(call: Call) -> Answer {
    let filter = Filter {
        namespace: call.namespace()?,
        state: call.query.state()?,
        source_type: call.query.get("source_type").map(str::to_string),
        limit: call.query.number("limit", PAGE, MAX_PAGE)?,
        after: call.query.get("cursor").map(uncursor).transpose()?,
    };
    call.cached(JSON, move |app| encode(&page(app, &filter)?)).await
}

/// One page. Facts come from the snapshot, documents from the ledger.
///
/// # Errors
/// When the registry cannot be read.
pub fn page(app: &App, filter: &Filter) -> Result<ConnectionPage, Problem> {
    let (total, mut found) = select(&app.handle.registry.snapshot(), filter);
    let more = found.len() > filter.limit;
    found.truncate(filter.limit);
    let connections = describe(app, &found, false)?;
    Ok(ConnectionPage {
        data_source: "database".to_string(),
        namespace: filter.namespace.clone(),
        total,
        next_cursor: found.last().filter(|_| more).map(|(id, _)| cursor(*id)),
        connections,
    })
}

/// Facts and documents together; `steps` adds the steps of the latest attempt.
///
/// # Errors
/// When the registry cannot be read.
pub fn describe(app: &App, found: &[(ConnectionId, Connection)], steps: bool) -> Result<Vec<ConnectionResult>, Problem> {
    let seqs: Vec<u64> = found
        .iter()
        .flat_map(|(_, connection)| {
            // Titles and fixes are facts; only the vendor's own words need the body of the attempt.
            // 0 is no entry.
            let error = error_attempt(connection).map_or(0, |attempt| attempt.seq);
            let last = connection.last.as_ref().filter(|_| steps);
            [connection.document, error, last.map_or(0, |attempt| attempt.seq)]
        })
        .collect();
    let bodies = app.handle.registry.reader().bodies(&seqs)?;
    let text = |index: usize| bodies.get(index).and_then(Option::as_deref);
    let results = found.iter().enumerate().map(|(index, (id, connection))| {
        let bodies = Bodies {
            document: text(index * 3),
            error_steps: text(index * 3 + 1),
            steps: steps.then(|| text(index * 3 + 2).unwrap_or("[]")),
        };
        ConnectionResult::new(*id, connection, bodies, app.handle.checking(*id))
    });
    Ok(results.collect())
}

/// All that match are counted; one more than the page holds is copied.
fn select(snapshot: &Snapshot, filter: &Filter) -> (usize, Vec<(ConnectionId, Connection)>) {
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

fn cursor(id: ConnectionId) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id.0.as_bytes())
}

fn uncursor(text: &str) -> Result<ConnectionId, Problem> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| Uuid::from_slice(&bytes).ok())
        .map(ConnectionId)
        .ok_or_else(bad_cursor)
}

fn bad_cursor() -> Problem {
    Problem::bad_request("cursor is the next_cursor of an earlier page, unchanged.")
}

/// Everything about one connection.
///
/// # Errors
/// When the registry cannot be read.
pub fn one(app: &App, id: ConnectionId) -> Result<ConnectionResult, Problem> {
    let found = [(id, copy(app, id)?)];
    describe(app, &found, true)?.pop().ok_or_else(|| Problem::defect("A connection has no description."))
}

fn copy(app: &App, id: ConnectionId) -> Result<Connection, Problem> {
    app.handle
        .registry
        .snapshot()
        .connections
        .get(&id)
        .map(|known| known.as_ref().clone())
        .ok_or_else(|| Problem::not_found("There is no connection of this id."))
}

/// `GET /connections/{id}`
///
/// # Errors
/// 404, 503.
pub async fn connection(call: Call) -> Answer {
    let id = call.connection()?;
    call.cached(JSON, move |app| encode(&one(app, id)?)).await
}

/// `GET /connections/{id}/health`
///
/// # Errors
/// 404, 503.
pub async fn health(call: Call) -> Answer {
    let id = call.connection()?;
    let answer = call
        .app
        .blocking(move |app| {
            let connection = copy(app, id)?;
            let result = one(app, id)?;
            let proven = connection.proven.as_ref();
            Ok(HealthAnswer {
                connection_id: result.connection_id,
                status: result.status,
                healthy: connection.conclusive.as_ref().is_some_and(|attempt| attempt.facts.healthy),
                message: result.message,
                checked_at: connection.looked_at().map(Timestamp::rfc3339),
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
pub async fn versions(call: Call) -> Answer {
    let id = call.connection()?;
    let limit = call.query.number("limit", PAGE, MAX_PAGE)?;
    let before = match call.query.get("cursor") {
        Some(text) => Some(text.parse::<u64>().map_err(|_| bad_cursor())?),
        None => None,
    };
    let answer = call
        .app
        .blocking(move |app| {
            let mut found = app.handle.registry.reader().history(id, before, limit + 1)?;
            let more = found.len() > limit;
            found.truncate(limit);
            let next_cursor = found.last().filter(|_| more).map(|last| last.entry.seq.to_string());
            let versions = found
                .into_iter()
                .map(|version| VersionBody {
                    seq: version.entry.seq,
                    at: version.entry.at.rfc3339(),
                    kind: version.entry.fact.kind().to_string(),
                    facts: serde_json::to_value(&version.entry.fact).unwrap_or_default(),
                    body: version.body,
                })
                .collect();
            Ok(VersionPage { connection_id: id.to_string(), versions, next_cursor })
        })
        .await?;
    json(StatusCode::OK, &answer)
}

/// `GET /connections/{id}/catalog`
///
/// # Errors
/// 400, 404, 503.
pub async fn catalog(call: Call) -> Answer {
    let id = call.connection()?;
    let version = match call.query.get("version") {
        Some(text) => Some(
            text.parse::<u32>()
                .map_err(|_| Problem::bad_request("version is a whole number, the catalog_version of the connection."))?,
        ),
        None => None,
    };
    let found = call.app.blocking(move |app| Ok(app.handle.registry.reader().catalog(id, version)?)).await?;
    let Some((catalog_version, text)) = found else {
        return Err(Problem::not_found(match version {
            Some(version) => format!("This connection has no catalog of version {version}."),
            None => "This connection has no catalog yet: discovery has not passed.".to_string(),
        }));
    };
    let answer = CatalogAnswer {
        connection_id: id.to_string(),
        catalog_version,
        catalog: serde_json::from_str(&text).unwrap_or_default(),
    };
    json(StatusCode::OK, &answer)
}

/// `GET /metrics/funnel`
///
/// # Errors
/// 400, 403, 503.
pub async fn metrics_funnel(call: Call) -> Answer {
    let namespace = call.namespace()?;
    let Some(text) = call.query.get("at") else {
        return call
            .cached(JSON, move |app| {
                let target = app.handle.policy().slo.coverage;
                let now = app.handle.clock.now();
                let folded = funnel(&app.handle.registry.snapshot(), &namespace, target, now);
                encode(&folded)
            })
            .await;
    };
    let at = Timestamp::parse(text).map_err(|why| {
        Problem::bad_request(format!(
            "at is an instant by RFC 3339, for example 2026-11-08T18:00:00Z, with + written as %2B: {why}."
        ))
    })?;
    let app = std::sync::Arc::clone(&call.app);
    // Each fold of the past reads the whole ledger: few at a time.
    let _permit = app.folds.acquire().await;
    let body = call
        .app
        .blocking(move |app| {
            let at = at.min(app.handle.clock.now());
            let snapshot = app.handle.registry.reader().snapshot_at(at)?;
            let target = app.handle.policy().slo.coverage;
            encode(&funnel(&snapshot, &namespace, target, at))
        })
        .await?;
    Ok(answer(StatusCode::OK, JSON, body.into()))
}
