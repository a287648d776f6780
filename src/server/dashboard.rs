//! The dashboard: its data, from the database and nowhere else, and the page made from it.

use super::app::App;
use super::call::{Answer, Call, JSON, encode, put};
use super::page;
use super::problem::Problem;
use super::read;
use crate::funnel::{Funnel, funnel};
use crate::model::{ConnectionId, State, Timestamp};
use crate::report::result::ConnectionResult;
use crate::snapshot::{Connection, Snapshot};
use axum::http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of the page.
pub const HTML: &str = "text/html; charset=utf-8";

/// Connections that the page shows; all of them are in `GET /connections`.
const SHOWN: usize = 200;
/// Problems that the page shows.
const PROBLEMS: usize = 100;

/// Everything that the dashboard shows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Dashboard {
    /// Always `database`.
    pub data_source: String,
    pub namespace: String,
    pub as_of: String,
    pub version: String,
    /// The process took its folder in and is not stopping.
    pub ready: bool,
    /// Why the registry cannot write right now; empty when it can.
    pub trouble: String,
    pub funnel: Funnel,
    pub policy: PolicyInForce,
    /// What is wrong with the intents folder and its files right now.
    pub problems: Vec<Finding>,
    /// All of them; `problems` holds the first 100.
    pub problems_total: usize,
    /// Attempts that run right now.
    pub attempts_in_flight: usize,
    /// All connections of the namespace.
    pub total: usize,
    /// The first 200, those that need a person first, with the steps of the latest attempt.
    pub connections: Vec<ConnectionResult>,
}

/// The policy that everything runs under.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyInForce {
    pub file: String,
    /// SHA-256 of the file that is in force.
    pub digest: String,
    /// When it was accepted; null until it is in the ledger.
    pub accepted_at: Option<String>,
    /// Families on the allowlist.
    pub allowlist: usize,
    pub max_items: u32,
    /// The file is another one now and was refused.
    pub rejected: Option<RejectedPolicy>,
}

/// A policy file that was refused; the last good one stays in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RejectedPolicy {
    pub at: String,
    pub problems: Vec<Finding>,
}

/// A problem with its file and place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub file: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub pointer: String,
    pub message: String,
    pub hint: String,
}

impl From<&crate::model::Problem> for Finding {
    fn from(problem: &crate::model::Problem) -> Finding {
        Finding {
            file: problem.file.clone(),
            line: problem.place.map(|place| place.line),
            column: problem.place.map(|place| place.column),
            pointer: problem.pointer.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// `GET /dashboard.json`
///
/// # Errors
/// 403, 503.
pub async fn data(call: Call) -> Answer {
    let namespace = call.namespace()?;
    call.cached(JSON, move |app| encode(&collect(app, namespace)?)).await
}

/// `GET /`
///
/// # Errors
/// 403, 503.
pub async fn html(call: Call) -> Answer {
    let namespace = call.namespace()?;
    let made = call.cached(HTML, move |app| Ok(page::render(&collect(app, namespace)?).into_string().into_bytes()));
    let mut response = made.await?;
    put(&mut response, header::CONTENT_SECURITY_POLICY, page::content_security_policy());
    Ok(response)
}

fn collect(app: &App, namespace: String) -> Result<Dashboard, Problem> {
    let handle = &app.handle;
    let active = handle.policy.load();
    let problems = handle.problems.load();
    let now = handle.clock.now();
    let (folded, accepted) = {
        let snapshot = handle.registry.snapshot();
        let target = active.policy.slo.coverage;
        let accepted = snapshot.policy.filter(|(digest, _)| *digest == active.policy.digest);
        (funnel(&snapshot, &namespace, target, now), accepted.map(|(_, seq)| seq))
    };
    let (total, found) = first(&handle.registry.snapshot(), &namespace);
    let connections = read::describe(app, &found, true)?;
    Ok(Dashboard {
        data_source: "database".to_string(),
        namespace,
        as_of: now.rfc3339(),
        version: app.info.version.clone(),
        ready: *handle.ready.borrow() && !*handle.stopping.borrow(),
        trouble: handle.trouble.load().to_string(),
        funnel: folded,
        policy: PolicyInForce {
            file: handle.policy_file.display().to_string(),
            digest: active.policy.digest.to_string(),
            accepted_at: accepted_at(app, accepted)?,
            allowlist: active.policy.allowlist.len(),
            max_items: active.policy.safe_mode.max_items,
            rejected: active
                .rejected
                .as_ref()
                .map(|rejected| RejectedPolicy { at: rejected.at.rfc3339(), problems: findings(&rejected.problems) }),
        },
        problems: findings(&problems),
        problems_total: problems.len(),
        attempts_in_flight: handle.attempts_in_flight(),
        total,
        connections,
    })
}

fn findings(problems: &[crate::model::Problem]) -> Vec<Finding> {
    problems.iter().take(PROBLEMS).map(Finding::from).collect()
}

/// When entry `seq` was appended.
fn accepted_at(app: &App, seq: Option<u64>) -> Result<Option<String>, Problem> {
    match seq {
        Some(seq) => Ok(app.handle.registry.reader().entry_at(seq)?.map(Timestamp::rfc3339)),
        None => Ok(None),
    }
}

/// How many there are, and those to show: what needs a person first, then in order of ids.
fn first(snapshot: &Snapshot, namespace: &str) -> (usize, Vec<(ConnectionId, Connection)>) {
    let mut all: Vec<(u8, ConnectionId)> =
        snapshot.of_namespace(namespace).map(|(id, connection)| (rank(connection.state()), id)).collect();
    let total = all.len();
    if total > SHOWN {
        all.select_nth_unstable(SHOWN);
        all.truncate(SHOWN);
    }
    all.sort_unstable();
    let found = all.into_iter().filter_map(|(_, id)| Some((id, snapshot.connections.get(&id)?.as_ref().clone()))).collect();
    (total, found)
}

fn rank(state: State) -> u8 {
    match state {
        State::Healing => 0,
        State::Error => 1,
        State::NetworkBlocked => 2,
        State::AwaitingCredentials => 3,
        State::Pending => 4,
        State::Unsupported => 5,
        State::Rejected => 6,
        State::Active => 7,
        State::Retired => 8,
    }
}
