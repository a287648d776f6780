//! Read endpoints: the list of connections, one connection, and the funnel.

use super::app::App;
use super::bounded::{PageBytes, bounded_funnel, json_len};
use super::past_funnels::past_funnel;
use super::problem::ApiProblem;
use super::query::instant;
use super::representation::Rendered;
use super::request::{ApiRequest, ApiResult, JSON, encode, insert_header, rendered_response};
use super::totals::Totals;
use crate::families::aliases;
use crate::funnel::funnel;
use crate::model::{ConnectionId, MissingFiles, State, Timestamp};
use crate::report::holds::HeldBody;
use crate::report::result::{ConnectionResult, LedgerBodies, error_attempt};
use crate::snapshot::Connection;
use axum::http::{HeaderName, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// The response header with the coverage of the funnel.
pub const SLO_COVERAGE: HeaderName = HeaderName::from_static("x-slo-coverage");

/// The default number of items on a page.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The maximum number of items on a page.
pub const MAX_PAGE_SIZE: usize = 1000;
/// The number of connections whose bodies are read together.
const CHUNK: usize = 16;
/// The number of bodies of one connection: the intent, and the steps of two attempts.
const BODIES: usize = 3;
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
    /// The page shows all entries of the ledger up to this one, and may show later ones. Send it as `updated_since` to get what
    /// changed later.
    pub registry_seq: u64,
}

/// Since when connections must have changed to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdatedSince {
    /// At or after an instant, including checks that found nothing new.
    Instant(Timestamp),
    /// With an entry in the ledger after this one. A check that finds nothing new has no entry.
    Entry(u64),
}

/// The filters of a list, and the position and size of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFilter {
    pub namespace: String,
    pub state: Option<State>,
    pub source_type: Option<String>,
    pub since: Option<UpdatedSince>,
    pub limit: usize,
    pub after: Option<ConnectionId>,
}

impl ConnectionFilter {
    /// Reads the filter from the query.
    ///
    /// # Errors
    /// 400, 403 and 503.
    pub async fn from_request(request: &ApiRequest) -> Result<ConnectionFilter, ApiProblem> {
        let query = &request.query;
        let (namespace, state) = (request.namespace()?, query.state()?);
        let since = match query.get("updated_since") {
            Some(text) => Some(UpdatedSince::parse(text, request).await?),
            None => None,
        };
        Ok(ConnectionFilter {
            namespace,
            state,
            source_type: query.get("source_type").map(source_type),
            since,
            limit: query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?,
            after: query.get("cursor").map(parse_cursor).transpose()?,
        })
    }

    /// Whether a connection is on the list.
    pub fn matches(&self, connection: &Connection) -> bool {
        *connection.namespace == *self.namespace
            && self.source_type.as_ref().is_none_or(|wanted| **wanted == *connection.source_type)
            && self.state.is_none_or(|wanted| wanted == connection.state())
            && match self.since {
                None => true,
                Some(UpdatedSince::Instant(at)) => connection.updated() >= at,
                Some(UpdatedSince::Entry(seq)) => connection.changed.0 > seq,
            }
    }
}

impl UpdatedSince {
    /// A number after the last entry comes from another registry, of which the client has a mirror that it must not keep.
    async fn parse(text: &str, request: &ApiRequest) -> Result<UpdatedSince, ApiProblem> {
        let Ok(seq) = text.parse::<u64>() else { return Ok(UpdatedSince::Instant(instant("updated_since", text)?)) };
        let known = request.app.handle.registry.snapshot().seq;
        if seq > known {
            // Another replica may have answered with an entry that this one has not read yet.
            let head = request.app.blocking(|app| Ok(app.handle.registry.reader().head()?.seq)).await?;
            if seq > head {
                return Err(ApiProblem::bad_request(format!(
                    "updated_since is after entry {head}, the last one of this registry. Read all connections again, without it."
                )));
            }
        }
        Ok(UpdatedSince::Entry(seq))
    }
}

/// `GET /connections`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let filter = ConnectionFilter::from_request(&request).await?;
    request.cached(JSON, move |app| encode(&page(app, &filter)?)).await
}

/// Returns the source type that a caller means by a name, as intake reads it.
pub fn source_type(name: &str) -> String {
    aliases::alias(name).map_or_else(|| name.to_string(), str::to_string)
}

/// Reads one page. States come from the snapshot, and intents from the ledger.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
pub fn page(app: &App, filter: &ConnectionFilter) -> Result<ConnectionPage, ApiProblem> {
    let Selected { totals, mut found, seq } = select(app, filter);
    let more = found.len() > filter.limit;
    found.truncate(filter.limit);
    let connections = page_of(app, &found, false)?;
    Ok(ConnectionPage {
        data_source: "database".to_string(),
        namespace: filter.namespace.clone(),
        total: totals.total,
        next_cursor: next_cursor(&found, connections.len(), more),
        connections,
        registry_seq: seq,
    })
}

