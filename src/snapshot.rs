//! The fold over the ledger: what is desired, what was observed, and nothing else.
//!
//! `Snapshot::apply` is the only place where an entry changes what is believed. The daemon applies each
//! entry as it is committed, a reader applies all of them, `at=` applies those up to an instant:
//! the same fold, so they cannot disagree. Pure: no clock, no file, no socket.

use crate::model::ledger::{AttemptContext, Entry, Fact, Finished};
use crate::model::{ConnectionId, Digest, Origin, Retry, State, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Everything that is known, by connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// In order of id. Boxed, because a third of a node of this map is empty.
    pub connections: BTreeMap<ConnectionId, Box<Connection>>,
    /// Which connections an origin desires, as pairs: most origins desire one.
    desired_pairs: BTreeSet<(Origin, ConnectionId)>,
    /// Namespaces that take no more entries.
    pub sealed: BTreeSet<String>,
    /// The policy that was accepted last, and the entry that holds its text.
    pub policy: Option<(Digest, u64)>,
    /// The last entry applied.
    pub seq: u64,
    /// Every family that was ever named.
    pub families: BTreeSet<Arc<str>>,
    /// Whose desired_pairs changed last, by entry, so that a plan need not look at all connections again.
    lately: VecDeque<(u64, ConnectionId)>,
    /// The newest entry that fell out of `lately`.
    forgotten: u64,
    /// Strings that repeat a hundred thousand times are kept once.
    words: Words,
}

/// Shared copies of texts. Those that nobody holds any more are dropped now and then.
#[derive(Clone, Debug, Default)]
struct Words {
    known: BTreeSet<Arc<str>>,
    /// Swept when so many are known.
    full: usize,
}

/// What texts are shared is no part of what is believed.
impl PartialEq for Words {
    fn eq(&self, _: &Words) -> bool {
        true
    }
}

impl Words {
    /// The one shared copy of `text`.
    fn one(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.known.get(text) {
            return Arc::clone(word);
        }
        if self.known.len() >= self.full {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.full = (self.known.len() * 2).max(LATELY);
        }
        let word: Arc<str> = text.into();
        self.known.insert(Arc::clone(&word));
        word
    }
}

/// Changed desired_pairs that are remembered one by one.
const LATELY: usize = 1024;

/// What is known of one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    pub namespace: Arc<str>,
    pub source_type: Arc<str>,
    pub created: Timestamp,
    /// Since when it is desired without a break.
    pub desired_since: Timestamp,
    /// Who desires it: origin, the entry and the digest of its newest document there.
    pub origins: Vec<Desired>,
    /// Counts the distinct documents in force, from 1.
    pub generation: u32,
    /// The digest of the document in force.
    pub spec: Digest,
    /// The entry whose body is the document in force.
    pub document: u64,
    pub retired: Option<Timestamp>,
    /// Begun and not finished.
    pub begun: Option<Timestamp>,
    /// The latest finished attempt and its entry.
    pub last: Option<Arc<Attempt>>,
    /// The latest attempt that says something about the connection.
    pub conclusive: Option<Arc<Attempt>>,
    /// The latest full attempt that passed: its tiny sync counters stay true until the next one.
    pub proven: Option<Arc<Attempt>>,
    /// Failed attempts in a row, for this document and policy.
    pub failures: u32,
    /// When it was last looked at, also by a re-check that changed nothing.
    pub checked: Option<Timestamp>,
    /// When it was last looked at in full.
    pub checked_full: Option<Timestamp>,
    /// Version and entry of the catalog in force.
    pub catalog: Option<(u32, u64, Digest)>,
}

/// One origin's wish.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub origin: Origin,
    pub seq: u64,
    pub spec: Digest,
}

/// A finished attempt and where its step reports are.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub seq: u64,
    pub at: Timestamp,
    pub facts: Finished,
}

