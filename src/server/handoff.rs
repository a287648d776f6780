//! Candidates that a discovery tool hands over: `POST /api/handoff/aod/receive`, and what became of them.
//!
//! The policy supplies what a candidate lacks (`handoff.vendors`). The answer is recorded with the candidates, so that the
//! same run is answered with the same bytes again, also after a restart.

use super::bounded::{PageBytes, json_len};
use super::handoff_status::{HandoffHold, Withdrawals, candidate_status};
use super::onboard::{MAX_BATCH_BYTES, require_writable};
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::read::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, invalid_cursor};
use super::request::{ApiRequest, ApiResult, JSON, encode, insert_header, json, response};
use crate::handoff::{self, Candidate, Decision, HandoffRequest, JudgedCandidate, Judgement, RejectionType};
use crate::model::ledger::HandoffFacts;
use crate::model::{Intent, Origin, Timestamp};
use crate::policy::Policy;
use crate::registry::{HandoffReceipt, NewHandoff};
use crate::report::holds::HeldBody;
use crate::snapshot::{Handoff, Snapshot};
use axum::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// The answer to a handoff. The same run with the same content is answered with the same bytes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandoffAnswer {
    /// The id to ask with: `GET /api/handoff/aod/{handoff_id}`.
    pub handoff_id: String,
    pub aod_discovery_id: String,
    pub tenant_id: String,
    pub entity_id: String,
    /// The namespace of the connections.
    pub namespace: String,
    pub candidates_received: usize,
    /// The candidates that are recorded, to be connected or for the inventory only.
    pub candidates_accepted: usize,
    pub candidates_rejected: usize,
    /// The accepted candidates that are never connected, because `execution_allowed` is false or `action_type` is
    /// `inventory_only`.
    pub candidates_inventory_only: usize,
    /// The number of different connections that the other accepted candidates ask for.
    pub connections: usize,
    /// The connections that an earlier handoff of the same token asked for and that this one does not allow. They are retired,
    /// and AAM does not call them any more, unless a file or a push asks for them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections_withdrawn: Vec<String>,
    /// Set if `connections_withdrawn` are not retired until that is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HandoffHold>,
    pub rejected_reasons: Vec<RejectedCandidate>,
    /// RFC 3339.
    pub processed_at: String,
}

/// A candidate that was not accepted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RejectedCandidate {
    pub aod_asset_id: String,
    pub asset_key: String,
    /// What is wrong, and what to do.
    pub reason: String,
    pub rejection_type: RejectionType,
}

/// One page of handoffs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandoffPage {
    pub namespace: String,
    /// The number of handoffs on all pages.
    pub total: usize,
    pub handoffs: Vec<HandoffSummary>,
    /// Send it as `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A handoff without its candidates.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandoffSummary {
    pub handoff_id: String,
    pub aod_discovery_id: String,
    pub tenant_id: String,
    pub entity_id: String,
    /// The name of the token that handed the candidates over.
    pub token: String,
    pub candidates_received: u32,
    pub candidates_accepted: u32,
    pub candidates_rejected: u32,
    pub candidates_inventory_only: u32,
    /// RFC 3339.
    pub processed_at: String,
}

/// A handoff with one page of its candidates, in the order in which they were handed over.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandoffDetail {
    pub namespace: String,
    #[serde(flatten)]
    pub summary: HandoffSummary,
    pub candidates: Vec<CandidateStatus>,
    /// Send it as `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A candidate and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CandidateStatus {
    #[serde(flatten)]
    pub candidate: Candidate,
    /// connect, inventory_only or rejected.
    pub decision: String,
    /// The connection that the candidate asks for; with inventory_only, the connection that AAM has or had for its vendor.
    pub connection_id: Option<String>,
    /// The present state of that connection.
    pub status: Option<String>,
    /// The change that would make the connection leave, if it is held until somebody confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldBody>,
    /// Why the candidate was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection_type: Option<RejectionType>,
}

/// What is recorded with a handoff.
#[derive(Serialize, Deserialize)]
struct RecordedHandoff {
    /// The answer as it was sent.
    answer: String,
    candidates: Vec<JudgedCandidate>,
}

