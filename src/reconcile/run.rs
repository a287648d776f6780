//! The loop: look, plan, run what is due, wait until something says "look again".
//!
//! A wake carries no data: the loop re-reads the folder, the policy and the rows, and plans anew.
//! Attempts run beside it, at most `reconcile.concurrency` at once and one for each connection.

use super::attempt;
use super::folder_sync::{FolderSync, ScanMode, ScanResult};
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
/// While new files come one after the other, the look at all the others waits until none came for
/// [`QUIET`], but not longer than [`LONGEST`].
const QUIET: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
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
    attempts: JoinSet<(ConnectionId, Result<(), RegistryError>)>,
    /// Attempts that the open files of this process allow at the same time.
    attempts_by_files: usize,
    look_again: bool,
    scan_mode: ScanMode,
    /// Since when only new files were looked at, and when the whole folder is.
    rest: Option<(tokio::time::Instant, tokio::time::Instant)>,
    looked_at: Timestamp,
    /// The entry up to which the queue is the plan; `None`: it must be made anew.
    planned: Option<u64>,
}

/// Runs the loop.
pub async fn run(handle: Arc<Handle>, env: Arc<Env>, folder_sync: FolderSync, until: Until) {
    let context = PlanContext::new(handle.loaded(), &handle.registry.snapshot());
    let looked_at = handle.clock.now();
    let queue = Queue::default();
    let (attempts, scan_mode) = (JoinSet::new(), ScanMode::Full);
    let attempts_by_files = open_files::max_attempts();
    let mut this = Loop {
        handle,
        env,
        folder_sync,
        queue,
        context,
        attempts,
        attempts_by_files,
        look_again: true,
        scan_mode,
        rest: None,
        looked_at,
        planned: None,
    };
    let mut stopping = this.handle.stopping.subscribe();
    let mut first = true;
    while !*stopping.borrow_and_update() {
        if this.look_again {
            this.look().await;
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
            // Nobody waits for space here: what is in flight gives its outcome up and counts as interrupted.
            this.handle.stopping.send_replace(true);
            break;
        }
        let (pause, handle) = (this.pause(), Arc::clone(&this.handle));
        let (young, rest) = (this.folder_sync.settle_at(), this.rest.map(|(_, at)| at));
        tokio::select! {
            _ = stopping.changed() => {}
            Some(ended) = this.attempts.join_next() => this.ended(ended),
            () = handle.woken() => (this.look_again, this.scan_mode) = (true, ScanMode::NewOnly),
            () = at(young) => this.settle().await,
            () = at(rest) => this.look_again = true,
            () = tokio::time::sleep(pause) => this.timer().await,
        }
        while let Some(ended) = this.attempts.try_join_next() {
            this.ended(ended);
        }
    }
    this.drain().await;
}

impl Loop {
    /// Looks at policy and folder, takes in what changed, plans anew.
    async fn look(&mut self) {
        self.look_again = false;
        self.looked_at = self.handle.clock.now();
        let started = Instant::now();
        match self.folder_sync.look(&self.handle, std::mem::replace(&mut self.scan_mode, ScanMode::Full)).await {
            Ok(ScanResult::All) => self.rest = None,
            Ok(ScanResult::New) => {
                let now = tokio::time::Instant::now();
                let first = self.rest.map_or(now, |(first, _)| first);
                self.rest = Some((first, (now + QUIET).min(first + LONGEST)));
            }
            Err(error) => self.handle.troubled(&error),
        }
        self.replan();
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(target: "aam::look", us, "looked at policy and folder, and planned");
    }

    /// Files that were too young are read again; that they stayed as they were changes no plan.
    async fn settle(&mut self) {
        if let Err(error) = self.folder_sync.settle(&self.handle).await {
            self.handle.troubled(&error);
        }
    }

    /// The plan changes with wishes, policy and heals; what an attempt changes is put in when it ends.
    fn replan(&mut self) {
        let heals = self.handle.heals();
        let loaded = self.handle.loaded();
        let now = self.handle.clock.now();
        let snapshot = self.handle.registry.snapshot();
        self.handle.keep_heals(|id| {
            snapshot
                .connections
                .get(&id)
                .is_some_and(|known| known.retired.is_none() && !snapshot.sealed.contains(&*known.namespace))
        });
        let same = self.context.covers(&loaded, &snapshot);
        let mut whole = false;
        match self.planned.filter(|_| same).and_then(|seq| snapshot.changed_after(seq)) {
            Some(wished) => {
                for id in wished.union(&heals).filter(|id| !self.handle.checking(**id)) {
                    let item = plan::one(&snapshot, *id, &self.context, heals.contains(id), now);
                    self.queue.put(*id, item);
                }
            }
            None => {
                self.context = PlanContext::new(loaded, &snapshot);
                let plan = plan::plan(&snapshot, &self.context, &heals, now);
                self.queue.replace(plan.into_iter().filter(|item| !self.handle.checking(item.connection)));
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
        while self.attempts.len() < max_in_flight {
            let handle = &self.handle;
            let Some(item) = self.queue.pop(now, |id| !handle.checking(id)) else { return };
            self.start(item);
        }
    }

    /// How many attempts may run at the same time.
    fn max_in_flight(&self) -> usize {
        self.context.policy.reconcile.concurrency.clamp(1, self.attempts_by_files)
    }

    fn start(&mut self, item: PlanItem) {
        let (handle, env) = (Arc::clone(&self.handle), Arc::clone(&self.env));
        if !handle.enter(item.connection) {
            return;
        }
        tracing::debug!(target: "aam::attempt", connection = %item.connection, why = item.why.as_str(), "begins");
        self.attempts.spawn(async move {
            let guard = InFlightGuard { handle: Arc::clone(&handle), connection: item.connection };
            let result = attempt::run(&handle, &env, item).await;
            drop(guard);
            (item.connection, result)
        });
    }

    /// An attempt ended: plan this one connection again.
    fn ended(&mut self, ended: Result<(ConnectionId, Result<(), RegistryError>), tokio::task::JoinError>) {
        let (connection, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(target: "aam::attempt", %error, "an attempt ended without a word");
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
                self.handle.troubled(&error);
                self.planned = None;
                return;
            }
        }
        let heal = self.handle.heals().contains(&connection);
        let now = self.handle.clock.now();
        let snapshot = self.handle.registry.snapshot();
        let item = plan::one(&snapshot, connection, &self.context, heal, now);
        drop(snapshot);
        self.queue.put(connection, item);
    }

    /// The next look plans everything, not only what changed.
    fn plan_anew(&mut self) {
        self.planned = None;
        self.look_again = true;
    }

    /// Until the next item is due, the next resync, or the next probe of a registry in trouble.
    fn pause(&self) -> Duration {
        if !self.handle.trouble.load().is_empty() {
            return PROBE;
        }
        let now = self.handle.clock.now();
        let resync = self.looked_at.plus(self.context.policy.reconcile.resync);
        let busy = self.attempts.len() >= self.max_in_flight();
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
        if now >= self.looked_at.plus(self.context.policy.reconcile.resync) {
            self.folder_sync.check_watch();
            // From scratch: whatever a change in between may have missed is mended here.
            self.plan_anew();
        }
    }

    /// Nothing runs and nothing is due now.
    fn settled(&self) -> bool {
        let due = self.queue.next_due().is_some_and(|due| due <= self.handle.clock.now());
        self.attempts.is_empty() && !due && !self.look_again
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

/// Ends then, or never.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Marks the connection as no longer in flight, however the attempt ends.
struct InFlightGuard {
    handle: Arc<Handle>,
    connection: ConnectionId,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.handle.leave(self.connection);
    }
}
