//! Reads from the registry how far the daemon has come with a heal. The request itself answers only at its end.

use super::CommonOptions;
use super::heal::HealOptions;
use super::once;
use super::progress::{self, Reading};
use super::report::policy_in_force;
use crate::clock;
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, Intent, State, Timestamp};
use crate::registry::{Reader, RegistryError};
use crate::report::status_table;
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the registry is read, at most.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// After each reading, its thread rests this many times as long as it took.
const REST_FACTOR: u32 = 5;

/// Follows a heal on a thread of its own. The thread ends after this is dropped.
pub struct HealWatch {
    reading: Arc<Mutex<Reading>>,
    /// Dropping it ends the thread.
    _stop: Sender<()>,
}

impl HealWatch {
    /// Starts to follow the heal that `options` ask for.
    #[must_use]
    pub fn start(common: &CommonOptions, options: &HealOptions) -> HealWatch {
        let waiting = Reading { detail: "waiting for the daemon".to_string(), ..Reading::default() };
        let reading = Arc::new(Mutex::new(waiting));
        let (stop, stopped) = mpsc::channel();
        let (shared, common) = (Arc::clone(&reading), common.clone());
        let (ids, namespace, since) = (options.ids.clone(), options.namespace.clone(), clock::from_env().now());
        // Without its thread, which may not start, only the time of the heal is shown.
        let _ = std::thread::Builder::new().name("heal-watch".to_string()).spawn(move || {
            let Some(mut follower) = Follower::new(&common, &ids, namespace, since) else { return };
            loop {
                let began = Instant::now();
                let Ok(reading) = follower.read() else { return };
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = reading;
                let pause = READ_INTERVAL.max(began.elapsed() * REST_FACTOR);
                if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
        });
        HealWatch { reading, _stop: stop }
    }

    /// The latest reading.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is known of the connections that are healed.
struct Follower {
    reader: Reader,
    snapshot: Snapshot,
    targets: BTreeSet<ConnectionId>,
    done: BTreeSet<ConnectionId>,
    since: Timestamp,
    names: BTreeMap<ConnectionId, String>,
}

impl Follower {
    /// Returns `None` if the registry cannot be read.
    fn new(common: &CommonOptions, ids: &[String], namespace: Option<String>, since: Timestamp) -> Option<Follower> {
        let reader = Reader::open(&common.registry).ok()?;
        let snapshot = reader.snapshot().ok()?;
        let targets = if ids.is_empty() {
            let namespace = namespace.or_else(|| Some(policy_in_force(common, &reader).ok()?.policy.namespace.clone()))?;
            let open = |state| !matches!(state, State::Active | State::Retired);
            snapshot.of_namespace(&namespace).filter(|(_, known)| open(known.state())).map(|(id, _)| id).collect()
        } else {
            ids.iter().filter_map(|id| ConnectionId::parse(id).ok()).collect()
        };
        Some(Follower { reader, snapshot, targets, done: BTreeSet::new(), since, names: BTreeMap::new() })
    }

    fn read(&mut self) -> Result<Reading, RegistryError> {
        let (done, since) = (&mut self.done, self.since);
        self.reader.follow(&mut self.snapshot, |entry| {
            if let (Some(id), Fact::AttemptFinished(finished)) = (entry.connection, &entry.fact)
                && finished.begun_at >= since
            {
                done.insert(id);
            }
        })?;
        self.done.extend(self.reader.checked_since(self.since)?);
        let now = clock::from_env().now();
        let mut running = self.reader.running()?;
        running.retain(|(id, _)| self.targets.contains(id));
        running.sort_unstable_by_key(|(_, began)| *began);
        let slowest: Vec<(String, Duration)> =
            running.iter().take(progress::MAX_NAMED).map(|(id, began)| (self.name(*id), now.since(*began))).collect();
        let states = self.targets.iter().filter_map(|id| Some(self.snapshot.connections.get(id)?.state()));
        let detail = progress::joined(&[status_table::counts(states), progress::running(running.len(), &slowest)]);
        let done = self.done.intersection(&self.targets).count() as u64;
        Ok(Reading { done, total: self.targets.len() as u64, detail })
    }

    fn name(&mut self, id: ConnectionId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let seq = self.snapshot.connections.get(&id).map_or(0, |known| known.document);
        let body = self.reader.body(seq).ok().flatten();
        let name = once::name(body.and_then(|text| serde_json::from_str::<Intent>(&text).ok()).as_ref());
        self.names.insert(id, name.clone());
        name
    }
}
