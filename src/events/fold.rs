//! The fold from entries of the ledger to events.
//!
//! It holds much less of a connection than a [`Snapshot`](crate::snapshot::Snapshot), because a reader that begins far back
//! needs a fold of its own.

use super::{Event, EventConnection, EventId, EventType};
use crate::model::ledger::{Entry, Fact, Finished, RecordedProblems};
use crate::model::{ConnectionId, DEMO_NAMESPACE, Scope, State};
use crate::policy::parse;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The number of schema changes that one event lists. The others are only counted.
const MAX_LISTED_CHANGES: usize = 20;
/// The target of `slo.coverage` before the first policy.
const DEFAULT_TARGET: f64 = 0.9;

/// The state of the fold after an entry.
#[derive(Clone, Debug)]
pub struct EventFold {
    connections: HashMap<ConnectionId, Tracked>,
    namespaces: BTreeMap<Arc<str>, Counts>,
    source_types: BTreeSet<Arc<str>>,
    /// Whether the policy file that was judged last was rejected.
    rejected: bool,
    target: f64,
    seq: u64,
}

/// What the fold knows of a connection.
#[derive(Clone, Debug)]
struct Tracked {
    namespace: Arc<str>,
    source_type: Arc<str>,
    document: u64,
    state: State,
    /// Whether a full attempt has passed since the connection was desired.
    proven: bool,
}

/// The connections of a namespace, and whether its coverage was met when it was last certain.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    eligible: u64,
    active: u64,
    pending: u64,
    met: Option<bool>,
}

impl Default for EventFold {
    fn default() -> EventFold {
        EventFold {
            connections: HashMap::new(),
            namespaces: BTreeMap::new(),
            source_types: BTreeSet::new(),
            rejected: false,
            target: DEFAULT_TARGET,
            seq: 0,
        }
    }
}

impl EventFold {
    /// Returns the number of the last entry that was applied.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the state of a connection, or `None` if no intent ever named it.
    #[must_use]
    pub fn state(&self, id: ConnectionId) -> Option<State> {
        self.connections.get(&id).map(|known| known.state)
    }

    /// Applies the next entry and returns its events. `policy` is the text of an accepted policy.
    pub fn apply(&mut self, entry: &Entry, policy: Option<&str>) -> Vec<Event> {
        self.seq = entry.seq;
        let mut events = Vec::new();
        if entry.namespace == DEMO_NAMESPACE {
            return events;
        }
        let mut out = Out { entry, events: &mut events };
        match (&entry.fact, entry.connection) {
            (Fact::IntentAccepted { origin, source_type, .. }, Some(id)) => {
                self.accept(&mut out, id, origin.to_string(), source_type);
            }
            (Fact::AttemptFinished(facts), Some(id)) => self.finish(&mut out, id, facts),
            (Fact::ConnectionRetired, Some(id)) => {
                let Some(known) = self.connections.get(&id).filter(|known| known.state != State::Retired) else { return events };
                out.push(EventType::Retired, Some((id, known)), json!({ "state_before": known.state }));
                self.change_state(&mut out, id, State::Retired, Map::new());
            }
            (Fact::CatalogRegistered { version, streams, breaking, additive, .. }, Some(id)) if *version > 1 => {
                let data = json!({
                    "catalog_version": version, "streams": streams, "kind": if breaking.is_empty() { "additive" } else { "breaking" },
                    "breaking": listed(breaking), "breaking_total": breaking.len(),
                    "additive": listed(additive), "additive_total": additive.len(),
                });
                if let Some(known) = self.connections.get(&id) {
                    out.push(EventType::Drift, Some((id, known)), data);
                }
            }
            (Fact::CredentialExpiring { ends_at, nearness, title, fix }, Some(id)) => {
                let data = json!({ "ends_at": ends_at.rfc3339(), "nearness": nearness, "title": title, "fix": fix });
                if let Some(known) = self.connections.get(&id) {
                    out.push(EventType::CredentialExpiring, Some((id, known)), data);
                }
            }
            (Fact::PolicyAccepted { policy: digest }, _) => {
                let data = json!({ "policy": digest.to_string(), "after_rejection": self.rejected });
                self.rejected = false;
                out.push(EventType::PolicyAccepted, None, data);
                if let Some(policy) = policy.and_then(|text| parse::parse(text, "").ok()) {
                    self.target = policy.slo.coverage;
                }
                let namespaces: Vec<Arc<str>> = self.namespaces.keys().cloned().collect();
                namespaces.iter().for_each(|namespace| self.judge(&mut out, namespace));
            }
            (Fact::PolicyRejected { problems, .. }, _) => {
                self.rejected = true;
                out.push(EventType::PolicyRejected, None, described(problems));
            }
            (Fact::IntentProblems { file, problems }, _) => {
                let kind = if problems.total == 0 { EventType::IntentProblemResolved } else { EventType::IntentProblem };
                let mut data = described(problems);
                data["file"] = file.as_str().into();
                out.push(kind, None, data);
            }
            _ => {}
        }
        events
    }

    fn accept(&mut self, out: &mut Out<'_>, id: ConnectionId, origin: String, source_type: &str) {
        let change = match self.connections.get_mut(&id) {
            Some(known) => {
                known.document = out.entry.seq;
                if known.state == State::Retired { "restored" } else { "changed" }
            }
            None => {
                let namespace = self.namespace(&out.entry.namespace);
                let source_type = interned(&mut self.source_types, source_type);
                self.namespaces.entry(Arc::clone(&namespace)).or_default().count(State::Pending, 1);
                let document = out.entry.seq;
                self.connections.insert(id, Tracked { namespace, source_type, document, state: State::Pending, proven: false });
                "created"
            }
        };
        if change == "restored" {
            self.connections.entry(id).and_modify(|known| known.proven = false);
            self.change_state(out, id, State::Pending, Map::new());
        }
        if let Some(known) = self.connections.get(&id) {
            let data = json!({ "change": change, "origin": origin, "state": known.state });
            out.push(EventType::IntentAccepted, Some((id, known)), data);
        }
    }

