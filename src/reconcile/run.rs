//! The loop: read the policy and the folder, plan, start the attempts that are due, wait for a wake.
//!
//! A wake carries no data: the loop reads the policy, the folder and the registry, and plans again. Attempts run
//! concurrently with the loop, at most `reconcile.concurrency` at the same time and one per connection.

mod audit;
mod leaving;
mod not_held;

use super::attempt;
use super::departures::{self, Departures};
use super::folder_sync::FolderSync;
use super::handle::Handle;
use super::interrupted;
use super::notices;
use super::open_files;
use super::queue::Queue;
use crate::meters::meters;
use crate::model::{ConnectionId, Timestamp};
use crate::pipeline::Env;
use crate::plan::{self, PlanContext, PlanItem};
use crate::registry::{Partitions, RegistryError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often the loop checks whether a registry that could not be written can be written again.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long running attempts may take to end when the process stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// When the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When `handle.stopping` is true.
    Stopped,
    /// When everything that is due has been attempted once.
    Settled,
    /// When the policy and the folder are read and what leaves is decided. Nothing is attempted.
    Synced,
}

/// An attempt that ended: its item of the plan, when it began, and what became of it.
type EndedAttempt = (PlanItem, Timestamp, Result<attempt::Ending, RegistryError>);

struct Loop {
    handle: Arc<Handle>,
    env: Arc<Env>,
    folder_sync: FolderSync,
    until: Until,
    queue: Queue,
    context: PlanContext,
    /// Attempts whose end the loop has not handled yet. `Handle::in_flight` tells which of them are still running.
    attempts: JoinSet<EndedAttempt>,
    /// The running attempt of a connection whose last attempt ended together with the process. Only one of them runs at a
    /// time, so that if the process ends again, the connection that is the reason is known.
    isolated: Option<ConnectionId>,
    /// Connections whose attempts wait for others that use the same account.
    postponed: BTreeSet<ConnectionId>,
    /// When attempts were started last. What was due then and still waits is held back by `isolated`.
    dispatched_at: Timestamp,
    /// The number of concurrent attempts that the limit on open files allows.
    attempts_by_files: usize,
    /// Whether the loop was woken since the last sync.
    resync: bool,
    synced_at: Timestamp,
    /// The connections that leave.
    departures: Departures,
    /// For each source type, when a connection worked again after an outage. Connections that failed before it are planned by it.
    recovered: BTreeMap<Arc<str>, Timestamp>,
    /// Connections to plan again because their departure is held or not held any more, or because it is their turn.
    replan_next: BTreeSet<ConnectionId>,
    /// The last connection that a resync planned again.
    audited: Option<ConnectionId>,
    /// The partitions in which this process attempts connections.
    partitions: Partitions,
    /// The revision of the snapshot that the queue reflects, or `None` if everything must be planned again.
    planned: Option<u64>,
}

/// Runs the loop.
pub async fn run(handle: Arc<Handle>, env: Arc<Env>, folder_sync: FolderSync, until: Until) {
    let context = PlanContext::new(handle.loaded(), &handle.registry.snapshot());
    let synced_at = handle.clock.now();
    let mut this = Loop {
        handle,
        env,
        folder_sync,
        until,
        queue: Queue::default(),
        context,
        attempts: JoinSet::new(),
        isolated: None,
        postponed: BTreeSet::new(),
        dispatched_at: synced_at,
        attempts_by_files: open_files::max_attempts(),
        resync: true,
        synced_at,
        departures: Departures::default(),
        recovered: BTreeMap::new(),
        replan_next: BTreeSet::new(),
        audited: None,
        partitions: Partitions::default(),
        planned: None,
    };
    let mut partitions = this.handle.registry.partitions();
    this.partitions = *partitions.borrow_and_update();
    let mut others = this.handle.registry.results_of_others();
    let (mut stopping, mut first) = (this.handle.stopping.subscribe(), true);
    while !*stopping.borrow_and_update() {
        if this.resync {
            this.sync().await;
            if first {
                this.handle.ready.send_replace(true);
                first = false;
            }
        }
        if until == Until::Synced {
            break;
        }
        this.dispatch();
        meters().queue(this.queue.len(), this.queue.next_due().map(|due| due.0));
        if until == Until::Settled && this.settled() {
            break;
        }
        if until == Until::Settled && !this.handle.trouble.load().is_empty() {
            // A command that ends does not wait until the registry can be written again. Attempts that cannot record
            // their outcome count as interrupted.
            this.handle.stopping.send_replace(true);
            break;
        }
        let (pause, handle) = (this.pause(), Arc::clone(&this.handle));
        let reread_at = this.folder_sync.reread_at();
        tokio::select! {
            _ = stopping.changed() => {}
            Some(ended) = this.attempts.join_next() => this.attempt_ended(ended),
            () = handle.woken() => this.resync = true,
            () = handle.registry.changed_by_others() => this.resync = true,
            Ok(()) = partitions.changed() => this.divide(*partitions.borrow_and_update()),
            Ok(()) = others.changed() => handle.in_flight.notify(),
            () = sleep_until(reread_at) => this.reread().await,
            () = handle.clock.wait(pause) => this.timer().await,
        }
        while let Some(ended) = this.attempts.try_join_next() {
            this.attempt_ended(ended);
        }
    }
    this.drain().await;
}

