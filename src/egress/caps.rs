//! Call budgets for each family and vendor account: concurrent calls, calls per second and calls per day. Throttled
//! accounts are tracked here too.

use super::holders::Holding;
use super::marks::{self, MarkKind, Marks};
use super::pace::{Rate, Slots, Turns};
use super::refusals::{busy, not_divided, share_used, spent, throttled, too_fast, unwritten};
use super::shares;
use super::{BudgetReservation, Caller, DayBudget, Egress, locked};
use crate::model::{Digest, Failure, Timestamp};
use crate::policy::Cap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls of one day that are recorded as used but have not been made yet. Recording calls in blocks needs few writes.
/// Because a block is recorded before its calls are made, a crash can waste calls but never exceeds the limit.
#[derive(Debug, Default)]
struct Block {
    day: i64,
    /// The limit that was in force when the block was taken. The block is dropped if the limit is lowered.
    limit: u64,
    left: u64,
}

impl Block {
    /// Drops the block if it was taken for another day or under a higher limit.
    fn turn(&mut self, day: i64, limit: u64) {
        if self.day != day || limit < self.limit {
            *self = Block { day, limit, left: 0 };
        }
    }

    /// Adds recorded calls of `day`. Calls of a day that has already ended are discarded.
    fn add(&mut self, day: i64, limit: u64, granted: u64) {
        if self.day <= day {
            self.turn(day, limit);
            self.limit = limit;
            self.left = self.left.saturating_add(granted);
        }
    }
}

/// An account to which no calls are made until the given time.
#[derive(Clone, Debug)]
struct Parked {
    until: Timestamp,
    reason: String,
    /// False if the source did not ask for this: AAM has used its own share of the source's limit.
    by_source: bool,
    /// Until when the stored mark says that the account is not called.
    stored: Timestamp,
}

impl Parked {
    fn failure(&self, caller: &Caller, now: Timestamp) -> Failure {
        let Parked { until, reason, by_source, stored: _ } = self;
        let failure = if *by_source { throttled(caller, *until) } else { share_used(caller, *until) };
        failure.detail(reason.as_str()).after(until.since(now))
    }
}

/// The budgets that all connections of one vendor account share.
pub struct Account {
    /// The start of the monotonic time that the rate limit uses.
    started: Instant,
    slots: Mutex<Slots>,
    bucket: Mutex<Rate>,
    /// The attempts that wait until the calls of those before them are made.
    turns: Mutex<Turns>,
    block: Mutex<Block>,
    /// Locked while the next block is being taken.
    taking: tokio::sync::Mutex<()>,
    parked: Mutex<Option<Parked>>,
    /// The key of the account, see [`key`].
    key: String,
    marks: Arc<Marks>,
    /// The share of this process, if replicas divide the limits.
    pub(super) holding: OnceLock<Box<Holding>>,
}

/// Accounts by family, then by account name.
type AccountsByFamily = HashMap<Arc<str>, HashMap<String, Arc<Account>>>;

/// All accounts of the process.
pub struct Accounts {
    /// The number of accounts is bounded by the number of connections, because accounts come from intents.
    all: Mutex<AccountsByFamily>,
    started: Instant,
    marks: Arc<Marks>,
    /// The stored marks of accounts that were not used yet.
    marked: Mutex<HashMap<String, Parked>>,
}

/// The number of bytes of an account's name that are in its key.
const MAX_ACCOUNT_BYTES: usize = 1024;

/// Returns the key of an account's budget, which the registry uses too. PostgreSQL stores no text with U+0000, and indexes none of
/// more than 2,704 bytes, so the name of the account is changed or cut if it has to be.
#[must_use]
pub fn key(caller: &Caller) -> String {
    let account = caller.account.replace('\0', "\u{fffd}");
    let cut = account.floor_char_boundary(MAX_ACCOUNT_BYTES);
    match account.get(..cut).filter(|start| start.len() < account.len()) {
        Some(start) => format!("{}|{start}…{}", caller.family, Digest::from_bytes(account.as_bytes())),
        None => format!("{}|{account}", caller.family),
    }
}

/// Returns how many calls are recorded at once. A small limit uses blocks of a fiftieth of the limit, and a typical
/// limit uses blocks of 10, so that a crash wastes few calls. A large limit uses blocks of a thousandth, up to 100, so
/// that few calls wait for a disk sync.
#[must_use]
pub fn block_size(limit: u64) -> u64 {
    (limit / 50).clamp(1, 10).max((limit / 1000).min(100))
}

/// The smallest block size for which the next block is taken before the current one is used up. Smaller blocks belong
/// to smaller limits, where a second block would be too large a share of the limit.
const AHEAD: u64 = 50;

impl Accounts {
    /// Creates the accounts of a process. `marks` stores which of them are not called for now.
    #[must_use]
    pub fn new(marks: Arc<Marks>) -> Accounts {
        Accounts { all: Mutex::default(), started: Instant::now(), marks, marked: Mutex::default() }
    }

