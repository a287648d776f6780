//! The loop: read policy and folder, plan, start what is due, wait for a wake.
//!
//! A wake carries no data: the loop reads the folder, the policy and the rows, and plans again. Attempts run beside the
//! loop, at most `reconcile.concurrency` at the same time and one for each connection.

use super::attempt;
use super::folder_sync::FolderSync;
use super::handle::Handle;
use super::open_files;
use super::queue::Queue;
use crate::model::{ConnectionId, Timestamp};
use crate::pipeline::Env;
use crate::plan::{self, PlanContext, PlanItem};
use crate::registry::RegistryError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often a registry that cannot write is asked whether it can again.
const PROBE: Duration = Duration::from_millis(500);
/// How long in-flight attempts may take to end when the process stops.
const DRAIN: Duration = Duration::from_secs(10);

/// When the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// `handle.stopping` says so.
    Stopped,
    /// Everything that is due was attempted once.
    Settled,
}

struct Loop {
    handle: Arc<Handle>,
    env: Arc<Env>,
    folder_sync: FolderSync,
    queue: Queue,
    context: PlanContext,
    /// Attempts whose end the loop has not handled yet. `Handle::in_flight` says which of them still run.
    attempts: JoinSet<(ConnectionId, Result<(), RegistryError>)>,
    /// Attempts that the open files of this process allow at the same time.
    attempts_by_files: usize,
    /// Something woke the loop since it last synced.
    resync: bool,
    synced_at: Timestamp,
    /// The entry up to which the queue is the plan; `None`: it must be made anew.
    planned: Option<u64>,
}

/// Runs the loop.
pub async fn run(handle: Arc<Handle>, env: Arc<Env>, folder_sync: FolderSync, until: Until) {
    let context = PlanContext::new(handle.loaded(), &handle.registry.snapshot());
    let synced_at = handle.clock.now();
    let queue = Queue::default();
    let attempts = JoinSet::new();
    let attempts_by_files = open_files::max_attempts();
    let mut this =
        Loop { handle, env, folder_sync, queue, context, attempts, attempts_by_files, resync: true, synced_at, planned: None };
    let mut stopping = this.handle.stopping.subscribe();
    let mut first = true;
    while !*stopping.borrow_and_update() {
        if this.resync {
            this.sync().await;
            if first {
                this.handle.ready.send_replace(true);
                first = false;
            }
        }
        this.dispatch();
        if until == Until::Settled && this.settled() {
            break;
        }
        if until == Until::Settled && !this.handle.trouble.load().is_empty() {
            // This command does not wait for space: attempts in flight give up and count as interrupted.
            this.handle.stopping.send_replace(true);
            break;
        }
        let (pause, handle) = (this.pause(), Arc::clone(&this.handle));
        let reread_at = this.folder_sync.reread_at();
        tokio::select! {
            _ = stopping.changed() => {}
            Some(ended) = this.attempts.join_next() => this.ended(ended),
            () = handle.woken() => this.resync = true,
            () = at(reread_at) => this.reread().await,
            () = tokio::time::sleep(pause) => this.timer().await,
        }
        while let Some(ended) = this.attempts.try_join_next() {
            this.ended(ended);
        }
    }
    this.drain().await;
}

impl Loop {
    /// Reads the policy and the folder, makes what changed durable, and plans.
    async fn sync(&mut self) {
        self.resync = false;
        self.synced_at = self.handle.clock.now();
        let started = Instant::now();
        if let Err(error) = self.folder_sync.sync(&self.handle).await {
            self.handle.report_error(&error);
        }
        self.replan();
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(target: "aam::sync", us, "read policy and folder, and planned");
    }

    /// Reads young files again. If they stayed as they were, no plan changes.
    async fn reread(&mut self) {
        if let Err(error) = self.folder_sync.reread(&self.handle).await {
            self.handle.report_error(&error);
        }
    }

