//! The bytes that one attempt holds.

use super::{Grant, MemoryBound, MemoryBudget, Request, SMALL_ATTEMPT_BYTES};
use crate::model::Failure;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The first bytes of each attempt are not counted. They belong to the fixed cost of an attempt, which
/// `reconcile.concurrency` limits, and most attempts need no more than this.
const UNCOUNTED_BYTES: u64 = 16 << 10;

/// The account of one attempt with the [`MemoryBudget`]. All resources of the attempt share it.
pub struct AttemptMemory {
    account: Arc<Account>,
    /// What the attempt holds until its end.
    kept: Mutex<Vec<Reservation>>,
}

struct Account {
    budget: Arc<MemoryBudget>,
    attempt: u64,
    /// The bytes that the attempt may hold at most.
    limit: u64,
    state: Mutex<AccountState>,
}

#[derive(Default)]
struct AccountState {
    /// The bytes that are held or waited for.
    claimed: u64,
    /// The number of requests that wait for memory now.
    waiting: usize,
    /// Since when at least one request has waited without a break.
    since: Option<Instant>,
    /// The time waited before `since`.
    waited: Duration,
}

impl AttemptMemory {
    pub(super) fn new(budget: Arc<MemoryBudget>, attempt: u64, limit: u64) -> AttemptMemory {
        let account = Account { budget, attempt, limit, state: Mutex::default() };
        AttemptMemory { account: Arc::new(account), kept: Mutex::default() }
    }

    /// Creates the account of an attempt with a default budget of its own, for commands that run only one attempt.
    #[must_use]
    pub fn alone() -> Arc<AttemptMemory> {
        Arc::new(MemoryBudget::default()).attempt(super::DEFAULT_BYTES)
    }

    /// The bytes that this attempt may hold at most.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.account.limit
    }

    /// Reserves `bytes`, and waits until they are free.
    ///
    /// # Errors
    /// If the attempt would hold more than its limit.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, MemoryBound> {
        let mut reservation = Reservation::empty(&self.account);
        reservation.grow(bytes).await?;
        Ok(reservation)
    }

    /// Reserves `bytes` if they are free now. Returns `None` if the attempt would have to wait.
    ///
    /// # Errors
    /// If the attempt would hold more than its limit.
    pub fn try_reserve(&self, bytes: u64) -> Result<Option<Reservation>, MemoryBound> {
        let mut reservation = Reservation::empty(&self.account);
        Ok(reservation.try_grow(bytes)?.then_some(reservation))
    }

    /// Holds `reservation` until the attempt ends, for what lives as long as the attempt.
    pub fn keep(&self, reservation: Reservation) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(reservation);
    }

    /// Runs `work` with a meter of `first` bytes. If the work was refused more, it runs again from its start with a meter
    /// of the bytes that it asked for; in between, the attempt waits for them. What needs more than one attempt may hold
    /// is not repeated: if the work failed for it, that is the failure, and if the work went on without it, its result
    /// counts. `what` names the input for the failure.
    ///
    /// Use it for decoders on blocking threads, which cannot wait themselves.
    ///
    /// # Errors
    /// The failure of `work`, or `Misconfigured` if the work needs more than one attempt may hold.
    pub async fn metered<T, F>(&self, what: &str, first: u64, work: impl FnMut(MemoryMeter) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.metered_held(what, first, work).await.map(|(value, _)| value)
    }

    /// As [`AttemptMemory::metered`], and returns the reservation too, for a result that is kept.
    ///
    /// # Errors
    /// As [`AttemptMemory::metered`].
    pub async fn metered_held<T, F>(
        &self,
        what: &str,
        first: u64,
        mut work: impl FnMut(MemoryMeter) -> F,
    ) -> Result<(T, Reservation), Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut bytes = first;
        loop {
            let reservation = self.reserve(bytes).await.map_err(|bound| bound.failure(what))?;
            let meter = MemoryMeter::new(bytes, self.account.limit);
            let result = work(meter.clone()).await;
            let Some(bound) = meter.refused() else { return result.map(|value| (value, reservation)) };
            // What the attempt holds besides this counts too.
            if bound.needed > self.left().saturating_add(bytes) {
                return result.map(|value| (value, reservation)).map_err(|_| bound.failure(what));
            }
            // Doubles at least, so that work that asks in small steps is repeated only a few times.
            bytes = bound.needed.max(bytes.saturating_mul(2)).min(self.left().saturating_add(bytes));
        }
    }

    /// The bytes that the attempt may still reserve.
    fn left(&self) -> u64 {
        self.account.limit.saturating_sub(self.account.lock().claimed)
    }

    /// Runs `work` for at most `limit`, not counting the time in which the attempt waits for memory. Returns `None` if
    /// the work did not end in time.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (started, before) = (Instant::now(), self.waited());
        let mut work = std::pin::pin!(work);
        loop {
            let waited = self.waited().saturating_sub(before);
            let left = (limit + waited).saturating_sub(started.elapsed());
            if left.is_zero() && !self.is_waiting() {
                return None;
            }
            // While the attempt waits for memory, the deadline moves with the clock.
            let pause = left.max(MIN_PAUSE);
            if let Ok(done) = tokio::time::timeout(pause, work.as_mut()).await {
                return Some(done);
            }
        }
    }

    /// Waits for memory of another budget, such as that of the processes of connectors. The wait is not counted in the timeouts
    /// of the attempt.
    pub async fn wait_for<T>(&self, memory: impl Future<Output = T>) -> T {
        let _wait = Wait::start(&self.account);
        memory.await
    }

    /// How long the attempt has waited for memory so far, up to now.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let state = self.account.lock();
        state.waited + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn is_waiting(&self) -> bool {
        self.account.lock().waiting > 0
    }
}

