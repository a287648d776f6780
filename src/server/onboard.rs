//! Intents that are pushed over the API. They use the same parser and the same ledger as intents from the folder.

use super::app::App;
use super::auth::Caller;
use super::bounded::{PageBytes, bounded_funnel, json_len, shorten};
use super::listen::stop_requested;
use super::prefer::PREFERENCE_APPLIED;
use super::problem::{ApiProblem, ProblemItem};
use super::problem_code::ProblemCode;
use super::read::{brief_result, find_connection, result_of};
use super::request::{ApiRequest, ApiResult, JSON, encode, insert_header, json, response};
use crate::funnel::{Funnel, funnel};
use crate::intake::Format;
use crate::intake::wire::{self, Item, Limits};
use crate::model::{ConnectionId, Intent, Origin, Problem, State, Timestamp};
use crate::registry::{Acceptance, IntentChange, RegistryError};
use crate::report::result::{ConnectionResult, WarningBody};
use axum::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// The maximum size of a single push.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// The maximum number of items of a batch.
pub const MAX_BATCH_ITEMS: usize = 10_000;
/// The maximum size of a batch.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// The answer to a batch, with one result for each item, in the order of the batch. After the first 4 MiB, results do not
/// contain steps and warnings. Results that could not be read before the time to wait was over do not contain what the intent
/// and the steps say; `location` has all of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    pub total: usize,
    /// The number of items that were accepted, in whatever state they are now.
    pub succeeded: usize,
    /// The number of items whose connection is ACTIVE now.
    pub active: usize,
    /// The number of items that have no result yet; their `http_status` is 202.
    pub unsettled: usize,
    /// The number of items for which a single push would have returned an error.
    pub failed: usize,
    pub results: Vec<BatchItem>,
    /// The funnel of the policy's namespace after the batch; null if the token may not read it.
    pub funnel: Option<Funnel>,
}

/// The result of one item.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchItem {
    Accepted(Box<AcceptedItem>),
    Refused(RefusedItem),
}

/// An item that was recorded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AcceptedItem {
    pub index: usize,
    /// The status that a single push would have returned: 201, 200, 202, or 409 for an unsupported type.
    pub http_status: u16,
    /// The URL to poll for the state of the connection.
    pub location: String,
    #[serde(flatten)]
    pub result: ConnectionResult,
}

/// An item that was not recorded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusedItem {
    pub index: usize,
    /// The status that a single push would have returned: 403, 413 or 422.
    pub http_status: u16,
    /// FORBIDDEN with 403, and INVALID otherwise. Neither is a state of a connection.
    pub status: String,
    pub code: ProblemCode,
    /// The reason in one sentence.
    pub message: String,
    pub problems: Vec<ProblemItem>,
    pub warnings: Vec<WarningBody>,
}

/// `POST /connections/onboard`
///
/// # Errors
/// 400, 403, 408, 409, 413, 415, 422, 503.
pub async fn onboard(mut request: ApiRequest) -> ApiResult {
    let (format, body) = request.intents(MAX_BODY_BYTES).await?;
    let limits = Limits { bytes: MAX_BODY_BYTES, ..Limits::default() };
    let parsed = wire::parse_as(format, &body, &limits).map_err(|refusal| ApiProblem::refused(&refusal, MAX_BODY_BYTES))?;
    let is_list = parsed.is_list;
    let item = match parsed.items.into_iter().next() {
        Some(item) if !is_list => item,
        _ => {
            let problem = Problem::new("", "expected one object, found a list of intents")
                .hint("send several intents to POST /connections/onboard/batch as {\"intents\": [ … ]}");
            return Err(ApiProblem::refused(
                &wire::Refusal { fault: wire::Fault::Invalid, problems: vec![problem] },
                MAX_BODY_BYTES,
            ));
        }
    };
    let Item { outcome, warnings } = item;
    let intent = outcome.map_err(|refusal| ApiProblem::refused(&refusal, MAX_BODY_BYTES))?;
    require_writable(&request, &intent.namespace)?;
    let (id, change) = accept(&request, vec![intent])
        .await?
        .first()
        .map_or(Err(ApiProblem::defect("The registry did not return the accepted intent.")), |accepted| {
            Ok((accepted.connection, accepted.change))
        })?;
    wait_until_all_settled(&request, &[id], Timestamp(0), deadline(&request)).await;
    let caller = request.caller()?.clone();
    let read = request.app.blocking(move |app| pushed_result(app, &caller, id, false));
    let (mut result, has_result) = read.await?;
    add_warnings(&mut result, warnings);
    single(&request, change, has_result, result)
}

