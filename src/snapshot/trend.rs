//! How many connections of each namespace were in each state, now and at past instants.
//!
//! An entry touches at most one connection, so the counts follow from the state of that connection before and after it. The
//! counts at a boundary (every 15 minutes of the ledger's time) are a sample. A sample is stored only if the counts differ
//! from the sample before it, and older samples are thinned to what [`TrendRange`] shows: 15 minutes for a day, an hour for
//! a week, 6 hours for 30 days. A namespace therefore holds at most about 350 samples.

use super::Snapshot;
use crate::model::ledger::Entry;
use crate::model::{ConnectionId, State, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The time between two boundaries, in milliseconds.
const QUARTER_MS: i64 = 15 * 60 * 1000;
const HOUR_MS: i64 = 4 * QUARTER_MS;
const SIX_HOURS_MS: i64 = 6 * HOUR_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The number of namespaces whose trend is kept: the first ones that received an intent.
pub const MAX_NAMESPACES: usize = 1000;

/// The number of connections of a namespace in each state. Retired connections are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub active: u32,
    pub healing: u32,
    pub error: u32,
    pub network_blocked: u32,
    pub awaiting_credentials: u32,
    pub pending: u32,
    pub unsupported: u32,
    pub rejected: u32,
    /// The eligible connections whose latest conclusive attempt passed the health step.
    pub reachable: u32,
}

impl Counts {
    /// The connections that count for the coverage: those whose state shows that a credential resolved.
    #[must_use]
    pub fn eligible(&self) -> u32 {
        self.active + self.healing + self.error + self.network_blocked
    }

    /// All connections that are not retired.
    #[must_use]
    pub fn received(&self) -> u32 {
        self.eligible() + self.awaiting_credentials + self.pending + self.not_connectable()
    }

    /// The connections that are rejected or of an unsupported type.
    #[must_use]
    pub fn not_connectable(&self) -> u32 {
        self.rejected + self.unsupported
    }

    /// active / eligible, from 0 to 1. `None` if nothing is eligible.
    #[must_use]
    pub fn coverage(&self) -> Option<f64> {
        let eligible = self.eligible();
        (eligible > 0).then(|| f64::from(self.active) / f64::from(eligible))
    }

    /// The count of the connections in `state`. `None` for RETIRED.
    fn count_of(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Active => Some(&mut self.active),
            State::Healing => Some(&mut self.healing),
            State::Error => Some(&mut self.error),
            State::NetworkBlocked => Some(&mut self.network_blocked),
            State::AwaitingCredentials => Some(&mut self.awaiting_credentials),
            State::Pending => Some(&mut self.pending),
            State::Unsupported => Some(&mut self.unsupported),
            State::Rejected => Some(&mut self.rejected),
            State::Retired => None,
        }
    }

    fn add(&mut self, standing: Standing) {
        if let Some(count) = self.count_of(standing.state) {
            *count = count.saturating_add(1);
        }
        self.reachable = self.reachable.saturating_add(u32::from(standing.is_reachable()));
    }

    fn remove(&mut self, standing: Standing) {
        if let Some(count) = self.count_of(standing.state) {
            *count = count.saturating_sub(1);
        }
        self.reachable = self.reachable.saturating_sub(u32::from(standing.is_reachable()));
    }
}

/// What the trend counts of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    state: State,
    is_healthy: bool,
}

impl Standing {
    fn is_reachable(self) -> bool {
        let eligible = matches!(self.state, State::Active | State::Healing | State::Error | State::NetworkBlocked);
        eligible && self.is_healthy
    }
}

/// The counts at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub at: Timestamp,
    pub counts: Counts,
}

/// How far back a series goes, and how far its points are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrendRange {
    /// 24 hours: 96 points, 15 minutes apart.
    #[default]
    Day,
    /// 7 days: 168 points, an hour apart.
    Week,
    /// 30 days: 120 points, 6 hours apart.
    Month,
}

impl TrendRange {
    /// All ranges, the shortest first.
    pub const ALL: [TrendRange; 3] = [TrendRange::Day, TrendRange::Week, TrendRange::Month];

    /// The value of the query parameter `range`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TrendRange::Day => "24h",
            TrendRange::Week => "7d",
            TrendRange::Month => "30d",
        }
    }

    /// The name for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            TrendRange::Day => "24 hours",
            TrendRange::Week => "7 days",
            TrendRange::Month => "30 days",
        }
    }

    /// Parses the value of the query parameter `range`.
    #[must_use]
    pub fn parse(text: &str) -> Option<TrendRange> {
        TrendRange::ALL.into_iter().find(|range| range.as_str() == text)
    }

    /// The number of points of a complete series.
    #[must_use]
    pub fn points(self) -> u32 {
        match self {
            TrendRange::Day => 96,
            TrendRange::Week => 168,
            TrendRange::Month => 120,
        }
    }

    /// The milliseconds between two points.
    fn step_ms(self) -> i64 {
        match self {
            TrendRange::Day => QUARTER_MS,
            TrendRange::Week => HOUR_MS,
            TrendRange::Month => SIX_HOURS_MS,
        }
    }

    /// The instants between which a series up to `now` is drawn. Each point stands for the time since the point before it, so
    /// the first instant is one step before the first point, and the last one is the boundary at or after `now`.
    #[must_use]
    pub fn window(self, now: Timestamp) -> (Timestamp, Timestamp) {
        let until = boundary(now, self.step_ms());
        let length = self.step_ms().saturating_mul(i64::from(self.points()));
        (Timestamp(until.0.saturating_sub(length)), until)
    }
}

