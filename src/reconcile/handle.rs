//! The state that the HTTP server, the loop and the commands share.

use super::in_flight::InFlight;
use crate::clock::Clock;
use crate::event_log::EventLog;
use crate::model::{Class, ConnectionId, Digest, Problem, Timestamp};
use crate::plan::departures::{Hold, Holds};
use crate::policy::{ActivePolicy, LoadedPolicy, Policy};
use crate::registry::{Registry, RegistryError};
use crate::report::holds;
use crate::snapshot::{Attempt, Connection};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The state of one process, shared by all its parts.
pub struct Handle {
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    /// The policy in force and, if the file was rejected since, the reason.
    pub policy: ArcSwap<ActivePolicy>,
    pub intents: PathBuf,
    pub policy_file: PathBuf,
    pub started: Timestamp,
    /// The current problems of the intents folder and its files.
    pub problems: ArcSwap<Vec<Problem>>,
    /// Why the registry cannot be used at the moment. Empty if it can.
    pub trouble: ArcSwap<String>,
    /// True once the first scan of the folder is recorded.
    pub ready: watch::Sender<bool>,
    /// When the loop last finished reading the policy and the folder.
    last_pass: Mutex<Instant>,
    /// True once the process was asked to stop.
    pub stopping: watch::Sender<bool>,
    wakes: Arc<Notify>,
    /// The running attempts and the heals that wait for one.
    pub in_flight: Arc<InFlight>,
    /// The changes that are held, as of the last sync.
    pub holds: ArcSwap<Holds>,
    slices: Mutex<Slices>,
    /// The events of the registry.
    pub events: Arc<EventLog>,
    /// The state of the webhooks, for the API, the page and the metrics.
    pub webhooks: ArcSwap<Vec<WebhookStatus>>,
    /// Whether the files of the registry are being looked at.
    looks_at_files: Arc<AtomicBool>,
}

/// The state of one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookStatus {
    pub name: String,
    pub host: String,
    /// Why the last message was not accepted; empty if it was.
    pub problem: String,
    pub fix: String,
    /// The number of failed tries of the current message.
    pub tries: u32,
    /// When the current message is tried again. `None` if it is not, or if there is none.
    pub next_at: Option<Timestamp>,
    /// The messages that the webhook accepted since the start of the process.
    pub delivered: u64,
    /// The tries that failed since the start of the process.
    pub failed: u64,
    /// The webhook has received the events of all entries up to this one.
    pub up_to: u64,
}

/// The least age of the last pass that counts as overdue. A pass that reads 10,000 new files takes seconds.
const MIN_OVERDUE: Duration = Duration::from_secs(10);

/// How long looking at the files of the registry may take. A file system that does not answer is noticed by other means.
const FILES_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of families whose slices are cached.
const SLICES_CAPACITY: usize = 256;

/// A cache of the slices of one policy, by family.
#[derive(Default)]
struct Slices {
    loaded: Option<LoadedPolicy>,
    families: BTreeMap<String, Digest>,
}

