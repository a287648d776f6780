//! Finds the connections that leave: those that no intent asks for any more, and those that their changed intent or the
//! changed policy does not allow any more. [`crate::plan::departures`] decides which of them are held.

use crate::connectors::Engines;
use crate::model::{Class, ConnectionId, Digest, Intent, State};
use crate::pipeline::{self, Env};
use crate::plan::PlanContext;
use crate::plan::departures::{Departure, DepartureKind};
use crate::policy::Policy;
use crate::snapshot::{Connection, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Decides for one connection whether it leaves.
pub struct DepartureFinder<'a> {
    pub engines: &'a Engines,
    pub context: &'a PlanContext,
    /// Reads the intent in the ledger entry with the given sequence number.
    pub document: &'a dyn Fn(u64) -> Option<Intent>,
}

/// The connections that leave, as of the last update. It is a cache of what the registry and the policy say.
#[derive(Debug, Default)]
pub struct Departures(pub BTreeMap<ConnectionId, Departure>);

/// A connection to evaluate. It is a copy, so that the writer does not wait while documents are read.
type Candidate = (ConnectionId, Connection);

impl Departures {
    /// Finds all departures.
    #[must_use]
    pub fn find(snapshot: &Snapshot, finder: &DepartureFinder<'_>) -> BTreeMap<ConnectionId, Departure> {
        let candidates = candidates(snapshot, finder.context, snapshot.connections.keys());
        let policy_at = snapshot.policy_at;
        candidates.into_iter().filter_map(|(id, known)| Some((id, finder.departure(&known, policy_at)?))).collect()
    }

    /// Evaluates `changed` and the known departures again, or all connections if it is not known what changed.
    pub fn update<'s>(
        &mut self,
        snapshot: impl Fn() -> std::sync::RwLockReadGuard<'s, Snapshot>,
        finder: &DepartureFinder<'_>,
        changed: Option<&BTreeSet<ConnectionId>>,
    ) {
        let (candidates, policy_at) = {
            let snapshot = snapshot();
            let candidates = match changed {
                None => candidates(&snapshot, finder.context, snapshot.connections.keys()),
                Some(changed) => {
                    let ids: BTreeSet<ConnectionId> = self.0.keys().chain(changed).copied().collect();
                    candidates(&snapshot, finder.context, ids.into_iter())
                }
            };
            (candidates, snapshot.policy_at)
        };
        let before = std::mem::take(&mut self.0);
        for (id, known) in candidates {
            let unchanged = before.get(&id).filter(|departure| finder.is_unchanged(&known, departure)).cloned();
            if let Some(departure) = unchanged.or_else(|| finder.departure(&known, policy_at)) {
                self.0.insert(id, departure);
            }
        }
    }
}

/// The connections among `ids` that may leave.
fn candidates(snapshot: &Snapshot, context: &PlanContext, ids: impl Iterator<Item = ConnectionId>) -> Vec<Candidate> {
    let leaves = |known: &Connection| {
        known.retired.is_none() && !snapshot.is_closed(&known.namespace) && (known.orphaned() || is_changed(known, context))
    };
    let candidate = |id| {
        let known = snapshot.connections.get(&id)?;
        leaves(&known).then(|| (id, known.into_owned()))
    };
    ids.filter_map(candidate).collect()
}

/// Whether the intent or the policy changed since the latest attempt of a connection that was allowed.
fn is_changed(known: &Connection, context: &PlanContext) -> bool {
    let Some(last) = known.last.as_ref().filter(|_| known.conclusive.is_some()) else { return false };
    let refused = matches!(known.state(), State::Rejected | State::Unsupported);
    !refused && (last.facts.generation != known.generation || last.facts.slice != context.inputs(known))
}

impl DepartureFinder<'_> {
    /// Returns the departure of a connection, or `None` if it stays.
    fn departure(&self, known: &Connection, policy_at: crate::model::Timestamp) -> Option<Departure> {
        if let Some(withdrawn) = Departure::withdrawn(known) {
            let checkable = || !is_changed(&known.before_departure(), self.context) || self.is_checkable(known);
            return Some(Departure { checkable: withdrawn.checkable && checkable(), ..withdrawn });
        }
        if !is_changed(known, self.context) {
            return None;
        }
        let reason = self.refusal(&(self.document)(known.document)?)?;
        let before = known.superseded.as_ref();
        let by_document = before.is_some_and(|before| {
            let intent = (self.document)(before.document);
            intent.is_some_and(|intent| self.refusal(&intent).is_none())
        });
        Some(Departure {
            kind: if by_document { DepartureKind::Document } else { DepartureKind::Policy },
            cause: self.cause(known),
            at: before.filter(|_| by_document).map_or(policy_at, |before| before.at),
            reason,
            checkable: self.is_checkable(known),
        })
    }

    /// Whether a departure was found for the same intent and the same policy.
    fn is_unchanged(&self, known: &Connection, departure: &Departure) -> bool {
        departure.kind != DepartureKind::Withdrawn && !known.orphaned() && departure.cause == self.cause(known)
    }

    fn cause(&self, known: &Connection) -> Digest {
        Digest::from_parts(&[b"refused", &known.spec.0, &self.context.inputs(known).0])
    }

    /// Why the policy does not allow the intent, if a connection with it would be REJECTED or UNSUPPORTED.
    fn refusal(&self, intent: &Intent) -> Option<String> {
        let failure = pipeline::bind(self.engines, &self.context.policy, self.context.sources(), intent).err()?;
        matches!(failure.class, Class::NotEligible | Class::NotMappable | Class::Unsupported).then_some(failure.title)
    }

    /// Whether the connection can be checked as before, apart from the rules that do not allow it any more.
    fn is_checkable(&self, known: &Connection) -> bool {
        let Some(intent) = (self.document)(known.before_departure().document) else { return false };
        let policy = Arc::new(admitting(&self.context.policy, &intent));
        pipeline::bind(self.engines, &policy, self.context.sources(), &intent).is_ok()
    }
}

/// Gives back the leases of connections that were retired: of all of them, if it is not known which ones `changed`.
pub fn release_retired(env: &Arc<Env>, snapshot: &Snapshot, changed: Option<&BTreeSet<ConnectionId>>) {
    let is_retired = |id: &ConnectionId| snapshot.connections.get(id).is_some_and(|known| known.retired.is_some());
    let retired: Vec<ConnectionId> = match changed {
        Some(changed) => changed.iter().copied().filter(is_retired).collect(),
        None => snapshot.connections.keys().filter(is_retired).collect(),
    };
    if retired.is_empty() {
        return;
    }
    let env = Arc::clone(env);
    tokio::spawn(async move {
        for connection in retired {
            env.providers.release(connection).await;
        }
    });
}

/// Returns `policy` with rules that allow `intent`: what a held connection is checked under. Everything else, such as the
/// network and the credentials, is that of the policy in force.
#[must_use]
pub fn admitting(policy: &Policy, intent: &Intent) -> Policy {
    let mut admitting = policy.clone();
    admitting.allowlist.insert(intent.source_type.clone());
    admitting.eligibility.evidence.push(intent.evidence.status.clone());
    admitting.eligibility.max_risk = crate::model::Risk::High;
    admitting.eligibility.min_confidence = 0.0;
    admitting
}
