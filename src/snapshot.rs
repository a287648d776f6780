//! The fold over the ledger: which connections are desired and what was observed of them.
//!
//! [`Snapshot::apply`] is the only place where an entry changes the snapshot. The daemon applies each entry when it is
//! committed, a reader applies all entries, and a query for a past instant applies those up to it. They all use the same
//! fold, so they cannot disagree. Pure: no clock, no file, no socket.

pub mod chain_rows;
mod connection;
pub mod connections;
pub mod departure;
mod finished;
pub mod interner;
mod lookups;
mod namespaces;
mod notices;
mod observed;
mod packing;
mod records;
pub mod stored;
pub mod trend;

use crate::model::ending::Nearness;
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, DEMO_NAMESPACE, Digest, Origin, Timestamp};
use chain_rows::ChainRows;
use connections::Connections;
use departure::{Superseded, Withdrawn};
use finished::Recorded;
use interner::Interner;
use lookups::Lookups;
pub use notices::WebhookCursor;
pub use records::{AcceptedPolicy, Attempt, Checked, Desired, Handoff};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use stored::Touched;
use trend::Trend;

/// The state of all connections after an entry of the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub connections: Connections,
    /// The connections that each origin desires. They are stored as pairs, because most origins desire only one.
    desired_pairs: BTreeSet<(Origin, ConnectionId)>,
    /// Namespaces that accept no more entries.
    pub sealed: BTreeSet<String>,
    /// The handoffs by namespace and id of the discovery run.
    pub handoffs: BTreeMap<(String, String), Handoff>,
    /// The digest of the policy that was accepted last, and the `seq` of the entry with its text.
    pub policy: Option<(Digest, u64)>,
    /// When that policy was accepted.
    pub policy_at: Timestamp,
    /// The policies that were accepted last, in order, at most `MAX_POLICIES` of them.
    pub policies: VecDeque<AcceptedPolicy>,
    /// The digest of the policy file that was judged last, and whether it was accepted.
    pub policy_file: Option<(Digest, bool)>,
    /// The files of the intents folder with recorded problems, with the digest of these problems.
    pub intent_problems: BTreeMap<Arc<str>, Digest>,
    /// The ends of credentials that were recorded as near, with the nearest step that was recorded.
    pub expiring: BTreeMap<ConnectionId, (Timestamp, Nearness)>,
    /// The webhooks of the policy, by name.
    pub webhooks: BTreeMap<Arc<str>, WebhookCursor>,
    /// The greatest `seq` of the entries that were applied.
    pub seq: u64,
    /// The number of entries that were applied. Where several processes write, an entry can be applied after one with a greater
    /// `seq`, and then only this number shows that something changed.
    pub revision: u64,
    /// The number of entries of each chain that were applied.
    pub chain_rows: ChainRows,
    /// Every source type that a document has ever named.
    pub families: BTreeSet<Arc<str>>,
    /// How many connections of each namespace were in each state, now and at past instants.
    pub trend: Trend,
    /// When a connection of each source type last worked again after an outage.
    recovered: BTreeMap<Arc<str>, Timestamp>,
    /// The connections whose desired state changed recently, with the revision that has the change, so that a plan does not have
    /// to consider all connections again.
    recent_changes: VecDeque<(u64, ConnectionId)>,
    /// The revision of the newest change that was dropped from `recent_changes`.
    dropped_up_to: u64,
    /// Shares strings that many connections have in common.
    interner: Interner,
    /// The connections by what they wait for.
    lookups: Lookups,
    /// The connections that were changed while a copy is made.
    touched: Touched,
}

/// The number of accepted policies that are remembered. The ledger has all of them.
const MAX_POLICIES: usize = 1000;

/// The number of recent changes that are remembered individually.
const MAX_RECENT_CHANGES: usize = 1024;

