//! Call budgets for each family and vendor account: concurrent calls, calls per second and calls per day. Throttled
//! accounts are tracked here too.

use super::bucket::Bucket;
use super::{BudgetReservation, Caller, DayBudget, locked};
use crate::model::{Class, ConnectionId, Failure, Timestamp};
use crate::policy::Cap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
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
}

impl Parked {
    fn failure(&self, caller: &Caller, now: Timestamp) -> Failure {
        let Parked { until, reason, by_source } = self;
        let failure = if *by_source { throttled(caller, *until) } else { share_used(caller, *until) };
        failure.detail(reason.as_str()).after(until.since(now))
    }
}

/// Slots for concurrent calls. Their number may change while calls are in flight.
struct Slots {
    semaphore: Arc<Semaphore>,
    size: usize,
    /// The number of slots still to be removed after the cap was lowered. A slot in use is removed when it becomes
    /// free.
    surplus: usize,
}

/// When the attempts of an account may begin. Without this, attempts of many connections would use up the rate limit halfway,
/// fail, and repeat the calls that they have already made.
struct Turns {
    bucket: Bucket,
    shape: (f64, u32),
    /// The attempts that wait, and when each may begin. Their number is bounded by that of the connections.
    granted: HashMap<ConnectionId, Duration>,
}

impl Turns {
    fn new(cap: &Cap, now: Duration) -> Turns {
        let shape = (cap.per_second, cap.burst);
        Turns { bucket: Bucket::new(shape.0, shape.1, now), shape, granted: HashMap::new() }
    }

    /// Returns how long the attempt of `connection` has to wait. Once it may begin, its turn is used up.
    fn wait(&mut self, connection: ConnectionId, cap: &Cap, calls: u32, now: Duration) -> Duration {
        if self.shape != (cap.per_second, cap.burst) {
            // The turns were granted at another pace.
            *self = Turns::new(cap, now);
        }
        let wait = match self.granted.get(&connection) {
            Some(at) => at.saturating_sub(now),
            None => self.bucket.reserve_attempt(now, calls),
        };
        match wait.is_zero() {
            true => self.granted.remove(&connection),
            false => self.granted.insert(connection, now.saturating_add(wait)),
        };
        wait
    }

    /// Lets the next attempt of `connection` begin without waiting behind the others, because the source throttled the
    /// attempt that has its turn now: what is left of this turn would be lost, and the connection would be the last one.
    fn keep(&mut self, connection: ConnectionId, now: Duration) {
        self.granted.insert(connection, now);
    }
}

/// The budgets that all connections of one vendor account share.
pub struct Account {
    /// The start of the monotonic time that the rate limit uses.
    started: Instant,
    slots: Mutex<Slots>,
    bucket: Mutex<(Bucket, f64, u32)>,
    /// The attempts that wait until the calls of those before them are made.
    turns: Mutex<Turns>,
    block: Mutex<Block>,
    /// Locked while the next block is being taken.
    taking: tokio::sync::Mutex<()>,
    parked: Mutex<Option<Parked>>,
}

/// Accounts by family, then by account name.
type AccountsByFamily = HashMap<Arc<str>, HashMap<String, Arc<Account>>>;

/// All accounts of the process.
pub struct Accounts {
    /// The number of accounts is bounded by the number of connections, because accounts come from intents.
    all: Mutex<AccountsByFamily>,
    started: Instant,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts { all: Mutex::default(), started: Instant::now() }
    }
}

/// Returns the key of an account's budget, which the registry uses too.
#[must_use]
pub fn key(caller: &Caller) -> String {
    format!("{}|{}", caller.family, caller.account)
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
        let size = slots(cap);
        let account = Arc::new(Account {
            started: self.started,
            slots: Mutex::new(Slots { semaphore: Arc::new(Semaphore::new(size)), size, surplus: 0 }),
            bucket: Mutex::new((Bucket::new(cap.per_second, cap.burst, self.started.elapsed()), cap.per_second, cap.burst)),
            turns: Mutex::new(Turns::new(cap, self.started.elapsed())),
            block: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            parked: Mutex::default(),
        });
        all.entry(Arc::clone(&caller.family)).or_default().insert(caller.account.clone(), Arc::clone(&account));
        account
    }
}

