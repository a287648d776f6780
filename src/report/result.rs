//! The body of each response about one connection. Pure.

pub mod bounds;

use super::holds::HeldBody;
use crate::families::{self, aliases};
use crate::funnel::Stage;
use crate::intake::normalize;
use crate::model::intent::Owner;
use crate::model::ledger::Warning;
use crate::model::text::counted;
use crate::model::{Class, Failure, Intent, MissingFile, Problem, RiskLevel, State, Step, StepReport, StepStatus, Timestamp};
use crate::snapshot::{Attempt, Connection};
use crate::{funnel, model::ConnectionId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A connection with its state, the reason for it, and the intent behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionResult {
    /// UUIDv5 of namespace, source type and resource ids, so it is the same for every push and replica.
    pub connection_id: String,
    /// The same as `connection_id`.
    pub id: String,
    /// The source type and the first resource id, for people.
    pub name: String,
    #[schema(value_type = State)]
    pub status: String,
    pub namespace: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    /// The number of items that the latest successful tiny sync read; null before the first.
    pub first_sync_rows: Option<u64>,
    /// The duration of that tiny sync in milliseconds.
    pub latency_ms: Option<u64>,
    /// The furthest stage of the funnel that the connection has reached.
    #[schema(value_type = Stage)]
    pub funnel_stage: String,
    /// The state in one sentence.
    pub message: String,
    /// What keeps the connection from being ACTIVE, and how to fix it.
    pub error: Option<ErrorBody>,
    /// The title and the fix of `error` as one text; null if there is no error.
    pub error_message: Option<String>,
    /// The version of the intent, counted from 1.
    pub version: u32,
    /// The version of the catalog in force; null before the first discovery.
    pub catalog_version: Option<u32>,
    /// The seven steps of the latest attempt; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepBody>>,
    /// True while an attempt runs. The status does not change until it has finished.
    pub checking: bool,
    pub owner: Option<OwnerBody>,
    /// Where the credential is stored; never the credential itself.
    pub credential_locator: Option<String>,
    /// When the credential ends, if that is known and a person has to replace it. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_ends_at: Option<String>,
    /// The risk of the source: low, med or high. It is that of the intent, or the least of the family if that is higher. A
    /// value of the intent that AAM does not know is repeated as it was sent.
    pub risk_level: Option<String>,
    /// The change that would make the connection leave, if it is held until somebody confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldBody>,
    /// When the connection was first accepted. RFC 3339.
    pub created_at: String,
    /// When the connection was last changed or checked. RFC 3339.
    pub updated_at: String,
    /// When the connection was last checked, whatever the result; null before the first check. RFC 3339.
    pub last_health_check: Option<String>,
    /// Unknown fields of the intent, and steps that passed with a warning.
    pub warnings: Vec<WarningBody>,
    /// The archive files that are missing or cannot be read, so that `steps` or `error.detail` are empty. Everything else is
    /// complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<MissingFile>,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    #[schema(value_type = Class)]
    pub class: String,
    /// What happened.
    pub title: String,
    /// What to do, where possible as a command or a setting to paste.
    pub fix: String,
    /// The message of the source; may be empty.
    pub detail: String,
}

/// The owner of the system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OwnerBody {
    pub user: String,
    /// 0 to 1.
    pub confidence: f64,
    pub why: String,
}

/// A problem that does not keep the connection from working.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WarningBody {
    /// JSON pointer into the intent, or `/steps/<name>`.
    pub pointer: String,
    pub message: String,
    pub hint: String,
    /// The class of a warning from a step, for example `over_privileged` or `permission_denied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Class>)]
    pub class: Option<String>,
}

/// One step of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepBody {
    #[schema(value_type = Step)]
    pub step: String,
    #[schema(value_type = StepStatus)]
    pub status: String,
    pub duration_ms: u64,
    /// Why the step was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The failure or the warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ErrorBody>,
    /// What the step found, for example the version of a database.
    #[schema(value_type = Object)]
    pub evidence: Map<String, Value>,
}

impl ConnectionResult {
    /// The result for a caller that may not read the registry: the id and the state, also of a connection that the caller
    /// pushed. The same intent may have been pushed by others, so nothing about it belongs to one caller.
    #[must_use]
    pub fn state_only(self) -> ConnectionResult {
        let held = if self.held.is_some() { "; it would leave, which is held until somebody confirms it" } else { "" };
        let message = format!("{}{held}; a token with the scope registry:read sees the details", self.status);
        ConnectionResult {
            name: String::new(),
            source_type: String::new(),
            resource_ids: Vec::new(),
            message,
            error: None,
            error_message: None,
            owner: None,
            credential_locator: None,
            credential_ends_at: None,
            risk_level: None,
            held: None,
            warnings: Vec::new(),
            missing_files: Vec::new(),
            steps: None,
            first_sync_rows: None,
            latency_ms: None,
            catalog_version: None,
            ..self
        }
    }
}

