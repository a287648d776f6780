//! A clock that stands still until the simulation sets it.

use aam::clock::Clock;
use aam::model::Timestamp;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A clock whose time is set.
pub struct SimulatedClock {
    start: Timestamp,
    state: Arc<State>,
}

struct State {
    /// Milliseconds since 1970 UTC.
    now: watch::Sender<i64>,
    /// When each sleep ends, by its number.
    sleeps: Mutex<BTreeMap<u64, i64>>,
    next: AtomicU64,
    /// Notified when a sleep begins.
    slept: Notify,
}

/// One sleep. It ends when this is dropped.
struct Sleep {
    state: Arc<State>,
    number: u64,
}

impl SimulatedClock {
    pub fn new(start: Timestamp) -> Arc<SimulatedClock> {
        let state = State {
            now: watch::Sender::new(start.0),
            sleeps: Mutex::default(),
            next: AtomicU64::default(),
            slept: Notify::new(),
        };
        Arc::new(SimulatedClock { start, state: Arc::new(state) })
    }

    /// Sets the time. Sleeps that end by then go on.
    pub fn set(&self, now: Timestamp) {
        self.state.now.send_replace(now.0);
    }

    /// When the first sleep ends. `None` if nothing sleeps.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.state.sleeps().values().min().copied().map(Timestamp)
    }

    /// Waits until a sleep begins.
    pub async fn slept(&self) {
        self.state.slept.notified().await;
    }
}

impl State {
    fn sleeps(&self) -> MutexGuard<'_, BTreeMap<u64, i64>> {
        self.sleeps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.state.sleeps().remove(&self.number);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp(*self.state.now.borrow())
    }

    fn monotonic(&self) -> Duration {
        self.now().since(self.start)
    }

    fn wait(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let state = Arc::clone(&self.state);
        let until = self.now().plus(duration.max(Duration::from_millis(1))).0;
        let number = state.next.fetch_add(1, Ordering::Relaxed);
        state.sleeps().insert(number, until);
        state.slept.notify_one();
        let (sleep, mut now) = (Sleep { state: Arc::clone(&state), number }, state.now.subscribe());
        Box::pin(async move {
            // The sender lives as long as the sleep.
            let _ = now.wait_for(|now| *now >= until).await;
            drop(sleep);
        })
    }
}
