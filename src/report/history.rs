//! The history of a connection, as `aam status ID` shows it.

use crate::model::Timestamp;
use crate::model::ledger::{Entry, Fact};
use crate::model::text::counted;
use std::fmt::Write;

/// One event of the history.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Event {
    /// The number of the entry in the ledger.
    pub seq: u64,
    pub at: String,
    pub event: String,
}

/// Returns the event of an entry. Returns `None` for the beginning of an attempt, because its end says more.
#[must_use]
pub fn event(entry: &Entry) -> Option<Event> {
    let event = match &entry.fact {
        Fact::IntentAccepted { origin, .. } => format!("intent accepted from {origin}"),
        Fact::IntentWithdrawn { origin, reason } if reason.is_empty() => format!("intent withdrawn by {origin}"),
        Fact::IntentWithdrawn { origin, reason } => format!("intent withdrawn by {origin}: {reason}"),
        Fact::AttemptFinished(facts) => match (facts.class, facts.failed_step, facts.rows) {
            (None, _, Some(rows)) => {
                let rows = counted(usize::try_from(rows).unwrap_or(usize::MAX), "row");
                format!("attempt passed: {rows} in {} ms", facts.latency_ms.unwrap_or(0))
            }
            (None, ..) => "health check passed".to_string(),
            (Some(class), step, _) => {
                let step = step.map_or_else(String::new, |step| format!(" at {}", step.as_str()));
                format!("attempt failed{step} ({}): {}", class.as_str(), facts.title)
            }
        },
        Fact::CatalogRegistered { version, streams, breaking, additive, .. } => {
            let mut text = format!("catalog version {version}: {}", counted(*streams as usize, "stream"));
            for (kind, changes) in [("breaking", breaking), ("additive", additive)] {
                if !changes.is_empty() {
                    let _ = write!(text, ", {}", counted(changes.len(), &format!("{kind} change")));
                }
            }
            text
        }
        Fact::DriftAcknowledged { version, by, note } => {
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            format!("changes of catalog version {version} acknowledged by {by}{note}")
        }
        Fact::ConnectionRetired => "retired, because no intent asks for it any more".to_string(),
        _ => return None,
    };
    Some(Event { seq: entry.seq, at: entry.at.rfc3339(), event })
}

/// Formats the history, newest first. `now` is the time that ages are counted to.
#[must_use]
pub fn text(events: &[Event], more: bool, now: Timestamp) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut text = String::from("  history\n");
    for event in events {
        let ago = Timestamp::parse(&event.at).map(|at| crate::model::text::age(now.since(at))).unwrap_or_default();
        let _ = writeln!(text, "    {}  {ago:>5} ago  {}", event.at, event.event);
    }
    if more {
        text.push_str("    earlier entries: GET /connections/ID/versions\n");
    }
    text
}