impl Handle {
    /// A handle whose folder was not scanned yet.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        policy: ActivePolicy,
        intents: PathBuf,
        policy_file: PathBuf,
    ) -> Arc<Handle> {
        let started = clock.now();
        let events = EventLog::new(registry.reader().clone(), registry.changes());
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
            last_pass: Mutex::new(Instant::now()),
            stopping: watch::Sender::new(false),
            wakes: Arc::default(),
            in_flight: Arc::default(),
            holds: ArcSwap::default(),
            slices: Mutex::default(),
            events,
            webhooks: ArcSwap::default(),
            looks_at_files: Arc::default(),
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

    /// Returns [`LoadedPolicy::slice`] and caches it, because all connections of a family share it.
    pub fn slice(&self, loaded: &LoadedPolicy, family: &str) -> Digest {
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        if !slices.loaded.as_ref().is_some_and(|known| known.is_same(loaded)) {
            *slices = Slices { loaded: Some(loaded.clone()), families: BTreeMap::new() };
        }
        if let Some(known) = slices.families.get(family) {
            return *known;
        }
        let slice = loaded.slice(family);
        // The cache is bounded, because documents may name any number of source types that do not exist.
        if slices.families.len() < SLICES_CAPACITY {
            slices.families.insert(family.to_string(), slice);
        }
        slice
    }

    /// Wakes the loop, which then reads everything again. A wake carries no data, so any number of wakes before the loop runs
    /// cause one sync.
    pub fn wake(&self) {
        self.wakes.notify_one();
    }

    /// Reports that the registry cannot be used. The API, the dashboard and the logs show it, no attempt begins, and the
    /// loop probes the registry until it can be written again.
    pub fn report_error(&self, error: &RegistryError) {
        let message = error.to_string();
        if **self.trouble.load() != message {
            tracing::error!(target: "aam::registry", error = %message, "the registry cannot be used");
            self.trouble.store(Arc::new(message));
            // Only a new error wakes the loop. The loop reports errors itself and must not keep waking itself.
            self.wake();
        }
    }

    /// Notices that the files of the registry were deleted or replaced, also while nothing is written, and reports it. At most one
    /// check runs at a time, so that a file system that does not answer holds no more than one thread.
    pub async fn check_registry_files(&self) {
        if self.looks_at_files.swap(true, Ordering::Relaxed) {
            return;
        }
        let (registry, running) = (Arc::clone(&self.registry), Arc::clone(&self.looks_at_files));
        let check = tokio::task::spawn_blocking(move || {
            let result = registry.check_files();
            running.store(false, Ordering::Relaxed);
            result
        });
        if let Ok(Ok(Err(error))) = tokio::time::timeout(FILES_TIMEOUT, check).await {
            self.report_error(&error);
        }
    }

    /// Records that the loop has just read the policy and the folder.
    pub fn passed(&self) {
        *self.last_pass.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago the loop last read the policy and the folder, if that is longer than it should be. A file system that
    /// does not answer keeps the loop from seeing changes, while everything else goes on.
    #[must_use]
    pub fn overdue(&self) -> Option<Duration> {
        let limit = self.policy().reconcile.resync.saturating_mul(3).max(MIN_OVERDUE);
        let age = self.last_pass.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (age > limit).then_some(age)
    }

    /// The signal that [`Handle::wake`] uses, for a watcher of folders.
    #[must_use]
    pub fn wake_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.wakes)
    }

    /// Waits for a wake.
    pub async fn woken(&self) {
        self.wakes.notified().await;
    }

    /// Requests an immediate full attempt, regardless of the backoff. The state changes only if the attempt passes.
    pub fn heal(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        let partitions = *self.registry.partitions().borrow();
        let (own, others): (Vec<_>, Vec<_>) = connections.into_iter().partition(|id| partitions.has(*id));
        self.in_flight.request_heals(own);
        if !others.is_empty() {
            self.registry.ask_to_heal(others);
        }
        self.wake();
    }

    /// Whether an attempt is running for `connection`. Its state does not change until the attempt ends.
    #[must_use]
    pub fn checking(&self, connection: ConnectionId) -> bool {
        self.in_flight.contains(connection)
    }

    /// Publishes the changes that are held. A change that was not held before is logged.
    pub fn publish_holds(&self, holds: Holds) {
        let before = self.holds.load_full();
        if before.holds.is_empty() && holds.holds.is_empty() {
            return;
        }
        let is_new = |hold: &&Hold| !before.holds.iter().any(|known| known.digest == hold.digest);
        for hold in holds.holds.iter().filter(is_new) {
            tracing::warn!(target: "aam::retire", digest = %hold.digest.short(), "{}; {}", holds::message(hold), holds::fix(hold));
        }
        for ended in before.holds.iter().filter(|ended| !holds.holds.iter().any(|hold| hold.namespace == ended.namespace)) {
            tracing::info!(target: "aam::retire", namespace = %ended.namespace, "nothing is held any more");
        }
        self.holds.store(Arc::new(holds));
        self.in_flight.notify();
    }

    /// The number of running attempts.
    #[must_use]
    pub fn attempts_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Notifies whenever an attempt has ended.
    #[must_use]
    pub fn finishes(&self) -> watch::Receiver<u64> {
        self.in_flight.ends()
    }

    /// Waits until `connection` has an attempt for the document in force that finished at or after `since`, no attempt is
    /// running and no heal is waiting, or until `limit` has passed. Returns whether the connection is settled.
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

    /// Waits until each of `connections` is settled as in [`Handle::settled`], or until `limit` has passed. Costs little more
    /// than waiting for one of them: after each attempt, only the first one is checked that is not settled yet.
    pub async fn all_settled(&self, connections: &[ConnectionId], since: Timestamp, limit: Duration) {
        let mut finished = self.in_flight.ends();
        let mut waiting = connections;
        let settled = async {
            loop {
                while let [first, rest @ ..] = waiting
                    && self.is_settled(*first, since)
                {
                    waiting = rest;
                }
                if waiting.is_empty() || finished.changed().await.is_err() {
                    return;
                }
            }
        };
        // At the end of the time, the caller reads what each connection has.
        let _ = tokio::time::timeout(limit, settled).await;
    }

    /// Whether the condition of [`Handle::settled`] holds now. With `Timestamp(0)` as `since`, any attempt for the document in
    /// force is enough.
    #[must_use]
    pub fn is_settled(&self, connection: ConnectionId, since: Timestamp) -> bool {
        if !self.in_flight.is_idle(connection) {
            return false;
        }
        let snapshot = self.registry.snapshot();
        let Some(known) = snapshot.connections.get(&connection) else {
            return false;
        };
        self.has_result(connection, &known) && known.last_checked().is_some_and(|at| at >= since)
    }

    /// Whether an attempt for the document in force had a result. An attempt that was interrupted is repeated, so it had none.
    /// `known` is what the snapshot holds of `connection`.
    #[must_use]
    pub fn has_result(&self, connection: ConnectionId, known: &Connection) -> bool {
        let of_document = |attempt: &&Arc<Attempt>| attempt.facts.generation == known.generation;
        let last = known.last.as_ref().filter(of_document);
        if last.is_some_and(|last| last.facts.class != Some(Class::Interrupted))
            || known.conclusive.as_ref().is_some_and(|conclusive| of_document(&conclusive))
        {
            return true;
        }
        // A connection whose departure is held is checked with its earlier document.
        let holds = self.holds.load();
        holds.seq >= known.document && holds.contains(connection)
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
