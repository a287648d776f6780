//! `GET /connections/{id}/calls`: the calls that were made for a connection.

use super::bounded::{PageBytes, json_len};
use super::problem::ApiProblem;
use super::read::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, invalid_cursor};
use super::request::{ApiRequest, ApiResult, json};
use crate::model::{CallPosition, CallPurpose};
use crate::registry::CallFilter;
use crate::report::calls::{CallBody, InterruptedAttemptBody};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The number of interrupted attempts that an answer names.
const MAX_INTERRUPTED: usize = 100;

/// The calls that were made for a connection, those of the latest attempt first. A page ends at 4 MiB, even if it holds fewer
/// calls than asked for. Calls are kept for `evidence.keep_calls` of the policy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallPage {
    pub connection_id: String,
    pub calls: Vec<CallBody>,
    /// Attempts within `since` and `until` that ended with the process, so that their calls are not recorded; the newest 100.
    pub interrupted_attempts: Vec<InterruptedAttemptBody>,
    /// Send it as `cursor` for older calls; null on the last page.
    pub next_cursor: Option<String>,
}

/// `GET /connections/{id}/calls`
///
/// # Errors
/// 400, 404, 503.
pub async fn calls(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let limit = request.query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?;
    let before = request.query.get("cursor").map(position).transpose()?;
    let purpose = request.query.get("purpose").map(purpose).transpose()?;
    let (since, until) = (request.query.instant("since")?, request.query.instant("until")?);
    let filter = CallFilter { connections: vec![id], purpose, since, until, without_archives: true, ..CallFilter::default() };
    let page = request
        .app
        .blocking(move |app| {
            let (mut page, mut calls, mut last, mut next) = (PageBytes::default(), Vec::new(), None, None);
            app.handle.registry.reader().calls(&filter, before, |call| {
                let (position, body) = (call.position, CallBody::new(call));
                if calls.len() < limit && page.fits(json_len(&serde_json::to_value(&body).unwrap_or_default())) {
                    calls.push(body);
                    last = Some(position);
                    return true;
                }
                next = last;
                false
            })?;
            let mut interrupted_attempts = Vec::new();
            app.handle.registry.reader().interrupted_attempts(&filter, |attempt| {
                interrupted_attempts.push(InterruptedAttemptBody::new(&attempt));
                interrupted_attempts.len() < MAX_INTERRUPTED
            })?;
            let next_cursor = next.map(cursor_of);
            Ok(CallPage { connection_id: id.to_string(), calls, interrupted_attempts, next_cursor })
        })
        .await?;
    json(StatusCode::OK, &page)
}

/// Formats the position of a call as a cursor for older calls.
#[must_use]
pub fn cursor_of(position: CallPosition) -> String {
    format!("{}.{}", position.batch, position.call)
}

/// Parses a cursor, which is the position of a call.
///
/// # Errors
/// Returns 400 if it is not one.
pub fn position(cursor: &str) -> Result<CallPosition, ApiProblem> {
    let (batch, call) = cursor.split_once('.').ok_or_else(invalid_cursor)?;
    Ok(CallPosition { batch: batch.parse().map_err(|_| invalid_cursor())?, call: call.parse().map_err(|_| invalid_cursor())? })
}

fn purpose(text: &str) -> Result<CallPurpose, ApiProblem> {
    CallPurpose::parse(text).ok_or_else(|| {
        let names = CallPurpose::ALL.map(CallPurpose::as_str).join(", ");
        ApiProblem::bad_request(format!("purpose must be one of {names}."))
    })
}
