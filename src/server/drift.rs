//! Schema changes: `GET /connections/{id}/drift` compares two versions of a catalog, `GET /drift` lists all changes, and `POST
//! /connections/{id}/drift/acknowledge` records that somebody took note of them.

use super::bounded::{PageBytes, json_len};
use super::onboard::require_writable;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::read::{self, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, invalid_cursor};
use super::request::{ApiRequest, ApiResult, json};
use crate::model::ConnectionId;
use crate::registry::{Notice, Reader, RegistryError};
use crate::report::drift::{self, AcknowledgedBody, ChangeBody, DriftEntry, DriftFilter, MAX_CHANGES};
use crate::snapshot::Connection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The maximum size of the body of an acknowledgement in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;
/// The maximum length of a note, and of the name of who takes note, in characters.
pub const MAX_NOTE_CHARS: usize = 1000;

/// The schema changes between two versions of a catalog.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DriftAnswer {
    pub connection_id: String,
    pub catalog_version: u32,
    /// The version it is compared with; null for the first version, which has no changes.
    pub previous_version: Option<u32>,
    /// New streams and fields, which do not affect consumers.
    pub additive: Vec<String>,
    pub additive_total: usize,
    /// Removed streams and fields and changed types, which break consumers.
    pub breaking: Vec<String>,
    pub breaking_total: usize,
    /// The first 1000 changes with stream, field and types, the breaking ones first.
    pub changes: Vec<ChangeBody>,
    /// Who took note of the changes of `catalog_version`; null if it was not acknowledged.
    pub acknowledged: Option<AcknowledgedBody>,
}

/// One page of the schema changes of a namespace, newest first. A page ends at 4 MiB.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DriftPage {
    pub namespace: String,
    pub drift: Vec<DriftEntry>,
    /// Send it as `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// Which changes somebody took note of. All fields are optional, and so is the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeRequest {
    /// Default: the latest version.
    #[serde(default)]
    pub catalog_version: Option<u32>,
    /// What was decided or done.
    #[serde(default)]
    pub note: String,
    /// Who took note, if several people share the token. The name of the token is recorded in any case.
    #[serde(default)]
    pub by: String,
}

/// `GET /connections/{id}/drift`
///
/// # Errors
/// 400, 404, 503.
pub async fn drift(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let (wanted, from) = (version(&request, "version")?, version(&request, "from")?);
    let answer = request.app.blocking(move |app| compare(app.handle.registry.reader(), id, wanted, from)).await?;
    json(StatusCode::OK, &answer)
}

/// Compares version `wanted` of a catalog, or the latest, with version `from`, or the one before.
///
/// # Errors
/// 404 if the connection does not have one of the versions, and 503.
pub fn compare(reader: &Reader, id: ConnectionId, wanted: Option<u32>, from: Option<u32>) -> Result<DriftAnswer, ApiProblem> {
    let Some((version, text)) = reader.catalog(id, wanted)? else { return Err(missing(wanted)) };
    let earlier = match from {
        Some(from) => Some(reader.catalog(id, Some(from))?.ok_or_else(|| missing(Some(from)))?),
        // Versions are counted from 1.
        None => match version.checked_sub(1).filter(|earlier| *earlier > 0) {
            Some(earlier) => reader.catalog(id, Some(earlier))?,
            None => None,
        },
    };
    let previous_version = earlier.as_ref().map(|(version, _)| *version);
    let mut changes = earlier.map(|(_, earlier)| drift::changes(&earlier, &text)).unwrap_or_default();
    let texts =
        |breaking: bool| changes.iter().filter(move |change| change.breaking == breaking).map(|change| change.message.clone());
    let (additive, breaking): (Vec<String>, Vec<String>) =
        (texts(false).take(MAX_CHANGES).collect(), texts(true).take(MAX_CHANGES).collect());
    let (additive_total, breaking_total) = (texts(false).count(), texts(true).count());
    changes.truncate(MAX_CHANGES);
    Ok(DriftAnswer {
        connection_id: id.to_string(),
        catalog_version: version,
        previous_version,
        additive,
        additive_total,
        breaking,
        breaking_total,
        changes,
        acknowledged: reader.acknowledgement(id, version)?.map(Into::into),
    })
}

fn missing(version: Option<u32>) -> ApiProblem {
    ApiProblem::not_found(match version {
        Some(version) => format!("This connection does not have catalog version {version}."),
        None => "This connection does not have a catalog yet, because discovery has not passed.".to_string(),
    })
}

fn version(request: &ApiRequest, name: &str) -> Result<Option<u32>, ApiProblem> {
    request
        .query
        .get(name)
        .map(str::parse::<u32>)
        .transpose()
        .map_err(|_| ApiProblem::bad_request(format!("{name} must be a whole number, a catalog_version of the connection.")))
}