    /// Plans what changed in desired connections, policy and heals. What an attempt changes is planned when it ends.
    fn replan(&mut self) {
        let in_flight = &self.handle.in_flight;
        let heals = in_flight.heals();
        let loaded = self.handle.loaded();
        let now = self.handle.clock.now();
        let snapshot = self.handle.registry.snapshot();
        in_flight.retain_heals(|id| {
            snapshot
                .connections
                .get(&id)
                .is_some_and(|known| known.retired.is_none() && !snapshot.sealed.contains(&*known.namespace))
        });
        let same = self.context.covers(&loaded, &snapshot);
        let mut whole = false;
        match self.planned.filter(|_| same).and_then(|seq| snapshot.changed_after(seq)) {
            Some(changed) => {
                for id in changed.union(&heals).filter(|id| !in_flight.contains(**id)) {
                    let item = plan::one(&snapshot, *id, &self.context, heals.contains(id), now);
                    self.queue.put(*id, item);
                }
            }
            None => {
                self.context = PlanContext::new(loaded, &snapshot);
                let plan = plan::plan(&snapshot, &self.context, &heals, now);
                self.queue.replace(plan.into_iter().filter(|item| !in_flight.contains(item.connection)));
                whole = true;
            }
        }
        self.planned = Some(snapshot.seq);
        drop(snapshot);
        if whole {
            crate::memory::release_free();
        }
    }

    /// Starts what is due, up to the policy's concurrency. Nothing starts while the registry cannot write.
    fn dispatch(&mut self) {
        if !self.handle.trouble.load().is_empty() {
            return;
        }
        let (now, max_in_flight) = (self.handle.clock.now(), self.max_in_flight());
        while self.handle.in_flight.len() < max_in_flight {
            let in_flight = &self.handle.in_flight;
            let Some(item) = self.queue.pop(now, |id| !in_flight.contains(id)) else { return };
            self.start(item);
        }
    }

    /// How many attempts may run at the same time.
    fn max_in_flight(&self) -> usize {
        self.context.policy.reconcile.concurrency.clamp(1, self.attempts_by_files)
    }

    fn start(&mut self, item: PlanItem) {
        let Some(running) = self.handle.in_flight.begin(item.connection) else { return };
        let (handle, env) = (Arc::clone(&self.handle), Arc::clone(&self.env));
        tracing::debug!(target: "aam::attempt", connection = %item.connection, why = item.why.message(), "begins");
        self.attempts.spawn(async move {
            let result = attempt::run(&handle, &env, item).await;
            drop(running);
            (item.connection, result)
        });
    }

    /// An attempt ended: plan this one connection again.
    fn ended(&mut self, ended: Result<(ConnectionId, Result<(), RegistryError>), tokio::task::JoinError>) {
        let (connection, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(target: "aam::attempt", %error, "an attempt ended without a result");
                self.plan_anew();
                return;
            }
        };
        match result {
            Ok(()) => {}
            // One row that cannot be read concerns one connection: the others go on.
            Err(error @ RegistryError::Row { .. }) => {
                tracing::error!(target: "aam::registry", %connection, %error, "this connection is held as it is");
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
        let item = plan::one(&snapshot, connection, &self.context, heal, now);
        drop(snapshot);
        self.queue.put(connection, item);
    }

    /// Syncs again and plans everything, not only what changed.
    fn plan_anew(&mut self) {
        self.planned = None;
        self.resync = true;
    }

    /// Until the next item is due, the next resync, or the next probe of a registry in trouble.
    fn pause(&self) -> Duration {
        if !self.handle.trouble.load().is_empty() {
            return PROBE;
        }
        let now = self.handle.clock.now();
        let resync = self.synced_at.plus(self.context.policy.reconcile.resync);
        let busy = self.handle.in_flight.len() >= self.max_in_flight();
        // While as many attempts run as may, nothing new can start. An attempt that ends wakes the loop.
        let next = self.queue.next_due().filter(|_| !busy).map_or(resync, |due| due.min(resync));
        next.since(now).max(Duration::from_millis(1))
    }

    async fn timer(&mut self) {
        if !self.handle.trouble.load().is_empty() {
            if self.handle.registry.probe().await.is_ok() {
                tracing::info!(target: "aam::registry", "the registry can write again");
                self.handle.trouble.store(Arc::default());
                self.plan_anew();
            }
            return;
        }
        let now = self.handle.clock.now();
        if now >= self.synced_at.plus(self.context.policy.reconcile.resync) {
            self.folder_sync.check_watch();
            // Everything is planned again, in case a change in between was missed.
            self.plan_anew();
        }
    }

    /// Nothing runs and nothing is due now.
    fn settled(&self) -> bool {
        let due = self.queue.next_due().is_some_and(|due| due <= self.handle.clock.now());
        self.attempts.is_empty() && !due && !self.resync
    }

    /// Lets attempts in flight end; those that do not are recorded as interrupted at the next start.
    async fn drain(&mut self) {
        let all = async { while self.attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!(target: "aam::attempt", left = self.attempts.len(), "attempts did not end in time; they count as interrupted");
        }
        self.attempts.abort_all();
    }
}

/// Ends at `then`; without an instant it never ends.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
