//! The memory budget: one limit for the bytes that all attempts hold at the same time.
//!
//! An attempt reserves bytes before it receives or decodes something, and gives them back when it drops the
//! [`Reservation`]. If the bytes are not free, the attempt waits; the wait is not counted in its timeouts, see
//! [`AttemptMemory::timeout`]. An attempt that needs more than its own bound is refused at once with [`MemoryBound`].
//!
//! # Why attempts cannot block each other for ever
//!
//! An attempt may hold bytes while it waits for more, so a single pool could be used up by attempts that all wait. The
//! budget therefore has three parts:
//!
//! - a quarter for attempts that hold little, so that large inputs do not delay the others;
//! - a quarter for attempts that hold more than that;
//! - one half that only one attempt at a time may use, the *last resort*. It is as large as the bound of one attempt, so
//!   the attempt that has it never waits for memory again, ends, and gives it back to the first one that waits.
//!
//! Reserve before taking anything that other attempts wait for: a slot of an account, a thread for blocking work.

mod attempt;

pub use attempt::{AttemptMemory, MemoryMeter, Reservation};

use crate::model::{Class, Failure};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The budget if the policy does not set one, in bytes.
pub const DEFAULT_BYTES: u64 = 256 << 20;
/// An attempt that holds at most this many bytes counts as small.
const SMALL_ATTEMPT_BYTES: u64 = 1 << 20;

/// The bytes that all attempts of the process may hold.
pub struct MemoryBudget {
    state: Mutex<State>,
}

/// The part of the budget that bytes were taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The pool for attempts that hold little.
    Small,
    /// The pool for attempts that hold more.
    Large,
    /// The part that one attempt at a time may use.
    LastResort,
}

struct State {
    total: u64,
    /// The bytes taken from the pool for small attempts.
    small: u64,
    /// The bytes taken from the pool for large attempts.
    large: u64,
    /// The attempt that has the last resort, and the bytes that it has taken from it.
    last_resort: Option<(u64, u64)>,
    /// Those that wait, in the order of their requests.
    waiting: VecDeque<Waiter>,
    next_attempt: u64,
}

struct Waiter {
    request: Request,
    granted: oneshot::Sender<Grant>,
}

/// What one attempt asks for.
#[derive(Clone, Copy, Debug)]
struct Request {
    attempt: u64,
    bytes: u64,
    small: bool,
}

/// Bytes of the budget. They are given back when this is dropped.
struct Grant {
    budget: Arc<MemoryBudget>,
    bytes: u64,
    part: Part,
}

/// An attempt needs more bytes than one attempt may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("needs {} of memory, but one attempt may use {}", size_text(*.needed), size_text(*.limit))]
pub struct MemoryBound {
    /// All bytes that the attempt would hold.
    pub needed: u64,
    /// The bytes that one attempt may hold.
    pub limit: u64,
}

impl MemoryBound {
    /// The failure to report; `what` names the input, for example `the description of api.example.com`.
    #[must_use]
    pub fn failure(&self, what: &str) -> Failure {
        let total = self.needed.saturating_mul(2).div_ceil(1 << 20);
        Failure::new(
            Class::Misconfigured,
            format!("{what} {self}"),
            format!(
                "one attempt may use half of reconcile.memory: set it to at least {total}MiB in the policy if this machine has \
                 that much to spare, or offer a smaller input"
            ),
        )
    }
}

/// Formats a number of bytes for people: `512 B`, `64 KiB`, `1.5 GiB`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    let text = format!("{size:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

impl Default for MemoryBudget {
    fn default() -> MemoryBudget {
        MemoryBudget::new(DEFAULT_BYTES)
    }
}

impl MemoryBudget {
    /// Creates a budget of `total` bytes.
    #[must_use]
    pub fn new(total: u64) -> MemoryBudget {
        let state = State { total, small: 0, large: 0, last_resort: None, waiting: VecDeque::new(), next_attempt: 0 };
        MemoryBudget { state: Mutex::new(state) }
    }

    /// Starts the account of one attempt. `total` is the budget of the policy in force, in bytes; it holds for all
    /// attempts from now on.
    #[must_use]
    pub fn attempt(self: &Arc<MemoryBudget>, total: u64) -> Arc<AttemptMemory> {
        let attempt = {
            let mut state = self.lock();
            state.total = total;
            state.next_attempt += 1;
            state.next_attempt
        };
        // A larger budget may allow what waits.
        self.grant_waiting();
        Arc::new(AttemptMemory::new(Arc::clone(self), attempt, total / 2))
    }