/// What is known of one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    pub namespace: Arc<str>,
    pub source_type: Arc<str>,
    pub created: Timestamp,
    /// Since when the connection has been desired without interruption.
    pub desired_since: Timestamp,
    /// The origins that desire the connection, each with its newest document.
    pub origins: Vec<Desired>,
    /// The number of changes of the document in force, counted from 1.
    pub generation: u32,
    /// The digest of the document in force.
    pub spec: Digest,
    /// The `seq` of the entry whose body is the document in force.
    pub document: u64,
    /// The locator of the document in force. `None` if it has none, or if an earlier version recorded it.
    pub locator: Option<Arc<str>>,
    pub retired: Option<Timestamp>,
    /// The origin that desired it last, if none does any more.
    pub withdrawn: Option<Box<Withdrawn>>,
    /// The document that the latest attempt was made with, if another one is in force.
    pub superseded: Option<Box<Superseded>>,
    /// The change that was confirmed, so that the connection may leave because of it.
    pub confirmed: Option<Box<Digest>>,
    /// When the current attempt began. `None` if no attempt is recorded as running.
    pub begun: Option<Timestamp>,
    /// The latest finished attempt.
    pub last: Option<Arc<Attempt>>,
    /// The latest attempt whose result determines the state. Interrupted attempts, for example, do not.
    pub conclusive: Option<Arc<Attempt>>,
    /// The latest full attempt that passed. Its counters stay valid until the next one.
    pub proven: Option<Arc<Attempt>>,
    /// The number of failed attempts in a row for this document and policy.
    pub failures: u32,
    /// When the connection was last checked, including re-checks that changed nothing.
    pub checked: Option<Timestamp>,
    /// When the connection was last checked in full.
    pub checked_full: Option<Timestamp>,
    /// What of `failures` and `checked_full` the ledger records.
    recorded: Recorded,
    /// The version, the `seq` of the entry and the digest of the newest catalog.
    pub catalog: Option<(u32, u64, Digest)>,
    /// The `seq` and the time of the last entry that changed the connection. The beginning of an attempt does not.
    pub changed: (u64, Timestamp),
}