impl From<&Owner> for OwnerBody {
    fn from(owner: &Owner) -> OwnerBody {
        OwnerBody { user: owner.user.clone(), confidence: owner.confidence, why: owner.why.clone() }
    }
}

impl ErrorBody {
    /// The title and the fix as one text. Both are AAM's own; the message of the source is only in `detail`.
    fn message(&self) -> String {
        match self.fix.is_empty() {
            true => sentence(&self.title),
            false => format!("{} Fix: {}", sentence(&self.title), self.fix),
        }
    }
}

impl From<&Failure> for ErrorBody {
    fn from(failure: &Failure) -> ErrorBody {
        ErrorBody {
            class: failure.class.as_str().to_string(),
            title: bounds::text(&failure.title),
            fix: bounds::text(&failure.fix),
            detail: bounds::text(&failure.detail),
        }
    }
}

impl From<&Problem> for WarningBody {
    fn from(problem: &Problem) -> WarningBody {
        WarningBody {
            pointer: bounds::text(&problem.pointer),
            message: bounds::text(&problem.message),
            hint: bounds::text(&problem.hint),
            class: None,
        }
    }
}

impl From<&Warning> for WarningBody {
    fn from(warning: &Warning) -> WarningBody {
        WarningBody {
            pointer: format!("/steps/{}", warning.step.as_str()),
            message: bounds::text(&warning.title),
            hint: bounds::text(&warning.fix),
            class: Some(warning.class.as_str().to_string()),
        }
    }
}

impl From<StepReport> for StepBody {
    fn from(report: StepReport) -> StepBody {
        let (reason, failure) = match &report.status {
            StepStatus::Passed => (None, None),
            StepStatus::Warned { failure } | StepStatus::Failed { failure } => (None, Some(failure.into())),
            StepStatus::Skipped { reason } => (Some(bounds::text(reason)), None),
        };
        StepBody {
            step: report.step.as_str().to_string(),
            status: report.status.as_str().to_string(),
            duration_ms: report.duration_ms,
            reason,
            failure,
            evidence: bounds::map(report.evidence),
        }
    }
}

/// The bodies of the ledger entries from which a result is built.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerBodies<'a> {
    /// The intent in force, as canonical JSON.
    pub document: Option<&'a str>,
    /// The step reports of the latest attempt. If `None`, the result does not have `steps`.
    pub steps: Option<&'a str>,
    /// The step reports of the attempt that `error` describes.
    pub error_steps: Option<&'a str>,
}

impl ConnectionResult {
    /// Builds the result as of `now` from the snapshot and the bodies. `checking` is true while an attempt is running.
    #[must_use]
    pub fn new(
        id: ConnectionId,
        connection: &Connection,
        bodies: LedgerBodies<'_>,
        checking: bool,
        now: Timestamp,
    ) -> ConnectionResult {
        let state = connection.state();
        let document = bodies.document.and_then(|text| serde_json::from_str::<Intent>(text).ok());
        let steps = bodies.steps.map(step_bodies);
        let proven = connection.proven.as_ref().map(|attempt| &attempt.facts);
        let mut warnings = document.as_ref().map(spellings).unwrap_or_default();
        warnings.extend(document.iter().flat_map(unknown_fields));
        warnings.extend(connection.warnings().map(WarningBody::from));
        warnings.extend(connection.credential_ending(id, now).iter().map(WarningBody::from));
        let resource_ids = document.as_ref().map(|intent| intent.resource_ids.clone()).unwrap_or_default();
        let error = error(connection, bodies.error_steps);
        ConnectionResult {
            connection_id: id.to_string(),
            id: id.to_string(),
            name: name(&connection.source_type, &resource_ids),
            status: state.as_str().to_string(),
            namespace: connection.namespace.to_string(),
            source_type: connection.source_type.to_string(),
            first_sync_rows: proven.and_then(|facts| facts.rows),
            latency_ms: proven.and_then(|facts| facts.latency_ms),
            funnel_stage: funnel::furthest_stage(connection).to_string(),
            message: message(state, connection),
            error_message: error.as_ref().map(ErrorBody::message),
            error,
            version: connection.generation,
            catalog_version: connection.catalog.map(|(version, _, _)| version),
            steps,
            checking,
            owner: document.as_ref().map(|intent| OwnerBody::from(&intent.owner)),
            credential_locator: document.as_ref().and_then(|intent| intent.credential_locator.as_ref()).map(ToString::to_string),
            risk_level: document.as_ref().map(|intent| risk_level(intent, &connection.source_type)),
            resource_ids,
            credential_ends_at: connection.credential_ends_at().map(Timestamp::rfc3339),
            held: None,
            created_at: connection.created.rfc3339(),
            updated_at: connection.updated().rfc3339(),
            last_health_check: connection.last_checked().map(Timestamp::rfc3339),
            warnings: bounds::warnings(warnings),
            missing_files: Vec::new(),
        }
    }
}