impl Loop {
    /// Reads the policy and the folder, records changes, and plans.
    async fn sync(&mut self) {
        self.resync = false;
        self.synced_at = self.handle.clock.now();
        let started = Instant::now();
        self.handle.check_registry_files().await;
        let result = match self.partitions.contains(0) {
            true => self.folder_sync.sync(&self.handle).await,
            false => self.folder_sync.follow(&self.handle).await,
        };
        if let Err(error) = result {
            self.handle.report_error(&error);
        }
        self.handle.passed();
        if let Err(error) = self.settle_departures().await {
            self.handle.report_error(&error);
        }
        let only = self.planned.is_some().then_some(&self.replan_next);
        if self.partitions.contains(0)
            && let Err(error) = notices::record_expiring(&self.handle, only).await
        {
            self.handle.report_error(&error);
        }
        self.replan();
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(target: "aam::sync", us, "read the policy and the folder, and planned");
    }

    /// Reads fresh files again. If they did not change, the plan does not change either.
    async fn reread(&mut self) {
        if let Err(error) = self.folder_sync.reread(&self.handle).await {
            self.handle.report_error(&error);
        }
    }

    /// Puts the policy and the files of secrets into the context of the plan. After a change, everything is planned again.
    fn refresh_context(&mut self) {
        let (loaded, secrets) = (self.handle.loaded(), self.folder_sync.stored_secrets());
        let snapshot = self.handle.registry.snapshot();
        if self.planned.is_some() && self.context.covers(&loaded, &snapshot) && *self.context.secrets == *secrets {
            return;
        }
        self.env.providers.set_policy(&loaded.policy);
        let held = std::mem::take(&mut self.context.held);
        self.context = PlanContext::new(loaded, &snapshot).with_secrets(secrets);
        self.context.held = held;
        self.planned = None;
    }