/// `POST /api/handoff/aod/receive`
///
/// Answers as soon as the candidates are on disk. The connections are attempted in the background.
///
/// # Errors
/// 400, 403, 408, 409, 413, 415, 422, 503.
pub async fn receive(mut request: ApiRequest) -> ApiResult {
    let body = request.json(MAX_BATCH_BYTES, false).await?.unwrap_or_default();
    let parse = move |_: &super::app::App| {
        handoff::parse(&body).map_err(|refusal| ApiProblem::handoff_refused(&refusal, MAX_BATCH_BYTES))
    };
    let received = request.app.blocking(parse).await?;
    let policy = request.app.handle.policy();
    let namespace = namespace_of(&request, &policy, &received)?;
    require_writable(&request, &namespace)?;
    let known = known(&request.app.handle.registry.snapshot(), &namespace, &received.run);
    if let Some(known) = known {
        return repeated(&request, &received, known.facts.content, known.seq).await;
    }
    let token = request.caller()?.name().to_string();
    let (run, content) = (received.run.clone(), received.content);
    let app = Arc::clone(&request.app);
    let (new, answer) = request.app.blocking(move |_| build(&app, &policy, namespace, &received, token)).await?;
    let handoff_id = new.facts.handoff.clone();
    let handle = &request.app.handle;
    let receipt = handle.registry.hand_over(new).await.inspect_err(|error| handle.report_error(error))?;
    match receipt {
        HandoffReceipt::Recorded => {
            handle.wake();
            Ok(answered(answer, &handoff_id))
        }
        // The same run was handed over by another request meanwhile.
        HandoffReceipt::Known { content: recorded, seq } => {
            let same = HandoffRequest { run, content, ..HandoffRequest::default() };
            repeated(&request, &same, recorded, seq).await
        }
    }
}

/// Returns the namespace of the connections: the one that the policy gives to the tenant or entity; else the tenant or the
/// entity, if the token names it as a namespace of its own; else the policy's namespace.
fn namespace_of(request: &ApiRequest, policy: &Policy, received: &HandoffRequest) -> Result<String, ApiProblem> {
    let (tenant, entity) = (received.tenant_id.as_str(), received.entity_id.as_str());
    if let Some(namespace) = policy.handoff.namespace(tenant, entity) {
        return Ok(namespace.to_string());
    }
    let caller = request.caller()?;
    let named = [tenant, entity].into_iter().find(|name| caller.lists_namespace(name));
    Ok(named.unwrap_or(&policy.namespace).to_string())
}

fn known(snapshot: &Snapshot, namespace: &str, run: &str) -> Option<Handoff> {
    snapshot.handoffs.get(&(namespace.to_string(), run.to_string())).cloned()
}

/// Decides about the candidates and builds what is recorded.
fn build(
    app: &super::app::App,
    policy: &Policy,
    namespace: String,
    received: &HandoffRequest,
    token: String,
) -> Result<(NewHandoff, String), ApiProblem> {
    let now = app.handle.clock.now();
    let origin = Origin::handoff(&token);
    let at = received.sent_at.unwrap_or(now).min(now);
    let Judgement { candidates, intents, not_allowed } = handoff::judge(&received.candidates, policy, &namespace, at);
    let documents = intents
        .into_iter()
        .map(|intent| Ok((handoff::with_known_time(intent.clone(), desired_before(app, &origin, &intent)?), origin.clone())))
        .collect::<Result<Vec<(Intent, Origin)>, ApiProblem>>()?;
    let handoff_id = handoff_id(&namespace, &received.run);
    let withdrawals = Withdrawals::find(app, policy, (namespace.as_str(), &origin), &not_allowed, now);
    let answer = answer(&handoff_id, &namespace, received, &candidates, (documents.len(), withdrawals), now);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let facts = HandoffFacts {
        handoff: handoff_id,
        run: received.run.clone(),
        tenant_id: received.tenant_id.clone(),
        entity_id: received.entity_id.clone(),
        token,
        content: received.content,
        received: count(answer.candidates_received),
        accepted: count(answer.candidates_accepted),
        rejected: count(answer.candidates_rejected),
        inventory_only: count(answer.candidates_inventory_only),
    };
    let answer = String::from_utf8(encode(&answer)?).unwrap_or_default();
    let body = encode(&RecordedHandoff { answer: answer.clone(), candidates })?;
    let body = String::from_utf8(body).unwrap_or_default();
    Ok((NewHandoff { namespace, facts, body, documents, origin, withdrawn: not_allowed }, answer))
}

