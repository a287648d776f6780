//! A cache of what was fetched, by the time for which it is valid, with one flight for each key.
//!
//! Time is measured with two clocks, and a value ends as soon as one of them says so. The monotonic clock cannot be set but
//! stands still while a machine is suspended; the clock of the machine goes on then but can be set.

use super::{CredentialRequest, Reading};
use crate::clock::Clock;
use crate::model::{Class, ConnectionId, Failure, Timestamp};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The number of keys from which on keys without a valid value are dropped.
const MIN_SWEEP: usize = 1024;

/// The longest time before its end at which a value is fetched again: an attempt that begins before must be able to end.
const MAX_MARGIN: Duration = Duration::from_secs(90);

/// What a fetch returned.
pub struct Fetched<V> {
    pub value: V,
    /// How long it may be used from the beginning of the fetch on. `None` if it has no end.
    pub valid_for: Option<Duration>,
}

/// Who may use a value that was fetched for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Everybody, until shortly before its end: a token or a lease.
    UntilEnd,
    /// Each connection once: a secret that can be changed at its place at any time. So a connection never uses a value that
    /// is older than its own previous attempt, and connections that are checked in the same minutes share one fetch.
    OncePerConnection,
}

/// A value from the cache.
pub struct Cached<V> {
    pub value: Arc<V>,
    /// True if it was not fetched for this request.
    pub hit: bool,
    /// From here on it is not used any more; `None` if it has no end.
    pub end: Option<Moment>,
    /// Why the value could not be fetched again, although that was due. It is still valid.
    pub stale: Option<Failure>,
}

impl<V> Cached<V> {
    /// Returns the end by the clock of the machine.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.end.map(|end| end.wall)
    }

    /// Returns the value if it has not ended. A fetch may take longer than its value is valid, for example because the machine
    /// was suspended meanwhile.
    ///
    /// # Errors
    /// Returns `Remote` if the value has ended.
    pub fn unless_ended(self, clock: &dyn Clock) -> Result<Cached<V>, Failure> {
        match self.end {
            Some(end) if end.has_come(Moment::now(clock)) => Err(ended_before_use(end)),
            _ => Ok(self),
        }
    }
}

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    monotonic: Duration,
    pub wall: Timestamp,
}

impl Moment {
    /// Returns the present.
    pub fn now(clock: &dyn Clock) -> Moment {
        Moment { monotonic: clock.monotonic(), wall: clock.now() }
    }

    /// Returns the moment that is `wait` later.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Moment {
        Moment { monotonic: self.monotonic.saturating_add(wait), wall: self.wall.plus(wait) }
    }

    /// Whether the moment has come, by either clock.
    pub fn has_come(self, now: Moment) -> bool {
        now.monotonic >= self.monotonic || now.wall >= self.wall
    }

    /// Returns the time from `now` until this moment, by the clock by which it comes first.
    pub fn remaining(self, now: Moment) -> Duration {
        self.monotonic.saturating_sub(now.monotonic).min(self.wall.since(now.wall))
    }
}

struct Entry<V> {
    value: Arc<V>,
    /// From here on it is fetched again.
    due: Option<Moment>,
    /// From here on it is not used any more.
    end: Option<Moment>,
    users: HashSet<ConnectionId>,
}

struct Slot<V> {
    /// Locked during a fetch, so that there is never more than one.
    flight: tokio::sync::Mutex<()>,
    state: Mutex<SlotState<V>>,
}

struct SlotState<V> {
    entry: Option<Entry<V>>,
    /// The number of fetches that have ended, and the failure of the latest one.
    flights: u64,
    failure: Option<Failure>,
}

/// Values by key.
pub struct Cache<V> {
    clock: Arc<dyn Clock>,
    slots: Mutex<HashMap<String, Arc<Slot<V>>>>,
}