impl Snapshot {
    /// Folds `entries`, in order of `seq`.
    #[must_use]
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for entry in entries {
            snapshot.apply(entry);
        }
        snapshot
    }

    /// Applies the next entry.
    pub fn apply(&mut self, entry: &Entry) {
        self.apply_open(entry);
        self.connections.pack_open();
    }

    /// Applies the next entry. A packed connection that it changes stays open.
    fn apply_open(&mut self, entry: &Entry) {
        self.connections.open(entry.connection);
        let (before, waiting) = (self.standing(entry.connection), self.waiting(entry.connection));
        self.touched.add(entry.connection);
        self.apply_fact(entry);
        self.apply_to_trend(entry, before);
        self.update_lookups(entry.connection, &waiting);
    }

    fn apply_fact(&mut self, entry: &Entry) {
        self.seq = self.seq.max(entry.seq);
        self.revision += 1;
        self.chain_rows.add(entry.connection);
        match (&entry.fact, entry.connection) {
            (Fact::PolicyAccepted { policy }, _) => {
                (self.policy, self.policy_at) = (Some((*policy, entry.seq)), entry.at);
                self.policy_file = Some((*policy, true));
                self.policies.push_back(AcceptedPolicy { seq: entry.seq, at: entry.at, digest: *policy });
                if self.policies.len() > MAX_POLICIES {
                    self.policies.pop_front();
                }
            }
            (Fact::NamespaceSealed { .. }, _) => {
                self.sealed.insert(entry.namespace.clone());
            }
            (Fact::HandoffReceived(facts), _) => {
                let handoff = Handoff { seq: entry.seq, at: entry.at, facts: Box::new(facts.clone()) };
                self.handoffs.insert((entry.namespace.clone(), facts.run.clone()), handoff);
            }
            (Fact::IntentAccepted { origin, spec, source_type, locator }, Some(id)) => {
                let locator = locator.as_deref().map(|locator| self.interner.intern(locator));
                self.accept(entry, id, origin, (*spec, locator), source_type);
            }
            (Fact::IntentWithdrawn { origin, .. }, Some(id)) => self.withdraw(entry, id, origin),
            (Fact::CredentialExpiring { ends_at, nearness, .. }, Some(id)) => {
                self.expiring.insert(id, (*ends_at, *nearness));
            }
            (fact @ (Fact::AttemptFinished(_) | Fact::ConnectionRetired), Some(id)) => {
                if matches!(fact, Fact::ConnectionRetired) {
                    self.remember_change(id);
                }
                let ends_at = self.connections.change(id, |connection| {
                    if connection.in_outage() && matches!(fact, Fact::AttemptFinished(facts) if facts.class.is_none()) {
                        self.recovered.insert(Arc::clone(&connection.source_type), entry.at);
                    }
                    connection.apply(entry, fact, &mut self.interner);
                    connection.credential_ends_at()
                });
                if let Some(ends_at) = ends_at {
                    self.forget_replaced_credential(id, ends_at);
                }
            }
            (fact, Some(id)) => {
                if matches!(fact, Fact::DepartureConfirmed { .. }) {
                    self.remember_change(id);
                }
                self.connections.change(id, |connection| connection.apply(entry, fact, &mut self.interner));
            }
            (fact, None) => self.apply_global(entry, fact),
        }
    }

    /// Applies the time of a re-check that found nothing new.
    pub fn apply_checked(&mut self, checked: &Checked) {
        // A replica reads most checks several times, and packing a connection anew costs more than this look.
        if self.connections.get(&checked.connection).is_none_or(|known| known.after(checked) == known.rechecked()) {
            return;
        }
        self.connections.open(Some(checked.connection));
        let waiting = self.waiting(Some(checked.connection));
        self.connections.change(checked.connection, |connection| {
            (connection.failures, connection.checked, connection.checked_full) = connection.after(checked);
        });
        self.update_lookups(Some(checked.connection), &waiting);
        self.connections.pack_open();
    }

    fn accept(
        &mut self,
        entry: &Entry,
        id: ConnectionId,
        origin: &Origin,
        (spec, locator): (Digest, Option<Arc<str>>),
        source_type: &str,
    ) {
        let (namespace, source_type) = (self.interner.intern(&entry.namespace), self.interner.intern(source_type));
        self.families.insert(Arc::clone(&source_type));
        self.remember_change(id);
        let known = self.desired_pairs.range(Self::pairs_of(origin)).next();
        let origin = known.map_or(origin, |(known, _)| known).clone();
        self.desired_pairs.insert((origin.clone(), id));
        if !self.connections.contains_key(&id) {
            self.connections.insert(id, Box::new(Connection::new(namespace, source_type, entry.at)));
        }
        self.connections.change(id, |connection| {
            connection.changed = (entry.seq, entry.at);
            let before = connection.origin_before();
            connection.origins.retain(|desire| desire.origin != origin);
            connection.origins.push(Desired { origin, seq: entry.seq, spec, locator });
            connection.origins.shrink_to_fit();
            (connection.withdrawn, connection.confirmed) = (None, None);
            if connection.retired.take().is_some() {
                connection.restart(entry.at);
            }
            connection.choose_document(before, entry.at);
        });
    }

    fn withdraw(&mut self, entry: &Entry, id: ConnectionId, origin: &Origin) {
        let was_desired = self.desired_pairs.remove(&(origin.clone(), id));
        if was_desired {
            self.remember_change(id);
        }
        self.connections.change(id, |connection| {
            if was_desired {
                connection.changed = (entry.seq, entry.at);
            }
            let before = connection.origin_before();
            let desired = connection.origins.iter().find(|desire| desire.origin == *origin).cloned();
            connection.origins.retain(|desire| desire.origin != *origin);
            if let Some(desired) = desired.filter(|_| connection.origins.is_empty()) {
                connection.withdrawn = Some(Box::new(Withdrawn { desired, at: entry.at }));
            }
            connection.choose_document(before, entry.at);
        });
    }

    fn remember_change(&mut self, id: ConnectionId) {
        if self.recent_changes.len() == MAX_RECENT_CHANGES
            && let Some((revision, _)) = self.recent_changes.pop_front()
        {
            self.dropped_up_to = revision;
        }
        self.recent_changes.push_back((self.revision, id));
    }

    /// The connections whose desired state changed after `revision`. Returns `None` if there were too many changes since then to
    /// list them.
    #[must_use]
    pub fn changed_after(&self, revision: u64) -> Option<BTreeSet<ConnectionId>> {
        let newest = self.recent_changes.iter().rev().take_while(|(at, _)| *at > revision);
        (revision >= self.dropped_up_to).then(|| newest.map(|(_, id)| *id).collect())
    }

    /// The connections that `origin` desires.
    pub fn desired_by(&self, origin: &Origin) -> impl Iterator<Item = ConnectionId> {
        self.desired_pairs.range(Self::pairs_of(origin)).map(|(_, id)| *id)
    }

    /// Every origin that desires a connection.
    #[must_use]
    pub fn origins(&self) -> BTreeSet<&Origin> {
        self.desired_pairs.iter().map(|(origin, _)| origin).collect()
    }

    #[cfg(test)]
    pub fn forget_recoveries(&mut self) {
        self.recovered.clear();
    }

    /// When a connection of `source_type` last worked again after an outage. The outage of a vendor is often that of all its
    /// accounts, so this is a hint that the others work again too.
    #[must_use]
    pub fn recovered(&self, source_type: &str) -> Option<Timestamp> {
        self.recovered.get(source_type).copied()
    }

    fn pairs_of(origin: &Origin) -> std::ops::RangeInclusive<(Origin, ConnectionId)> {
        (origin.clone(), ConnectionId::FIRST)..=(origin.clone(), ConnectionId::LAST)
    }

    /// Whether `namespace` accepts no entries: the namespace `demo`, also before its seed was loaded, and sealed ones.
    #[must_use]
    pub fn is_closed(&self, namespace: &str) -> bool {
        namespace == DEMO_NAMESPACE || self.sealed.contains(namespace)
    }
}

