//! The output of `aam plan`: what AAM would do, why, and every call that it would make.

use super::holds::{self, HoldBody};
use crate::model::ledger::Why;
use crate::model::text::counted;
use crate::model::{ConnectionId, EventType, PlannedCall, Problem, Timestamp};
use crate::plan::PlanItem;
use crate::policy::{Webhook, WebhookAddress};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether the change of this connection is held, so that it is checked as before the change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
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
    /// The time of the plan.
    #[serde(serialize_with = "Timestamp::serialize_rfc3339")]
    pub as_of: Timestamp,
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
    #[serde(serialize_with = "optional_rfc3339")]
    pub next_due: Option<Timestamp>,
    /// Whether the policy file is not valid. The plan is then that of the last accepted policy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policy_rejected: bool,
    /// Problems in files. The connections of a file that cannot be read keep their state.
    pub problems: Vec<Problem>,
    /// The webhooks that are notified of what happens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<PlannedWebhook>,
    pub totals: PlanTotals,
}

/// The numbers at the end of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PlanTotals {
    /// Attempts that are due now.
    pub attempts: usize,
    /// The same attempts by their reason.
    pub by_reason: BTreeMap<&'static str, usize>,
    /// The same attempts by family.
    pub by_family: BTreeMap<String, usize>,
    /// The attempts that end before their first call.
    pub blocked: usize,
    /// The calls that the attempts may make.
    pub calls: usize,
    /// The hosts that these calls go to.
    pub hosts: usize,
    /// Connections that are retired.
    pub retirements: usize,
    /// Connections that stay as they are until a change is confirmed.
    pub held: usize,
    /// Problems of files.
    pub problems: usize,
    /// Attempts that are due later.
    pub later: usize,
}

/// A webhook that is notified of what happens.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedWebhook {
    pub name: String,
    pub call: PlannedCall,
    /// The types of events that it receives.
    pub on: Vec<EventType>,
}

impl From<&Webhook> for PlannedWebhook {
    fn from(webhook: &Webhook) -> PlannedWebhook {
        let path = match &webhook.address {
            WebhookAddress::Url(url) => url.path().to_string(),
            WebhookAddress::Stored { url_locator, .. } => format!("(in {url_locator})"),
        };
        let call = PlannedCall { method: "POST".to_string(), host: webhook.address.host(), path };
        PlannedWebhook { name: webhook.name.clone(), call, on: webhook.on.clone() }
    }
}

impl PlanReport {
    /// Returns true if nothing would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.retire.is_empty() && self.held.is_empty()
    }

    /// Counts what the plan contains.
    #[must_use]
    pub fn with_totals(mut self) -> PlanReport {
        let mut totals = PlanTotals {
            attempts: self.now.len(),
            blocked: self.now.iter().filter(|attempt| attempt.blocked.is_some()).count(),
            calls: self.now.iter().map(|attempt| attempt.calls.len()).sum(),
            retirements: self.retire.len(),
            held: self.held.iter().map(|hold| hold.count).sum(),
            problems: self.problems.len(),
            later: self.waiting,
            ..PlanTotals::default()
        };
        for attempt in &self.now {
            *totals.by_reason.entry(attempt.item.why.as_str()).or_default() += 1;
            *totals.by_family.entry(attempt.source_type.clone()).or_default() += 1;
        }
        let hosts: BTreeSet<&str> = self.now.iter().flat_map(|attempt| &attempt.calls).map(|call| call.host.as_str()).collect();
        totals.hosts = hosts.len();
        self.totals = totals;
        self
    }
}

fn optional_rfc3339<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(Timestamp::rfc3339).serialize(serializer)
}

/// Formats the plan as text.
#[must_use]
pub fn text(planned: &PlanReport) -> String {
    let mut text = String::new();
    for attempt in &planned.now {
        let sign = if attempt.item.why == Why::New { "+" } else { "~" };
        let _ = writeln!(
            text,
            "{sign} {} {}  {}\n    why:  {}",
            attempt.source_type,
            attempt.resource_ids.join(" "),
            attempt.item.connection,
            attempt.item.why.message()
        );
        if attempt.held {
            let _ = writeln!(text, "    held: it is checked as before its change, which is not confirmed");
        }
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
    if planned.policy_rejected {
        text.push_str("! the policy file is not valid; this is the plan of the last accepted policy\n");
    }
    for problem in &planned.problems {
        let _ = writeln!(text, "! {problem}");
    }
    if !planned.problems.is_empty() {
        text.push_str("  connections of a file with a problem keep their current state\n");
    }
    for webhook in &planned.webhooks {
        let PlannedCall { method, host, path } = &webhook.call;
        let on: Vec<&str> = webhook.on.iter().map(|kind| kind.as_str()).collect();
        let _ = writeln!(text, "  webhook {}  on {}\n    call: {method} {host} {path}", webhook.name, on.join(", "));
    }
    text.push_str(&totals(planned));
    text
}

/// Formats the numbers at the end of a plan as text.
#[must_use]
pub fn totals(planned: &PlanReport) -> String {
    let totals = &planned.totals;
    let later = match planned.next_due {
        Some(due) if planned.waiting > 0 => {
            format!("; {} scheduled, the next is due at {}", counted(planned.waiting, "later attempt"), due.rfc3339())
        }
        _ => String::new(),
    };
    let mut text = match planned.is_empty() {
        true => format!("nothing to do now{later}\n"),
        false => format!("{}, {}{later}\n", counted(totals.attempts, "attempt"), counted(totals.retirements, "retirement")),
    };
    if totals.attempts > 0 {
        let reasons = Why::ALL.iter().filter_map(|why| Some((*totals.by_reason.get(why.as_str())?, reason(*why))));
        let _ = writeln!(text, "  by reason: {}", listed(reasons));
        let families = totals.by_family.iter().map(|(family, count)| (*count, family.as_str()));
        let _ = writeln!(text, "  by family: {}", listed(families));
        let calls = format!("{} to {}", counted(totals.calls, "call"), counted(totals.hosts, "host"));
        let blocked = match totals.blocked {
            0 => String::new(),
            1 => "; 1 attempt stops before its first call".to_string(),
            blocked => format!("; {blocked} attempts stop before their first call"),
        };
        let _ = writeln!(text, "  at most {calls}{blocked}");
    }
    if totals.held > 0 {
        let stay = if totals.held == 1 { "stays as it is" } else { "stay as they are" };
        let _ = writeln!(text, "  held: {} {stay} until aam confirm", counted(totals.held, "connection"));
    }
    if totals.problems > 0 {
        let _ = writeln!(text, "  {} in files; aam check explains them", counted(totals.problems, "problem"));
    }
    text
}

/// The reason of an attempt after a number.
fn reason(why: Why) -> &'static str {
    match why {
        Why::New => "new",
        Why::SpecChanged => "changed intent",
        Why::PolicyChanged => "changed policy",
        Why::CredentialChanged => "changed credential",
        Why::Retry => "retry",
        Why::Health => "health check",
        Why::Drift => "schema check",
        Why::Heal => "heal",
    }
}

fn listed<'a>(counts: impl Iterator<Item = (usize, &'a str)>) -> String {
    let name = |name: &'a str| if name.is_empty() { "unknown" } else { name };
    counts.map(|(count, of)| format!("{count} {}", name(of))).collect::<Vec<_>>().join(", ")
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
