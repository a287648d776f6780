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
    let mut ids: Vec<&str> = active.sources.ids().collect();
    ids.sort_unstable();
    let policy = &active.policy;
    let known = ids.into_iter().filter_map(|id| find(&active.sources, id)).map(|family| ListedFamily {
        summary: FamilySummary::new(&family),
        allowed: policy.allowlist.contains(&*family.id),
        cap_in_force: policy.cap(&family.id, Some(&family.cap)).clone(),
    });
    json(StatusCode::OK, &FamilyList { families: known.collect() })
}

/// `GET /families/NAME`
///
/// # Errors
/// Returns 404 if the family was not found.
pub async fn family(request: ApiRequest) -> ApiResult {
    let active = request.app.handle.policy.load();
    let name = request.path.trim_start_matches("/families/");
    let family = find(&active.sources, name).or_else(|| find(&active.sources, aliases::alias(name)?));
    let Some(family) = family else {
        let near = nearest(name, families::ids()).map(|near| format!(" Did you mean {near}?")).unwrap_or_default();
        return Err(ApiProblem::not_found(format!("No such family.{near} GET /families lists all families.")));
    };
    json(StatusCode::OK, &FamilyGuide::new(&family, &request.app.env.providers))
}

/// Returns a family, or a custom source with the way to log in that its manifest describes.
fn find(sources: &families::CustomSources, id: &str) -> Option<Arc<Family>> {
    let family = sources.family(id)?;
    let Some(manifest) = &family.manifest else { return Some(Arc::clone(family)) };
    let login = custom_source::login(&manifest.manifest).into_iter().collect();
    Some(Arc::new(Family { login, ..Family::clone(family) }))
}
