//! Checks connections again immediately. A connection becomes ACTIVE only through an attempt that passes.

use super::health::health_of;
use super::onboard::{self, add_preference_applied, current_funnel, deadline, require_writable, wait_until_settled};
use super::problem::ApiProblem;
use super::read::connection_result;
use super::request::{ApiRequest, ApiResult, insert_header, json};
use crate::funnel::Funnel;
use crate::model::{ConnectionId, State};
use crate::report::result::ConnectionResult;
use axum::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The maximum number of results in one response.
const MAX_RESULTS: usize = 1000;

/// Which connections to check. All fields are optional, and so is the body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealRequest {
    /// Default: the policy's namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Only connections in this state. Default: all that are neither ACTIVE nor RETIRED.
    #[serde(default)]
    pub state: Option<String>,
}

/// The outcome of the checks.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealAnswer {
    pub namespace: String,
    /// The number of connections to check.
    pub total: usize,
    /// How many of them were checked within the time that the caller asked to wait.
    pub settled: usize,
    /// How many of them are ACTIVE now.
    pub active: usize,
    /// The first 1000 of them, without steps; fewer if they are larger than 4 MiB together. For a token without
    /// registry:read, only their ids and states.
    pub results: Vec<ConnectionResult>,
    /// The funnel of the policy's namespace; null if the token may not read it.
    pub funnel: Option<Funnel>,
}

/// `POST /connections/{id}/heal`
///
/// # Errors
/// 403, 404, 409, 503.
pub async fn heal_one(request: ApiRequest) -> ApiResult {
    let CheckedConnection { id, settled, may_read } = check(&request).await?;
    let result = request.app.blocking(move |app| connection_result(app, id)).await?;
    let result = if may_read { result } else { result.state_only() };
    answer_about(&request, id, settled, &result)
}

/// `POST /connections/{id}/health-check`
///
/// # Errors
/// 403, 404, 409, 503.
pub async fn health_check(request: ApiRequest) -> ApiResult {
    let CheckedConnection { id, settled, may_read } = check(&request).await?;
    let health = request.app.blocking(move |app| health_of(app, id)).await?;
    let health = if may_read { health } else { health.state_only() };
    answer_about(&request, id, settled, &health)
}

/// A connection that was checked again, or will be.
struct CheckedConnection {
    id: ConnectionId,
    /// Whether the attempt has finished.
    settled: bool,
    /// Whether the caller may read more than the state.
    may_read: bool,
}

/// Requests an attempt for the connection of the path, and waits for it as long as the caller wants.
async fn check(request: &ApiRequest) -> Result<CheckedConnection, ApiProblem> {
    let id = request.connection()?;
    let (namespace, state) = {
        let snapshot = request.app.handle.registry.snapshot();
        match snapshot.connections.get(&id) {
            Some(known) => (known.namespace.to_string(), known.state()),
            None => return Err(ApiProblem::not_found("No connection with this id.")),
        }
    };
    require_writable(request, &namespace)?;
    if state == State::Retired {
        return Err(ApiProblem::new(
            StatusCode::CONFLICT,
            "RETIRED",
            "Connection is retired",
            "No intent asks for this connection any more. Push its intent again or restore its file in the intents folder.",
        ));
    }
    let since = request.app.handle.clock.now();
    request.app.handle.heal([id]);
    let settled = wait_until_settled(request, id, since, deadline(request)).await;
    Ok(CheckedConnection { id, settled, may_read: request.caller()?.may_read(&namespace) })
}

fn answer_about<T: Serialize>(request: &ApiRequest, id: ConnectionId, settled: bool, answer: &T) -> ApiResult {
    let status = if settled { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, answer)?;
    insert_header(&mut response, header::LOCATION, request.address(&format!("/connections/{id}")));
    add_preference_applied(request, &mut response);
    Ok(response)
}