/// Returns the document with which `origin` desires the connection of `intent` already.
fn desired_before(app: &super::app::App, origin: &Origin, intent: &Intent) -> Result<Option<Intent>, ApiProblem> {
    let seq = {
        let snapshot = app.handle.registry.snapshot();
        let known = snapshot.connections.get(&intent.connection_id());
        known.and_then(|known| Some(known.origins.iter().find(|desired| desired.origin == *origin)?.seq))
    };
    let Some(seq) = seq else { return Ok(None) };
    let body = app.handle.registry.reader().body(seq)?;
    Ok(body.and_then(|text| serde_json::from_str(&text).ok()))
}

fn answer(
    handoff_id: &str,
    namespace: &str,
    received: &HandoffRequest,
    candidates: &[JudgedCandidate],
    (connections, withdrawals): (usize, Withdrawals),
    now: Timestamp,
) -> HandoffAnswer {
    let rejected_reasons: Vec<RejectedCandidate> = candidates
        .iter()
        .filter_map(|judged| match &judged.decision {
            Decision::Rejected { reason, rejection_type } => Some(RejectedCandidate {
                aod_asset_id: judged.candidate.aod_asset_id.clone(),
                asset_key: judged.candidate.asset_key.clone(),
                reason: reason.clone(),
                rejection_type: *rejection_type,
            }),
            Decision::Connect { .. } | Decision::InventoryOnly { .. } => None,
        })
        .collect();
    let is_inventory_only = |judged: &&JudgedCandidate| matches!(judged.decision, Decision::InventoryOnly { .. });
    HandoffAnswer {
        handoff_id: handoff_id.to_string(),
        aod_discovery_id: received.run.clone(),
        tenant_id: received.tenant_id.clone(),
        entity_id: received.entity_id.clone(),
        namespace: namespace.to_string(),
        candidates_received: candidates.len(),
        candidates_accepted: candidates.len() - rejected_reasons.len(),
        candidates_rejected: rejected_reasons.len(),
        candidates_inventory_only: candidates.iter().filter(is_inventory_only).count(),
        connections,
        connections_withdrawn: withdrawals.connections.iter().map(ToString::to_string).collect(),
        held: withdrawals.held,
        rejected_reasons,
        processed_at: now.rfc3339(),
    }
}

/// The id of a handoff: the same run in the same namespace has the same id everywhere.
fn handoff_id(namespace: &str, run: &str) -> String {
    let name = format!("handoff {}:{namespace}{}:{run}", namespace.len(), run.len());
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).hyphenated().to_string()
}

/// Answers a run that is recorded: with the recorded answer, or with 409 if the content is not the same.
async fn repeated(request: &ApiRequest, received: &HandoffRequest, recorded: crate::model::Digest, seq: u64) -> ApiResult {
    if recorded != received.content {
        let detail = format!(
            "The discovery run {} was handed over with other content. Nothing was changed. Hand changed candidates over with a new aod_discovery_id; GET /api/handoff/aod lists what was received.",
            received.run
        );
        return Err(ApiProblem::new(StatusCode::CONFLICT, ProblemCode::HandoffChanged, "Other content for a known run", detail));
    }
    let recorded = request.app.blocking(move |app| read(app, seq)).await?;
    let id = serde_json::from_str::<HandoffAnswer>(&recorded.answer).map(|answer| answer.handoff_id).unwrap_or_default();
    Ok(answered(recorded.answer, &id))
}

fn answered(answer: String, handoff_id: &str) -> axum::response::Response {
    let mut response = response(StatusCode::OK, JSON, answer.into());
    insert_header(&mut response, header::LOCATION, format!("/api/handoff/aod/{handoff_id}"));
    response
}