    /// The bytes that all attempts hold now.
    #[must_use]
    pub fn held(&self) -> u64 {
        let state = self.lock();
        state.small + state.large + state.last_resort.map_or(0, |(_, bytes)| bytes)
    }

    /// The number of requests that wait for memory now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bytes if they are free and no earlier request waits for the same part.
    fn try_take(self: &Arc<MemoryBudget>, request: Request) -> Option<Grant> {
        let mut state = self.lock();
        state.waiting.retain(|waiter| !waiter.granted.is_closed());
        let blocked = state.waiting.iter().any(|waiter| waiter.request.small == request.small);
        let part = state.part_for(request, blocked, state.waiting.is_empty())?;
        state.take(request, part);
        Some(self.grant(request, part))
    }

    /// Takes the bytes, or returns a receiver of the grant.
    fn take_or_wait(self: &Arc<MemoryBudget>, request: Request) -> Result<Grant, oneshot::Receiver<Grant>> {
        if let Some(grant) = self.try_take(request) {
            return Ok(grant);
        }
        let (granted, receiver) = oneshot::channel();
        self.lock().waiting.push_back(Waiter { request, granted });
        // Bytes may have been given back since they were found missing.
        self.grant_waiting();
        Err(receiver)
    }

    fn grant(self: &Arc<MemoryBudget>, request: Request, part: Part) -> Grant {
        Grant { budget: Arc::clone(self), bytes: request.bytes, part }
    }

    /// Grants what waits and now fits, in the order of the requests.
    fn grant_waiting(self: &Arc<MemoryBudget>) {
        loop {
            let granted: Vec<(Waiter, Part)> = self.lock().ready();
            if granted.is_empty() {
                return;
            }
            for (Waiter { request, granted }, part) in granted {
                // If the receiver is gone, the grant comes back and is dropped here, and its bytes are free for the next
                // turn of this loop.
                drop(granted.send(self.grant(request, part)));
            }
        }
    }
}

impl State {
    /// The part that can serve `request` now. `blocked` tells that an earlier request waits for the same pool, and
    /// `first` that no other request waits.
    fn part_for(&self, request: Request, blocked: bool, first: bool) -> Option<Part> {
        if self.last_resort.is_some_and(|(attempt, _)| attempt == request.attempt) {
            return Some(Part::LastResort);
        }
        let pool = self.total / 4;
        let (part, taken) = if request.small { (Part::Small, self.small) } else { (Part::Large, self.large) };
        if !blocked && taken.saturating_add(request.bytes) <= pool {
            return Some(part);
        }
        (first && self.last_resort.is_none()).then_some(Part::LastResort)
    }

    fn take(&mut self, request: Request, part: Part) {
        match part {
            Part::Small => self.small += request.bytes,
            Part::Large => self.large += request.bytes,
            Part::LastResort => {
                let (_, taken) = self.last_resort.unwrap_or((request.attempt, 0));
                self.last_resort = Some((request.attempt, taken + request.bytes));
            }
        }
    }

    fn give_back(&mut self, part: Part, bytes: u64) {
        match part {
            Part::Small => self.small = self.small.saturating_sub(bytes),
            Part::Large => self.large = self.large.saturating_sub(bytes),
            Part::LastResort => {
                let left = self.last_resort.map(|(attempt, taken)| (attempt, taken.saturating_sub(bytes)));
                self.last_resort = left.filter(|(_, taken)| *taken > 0);
            }
        }
    }

    /// Removes the requests that can be served now, and takes their bytes.
    fn ready(&mut self) -> Vec<(Waiter, Part)> {
        let mut ready = Vec::new();
        let mut left = VecDeque::new();
        let (mut small_waits, mut large_waits) = (false, false);
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.granted.is_closed() {
                continue;
            }
            let request = waiter.request;
            let blocked = if request.small { small_waits } else { large_waits };
            match self.part_for(request, blocked, left.is_empty()) {
                Some(part) => {
                    self.take(request, part);
                    ready.push((waiter, part));
                }
                None => {
                    small_waits |= request.small;
                    large_waits |= !request.small;
                    left.push_back(waiter);
                }
            }
        }
        self.waiting = left;
        ready
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.lock().give_back(self.part, self.bytes);
        self.budget.grant_waiting();
    }
}

#[cfg(test)]
mod tests;