    /// Plans the connections whose desired state, policy or heals changed. What an attempt changes is planned when it ends.
    fn replan(&mut self) {
        let in_flight = &self.handle.in_flight;
        in_flight.request_heals(self.handle.registry.take_heals());
        let heals = in_flight.heals();
        let (now, partitions) = (self.handle.clock.now(), self.partitions);
        let snapshot = self.handle.registry.snapshot();
        let paused = |id: ConnectionId| self.context.held.get(&id) == Some(&false);
        let moved: Vec<ConnectionId> = heals.iter().copied().filter(|id| !partitions.has(*id)).collect();
        if !moved.is_empty() {
            self.handle.registry.ask_to_heal(moved);
        }
        in_flight.retain_heals(|id| {
            let known = snapshot.connections.get(&id);
            let can_begin = known.is_some_and(|known| known.retired.is_none() && !snapshot.is_closed(&known.namespace));
            can_begin && partitions.has(id) && !paused(id)
        });
        let mut whole = false;
        let mut changed = self.planned.and_then(|revision| snapshot.changed_after(revision));
        departures::release_retired(&self.env, &snapshot, changed.as_ref());
        let held_changed = std::mem::take(&mut self.replan_next);
        if let Some(changed) = &mut changed {
            changed.extend(held_changed);
        }
        match changed {
            Some(changed) => {
                for id in changed.union(&heals).filter(|id| partitions.has(**id) && !in_flight.contains(**id)) {
                    let item = plan::plan_one(&snapshot, *id, &self.context, heals.contains(id), now);
                    self.queue.put(*id, item);
                }
            }
            None => {
                let own = |id| partitions.has(id) && !in_flight.contains(id);
                self.queue.replace(plan::plan_of(&snapshot, &self.context, &heals, now, own));
                whole = true;
            }
        }
        if self.until == Until::Settled {
            for item in interrupted::due_now(&snapshot, &self.context, self.handle.started, now) {
                if partitions.has(item.connection) && !in_flight.contains(item.connection) {
                    self.queue.put(item.connection, Some(item));
                }
            }
        }
        self.planned = Some(snapshot.revision);
        drop(snapshot);
        if whole {
            crate::memory::release_free();
        }
    }

    /// Starts the attempts that are due, up to the policy's concurrency, unless the registry cannot be written.
    fn dispatch(&mut self) {
        if !self.handle.trouble.load().is_empty() {
            return;
        }
        let (now, max_in_flight) = (self.handle.clock.now(), self.max_in_flight());
        self.dispatched_at = now;
        while self.handle.in_flight.len() < max_in_flight {
            let Some(item) = self.pop(now) else { return };
            self.start(item);
        }
    }

    /// The next item that may begin.
    fn pop(&mut self, now: Timestamp) -> Option<PlanItem> {
        let snapshot = self.handle.registry.snapshot();
        let suspected = |id| snapshot.connections.get(&id).is_some_and(|known| known.ended_with_process());
        let (in_flight, isolated) = (&self.handle.in_flight, self.isolated.is_some());
        let item = self.queue.pop(now, |id| !(in_flight.contains(id) || isolated && suspected(id)))?;
        if suspected(item.connection) {
            self.isolated = Some(item.connection);
        }
        Some(item)
    }

    /// The number of attempts that may run at the same time.
    fn max_in_flight(&self) -> usize {
        self.context.policy.reconcile.concurrency.clamp(1, self.attempts_by_files)
    }

    fn start(&mut self, item: PlanItem) {
        let Some(running) = self.handle.in_flight.begin(item.connection) else { return };
        let (handle, env) = (Arc::clone(&self.handle), Arc::clone(&self.env));
        tracing::debug!(target: "aam::attempt", connection = %item.connection, why = item.why.message(), "attempt begins");
        let begun = handle.clock.now();
        self.attempts.spawn(async move {
            let result = attempt::run(&handle, &env, item).await;
            drop(running);
            (item, begun, result)
        });
    }

