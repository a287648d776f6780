//! The text and the JSON of changes that are held until a person confirms them.

use crate::model::text::{counted, printable};
use crate::model::{ConnectionId, Intent};
use crate::plan::departures::{DepartureKind, Hold, Holds};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use utoipa::ToSchema;

/// The number of connections that the JSON of a hold lists.
pub const MAX_LISTED: usize = 1000;
/// The number of connections that the text of a hold lists.
const MAX_SHOWN: usize = 10;

/// A change that would make many connections of a namespace leave at once. They stay as they are until it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldBody {
    pub namespace: String,
    /// Identifies exactly this change. A change that grows has another digest.
    pub digest: String,
    /// The number of connections that would leave.
    pub count: usize,
    /// How many others left within the 10 minutes before and count with them.
    pub recent: usize,
    /// The number of connections that were desired before.
    pub desired: usize,
    /// What would happen, in one sentence.
    pub message: String,
    /// How to confirm the change, and what to do if it is not meant.
    pub fix: String,
    /// The first 1000 of them, in order of their ids.
    pub connections: Vec<HeldConnection>,
}

/// A connection that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldConnection {
    pub connection_id: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub change: DepartureKind,
    /// Why it would leave.
    pub reason: String,
}

/// What the result of a connection says about its hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldBody {
    /// The digest of the change, for `POST /holds/{digest}/confirm` and `aam confirm`.
    pub digest: String,
    pub change: DepartureKind,
    /// Why the connection would leave.
    pub reason: String,
    pub fix: String,
}

impl HeldBody {
    /// Creates the body for a connection whose departure is held.
    #[must_use]
    pub fn new(holds: &Holds, id: ConnectionId) -> Option<HeldBody> {
        let (hold, departure) = holds.get(id)?;
        Some(HeldBody {
            digest: hold.digest.to_string(),
            change: departure.kind,
            reason: departure.reason.clone(),
            fix: fix(hold),
        })
    }
}

/// What happened, in one sentence.
#[must_use]
pub fn message(hold: &Hold) -> String {
    let count = hold.departures.len();
    let (verb, pronoun) = if count == 1 { ("stays as it is", "it") } else { ("stay as they are", "they") };
    let recent = match hold.recent {
        0 => String::new(),
        recent => format!(" ({} left in the 10 minutes before)", counted(recent, "other")),
    };
    format!(
        "{} of {} in namespace {} would leave at once{recent}; {pronoun} {verb} until this is confirmed",
        counted(count, "connection"),
        hold.desired,
        hold.namespace
    )
}

/// What to do.
#[must_use]
pub fn fix(hold: &Hold) -> String {
    format!(
        "if this is meant, run: aam confirm {}; if not, restore the files, the intents or the policy, and the hold ends",
        hold.digest.short()
    )
}

/// Builds the JSON of a hold. `document` returns the intent of a connection.
#[must_use]
pub fn body(hold: &Hold, document: impl Fn(ConnectionId) -> Option<Intent>) -> HoldBody {
    let connections = hold.departures.iter().take(MAX_LISTED).map(|(id, departure)| {
        let (source_type, resource_ids) =
            document(*id).map(|intent| (intent.source_type, intent.resource_ids)).unwrap_or_default();
        HeldConnection {
            connection_id: id.to_string(),
            source_type,
            resource_ids,
            change: departure.kind,
            reason: departure.reason.clone(),
        }
    });
    HoldBody {
        namespace: hold.namespace.clone(),
        digest: hold.digest.to_string(),
        count: hold.departures.len(),
        recent: hold.recent,
        desired: hold.desired,
        message: message(hold),
        fix: fix(hold),
        connections: connections.collect(),
    }
}

/// Formats holds as text.
#[must_use]
pub fn text(holds: &[HoldBody]) -> String {
    let mut text = String::new();
    for hold in holds {
        let _ = writeln!(text, "= held: {}", hold.message);
        for held in hold.connections.iter().take(MAX_SHOWN) {
            let ids = held.resource_ids.join(" ");
            let _ = writeln!(text, "    {} {}  {}", held.source_type, printable(&ids, &[]), held.connection_id);
            let _ = writeln!(text, "      why: {}: {}", change(held.change), printable(&held.reason, &[]));
        }
        if hold.count > MAX_SHOWN {
            let first =
                if hold.count > MAX_LISTED { format!("the first {MAX_LISTED} of them") } else { "all of them".to_string() };
            let more = hold.count - MAX_SHOWN;
            let _ = writeln!(text, "    and {more} more; aam confirm --format json lists {first}");
        }
        let _ = writeln!(text, "    fix: {}", hold.fix);
    }
    text
}

fn change(kind: DepartureKind) -> &'static str {
    match kind {
        DepartureKind::Withdrawn => "it would be retired",
        DepartureKind::Document => "its intent changed, so it would not be connected any more",
        DepartureKind::Policy => "the policy changed, so it would not be connected any more",
    }
}

/// What a confirmation did, in one sentence.
#[must_use]
pub fn confirmed(hold: &Hold) -> String {
    format!("confirmed: {} in namespace {} leave now", counted(hold.departures.len(), "connection"), hold.namespace)
}

/// The line of one connection in its details.
#[must_use]
pub fn held_line(held: &HeldBody) -> String {
    format!("  held: {}\n  fix:  {}\n", printable(&held.reason, &[]), held.fix)
}