fn read(app: &super::app::App, seq: u64) -> Result<RecordedHandoff, ApiProblem> {
    let body = app.handle.registry.reader().body(seq)?.unwrap_or_default();
    serde_json::from_str(&body).map_err(|_| ApiProblem::defect("The recorded handoff cannot be read."))
}

/// `GET /api/handoff/aod`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let limit = request.query.number("limit", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?;
    let before: u64 = cursor(&request)?.unwrap_or(u64::MAX);
    let snapshot = request.app.handle.registry.snapshot();
    let first = (namespace.clone(), String::new());
    let of_namespace = snapshot.handoffs.range(first..).take_while(|((of, _), _)| *of == namespace);
    let mut all: Vec<&Handoff> = of_namespace.map(|(_, handoff)| handoff).collect();
    let total = all.len();
    all.retain(|handoff| handoff.seq < before);
    all.sort_by_key(|handoff| std::cmp::Reverse(handoff.seq));
    let more = all.len() > limit;
    all.truncate(limit);
    let next_cursor = all.last().filter(|_| more).map(|handoff| handoff.seq.to_string());
    let handoffs = all.into_iter().map(summary).collect();
    drop(snapshot);
    json(StatusCode::OK, &HandoffPage { namespace, total, handoffs, next_cursor })
}

/// `GET /api/handoff/aod/{handoff_id}`
///
/// # Errors
/// 400, 404, 503.
pub async fn detail(request: ApiRequest) -> ApiResult {
    let id = request.path.rsplit('/').next().unwrap_or_default().to_string();
    let limit = request.query.number("limit", MAX_PAGE_SIZE, MAX_PAGE_SIZE)?;
    let start: usize = cursor(&request)?.unwrap_or(0);
    let missing = || {
        ApiProblem::not_found(
            "No handoff with this id, or the token is not allowed in its namespace. GET /api/handoff/aod lists the handoffs.",
        )
    };
    let caller = request.caller()?;
    let found = {
        let snapshot = request.app.handle.registry.snapshot();
        let same = |handoff: &&Handoff| handoff.facts.handoff == id || handoff.facts.run == id;
        let mut visible = snapshot.handoffs.iter().filter(|((namespace, _), _)| caller.may_see(namespace));
        visible.find(|(_, handoff)| same(handoff)).map(|((namespace, _), handoff)| (namespace.clone(), handoff.clone()))
    };
    let (namespace, handoff) = found.ok_or_else(missing)?;
    let seq = handoff.seq;
    let recorded = request.app.blocking(move |app| read(app, seq)).await?;
    let (mut page, mut candidates) = (PageBytes::default(), Vec::new());
    let all = recorded.candidates.len();
    {
        let snapshot = request.app.handle.registry.snapshot();
        let holds = request.app.handle.holds.load();
        for judged in recorded.candidates.into_iter().skip(start).take(limit) {
            let status = candidate_status(judged, &snapshot, &holds);
            if !page.fits(json_len(&status)) {
                break;
            }
            candidates.push(status);
        }
    }
    let end = start.saturating_add(candidates.len());
    let next_cursor = (end < all).then(|| end.to_string());
    json(StatusCode::OK, &HandoffDetail { namespace, summary: summary(&handoff), candidates, next_cursor })
}

/// Reads the parameter `cursor`.
fn cursor<T: std::str::FromStr>(request: &ApiRequest) -> Result<Option<T>, ApiProblem> {
    request.query.get("cursor").map(|text| text.parse().map_err(|_| invalid_cursor())).transpose()
}

fn summary(handoff: &Handoff) -> HandoffSummary {
    let facts = &handoff.facts;
    HandoffSummary {
        handoff_id: facts.handoff.clone(),
        aod_discovery_id: facts.run.clone(),
        tenant_id: facts.tenant_id.clone(),
        entity_id: facts.entity_id.clone(),
        token: facts.token.clone(),
        candidates_received: facts.received,
        candidates_accepted: facts.accepted,
        candidates_rejected: facts.rejected,
        candidates_inventory_only: facts.inventory_only,
        processed_at: handoff.at.rfc3339(),
    }
}
