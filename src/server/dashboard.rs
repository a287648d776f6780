//! The data of the dashboard as one JSON document, which comes only from the registry.

use super::app::App;
use super::bounded::bounded_funnel;
use super::problem::ApiProblem;
use super::read;
use super::request::{ApiRequest, ApiResult, JSON, encode};
use crate::funnel::{Funnel, funnel};
use crate::model::{ConnectionId, State, Timestamp};
use crate::reconcile::handle::WebhookStatus;
use crate::report::holds::HoldBody;
use crate::report::result::ConnectionResult;
use crate::snapshot::{Connection, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of the page.
pub const HTML: &str = "text/html; charset=utf-8";

/// The maximum number of connections on the page. `GET /connections` returns all of them.
pub const MAX_CONNECTIONS: usize = 200;
/// The maximum number of problems on the page.
pub const MAX_PROBLEMS: usize = 100;

/// The data of the dashboard.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Dashboard {
    /// Always `database`.
    pub data_source: String,
    pub namespace: String,
    pub as_of: String,
    pub version: String,
    /// True once the intents folder was read, and until AAM stops.
    pub ready: bool,
    /// Why the registry cannot write right now; empty when it can.
    pub trouble: String,
    pub funnel: Funnel,
    /// The changes that are held until somebody confirms them.
    #[serde(default)]
    pub holds: Vec<HoldBody>,
    pub policy: PolicyInForce,
    /// The first 100 problems of the intents folder and its files; empty for a token that may not read the policy's
    /// namespace.
    pub problems: Vec<FileProblem>,
    /// The number of all such problems.
    pub problems_total: usize,
    /// The webhooks of the policy; empty for a token that may not read the policy's namespace.
    pub webhooks: Vec<WebhookState>,
    /// Attempts that run right now.
    pub attempts_in_flight: usize,
    /// The number of connections in the namespace.
    pub total: usize,
    /// The 200 most urgent connections, with the steps of the latest attempt; fewer if they are larger than 4 MiB together.
    pub connections: Vec<ConnectionResult>,
}

/// The policy in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyInForce {
    pub file: String,
    /// SHA-256 of the text that is in force.
    pub digest: String,
    /// When it was accepted; null until it is recorded in the ledger.
    pub accepted_at: Option<String>,
    /// The number of families on the allowlist.
    pub allowlist: usize,
    pub max_items: u32,
    /// Set while the policy file is not valid and an earlier policy stays in force.
    pub rejected: Option<RejectedPolicy>,
}

/// A policy file that is not valid; the last valid policy stays in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RejectedPolicy {
    pub at: String,
    pub problems: Vec<FileProblem>,
}

/// A problem of a file, with the line and the column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Finding)]
pub struct FileProblem {
    pub file: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub pointer: String,
    pub message: String,
    pub hint: String,
}

impl From<&crate::model::Problem> for FileProblem {
    fn from(problem: &crate::model::Problem) -> FileProblem {
        FileProblem {
            file: problem.file.clone(),
            line: problem.place.map(|place| place.line),
            column: problem.place.map(|place| place.column),
            pointer: problem.pointer.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// The state of a webhook of the policy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookState {
    pub name: String,
    pub host: String,
    /// Why the last message was not accepted; empty if it was.
    pub problem: String,
    pub fix: String,
    /// The number of failed tries of the current message.
    pub tries: u32,
    /// When the current message is sent again; null if it is not, or if there is none.
    pub next_at: Option<String>,
}

impl From<&WebhookStatus> for WebhookState {
    fn from(status: &WebhookStatus) -> WebhookState {
        WebhookState {
            name: status.name.clone(),
            host: status.host.clone(),
            problem: status.problem.clone(),
            fix: status.fix.clone(),
            tries: status.tries,
            next_at: status.next_at.map(Timestamp::rfc3339),
        }
    }
}

/// `GET /dashboard.json`
///
/// # Errors
/// 403, 503.
pub async fn data(request: ApiRequest) -> ApiResult {
    let (request, namespace, files) = view(request)?;
    request.cached(JSON, move |app| encode(&collect(app, namespace, files)?)).await
}

/// The namespace of the request, and whether the caller may read the problems of files. The intents folder and the policy
/// hold what concerns all namespaces, so only a token of the policy's own namespace may.
fn view(mut request: ApiRequest) -> Result<(ApiRequest, String, bool), ApiProblem> {
    let namespace = request.namespace()?;
    let files = request.caller()?.may_read(&request.app.handle.policy().namespace);
    if !files {
        // The cache must not mix the two views. A path and query never contain `#`.
        request.cache_key.push_str("#without-files");
    }
    Ok((request, namespace, files))
}

fn collect(app: &App, namespace: String, files: bool) -> Result<Dashboard, ApiProblem> {
    let handle = &app.handle;
    let active = handle.policy.load();
    let problems = handle.problems.load();
    let now = handle.clock.now();
    let (folded, accepted) = {
        let snapshot = handle.registry.snapshot();
        let target = active.policy.slo.coverage;
        let accepted = snapshot.policy.filter(|(digest, _)| *digest == active.policy.digest);
        (bounded_funnel(funnel(&snapshot, &namespace, target, now)), accepted.map(|(_, seq)| seq))
    };
    let (total, found) = most_urgent(&handle.registry.snapshot(), &namespace);
    let connections = read::page_of(app, &found, true)?;
    Ok(Dashboard {
        data_source: "database".to_string(),
        namespace: namespace.clone(),
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
                .map(|rejected| RejectedPolicy { at: rejected.at.rfc3339(), problems: file_problems(&rejected.problems, files) }),
        },
        holds: super::holds::of_namespace(app, &namespace)?,
        problems: file_problems(&problems, files),
        problems_total: problems.len(),
        webhooks: handle.webhooks.load().iter().filter(|_| files).map(WebhookState::from).collect(),
        attempts_in_flight: handle.attempts_in_flight(),
        total,
        connections,
    })
}

fn file_problems(problems: &[crate::model::Problem], files: bool) -> Vec<FileProblem> {
    let shown = if files { problems } else { &[] };
    shown.iter().take(MAX_PROBLEMS).map(FileProblem::from).collect()
}

/// Returns the time at which entry `seq` was appended.
fn accepted_at(app: &App, seq: Option<u64>) -> Result<Option<String>, ApiProblem> {
    match seq {
        Some(seq) => Ok(app.handle.registry.reader().entry_at(seq)?.map(Timestamp::rfc3339)),
        None => Ok(None),
    }
}

/// Returns the number of connections in `namespace`, and the [`MAX_CONNECTIONS`] most urgent ones, ordered by state
/// and id.
fn most_urgent(snapshot: &Snapshot, namespace: &str) -> (usize, Vec<(ConnectionId, Connection)>) {
    let mut all: Vec<(State, ConnectionId)> =
        snapshot.of_namespace(namespace).map(|(id, connection)| (connection.state(), id)).collect();
    let total = all.len();
    if total > MAX_CONNECTIONS {
        all.select_nth_unstable(MAX_CONNECTIONS);
        all.truncate(MAX_CONNECTIONS);
    }
    all.sort_unstable();
    let found = all.into_iter().filter_map(|(_, id)| Some((id, snapshot.connections.copy_of(&id)?))).collect();
    (total, found)
}