impl<V: Send + Sync> Cache<V> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(clock: &Arc<dyn Clock>) -> Cache<V> {
        Cache { clock: Arc::clone(clock), slots: Mutex::default() }
    }

    /// Returns the value of `key`, which `fetch` fetches if there is none that `request` may use. While one request
    /// fetches, the others for the same key wait and share its value or its failure.
    ///
    /// If a fetch fails for a reason that says nothing about the secret, such as a vault that is down, a value that is still
    /// valid is returned, with the failure in [`Cached::stale`].
    ///
    /// # Errors
    /// Returns the failure of `fetch`.
    pub async fn get<F>(
        &self,
        key: &str,
        request: &CredentialRequest,
        reuse: Reuse,
        fetch: impl FnOnce() -> F,
    ) -> Result<Cached<V>, Failure>
    where
        F: Future<Output = Result<Fetched<V>, Failure>>,
    {
        let slot = self.slot(key);
        let before = lock(&slot.state).flights;
        if let Some(found) = self.usable(&slot, request, reuse, request.reading) {
            return Ok(found);
        }
        let _flight = slot.flight.lock().await;
        let (flights, failure) = {
            let state = lock(&slot.state);
            (state.flights, state.failure.clone())
        };
        if flights > before {
            // Another request fetched while this one waited, so its result is new enough for everybody.
            if let Some(found) = self.usable(&slot, request, reuse, Reading::Cached) {
                return Ok(found);
            }
            if let Some(failure) = failure {
                return self.still_valid(&slot, request, failure);
            }
        }
        let started = Moment::now(self.clock.as_ref());
        let fetched = fetch().await;
        let mut state = lock(&slot.state);
        state.flights += 1;
        match fetched {
            Ok(fetched) => {
                state.failure = None;
                let value = Arc::new(fetched.value);
                let end = fetched.valid_for.map(|valid| started.plus(valid));
                let due = fetched.valid_for.map(|valid| started.plus(valid.saturating_sub(margin(valid, request))));
                let users = HashSet::from([request.connection]);
                state.entry = Some(Entry { value: Arc::clone(&value), due, end, users });
                let cached = Cached { value, hit: false, end, stale: None };
                match reuse {
                    Reuse::UntilEnd => cached.unless_ended(self.clock.as_ref()),
                    // It is used once, however short the time is for which others may use it.
                    Reuse::OncePerConnection => Ok(cached),
                }
            }
            Err(failure) => {
                state.failure = Some(failure.clone());
                drop(state);
                self.still_valid(&slot, request, failure)
            }
        }
    }

    /// Forgets the value of `key`.
    pub fn forget(&self, key: &str) {
        lock(&self.slots).remove(key);
    }

    /// Forgets the value of `key` if `is_meant` says that it is the one to forget.
    pub fn forget_if(&self, key: &str, is_meant: impl Fn(&V) -> bool) {
        let slot = lock(&self.slots).get(key).cloned();
        if let Some(slot) = slot {
            let mut state = lock(&slot.state);
            state.entry = state.entry.take().filter(|entry| !is_meant(&entry.value));
        }
    }

    /// Returns the value of `key` if it has not ended.
    pub fn current(&self, key: &str) -> Option<Arc<V>> {
        let slot = lock(&self.slots).get(key).cloned()?;
        let now = Moment::now(self.clock.as_ref());
        let state = lock(&slot.state);
        let entry = state.entry.as_ref().filter(|entry| entry.end.is_none_or(|end| !end.has_come(now)))?;
        Some(Arc::clone(&entry.value))
    }

    /// Sets the end of the value of `key`, because it was renewed. Does nothing if `is_meant` says that another value took its
    /// place. `valid_for` counts from `started`, the beginning of the renewal.
    pub fn extend(
        &self,
        key: &str,
        is_meant: impl Fn(&V) -> bool,
        (started, valid_for): (Moment, Option<Duration>),
        request: &CredentialRequest,
    ) {
        let slot = lock(&self.slots).get(key).cloned();
        let Some(slot) = slot else { return };
        let mut state = lock(&slot.state);
        if let Some(entry) = state.entry.as_mut().filter(|entry| is_meant(&entry.value)) {
            entry.end = valid_for.map(|valid| started.plus(valid));
            entry.due = valid_for.map(|valid| started.plus(valid.saturating_sub(margin(valid, request))));
        }
    }

    /// Returns all values that have not ended, with the time at which they end.
    pub fn values(&self) -> Vec<(String, Arc<V>, Option<Timestamp>)> {
        let now = Moment::now(self.clock.as_ref());
        let slots = lock(&self.slots);
        let values = slots.iter().filter_map(|(key, slot)| {
            let state = lock(&slot.state);
            let entry = state.entry.as_ref().filter(|entry| entry.end.is_none_or(|end| !end.has_come(now)))?;
            Some((key.clone(), Arc::clone(&entry.value), entry.end.map(|end| end.wall)))
        });
        values.collect()
    }

    /// Returns when the first of the valid values ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Timestamp> {
        self.values().into_iter().filter_map(|(_, _, end)| end).min()
    }

    /// Returns the value if `request` may use it without a fetch, and notes that it does.
    fn usable(&self, slot: &Slot<V>, request: &CredentialRequest, reuse: Reuse, reading: Reading) -> Option<Cached<V>> {
        let now = Moment::now(self.clock.as_ref());
        let mut state = lock(&slot.state);
        let entry = state.entry.as_mut()?;
        if entry.due.is_some_and(|due| due.has_come(now)) {
            return None;
        }
        // A value that the source rejected is one that the connection has used. Another one was fetched since.
        let first = !entry.users.contains(&request.connection);
        if !(first || reuse == Reuse::UntilEnd && reading == Reading::Cached) {
            return None;
        }
        entry.users.insert(request.connection);
        Some(Cached { value: Arc::clone(&entry.value), hit: true, end: entry.end, stale: None })
    }

    /// Returns the value although it could not be fetched again, if it has not ended and the source did not reject it.
    fn still_valid(&self, slot: &Slot<V>, request: &CredentialRequest, failure: Failure) -> Result<Cached<V>, Failure> {
        let now = Moment::now(self.clock.as_ref());
        let mut state = lock(&slot.state);
        if !says_nothing_about_the_secret(failure.class) {
            // The secret was removed or may not be read any more.
            state.entry = None;
            return Err(failure);
        }
        match &state.entry {
            Some(entry) if request.reading == Reading::Cached && entry.end.is_none_or(|end| !end.has_come(now)) => {
                Ok(Cached { value: Arc::clone(&entry.value), hit: true, end: entry.end, stale: Some(failure) })
            }
            Some(entry) => match entry.end.filter(|end| end.has_come(now)) {
                Some(end) => Err(not_valid_any_more(failure, end.wall)),
                None => Err(failure),
            },
            None => Err(failure),
        }
    }

    fn slot(&self, key: &str) -> Arc<Slot<V>> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        if slots.len() >= MIN_SWEEP {
            let now = Moment::now(self.clock.as_ref());
            slots.retain(|_, slot| {
                let state = lock(&slot.state);
                let valid = state.entry.as_ref().is_some_and(|entry| entry.end.is_none_or(|end| !end.has_come(now)));
                valid || Arc::strong_count(slot) > 1
            });
        }
        let slot = Arc::new(Slot {
            flight: tokio::sync::Mutex::default(),
            state: Mutex::new(SlotState { entry: None, flights: 0, failure: None }),
        });
        slots.insert(key.to_string(), Arc::clone(&slot));
        slot
    }
}

