//! The running system, shared by the HTTP server, the loop and the commands.

use super::in_flight::InFlight;
use crate::clock::Clock;
use crate::model::{ConnectionId, Digest, Problem, Timestamp};
use crate::policy::{ActivePolicy, LoadedPolicy, Policy};
use crate::registry::{Registry, RegistryError};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
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
    /// Which attempts run, and which heals wait for one.
    pub in_flight: Arc<InFlight>,
    slices: Mutex<Slices>,
}

/// Families whose slices are kept.
const SLICES_CAPACITY: usize = 256;

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
            in_flight: Arc::default(),
            slices: Mutex::default(),
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
        // Documents may name any number of source types that do not exist.
        if slices.families.len() < SLICES_CAPACITY {
            slices.families.insert(family.to_string(), slice);
        }
        slice
    }

    /// Wakes the loop, which then reads everything again. A wake carries no data, so a thousand of them cause one sync.
    pub fn wake(&self) {
        self.wakes.notify_one();
    }

    /// Reports that the registry cannot be used. Every surface shows it, no attempt begins, and the loop asks the registry
    /// until it can write again.
    pub fn report_error(&self, error: &RegistryError) {
        let message = error.to_string();
        if **self.trouble.load() != message {
            tracing::error!(target: "aam::registry", error = %message, "the registry cannot be used");
            self.trouble.store(Arc::new(message));
            // Only once for each error: the loop reports errors itself and must not wake itself again and again.
            self.wake();
        }
    }

    /// The signal behind [`Handle::wake`], for a watcher of folders.
    #[must_use]
    pub fn wake_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.wakes)
    }

    /// Waits for a wake.
    pub async fn woken(&self) {
        self.wakes.notified().await;
    }

    /// Requests a full attempt at once, whatever the backoff says. The state changes only if the attempt passes.
    pub fn heal(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        self.in_flight.request_heals(connections);
        self.wake();
    }

    /// Whether an attempt runs for `connection` right now. The state stays what it was meanwhile.
    #[must_use]
    pub fn checking(&self, connection: ConnectionId) -> bool {
        self.in_flight.contains(connection)
    }

    /// Attempts that run right now.
    #[must_use]
    pub fn attempts_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Changes whenever an attempt ended.
    #[must_use]
    pub fn finishes(&self) -> watch::Receiver<u64> {
        self.in_flight.ends()
    }

    /// Waits until `connection` has an attempt that finished at or after `since` for the document in
    /// force, nothing runs for it and no heal waits; or until `limit` has passed. True when settled.
    pub async fn settled(&self, connection: ConnectionId, since: Timestamp, limit: Duration) -> bool {
        let mut finished = self.in_flight.ends();
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
        if !self.in_flight.is_idle(connection) {
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

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
