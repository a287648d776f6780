//! The output of `aam plan`: what AAM would do, why, and every call that it would make.

use super::holds::{self, HoldBody};
use crate::model::text::counted;
use crate::model::{ConnectionId, PlannedCall, Problem, Timestamp};
use crate::plan::PlanItem;
use std::collections::BTreeMap;
use std::fmt::Write;

/// An attempt that is due.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedAttempt {
    #[serde(flatten)]
    pub item: PlanItem,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    /// Every call that the attempt may make. Empty if the attempt would not make any, in which case `blocked` says why.
    pub calls: Vec<PlannedCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// A connection that no intent asks for any longer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Retirement {
    pub connection: ConnectionId,
    pub source_type: String,
    /// The resource ids of the connection. Empty if its intent cannot be read.
    pub resource_ids: Vec<String>,
}

/// The plan as a value, for `--format json`.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PlanReport {
    /// Attempts that are due now.
    pub now: Vec<PlannedAttempt>,
    /// Connections that no intent asks for any longer.
    pub retire: Vec<Retirement>,
    /// Changes that are held, because they would make many connections leave at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HoldBody>,
    /// The number of attempts that are due later.
    pub waiting: usize,
    /// When the next of the waiting attempts is due.
    pub next_due: Option<Timestamp>,
    /// Problems in files. The connections of a file that cannot be read keep their state.
    pub problems: Vec<Problem>,
}

impl PlanReport {
    /// Returns true if nothing would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.retire.is_empty() && self.held.is_empty()
    }
}

/// Formats the plan as text.
#[must_use]
pub fn text(planned: &PlanReport) -> String {
    let mut text = String::new();
    for attempt in &planned.now {
        let sign = if attempt.item.why == crate::model::ledger::Why::New { "+" } else { "~" };
        let _ = writeln!(
            text,
            "{sign} {} {}  {}\n    why:  {}",
            attempt.source_type,
            attempt.resource_ids.join(" "),
            attempt.item.connection,
            attempt.item.why.message()
        );
        if let Some(blocked) = &attempt.blocked {
            let _ = writeln!(text, "    stop: {blocked}");
        }
        for (call, count) in with_counts(&attempt.calls) {
            let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
            let _ = writeln!(text, "    call: {} {} {}{times}", call.method, call.host, call.path);
        }
    }
    for gone in &planned.retire {
        let _ = writeln!(
            text,
            "- {} {}  {}\n    why:  no intent asks for it any more; it is retired and its history is kept",
            gone.source_type,
            gone.resource_ids.join(" "),
            gone.connection
        );
    }
    text.push_str(&holds::text(&planned.held));
    for problem in &planned.problems {
        let _ = writeln!(text, "! {problem}\n  the connections of this file keep their current state");
    }
    let later = match planned.next_due {
        Some(due) if planned.waiting > 0 => {
            format!("; {} scheduled, the next is due at {due}", counted(planned.waiting, "later attempt"))
        }
        _ => String::new(),
    };
    let _ = match (planned.now.len(), planned.retire.len()) {
        (0, 0) => writeln!(text, "nothing to do now{later}"),
        (now, retire) => {
            writeln!(text, "{}, {}{later}", counted(now, "attempt"), counted(retire, "retirement"))
        }
    };
    text
}

fn with_counts(calls: &[PlannedCall]) -> Vec<(&PlannedCall, usize)> {
    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut order: Vec<&PlannedCall> = Vec::new();
    for call in calls {
        let count = counts.entry((&call.method, &call.host, &call.path)).or_insert(0);
        if *count == 0 {
            order.push(call);
        }
        *count += 1;
    }
    order.into_iter().map(|call| (call, counts[&(call.method.as_str(), call.host.as_str(), call.path.as_str())])).collect()
}
