//! When the calls of a command were made, for the call rates of the manifest.

use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The times of the calls of a command, by the index of the rate policy that counts them.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<usize, VecDeque<Timestamp>>>);

impl Rates {
    /// Counts a call of `weight` against the policy at `index`, which allows each of `rates`: so many calls within such
    /// a time. Returns how long to wait before the call, or `None` if it may be made at once.
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
            // The call that must have left the window before this one fits in.
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
