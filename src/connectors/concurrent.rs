//! Calls of one attempt that do not depend on each other, made concurrently.

use crate::model::Failure;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How many calls run at the same time, and how long a failure waits for the other calls.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The number of calls in flight; zero counts as one. It should not exceed the concurrency of the account's cap:
    /// further calls would only wait for a slot of the account, and a long wait for a slot counts as throttled.
    pub calls: usize,
    /// Once a call has failed, the calls still in flight are cancelled this long after [`all`] started.
    pub time: Duration,
}

impl Limits {
    /// Returns the limits for `calls` simultaneous calls in a step that may take `step_timeout`. A failure is returned
    /// before the step times out, so that the step reports this failure and not its timeout.
    #[must_use]
    pub fn in_step(calls: usize, step_timeout: Duration) -> Limits {
        Limits { calls, time: step_timeout.mul_f64(0.9) }
    }
}

/// Runs `calls` within `limits` and returns their results in the order of `calls`.
///
/// # Errors
/// Returns the first failure in the order of `calls`. No call is started after a failure. Calls that are already
/// running may finish within `limits.time`, because a call cancelled half-way counts against the health of its host.
pub async fn all<T, F>(limits: Limits, calls: Vec<F>) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let deadline = Instant::now() + limits.time;
    let mut calls = calls.into_iter();
    let (mut running, mut results) = (FuturesOrdered::new(), Vec::new());
    loop {
        while running.len() < limits.calls.max(1) {
            match calls.next() {
                Some(call) => running.push_back(call),
                None => break,
            }
        }
        match running.next().await {
            Some(Ok(result)) => results.push(result),
            Some(Err(failure)) => {
                // All calls before this one passed, so the calls that are still running cannot change the outcome.
                let rest = running.for_each(|_| std::future::ready(()));
                let _ = tokio::time::timeout_at(deadline, rest).await;
                return Err(failure);
            }
            None => return Ok(results),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;
    use std::cell::{Cell, RefCell};

    fn failure(title: &str) -> Failure {
        Failure::new(Class::Remote, title, "try again")
    }

    /// Runs test calls. Call `n` takes `turns[n]` turns of the executor to complete.
    async fn run(calls: usize, turns: &[usize], failing: &[usize]) -> (Result<Vec<usize>, Failure>, usize, Vec<usize>) {
        let limits = Limits { calls, time: Duration::from_secs(60) };
        let (now, most, started) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
        let calls = turns.iter().enumerate().map(|(number, turns)| {
            let (now, most, started) = (&now, &most, &started);
            async move {
                started.borrow_mut().push(number);
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                for _ in 0..*turns {
                    tokio::task::yield_now().await;
                }
                now.set(now.get() - 1);
                if failing.contains(&number) { Err(failure(&number.to_string())) } else { Ok(number) }
            }
        });
        let results = all(limits, calls.collect()).await;
        assert_eq!(now.get(), 0, "no call is cancelled");
        let started = started.borrow().clone();
        (results, most.get(), started)
    }

    #[tokio::test]
    async fn results_keep_their_order_and_the_limit_holds() {
        assert_eq!(run(2, &[5, 1, 3, 1, 2], &[]).await, (Ok(vec![0, 1, 2, 3, 4]), 2, vec![0, 1, 2, 3, 4]));
        assert_eq!(run(9, &[3, 2, 1], &[]).await, (Ok(vec![0, 1, 2]), 3, vec![0, 1, 2]));
        assert_eq!(run(1, &[3, 2, 1], &[]).await.1, 1);
        assert_eq!(run(0, &[1, 1], &[]).await.1, 1, "a limit of zero is one");
        assert_eq!(run(4, &[], &[]).await, (Ok(Vec::new()), 0, Vec::new()));
    }

    #[tokio::test]
    async fn the_first_failure_in_order_is_reported_and_nothing_new_is_started() {
        let (results, _, started) = run(2, &[3, 1, 1, 1], &[0, 1]).await;
        assert_eq!(results, Err(failure("0")), "although call 1 failed earlier");
        assert_eq!(started, [0, 1]);
        let (results, _, started) = run(1, &[1, 1, 1], &[1]).await;
        assert_eq!((results, started), (Err(failure("1")), vec![0, 1]));
    }

    #[tokio::test]
    async fn a_failure_does_not_wait_for_a_call_that_hangs() {
        let calls = (0..2)
            .map(|number| async move { if number == 0 { Err::<(), _>(failure("0")) } else { std::future::pending().await } });
        let limits = Limits { calls: 2, time: Duration::from_millis(5) };
        assert_eq!(all(limits, calls.collect()).await, Err(failure("0")));
    }
}