    /// Applies that the account `key` is not called until `until`.
    pub fn apply_mark(&self, key: &str, until: Timestamp, reason: &str, by_source: bool) {
        let mark = Parked { until, reason: reason.to_string(), by_source, stored: until };
        let (family, name) = key.split_once('|').unwrap_or((key, ""));
        let all = locked(&self.all);
        match all.get(family).and_then(|family| family.get(name)) {
            Some(account) => account.apply_mark(mark),
            None => drop(locked(&self.marked).insert(key.to_string(), mark)),
        }
    }

    /// How long the process has been running. All times of shares and buckets are those of this clock.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// See [`super::Egress::lacking`]. Returns `None` while another caller is taking a block.
    pub fn lacking(&self, caller: &Caller, now: Timestamp) -> Option<BudgetReservation> {
        let (account, day, limit) = (self.account(caller), now.day(), caller.cap.per_day);
        let _taking = account.taking.try_lock().ok()?;
        let block = locked(&account.block);
        let lacks = block.left == 0 || block.day != day || limit < block.limit;
        lacks.then(|| BudgetReservation { account: key(caller), day, wanted: block_size(limit), limit })
    }

    /// See [`super::Egress::funded`].
    pub fn funded(&self, caller: &Caller, reservation: &BudgetReservation, granted: u64) {
        locked(&self.account(caller).block).add(reservation.day, reservation.limit, granted);
    }

    /// Returns the account of `caller`, and creates it on first use.
    pub fn account(&self, caller: &Caller) -> Arc<Account> {
        let mut all = locked(&self.all);
        if let Some(account) = all.get(&caller.family).and_then(|family| family.get(caller.account.as_str())) {
            return Arc::clone(account);
        }
        let cap = &caller.cap;
        let account = Arc::new(Account {
            started: self.started,
            slots: Mutex::new(Slots::new(cap)),
            bucket: Mutex::new(Rate::new(cap, self.started.elapsed())),
            turns: Mutex::new(Turns::new(cap, self.started.elapsed())),
            block: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            parked: Mutex::new(locked(&self.marked).remove(&key(caller))),
            key: key(caller),
            marks: Arc::clone(&self.marks),
            holding: OnceLock::new(),
        });
        all.entry(Arc::clone(&caller.family)).or_default().insert(caller.account.clone(), Arc::clone(&account));
        account
    }
}

impl Account {
    /// Returns how long an attempt of `caller` that makes `calls` calls has to wait for the attempts before it.
    pub fn turn(&self, caller: &Caller, calls: u32) -> Duration {
        let (now, parts) = (self.started.elapsed(), self.parts());
        locked(&self.turns).wait(caller.connection, &shares::part(&caller.cap, parts), calls, now)
    }

