//! Which connections would leave at once, and whether that change is held until a person confirms it. Pure.
//!
//! A connection leaves when no intent asks for it any more, or when its intent or the policy changes so that it may not be
//! connected any more. One person removes a few files; a lost mount or a wrong edit removes hundreds. Decision record 57
//! gives the limits and their reasons.

use crate::model::{ConnectionId, Digest, Origin, State, Timestamp};
use crate::policy::{MaxRetire, Policy};
use crate::snapshot::{Connection, Snapshot};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What left this long before a change counts with it, because a script may remove files one by one.
pub const WINDOW: Duration = Duration::from_secs(600);

/// A change of up to this many connections is not held because of its share: who removes a few files sees what they do.
pub const MIN_SHARE_COUNT: usize = 5;

/// Why a connection leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DepartureKind {
    /// No intent asks for it any more; it would be RETIRED.
    Withdrawn,
    /// Its intent changed and is not eligible; it would be REJECTED or UNSUPPORTED.
    Document,
    /// The policy changed and does not allow it any more; it would be REJECTED or UNSUPPORTED.
    Policy,
}

/// A connection that leaves unless its departure is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    pub kind: DepartureKind,
    /// Identifies the change. A confirmation is for this change only.
    pub cause: Digest,
    /// When the change was recorded.
    pub at: Timestamp,
    /// Why, for people: the reason of the withdrawal, or the title of the failure.
    pub reason: String,
    /// False if the connection must not or cannot be checked as before, for example because a discovery tool does not allow it
    /// any more, or because its manifest is gone.
    pub checkable: bool,
}

impl Departure {
    /// The departure of a connection that no intent asks for any more, or `None` if one does.
    #[must_use]
    pub fn withdrawn(known: &Connection) -> Option<Departure> {
        let withdrawn = known.withdrawn.as_ref().filter(|_| known.orphaned())?;
        Some(Departure::from_origin(known, &withdrawn.desired.origin, withdrawn.at))
    }

    /// The departure of a connection that `origin` was the last to desire, until `at`.
    fn from_origin(known: &Connection, origin: &Origin, at: Timestamp) -> Departure {
        Departure {
            kind: DepartureKind::Withdrawn,
            cause: Digest::from_parts(&[b"withdrawn", &known.spec.0]),
            at,
            reason: source_of(origin),
            // A handoff withdraws a connection only by saying that it may not be connected, and a hold does not override that.
            checkable: !origin.is_handoff(),
        }
    }
}

/// Names what asked for a connection last.
fn source_of(origin: &Origin) -> String {
    match origin.folder_path() {
        Some(path) => format!("{path} in the intents folder does not ask for it any more"),
        None if origin.is_handoff() => format!("{origin} does not allow it any more, so AAM does not call it"),
        None => format!("{origin} does not ask for it any more"),
    }
}

/// The departures of one namespace, which wait for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub namespace: String,
    /// Identifies exactly this set of departures.
    pub digest: Digest,
    pub departures: BTreeMap<ConnectionId, Departure>,
    /// How many connections left shortly before without a confirmation, and count with it.
    pub recent: usize,
    /// The number of connections that were desired before the change.
    pub desired: usize,
    /// Whether the policy lists the digest as confirmed.
    pub confirmed_by_policy: bool,
}

/// All holds, by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    pub holds: Vec<Hold>,
    /// The entry of the ledger up to which the holds are computed.
    pub seq: u64,
}

impl Holds {
    /// Decides which of `departures` are held.
    #[must_use]
    pub fn new(snapshot: &Snapshot, departures: &BTreeMap<ConnectionId, Departure>, policy: &Policy) -> Holds {
        let mut by_namespace: BTreeMap<Arc<str>, BTreeMap<ConnectionId, Departure>> = BTreeMap::new();
        for (id, departure) in departures {
            let Some(known) = snapshot.connections.get(id) else { continue };
            if known.confirmed.as_deref() != Some(&departure.cause) {
                by_namespace.entry(Arc::clone(&known.namespace)).or_default().insert(*id, departure.clone());
            }
        }
        let hold = |(namespace, departures): (Arc<str>, _)| hold(snapshot, &namespace, departures, policy);
        Holds { holds: by_namespace.into_iter().filter_map(hold).collect(), seq: snapshot.seq }
    }