/// Returns the attempt that shows why the connection is not ACTIVE. Returns `None` if it is ACTIVE or RETIRED, or if no
/// attempt has failed.
#[must_use]
pub fn error_attempt(connection: &Connection) -> Option<&Attempt> {
    if matches!(connection.state(), State::Active | State::Retired) {
        return None;
    }
    let conclusive = connection.conclusive.as_deref().filter(|attempt| attempt.facts.class.is_some());
    conclusive.or(connection.last.as_deref().filter(|attempt| attempt.facts.class.is_some()))
}

/// Returns the error of the connection. Its title and fix come from the facts; the message of the source is only in the
/// body of the attempt.
fn error(connection: &Connection, steps: Option<&str>) -> Option<ErrorBody> {
    let facts = &error_attempt(connection)?.facts;
    let detail = steps
        .map(step_bodies)
        .unwrap_or_default()
        .into_iter()
        .find(|step| step.status == "failed")
        .and_then(|step| step.failure)
        .map(|failure| failure.detail);
    Some(ErrorBody {
        class: facts.class?.as_str().to_string(),
        title: bounds::text(&facts.title),
        fix: bounds::text(&facts.fix),
        detail: detail.unwrap_or_default(),
    })
}

/// Parses the body of a finished attempt.
#[must_use]
pub fn step_bodies(text: &str) -> Vec<StepBody> {
    let reports: Vec<StepReport> = serde_json::from_str(text).unwrap_or_default();
    reports.into_iter().map(StepBody::from).collect()
}

/// The warnings about values that were sent in another spelling, and about those that AAM does not know.
fn spellings(intent: &Intent) -> Vec<WarningBody> {
    let unknown = aliases::not_understood(intent);
    let mut problems: Vec<Problem> =
        unknown.into_iter().map(|(field, text)| normalize::unknown_value(&field.pointer(), field, text)).collect();
    if !intent.as_sent.is_empty() {
        let document = serde_json::to_value(intent).unwrap_or_default();
        let sent = intent.as_sent.iter().take(bounds::MAX_WARNINGS);
        problems.extend(sent.filter_map(|(pointer, sent)| normalize::replaced(pointer, sent, document.pointer(pointer)?)));
    }
    problems.iter().map(WarningBody::from).collect()
}

fn unknown_fields(intent: &Intent) -> Vec<WarningBody> {
    intent
        .extra
        .keys()
        // One more than are shown, so that it is visible that there are more.
        .take(bounds::MAX_WARNINGS + 1)
        .map(|name| WarningBody {
            pointer: bounds::text(&format!("/{}", name.replace('~', "~0").replace('/', "~1"))),
            message: "unknown field".to_string(),
            hint: "it is stored with the intent and has no effect".to_string(),
            class: None,
        })
        .collect()
}

/// Returns the risk of the source, or the value of the intent if AAM does not know it.
fn risk_level(intent: &Intent, source_type: &str) -> String {
    match &intent.risk_level {
        RiskLevel::Known(risk) => families::risk(source_type, *risk).to_string(),
        RiskLevel::Unknown(text) => bounds::text(text),
    }
}

/// Returns the name of a connection for people.
fn name(source_type: &str, resource_ids: &[String]) -> String {
    let text = match resource_ids {
        [] => source_type.to_string(),
        [one] => format!("{source_type} {one}"),
        [first, others @ ..] => format!("{source_type} {first} and {} more", others.len()),
    };
    bounds::text(&text)
}

fn message(state: State, connection: &Connection) -> String {
    let title = error_attempt(connection).map_or("", |attempt| &*attempt.facts.title);
    match state {
        State::Active => connected(connection),
        State::Retired => "No intent asks for this connection any more; its history is kept.".to_string(),
        State::Pending if title.is_empty() => "Accepted; the first attempt has not finished yet.".to_string(),
        _ if title.is_empty() => format!("The connection is {state}."),
        _ => sentence(title),
    }
}

/// Returns the state line of an ACTIVE connection: what was read, and what could not be.
fn connected(connection: &Connection) -> String {
    let warnings = connection.warnings().take(bounds::MAX_WARNINGS);
    let warnings: String = warnings.map(|warning| format!(" Warning: {}", sentence(&warning.title))).collect();
    format!("{}{warnings}", first_sync(connection))
}

fn first_sync(connection: &Connection) -> String {
    let proven = connection.proven.as_ref().map(|attempt| &attempt.facts);
    match proven.and_then(|facts| Some((facts.rows?, facts.latency_ms?))) {
        Some((rows, ms)) => {
            let items = counted(usize::try_from(rows).unwrap_or(usize::MAX), "item");
            format!("Connected, read-only; the first sync read {items} in {ms} ms.")
        }
        None if proven.is_some_and(|facts| facts.rows.is_none()) => "Connected, read-only, metadata only.".to_string(),
        None => "Connected, read-only.".to_string(),
    }
}

/// Returns the title of a failure as a sentence with a full stop. The first letter is not capitalized, because it may
/// belong to a name.
fn sentence(title: &str) -> String {
    format!("{}.", bounds::text(title).trim_end_matches('.'))
}
