//! `GET /connections/{id}/drift`: what changed between two versions of a catalog.

use super::problem::ApiProblem;
use super::request::{ApiRequest, ApiResult, json};
use crate::model::{Catalog, Drift};
use crate::registry::Reader;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The maximum number of changes of each kind in one response.
pub const MAX_CHANGES: usize = 1000;

/// The schema changes between two versions of a catalog.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DriftAnswer {
    pub connection_id: String,
    pub catalog_version: u32,
    /// The version before it; null for the first version, which has no changes.
    pub previous_version: Option<u32>,
    /// New streams and fields, which do not affect consumers.
    pub additive: Vec<String>,
    pub additive_total: usize,
    /// Removed streams and fields and changed types, which break consumers.
    pub breaking: Vec<String>,
    pub breaking_total: usize,
}

/// `GET /connections/{id}/drift`
///
/// # Errors
/// 400, 404, 503.
pub async fn drift(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let wanted = request
        .query
        .get("version")
        .map(str::parse::<u32>)
        .transpose()
        .map_err(|_| ApiProblem::bad_request("version must be a whole number, a catalog_version of the connection."))?;
    let answer = request
        .app
        .blocking(move |app| {
            let reader = app.handle.registry.reader();
            let Some((version, text)) = reader.catalog(id, wanted)? else {
                return Err(ApiProblem::not_found(match wanted {
                    Some(version) => format!("This connection does not have catalog version {version}."),
                    None => "This connection does not have a catalog yet, because discovery has not passed.".to_string(),
                }));
            };
            let earlier = previous(reader, id, version)?;
            let previous_version = earlier.as_ref().map(|(version, _)| *version);
            let drift = earlier.map_or_else(Drift::default, |(_, earlier)| parse(&text).drift_from(&parse(&earlier)));
            Ok(DriftAnswer {
                connection_id: id.to_string(),
                catalog_version: version,
                previous_version,
                additive_total: drift.additive.len(),
                additive: bounded(drift.additive),
                breaking_total: drift.breaking.len(),
                breaking: bounded(drift.breaking),
            })
        })
        .await?;
    json(StatusCode::OK, &answer)
}

/// Returns the catalog before `version`. Versions are counted from 1.
fn previous(reader: &Reader, id: crate::model::ConnectionId, version: u32) -> Result<Option<(u32, String)>, ApiProblem> {
    match version.checked_sub(1).filter(|earlier| *earlier > 0) {
        Some(earlier) => Ok(reader.catalog(id, Some(earlier))?),
        None => Ok(None),
    }
}

fn parse(text: &str) -> Catalog {
    serde_json::from_str(text).unwrap_or_default()
}

fn bounded(mut changes: Vec<String>) -> Vec<String> {
    changes.truncate(MAX_CHANGES);
    changes
}
