//! `GET /plan`: which checks are due or will be due, why, and which calls they may make.

use super::app::App;
use super::bounded::{PageBytes, json_len};
use super::problem::ApiProblem;
use super::read::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
use super::request::{ApiRequest, ApiResult, JSON, encode};
use crate::model::ledger::Why;
use crate::model::{ConnectionId, Intent, PlannedCall, Scope, Timestamp};
use crate::pipeline::planned_calls;
use crate::plan::{self, PlanContext, PlanItem};
use crate::report::result::bounds;
use serde::Serialize;
use utoipa::ToSchema;

/// The maximum number of calls that are listed for one check.
pub const MAX_CALLS: usize = 100;

/// The next checks of the connections of a namespace, earliest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanAnswer {
    pub namespace: String,
    pub as_of: String,
    /// The number of checks that are due now.
    pub due: usize,
    /// The number of checks that are due later.
    pub waiting: usize,
    /// The first checks; fewer than asked for if they are larger than 4 MiB together.
    pub checks: Vec<PlannedCheck>,
}

/// A check that is or will be due.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlannedCheck {
    pub connection_id: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub why: Why,
    pub scope: Scope,
    /// When the check is due; in the past if it waits for a free worker.
    pub due_at: String,
    /// The first 100 of the calls that a full check may make. All of them only read.
    pub calls: Vec<PlannedCall>,
    pub calls_total: usize,
    /// Why the check would end before its first call; null if it would not.
    pub blocked: Option<String>,
}

/// `GET /plan`
///
/// # Errors
/// 400, 403, 503.
pub async fn plan(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let limit = request.query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?;
    request.cached(JSON, move |app| encode(&answer(app, namespace, limit)?)).await
}

fn answer(app: &App, namespace: String, limit: usize) -> Result<PlanAnswer, ApiProblem> {
    let now = app.handle.clock.now();
    let (due, items) = items(app, &namespace, now);
    let (mut page, mut checks) = (PageBytes::default(), Vec::new());
    let total = items.len();
    for item in items.into_iter().take(limit) {
        let check = describe(app, item)?;
        if !page.fits(json_len(&check)) {
            break;
        }
        checks.push(check);
    }
    Ok(PlanAnswer { namespace, as_of: now.rfc3339(), due, waiting: total - due, checks })
}

/// Returns the number of checks that are due, and all checks of the namespace, earliest first.
fn items(app: &App, namespace: &str, now: Timestamp) -> (usize, Vec<PlanItem>) {
    let loaded = app.handle.loaded();
    let snapshot = app.handle.registry.snapshot();
    // Files of secrets are not looked at here: their file system may not answer, and the loop plans such checks at once.
    let context = PlanContext::new(loaded, &snapshot);
    let mut items = plan::plan(&snapshot, &context, &app.handle.in_flight.heals(), now);
    let inside = |id: &ConnectionId| snapshot.connections.get(id).is_some_and(|known| *known.namespace == *namespace);
    items.retain(|item| inside(&item.connection));
    (items.iter().filter(|item| item.due <= now).count(), items)
}

fn describe(app: &App, item: PlanItem) -> Result<PlannedCheck, ApiProblem> {
    let known = app.handle.registry.snapshot().connections.copy_of(&item.connection);
    let known = known.ok_or_else(|| ApiProblem::defect("A planned connection is not in the registry."))?;
    let document = app.handle.registry.reader().body(known.document)?;
    let intent = document.and_then(|text| serde_json::from_str::<Intent>(&text).ok());
    let origins: Vec<_> = known.origins_in_force().cloned().collect();
    let (mut calls, blocked) = match &intent {
        Some(intent) => planned_calls(&app.env.engines, &app.env.providers, &app.handle.loaded(), intent, &origins),
        None => (Vec::new(), Some("its intent cannot be read from the registry".to_string())),
    };
    let calls_total = calls.len();
    calls.truncate(MAX_CALLS);
    Ok(PlannedCheck {
        connection_id: item.connection.to_string(),
        source_type: known.source_type.to_string(),
        resource_ids: intent.map(|intent| intent.resource_ids).unwrap_or_default(),
        why: item.why,
        scope: item.scope,
        due_at: item.due.rfc3339(),
        calls,
        calls_total,
        blocked: blocked.map(|text| bounds::text(&text)),
    })
}
