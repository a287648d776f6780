//! Changes that are held because they would make many connections leave at once, and their confirmation.

use super::app::App;
use super::onboard::require_writable;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::request::{ApiRequest, ApiResult, json};
use crate::model::{ConnectionId, Intent};
use crate::report::holds::{self, HoldBody};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The smallest number of hex digits of a digest that identify a hold.
const MIN_DIGITS: usize = 12;

/// The held changes of a namespace.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HoldList {
    pub namespace: String,
    pub holds: Vec<HoldBody>,
}

/// A change that was confirmed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConfirmAnswer {
    pub namespace: String,
    pub digest: String,
    /// The number of connections that leave now.
    pub confirmed: usize,
    pub message: String,
}

/// The held changes of `namespace`, for answers and the dashboard.
///
/// # Errors
/// 503 if the registry cannot be read.
pub fn of_namespace(app: &App, namespace: &str) -> Result<Vec<HoldBody>, ApiProblem> {
    let all = app.handle.holds.load_full();
    let reader = app.handle.registry.reader();
    let document = |id: ConnectionId| -> Option<Intent> {
        let seq = app.handle.registry.snapshot().connections.get(&id)?.document;
        serde_json::from_str(&reader.body(seq).ok()??).ok()
    };
    let held = all.holds.iter().filter(|hold| hold.namespace == namespace);
    Ok(held.map(|hold| holds::body(hold, document)).collect())
}

/// `GET /holds`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let of = namespace.clone();
    let holds = request.app.blocking(move |app| of_namespace(app, &of)).await?;
    json(StatusCode::OK, &HoldList { namespace, holds })
}

/// `POST /holds/{digest}/confirm`
///
/// # Errors
/// 403, 404, 409, 503.
pub async fn confirm(request: ApiRequest) -> ApiResult {
    let digest = request.path.split('/').nth(2).unwrap_or_default().to_lowercase();
    let handle = &request.app.handle;
    let caller = request.caller()?;
    let all = handle.holds.load_full();
    let mut visible = all.holds.iter().filter(|hold| caller.may_see(&hold.namespace));
    let same = |text: &str| digest.len() >= MIN_DIGITS && text.starts_with(&digest);
    let Some(hold) = visible.clone().find(|hold| same(&hold.digest.to_string())) else {
        return Err(match visible.next() {
            Some(other) => changed(&other.digest.short()),
            None => ApiProblem::not_found(
                "No change with this digest is held: it was confirmed, it was undone, or the token is not allowed in its namespace. GET /holds lists the held changes.",
            ),
        });
    };
    require_writable(&request, &hold.namespace)?;
    let members = hold.departures.iter().map(|(id, departure)| (*id, departure.cause)).collect();
    let by = caller.actor();
    handle.registry.confirm(members, &by).await.inspect_err(|error| handle.report_error(error))?;
    handle.wake();
    let answer = ConfirmAnswer {
        namespace: hold.namespace.clone(),
        digest: hold.digest.to_string(),
        confirmed: hold.departures.len(),
        message: holds::confirmed(hold),
    };
    json(StatusCode::OK, &answer)
}

fn changed(current: &str) -> ApiProblem {
    let detail = format!(
        "The held change is another one now: {current}. Nothing was confirmed. Read it with GET /holds or aam status, then confirm it with its own digest."
    );
    ApiProblem::new(StatusCode::CONFLICT, ProblemCode::HoldChanged, "The change is another one now", detail)
}