/// `GET /drift`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let query = &request.query;
    let flag = |name: &str| match query.get(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(ApiProblem::bad_request(format!("{name} must be true or false."))),
    };
    let connection = query.get("connection").map(|text| {
        ConnectionId::parse(text.trim())
            .map_err(|_| ApiProblem::bad_request("connection must be the id of a connection, a UUID."))
    });
    let filter = DriftFilter {
        namespace: request.namespace()?,
        connection: connection.transpose()?,
        families: query.get("source_type").map(read::source_type).into_iter().collect(),
        owner: query.get("owner").map(str::to_string),
        since: query.instant("since")?,
        version: None,
        breaking: flag("breaking")?,
        acknowledged: flag("acknowledged")?,
    };
    let limit = query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?;
    let before = query.get("cursor").map(str::parse::<u64>).transpose().map_err(|_| invalid_cursor())?;
    let page = request
        .app
        .blocking(move |app| {
            let (mut page, mut drift, mut next) = (PageBytes::default(), Vec::<DriftEntry>::new(), None);
            app.handle.registry.reader().drift(
                &filter,
                before,
                |id| known(app, id),
                |entry| {
                    let fits = drift.len() < limit && page.fits(json_len(&entry));
                    if fits {
                        drift.push(entry);
                    } else {
                        next = drift.last().map(|last| last.seq.to_string());
                    }
                    fits
                },
            )?;
            Ok(DriftPage { namespace: filter.namespace, drift, next_cursor: next })
        })
        .await?;
    json(StatusCode::OK, &page)
}

fn known(app: &super::app::App, id: ConnectionId) -> Option<Connection> {
    app.handle.registry.snapshot().connections.copy_of(&id)
}

/// `POST /connections/{id}/drift/acknowledge`
///
/// # Errors
/// 400, 403, 404, 413, 415, 422, 503.
pub async fn acknowledge(mut request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let body = request.json(MAX_BODY_BYTES, true).await?;
    let wanted: AcknowledgeRequest = match &body {
        None => AcknowledgeRequest::default(),
        Some(body) => serde_json::from_slice(body).map_err(|error| {
            ApiProblem::bad_request(format!("The body must have at most the fields catalog_version, note and by: {error}."))
        })?,
    };
    let known = known(&request.app, id).ok_or_else(|| ApiProblem::not_found("No connection with this id."))?;
    require_writable(&request, &known.namespace)?;
    if known.retired.is_some() {
        let detail = "No intent asks for this connection any more, so its schema changes do not affect anybody.";
        return Err(ApiProblem::new(StatusCode::CONFLICT, ProblemCode::Retired, "Connection is retired", detail));
    }
    let namespace = known.namespace.to_string();
    let version = wanted.catalog_version.or(known.catalog.map(|(version, ..)| version)).unwrap_or_default();
    let find = move |app: &super::app::App| entry(app.handle.registry.reader(), id, &known, version).map_err(ApiProblem::from);
    let found = request.app.blocking(find.clone()).await?.ok_or_else(|| nothing_changed(version))?;
    if found.acknowledged.is_none() {
        let cut = |text: &str| text.trim().chars().take(MAX_NOTE_CHARS).collect::<String>();
        let (note, actor) = (cut(&wanted.note), request.caller()?.actor());
        let by = if wanted.by.trim().is_empty() { actor } else { format!("{} ({actor})", cut(&wanted.by)) };
        let notice = Notice::DriftAcknowledged { connection: id, version, by, note };
        let handle = &request.app.handle;
        handle.registry.record_notices(vec![notice]).await.inspect_err(|error| handle.report_error(error))?;
    }
    let mut found = request.app.blocking(find).await?.ok_or_else(|| nothing_changed(version))?;
    if !request.caller()?.may_read(&namespace) {
        (found.changes, found.owner) = (Vec::new(), String::new());
    }
    json(StatusCode::OK, &found)
}

fn nothing_changed(version: u32) -> ApiProblem {
    ApiProblem::not_found(format!(
        "Catalog version {version} of this connection has no schema changes to take note of. GET /drift lists the changes."
    ))
}

/// Returns the changes of one version, or `None` if it did not replace an earlier one.
///
/// # Errors
/// If the registry cannot be read.
pub fn entry(reader: &Reader, id: ConnectionId, known: &Connection, version: u32) -> Result<Option<DriftEntry>, RegistryError> {
    let filter = DriftFilter {
        namespace: known.namespace.to_string(),
        connection: Some(id),
        version: Some(version),
        ..DriftFilter::default()
    };
    let mut found = None;
    reader.drift(
        &filter,
        None,
        |other| (other == id).then(|| known.clone()),
        |entry| {
            found = Some(entry);
            false
        },
    )?;
    Ok(found)
}
