//! The content of `aam status`: the lines of the list, and the details of one connection.

use super::holds::HeldBody;
use crate::families;
use crate::model::ledger::Warning;
use crate::model::text::{counted, printable};
use crate::model::{ConnectionId, Intent, Risk, State, StepReport, Timestamp};
use crate::snapshot::{Connection, Snapshot};
use std::fmt::Write;

/// A connection in the list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StatusLine {
    pub connection_id: ConnectionId,
    pub status: State,
    pub namespace: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    /// `owner.user` of the intent; empty if the intent cannot be read.
    pub owner: String,
    pub risk: Option<Risk>,
    pub credential_locator: Option<String>,
    /// When the connection was first asked for.
    pub created: String,
    /// When the latest attempt found something new, or else when the connection was first asked for.
    pub changed: String,
    pub checked: Option<String>,
    /// The number of failed attempts in a row.
    pub failures: u32,
    /// Why the connection is not ACTIVE; empty if it is.
    pub title: String,
    pub fix: String,
    /// What works and should be fixed, for example excess permissions or streams that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// The change that would make the connection leave, if it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldBody>,
}

/// Returns the connections of `namespace` as of `now`, ordered by state, type and resource. `document` returns the intent in the
/// ledger entry with the given sequence number.
#[must_use]
pub fn lines(snapshot: &Snapshot, namespace: &str, now: Timestamp, document: impl Fn(u64) -> Option<Intent>) -> Vec<StatusLine> {
    let mut lines: Vec<StatusLine> = snapshot
        .of_namespace(namespace)
        .map(|(id, connection)| {
            let (title, fix) = reason(&connection);
            let intent = document(connection.document);
            let changed = connection.last.as_ref().map_or(connection.created, |last| last.at.max(connection.desired_since));
            StatusLine {
                connection_id: id,
                status: connection.state(),
                namespace: namespace.to_string(),
                source_type: connection.source_type.to_string(),
                owner: intent.as_ref().map(|intent| intent.owner.user.clone()).unwrap_or_default(),
                risk: intent.as_ref().map(|intent| families::risk(&connection.source_type, intent.risk_level.risk())),
                credential_locator: intent.as_ref().and_then(|intent| Some(intent.credential_locator.as_ref()?.to_string())),
                resource_ids: intent.map(|intent| intent.resource_ids).unwrap_or_default(),
                created: connection.created.rfc3339(),
                changed: changed.rfc3339(),
                failures: connection.failures,
                checked: connection.last_checked().map(Timestamp::rfc3339),
                title,
                fix,
                warnings: connection.warnings().cloned().chain(connection.credential_ending(id, now)).collect(),
                held: None,
            }
        })
        .collect();
    lines.sort_by(|a, b| (a.status, &a.source_type, &a.resource_ids).cmp(&(b.status, &b.source_type, &b.resource_ids)));
    lines
}

/// Returns the title and the fix of the attempt that the state is derived from.
#[must_use]
pub fn reason(connection: &Connection) -> (String, String) {
    let attempt = match connection.state() {
        State::Active | State::Retired => None,
        State::Pending => connection.last.as_ref(),
        _ => connection.conclusive.as_ref(),
    };
    attempt.map(|attempt| (attempt.facts.title.to_string(), attempt.facts.fix.to_string())).unwrap_or_default()
}

/// Returns the symbol of the state's group, for terminals without colour.
#[must_use]
pub fn symbol(state: State) -> &'static str {
    match state {
        State::Active => "+",
        State::Pending => ".",
        State::Retired => "-",
        State::Rejected | State::Unsupported => "x",
        State::AwaitingCredentials => "?",
        State::Healing | State::NetworkBlocked | State::Error => "!",
    }
}

/// Formats the webhooks that do not receive their messages, from the rows of the registry: by name, the number of failed tries
/// and the problem.
#[must_use]
pub fn failing_webhooks(failing: &[(String, u32, String)]) -> String {
    failing.iter().fold(String::new(), |mut text, (name, tries, problem)| {
        let _ = match tries {
            0 => writeln!(text, "! webhook {name} receives nothing any more: {}", printable(problem, &[])),
            tries => writeln!(
                text,
                "! webhook {name} did not accept a message, {} so far: {}",
                counted(usize::try_from(*tries).unwrap_or(usize::MAX), "failed attempt"),
                printable(problem, &[])
            ),
        };
        text
    })
}

/// Formats the details of one connection, with the steps of its latest attempt.
#[must_use]
pub fn details(
    id: ConnectionId,
    connection: &Connection,
    intent: Option<&Intent>,
    steps: &[StepReport],
    now: Timestamp,
) -> String {
    let mut text = String::new();
    let state = connection.state();
    let _ = writeln!(text, "{} {state}  {id}", symbol(state));
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<12} {value}");
        }
    };
    fact("namespace", connection.namespace.to_string());
    fact("source type", connection.source_type.to_string());
    if let Some(intent) = intent {
        fact("resources", intent.resource_ids.join(" "));
        fact("credential", intent.credential_locator.as_ref().map_or_else(|| "none".to_string(), ToString::to_string));
        fact("owner", format!("{} ({}, confidence {})", intent.owner.user, intent.owner.why, intent.owner.confidence));
        let risk = families::risk(&connection.source_type, intent.risk_level.risk());
        let why = if risk.to_string() == intent.risk_level.to_string() {
            String::new()
        } else {
            format!(" (the intent says {})", intent.risk_level)
        };
        fact("risk", format!("{risk}{why}"));
    }
    fact("desired by", connection.origins.iter().map(|desired| desired.origin.to_string()).collect::<Vec<_>>().join(", "));
    fact("generation", connection.generation.to_string());
    fact("catalog", connection.catalog.map_or_else(|| "none yet".to_string(), |(version, _, _)| format!("version {version}")));
    fact("checked", connection.last_checked().map_or_else(|| "never".to_string(), Timestamp::rfc3339));
    if let Some(proven) = &connection.proven {
        let first_sync = match proven.facts.rows {
            Some(rows) => {
                let rows = counted(usize::try_from(rows).unwrap_or(usize::MAX), "row");
                format!("{rows} in {} ms", proven.facts.latency_ms.unwrap_or(0))
            }
            None => "metadata only".to_string(),
        };
        fact("first sync", first_sync);
    }
    if let Some(ends_at) = connection.credential_ends_at() {
        let warning = connection.credential_ending(id, now).map(|warning| format!(": {}; {}", warning.title, warning.fix));
        fact("key ends", format!("{}{}", ends_at.rfc3339(), warning.unwrap_or_default()));
    }
    if connection.failures > 0 {
        fact("failures", format!("{} in a row", connection.failures));
    }
    text.push_str(&super::attempt::steps(steps));
    text
}
