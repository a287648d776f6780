//! Parses what a discovery tool hands over, and turns its candidates into intents with what the policy supplies. Pure.
//!
//! Each candidate has its own result, so an invalid one does not affect the others.

use crate::intake::{Fault, Refusal, json, leaks, wire};
use crate::model::text::is_unprintable;
use crate::model::{ConnectionId, Digest, Intent, Problem, Timestamp};
use crate::policy::Policy;
use crate::policy::handoff::HandoffVendor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The maximum number of candidates in one handoff.
pub const MAX_CANDIDATES: usize = 10_000;
/// The maximum length of a text of a candidate, in characters.
const MAX_TEXT_CHARS: usize = 512;
/// The maximum length of the ids of the handoff, in characters.
const MAX_ID_CHARS: usize = 200;
/// The number of endpoints of a candidate that are recorded.
const MAX_ENDPOINTS: usize = 20;
/// The nesting depth of the body.
const MAX_DEPTH: usize = 32;

/// A handoff whose envelope is valid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HandoffRequest {
    /// The id of the discovery run.
    pub run: String,
    pub tenant_id: String,
    pub entity_id: String,
    /// When the tool sent it, if it says so.
    pub sent_at: Option<Timestamp>,
    /// The digest of the content, without the time of sending and without regard to the order of keys.
    pub content: Digest,
    pub candidates: Vec<Value>,
}

/// One candidate as it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    /// The id that the tool gave to the asset; empty if it gave none.
    #[serde(default)]
    pub aod_asset_id: String,
    /// The key of the asset, often its domain.
    #[serde(default)]
    pub asset_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governance_status: Option<String>,
    /// The first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_endpoints: Vec<String>,
    #[serde(default)]
    pub execution_allowed: bool,
    /// `provision` or `inventory_only`.
    #[serde(default)]
    pub action_type: String,
}

/// A candidate and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedCandidate {
    #[serde(flatten)]
    pub candidate: Candidate,
    pub decision: Decision,
}

/// What becomes of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// It is desired as this connection.
    Connect {
        connection: ConnectionId,
    },
    /// It is recorded and never connected.
    InventoryOnly {
        /// The connection of its vendor, if no candidate of the handoff asks for it. An earlier handoff may have done so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<ConnectionId>,
    },
    Rejected {
        reason: String,
        rejection_type: RejectionType,
    },
}

/// Why a candidate is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectionType {
    /// A field is missing or not valid.
    Validation,
    /// The same asset is in the handoff already.
    Duplicate,
    /// The policy has no entry for the vendor.
    UnmappedVendor,
    /// The entry of the policy for the vendor does not give a valid intent.
    Policy,
}

/// Parses the envelope.
///
/// # Errors
/// If the text is not JSON, or if the envelope is not valid; then with all its problems.
pub fn parse(bytes: &[u8]) -> Result<HandoffRequest, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| not_json("is not valid UTF-8"))?;
    // Of a field that occurs twice, the last one counts, as in most JSON parsers.
    let (value, _) = json::read(text, MAX_DEPTH).map_err(|syntax| {
        let problem = Problem::new("", format!("is not valid JSON: {}", syntax.message)).at(syntax.place);
        Refusal { fault: if syntax.too_deep { Fault::Invalid } else { Fault::NotJson }, problems: vec![problem] }
    })?;
    let Value::Object(mut fields) = value else {
        let hint = "send {\"aod_discovery_id\": …, \"tenant_id\": …, \"entity_id\": …, \"candidates\": [ … ]}";
        return Err(invalid(vec![Problem::new("", "expected an object").hint(hint)]));
    };
    let mut problems = Vec::new();
    // Earlier generations of the tool call it run_id.
    let run = ["aod_discovery_id", "run_id", "aod_run_id"].into_iter().find(|name| fields.contains_key(*name));
    let run = id(&fields, run.unwrap_or("aod_discovery_id"), &mut problems);
    let tenant_id = id(&fields, "tenant_id", &mut problems);
    let entity_id = id(&fields, "entity_id", &mut problems);
    let sent_at = fields.remove("handoff_timestamp");
    let sent_at = sent_at.as_ref().and_then(Value::as_str).and_then(|text| Timestamp::parse(text).ok());
    let mut content = Value::Object(fields.clone());
    content.sort_all_objects();
    let candidates = match fields.remove("candidates") {
        Some(Value::Array(candidates)) if candidates.len() > MAX_CANDIDATES => {
            let message = format!("has {} candidates, and the limit is {MAX_CANDIDATES}", candidates.len());
            let problem = Problem::new("/candidates", message).hint("send several handoffs, each with its own run id");
            return Err(Refusal { fault: Fault::TooLarge, problems: vec![problem] });
        }
        Some(Value::Array(candidates)) => candidates,
        Some(_) => {
            problems.push(Problem::new("/candidates", "expected an array"));
            Vec::new()
        }
        None => {
            problems.push(Problem::new("/candidates", "the required field candidates is missing"));
            Vec::new()
        }
    };
    match problems.is_empty() {
        true => Ok(HandoffRequest {
            run,
            tenant_id,
            entity_id,
            sent_at,
            content: Digest::from_bytes(content.to_string().as_bytes()),
            candidates,
        }),
        false => Err(invalid(problems)),
    }
}