impl Connection {
    fn new(namespace: Arc<str>, source_type: Arc<str>, at: Timestamp) -> Connection {
        Connection {
            namespace,
            source_type,
            created: at,
            desired_since: at,
            origins: Vec::new(),
            generation: 0,
            spec: Digest::default(),
            document: 0,
            locator: None,
            retired: None,
            withdrawn: None,
            superseded: None,
            confirmed: None,
            begun: None,
            last: None,
            conclusive: None,
            proven: None,
            failures: 0,
            checked: None,
            checked_full: None,
            recorded: Recorded::default(),
            catalog: None,
            changed: (0, at),
        }
    }

    /// Resets a retired connection that is desired again, so that it must be proven again. Catalog and history are kept.
    fn restart(&mut self, at: Timestamp) {
        self.desired_since = at;
        self.superseded = None;
        self.begun = None;
        self.last = None;
        self.conclusive = None;
        self.proven = None;
        self.failures = 0;
        self.checked = None;
        self.checked_full = None;
        self.recorded = Recorded::default();
    }

    /// Puts the newest document in force. A different document starts a new generation. `before` is the origin of the
    /// document in force until now.
    fn choose_document(&mut self, before: Option<Origin>, at: Timestamp) {
        let Some(newest) = self.origins.iter().max_by_key(|desire| desire.seq).cloned() else {
            return;
        };
        if newest.spec != self.spec {
            self.supersede(before, at);
        }
        self.document = newest.seq;
        self.locator.clone_from(&newest.locator);
        if newest.spec != self.spec || self.generation == 0 {
            self.spec = newest.spec;
            self.generation += 1;
            (self.failures, self.recorded.failures) = (0, 0);
        }
    }

    fn apply(&mut self, entry: &Entry, fact: &Fact, interner: &mut Interner) {
        if !matches!(fact, Fact::AttemptBegun { .. }) {
            self.changed = (entry.seq, entry.at);
        }
        match fact {
            Fact::AttemptBegun { .. } => self.begun = Some(entry.at),
            Fact::AttemptFinished(facts) => {
                // Thousands of connections may fail with the same message.
                let mut facts = facts.clone();
                facts.title = interner.intern(&facts.title);
                facts.fix = interner.intern(&facts.fix);
                for warning in &mut facts.warnings {
                    warning.title = interner.intern(&warning.title);
                    warning.fix = interner.intern(&warning.fix);
                }
                self.finish(entry, facts);
            }
            Fact::CatalogRegistered { version, digest, .. } => self.catalog = Some((*version, entry.seq, *digest)),
            Fact::ConnectionRetired => {
                self.retired = Some(entry.at);
                self.begun = None;
            }
            Fact::DepartureConfirmed { cause, .. } => self.confirmed = Some(Box::new(*cause)),
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod history;
#[cfg(test)]
mod tests;