impl Account {
    /// Returns how long an attempt of `caller` that makes `calls` calls has to wait for the attempts before it.
    pub fn turn(&self, caller: &Caller, calls: u32) -> Duration {
        locked(&self.turns).wait(caller.connection, &caller.cap, calls, self.started.elapsed())
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
        let stop = Parked { until, reason: reason.to_string(), by_source };
        let failure = stop.failure(caller, now);
        let mut parked = locked(&self.parked);
        if parked.as_ref().is_none_or(|parked| parked.until < until) {
            *parked = Some(stop);
        }
        failure
    }

    /// Waits for a slot and then for the rate limit. The wait is at most half the step timeout.
    ///
    /// # Errors
    /// Returns `Throttled` if the wait would be longer.
    pub async fn enter(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Failure> {
        let patience = caller.policy.safe_mode(&caller.family).step_timeout / 2;
        let asked = self.started.elapsed();
        let semaphore = self.shape(&caller.cap, asked);
        let slot = match tokio::time::timeout(patience, semaphore.acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            // The semaphore is never closed, so the only possible error is the timeout.
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

    /// Applies `cap` to the slots and the rate limit, so that a changed policy takes effect with the next call.
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
    if is_webhook(caller) {
        return format!("the webhook at {}", caller.account);
    }
    format!("{} account {}", caller.family, caller.account)
}

/// Returns the key of the policy that sets a limit, or `None` if the limit is fixed.
fn policy_key(caller: &Caller, figure: &str) -> Option<String> {
    match &*caller.family {
        // These are not families: the hosts that credentials come from have budgets of their own.
        "vault" => Some(format!("credentials.caps.vault.{figure}")),
        "token" => Some(format!("credentials.caps.tokens.{figure}")),
        _ if is_webhook(caller) => None,
        family => Some(format!("caps.families.{family}.{figure}")),
    }
}

fn is_webhook(caller: &Caller) -> bool {
    *caller.family == *super::webhook::FAMILY
}

fn spent(caller: &Caller, now: Timestamp) -> Failure {
    let (limit, next) = (caller.cap.per_day, now.next_day());
    let title = format!("the daily budget of {} is used up: {limit} calls a day", whose(caller));
    let raise = policy_key(caller, "per_day").map(|key| format!(", or raise {key} in the policy (now {limit})"));
    let fix = format!("wait until {next}{}", raise.unwrap_or_default());
    Failure::new(Class::Throttled, title, fix).after(next.since(now))
}

fn unwritten(caller: &Caller, error: &str) -> Failure {
    let title = format!("no call was made for {}: the registry could not record it", whose(caller));
    let fix = "check that the disk of the registry has space and is writable; AAM retries automatically";
    Failure::new(Class::Throttled, title, fix).detail(error).after(Duration::from_secs(5))
}

fn busy(caller: &Caller) -> Failure {
    let max_calls = caller.cap.concurrency;
    let title = format!("AAM's own limit of concurrent calls for {} is reached: {max_calls}", whose(caller));
    let raise = policy_key(caller, "concurrency");
    let raise = raise.map(|key| format!("; to go faster, raise {key} in the policy (now {max_calls})")).unwrap_or_default();
    let fix = format!("no action is required: AAM retries automatically{raise}");
    Failure::new(Class::Throttled, title, fix).after(Duration::from_secs(1))
}

fn too_fast(caller: &Caller, wait: Duration) -> Failure {
    let rate = caller.cap.per_second;
    let title = format!("AAM's own rate limit for {} is reached: {rate} calls a second", whose(caller));
    let raise = policy_key(caller, "per_second");
    let raise = raise.map(|key| format!("; to go faster, raise {key} in the policy (now {rate})")).unwrap_or_default();
    let fix = format!("no action is required: AAM retries automatically{raise}");
    Failure::new(Class::Throttled, title, fix).after(wait)
}

fn share_used(caller: &Caller, until: Timestamp) -> Failure {
    let title = format!("AAM's own share of the calls of {} is used up", whose(caller));
    let fix =
        format!("no action is required: AAM calls again after {until} and leaves the rest to the other clients of the account");
    Failure::new(Class::Throttled, title, fix)
}

fn throttled(caller: &Caller, until: Timestamp) -> Failure {
    let by = if is_webhook(caller) { "the receiver" } else { "the source" };
    let title = format!("rate limited by {by}: {}", whose(caller));
    let lower = policy_key(caller, "per_second");
    let lower = lower.map(|key| format!("; if this happens again, lower {key} in the policy")).unwrap_or_default();
    let fix = format!("no action is required: AAM calls again after {until}{lower}");
    Failure::new(Class::Throttled, title, fix)
}
