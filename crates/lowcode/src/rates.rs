//! The times at which a command made its requests, for the call rates of the manifest.

use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The times of the requests of a command, by the index of the rate policy that counts them.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<usize, VecDeque<Timestamp>>>);

impl Rates {
    /// Counts a request of `weight` against the policy at `index`. Each of `rates` allows a number of requests within
    /// a period. Returns how long to wait before the request, or `None` if it may be sent at once.
    pub(crate) fn take(
        &self,
        index: usize,
        rates: &[(usize, SignedDuration)],
        weight: usize,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = all.entry(index).or_default();
        let mut start = now;
        for (limit, interval) in rates {
            // The request that must leave the window before this one fits into it.
            if let Some(leaving) = calls.len().checked_sub(limit.saturating_sub(weight) + 1).and_then(|at| calls.get(at)) {
                start = start.max(leaving.checked_add(*interval).unwrap_or(now));
            }
        }
        if !rates.is_empty() {
            calls.extend(std::iter::repeat_n(start, weight));
        }
        let wait = start.duration_since(now).unsigned_abs();
        (!wait.is_zero()).then_some(wait)
    }
}