    fn finish(&mut self, out: &mut Out<'_>, id: ConnectionId, facts: &Finished) {
        let Some(known) = self.connections.get_mut(&id).filter(|known| known.state != State::Retired) else { return };
        if facts.class.is_some_and(|class| !class.conclusive()) {
            return;
        }
        known.proven |= facts.class.is_none() && facts.scope == Scope::Full;
        let state = State::derive(facts.class, known.proven);
        let mut data = Map::new();
        if let Some(class) = facts.class {
            data.insert("class".to_string(), class.as_str().into());
            data.insert("failed_step".to_string(), facts.failed_step.map_or(Value::Null, |step| step.as_str().into()));
            data.insert("title".to_string(), (*facts.title).into());
            data.insert("fix".to_string(), (*facts.fix).into());
        }
        self.change_state(out, id, state, data);
    }

    /// Puts the connection into `state`. If that changes it, there is an event, and the coverage is judged again.
    fn change_state(&mut self, out: &mut Out<'_>, id: ConnectionId, state: State, mut data: Map<String, Value>) {
        let Some(known) = self.connections.get_mut(&id).filter(|known| known.state != state) else { return };
        let before = std::mem::replace(&mut known.state, state);
        data.insert("from".to_string(), before.as_str().into());
        data.insert("to".to_string(), state.as_str().into());
        out.push(EventType::StateChanged, Some((id, known)), Value::Object(data));
        let namespace = Arc::clone(&known.namespace);
        let counts = self.namespaces.entry(Arc::clone(&namespace)).or_default();
        counts.count(before, -1);
        counts.count(state, 1);
        self.judge(out, &namespace);
    }

    /// Compares the coverage of `namespace` with the target. While connections are pending, it counts as missed only if it
    /// would be missed even if all of them became active; the numbers of a day one would otherwise be missed at once.
    fn judge(&mut self, out: &mut Out<'_>, namespace: &Arc<str>) {
        let target = self.target;
        let Some(counts) = self.namespaces.get_mut(namespace) else { return };
        let met = if counts.eligible > 0 && ratio(counts.active, counts.eligible) >= target {
            true
        } else if counts.eligible > 0 && ratio(counts.active + counts.pending, counts.eligible + counts.pending) < target {
            false
        } else {
            return;
        };
        if counts.met == Some(met) {
            return;
        }
        counts.met = Some(met);
        let kind = if met { EventType::SloMet } else { EventType::SloMissed };
        let data = json!({
            "eligible": counts.eligible, "active": counts.active, "pending": counts.pending,
            "coverage": ratio(counts.active, counts.eligible), "target": target,
        });
        out.push_of(namespace, kind, None, data);
    }

    fn namespace(&self, name: &str) -> Arc<str> {
        self.namespaces.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
    }
}

impl Counts {
    /// Adds `change` to the numbers in which a connection in `state` is counted, as the funnel counts them.
    fn count(&mut self, state: State, change: i64) {
        let add = |number: &mut u64| *number = number.saturating_add_signed(change);
        match state {
            State::Active => {
                add(&mut self.eligible);
                add(&mut self.active);
            }
            State::NetworkBlocked | State::Healing | State::Error => add(&mut self.eligible),
            State::Pending => add(&mut self.pending),
            State::AwaitingCredentials | State::Unsupported | State::Rejected | State::Retired => {}
        }
    }
}

/// Collects the events of one entry.
struct Out<'a> {
    entry: &'a Entry,
    events: &'a mut Vec<Event>,
}

impl Out<'_> {
    fn push(&mut self, kind: EventType, connection: Option<(ConnectionId, &Tracked)>, data: Value) {
        let namespace = connection.map_or_else(|| "".into(), |(_, known)| Arc::clone(&known.namespace));
        self.push_of(&namespace, kind, connection, data);
    }

    fn push_of(&mut self, namespace: &Arc<str>, kind: EventType, connection: Option<(ConnectionId, &Tracked)>, data: Value) {
        let index = u32::try_from(self.events.len() + 1).unwrap_or(u32::MAX);
        let connection = connection.map(|(id, known)| EventConnection {
            id,
            source_type: Arc::clone(&known.source_type),
            document: known.document,
        });
        let Value::Object(data) = data else { return };
        let id = EventId { seq: self.entry.seq, index };
        self.events.push(Event { id, kind, at: self.entry.at, namespace: Arc::clone(namespace), connection, data });
    }
}

fn interned(names: &mut BTreeSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    names.insert(Arc::clone(&name));
    name
}

#[expect(clippy::cast_precision_loss, reason = "counts of connections stay far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn listed(changes: &[String]) -> Vec<&String> {
    changes.iter().take(MAX_LISTED_CHANGES).collect()
}

fn described(problems: &RecordedProblems) -> Value {
    let one = |problem: &crate::model::Problem| {
        json!({
            "file": problem.file, "pointer": problem.pointer, "line": problem.place.map(|place| place.line),
            "message": problem.message, "hint": problem.hint,
        })
    };
    json!({ "problems": problems.first.iter().map(one).collect::<Vec<_>>(), "problems_total": problems.total })
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