fn not_json(message: &str) -> Refusal {
    Refusal { fault: Fault::NotJson, problems: vec![Problem::new("", message)] }
}

fn invalid(problems: Vec<Problem>) -> Refusal {
    Refusal { fault: Fault::Invalid, problems }
}

/// Reads an id of the envelope.
fn id(fields: &Map<String, Value>, name: &str, problems: &mut Vec<Problem>) -> String {
    let pointer = format!("/{name}");
    let problem = match fields.get(name) {
        None | Some(Value::Null) => format!("the required field {name} is missing"),
        Some(Value::String(text)) => match text_problem(text, MAX_ID_CHARS) {
            None if !text.trim().is_empty() => return text.clone(),
            None => "is empty".to_string(),
            Some(problem) => problem,
        },
        Some(_) => "expected a text".to_string(),
    };
    problems.push(Problem::new(pointer, problem));
    String::new()
}

/// Returns why a text cannot be recorded, or `None` if it can. The message does not repeat the text.
fn text_problem(text: &str, max_chars: usize) -> Option<String> {
    if text.chars().count() > max_chars {
        return Some(format!("is longer than {max_chars} characters"));
    }
    if text.chars().any(is_unprintable) {
        return Some("contains a control character or an invisible character".to_string());
    }
    leaks::secret_value(text).then(|| "looks like a credential; remove it and rotate it".to_string())
}

/// What becomes of the candidates of a handoff.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// In the order of the handoff.
    pub candidates: Vec<JudgedCandidate>,
    /// The intents of those to connect, one for each connection.
    pub intents: Vec<Intent>,
    /// The connections that every candidate of the handoff says not to connect. An earlier handoff may have asked for them.
    pub not_allowed: Vec<ConnectionId>,
}

/// Decides what becomes of each candidate.
///
/// `at` is the time of the evidence. Several candidates may be one connection; then a candidate whose status is eligible
/// determines its evidence.
#[must_use]
pub fn judge(candidates: &[Value], policy: &Policy, namespace: &str, at: Timestamp) -> Judgement {
    let mut seen = HashSet::new();
    let mut intents: BTreeMap<ConnectionId, Intent> = BTreeMap::new();
    let mut not_allowed = BTreeSet::new();
    let judged = candidates.iter().map(|value| {
        let (candidate, problem) = candidate(value);
        let decision = match problem {
            Some(problem) => rejected(problem, RejectionType::Validation),
            None if !seen.insert((candidate.asset_key.clone(), candidate.aod_asset_id.clone())) => {
                rejected("this asset is in the handoff already".to_string(), RejectionType::Duplicate)
            }
            None if !candidate.execution_allowed || candidate.action_type != PROVISION => {
                let vendor = policy.handoff.vendor(candidate.vendor_name.as_deref(), &candidate.asset_key);
                let id =
                    |(_, vendor): (_, &HandoffVendor)| ConnectionId::derive(namespace, &vendor.source_type, &vendor.resource_ids);
                let connection = vendor.map(id);
                not_allowed.extend(connection);
                Decision::InventoryOnly { connection }
            }
            None => decide(&candidate, policy, namespace, at, &mut intents),
        };
        JudgedCandidate { candidate, decision }
    });
    let mut candidates: Vec<JudgedCandidate> = judged.collect();
    for judged in &mut candidates {
        if let Decision::InventoryOnly { connection } = &mut judged.decision {
            *connection = connection.filter(|id| !intents.contains_key(id));
        }
    }
    not_allowed.retain(|id| !intents.contains_key(id));
    Judgement { candidates, intents: intents.into_values().collect(), not_allowed: not_allowed.into_iter().collect() }
}

fn rejected(reason: String, rejection_type: RejectionType) -> Decision {
    Decision::Rejected { reason, rejection_type }
}

fn decide(
    candidate: &Candidate,
    policy: &Policy,
    namespace: &str,
    at: Timestamp,
    intents: &mut BTreeMap<ConnectionId, Intent>,
) -> Decision {
    let Some((name, vendor)) = policy.handoff.vendor(candidate.vendor_name.as_deref(), &candidate.asset_key) else {
        return rejected(unmapped(candidate), RejectionType::UnmappedVendor);
    };
    let status = policy.handoff.evidence_status(candidate.governance_status.as_deref());
    let eligible = policy.eligibility.evidence.contains(&status);
    match wire::validate(intent(vendor, namespace, &status, at)).outcome {
        Ok(intent) => {
            let connection = intent.connection_id();
            let known = intents.get(&connection).map(|known| policy.eligibility.evidence.contains(&known.evidence.status));
            if known.is_none_or(|known_eligible| eligible && !known_eligible) {
                intents.insert(connection, intent);
            }
            Decision::Connect { connection }
        }
        Err(refusal) => {
            let problems: Vec<String> =
                refusal.problems.iter().map(|problem| format!("{} {}", problem.pointer, problem.message)).collect();
            let reason = format!("handoff.vendors.{name} in the policy does not give a valid intent: {}", problems.join("; "));
            rejected(reason, RejectionType::Policy)
        }
    }
}

