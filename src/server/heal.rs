//! Checks connections again immediately. A connection becomes ACTIVE only through an attempt that passes.

use super::health::health_of;
use super::onboard::{
    self, add_preference_applied, current_funnel, deadline, require_writable, wait_until_all_settled, wait_until_settled,
};
use super::openapi::enums::HealableState;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::read::connection_result;
use super::request::{ApiRequest, ApiResult, insert_header, json, namespace_name};
use crate::funnel::Funnel;
use crate::model::{ConnectionId, State, Timestamp};
use crate::report::result::ConnectionResult;
use axum::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// The maximum number of results in one response.
pub const MAX_RESULTS: usize = 1000;

/// The maximum number of ids in one request.
const MAX_IDS: usize = 10_000;

/// Which connections to check. All fields are optional, and so is the body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealRequest {
    /// Default: the policy's namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Only connections in this state. Default: all that are neither ACTIVE nor RETIRED.
    #[serde(default)]
    #[schema(value_type = Option<HealableState>)]
    pub state: Option<String>,
    /// The ids of the connections to check, whatever their state and in any namespace of the token; at most 10,000.
    /// Cannot be combined with the other fields. A body that is an array is this list.
    #[serde(default)]
    #[schema(nullable = false)]
    pub ids: Option<Vec<String>>,
}

/// An id that was not checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedId {
    /// The id as it was sent.
    pub id: String,
    pub code: ProblemCode,
    /// What happened, and what to do.
    pub message: String,
}

/// The length up to which an id of the request is repeated in the answer.
const MAX_SHOWN_ID_CHARS: usize = 64;

const NOT_FOUND: &str =
    "No connection with this id, or the token is not allowed in its namespace. GET /connections lists the connections.";
const RETIRED: &str =
    "No intent asks for this connection any more. Push its intent again or restore its file in the intents folder.";

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
    /// The ids of the request that were not checked, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedId>,
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

/// A check that was requested.
pub struct RequestedCheck {
    /// The namespace of the connection.
    pub namespace: String,
    /// When it was requested.
    pub since: Timestamp,
    /// True if nothing is called for the connection until a held change is confirmed or undone.
    pub is_paused: bool,
}

/// Requests an attempt for `id`, unless nothing is called for it at the moment.
///
/// # Errors
/// 403 if the caller may not write in the namespace, 404, and 409 for a retired connection.
pub fn request_check(request: &ApiRequest, id: ConnectionId) -> Result<RequestedCheck, ApiProblem> {
    let (namespace, state) = {
        let snapshot = request.app.handle.registry.snapshot();
        match snapshot.connections.get(&id) {
            Some(known) => (known.namespace.to_string(), known.state()),
            None => return Err(ApiProblem::not_found("No connection with this id.")),
        }
    };
    require_writable(request, &namespace)?;
    if state == State::Retired {
        return Err(ApiProblem::new(StatusCode::CONFLICT, ProblemCode::Retired, "Connection is retired", RETIRED));
    }
    let (handle, since) = (&request.app.handle, request.app.handle.clock.now());
    // Nothing is called for such a connection until the change is confirmed or undone, so there is nothing to wait for.
    let is_paused = handle.holds.load().get(id).is_some_and(|(_, departure)| !departure.checkable);
    if !is_paused {
        handle.heal([id]);
    }
    Ok(RequestedCheck { namespace, since, is_paused })
}

