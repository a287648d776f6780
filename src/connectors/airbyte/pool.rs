//! One limit for the memory of all connectors that run at the same time.
//!
//! A connector in Python takes 100 MB and more. Each run takes the bytes that its policy allows it before it starts, and
//! gives them back when it has ended. Runs wait in the order in which they asked. A run that holds its bytes never waits
//! for those of another one, so the runs cannot block each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The bytes that connectors may take together.
#[derive(Default)]
pub struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: u64,
    used: u64,
    /// Those that wait, in the order of their requests.
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    bytes: u64,
    granted: oneshot::Sender<Permit>,
}

/// The bytes of one run. They are given back when this is dropped.
pub struct Permit {
    pool: Arc<Pool>,
    bytes: u64,
}

impl Pool {
    /// Waits for `bytes` of `total`, which is the limit of the policy in force and holds for all runs from now on. Returns
    /// `None` if `bytes` is more than `total`.
    pub async fn take(self: &Arc<Pool>, bytes: u64, total: u64) -> Option<Permit> {
        if bytes > total {
            return None;
        }
        // Dropped after the receiver: if this run gives up, those behind it may be next.
        let _next = Next(Arc::clone(self));
        let receiver = {
            let mut state = self.lock();
            state.total = total;
            let (granted, receiver) = oneshot::channel();
            state.waiting.push_back(Waiter { bytes, granted });
            receiver
        };
        self.grant();
        // The sender is dropped only with the pool, which `self` holds.
        receiver.await.ok()
    }

    /// The bytes that the running connectors hold.
    #[cfg(test)]
    fn used(&self) -> u64 {
        self.lock().used
    }

    /// Gives bytes to those that wait, in their order. The first one that does not fit stops the others, so that small runs
    /// cannot overtake a large one for ever.
    fn grant(self: &Arc<Pool>) {
        loop {
            let (waiter, permit) = {
                let mut state = self.lock();
                state.waiting.retain(|waiter| !waiter.granted.is_closed());
                let is_free = |waiter: &Waiter| state.used == 0 || state.used.saturating_add(waiter.bytes) <= state.total;
                if !state.waiting.front().is_some_and(is_free) {
                    return;
                }
                let Some(waiter) = state.waiting.pop_front() else { return };
                state.used = state.used.saturating_add(waiter.bytes);
                let permit = Permit { pool: Arc::clone(self), bytes: waiter.bytes };
                (waiter, permit)
            };
            // If the receiver is gone, the permit is dropped outside the lock, which gives its bytes back.
            drop(waiter.granted.send(permit));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives bytes to those that wait when this is dropped.
struct Next(Arc<Pool>);

impl Drop for Next {
    fn drop(&mut self) {
        self.0.grant();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.pool.lock();
            state.used = state.used.saturating_sub(self.bytes);
        }
        self.pool.grant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn runs_wait_in_their_order_and_a_run_that_gave_up_takes_nothing() {
        let pool = Arc::new(Pool::default());
        let first = pool.take(6, 10).await.expect("free");
        let mut large = Box::pin(pool.take(8, 10));
        let mut small = Box::pin(pool.take(2, 10));
        assert!(large.as_mut().now_or_never().is_none(), "8 of 10 are not free");
        assert!(small.as_mut().now_or_never().is_none(), "the small run does not overtake the large one");
        drop(large);
        let small = small.await.expect("the large run gave up");
        assert_eq!(pool.used(), 8);
        drop((first, small));
        assert_eq!(pool.used(), 0);
        assert!(pool.take(11, 10).await.is_none(), "it can never run");
    }

    #[tokio::test]
    async fn fifty_runs_never_take_more_than_the_limit_and_all_end() {
        let pool = Arc::new(Pool::default());
        let runs = (0..50).map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let permit = pool.take(300, 1000).await;
                assert!(pool.used() <= 1000 && permit.is_some());
                tokio::task::yield_now().await;
            })
        });
        for run in futures_util::future::join_all(runs).await {
            run.expect("the run ends");
        }
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test]
    async fn a_lower_limit_of_a_new_policy_still_lets_one_run_at_a_time() {
        let pool = Arc::new(Pool::default());
        let first = pool.take(600, 1000).await.expect("free");
        let mut second = Box::pin(pool.take(400, 500));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.await.is_some());
    }
}