/// `POST /connections/heal`
///
/// # Errors
/// 400, 403, 415, 422, 503.
pub async fn heal_many(mut request: ApiRequest) -> ApiResult {
    let heal = match request.json(onboard::MAX_BODY_BYTES, true).await? {
        Some(body) => read(&body)?,
        None => HealRequest::default(),
    };
    let namespace = heal.namespace.unwrap_or_else(|| request.app.handle.policy().namespace.clone());
    require_writable(&request, &namespace)?;
    let wanted = heal.state.as_deref().map(healable_state).transpose()?;
    let ids = select(&request, &namespace, wanted);
    let since = request.app.handle.clock.now();
    request.app.handle.heal(ids.iter().copied());
    let until = deadline(&request);
    let mut settled = 0;
    for id in &ids {
        settled += usize::from(wait_until_settled(&request, *id, since, until).await);
    }
    let all = ids.len();
    let (active, mut results) = outcome(&request, ids).await?;
    if !request.caller()?.may_read(&namespace) {
        results = results.into_iter().map(ConnectionResult::state_only).collect();
    }
    let answer = HealAnswer { namespace, total: all, settled, active, results, funnel: current_funnel(&request).await? };
    let status = if settled == all { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &answer)?;
    if status == StatusCode::ACCEPTED {
        insert_header(&mut response, header::LOCATION, request.address("/connections"));
    }
    add_preference_applied(&request, &mut response);
    Ok(response)
}

fn read(body: &[u8]) -> Result<HealRequest, ApiProblem> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
        ApiProblem::new(
            StatusCode::BAD_REQUEST,
            "NOT_JSON",
            "The body is not valid JSON",
            format!("The body could not be parsed as JSON: {error}."),
        )
    })?;
    serde_json::from_value(value).map_err(|error| {
        invalid("", &error.to_string(), "send {\"namespace\": …, \"state\": …}; both fields are optional, and so is the body")
    })
}

fn healable_state(text: &str) -> Result<State, ApiProblem> {
    let healable = |state: &State| *state != State::Retired;
    State::parse(text).filter(healable).ok_or_else(|| {
        let states: Vec<&str> = State::ALL.iter().filter(|state| healable(state)).map(|state| state.as_str()).collect();
        invalid("/state", "is not a state that can be healed", &format!("use one of {}", states.join(", ")))
    })
}

fn invalid(pointer: &str, message: &str, hint: &str) -> ApiProblem {
    ApiProblem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "INVALID_REQUEST",
        "Invalid request",
        "No connection was checked. `problems` lists every invalid value with a hint.",
    )
    .with(&[crate::model::Problem::new(pointer, message).hint(hint)])
}

fn select(request: &ApiRequest, namespace: &str, wanted: Option<State>) -> Vec<ConnectionId> {
    let snapshot = request.app.handle.registry.snapshot();
    snapshot
        .of_namespace(namespace)
        .filter(|(_, connection)| {
            let state = connection.state();
            match wanted {
                Some(wanted) => state == wanted,
                None => !matches!(state, State::Active | State::Retired),
            }
        })
        .map(|(id, _)| id)
        .collect()
}

/// Returns how many of `ids` are ACTIVE, and the results of the first [`MAX_RESULTS`].
async fn outcome(request: &ApiRequest, ids: Vec<ConnectionId>) -> Result<(usize, Vec<ConnectionResult>), ApiProblem> {
    request
        .app
        .blocking(move |app| {
            let (active, found) = {
                let snapshot = app.handle.registry.snapshot();
                let find = |id: &ConnectionId| Some((*id, snapshot.connections.get(id)?));
                let active = ids.iter().filter_map(find).filter(|(_, found)| found.state() == State::Active).count();
                let first = ids.iter().take(MAX_RESULTS).filter_map(find);
                (active, first.map(|(id, found)| (id, found.as_ref().clone())).collect::<Vec<_>>())
            };
            Ok((active, super::read::page_of(app, &found, false)?))
        })
        .await
}