/// Requests an attempt for the connection of the path, and waits for it as long as the caller wants.
async fn check(request: &ApiRequest) -> Result<CheckedConnection, ApiProblem> {
    let id = request.connection()?;
    let RequestedCheck { namespace, since, is_paused } = request_check(request, id)?;
    let settled = !is_paused && wait_until_settled(request, id, since, deadline(request)).await;
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
    let by_id = heal.ids.is_some();
    let namespace =
        heal.namespace.as_deref().map(namespace_name).unwrap_or_else(|| request.app.handle.policy().namespace.clone());
    let (ids, skipped) = match &heal.ids {
        Some(_) if heal.namespace.is_some() || heal.state.is_some() => return Err(combined()),
        Some(ids) => select_ids(&request, ids)?,
        None => {
            require_writable(&request, &namespace)?;
            let wanted = heal.state.as_deref().map(healable_state).transpose()?;
            (select(&request, &namespace, wanted), Vec::new())
        }
    };
    let since = request.app.handle.clock.now();
    request.app.handle.heal(ids.iter().copied());
    wait_until_all_settled(&request, &ids, since, deadline(&request)).await;
    let settled = ids.iter().filter(|id| request.app.handle.is_settled(**id, since)).count();
    let all = ids.len();
    let (active, mut results) = outcome(&request, ids).await?;
    let caller = request.caller()?;
    if by_id || !caller.may_read(&namespace) {
        let readable = |result: ConnectionResult| match caller.may_read(&result.namespace) {
            true => result,
            false => result.state_only(),
        };
        results = results.into_iter().map(readable).collect();
    }
    let funnel = current_funnel(&request).await?;
    let answer = HealAnswer { namespace, total: all, settled, active, results, skipped, funnel };
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
            ProblemCode::NotJson,
            "The body is not valid JSON",
            format!("The body could not be parsed as JSON: {error}."),
        )
    })?;
    // Without this, serde would read the items of an array as the fields in their order.
    let value = if value.is_array() { serde_json::json!({ "ids": value }) } else { value };
    if value.get("ids").is_some_and(serde_json::Value::is_null) {
        return Err(invalid("/ids", "is null", "send a list of ids, or leave the field out to check a namespace"));
    }
    serde_json::from_value(value).map_err(|error| {
        invalid(
            "",
            &error.to_string(),
            "send {\"namespace\": …, \"state\": …}, {\"ids\": [ … ]} or a list of ids; all fields are optional, and so is the body",
        )
    })
}

fn combined() -> ApiProblem {
    invalid("/ids", "cannot be combined with namespace and state", "send the ids alone, or namespace and state without ids")
}

/// Returns the connections that `ids` name and that can be checked, each once, and why the others cannot.
fn select_ids(request: &ApiRequest, ids: &[String]) -> Result<(Vec<ConnectionId>, Vec<SkippedId>), ApiProblem> {
    if ids.len() > MAX_IDS {
        let message = format!("has {} ids, and the limit is {MAX_IDS}", ids.len());
        return Err(invalid("/ids", &message, "send several requests"));
    }
    let caller = request.caller()?;
    let snapshot = request.app.handle.registry.snapshot();
    let (mut wanted, mut seen, mut skipped) = (Vec::new(), BTreeSet::new(), Vec::new());
    for text in ids {
        let id = ConnectionId::parse(text).ok();
        let known = id.and_then(|id| Some((id, snapshot.connections.get(&id)?)));
        let (code, message) = match known.filter(|(_, known)| caller.may_see(&known.namespace)) {
            None => (ProblemCode::NotFound, NOT_FOUND.to_string()),
            Some((_, known)) if snapshot.is_closed(&known.namespace) => {
                (ProblemCode::NamespaceSealed, format!("Namespace {} holds sample data and is never checked.", known.namespace))
            }
            Some((_, known)) if known.retired.is_some() => (ProblemCode::Retired, RETIRED.to_string()),
            Some((id, _)) => {
                if seen.insert(id) {
                    wanted.push(id);
                }
                continue;
            }
        };
        skipped.push(SkippedId { id: shown(text), code, message });
    }
    Ok((wanted, skipped))
}

/// Returns an id of the request for the answer. Text that is much longer than an id is cut.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_ID_CHARS).collect()
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
        ProblemCode::InvalidRequest,
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
                (active, first.map(|(id, found)| (id, found.into_owned())).collect::<Vec<_>>())
            };
            Ok((active, super::read::page_of(app, &found, false)?))
        })
        .await
}