    /// The hold that follows if `origin` stops desiring `connections` of `namespace` at `now`. Returns `None` if none of them
    /// leaves, or if they leave without a confirmation.
    #[must_use]
    pub fn foresee(
        &self,
        snapshot: &Snapshot,
        policy: &Policy,
        (namespace, origin): (&str, &Origin),
        connections: &[ConnectionId],
        now: Timestamp,
    ) -> Option<Hold> {
        let held = self.holds.iter().find(|hold| hold.namespace == namespace);
        let mut departures = held.map(|hold| hold.departures.clone()).unwrap_or_default();
        let mut leaves = false;
        for id in connections {
            let Some(known) = snapshot.connections.get(id).filter(|known| known.retired.is_none()) else { continue };
            let is_last = !known.origins.is_empty() && known.origins.iter().all(|desired| desired.origin == *origin);
            let departure = Departure::from_origin(&known, origin, now);
            if is_last && known.confirmed.as_deref() != Some(&departure.cause) {
                departures.insert(*id, departure);
                leaves = true;
            }
        }
        if !leaves {
            return None;
        }
        hold(snapshot, namespace, departures, policy).filter(|hold| !hold.confirmed_by_policy)
    }

    /// Removes the holds that the policy confirms, and returns them.
    #[must_use]
    pub fn take_confirmed(&mut self) -> Vec<Hold> {
        let (confirmed, holds) = std::mem::take(&mut self.holds).into_iter().partition(|hold| hold.confirmed_by_policy);
        self.holds = holds;
        confirmed
    }

    /// The departure of a connection, if it is held.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<(&Hold, &Departure)> {
        self.holds.iter().find_map(|hold| hold.departures.get(&id).map(|departure| (hold, departure)))
    }

    /// Whether the departure of the connection is held.
    #[must_use]
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.get(id).is_some()
    }

    /// The ids of all connections whose departure is held.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<ConnectionId> {
        self.holds.iter().flat_map(|hold| hold.departures.keys().copied()).collect()
    }
}

/// Returns the hold of `departures`, or `None` if they do not exceed the limits of the policy.
fn hold(snapshot: &Snapshot, namespace: &str, departures: BTreeMap<ConnectionId, Departure>, policy: &Policy) -> Option<Hold> {
    let limit = policy.reconcile.max_retire.as_ref()?;
    let first = departures.values().map(|departure| departure.at).min()?;
    let since = Timestamp(first.0.saturating_sub(i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX)));
    let (mut recent, mut desired) = (0, 0);
    for (id, known) in snapshot.of_namespace(namespace) {
        let left = !departures.contains_key(&id) && left_unconfirmed(&known, since);
        recent += usize::from(left);
        desired += usize::from(known.retired.is_none() || left);
    }
    if !exceeds(departures.len() + recent, desired, limit) {
        return None;
    }
    let mut parts: Vec<&[u8]> = vec![namespace.as_bytes()];
    let ids: Vec<[u8; 16]> = departures.keys().map(|id| *id.0.as_bytes()).collect();
    for (id, departure) in ids.iter().zip(departures.values()) {
        parts.extend([&id[..], &departure.cause.0[..]]);
    }
    let digest = Digest::from_parts(&parts);
    let text = digest.to_string();
    let confirmed_by_policy = policy.reconcile.confirm.iter().any(|listed| text.starts_with(listed.as_str()));
    let namespace = namespace.to_string();
    Some(Hold { namespace, digest, departures, recent, desired, confirmed_by_policy })
}

/// Whether a change that makes `count` of `desired` connections leave is held.
#[must_use]
pub fn exceeds(count: usize, desired: usize, limit: &MaxRetire) -> bool {
    let share = count.saturating_mul(100) > desired.saturating_mul(usize::from(limit.percent));
    count > limit.connections || count > MIN_SHARE_COUNT && share
}

/// Whether the connection left after `since` without a request or a confirmation.
fn left_unconfirmed(known: &Connection, since: Timestamp) -> bool {
    if known.confirmed.is_some() {
        return false;
    }
    if let Some(retired) = known.retired {
        let by_folder = known.withdrawn.as_ref().is_some_and(|withdrawn| withdrawn.desired.origin.folder_path().is_some());
        return by_folder && retired > since;
    }
    let refused = matches!(known.state(), State::Rejected | State::Unsupported) && known.proven.is_some();
    refused && known.conclusive.as_ref().is_some_and(|attempt| attempt.at > since)
}

#[cfg(test)]
#[path = "departures_tests.rs"]
mod tests;