/// Returns the cursor for the connections that follow the first `shown` of `found`. `more` is true if others follow `found`.
pub fn next_cursor(found: &[(ConnectionId, Connection)], shown: usize, more: bool) -> Option<String> {
    let more = more || shown < found.len();
    let last = shown.checked_sub(1).and_then(|index| found.get(index)).filter(|_| more);
    last.map(|(id, _)| encode_cursor(*id))
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
/// `max_bytes` bytes are left out, and so are those in archive files that are missing, which the results name.
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
    let read = app.handle.registry.reader().bodies_left(&seqs, max_bytes)?;
    let holds = app.handle.holds.load();
    let text = |index: usize| read.get(index)?.as_ref().ok()?.as_deref();
    let results = found.iter().enumerate().map(|(index, (id, connection))| {
        let bodies = LedgerBodies {
            document: text(index * BODIES),
            error_steps: text(index * BODIES + 1),
            steps: steps.then(|| text(index * BODIES + 2).unwrap_or("[]")),
        };
        let result = ConnectionResult::new(*id, connection, bodies, app.handle.checking(*id), app.handle.clock.now());
        let mut missing = MissingFiles::default();
        for file in read.iter().skip(index * BODIES).take(BODIES).filter_map(|body| body.as_ref().err()) {
            missing.add(file.clone());
        }
        ConnectionResult { held: HeldBody::new(&holds, *id), missing_files: missing.named().to_vec(), ..result }
    });
    Ok(results.collect())
}

/// What a filter selects from a snapshot.
pub struct Selected {
    /// The numbers of matches on all pages.
    pub totals: Totals,
    /// The matches on the page, plus one more if there is another page.
    pub found: Vec<(ConnectionId, Connection)>,
    /// The last entry of the ledger up to which the snapshot has all of them. In a database, one with a smaller number than the
    /// last one of the snapshot may still come from another replica.
    pub seq: u64,
}

/// Counts all matches and returns those on the page.
pub fn select(app: &App, filter: &ConnectionFilter) -> Selected {
    let snapshot = app.handle.registry.snapshot();
    let totals = app.totals.count(&snapshot, filter, app.handle.clock.now());
    let found = snapshot
        .connections
        .after(filter.after)
        .filter(|(_, connection)| filter.matches(connection))
        .take(filter.limit + 1)
        .map(|(id, connection)| (id, connection.into_owned()))
        .collect();
    Selected { totals, found, seq: snapshot.seq.min(app.handle.registry.settled()) }
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
    result_of(app, id, find_connection(app, id)?)
}

/// Returns the result body for `known`, with the steps of its latest attempt.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
pub fn result_of(app: &App, id: ConnectionId, known: Connection) -> Result<ConnectionResult, ApiProblem> {
    describe(app, &[(id, known)], true, MAX_SINGLE_BODY_BYTES)?
        .pop()
        .ok_or_else(|| ApiProblem::defect("The connection has no result body."))
}

/// Returns what the snapshot knows of `known`, without the intent and the steps, which are read from the ledger.
pub fn brief_result(app: &App, id: ConnectionId, known: &Connection) -> ConnectionResult {
    let (checking, now) = (app.handle.checking(id), app.handle.clock.now());
    let result = ConnectionResult::new(id, known, LedgerBodies::default(), checking, now);
    ConnectionResult { held: HeldBody::new(&app.handle.holds.load(), id), ..result }
}

pub fn find_connection(app: &App, id: ConnectionId) -> Result<Connection, ApiProblem> {
    app.handle.registry.snapshot().connections.copy_of(&id).ok_or_else(|| ApiProblem::not_found("No connection with this id."))
}

/// `GET /connections/{id}`
///
/// # Errors
/// 404, 503.
pub async fn connection(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    request.cached(JSON, move |app| encode(&connection_result(app, id)?)).await
}

/// `GET /metrics/funnel`
///
/// # Errors
/// 400, 403, 503.
pub async fn metrics_funnel(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let enforced = match request.query.get("enforce") {
        None => request.app.handle.policy().api.enforce_slo,
        Some(text) if text.eq_ignore_ascii_case("slo") => true,
        Some(text) if text.eq_ignore_ascii_case("none") => false,
        Some(_) => return Err(ApiProblem::bad_request("enforce must be slo or none.")),
    };
    let rendered = match request.query.instant("at")? {
        None => {
            let render = move |app: &App| {
                let target = app.handle.policy().slo.coverage;
                let now = app.handle.clock.now();
                encode(&bounded_funnel(funnel(&app.handle.registry.snapshot(), &namespace, target, now)))
            };
            request.rendered(render).await?
        }
        Some(at) => {
            let at = at.min(request.app.handle.clock.now());
            Arc::new(Rendered::new(encode(&past_funnel(&request.app, namespace, at).await?)?.into()))
        }
    };
    let slo: SloFigures = serde_json::from_slice(rendered.body())
        .map_err(|error| ApiProblem::defect(format!("The funnel could not be read again: {error}.")))?;
    let status = if enforced && !slo.slo_met { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut answer = rendered_response(status, JSON, &rendered);
    insert_header(&mut answer, SLO_COVERAGE, slo.coverage.to_string());
    Ok(answer)
}

/// The fields of the funnel that the status of the response depends on.
#[derive(Deserialize)]
struct SloFigures {
    coverage: f64,
    slo_met: bool,
}