/// Builds the response to a single push. A 409 includes the result, because the intent was recorded.
fn single(request: &ApiRequest, change: IntentChange, has_result: bool, result: ConnectionResult) -> ApiResult {
    let status = status_of(change, has_result, &result);
    if status == StatusCode::CONFLICT {
        let detail = match &result.error {
            Some(error) => format!("{} {}", result.message, error.fix),
            None => result.message.clone(),
        };
        let mut problem = ApiProblem::new(status, ProblemCode::Unsupported, "Unsupported source type", detail.trim());
        problem.result = Some(Box::new(result));
        return Err(problem);
    }
    let location = request.address(&format!("/connections/{}", result.connection_id));
    let mut response = json(status, &result)?;
    insert_header(&mut response, header::LOCATION, location);
    add_preference_applied(request, &mut response);
    Ok(response)
}

fn status_of(change: IntentChange, has_result: bool, result: &ConnectionResult) -> StatusCode {
    if !has_result {
        return StatusCode::ACCEPTED;
    }
    match change {
        _ if result.status == State::Unsupported.as_str() => StatusCode::CONFLICT,
        IntentChange::Created => StatusCode::CREATED,
        IntentChange::Changed | IntentChange::Unchanged => StatusCode::OK,
    }
}

/// `POST /connections/onboard/batch`
///
/// # Errors
/// 503, and for the batch as a whole 400, 408, 413, 415 and 422.
pub async fn batch(mut request: ApiRequest) -> ApiResult {
    let (format, body) = request.intents(MAX_BATCH_BYTES).await?;
    let caller = request.caller()?.clone();
    let checked = request.app.blocking(move |app| check_batch(app, &caller, format, &body)).await?;
    let CheckedBatch { mut results, intents, indices, warnings, page } = checked;
    let accepted = match intents.is_empty() {
        true => Vec::new(),
        false => accept(&request, intents).await?,
    };
    let ids: Vec<ConnectionId> = accepted.iter().map(|accepted| accepted.connection).collect();
    wait_until_all_settled(&request, &ids, Timestamp(0), deadline(&request)).await;
    let described = describe_accepted(&request, ids, warnings, page).await?;
    for ((index, (result, has_result)), accepted) in indices.into_iter().zip(described).zip(accepted) {
        let Some(slot) = results.get_mut(index) else { continue };
        let http_status = status_of(accepted.change, has_result, &result).as_u16();
        let location = request.address(&format!("/connections/{}", accepted.connection));
        *slot = Some(BatchItem::Accepted(Box::new(AcceptedItem { index, http_status, location, result })));
    }
    answer_batch(&request, results.into_iter().flatten().collect()).await
}

/// A batch whose items were checked, each by itself.
#[derive(Default)]
struct CheckedBatch {
    /// What is answered for each refused item, and `None` for each of `intents`.
    results: Vec<Option<BatchItem>>,
    intents: Vec<Intent>,
    /// The positions of `intents` in the batch.
    indices: Vec<usize>,
    /// The warnings of each of `intents`.
    warnings: Vec<Vec<Problem>>,
    page: PageBytes,
}

/// Parses a batch and checks each of its intents. Takes seconds for thousands of them, so it runs on the blocking pool.
fn check_batch(app: &App, caller: &Caller, format: Format, body: &[u8]) -> Result<CheckedBatch, ApiProblem> {
    let limits = Limits { bytes: MAX_BATCH_BYTES, items: MAX_BATCH_ITEMS, ..Limits::default() };
    let parsed = wire::parse_batch_as(format, body, &limits).map_err(|refusal| ApiProblem::refused(&refusal, MAX_BATCH_BYTES))?;
    let mut batch = CheckedBatch::default();
    for (index, Item { outcome, warnings }) in parsed.items.into_iter().enumerate() {
        let checked = outcome.map_err(|refusal| ApiProblem::refused(&refusal, MAX_BATCH_BYTES)).and_then(|intent| {
            match json_len(&intent) > MAX_BODY_BYTES {
                true => Err(ApiProblem::too_large(MAX_BODY_BYTES)),
                false => writable(app, caller, &intent.namespace).map(|()| intent),
            }
        });
        match checked {
            Ok(intent) => {
                batch.intents.push(intent);
                batch.indices.push(index);
                batch.warnings.push(warnings);
                batch.results.push(None);
            }
            Err(problem) => {
                let refused = refused(index, problem, &warnings, &mut batch.page);
                batch.results.push(Some(refused));
            }
        }
    }
    Ok(batch)
}

