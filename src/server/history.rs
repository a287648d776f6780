//! Read endpoints for what a connection was: its history and the versions of its catalog.

use super::bounded::{MAX_PAGE_BYTES, PageBytes, json_len};
use super::problem::ApiProblem;
use super::read::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, invalid_cursor};
use super::request::{ApiRequest, ApiResult, JSON, encode, response};
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, MissingFile, MissingFiles};
use crate::registry::Version;
use axum::http::StatusCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The maximum number of skipped streams in one response.
const MAX_SKIPPED: usize = 1000;
/// The maximum of the parameter `limit` for streams.
pub const MAX_STREAM_LIMIT: usize = 1_000_000;

/// The append-only history of a connection, newest first. A page ends at 4 MiB, even if it holds fewer entries than asked
/// for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionPage {
    pub connection_id: String,
    pub versions: Vec<VersionBody>,
    pub next_cursor: Option<String>,
    /// The archive files with bodies of this page that are missing or cannot be read, the first 5. Their entries have a null `body`
    /// and 0 `body_bytes`, and name the file in `missing_file`. Everything else is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<MissingFile>,
}

/// One entry of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionBody {
    /// The number of the entry in the ledger.
    pub seq: u64,
    pub at: String,
    #[schema(value_type = Fact)]
    pub kind: String,
    /// The facts that states and funnels are computed from.
    #[schema(value_type = Object)]
    pub facts: Value,
    /// The size of the body in bytes.
    pub body_bytes: u64,
    /// The full intent, step reports or catalog. Null if it is larger than 4 MiB; `/catalog` returns a catalog in pages.
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
    /// The archive file with the body, if it is missing or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_file: Option<String>,
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
            let (mut last, mut failed, mut missing) = (None, None, MissingFiles::default());
            app.handle.registry.reader().history(id, before, MAX_PAGE_BYTES, |version| {
                let (seq, missing_file) = (version.entry.seq, version.missing_file.clone());
                match version_json(version) {
                    Ok(entry) if entries.len() < limit && page.fits(entry.len()) => {
                        entries.push(entry);
                        last = Some(seq);
                        missing_file.into_iter().for_each(|file| missing.add(file));
                        return true;
                    }
                    Ok(_) => next = last,
                    Err(problem) => failed = Some(problem),
                }
                false
            })?;
            failed.map_or(Ok(()), Err)?;
            let mut head = serde_json::json!({ "connection_id": id, "next_cursor": next.map(|seq| seq.to_string()) });
            if !missing.is_empty() {
                head["missing_files"] = serde_json::json!(missing.named());
            }
            let head = encode(&head)?;
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
        missing_file: version.missing_file.map(|file| file.file),
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
    let limit = request.query.number("limit", usize::MAX, MAX_STREAM_LIMIT)?;
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