    /// Checks that calls to the account are not stopped now.
    ///
    /// # Errors
    /// Returns `Throttled` while the source throttles the account, or while AAM's own share of its limit is used up.
    pub fn free(&self, caller: &Caller, now: Timestamp) -> Result<(), Failure> {
        let mut parked = locked(&self.parked);
        match parked.as_ref() {
            // No wait is longer than a day, so a longer remaining time means that the clock was set back.
            Some(parked) if parked.until > now && parked.until.since(now) <= super::retry::MAX_WAIT => {
                Err(parked.failure(caller, now))
            }
            Some(_) => {
                *parked = None;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Stops all calls to the account for `wait`, because the source asked for it. Returns the failure to report.
    pub fn park(&self, caller: &Caller, wait: Duration, now: Timestamp, reason: &str) -> Failure {
        locked(&self.turns).keep(caller.connection, self.started.elapsed());
        self.stop(caller, wait, now, (reason, true))
    }

    /// Stops all calls to the account for `wait`, because AAM has used its own share of the source's limit. Returns the
    /// failure to report.
    pub fn park_for_share(&self, caller: &Caller, wait: Duration, now: Timestamp, reason: &str) -> Failure {
        self.stop(caller, wait, now, (reason, false))
    }

    fn stop(&self, caller: &Caller, wait: Duration, now: Timestamp, (reason, by_source): (&str, bool)) -> Failure {
        let until = now.plus(wait.clamp(super::retry::MIN_WAIT, super::retry::MAX_WAIT));
        let mut stop = Parked { until, reason: reason.to_string(), by_source, stored: until };
        let failure = stop.failure(caller, now);
        let mut parked = locked(&self.parked);
        let Some(before) =
            parked.as_ref().map_or(Some(Timestamp(i64::MIN)), |parked| (parked.until < until).then_some(parked.stored))
        else {
            return failure;
        };
        stop.stored = before;
        if let Some(stored) = marks::stored_until(before, until) {
            stop.stored = stored;
            let kind = if by_source { MarkKind::AskedToWait } else { MarkKind::ShareUsed };
            self.marks.changed(kind, &self.key, stored, now, reason);
        }
        *parked = Some(stop);
        failure
    }

    /// Applies a mark that another process stored.
    fn apply_mark(&self, mark: Parked) {
        let mut parked = locked(&self.parked);
        if parked.as_ref().is_none_or(|parked| parked.until < mark.until) {
            *parked = Some(mark);
        }
    }

    /// Waits for this process's share of the limits, for a slot and then for the rate limit. The waits are at most half the step
    /// timeout.
    ///
    /// # Errors
    /// Returns `Throttled` if the wait would be longer, or if the process may not call.
    pub async fn enter(self: &Arc<Account>, caller: &Caller, egress: &Egress) -> Result<OwnedSemaphorePermit, Failure> {
        let patience = caller.policy.safe_mode(&caller.family).step_timeout / 2;
        let deadline = self.started.elapsed() + patience;
        loop {
            let left = deadline.saturating_sub(self.started.elapsed());
            match tokio::time::timeout(left, self.join(caller, egress)).await {
                Ok(joined) => joined?,
                Err(_) => return Err(not_divided(caller)),
            }
            let slot = self.slot(caller, deadline).await?;
            let now = self.started.elapsed();
            let reserved = {
                let mut bucket = locked(&self.bucket);
                bucket.bucket.reserve(now, deadline.saturating_sub(now)).map(|wait| (wait, bucket.shapes))
            };
            let (wait, shapes) = reserved.map_err(|wait| too_fast(caller, wait))?;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            egress.gate.admit(caller)?;
            // A call that waited while the limits changed waits anew, so that the new ones hold from then on.
            if self.may_call() && (wait.is_zero() || locked(&self.bucket).shapes == shapes) {
                return Ok(slot);
            }
        }
    }

    /// Waits for a slot until `deadline`.
    async fn slot(&self, caller: &Caller, deadline: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        loop {
            let now = self.started.elapsed();
            let semaphore = self.shape(&caller.cap, now);
            let slot = match tokio::time::timeout(deadline.saturating_sub(now), semaphore.acquire_owned()).await {
                Ok(Ok(slot)) => slot,
                // The semaphore is never closed, so the only possible error is the timeout.
                Ok(Err(_)) | Err(_) => return Err(busy(caller)),
            };
            if let Some(slot) = locked(&self.slots).keep(slot) {
                return Ok(slot);
            }
        }
    }

    /// Takes one call from the budget of the day. The call is recorded as used before this returns.
    ///
    /// # Errors
    /// Returns `Throttled` if the budget is used up or the registry cannot write.
    pub async fn charge(&self, caller: &Caller, budget: &dyn DayBudget, now: Timestamp) -> Result<(), Failure> {
        let (day, limit) = (now.day(), caller.cap.per_day);
        let size = block_size(limit);
        let next = || async { budget.take(&key(caller), day, size, limit).await };
        if let Some(left) = self.draw(day, limit) {
            // One call takes the next block while the current one still has calls left, so that the others do not wait
            // for the disk.
            if size >= AHEAD
                && left == size / 2
                && let Ok(_taking) = self.taking.try_lock()
            {
                // Ignore an error here: if it persists, it occurs again and is reported when the block is used up.
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

    /// Takes one call from the block and returns how many are left, or `None` if the block is empty.
    fn draw(&self, day: i64, limit: u64) -> Option<u64> {
        let mut block = locked(&self.block);
        block.turn(day, limit);
        block.left = block.left.checked_sub(1)?;
        Some(block.left)
    }

    /// Applies this process's part of `cap` to the slots and the rate limit, so that a changed policy takes effect with the next
    /// call.
    fn shape(&self, cap: &Cap, now: Duration) -> Arc<Semaphore> {
        let mut bucket = locked(&self.bucket);
        bucket.whole = cap.clone();
        bucket.reshape(&shares::part(cap, self.parts()), now);
        drop(bucket);
        let mut slots = locked(&self.slots);
        slots.resize(&shares::part(cap, self.parts()));
        Arc::clone(&slots.semaphore)
    }

    /// Returns the limits of the whole account, as the last call had them.
    pub(super) fn whole(&self) -> Cap {
        locked(&self.bucket).whole.clone()
    }

    /// Applies another share of the limits. With `restart`, the share begins now, that long after the last call of any process.
    pub(super) fn apply_parts(&self, restart: Option<Option<Duration>>) {
        let (cap, now) = (self.whole(), self.started.elapsed());
        self.shape(&cap, now);
        if let Some(idle) = restart {
            let mut bucket = locked(&self.bucket);
            bucket.restart(shares::bucket(&shares::part(&cap, self.parts()), idle, now));
        }
    }

    /// Returns the number of calls that are in flight.
    pub(super) fn in_flight(&self) -> u32 {
        locked(&self.slots).in_flight()
    }

    /// How long the process has been running.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}