/// A row of the `checked` table: what the ledger alone does not say, because a re-check that found
/// nothing new appended nothing to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    pub connection: ConnectionId,
    pub at: Timestamp,
    /// The last full look, changed or not.
    pub full_at: Option<Timestamp>,
    /// Failures in a row including the unchanged ones.
    pub failures: u32,
    /// The generation that `failures` belongs to: a newer document starts from zero.
    pub generation: u32,
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

    /// Takes one more entry in.
    pub fn apply(&mut self, entry: &Entry) {
        self.seq = entry.seq;
        match (&entry.fact, entry.connection) {
            (Fact::PolicyAccepted { policy }, _) => self.policy = Some((*policy, entry.seq)),
            (Fact::NamespaceSealed { .. }, _) => {
                self.sealed.insert(entry.namespace.clone());
            }
            (Fact::IntentAccepted { origin, spec, source_type }, Some(id)) => {
                self.accept(entry, id, origin, *spec, source_type);
            }
            (Fact::IntentWithdrawn { origin, .. }, Some(id)) => self.withdraw(entry.seq, id, origin),
            (fact, Some(id)) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.apply(entry, fact, &mut self.words);
                }
            }
            (_, None) => {}
        }
    }

    /// Takes the time of an unchanged re-check in.
    pub fn apply_checked(&mut self, checked: &Checked) {
        let Some(connection) = self.connections.get_mut(&checked.connection) else {
            return;
        };
        if connection.last.as_ref().is_some_and(|last| last.at > checked.at) {
            return;
        }
        connection.checked = Some(checked.at);
        connection.checked_full = checked.full_at.or(connection.checked_full);
        if connection.generation == checked.generation {
            connection.failures = checked.failures;
        }
    }

    fn accept(&mut self, entry: &Entry, id: ConnectionId, origin: &Origin, spec: Digest, source_type: &str) {
        let (namespace, source_type) = (self.words.one(&entry.namespace), self.words.one(source_type));
        self.families.insert(Arc::clone(&source_type));
        self.remember(entry.seq, id);
        let known = self.desired_pairs.range(Self::all_of(origin)).next();
        let origin = known.map_or(origin, |(known, _)| known).clone();
        self.desired_pairs.insert((origin.clone(), id));
        let connection =
            self.connections.entry(id).or_insert_with(|| Box::new(Connection::new(namespace, source_type, entry.at)));
        connection.origins.retain(|desire| desire.origin != origin);
        connection.origins.push(Desired { origin, seq: entry.seq, spec });
        connection.origins.shrink_to_fit();
        if connection.retired.take().is_some() {
            connection.start_anew(entry.at);
        }
        connection.choose_document();
    }

    fn withdraw(&mut self, seq: u64, id: ConnectionId, origin: &Origin) {
        if self.desired_pairs.remove(&(origin.clone(), id)) {
            self.remember(seq, id);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.origins.retain(|desire| desire.origin != *origin);
            connection.choose_document();
        }
    }

    fn remember(&mut self, seq: u64, id: ConnectionId) {
        if self.lately.len() == LATELY
            && let Some((seq, _)) = self.lately.pop_front()
        {
            self.forgotten = seq;
        }
        self.lately.push_back((seq, id));
    }

    /// The connections whose desired_pairs changed after entry `seq`; `None`: too many to tell.
    #[must_use]
    pub fn changed_after(&self, seq: u64) -> Option<BTreeSet<ConnectionId>> {
        let newest = self.lately.iter().rev().take_while(|(at, _)| *at > seq);
        (seq >= self.forgotten).then(|| newest.map(|(_, id)| *id).collect())
    }

    /// The connections that `origin` desires.
    pub fn desired_by(&self, origin: &Origin) -> impl Iterator<Item = ConnectionId> {
        self.desired_pairs.range(Self::all_of(origin)).map(|(_, id)| *id)
    }

    /// Every origin that desires something.
    #[must_use]
    pub fn origins(&self) -> BTreeSet<&Origin> {
        self.desired_pairs.iter().map(|(origin, _)| origin).collect()
    }

    fn all_of(origin: &Origin) -> std::ops::RangeInclusive<(Origin, ConnectionId)> {
        (origin.clone(), ConnectionId::FIRST)..=(origin.clone(), ConnectionId::LAST)
    }

    /// The connections of `namespace`, in order of id.
    pub fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (ConnectionId, &'a Connection)> {
        self.connections.iter().filter(move |(_, c)| &*c.namespace == namespace).map(|(id, c)| (*id, &**c))
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
            retired: None,
            begun: None,
            last: None,
            conclusive: None,
            proven: None,
            failures: 0,
            checked: None,
            checked_full: None,
            catalog: None,
        }
    }

    /// A retired connection that is desired again proves itself again; catalog and history stay.
    fn start_anew(&mut self, at: Timestamp) {
        self.desired_since = at;
        self.begun = None;
        self.last = None;
        self.conclusive = None;
        self.proven = None;
        self.failures = 0;
        self.checked = None;
        self.checked_full = None;
    }

    /// The newest accepted document wins; another document is another generation.
    fn choose_document(&mut self) {
        let Some(newest) = self.origins.iter().max_by_key(|desire| desire.seq) else {
            return;
        };
        self.document = newest.seq;
        if newest.spec != self.spec || self.generation == 0 {
            self.spec = newest.spec;
            self.generation += 1;
            self.failures = 0;
        }
    }

    fn apply(&mut self, entry: &Entry, fact: &Fact, words: &mut Words) {
        match fact {
            Fact::AttemptBegun { .. } => self.begun = Some(entry.at),
            Fact::AttemptFinished(facts) => {
                // Thousands fail with the same words.
                let (title, fix) = (words.one(&facts.title), words.one(&facts.fix));
                self.finish(entry, Finished { title, fix, ..facts.clone() });
            }
            Fact::CatalogRegistered { version, digest, .. } => self.catalog = Some((*version, entry.seq, *digest)),
            Fact::ConnectionRetired => {
                self.retired = Some(entry.at);
                self.begun = None;
            }
            _ => {}
        }
    }

    fn finish(&mut self, entry: &Entry, facts: Finished) {
        let same_ground =
            self.last.as_ref().is_some_and(|last| last.facts.generation == facts.generation && last.facts.slice == facts.slice);
        self.failures = match facts.class {
            None => 0,
            Some(_) if same_ground => self.failures.saturating_add(1),
            Some(_) => 1,
        };
        let (class, full) = (facts.class, facts.scope == crate::model::Scope::Full);
        let attempt = Arc::new(Attempt { seq: entry.seq, at: entry.at, facts });
        if class.is_none_or(|class| class.conclusive()) {
            self.conclusive = Some(Arc::clone(&attempt));
        }
        if class.is_none() && full {
            self.proven = Some(Arc::clone(&attempt));
        }
        self.begun = None;
        self.checked = Some(entry.at);
        if full {
            self.checked_full = Some(entry.at);
        }
        self.last = Some(attempt);
    }

    /// The word for it.
    #[must_use]
    pub fn state(&self) -> State {
        if self.retired.is_some() {
            return State::Retired;
        }
        match &self.conclusive {
            None => State::Pending,
            Some(attempt) => State::derive(attempt.facts.class, self.proven.is_some()),
        }
    }

    /// Nobody desires it, and it is not retired yet.
    #[must_use]
    pub fn orphaned(&self) -> bool {
        self.origins.is_empty() && self.retired.is_none()
    }

    /// When the latest attempt, changed or not, ended.
    #[must_use]
    pub fn looked_at(&self) -> Option<Timestamp> {
        self.checked.max(self.last.as_ref().map(|last| last.at))
    }

    /// What the class of the latest failure says about looking again.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        self.last.as_ref().and_then(|last| last.facts.class).map(crate::model::Class::retry)
    }

    /// Whether an outcome with these facts says nothing that the ledger does not already say.
    #[must_use]
    pub fn says_nothing_new(&self, facts: &Finished, under: &AttemptContext) -> bool {
        let Some(last) = &self.last else { return false };
        let same_ground = last.facts.generation == under.generation && last.facts.slice == under.slice;
        let healthy_recheck = facts.scope == crate::model::Scope::Health && facts.class.is_none() && last.facts.class.is_none();
        same_ground && (healthy_recheck || last.facts.outcome == facts.outcome)
    }
}

#[cfg(test)]
pub(crate) mod history;
#[cfg(test)]
mod tests;
