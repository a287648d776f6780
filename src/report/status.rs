//! `aam status`: one line for each connection, and the whole story of one.

use crate::model::{ConnectionId, Intent, State, StepReport, Timestamp};
use crate::snapshot::{Connection, Snapshot};
use std::fmt::Write;

/// What a line of the list says.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Line {
    pub connection_id: ConnectionId,
    pub status: State,
    pub namespace: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub checked: Option<String>,
    /// Why it is not ACTIVE; empty when it is.
    pub title: String,
    pub fix: String,
}

/// The lines of `namespace`, worst first, then by type and resource. `documents` gives the resource ids.
#[must_use]
pub fn lines(snapshot: &Snapshot, namespace: &str, documents: impl Fn(u64) -> Option<Intent>) -> Vec<Line> {
    let mut lines: Vec<Line> = snapshot
        .of_namespace(namespace)
        .map(|(id, known)| Line {
            connection_id: id,
            status: known.state(),
            namespace: namespace.to_string(),
            source_type: known.source_type.to_string(),
            resource_ids: documents(known.document).map(|intent| intent.resource_ids).unwrap_or_default(),
            checked: known.looked_at().map(Timestamp::rfc3339),
            title: reason(known).0,
            fix: reason(known).1,
        })
        .collect();
    lines.sort_by(|a, b| {
        (rank(a.status), &a.source_type, &a.resource_ids).cmp(&(rank(b.status), &b.source_type, &b.resource_ids))
    });
    lines
}

/// Title and fix of the attempt that the state is derived from.
#[must_use]
pub fn reason(known: &Connection) -> (String, String) {
    let attempt = match known.state() {
        State::Active | State::Retired => None,
        State::Pending => known.last.as_ref(),
        _ => known.conclusive.as_ref(),
    };
    attempt.map(|attempt| (attempt.facts.title.to_string(), attempt.facts.fix.to_string())).unwrap_or_default()
}

/// What needs a person comes first.
fn rank(state: State) -> u8 {
    match state {
        State::Healing => 0,
        State::Error => 1,
        State::NetworkBlocked => 2,
        State::AwaitingCredentials => 3,
        State::Unsupported => 4,
        State::Rejected => 5,
        State::Pending => 6,
        State::Active => 7,
        State::Retired => 8,
    }
}

/// A symbol for each state, so that no meaning hangs on colour.
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

/// The list as text.
#[must_use]
pub fn list(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "no connections: put an intent into the intents folder, or push one to POST /connections/onboard\n".to_string();
    }
    let mut text = String::new();
    for line in lines {
        let id = line.connection_id.to_string();
        let _ = writeln!(
            text,
            "{} {:<20} {}  {} {}",
            symbol(line.status),
            line.status.as_str(),
            id,
            line.source_type,
            line.resource_ids.join(" ")
        );
        if !line.title.is_empty() {
            let _ = writeln!(text, "    what: {}", line.title);
        }
        if !line.fix.is_empty() {
            let _ = writeln!(text, "    fix:  {}", line.fix);
        }
    }
    let _ = writeln!(text, "{} connection(s); aam status ID shows the steps of one", lines.len());
    text
}

/// One connection with the steps of its latest attempt.
#[must_use]
pub fn story(id: ConnectionId, known: &Connection, intent: Option<&Intent>, steps: &[StepReport]) -> String {
    let mut text = String::new();
    let state = known.state();
    let _ = writeln!(text, "{} {state}  {id}", symbol(state));
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<12} {value}");
        }
    };
    fact("namespace", known.namespace.to_string());
    fact("source type", known.source_type.to_string());
    if let Some(intent) = intent {
        fact("resources", intent.resource_ids.join(" "));
        fact("credential", intent.credential_locator.as_ref().map_or_else(|| "none".to_string(), ToString::to_string));
        fact("owner", format!("{} ({}, confidence {})", intent.owner.user, intent.owner.why, intent.owner.confidence));
        fact("risk", intent.risk_level.to_string());
    }
    fact("desired by", known.origins.iter().map(|desire| desire.origin.to_string()).collect::<Vec<_>>().join(", "));
    fact("generation", known.generation.to_string());
    fact("catalog", known.catalog.map_or_else(|| "none yet".to_string(), |(version, _, _)| format!("version {version}")));
    fact("checked", known.looked_at().map_or_else(|| "never".to_string(), Timestamp::rfc3339));
    if let Some(proven) = &known.proven {
        let rows = proven.facts.rows.unwrap_or(0);
        fact("first sync", format!("{rows} row(s) in {} ms", proven.facts.latency_ms.unwrap_or(0)));
    }
    if known.failures > 0 {
        fact("failures", format!("{} in a row", known.failures));
    }
    text.push_str(&super::attempt::steps(steps));
    text
}