/// The first boundary at or after `at`, if boundaries are `step_ms` apart.
fn boundary(at: Timestamp, step_ms: i64) -> Timestamp {
    Timestamp(at.0.saturating_add(step_ms - 1).div_euclid(step_ms).saturating_mul(step_ms))
}

/// The trend of all namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trend {
    pub(super) namespaces: BTreeMap<Arc<str>, NamespaceTrend>,
}

/// The trend of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct NamespaceTrend {
    /// The current counts.
    counts: Counts,
    /// When the counts last changed.
    changed: Timestamp,
    /// Past counts in order of time. Each holds from its boundary to the next sample, and the last one to `changed`.
    samples: Vec<Point>,
}

impl NamespaceTrend {
    fn new(at: Timestamp) -> NamespaceTrend {
        NamespaceTrend { counts: Counts::default(), changed: at, samples: Vec::new() }
    }

    fn change(&mut self, at: Timestamp, before: Option<Standing>, after: Option<Standing>) {
        // The counts until now are those of the boundary after their last change, if this change is behind that boundary.
        let at_boundary = boundary(self.changed, QUARTER_MS);
        if at > at_boundary {
            let is_new = self.samples.last().is_none_or(|last| last.counts != self.counts);
            if is_new {
                self.samples.push(Point { at: at_boundary, counts: self.counts });
                self.thin(at);
            }
        }
        self.changed = self.changed.max(at);
        if let Some(before) = before {
            self.counts.remove(before);
        }
        if let Some(after) = after {
            self.counts.add(after);
        }
    }

    /// Drops the samples that no series from `now` on shows. Of those that are more than 30 days old, the last one stays,
    /// because it holds at the beginning of the 30 days.
    fn thin(&mut self, now: Timestamp) {
        let mut kept: Vec<Point> = Vec::with_capacity(self.samples.len());
        for sample in &self.samples {
            let step = step_of_age(now.0.saturating_sub(sample.at.0));
            let same_point = |last: &Point| step.is_none_or(|step| boundary(last.at, step) == boundary(sample.at, step));
            if kept.last().is_some_and(same_point) {
                kept.pop();
            }
            kept.push(*sample);
        }
        self.samples = kept;
    }

    /// The counts at `at`, which is a boundary or not before the last change. `None` before the first entry.
    fn at(&self, at: Timestamp) -> Option<Counts> {
        if at >= self.changed {
            return Some(self.counts);
        }
        let later = self.samples.partition_point(|sample| sample.at <= at);
        self.samples.get(later.checked_sub(1)?).map(|sample| sample.counts)
    }
}

/// The milliseconds between the points that show a sample of this age. `None` for a sample that is older than all points.
fn step_of_age(age_ms: i64) -> Option<i64> {
    match age_ms {
        age if age <= DAY_MS => Some(QUARTER_MS),
        age if age <= 7 * DAY_MS => Some(HOUR_MS),
        age if age <= 30 * DAY_MS => Some(SIX_HOURS_MS),
        _ => None,
    }
}

impl Trend {
    /// The counts of `namespace` from the beginning of `range` to `now`, in order of time. The last point is at `now`, and
    /// the others are at boundaries. Points before the first entry of the namespace are absent.
    #[must_use]
    pub fn series(&self, namespace: &str, range: TrendRange, now: Timestamp) -> Vec<Point> {
        let Some(kept) = self.namespaces.get(namespace) else { return Vec::new() };
        // The time of the ledger may be ahead of the reader's clock.
        let now = now.max(kept.changed);
        let (_, until) = range.window(now);
        let instants = (0..i64::from(range.points())).rev().map(|back| {
            let at = until.0.saturating_sub(range.step_ms().saturating_mul(back));
            Timestamp(at).min(now)
        });
        instants.filter_map(|at| kept.at(at).map(|counts| Point { at, counts })).collect()
    }

    /// Every namespace that has a connection. `None` if there are more than the trend has.
    pub(super) fn all_namespaces(&self) -> Option<impl Iterator<Item = &str>> {
        (self.namespaces.len() < MAX_NAMESPACES).then(|| self.namespaces.keys().map(|name| &**name))
    }

    fn change(&mut self, namespace: &Arc<str>, at: Timestamp, before: Option<Standing>, after: Option<Standing>) {
        if let Some(known) = self.namespaces.get_mut(namespace) {
            known.change(at, before, after);
        } else if self.namespaces.len() < MAX_NAMESPACES {
            let known = self.namespaces.entry(Arc::clone(namespace)).or_insert_with(|| NamespaceTrend::new(at));
            known.change(at, before, after);
        }
    }
}

impl Snapshot {
    /// What the trend counts of the connection `id`.
    pub(super) fn standing(&self, id: Option<ConnectionId>) -> Option<Standing> {
        let connection = self.connections.get(&id?)?;
        Some(Standing { state: connection.state(), is_healthy: connection.is_healthy() })
    }

    /// Adds an entry that was just applied to the trend. `before` is what its connection counted as before it.
    pub(super) fn apply_to_trend(&mut self, entry: &Entry, before: Option<Standing>) {
        let after = self.standing(entry.connection);
        if before == after {
            return;
        }
        if let Some(connection) = entry.connection.and_then(|id| self.connections.get(&id)) {
            self.trend.change(&connection.namespace, entry.at, before, after);
        }
    }
}

#[cfg(test)]
mod tests;
