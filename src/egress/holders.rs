//! The accounts whose limits this process shares with other replicas. [`super::shares`] has the rules.

use super::caps::Account;
use super::refusals::{not_divided, unwritten};
use super::shares::{self, IDLE, RowWrite, Share};
use super::{Caller, Egress, locked};
use crate::model::Failure;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How long a call waits before it reads again whether the others have lowered their share.
const READ_INTERVAL: Duration = Duration::from_millis(200);

/// A row that a process wrote for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAccount {
    /// The number of parts on which the process counts: that of the processes that use the account.
    pub parts: u32,
    /// How long ago the last row of another process, or an earlier one of this process, ended. Zero if one has not ended. `None` if
    /// the account was not used for long.
    pub idle: Option<Duration>,
}

/// The rows of other processes, by account: the parts on which each of them counts. Accounts without others are left out.
pub type OtherHolders = HashMap<String, Vec<u32>>;

/// Records which processes use an account. The registry implements it if several processes use it.
pub trait AccountHolders: Send + Sync {
    /// Writes the row of this process for `account`. It counts on as many parts as there are rows. It is durable when the future
    /// ends.
    ///
    /// # Errors
    /// If the registry cannot write.
    fn hold(&self, account: String) -> BoxFuture<'static, Result<HeldAccount, String>>;

    /// Extends the rows of this process that have not ended, each with the number of parts on which it counts. Returns for each of
    /// them whether it had not ended.
    ///
    /// # Errors
    /// If the registry cannot write. It is then not known whether the rows were extended.
    fn renew(&self, accounts: Vec<(String, u32)>) -> BoxFuture<'static, Result<Vec<bool>, String>>;

    /// Reads the rows of others that have not ended: for `account`, or for all accounts for which this process has a row.
    ///
    /// # Errors
    /// If the registry cannot be read.
    fn others(&self, account: Option<String>) -> BoxFuture<'static, Result<OtherHolders, String>>;

    /// Ends all rows of this process, which makes no calls any more.
    ///
    /// # Errors
    /// If the registry cannot write. The rows then end by themselves.
    fn release(&self) -> BoxFuture<'static, Result<(), String>>;
}

/// The share of this process in the limits of an account.
#[derive(Default)]
pub(super) struct Holding {
    state: Mutex<HoldingState>,
    /// Locked by the call that joins the account. The others wait for it.
    joining: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct HoldingState {
    share: Share,
    idle: Option<Duration>,
    used_at: Duration,
}

/// The accounts of which this process has a share.
#[derive(Default)]
pub(super) struct Holders {
    registry: OnceLock<Arc<dyn AccountHolders>>,
    held: Mutex<HashMap<String, Arc<Account>>>,
    /// Whether the process has given its shares back.
    is_released: AtomicBool,
}

impl Holding {
    /// Takes in that the row was written.
    fn written(&self, write: RowWrite, held: HeldAccount, now: Duration) {
        let mut state = locked(&self.state);
        state.share.written(write, held.parts, now);
        state.idle = held.idle;
    }
}

impl Account {
    /// Returns the number of parts of which this process uses one.
    pub(super) fn parts(&self) -> u32 {
        self.holding.get().and_then(|holding| locked(&holding.state).share.parts(self.elapsed())).unwrap_or(1)
    }

    /// Whether this process has a share of the limits, or has them alone.
    pub(super) fn may_call(&self) -> bool {
        self.holding.get().is_none_or(|holding| locked(&holding.state).share.parts(self.elapsed()).is_some())
    }

    /// Waits until this process has a share of the limits. Returns at once if it has them alone or has a share already.
    ///
    /// # Errors
    /// Returns `Throttled` if the registry cannot say who uses the account.
    pub(super) async fn join(self: &Arc<Account>, caller: &Caller, egress: &Egress) -> Result<(), Failure> {
        let Some(registry) = egress.holders.registry.get() else { return Ok(()) };
        if egress.holders.is_released.load(Ordering::SeqCst) {
            return Err(not_divided(caller));
        }
        let holding = self.holding.get_or_init(Box::default);
        locked(&holding.state).used_at = self.elapsed();
        if self.may_call() {
            return Ok(());
        }
        let _joining = holding.joining.lock().await;
        let failed = |error: String| unwritten(caller, &error);
        loop {
            if self.may_call() {
                return Ok(());
            }
            if !locked(&holding.state).share.is_held(self.elapsed()) {
                let write = locked(&holding.state).share.join(self.elapsed());
                let held = registry.hold(self.key().to_string()).await.map_err(failed)?;
                holding.written(write, held, self.elapsed());
                locked(&egress.holders.held).insert(self.key().to_string(), Arc::clone(self));
            }
            let read_began = self.elapsed();
            let others = registry.others(Some(self.key().to_string())).await.map_err(failed)?;
            let others = others.get(self.key()).map_or(&[][..], Vec::as_slice);
            match self.observe(holding, read_began, others) {
                Some(parts) => {
                    renew(registry, vec![(Arc::clone(self), Some(parts))]).await.map_err(failed)?;
                }
                None if self.may_call() => {}
                None => tokio::time::sleep(READ_INTERVAL).await,
            }
        }
    }