fn intent(vendor: &HandoffVendor, namespace: &str, status: &str, at: Timestamp) -> Value {
    json!({
        "source_type": vendor.source_type,
        "resource_ids": vendor.resource_ids,
        "credential_locator": vendor.credential_locator.as_ref().map(ToString::to_string),
        "namespace": namespace,
        "risk_level": vendor.risk_level,
        "evidence": {"status": status, "source": vendor.evidence_source, "ts": at.rfc3339()},
        "owner": {"user": vendor.owner.user, "confidence": vendor.owner.confidence, "why": vendor.owner.why},
    })
}

/// The reason of a candidate whose vendor the policy does not list. The entry to add follows as a line of the policy.
fn unmapped(candidate: &Candidate) -> String {
    let name = candidate.vendor_name.as_deref().unwrap_or(&candidate.asset_key);
    let quoted = serde_json::to_string(name).unwrap_or_default();
    format!(
        "the policy has no entry for the vendor {name}; add one under handoff.vendors: {quoted}: {{source_type: FAMILY, resource_ids: [ID], credential_locator: \"env:NAME\", owner: USER}}"
    )
}

/// Returns `intent` with the time of `known` if the two differ in nothing else, so that a repeated discovery run does not
/// start a new generation of the connection.
#[must_use]
pub fn with_known_time(intent: Intent, known: Option<Intent>) -> Intent {
    let Some(known) = known else { return intent };
    let mut same = intent.clone();
    same.evidence.ts.clone_from(&known.evidence.ts);
    if same == known { known } else { intent }
}

/// The `action_type` of a candidate that may be connected.
const PROVISION: &str = "provision";
/// The `action_type` of a candidate that is recorded only.
const INVENTORY_ONLY: &str = "inventory_only";

/// Reads a candidate, and its first problem. Fields that AAM does not use are not recorded.
fn candidate(value: &Value) -> (Candidate, Option<String>) {
    let Value::Object(fields) = value else { return (Candidate::default(), Some("expected an object".to_string())) };
    let mut problem = None;
    let mut text = |name: &str| -> Option<String> {
        match fields.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => match text_problem(text, MAX_TEXT_CHARS) {
                None => Some(text.trim().to_string()).filter(|text| !text.is_empty()),
                Some(reason) => {
                    problem.get_or_insert(format!("{name} {reason}"));
                    None
                }
            },
            Some(_) => {
                problem.get_or_insert(format!("{name} is not a text"));
                None
            }
        }
    };
    let mut candidate = Candidate {
        aod_asset_id: text("aod_asset_id").unwrap_or_default(),
        asset_key: text("asset_key").unwrap_or_default(),
        // The tool writes "unknown" for an asset whose vendor it does not know.
        vendor_name: text("vendor_name").filter(|name| !name.eq_ignore_ascii_case("unknown")),
        display_name: text("display_name"),
        category: text("category"),
        governance_status: text("governance_status"),
        known_endpoints: endpoints(fields.get("known_endpoints")),
        execution_allowed: true,
        action_type: action_type(text("action_type")),
    };
    match execution_allowed(fields.get("execution_allowed")) {
        Some(allowed) => candidate.execution_allowed = allowed,
        None => {
            candidate.execution_allowed = false;
            problem.get_or_insert("execution_allowed is neither true nor false".to_string());
        }
    }
    if candidate.asset_key.is_empty() {
        problem.get_or_insert("the required field asset_key is missing".to_string());
    }
    (candidate, problem)
}

/// Returns `provision` or `inventory_only`. A value that AAM does not know allows nothing.
fn action_type(text: Option<String>) -> String {
    match text {
        None => PROVISION,
        Some(text) if text.eq_ignore_ascii_case(PROVISION) => PROVISION,
        Some(_) => INVENTORY_ONLY,
    }
    .to_string()
}

fn execution_allowed(value: Option<&Value>) -> Option<bool> {
    match value {
        None | Some(Value::Null) => Some(true),
        Some(Value::Bool(allowed)) => Some(*allowed),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Some(false),
        Some(_) => None,
    }
}

/// The endpoints that are texts without a secret. They are recorded for people; AAM never calls them.
fn endpoints(value: Option<&Value>) -> Vec<String> {
    let texts = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let usable = |text: &&str| text_problem(text, MAX_TEXT_CHARS).is_none() && !leaks::secret_in_address(text);
    texts.filter(usable).take(MAX_ENDPOINTS).map(str::to_string).collect()
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
