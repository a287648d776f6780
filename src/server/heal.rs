//! Re-verify now. Nothing is promoted here: only an attempt that passes does that.

use super::call::{Answer, Call, json, put};
use super::problem::Problem;
use super::push::{self, applied, deadline, funnel_now, may_write, settle};
use crate::funnel::Funnel;
use crate::model::{ConnectionId, State};
use crate::report::result::ConnectionResult;
use axum::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Results that one answer carries.
const MAX_RESULTS: usize = 1000;

/// Which connections to look at again. All fields may be left out, and the body too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealRequest {
    /// The policy's namespace, if left out.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Only connections in this state; left out, all that are neither ACTIVE nor RETIRED.
    #[serde(default)]
    pub state: Option<String>,
}

/// What became of them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealAnswer {
    pub namespace: String,
    /// Connections that were asked to prove themselves.
    pub total: usize,
    /// Of these, how many have an attempt that began since.
    pub settled: usize,
    /// Of these, how many are ACTIVE now.
    pub active: usize,
    /// The first 1000 of them, without steps.
    pub results: Vec<ConnectionResult>,
    pub funnel: Funnel,
}

/// `POST /connections/{id}/heal`
///
/// # Errors
/// 403, 404, 409, 503.
pub async fn heal_one(call: Call) -> Answer {
    let id = call.connection()?;
    let (namespace, state) = {
        let snapshot = call.app.handle.registry.snapshot();
        match snapshot.connections.get(&id) {
            Some(known) => (known.namespace.to_string(), known.state()),
            None => return Err(Problem::not_found("There is no connection of this id.")),
        }
    };
    may_write(&call, &namespace)?;
    if state == State::Retired {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "RETIRED",
            "The connection is retired",
            "Nobody asks for it any more; push its intent again or put its file back.",
        ));
    }
    let since = call.app.handle.clock.now();
    call.app.handle.heal([id]);
    let settled = settle(&call, id, since, deadline(&call)).await;
    let result = push::result(&call, id).await?;
    let status = if settled { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &result)?;
    put(&mut response, header::LOCATION, format!("/connections/{id}"));
    applied(&call, &mut response);
    Ok(response)
}

/// `POST /connections/heal`
///
/// # Errors
/// 400, 403, 415, 422, 503.
pub async fn heal_many(mut call: Call) -> Answer {
    let request = match call.json(push::MAX_BODY, true).await? {
        Some(body) => read(&body)?,
        None => HealRequest::default(),
    };
    let namespace = request.namespace.unwrap_or_else(|| call.app.handle.policy().namespace.clone());
    may_write(&call, &namespace)?;
    let wanted = request.state.as_deref().map(state).transpose()?;
    let ids = select(&call, &namespace, wanted);
    let since = call.app.handle.clock.now();
    call.app.handle.heal(ids.iter().copied());
    let until = deadline(&call);
    let mut settled = 0;
    for id in &ids {
        settled += usize::from(settle(&call, *id, since, until).await);
    }
    let all = ids.len();
    let (active, results) = outcome(&call, ids).await?;
    let answer = HealAnswer { namespace, total: all, settled, active, results, funnel: funnel_now(&call).await? };
    let status = if settled == all { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &answer)?;
    if status == StatusCode::ACCEPTED {
        put(&mut response, header::LOCATION, "/connections");
    }
    applied(&call, &mut response);
    Ok(response)
}

fn read(body: &[u8]) -> Result<HealRequest, Problem> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "NOT_JSON",
            "The body is no JSON",
            format!("The body cannot be read as JSON: {error}."),
        )
    })?;
    serde_json::from_value(value).map_err(|error| {
        invalid("", &error.to_string(), "write {\"namespace\": …, \"state\": …}; both may be left out, and the body too")
    })
}

fn state(word: &str) -> Result<State, Problem> {
    let healable = |state: &State| *state != State::Retired;
    State::parse(word).filter(healable).ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().filter(|state| healable(state)).map(|state| state.as_str()).collect();
        invalid("/state", "is no state that can be healed", &format!("write one of {}", words.join(", ")))
    })
}

fn invalid(pointer: &str, message: &str, hint: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "INVALID_REQUEST",
        "The body has not the documented form",
        "Nothing was asked for; problems names the place with a hint.",
    )
    .with(&[crate::model::Problem::new(pointer, message).hint(hint)])
}

fn select(call: &Call, namespace: &str, wanted: Option<State>) -> Vec<ConnectionId> {
    let snapshot = call.app.handle.registry.snapshot();
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

/// How many of `ids` are ACTIVE now, and the first of them in words.
async fn outcome(call: &Call, ids: Vec<ConnectionId>) -> Result<(usize, Vec<ConnectionResult>), Problem> {
    call.app
        .blocking(move |app| {
            let active = {
                let snapshot = app.handle.registry.snapshot();
                let is_active =
                    |id: &&ConnectionId| snapshot.connections.get(id).is_some_and(|known| known.state() == State::Active);
                ids.iter().filter(is_active).count()
            };
            let mut results = Vec::new();
            for id in ids.iter().take(MAX_RESULTS) {
                let mut result = super::read::one(app, *id)?;
                result.steps = None;
                results.push(result);
            }
            Ok((active, results))
        })
        .await
}