    /// Takes in the rows of others, which were read after `read_began`. Returns the number of parts to write, if it changed.
    fn observe(&self, holding: &Holding, read_began: Duration, others: &[u32]) -> Option<u32> {
        let (in_flight, whole, now) = (self.in_flight(), self.whole(), self.elapsed());
        let mut state = locked(&holding.state);
        let before = state.share.parts(now);
        state.share.observe(read_began, others, (in_flight, &whole), now);
        let (after, unpublished) = (state.share.parts(now), state.share.unpublished(others.len()));
        let idle = if others.is_empty() { state.idle } else { Some(Duration::ZERO) };
        drop(state);
        if after != before && after.is_some() {
            self.apply_parts(before.is_none().then_some(idle));
        }
        // A smaller share is written only when the calls in flight fit into it.
        unpublished.filter(|parts| after.is_none() || self.in_flight() <= shares::part(&whole, *parts).concurrency)
    }
}

/// Extends rows, and writes other numbers of parts into them.
async fn renew(registry: &Arc<dyn AccountHolders>, accounts: Vec<(Arc<Account>, Option<u32>)>) -> Result<(), String> {
    let mut writes: Vec<(Arc<Account>, RowWrite, u32)> = Vec::with_capacity(accounts.len());
    for (account, parts) in accounts {
        let Some(holding) = account.holding.get() else { continue };
        let write = locked(&holding.state).share.renew(parts, account.elapsed());
        if let Some((write, parts)) = write {
            writes.push((account, write, parts));
        }
    }
    if writes.is_empty() {
        return Ok(());
    }
    let answers = registry.renew(writes.iter().map(|(account, _, parts)| (account.key().to_string(), *parts)).collect()).await;
    for (index, (account, write, parts)) in writes.iter().enumerate() {
        let Some(holding) = account.holding.get() else { continue };
        let mut state = locked(&holding.state);
        match answers.as_ref().map(|answers| answers.get(index)) {
            Ok(Some(true)) => state.share.written(*write, *parts, account.elapsed()),
            Ok(_) => state.share.ended(*write),
            // What the row says is not certain until the next write.
            Err(_) => {}
        }
    }
    answers.map(drop)
}

impl Egress {
    /// Divides the limits of accounts with the other processes that use `holders`, from now on. Called once, before the first
    /// call.
    pub fn divide_limits(&self, holders: Arc<dyn AccountHolders>) {
        let _ = self.holders.registry.set(holders);
    }

    /// Reads which other processes use the accounts of this one, and applies their number. With `keep`, extends the rows of the
    /// accounts that were used within the last minute. Called every second, with `keep` every few seconds.
    ///
    /// # Errors
    /// If the registry cannot be read or written. The shares of this process then end by themselves.
    pub async fn keep_shares(&self, keep: bool) -> Result<(), String> {
        let Some(registry) = self.holders.registry.get() else { return Ok(()) };
        let now = self.accounts.elapsed();
        let accounts: Vec<Arc<Account>> = {
            let mut held = locked(&self.holders.held);
            held.retain(|_, account| account.holding.get().is_some_and(|holding| locked(&holding.state).share.is_held(now)));
            held.values().cloned().collect()
        };
        if accounts.is_empty() {
            return Ok(());
        }
        let read_began = self.accounts.elapsed();
        let others = registry.others(None).await?;
        let mut writes = Vec::new();
        for account in accounts {
            let Some(holding) = account.holding.get() else { continue };
            let others = others.get(account.key()).map_or(&[][..], Vec::as_slice);
            let parts = account.observe(holding, read_began, others);
            let in_use = locked(&holding.state).used_at + IDLE > now || account.in_flight() > 0;
            if parts.is_some() || keep && in_use {
                writes.push((account, parts));
            }
        }
        renew(registry, writes).await
    }

    /// Gives the shares of this process back, so that the others need not wait until its rows end. No calls are made afterwards.
    /// Errors are ignored, because the rows end by themselves.
    pub async fn release_shares(&self) {
        let Some(registry) = self.holders.registry.get() else { return };
        self.holders.is_released.store(true, Ordering::SeqCst);
        let held = std::mem::take(&mut *locked(&self.holders.held));
        for holding in held.values().filter_map(|account| account.holding.get()) {
            locked(&holding.state).share.leave();
        }
        if let Err(error) = registry.release().await {
            tracing::debug!(target: "aam::egress", %error, "the use of accounts could not be ended");
        }
    }
}
