//! One connection: its page, and what can be done on it. [`crate::page::connection`] renders the page.
//!
//! - `collect`: puts the data of the page together; start reading here
//! - `history`: the entries of the ledger, from which come the timeline, the origins and the versions of the catalog
//! - `catalog`, `credential`: the data of their sections

mod catalog;
mod collect;
mod credential;
mod history;

use super::super::heal::{RequestedCheck, request_check};
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult, namespace_name};
use super::super::withdraw;
use super::{respond, see_other};
use crate::model::ConnectionId;
use crate::page::connection::Done;
use axum::response::Response;

/// `GET /ui/connections/{id}`
///
/// # Errors
/// 400, 403, 404, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    let (id, namespace) = find(&request)?;
    match in_its_namespace(&request, id, &namespace) {
        Some(redirect) => Ok(redirect),
        None => respond(request, move |view| collect::page(view, id)).await,
    }
}

/// `POST /ui/connections/{id}/verify`: requests a check, and leads back to the page, which shows its result later.
///
/// # Errors
/// 400, 403, 404, 409, 503.
pub async fn verify(mut request: ApiRequest) -> ApiResult {
    request.form().await?;
    let (id, _) = find(&request)?;
    let RequestedCheck { namespace, is_paused, .. } = request_check(&request, id)?;
    let done = if is_paused { Done::Held } else { Done::Verify };
    Ok(see_other(&address(&request, id, &namespace, &[("done", done.as_str())])))
}

/// `POST /ui/connections/{id}/withdraw`
///
/// # Errors
/// 400, 403, 404, 409, 503.
pub async fn withdraw(mut request: ApiRequest) -> ApiResult {
    request.form().await?;
    let (id, _) = find(&request)?;
    let reason = format!("withdrawn on the page by {}", request.caller()?.actor());
    let namespace = withdraw::withdraw(&request, id, &reason).await?;
    Ok(see_other(&address(&request, id, &namespace, &[("done", Done::Withdraw.as_str())])))
}

/// Returns the connection of the path and its namespace.
fn find(request: &ApiRequest) -> Result<(ConnectionId, String), ApiProblem> {
    let missing = || {
        ApiProblem::not_found(
            "AAM does not have a connection with this id, or you are not allowed in its namespace. The page Connections lists those that you may see.",
        )
    };
    let id = request.connection().map_err(|problem| if problem.status == 404 { missing() } else { problem })?;
    let snapshot = request.app.handle.registry.snapshot();
    let known = snapshot.connections.get(&id).ok_or_else(missing)?;
    Ok((id, known.namespace.to_string()))
}

/// Sends a reader whose address names another namespace to the address with the namespace of the connection, so that all links
/// on the page keep it.
fn in_its_namespace(request: &ApiRequest, id: ConnectionId, namespace: &str) -> Option<Response> {
    let asked = request.query.get("namespace").map(namespace_name);
    if asked.as_deref().unwrap_or(&request.app.handle.policy().namespace) == namespace {
        return None;
    }
    let query = &request.query;
    let others = request.route.query.iter().filter(|param| param.name != "namespace");
    let pairs: Vec<(&str, &str)> = others.filter_map(|param| Some((param.name, query.get(param.name)?))).collect();
    Some(see_other(&address(request, id, namespace, &pairs)))
}

/// The address of the page of a connection, with the query `pairs`.
fn address(request: &ApiRequest, id: ConnectionId, namespace: &str, pairs: &[(&str, &str)]) -> String {
    let is_default = *namespace == *request.app.handle.policy().namespace;
    let own = [("namespace", namespace)];
    let own = own.iter().filter(|_| !is_default);
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs.iter().chain(own)).finish();
    let separator = if query.is_empty() { "" } else { "?" };
    request.address(&format!("/ui/connections/{id}{separator}{query}"))
}
