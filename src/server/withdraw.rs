//! `DELETE /connections/{id}`: withdraws what was pushed for a connection, so that it is retired.

use super::onboard::require_writable;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::read::connection_result;
use super::request::{ApiRequest, ApiResult, json};
use crate::model::text::counted;
use crate::model::{ConnectionId, Origin, State};
use crate::snapshot::Connection;
use axum::http::StatusCode;

/// The number of files that the refusal names.
const MAX_NAMED_FILES: usize = 5;

/// `DELETE /connections/{id}`
///
/// Withdraws the intents that every token pushed for the connection: like a delete in Kubernetes, it needs the right to
/// write in the namespace, and not the token that created the connection. Decision record 56 gives the reasons.
///
/// # Errors
/// 403, 404, 409, 503.
pub async fn delete(request: ApiRequest) -> ApiResult {
    let id = request.connection()?;
    let reason = format!("DELETE /connections/{{id}} by {}", request.caller()?.actor());
    let namespace = withdraw(&request, id, &reason).await?;
    let result = request.app.blocking(move |app| connection_result(app, id)).await?;
    let result = if request.caller()?.may_read(&namespace) { result } else { result.state_only() };
    json(StatusCode::OK, &result)
}

/// Withdraws the intents of `id`, so that it is retired, and returns its namespace. `reason` is recorded.
///
/// # Errors
/// 403 if the caller may not write in the namespace, 404, 409 if a file or another push asks for the connection, 503.
pub async fn withdraw(request: &ApiRequest, id: ConnectionId, reason: &str) -> Result<String, ApiProblem> {
    let (namespace, origins) = desired_by(request, id, |known| {
        let origins = known.origins.iter().map(|desired| desired.origin.clone()).collect::<Vec<_>>();
        (known.namespace.to_string(), origins)
    })?;
    require_writable(request, &namespace)?;
    refuse_files(request, &origins)?;
    let handle = &request.app.handle;
    handle.registry.retire(id, origins, reason).await.inspect_err(|error| handle.report_error(error))?;
    handle.wake();
    let (state, origins) = desired_by(request, id, |known| {
        (known.state(), known.origins.iter().map(|desired| desired.origin.clone()).collect::<Vec<_>>())
    })?;
    if state != State::Retired {
        // A file or another push asked for the connection while the request was handled.
        refuse_files(request, &origins)?;
        return Err(still_desired());
    }
    Ok(namespace)
}

fn desired_by<T>(request: &ApiRequest, id: ConnectionId, read: impl FnOnce(&Connection) -> T) -> Result<T, ApiProblem> {
    let snapshot = request.app.handle.registry.snapshot();
    let known = snapshot.connections.get(&id).ok_or_else(|| ApiProblem::not_found("No connection with this id."))?;
    Ok(read(&known))
}

/// Refuses to retire what a file of the intents folder desires, because the next scan would bring it back.
fn refuse_files(request: &ApiRequest, origins: &[Origin]) -> Result<(), ApiProblem> {
    let folder = &request.app.handle.intents;
    let mut files: Vec<String> =
        origins.iter().filter_map(Origin::folder_path).map(|path| folder.join(path).display().to_string()).collect();
    if files.is_empty() {
        return Ok(());
    }
    files.sort();
    let more = files.len().saturating_sub(MAX_NAMED_FILES);
    files.truncate(MAX_NAMED_FILES);
    let mut named = files.join(", ");
    if more > 0 {
        named = format!("{named} and {}", counted(more, "other file"));
    }
    let detail = format!(
        "The intents folder asks for this connection: {named}. Nothing was changed. Remove the intent from the file, or the file from the folder; AAM then retires the connection."
    );
    Err(ApiProblem::new(StatusCode::CONFLICT, ProblemCode::DesiredByFolder, "A file asks for this connection", detail))
}

fn still_desired() -> ApiProblem {
    let detail =
        "An intent for this connection was pushed while the request was handled. Repeat the request to withdraw that one, too.";
    ApiProblem::new(StatusCode::CONFLICT, ProblemCode::DesiredAgain, "Another push asks for this connection", detail)
}
