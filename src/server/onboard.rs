//! Intents that are pushed over the API. They use the same parser and the same ledger as intents from the folder.

use super::auth::Caller;
use super::bounded::{PageBytes, bounded_funnel, json_len, shorten};
use super::listen::stop_requested;
use super::prefer::PREFERENCE_APPLIED;
use super::problem::{ApiProblem, ProblemItem};
use super::problem_code::ProblemCode;
use super::read::connection_result;
use super::request::{ApiRequest, ApiResult, insert_header, json};
use crate::funnel::{Funnel, funnel};
use crate::intake::wire::{self, Item, Limits};
use crate::model::{ConnectionId, Intent, Origin, State, Timestamp};
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
/// contain steps and warnings.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    pub total: usize,
    /// The number of items that were accepted, in whatever state they are now.
    pub succeeded: usize,
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
    #[serde(flatten)]
    pub result: ConnectionResult,
}

/// An item that was not recorded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusedItem {
    pub index: usize,
    /// The status that a single push would have returned: 403 or 422.
    pub http_status: u16,
    /// Always INVALID, which is not a state of a connection.
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
            let problem = crate::model::Problem::new("", "expected one object, found a list of intents")
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
    let settled = wait_until_settled(&request, id, Timestamp(0), deadline(&request)).await;
    let mut result = result(&request, id).await?;
    add_warnings(&mut result, warnings);
    single(&request, change, settled, result)
}

/// Builds the response to a single push. A 409 includes the result, because the intent was recorded.
fn single(request: &ApiRequest, change: IntentChange, settled: bool, result: ConnectionResult) -> ApiResult {
    let status = status_of(change, settled, &result);
    if status == StatusCode::CONFLICT {
        let detail = match &result.error {
            Some(error) => format!("{} {}", result.message, error.fix),
            None => result.message.clone(),
        };
        let mut problem = ApiProblem::new(status, ProblemCode::Unsupported, "Unsupported source type", detail.trim());
        problem.result = Some(Box::new(result));
        return Err(problem);
    }
    let location = format!("/connections/{}", result.connection_id);
    let mut response = json(status, &result)?;
    insert_header(&mut response, header::LOCATION, location);
    add_preference_applied(request, &mut response);
    Ok(response)
}

fn status_of(change: IntentChange, settled: bool, result: &ConnectionResult) -> StatusCode {
    if !settled {
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
    let limits = Limits { bytes: MAX_BATCH_BYTES, items: MAX_BATCH_ITEMS, ..Limits::default() };
    let parsed = request
        .app
        .blocking(move |_| {
            wire::parse_batch_as(format, &body, &limits).map_err(|refusal| ApiProblem::refused(&refusal, MAX_BATCH_BYTES))
        })
        .await?;
    let mut results: Vec<Option<BatchItem>> = Vec::with_capacity(parsed.items.len());
    let (mut intents, mut indices, mut page) = (Vec::new(), Vec::new(), PageBytes::default());
    for (index, item) in parsed.items.into_iter().enumerate() {
        let checked = item.outcome.map_err(|refusal| ApiProblem::refused(&refusal, MAX_BATCH_BYTES)).and_then(|intent| {
            match json_len(&intent) > MAX_BODY_BYTES {
                true => Err(ApiProblem::too_large(MAX_BODY_BYTES)),
                false => require_writable(&request, &intent.namespace).map(|()| intent),
            }
        });
        match checked {
            Ok(intent) => {
                intents.push(intent);
                indices.push((index, item.warnings));
                results.push(None);
            }
            Err(problem) => results.push(Some(refused(index, problem, &item.warnings, &mut page))),
        }
    }
    let accepted = match intents.is_empty() {
        true => Vec::new(),
        false => accept(&request, intents).await?,
    };
    let until = deadline(&request);
    for ((index, warnings), accepted) in indices.into_iter().zip(accepted) {
        let settled = wait_until_settled(&request, accepted.connection, Timestamp(0), until).await;
        let mut result = result(&request, accepted.connection).await?;
        add_warnings(&mut result, warnings);
        shorten(&mut page, &mut result);
        let http_status = status_of(accepted.change, settled, &result).as_u16();
        if let Some(slot) = results.get_mut(index) {
            *slot = Some(BatchItem::Accepted(Box::new(AcceptedItem { index, http_status, result })));
        }
    }
    let results: Vec<BatchItem> = results.into_iter().flatten().collect();
    let succeeded = results.iter().filter(|item| item.succeeded()).count();
    let answer = BatchAnswer {
        total: results.len(),
        succeeded,
        failed: results.len() - succeeded,
        funnel: current_funnel(&request).await?,
        results,
    };
    let mut response = json(StatusCode::OK, &answer)?;
    add_preference_applied(&request, &mut response);
    Ok(response)
}

impl BatchItem {
    fn succeeded(&self) -> bool {
        match self {
            BatchItem::Accepted(item) => item.http_status < 400,
            BatchItem::Refused(_) => false,
        }
    }
}

fn refused(index: usize, problem: ApiProblem, warnings: &[crate::model::Problem], page: &mut PageBytes) -> BatchItem {
    let problem = problem.into_document();
    let mut item = RefusedItem {
        index,
        http_status: problem.status,
        status: "INVALID".to_string(),
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
    let caller: &Caller = request.caller()?;
    caller.require_namespace(namespace)?;
    if request.app.handle.registry.snapshot().is_closed(namespace) {
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
    Instant::now() + request.wait.limit
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

/// Returns the result body for one connection that the caller pushed, as far as its token may read it.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
async fn result(request: &ApiRequest, id: ConnectionId) -> Result<ConnectionResult, ApiProblem> {
    let result = request.app.blocking(move |app| connection_result(app, id)).await?;
    Ok(if request.caller()?.may_read(&result.namespace) { result } else { result.for_writer() })
}

/// Replaces the warnings about unknown fields with those of the parser, which have better hints.
fn add_warnings(result: &mut ConnectionResult, warnings: Vec<crate::model::Problem>) {
    result.warnings.retain(|warning| warning.pointer.starts_with("/steps/"));
    result.warnings.splice(0..0, warnings.iter().map(WarningBody::from));
}

/// Adds the Preference-Applied header.
pub fn add_preference_applied(request: &ApiRequest, response: &mut axum::response::Response) {
    if let Some(applied) = &request.wait.applied {
        insert_header(response, PREFERENCE_APPLIED, applied.clone());
    }
}