    /// Handles the end of an attempt and plans its connection again.
    fn attempt_ended(&mut self, ended: Result<EndedAttempt, tokio::task::JoinError>) {
        let (item, begun, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                self.isolated = None;
                tracing::error!(target: "aam::attempt", %error, "an attempt ended without a result; the loop plans again");
                self.replan_all();
                return;
            }
        };
        let connection = item.connection;
        self.isolated = self.isolated.filter(|isolated| *isolated != connection);
        self.postponed.remove(&connection);
        match result {
            Ok(attempt::Ending::Recorded) => {}
            Ok(attempt::Ending::Postponed(wait)) => {
                self.postponed.insert(connection);
                let due = self.handle.clock.now().plus(wait);
                self.queue.put(connection, Some(PlanItem { due, ..item }));
                return;
            }
            Err(RegistryError::NotHeld) => return self.not_held(item),
            // A row that cannot be read affects only its own connection.
            Err(error @ RegistryError::Row { .. }) => {
                tracing::error!(target: "aam::registry", %connection, %error, "this connection is not attempted until the registry is repaired");
                self.queue.put(connection, None);
                return;
            }
            Err(error) => {
                self.handle.report_error(&error);
                self.planned = None;
                return;
            }
        }
        let heal = self.handle.in_flight.heals().contains(&connection);
        let now = self.handle.clock.now();
        let snapshot = self.handle.registry.snapshot();
        let known = snapshot.connections.get(&connection);
        let changed = self.planned.and_then(|revision| snapshot.changed_after(revision));
        if known.is_some() && changed.is_none_or(|changed| changed.contains(&connection)) {
            // What is desired of it changed while the attempt ran. The next sync decides first whether its departure is held.
            drop(snapshot);
            self.queue.put(connection, None);
            self.handle.wake();
            return;
        }
        // A secret that was stored while the attempt ran may have come too late for it. The row of a re-check that found
        // nothing new does not say when it began.
        let stored =
            known.as_deref().and_then(|known| self.context.secret_changed(known)).is_some_and(|changed| changed >= begun);
        let item = plan::plan_one(&snapshot, connection, &self.context, heal || stored, now);
        let ended = known.as_deref().and_then(|known| known.last.as_ref().map(|last| (Arc::clone(&known.source_type), last.at)));
        let recovered = ended.filter(|(source_type, at)| snapshot.recovered(source_type) == Some(*at));
        let others =
            recovered.as_ref().map(|(source_type, _)| self.after_outage(&snapshot, source_type, now)).unwrap_or_default();
        drop(snapshot);
        self.recovered.extend(recovered);
        self.queue.put(connection, item);
        for (id, item) in others {
            self.queue.put(id, item);
        }
    }

    /// Attempts connections in these partitions from now on. A process that became the leader reads folder and policy anew.
    fn divide(&mut self, partitions: Partitions) {
        if partitions.contains(0) && !self.partitions.contains(0) {
            self.folder_sync.restart();
        }
        self.partitions = partitions;
        self.replan_all();
    }

    /// Syncs again and plans everything, not only what changed.
    fn replan_all(&mut self) {
        self.planned = None;
        self.resync = true;
    }

    /// How long to wait for the next attempt that is due, the next resync, or the next probe of a failed registry.
    fn pause(&self) -> Duration {
        if !self.handle.trouble.load().is_empty() {
            return PROBE_INTERVAL;
        }
        let now = self.handle.clock.now();
        let resync = self.synced_at.plus(self.context.policy.reconcile.resync);
        let busy = self.handle.in_flight.len() >= self.max_in_flight();
        // At the limit of concurrent attempts nothing can start. The end of an attempt wakes the loop anyway.
        let next = match self.isolated {
            Some(_) => self.queue.next_due_after(self.dispatched_at),
            None => self.queue.next_due(),
        };
        let next = next.filter(|_| !busy).map_or(resync, |due| due.min(resync));
        next.since(now).max(Duration::from_millis(1))
    }

    async fn timer(&mut self) {
        if !self.handle.trouble.load().is_empty() {
            if self.handle.registry.probe().await.is_ok() {
                tracing::info!(target: "aam::registry", "the registry can write again");
                self.handle.trouble.store(Arc::default());
                self.replan_all();
            }
            return;
        }
        let now = self.handle.clock.now();
        if now >= self.synced_at.plus(self.context.policy.reconcile.resync) {
            self.folder_sync.check_watch();
            self.audit();
        }
    }

    /// Whether no attempt is running and none is due.
    fn settled(&self) -> bool {
        let due = self.queue.next_due().is_some_and(|due| due <= self.handle.clock.now());
        let waits = self.postponed.iter().any(|connection| self.queue.contains(*connection));
        self.attempts.is_empty() && !due && !waits && !self.resync
    }

    /// Waits for running attempts to end. Those that do not end in time are recorded as interrupted.
    async fn drain(&mut self) {
        let all = async { while self.attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
            tracing::warn!(target: "aam::attempt", left = self.attempts.len(), "some attempts did not end in time and count as interrupted");
        }
        self.attempts.shutdown().await;
        if let Err(error) = self.handle.registry.record_stopped().await {
            self.handle.report_error(&error);
        }
    }
}

/// Waits until `then`, or forever if there is no instant.
async fn sleep_until(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
