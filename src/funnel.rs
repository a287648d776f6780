//! The funnel: how many connections of a namespace have reached each stage.
//!
//! The funnel is computed from the snapshot each time and never incremented, so a repeated push, a retry or a restart
//! cannot change a number. Property tests check the following for arbitrary histories:
//! - received = rejected + unsupported_type + awaiting_credentials + pending + eligible
//! - eligible = active + network_blocked + healing + error
//! - active <= reachable <= eligible

pub mod causes;
pub mod coverage;
pub mod stage;
pub mod summary;

pub use coverage::Coverage;
pub use stage::Stage;

use crate::model::ending::nearness;
use crate::model::{Class, State, Timestamp};
use crate::snapshot::{Attempt, Connection, Snapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What [`furthest_stage`] returns for a RETIRED connection, which is not in the funnel.
pub const RETIRED: &str = "retired";

/// The answer of `GET /metrics/funnel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Funnel {
    pub namespace: String,
    /// The instant that the numbers are for, as RFC 3339.
    pub as_of: String,
    /// Always `database`.
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
    /// Connections whose credential can do more than read, in any state.
    #[serde(default)]
    pub over_privileged: u64,
    /// ACTIVE connections with streams that their credential may not read.
    #[serde(default)]
    pub partly_readable: u64,
    /// Connections whose credential ends within 14 days or has ended, and that a person has to replace.
    #[serde(default)]
    pub credentials_ending: u64,
    /// The seconds until the first credential that a person has to replace ends; negative after its end. `null` if no end
    /// is known.
    #[serde(default)]
    pub first_credential_end_seconds: Option<i64>,
    /// Connections whose connector opened and found the expected identity at least once.
    pub auto_created: u64,
    /// Nearest-rank p95 of the duration of the tiny syncs of the ACTIVE connections, in milliseconds.
    pub first_sync_p95_ms: u64,
    pub blockers: Vec<Blocker>,
    /// The lines of the exec summary.
    pub summary: Vec<String>,
}

/// A reason that keeps connections from becoming ACTIVE, or that hides a part of ACTIVE connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Blocker {
    pub name: String,
    pub count: u64,
    pub fix: String,
}

/// Computes the funnel of `namespace`. `target` is the policy's `slo.coverage`.
#[must_use]
pub fn funnel(snapshot: &Snapshot, namespace: &str, target: f64, as_of: Timestamp) -> Funnel {
    let mut funnel = empty(namespace, target, as_of);
    let mut latencies = Vec::new();
    let mut blockers = Blockers::default();
    for (_, connection) in snapshot.of_namespace(namespace) {
        let state = connection.state();
        let Some(stage) = Stage::from_state(state) else {
            continue;
        };
        count(&mut funnel, stage, &connection);
        if state == State::Active {
            latencies.extend(connection.proven.as_ref().and_then(|proven| proven.facts.latency_ms));
        } else if let Some(attempt) = blocker(state, &connection) {
            let facts = &attempt.facts;
            blockers.add((state, &connection.source_type, &facts.title), &facts.fix);
        }
        warnings(&mut funnel, state, &connection, &mut blockers);
        ending(&mut funnel, &connection, as_of);
    }
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

/// By state, source type and title: how many connections, and the fix.
type BlockerMap = BTreeMap<(State, Arc<str>, Arc<str>), (u64, Arc<str>)>;

#[derive(Default)]
struct Blockers(BlockerMap);

impl Blockers {
    fn add(&mut self, (state, source_type, title): (State, &Arc<str>, &Arc<str>), fix: &Arc<str>) {
        let name = (state, Arc::clone(source_type), Arc::clone(title));
        self.0.entry(name).or_insert_with(|| (0, Arc::clone(fix))).0 += 1;
    }
}

/// Counts the warnings of a connection. A part of an ACTIVE connection that cannot be read is listed like a blocker.
fn warnings(funnel: &mut Funnel, state: State, connection: &Connection, blockers: &mut Blockers) {
    let has = |class: Class| connection.warnings().any(|warning| warning.class == class);
    funnel.over_privileged += u64::from(has(Class::OverPrivileged));
    if state != State::Active {
        return;
    }
    funnel.partly_readable += u64::from(has(Class::PermissionDenied));
    for warning in connection.warnings().filter(|warning| warning.class == Class::PermissionDenied) {
        blockers.add((state, &connection.source_type, &warning.title), &warning.fix);
    }
}

/// Counts a credential that ends soon.
fn ending(funnel: &mut Funnel, connection: &Connection, now: Timestamp) {
    let Some(ends_at) = connection.credential_ends_at() else { return };
    let left = ends_at.0.saturating_sub(now.0).div_euclid(1000);
    funnel.first_credential_end_seconds = Some(funnel.first_credential_end_seconds.map_or(left, |first| first.min(left)));
    funnel.credentials_ending += u64::from(nearness(ends_at, now).is_some());
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
        over_privileged: 0,
        partly_readable: 0,
        credentials_ending: 0,
        first_credential_end_seconds: None,
        auto_created: 0,
        first_sync_p95_ms: 0,
        blockers: Vec::new(),
        summary: Vec::new(),
    }
}

