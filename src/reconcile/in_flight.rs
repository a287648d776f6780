//! The attempts that are running and the heals that wait for one. Nothing else keeps a list of either.
//!
//! The loop registers the start of each attempt here. The API reads from here which connections are being checked and
//! waits here for attempts to end.

use crate::model::ConnectionId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The attempts of this process: at most one for each connection.
#[derive(Default)]
pub struct InFlight {
    state: Mutex<State>,
    /// The number of attempts that have ended. Waiters watch it, because an attempt that finds nothing new does not change
    /// the registry.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// The running attempts, and when each began.
    running: BTreeMap<ConnectionId, Instant>,
    /// Connections for which a heal was requested and whose attempt has not begun.
    heals: BTreeSet<ConnectionId>,
}

/// One running attempt. The attempt counts as ended when the guard is dropped, whatever ends it.
pub struct InFlightGuard {
    in_flight: Arc<InFlight>,
    connection: ConnectionId,
}

impl InFlight {
    /// Begins an attempt for `connection`. Returns `None` if one is running already.
    #[must_use]
    pub fn begin(self: &Arc<Self>, connection: ConnectionId) -> Option<InFlightGuard> {
        let mut state = self.lock();
        if state.running.contains_key(&connection) {
            return None;
        }
        state.running.insert(connection, Instant::now());
        // This attempt fulfils the heals that were requested until now. A heal that is requested later needs another
        // attempt, because this one may have read its source before.
        state.heals.remove(&connection);
        Some(InFlightGuard { in_flight: Arc::clone(self), connection })
    }

    /// Whether an attempt is running for `connection`.
    #[must_use]
    pub fn contains(&self, connection: ConnectionId) -> bool {
        self.lock().running.contains_key(&connection)
    }

    /// Whether no attempt is running for `connection` and no heal is waiting for one.
    #[must_use]
    pub fn is_idle(&self, connection: ConnectionId) -> bool {
        let state = self.lock();
        !state.running.contains_key(&connection) && !state.heals.contains(&connection)
    }

    /// The number of running attempts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().running.len()
    }

    /// The connections whose attempts have been running longest, the longest first, with how long.
    #[must_use]
    pub fn slowest(&self, count: usize) -> Vec<(ConnectionId, Duration)> {
        let mut running: Vec<(ConnectionId, Instant)> = self.lock().running.iter().map(|(id, began)| (*id, *began)).collect();
        running.sort_unstable_by_key(|(id, began)| (*began, *id));
        running.into_iter().take(count).map(|(id, began)| (id, began.elapsed())).collect()
    }

    /// Whether no attempt is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests an attempt for each of `connections`, regardless of their backoff.
    pub fn request_heals(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        self.lock().heals.extend(connections);
    }

    /// The requested heals whose attempts have not begun.
    #[must_use]
    pub fn heals(&self) -> BTreeSet<ConnectionId> {
        self.lock().heals.clone()
    }

    /// Drops the heals of connections that can never begin an attempt.
    pub fn retain_heals(&self, can_begin: impl Fn(ConnectionId) -> bool) {
        self.lock().heals.retain(|connection| can_begin(*connection));
    }

    /// Notifies whenever an attempt has ended.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Notifies those who wait for attempts to end that what they wait for may be decided without one.
    pub fn notify(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.lock().running.remove(&self.connection);
        self.in_flight.ended.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::history::id;

    #[test]
    fn a_connection_has_one_attempt_and_a_heal_requested_meanwhile_waits() {
        let in_flight = Arc::new(InFlight::default());
        let ends = in_flight.ends();
        in_flight.request_heals([id(1)]);
        assert!(!in_flight.is_idle(id(1)) && !in_flight.contains(id(1)));
        let attempt = in_flight.begin(id(1)).expect("the first attempt");
        assert!(in_flight.contains(id(1)) && in_flight.heals().is_empty(), "this attempt is the one that was requested");
        in_flight.request_heals([id(1)]);
        assert!(in_flight.begin(id(1)).is_none(), "one at a time");
        assert_eq!((in_flight.len(), in_flight.heals().len()), (1, 1), "the second heal is not lost");
        let later = in_flight.begin(id(2));
        let slowest: Vec<_> = in_flight.slowest(2).into_iter().map(|(id, _)| id).collect();
        assert_eq!((slowest, in_flight.slowest(1).len()), (vec![id(1), id(2)], 1), "the longest first");
        drop(later);
        drop(attempt);
        assert!(in_flight.is_empty() && ends.has_changed().unwrap() && !in_flight.is_idle(id(1)));
        drop(in_flight.begin(id(1)).expect("the second attempt"));
        assert!(in_flight.is_idle(id(1)));
    }

    #[test]
    fn an_attempt_that_panics_ends() {
        let in_flight = Arc::new(InFlight::default());
        let attempt = in_flight.begin(id(1));
        let panicked = std::thread::spawn(move || {
            let _attempt = attempt;
            panic!("a defect");
        });
        assert!(panicked.join().is_err());
        assert!(in_flight.is_idle(id(1)));
    }

    #[test]
    fn heals_that_cannot_begin_are_dropped() {
        let in_flight = InFlight::default();
        in_flight.request_heals([id(1), id(2)]);
        in_flight.retain_heals(|connection| connection == id(2));
        assert_eq!(in_flight.heals(), BTreeSet::from([id(2)]));
    }
}
