//! Call budgets per family and vendor account: at the same time, a second, a day, and "not now".

use super::bucket::Bucket;
use super::{BudgetReservation, Caller, DayBudget, locked};
use crate::model::{Class, Failure, Timestamp};
use crate::policy::Cap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A day's calls that are already written down as used, but not made yet. Few writes, never too many calls.
#[derive(Debug, Default)]
struct Block {
    day: i64,
    /// The limit under which it was taken; under a lower one it is given up.
    limit: u64,
    left: u64,
}

impl Block {
    /// Gives up what was taken for another day or under a higher limit.
    fn turn(&mut self, day: i64, limit: u64) {
        if self.day != day || limit < self.limit {
            *self = Block { day, limit, left: 0 };
        }
    }

    /// Calls of `day` that were written down. Those of a day that is over by now are lost.
    fn add(&mut self, day: i64, limit: u64, granted: u64) {
        if self.day <= day {
            self.turn(day, limit);
            self.limit = limit;
            self.left = self.left.saturating_add(granted);
        }
    }
}

/// A source said "later" for this account.
#[derive(Clone, Debug)]
struct Parked {
    until: Timestamp,
    words: String,
}

/// Slots for calls at the same time; the number may change while calls are out.
struct Slots {
    semaphore: Arc<Semaphore>,
    size: usize,
    /// Slots that a lowered cap must still take away, as soon as they are free.
    surplus: usize,
}

/// The budgets that all connections of one vendor account share.
pub struct Account {
    /// What the times of slots and rate count from.
    started: Instant,
    slots: Mutex<Slots>,
    bucket: Mutex<(Bucket, f64, u32)>,
    block: Mutex<Block>,
    /// Held by whoever takes the next block.
    taking: tokio::sync::Mutex<()>,
    parked: Mutex<Option<Parked>>,
}

/// The accounts of the process.
pub struct Accounts {
    /// By family and account. Accounts come from documents: there are at most as many as connections.
    all: Mutex<HashMap<Arc<str>, HashMap<String, Arc<Account>>>>,
    started: Instant,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts { all: Mutex::default(), started: Instant::now() }
    }
}

/// The key of an account's budgets, also in the registry.
#[must_use]
pub fn key(caller: &Caller) -> String {
    format!("{}|{}", caller.family, caller.account)
}

/// The calls to take at once: a fiftieth of a small day, ten of a usual one, so that a crash wastes little; a
/// thousandth of a large one, up to a hundred, so that thousands of calls do not wait for a sync each few of them.
#[must_use]
pub fn block_size(limit: u64) -> u64 {
    (limit / 50).clamp(1, 10).max((limit / 1000).min(100))
}

/// Blocks of at least this many calls are taken ahead. Smaller ones belong to small days, where two would be much.
const AHEAD: u64 = 50;

impl Accounts {
    /// See [`super::Egress::lacking`]. Somebody who is taking calls right now needs no help.
    pub fn lacking(&self, caller: &Caller, now: Timestamp) -> Option<BudgetReservation> {
        let (account, day, limit) = (self.account(caller), now.day(), caller.cap.per_day);
        let _taking = account.taking.try_lock().ok()?;
        let block = locked(&account.block);
        let lacks = block.left == 0 || block.day != day || limit < block.limit;
        lacks.then(|| BudgetReservation { account: key(caller), day, wanted: block_size(limit), limit })
    }

    /// See [`super::Egress::funded`].
    pub fn funded(&self, caller: &Caller, fund: &BudgetReservation, granted: u64) {
        locked(&self.account(caller).block).add(fund.day, fund.limit, granted);
    }

    /// The account of `caller`, for as long as anybody likes.
    pub fn account(&self, caller: &Caller) -> Arc<Account> {
        let mut all = locked(&self.all);
        if let Some(account) = all.get(&caller.family).and_then(|family| family.get(caller.account.as_str())) {
            return Arc::clone(account);
        }
        let cap = &caller.cap;
        let size = slots(cap);
        let account = Arc::new(Account {
            started: self.started,
            slots: Mutex::new(Slots { semaphore: Arc::new(Semaphore::new(size)), size, surplus: 0 }),
            bucket: Mutex::new((Bucket::new(cap.per_second, cap.burst, self.started.elapsed()), cap.per_second, cap.burst)),
            block: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            parked: Mutex::default(),
        });
        all.entry(Arc::clone(&caller.family)).or_default().insert(caller.account.clone(), Arc::clone(&account));
        account
    }
}