/// How long the results of a batch may be read after the time to wait is over. Results that are not read by then contain
/// only what the snapshot holds, so that a large batch is answered in time.
const DESCRIBE_TIME: Duration = Duration::from_millis(500);

/// Returns the result of each accepted item, shortened after one page, and whether the item has its result.
async fn describe_accepted(
    request: &ApiRequest,
    ids: Vec<ConnectionId>,
    warnings: Vec<Vec<Problem>>,
    mut page: PageBytes,
) -> Result<Vec<(ConnectionResult, bool)>, ApiProblem> {
    let caller = request.caller()?.clone();
    let now = std::time::Instant::now();
    let until = deadline(request).into_std().max(now) + DESCRIBE_TIME;
    let describe = move |app: &App| {
        let mut described = Vec::with_capacity(ids.len());
        for (id, warnings) in ids.into_iter().zip(warnings) {
            let is_brief = std::time::Instant::now() >= until;
            let (mut result, has_result) = pushed_result(app, &caller, id, is_brief)?;
            add_warnings(&mut result, warnings);
            shorten(&mut page, &mut result);
            described.push((result, has_result));
        }
        Ok(described)
    };
    request.app.blocking(describe).await
}

/// Builds the answer to a batch: 200, or 202 if an item has no result yet.
async fn answer_batch(request: &ApiRequest, results: Vec<BatchItem>) -> ApiResult {
    let count = |condition: fn(&AcceptedItem) -> bool| {
        let accepted = results.iter().filter_map(|item| match item {
            BatchItem::Accepted(item) => Some(item),
            BatchItem::Refused(_) => None,
        });
        accepted.filter(|item| condition(item)).count()
    };
    let (succeeded, active, unsettled) = (
        count(|item| item.http_status < 400),
        count(|item| item.result.status == State::Active.as_str()),
        count(|item| item.http_status == StatusCode::ACCEPTED.as_u16()),
    );
    let answer = BatchAnswer {
        total: results.len(),
        succeeded,
        active,
        unsettled,
        failed: results.len() - succeeded,
        funnel: current_funnel(request).await?,
        results,
    };
    let status = if unsettled == 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = request.app.blocking(move |_| encode(&answer)).await?;
    let mut response = response(status, JSON, body.into());
    if unsettled > 0 {
        insert_header(&mut response, header::LOCATION, request.address("/connections"));
    }
    add_preference_applied(request, &mut response);
    Ok(response)
}

fn refused(index: usize, problem: ApiProblem, warnings: &[Problem], page: &mut PageBytes) -> BatchItem {
    let problem = problem.into_document();
    let mut item = RefusedItem {
        index,
        http_status: problem.status,
        status: if problem.status == 403 { "FORBIDDEN" } else { "INVALID" }.to_string(),
        code: problem.code,
        message: problem.detail,
        problems: problem.problems,
        warnings: warnings.iter().map(WarningBody::from).collect(),
    };
    if !page.fits(json_len(&item)) {
        item.problems.truncate(1);
        item.warnings.clear();
    }
    BatchItem::Refused(item)
}

/// Returns the current funnel of the policy's namespace, or `None` if the token may not read it.
///
/// # Errors
/// 500.
pub async fn current_funnel(request: &ApiRequest) -> Result<Option<Funnel>, ApiProblem> {
    let caller = request.caller()?.clone();
    request
        .app
        .blocking(move |app| {
            let policy = app.handle.policy();
            let snapshot = app.handle.registry.snapshot();
            let may_read = caller.may_read(&policy.namespace);
            let now = app.handle.clock.now();
            Ok(may_read.then(|| bounded_funnel(funnel(&snapshot, &policy.namespace, policy.slo.coverage, now))))
        })
        .await
}

