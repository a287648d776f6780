//! `aam plan`: what would be done, why, and every call that would be made.

use crate::model::{ConnectionId, PlannedCall, Problem, Timestamp};
use crate::plan::PlanItem;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One planned attempt with what a person needs to judge it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedAttempt {
    #[serde(flatten)]
    pub item: PlanItem,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    /// Every call it may make; empty with the reason in `blocked` when it would not come that far.
    pub calls: Vec<PlannedCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// A connection that nothing desires any more.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Retirement {
    pub connection: ConnectionId,
    pub source_type: String,
    /// Empty when its document cannot be read.
    pub resource_ids: Vec<String>,
}

/// The plan as values.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Planned {
    /// Due now.
    pub now: Vec<PlannedAttempt>,
    /// Connections whose only file is gone.
    pub retire: Vec<Retirement>,
    /// Not due yet: when the next one is, and how many wait.
    pub waiting: usize,
    pub next_due: Option<Timestamp>,
    /// Files that cannot be read: their connections are held as they are.
    pub problems: Vec<Problem>,
}

impl Planned {
    /// Whether anything would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.retire.is_empty()
    }
}

/// The plan as text.
#[must_use]
pub fn text(planned: &Planned) -> String {
    let mut text = String::new();
    for attempt in &planned.now {
        let sign = if attempt.item.why == crate::model::ledger::Why::New { "+" } else { "~" };
        let _ = writeln!(
            text,
            "{sign} {} {}  {}\n    why:  {}",
            attempt.source_type,
            attempt.resource_ids.join(" "),
            attempt.item.connection,
            attempt.item.why.as_str()
        );
        if let Some(blocked) = &attempt.blocked {
            let _ = writeln!(text, "    stop: {blocked}");
        }
        for (call, count) in counted(&attempt.calls) {
            let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
            let _ = writeln!(text, "    call: {} {} {}{times}", call.method, call.host, call.path);
        }
    }
    for gone in &planned.retire {
        let _ = writeln!(
            text,
            "- {} {}  {}\n    why:  nothing desires it any more; it is retired, its history stays",
            gone.source_type,
            gone.resource_ids.join(" "),
            gone.connection
        );
    }
    for problem in &planned.problems {
        let _ = writeln!(text, "! {problem}\n  the connections of this file are held as they are");
    }
    let again = match planned.next_due {
        Some(due) if planned.waiting > 0 => {
            format!("; {} wait, the next is due {due}", planned.waiting)
        }
        _ => String::new(),
    };
    let _ = match (planned.now.len(), planned.retire.len()) {
        (0, 0) => writeln!(text, "nothing to do{again}"),
        (now, retire) => writeln!(text, "{now} attempt(s), {retire} retirement(s){again}"),
    };
    text
}

fn counted(calls: &[PlannedCall]) -> Vec<(&PlannedCall, usize)> {
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
