//! Pushed intents: the same parser and the same ledger as the folder.

use super::auth::{Caller, DEMO};
use super::call::{Answer, Call, json, put};
use super::listen::asked_to_stop;
use super::prefer::PREFERENCE_APPLIED;
use super::problem::{Problem, ProblemItem};
use super::read::one;
use crate::funnel::{Funnel, funnel};
use crate::intake::wire::{self, Item, Limits};
use crate::model::{ConnectionId, Intent, Origin, State, Timestamp};
use crate::registry::{Acceptance, How, RegistryError};
use crate::report::result::{ConnectionResult, WarningBody};
use axum::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// Bytes of a single push.
pub const MAX_BODY: usize = 1 << 20;
/// Bytes of a batch.
pub const MAX_BATCH: usize = 16 << 20;

/// The answer of a batch: one result for each item, in the order of the batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    pub total: usize,
    /// Items that were accepted, whatever their state is now.
    pub succeeded: usize,
    /// Items that a single push would have answered with an error.
    pub failed: usize,
    pub results: Vec<BatchItem>,
    /// The funnel of the policy's namespace after the batch.
    pub funnel: Funnel,
}

/// What became of one item.
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
    /// What a single push would have answered: 201, 200, 202, or 409 for an unsupported type.
    pub http_status: u16,
    #[serde(flatten)]
    pub result: ConnectionResult,
}

/// An item that was not recorded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusedItem {
    pub index: usize,
    /// What a single push would have answered: 403 or 422.
    pub http_status: u16,
    /// Always INVALID: this is no state of a connection.
    pub status: String,
    pub code: String,
    /// One plain sentence.
    pub message: String,
    pub problems: Vec<ProblemItem>,
    pub warnings: Vec<WarningBody>,
}

/// `POST /connections/onboard`
///
/// # Errors
/// Every refusal of the contract.
pub async fn onboard(mut call: Call) -> Answer {
    let body = call.json(MAX_BODY, false).await?.unwrap_or_default();
    let limits = Limits { bytes: MAX_BODY, ..Limits::default() };
    let list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let parsed = wire::parse(&body, &limits).map_err(|refusal| Problem::refused(&refusal, MAX_BODY))?;
    let item = match parsed.items.into_iter().next() {
        Some(item) if !list => item,
        _ => {
            let problem = crate::model::Problem::new("", "expected one object, found an array")
                .hint("send a list to POST /connections/onboard/batch as {\"intents\": [ … ]}");
            return Err(Problem::refused(&wire::Refusal { fault: wire::Fault::Invalid, problems: vec![problem] }, MAX_BODY));
        }
    };
    let Item { outcome, warnings } = item;
    let intent = outcome.map_err(|refusal| Problem::refused(&refusal, MAX_BODY))?;
    may_write(&call, &intent.namespace)?;
    let (id, how) = accept(&call, vec![intent])
        .await?
        .first()
        .map_or(Err(Problem::defect("The registry answered nothing.")), |taken| Ok((taken.connection, taken.how)))?;
    let settled = settle(&call, id, Timestamp(0), deadline(&call)).await;
    let mut result = result(&call, id).await?;
    add_warnings(&mut result, warnings);
    single(&call, how, settled, result)
}

/// The answer of a single push; 409 carries the result too, because it was recorded and counted.
fn single(call: &Call, how: How, settled: bool, result: ConnectionResult) -> Answer {
    let status = status_of(how, settled, &result);
    if status == StatusCode::CONFLICT {
        let detail = match &result.error {
            Some(error) => format!("{} {}", result.message, error.fix),
            None => result.message.clone(),
        };
        let mut problem = Problem::new(status, "UNSUPPORTED", "The source type is not supported", detail.trim());
        problem.result = Some(Box::new(result));
        return Err(problem);
    }
    let location = format!("/connections/{}", result.connection_id);
    let mut response = json(status, &result)?;
    put(&mut response, header::LOCATION, location);
    applied(call, &mut response);
    Ok(response)
}

fn status_of(how: How, settled: bool, result: &ConnectionResult) -> StatusCode {
    if !settled {
        return StatusCode::ACCEPTED;
    }
    match how {
        _ if result.status == State::Unsupported.as_str() => StatusCode::CONFLICT,
        How::Created => StatusCode::CREATED,
        How::Changed | How::Unchanged => StatusCode::OK,
    }
}

