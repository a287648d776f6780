//! `GET /families` and `GET /families/NAME`: the families of sources, as `aam families` describes them.

use super::problem::ApiProblem;
use super::request::{ApiRequest, ApiResult, json};
use crate::connectors::lowcode::custom_source;
use crate::families::{self, Family, aliases};
use crate::family_guide::{FamilyGuide, FamilySummary};
use crate::model::Cap;
use crate::model::problem::nearest;
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The answer of `GET /families`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FamilyList {
    /// The families of this version and the custom sources of the policy, ordered by their ids.
    pub families: Vec<ListedFamily>,
}

/// A family, and what the policy in force says about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ListedFamily {
    #[serde(flatten)]
    pub summary: FamilySummary,
    /// Whether the allowlist of the policy in force names the family.
    pub allowed: bool,
    /// The limits on the calls to one account that are in force.
    pub cap_in_force: Cap,
}

/// `GET /families`
///
/// # Errors
/// This never fails.
pub async fn list(request: ApiRequest) -> ApiResult {
    let active = request.app.handle.policy.load();
    let policy = &active.policy;
    let known = all(&active.sources).into_iter().map(|family| ListedFamily {
        summary: FamilySummary::new(&family),
        allowed: policy.allowlist.contains(&*family.id),
        cap_in_force: policy.cap(&family.id, Some(&family.cap)).clone(),
    });
    json(StatusCode::OK, &FamilyList { families: known.collect() })
}

/// Returns the families of this version and the custom sources of the policy, ordered by their ids.
#[must_use]
pub fn all(sources: &families::CustomSources) -> Vec<Arc<Family>> {
    let mut ids: Vec<&str> = sources.ids().collect();
    ids.sort_unstable();
    ids.into_iter().filter_map(|id| find(sources, id)).collect()
}

/// Returns the family with this id or other name.
///
/// # Errors
/// Returns 404 if the family was not found.
pub fn named(sources: &families::CustomSources, name: &str) -> Result<Arc<Family>, ApiProblem> {
    let family = find(sources, name).or_else(|| find(sources, aliases::alias(name)?));
    family.ok_or_else(|| {
        let near = nearest(name, families::ids()).map(|near| format!(" Did you mean {near}?")).unwrap_or_default();
        ApiProblem::not_found(format!("No such family.{near} GET /families lists all families."))
    })
}

/// `GET /families/NAME`
///
/// # Errors
/// Returns 404 if the family was not found.
pub async fn family(request: ApiRequest) -> ApiResult {
    let active = request.app.handle.policy.load();
    let family = named(&active.sources, request.path_param("{name}"))?;
    json(StatusCode::OK, &FamilyGuide::new(&family, &request.app.env.providers))
}

/// Returns a family, or a custom source with the way to log in that its manifest describes.
fn find(sources: &families::CustomSources, id: &str) -> Option<Arc<Family>> {
    let family = sources.family(id)?;
    let Some(manifest) = &family.manifest else { return Some(Arc::clone(family)) };
    let login = custom_source::login(&manifest.manifest).into_iter().collect();
    Some(Arc::new(Family { login, ..Family::clone(family) }))
}
