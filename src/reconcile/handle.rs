//! The running system as its surfaces see it: the HTTP server, the loop and the commands share one.

use crate::clock::Clock;
use crate::model::{ConnectionId, Digest, Problem, Timestamp};
use crate::policy::{ActivePolicy, LoadedPolicy, Policy};
use crate::registry::{Registry, RegistryError};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Shared by everything that runs in one process.
pub struct Handle {
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    /// The policy in force and, if its file was changed for the worse, why that was refused.
    pub policy: ArcSwap<ActivePolicy>,
    pub intents: PathBuf,
    pub policy_file: PathBuf,
    pub started: Timestamp,
    /// What is wrong with the intents folder and its files right now.
    pub problems: ArcSwap<Vec<Problem>>,
    /// Why the registry cannot write right now; empty when it can.
    pub trouble: ArcSwap<String>,
    /// True once the first scan of the folder was taken in.
    pub ready: watch::Sender<bool>,
    /// True once the process was asked to stop.
    pub stopping: watch::Sender<bool>,
    wakes: Arc<Notify>,
    in_flight: Mutex<BTreeSet<ConnectionId>>,
    slices: Mutex<Slices>,
    heals: Mutex<BTreeSet<ConnectionId>>,
    /// Counts finished attempts, so that waiters look again also after one that appended nothing.
    finished: watch::Sender<u64>,
}

/// Slices that are kept.
const SLICES: usize = 256;

/// The slices of one policy by family.
#[derive(Default)]
struct Slices {
    loaded: Option<LoadedPolicy>,
    families: BTreeMap<String, Digest>,
}

impl Handle {
    /// A handle before the first scan.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        policy: ActivePolicy,
        intents: PathBuf,
        policy_file: PathBuf,
    ) -> Arc<Handle> {
        let started = clock.now();
        Arc::new(Handle {
            registry,
            clock,
            policy: ArcSwap::from_pointee(policy),
            intents,
            policy_file,
            started,
            problems: ArcSwap::default(),
            trouble: ArcSwap::default(),
            ready: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            wakes: Arc::default(),
            in_flight: Mutex::default(),
            slices: Mutex::default(),
            heals: Mutex::default(),
            finished: watch::Sender::new(0),
        })
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.load().policy)
    }

    /// The policy in force and its custom sources.
    #[must_use]
    pub fn loaded(&self) -> LoadedPolicy {
        self.policy.load().loaded()
    }

    /// [`LoadedPolicy::slice`], made once for all connections of a family.
    pub fn slice(&self, loaded: &LoadedPolicy, family: &str) -> Digest {
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        if !slices.loaded.as_ref().is_some_and(|known| known.is_same(loaded)) {
            *slices = Slices { loaded: Some(loaded.clone()), families: BTreeMap::new() };
        }
        if let Some(known) = slices.families.get(family) {
            return *known;
        }
        let slice = loaded.slice(family);
        // Names that no family has come from documents, and may be any number.
        if slices.families.len() < SLICES {
            slices.families.insert(family.to_string(), slice);
        }
        slice
    }

    /// Says "look again". Carries no data; a thousand of them make one look.
    pub fn wake(&self) {
        self.wakes.notify_one();
    }

    /// The registry could not write: every surface says so, nothing begins, and the loop asks it
    /// until it can again.
    pub fn troubled(&self, error: &RegistryError) {
        let words = error.to_string();
        if **self.trouble.load() != words {
            tracing::error!(target: "aam::registry", error = %words, "the registry cannot be used");
            self.trouble.store(Arc::new(words));
            // Only for the first one: the loop itself reports trouble, and must not spin.
            self.wake();
        }
    }

    /// What a watcher pulls to say "look again".
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.wakes)
    }

    /// Ends when somebody said "look again".
    pub async fn woken(&self) {
        self.wakes.notified().await;
    }

    /// Asks for a full attempt at once, whatever the backoff says. Promotes nothing by itself.
    pub fn heal(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        lock(&self.heals).extend(connections);
        self.wake();
    }

    /// The connections somebody asked to heal and that are not begun yet.
    #[must_use]
    pub fn heals(&self) -> BTreeSet<ConnectionId> {
        lock(&self.heals).clone()
    }

    /// Forgets the heals of what can never begin: unknown, retired and sealed connections.
    pub fn keep_heals(&self, can_begin: impl Fn(ConnectionId) -> bool) {
        lock(&self.heals).retain(|id| can_begin(*id));
    }

    /// Whether an attempt runs for `connection` right now. The state stays what it was meanwhile.
    #[must_use]
    pub fn checking(&self, connection: ConnectionId) -> bool {
        lock(&self.in_flight).contains(&connection)
    }

    /// Attempts that run right now.
    #[must_use]
    pub fn attempts_in_flight(&self) -> usize {
        lock(&self.in_flight).len()
    }

    /// Takes the place of the one attempt that `connection` may have; false when it is taken.
    pub fn enter(&self, connection: ConnectionId) -> bool {
        let entered = lock(&self.in_flight).insert(connection);
        if entered {
            // Only now: a heal that was asked for while an attempt runs is still owed.
            lock(&self.heals).remove(&connection);
        }
        entered
    }

    /// Changes whenever an attempt ended and its place is free.
    #[must_use]
    pub fn finishes(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }

    /// Gives the place back and tells the waiters.
    pub fn leave(&self, connection: ConnectionId) {
        lock(&self.in_flight).remove(&connection);
        self.finished.send_modify(|count| *count += 1);
    }

    /// Waits until `connection` has an attempt that finished at or after `since` for the document in
    /// force, nothing runs for it and no heal waits; or until `limit` has passed. True when settled.
    pub async fn settled(&self, connection: ConnectionId, since: Timestamp, limit: Duration) -> bool {
        let mut finished = self.finished.subscribe();
        let settled = async {
            while !self.is_settled(connection, since) {
                if finished.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, settled).await.is_ok() && self.is_settled(connection, since)
    }

    /// See [`Handle::settled`]; `Timestamp(0)` asks only for any attempt at the document in force.
    #[must_use]
    pub fn is_settled(&self, connection: ConnectionId, since: Timestamp) -> bool {
        if self.checking(connection) || lock(&self.heals).contains(&connection) {
            return false;
        }
        let snapshot = self.registry.snapshot();
        let Some(known) = snapshot.connections.get(&connection) else {
            return false;
        };
        known.last.as_ref().is_some_and(|last| last.facts.generation == known.generation)
            && known.looked_at().is_some_and(|at| at >= since)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