fn count(funnel: &mut Funnel, stage: Stage, connection: &Connection) {
    let mut next = Some(stage);
    while let Some(stage) = next {
        funnel.increment(stage);
        next = stage.part_of();
    }
    if stage.part_of() == Some(Stage::Eligible) && is_healthy(connection) {
        funnel.increment(Stage::Reachable);
    }
    if connection.conclusive.iter().chain(&connection.proven).any(|attempt| attempt.facts.upserted) {
        funnel.auto_created += 1;
    }
}

fn is_healthy(connection: &Connection) -> bool {
    connection.is_healthy()
}

/// Returns the furthest stage that a connection has reached, or `retired` for a connection that is not in any stage.
#[must_use]
pub fn furthest_stage(connection: &Connection) -> &'static str {
    let Some(stage) = Stage::from_state(connection.state()) else {
        return RETIRED;
    };
    let furthest = match stage.part_of() {
        Some(Stage::Eligible) if stage == Stage::Active => Stage::Active,
        Some(Stage::Eligible) if is_healthy(connection) => Stage::Reachable,
        Some(Stage::Eligible) => Stage::Eligible,
        _ => stage,
    };
    furthest.as_str()
}

/// Returns the attempt that shows what blocks the connection. A PENDING connection is blocked only if its latest
/// attempt was throttled or interrupted.
fn blocker(state: State, connection: &Connection) -> Option<&Attempt> {
    if state == State::Pending { connection.last.as_deref() } else { connection.conclusive.as_deref() }
}

/// Returns the blockers, most frequent first, and after them what hides a part of ACTIVE connections. Equally frequent
/// ones are in the order of the key, which starts with the most urgent state.
fn ranked(blockers: Blockers) -> Vec<Blocker> {
    let (partial, blocking): (BlockerMap, BlockerMap) =
        blockers.0.into_iter().partition(|((state, _, _), _)| *state == State::Active);
    listed(blocking).into_iter().chain(listed(partial)).collect()
}

fn listed(blockers: BlockerMap) -> Vec<Blocker> {
    let mut list: Vec<Blocker> = blockers
        .into_iter()
        .map(|((state, family, title), (count, fix))| Blocker {
            name: format!("{state} {family}: {title}"),
            count,
            fix: fix.to_string(),
        })
        .collect();
    // The sort is stable, so blockers with equal counts keep the order of the map.
    list.sort_by_key(|blocker| std::cmp::Reverse(blocker.count));
    list
}

/// Returns the nearest-rank p95 of `values`, or 0 if there are no values.
fn p95(values: &mut [u64]) -> u64 {
    if values.is_empty() {
        return 0;
    }
    let rank = (values.len() * 95).div_ceil(100).max(1) - 1;
    *values.select_nth_unstable(rank).1
}

#[cfg(test)]
mod tests;
