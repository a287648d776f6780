//! The funnel: a fold over the snapshot, never a counter.
//!
//! Partitions (held by property tests for arbitrary histories):
//! - received = rejected + unsupported_type + awaiting_credentials + pending + eligible
//! - eligible = active + network_blocked + healing + error
//! - active <= reachable <= eligible

pub mod summary;

use crate::model::{State, Timestamp};
use crate::snapshot::{Attempt, Connection, Snapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer of `GET /metrics/funnel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Funnel {
    pub namespace: String,
    /// RFC 3339: the instant the registry was folded for.
    pub as_of: String,
    /// Always `database`: nothing here comes from anywhere else.
    pub data_source: String,
    pub received: u64,
    pub rejected: u64,
    pub unsupported_type: u64,
    pub awaiting_credentials: u64,
    pub eligible: u64,
    pub reachable: u64,
    pub active: u64,
    pub pending: u64,
    pub network_blocked: u64,
    pub healing: u64,
    pub error: u64,
    /// active / eligible, 0 when nothing is eligible.
    pub coverage: f64,
    pub target: f64,
    pub slo_met: bool,
    /// Connections whose connector opened and met the right identity at least once.
    pub auto_created: u64,
    /// Nearest-rank p95 of the tiny syncs of the ACTIVE connections, in milliseconds.
    pub first_sync_p95_ms: u64,
    pub blockers: Vec<Blocker>,
    /// The executive's lines, as every surface prints them.
    pub summary: Vec<String>,
}

/// One reason that keeps connections from being ACTIVE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Blocker {
    pub name: String,
    pub count: u64,
    pub fix: String,
}

/// Folds the connections of `namespace`. `target` is the policy's `slo.coverage`.
#[must_use]
pub fn funnel(snapshot: &Snapshot, namespace: &str, target: f64, as_of: Timestamp) -> Funnel {
    let mut funnel = empty(namespace, target, as_of);
    let mut latencies = Vec::new();
    let mut blockers: BTreeMap<(State, &str, &str), (u64, &str)> = BTreeMap::new();
    for (_, connection) in snapshot.of_namespace(namespace) {
        let state = connection.state();
        if state == State::Retired {
            continue;
        }
        count(&mut funnel, state, connection);
        if state == State::Active {
            latencies.extend(connection.proven.as_ref().and_then(|proven| proven.facts.latency_ms));
        } else if let Some(attempt) = blocker(state, connection) {
            let name = (state, &*connection.source_type, &*attempt.facts.title);
            blockers.entry(name).or_insert((0, &*attempt.facts.fix)).0 += 1;
        }
    }
    funnel.eligible = funnel.active + funnel.network_blocked + funnel.healing + funnel.error;
    if funnel.eligible > 0 {
        #[expect(clippy::cast_precision_loss, reason = "counts of connections stay far below 2^52")]
        let coverage = funnel.active as f64 / funnel.eligible as f64;
        funnel.coverage = coverage;
        funnel.slo_met = coverage >= target;
    }
    funnel.first_sync_p95_ms = p95(&mut latencies);
    funnel.blockers = ranked(blockers);
    funnel.summary = summary::lines(&funnel);
    funnel
}

fn empty(namespace: &str, target: f64, as_of: Timestamp) -> Funnel {
    Funnel {
        namespace: namespace.to_string(),
        as_of: as_of.rfc3339(),
        data_source: "database".to_string(),
        received: 0,
        rejected: 0,
        unsupported_type: 0,
        awaiting_credentials: 0,
        eligible: 0,
        reachable: 0,
        active: 0,
        pending: 0,
        network_blocked: 0,
        healing: 0,
        error: 0,
        coverage: 0.0,
        target,
        slo_met: false,
        auto_created: 0,
        first_sync_p95_ms: 0,
        blockers: Vec::new(),
        summary: Vec::new(),
    }
}

fn count(funnel: &mut Funnel, state: State, connection: &Connection) {
    funnel.received += 1;
    let (slot, eligible) = match state {
        State::Active => (&mut funnel.active, true),
        State::NetworkBlocked => (&mut funnel.network_blocked, true),
        State::Healing => (&mut funnel.healing, true),
        State::Error => (&mut funnel.error, true),
        State::AwaitingCredentials => (&mut funnel.awaiting_credentials, false),
        State::Unsupported => (&mut funnel.unsupported_type, false),
        State::Rejected => (&mut funnel.rejected, false),
        State::Pending | State::Retired => (&mut funnel.pending, false),
    };
    *slot += 1;
    let healthy = connection.conclusive.as_ref().is_some_and(|attempt| attempt.facts.healthy);
    if eligible && healthy {
        funnel.reachable += 1;
    }
    if connection.conclusive.iter().chain(&connection.proven).any(|attempt| attempt.facts.upserted) {
        funnel.auto_created += 1;
    }
}

/// The funnel stage a connection has come to, for result bodies.
#[must_use]
pub fn stage(connection: &Connection) -> &'static str {
    match connection.state() {
        State::Active => "active",
        State::NetworkBlocked | State::Healing | State::Error => {
            if connection.conclusive.as_ref().is_some_and(|attempt| attempt.facts.healthy) { "reachable" } else { "eligible" }
        }
        State::AwaitingCredentials => "awaiting_credentials",
        State::Unsupported => "unsupported_type",
        State::Rejected => "rejected",
        State::Pending => "pending",
        State::Retired => "retired",
    }
}

/// Pending is work under way and blocks nothing, unless the latest attempt was told to wait.
fn blocker(state: State, connection: &Connection) -> Option<&Attempt> {
    if state == State::Pending { connection.last.as_deref() } else { connection.conclusive.as_deref() }
}

/// Most frequent first, then by name.
fn ranked(blockers: BTreeMap<(State, &str, &str), (u64, &str)>) -> Vec<Blocker> {
    let mut list: Vec<Blocker> = blockers
        .into_iter()
        .map(|((state, family, title), (count, fix))| Blocker {
            name: format!("{state} {family}: {title}"),
            count,
            fix: fix.to_string(),
        })
        .collect();
    list.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    list
}

/// Nearest-rank p95; 0 when there is nothing.
fn p95(values: &mut [u64]) -> u64 {
    if values.is_empty() {
        return 0;
    }
    let rank = (values.len() * 95).div_ceil(100).max(1) - 1;
    *values.select_nth_unstable(rank).1
}

#[cfg(test)]
mod tests;