/// `POST /connections/onboard/batch`
///
/// # Errors
/// Only what concerns the batch as a whole.
pub async fn batch(mut call: Call) -> Answer {
    let body = call.json(MAX_BATCH, false).await?.unwrap_or_default();
    let limits = Limits { bytes: MAX_BATCH, ..Limits::default() };
    let parsed = call
        .app
        .blocking(move |_| wire::parse_batch(&body, &limits).map_err(|refusal| Problem::refused(&refusal, MAX_BATCH)))
        .await?;
    let mut results: Vec<Option<BatchItem>> = Vec::with_capacity(parsed.items.len());
    let (mut good, mut places) = (Vec::new(), Vec::new());
    for (index, item) in parsed.items.into_iter().enumerate() {
        let checked = item
            .outcome
            .map_err(|refusal| Problem::refused(&refusal, MAX_BATCH))
            .and_then(|intent| may_write(&call, &intent.namespace).map(|()| intent));
        match checked {
            Ok(intent) => {
                good.push(intent);
                places.push((index, item.warnings));
                results.push(None);
            }
            Err(problem) => results.push(Some(refused(index, problem, &item.warnings))),
        }
    }
    let taken = match good.is_empty() {
        true => Vec::new(),
        false => accept(&call, good).await?,
    };
    let until = deadline(&call);
    for ((index, warnings), taken) in places.into_iter().zip(taken) {
        let settled = settle(&call, taken.connection, Timestamp(0), until).await;
        let mut result = result(&call, taken.connection).await?;
        add_warnings(&mut result, warnings);
        let http_status = status_of(taken.how, settled, &result).as_u16();
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
        funnel: funnel_now(&call).await?,
        results,
    };
    let mut response = json(StatusCode::OK, &answer)?;
    applied(&call, &mut response);
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

fn refused(index: usize, problem: Problem, warnings: &[crate::model::Problem]) -> BatchItem {
    let problem = problem.into_document();
    BatchItem::Refused(RefusedItem {
        index,
        http_status: problem.status,
        status: "INVALID".to_string(),
        code: problem.code,
        message: problem.detail,
        problems: problem.problems,
        warnings: warnings.iter().map(WarningBody::from).collect(),
    })
}

/// The funnel of the policy's namespace, after a write.
///
/// # Errors
/// When it cannot be made.
pub async fn funnel_now(call: &Call) -> Result<Funnel, Problem> {
    call.app
        .blocking(|app| {
            let policy = app.handle.policy();
            let snapshot = app.handle.registry.snapshot();
            Ok(funnel(&snapshot, &policy.namespace, policy.slo.coverage, app.handle.clock.now()))
        })
        .await
}

/// 403 unless the caller may write into `namespace` and the namespace takes entries.
///
/// # Errors
/// The problem to answer with.
pub fn may_write(call: &Call, namespace: &str) -> Result<(), Problem> {
    let caller: &Caller = call.caller()?;
    caller.must_see(namespace)?;
    if namespace == DEMO || call.app.handle.registry.snapshot().sealed.contains(namespace) {
        return Err(Problem::sealed(namespace));
    }
    Ok(())
}

/// Appends; the documents are on disk when this returns.
async fn accept(call: &Call, intents: Vec<Intent>) -> Result<Vec<Acceptance>, Problem> {
    let origin = Origin::api(call.caller()?.name());
    let documents = intents.into_iter().map(|intent| (intent, origin.clone())).collect();
    let taken = match call.app.handle.registry.accept(documents).await {
        Err(refusal @ RegistryError::Sealed(_)) => return Err(refusal.into()),
        Err(error) => {
            call.app.handle.report_error(&error);
            return Err(error.into());
        }
        Ok(taken) => taken,
    };
    crate::fault::boundary("after_accept");
    call.app.handle.wake();
    Ok(taken)
}

/// When an answer goes out whether the pipeline is through or not.
#[must_use]
pub fn deadline(call: &Call) -> Instant {
    Instant::now() + call.wait.limit
}

/// Waits until `id` is settled, the deadline has come, or the process stops.
pub async fn settle(call: &Call, id: ConnectionId, since: Timestamp, until: Instant) -> bool {
    let handle = &call.app.handle;
    let left: Duration = until.saturating_duration_since(Instant::now());
    let mut stopping = handle.stopping.subscribe();
    tokio::select! {
        biased;
        settled = handle.settled(id, since, left) => settled,
        () = asked_to_stop(&mut stopping) => handle.is_settled(id, since),
    }
}

/// Everything about one connection, after a write.
///
/// # Errors
/// When the registry cannot be read.
pub async fn result(call: &Call, id: ConnectionId) -> Result<ConnectionResult, Problem> {
    call.app.blocking(move |app| one(app, id)).await
}

/// The parser's own words about unknown fields are better than those made from the stored document.
fn add_warnings(result: &mut ConnectionResult, warnings: Vec<crate::model::Problem>) {
    result.warnings.retain(|known| known.pointer.starts_with("/steps/"));
    result.warnings.splice(0..0, warnings.iter().map(WarningBody::from));
}

/// Says which preference was honoured.
pub fn applied(call: &Call, response: &mut axum::response::Response) {
    if let Some(applied) = &call.wait.applied {
        put(response, PREFERENCE_APPLIED, applied.clone());
    }
}