/// The shortest time after which a timeout is looked at again.
const MIN_PAUSE: Duration = Duration::from_millis(20);

impl Account {
    fn lock(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `bytes` to what the attempt claims, and returns what to ask the budget for.
    fn claim(&self, bytes: u64) -> Result<Request, MemoryBound> {
        let mut state = self.lock();
        let needed = state.claimed.saturating_add(bytes);
        if needed > self.limit {
            return Err(MemoryBound { needed, limit: self.limit });
        }
        // What exceeds the uncounted bytes is counted, once.
        let counted = needed.saturating_sub(UNCOUNTED_BYTES) - state.claimed.saturating_sub(UNCOUNTED_BYTES);
        state.claimed = needed;
        Ok(Request { attempt: self.attempt, bytes: counted, small: needed <= SMALL_ATTEMPT_BYTES })
    }

    fn unclaim(&self, bytes: u64) {
        let mut state = self.lock();
        state.claimed = state.claimed.saturating_sub(bytes);
    }
}

/// Counts a request that waits. Dropping it ends the wait.
struct Wait<'a>(&'a Account);

impl<'a> Wait<'a> {
    fn start(account: &'a Account) -> Wait<'a> {
        let mut state = account.lock();
        state.waiting += 1;
        state.since.get_or_insert_with(Instant::now);
        Wait(account)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0
            && let Some(since) = state.since.take()
        {
            state.waited += since.elapsed();
        }
    }
}

/// Takes back a claim unless it was granted.
struct Claim<'a> {
    account: &'a Account,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.account.unclaim(self.bytes);
    }
}

/// Bytes that an attempt holds. They are given back when this is dropped.
pub struct Reservation {
    account: Arc<Account>,
    bytes: u64,
    grants: Vec<Grant>,
}

impl Reservation {
    fn empty(account: &Arc<Account>) -> Reservation {
        Reservation { account: Arc::clone(account), bytes: 0, grants: Vec::new() }
    }

    /// The number of reserved bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds `bytes`, and waits until they are free.
    ///
    /// # Errors
    /// If the attempt would hold more than its limit; the reservation stays as it is.
    pub async fn grow(&mut self, bytes: u64) -> Result<(), MemoryBound> {
        let account = Arc::clone(&self.account);
        let request = account.claim(bytes)?;
        let mut claim = Claim { account: &account, bytes };
        if request.bytes > 0 {
            let grant = match account.budget.take_or_wait(request) {
                Ok(grant) => Some(grant),
                Err(receiver) => {
                    let _wait = Wait::start(&account);
                    // The sender is dropped only with the budget, which `account` holds.
                    receiver.await.ok()
                }
            };
            self.grants.extend(grant);
        }
        self.bytes += std::mem::take(&mut claim.bytes);
        Ok(())
    }

    /// Adds `bytes` if they are free now, and returns whether they were.
    ///
    /// # Errors
    /// If the attempt would hold more than its limit; the reservation stays as it is.
    pub fn try_grow(&mut self, bytes: u64) -> Result<bool, MemoryBound> {
        let request = self.account.claim(bytes)?;
        if request.bytes > 0 {
            match self.account.budget.try_take(request) {
                Some(grant) => self.grants.push(grant),
                None => {
                    self.account.unclaim(bytes);
                    return Ok(false);
                }
            }
        }
        self.bytes += bytes;
        Ok(true)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.unclaim(self.bytes);
    }
}

/// Counts the bytes that a decoder allocates against a limit that is already reserved. Clones count together.
///
/// A decoder asks before it allocates, and stops with an error of its own if the meter refuses. It need not tell this
/// error from others: the meter remembers what was refused.
#[derive(Clone)]
pub struct MemoryMeter {
    limit: u64,
    /// The bytes that one attempt may hold, for messages.
    attempt_limit: u64,
    used: Arc<AtomicU64>,
    /// The smallest number of bytes that was refused; `u64::MAX` if nothing was.
    refused: Arc<AtomicU64>,
}

impl MemoryMeter {
    /// Creates a meter that allows `limit` bytes of the `attempt_limit` that the attempt may hold.
    #[must_use]
    pub fn new(limit: u64, attempt_limit: u64) -> MemoryMeter {
        MemoryMeter { limit, attempt_limit, used: Arc::default(), refused: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Creates a meter for tests and for input that this process wrote itself.
    #[must_use]
    pub fn unlimited() -> MemoryMeter {
        MemoryMeter::new(u64::MAX, u64::MAX)
    }

    /// A meter with the same limit that counts from zero, for the next of several inputs that are not held together.
    #[must_use]
    pub fn next_input(&self) -> MemoryMeter {
        MemoryMeter { used: Arc::default(), ..self.clone() }
    }

    /// The bytes that this meter allows.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `bytes` before they are allocated.
    ///
    /// # Errors
    /// If more than the limit would be in use. Nothing is taken then.
    pub fn take(&self, bytes: u64) -> Result<(), MemoryBound> {
        let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map(|_| ()).map_err(|used| {
            let needed = used.saturating_add(bytes);
            self.refused.fetch_min(needed, Ordering::AcqRel);
            MemoryBound { needed, limit: self.attempt_limit }
        })
    }

    /// Gives back `bytes` that were freed.
    pub fn give_back(&self, bytes: u64) {
        let _ = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| Some(used.saturating_sub(bytes)));
    }

    /// The smallest request that was refused, or `None` if none was.
    #[must_use]
    pub fn refused(&self) -> Option<MemoryBound> {
        let needed = self.refused.load(Ordering::Acquire);
        (needed < u64::MAX).then_some(MemoryBound { needed, limit: self.attempt_limit })
    }
}