impl Account {
    /// Whether the account may be called at all now.
    ///
    /// # Errors
    /// `Throttled` while the source's "later" lasts.
    pub fn free(&self, caller: &Caller, now: Timestamp) -> Result<(), Failure> {
        let mut parked = locked(&self.parked);
        match parked.as_ref() {
            // More than a day means that the clock was set back: no wait is that long.
            Some(Parked { until, words }) if *until > now && until.since(now) <= super::retry::LONGEST => {
                Err(later(caller, until.since(now), *until, words))
            }
            Some(_) => {
                *parked = None;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Keeps the account from being called before `until`; answers the failure to report.
    pub fn park(&self, caller: &Caller, wait: Duration, now: Timestamp, words: &str) -> Failure {
        let wait = wait.clamp(super::retry::SHORTEST, super::retry::LONGEST);
        let until = now.plus(wait);
        let mut parked = locked(&self.parked);
        if parked.as_ref().is_none_or(|parked| parked.until < until) {
            *parked = Some(Parked { until, words: words.to_string() });
        }
        later(caller, wait, until, words)
    }

    /// Waits for a slot and for the rate, in order, but not longer than half a step.
    ///
    /// # Errors
    /// `Throttled` when it would take longer.
    pub async fn enter(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Failure> {
        let patience = caller.policy.safe_mode.step_timeout / 2;
        let asked = self.started.elapsed();
        let semaphore = self.shape(&caller.cap, asked);
        let slot = match tokio::time::timeout(patience, semaphore.acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            // The semaphore is never closed; a timeout is all that can happen.
            Ok(Err(_)) | Err(_) => return Err(busy(caller)),
        };
        let now = self.started.elapsed();
        let patience = patience.saturating_sub(now.saturating_sub(asked));
        let wait = locked(&self.bucket).0.reserve(now, patience).map_err(|wait| too_fast(caller, wait))?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(slot)
    }

    /// Takes one call from the day. It is written down before this returns.
    ///
    /// # Errors
    /// `Throttled` when the day is spent, or when the registry cannot write.
    pub async fn charge(&self, caller: &Caller, budget: &dyn DayBudget, now: Timestamp) -> Result<(), Failure> {
        let (day, limit) = (now.day(), caller.cap.per_day);
        let size = block_size(limit);
        let next = || async { budget.take(&key(caller), day, size, limit).await };
        if let Some(left) = self.draw(day, limit) {
            // One call takes the next block while the others still have calls: nobody else waits for the disk.
            if size >= AHEAD
                && left == size / 2
                && let Ok(_taking) = self.taking.try_lock()
            {
                // What fails here fails again, and is told, when there is nothing left.
                let granted = next().await.unwrap_or_default();
                locked(&self.block).add(day, limit, granted);
            }
            return Ok(());
        }
        let _taking = self.taking.lock().await;
        if self.draw(day, limit).is_some() {
            return Ok(());
        }
        let granted = next().await.map_err(|error| unwritten(caller, &error))?;
        locked(&self.block).add(day, limit, granted);
        self.draw(day, limit).map(|_| ()).ok_or_else(|| spent(caller, now))
    }

    /// One call of the block, if it has any; how many are left after it.
    fn draw(&self, day: i64, limit: u64) -> Option<u64> {
        let mut block = locked(&self.block);
        block.turn(day, limit);
        block.left = block.left.checked_sub(1)?;
        Some(block.left)
    }

    /// Brings slots and rate to the figures of `cap`: a changed policy holds from the next call on.
    fn shape(&self, cap: &Cap, now: Duration) -> Arc<Semaphore> {
        let mut bucket = locked(&self.bucket);
        if bucket.1 != cap.per_second || bucket.2 != cap.burst {
            bucket.0.reshape(cap.per_second, cap.burst, now);
            (bucket.1, bucket.2) = (cap.per_second, cap.burst);
        }
        let mut slots = locked(&self.slots);
        let size = self::slots(cap);
        if size > slots.size {
            let grown = size - slots.size;
            let kept = grown.min(slots.surplus);
            slots.surplus -= kept;
            slots.semaphore.add_permits(grown - kept);
        } else {
            slots.surplus += slots.size - size;
        }
        slots.size = size;
        if slots.surplus > 0 {
            slots.surplus -= slots.semaphore.forget_permits(slots.surplus);
        }
        Arc::clone(&slots.semaphore)
    }
}

fn slots(cap: &Cap) -> usize {
    usize::try_from(cap.concurrency).unwrap_or(1).max(1)
}

fn whose(caller: &Caller) -> String {
    format!("{} account {}", caller.family, caller.account)
}

fn policy_key(caller: &Caller, figure: &str) -> String {
    format!("caps.families.{}.{figure}", caller.family)
}

fn spent(caller: &Caller, now: Timestamp) -> Failure {
    let (limit, next) = (caller.cap.per_day, now.next_day());
    let title = format!("the day's budget of {} is spent: {limit} calls a day", whose(caller));
    let fix = format!("wait until {next}, or raise {} in the policy (now {limit})", policy_key(caller, "per_day"));
    Failure::new(Class::Throttled, title, fix).after(next.since(now))
}

fn unwritten(caller: &Caller, error: &str) -> Failure {
    let title = format!("no call was made for {}: the registry could not write it down", whose(caller));
    let fix = "see that the disk of the registry has room and is writable; AAM tries again by itself";
    Failure::new(Class::Throttled, title, fix).detail(error).after(Duration::from_secs(5))
}

fn busy(caller: &Caller) -> Failure {
    let most = caller.cap.concurrency;
    let title = format!("all {most} slots of {} are taken", whose(caller));
    let fix = format!(
        "nothing to do: AAM tries again; to go faster raise {} in the policy (now {most})",
        policy_key(caller, "concurrency")
    );
    Failure::new(Class::Throttled, title, fix).after(Duration::from_secs(1))
}

fn too_fast(caller: &Caller, wait: Duration) -> Failure {
    let rate = caller.cap.per_second;
    let title = format!("the rate of {} is used up: {rate} calls a second", whose(caller));
    let fix = format!(
        "nothing to do: AAM tries again; to go faster raise {} in the policy (now {rate})",
        policy_key(caller, "per_second")
    );
    Failure::new(Class::Throttled, title, fix).after(wait)
}

fn later(caller: &Caller, wait: Duration, until: Timestamp, words: &str) -> Failure {
    let title = format!("{} asked AAM to come back later", whose(caller));
    let fix = format!(
        "nothing to do: AAM calls again after {until}; if this repeats, lower {} in the policy",
        policy_key(caller, "per_second")
    );
    Failure::new(Class::Throttled, title, fix).detail(words).after(wait)
}