/// Adds to the failure of a fetch that the value which was fetched before cannot take its place.
fn not_valid_any_more(failure: Failure, end: Timestamp) -> Failure {
    let title = format!("{}; the value that was read before is not valid any more since {end}", failure.title);
    Failure { title, ..failure }
}

/// The failure of a credential that ended before AAM could use it.
fn ended_before_use(end: Moment) -> Failure {
    Failure::new(
        Class::Remote,
        format!("the credential was issued and ended at {}, before AAM could use it", end.wall),
        "no action is required: AAM asks for another one; if it happens again, let the issuer make credentials that are valid for an hour, and check the clock of this machine",
    )
}

/// How long before its end a value that is valid for `valid` is fetched again: the time that an attempt may take and half a
/// minute for clocks that differ, but never more than half of the time.
fn margin(valid: Duration, request: &CredentialRequest) -> Duration {
    let attempt = request.policy.safe_mode(&request.family.id).attempt_timeout + Duration::from_secs(30);
    attempt.min(MAX_MARGIN).min(valid / 2)
}

/// Whether a failure of this class leaves open whether the secret is still the same.
fn says_nothing_about_the_secret(class: Class) -> bool {
    matches!(
        class,
        Class::Network | Class::Remote | Class::BreakerOpen | Class::Throttled | Class::Interrupted | Class::EgressRefused
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