/// Checks that the caller has access to `namespace` and that the namespace is not sealed.
///
/// # Errors
/// Returns 403 otherwise.
pub fn require_writable(request: &ApiRequest, namespace: &str) -> Result<(), ApiProblem> {
    writable(&request.app, request.caller()?, namespace)
}

fn writable(app: &App, caller: &Caller, namespace: &str) -> Result<(), ApiProblem> {
    caller.require_namespace(namespace)?;
    if app.handle.registry.snapshot().is_closed(namespace) {
        return Err(ApiProblem::sealed(namespace));
    }
    Ok(())
}

/// Appends the intents to the ledger. They are on disk when this returns.
async fn accept(request: &ApiRequest, intents: Vec<Intent>) -> Result<Vec<Acceptance>, ApiProblem> {
    let origin = Origin::api(request.caller()?.name());
    let documents = intents.into_iter().map(|intent| (intent, origin.clone())).collect();
    let accepted = match request.app.handle.registry.accept(documents).await {
        Err(refusal @ RegistryError::Sealed(_)) => return Err(refusal.into()),
        Err(error) => {
            request.app.handle.report_error(&error);
            return Err(error.into());
        }
        Ok(accepted) => accepted,
    };
    crate::fault::boundary("after_accept");
    request.app.handle.wake();
    Ok(accepted)
}

/// Returns the time at which the response is sent even if the pipeline has not finished.
#[must_use]
pub fn deadline(request: &ApiRequest) -> Instant {
    Instant::from_std(request.arrived) + request.wait.limit
}

/// Waits until an attempt for `id` that began after `since` has finished, until the deadline `until`, or until the
/// process stops. Returns true if the attempt has finished.
pub async fn wait_until_settled(request: &ApiRequest, id: ConnectionId, since: Timestamp, until: Instant) -> bool {
    let handle = &request.app.handle;
    let left: Duration = until.saturating_duration_since(Instant::now());
    let mut stopping = handle.stopping.subscribe();
    tokio::select! {
        biased;
        settled = handle.settled(id, since, left) => settled,
        () = stop_requested(&mut stopping) => handle.is_settled(id, since),
    }
}

/// As [`wait_until_settled`], for all of `ids`.
pub async fn wait_until_all_settled(request: &ApiRequest, ids: &[ConnectionId], since: Timestamp, until: Instant) {
    let handle = &request.app.handle;
    let left: Duration = until.saturating_duration_since(Instant::now());
    let mut stopping = handle.stopping.subscribe();
    tokio::select! {
        biased;
        () = handle.all_settled(ids, since, left) => {}
        () = stop_requested(&mut stopping) => {}
    }
}

/// Returns the result body for one connection that the caller pushed, as far as its token may read it, and whether an
/// attempt had a result for it. Both describe the same instant, so a status that is final is never answered with 202.
///
/// A brief result does not contain what the intent and the steps say, and is built without reading the ledger.
fn pushed_result(app: &App, caller: &Caller, id: ConnectionId, is_brief: bool) -> Result<(ConnectionResult, bool), ApiProblem> {
    let known = find_connection(app, id)?;
    let has_result = match known.state() {
        State::Pending => false,
        State::Retired => true,
        _ => app.handle.has_result(id, &known),
    };
    let may_read = caller.may_read(&known.namespace);
    let result = match may_read && !is_brief {
        true => result_of(app, id, known)?,
        false => brief_result(app, id, &known),
    };
    Ok((if may_read { result } else { result.state_only() }, has_result))
}

/// Replaces the warnings about unknown fields with those of the parser, which have better hints.
fn add_warnings(result: &mut ConnectionResult, warnings: Vec<Problem>) {
    result.warnings.retain(|warning| warning.pointer.starts_with("/steps/"));
    result.warnings.splice(0..0, warnings.iter().map(WarningBody::from));
}

/// Adds the Preference-Applied header.
pub fn add_preference_applied(request: &ApiRequest, response: &mut axum::response::Response) {
    if let Some(applied) = &request.wait.applied {
        insert_header(response, PREFERENCE_APPLIED, applied.clone());
    }
}
