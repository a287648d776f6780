//! Threads for the reads of files on this machine.
//!
//! Thousands of short reads a second are asked for at once. As many threads as the machine has cores
//! take them from one queue, one after the other: a thread that finds the next read waiting needs not
//! be woken for it, and waking costs more than many of these reads. A read that hangs (a mount that is
//! gone) keeps its thread; when nothing moves for `PATIENCE`, those that wait get another thread.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// When no read was begun for so long while some wait, there is one more thread.
const PATIENCE: Duration = Duration::from_millis(20);
/// Threads at most, most of them hanging.
const MOST: usize = 512;
/// A thread without work ends after so long.
const KEPT: Duration = Duration::from_secs(10);

static POOL: LazyLock<Arc<Pool>> =
    LazyLock::new(|| Pool::new(std::thread::available_parallelism().map_or(2, usize::from).max(2)));

/// Runs `work` on one of the threads.
///
/// # Errors
/// The words of a panic in `work`.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    POOL.run(work).await
}

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    state: Mutex<State>,
    bell: Condvar,
    /// Threads that work at the same time, unless they hang.
    lanes: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    working: usize,
    /// Threads that wait and were not called yet.
    idle: usize,
    /// When the last job was taken.
    begun: Option<Instant>,
    /// Calls that no waiting thread has answered yet.
    calls: usize,
}

impl Pool {
    fn new(lanes: usize) -> Arc<Pool> {
        Arc::new(Pool { state: Mutex::default(), bell: Condvar::new(), lanes })
    }

    async fn run<T: Send + 'static>(self: &Arc<Pool>, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let (reply, mut answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        self.push(Box::new(move || {
            begins.store(true, Ordering::Relaxed);
            // Nobody waits any more: the step was out of time.
            if !reply.is_closed() {
                let done = std::panic::catch_unwind(AssertUnwindSafe(work));
                let _ = reply.send(done.map_err(|panic| words(&*panic)));
            }
        }));
        while !begun.load(Ordering::Relaxed) {
            match tokio::time::timeout(PATIENCE, &mut answer).await {
                Ok(done) => return done.unwrap_or_else(|_| Err(NO_THREAD.to_string())),
                Err(_) => self.kick(),
            }
        }
        answer.await.unwrap_or_else(|_| Err(NO_THREAD.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Pool>, job: Job) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.working < self.lanes {
            self.one_more(state);
        }
    }

    /// Something waits for long. If nothing was begun meanwhile, all that work now hang.
    fn kick(self: &Arc<Pool>) {
        let state = self.lock();
        if !state.jobs.is_empty() && state.begun.is_none_or(|begun| begun.elapsed() >= PATIENCE) {
            self.one_more(state);
        }
    }

    fn one_more(self: &Arc<Pool>, mut state: MutexGuard<'_, State>) {
        if state.idle > 0 {
            state.idle -= 1;
            state.calls += 1;
            state.working += 1;
            drop(state);
            self.bell.notify_one();
        } else if state.threads < MOST {
            state.threads += 1;
            state.working += 1;
            drop(state);
            let pool = Arc::clone(self);
            if std::thread::Builder::new().name("local-reads".to_string()).spawn(move || pool.work()).is_err() {
                let mut state = self.lock();
                state.threads -= 1;
                state.working -= 1;
                if state.threads == 0 {
                    // Who waits for these is told so.
                    state.jobs.clear();
                }
            }
        }
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            match state.jobs.pop_front() {
                Some(job) => {
                    state.begun = Some(Instant::now());
                    drop(state);
                    job();
                    state = self.lock();
                }
                None => match self.called(state) {
                    Some(called) => state = called,
                    None => return,
                },
            }
        }
    }

    /// Waits to be called; `None`: nobody called for long.
    fn called<'a>(&self, mut state: MutexGuard<'a, State>) -> Option<MutexGuard<'a, State>> {
        state.working -= 1;
        state.idle += 1;
        let (mut state, waited) =
            self.bell.wait_timeout_while(state, KEPT, |state| state.calls == 0).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && state.calls == 0 {
            state.idle -= 1;
            state.threads -= 1;
            return None;
        }
        state.calls -= 1;
        Some(state)
    }
}

const NO_THREAD: &str = "the system gave no thread";

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn answers_and_panics_come_back() {
        let pool = Pool::new(2);
        let many = (0..500).map(|number| pool.run(move || number * 2));
        let answers = futures_util::future::join_all(many).await;
        assert_eq!(answers, (0..500).map(|number| Ok(number * 2)).collect::<Vec<_>>());
        assert!(pool.lock().threads <= 2, "two lanes");
        let words = pool.run(|| std::panic::panic_any("asked for".to_string())).await;
        assert_eq!(words, Err::<(), _>("asked for".to_string()));
        assert_eq!(pool.run(|| 7).await, Ok(7), "the thread lives on");
    }

    #[tokio::test]
    async fn a_read_that_hangs_holds_nobody_up() {
        let pool = Pool::new(1);
        let (let_go, hangs) = mpsc::channel::<()>();
        let stuck = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(move || hangs.recv().is_err()).await }
        });
        tokio::task::yield_now().await;
        for number in 0..20 {
            assert_eq!(pool.run(move || number).await, Ok(number));
        }
        drop(let_go);
        assert_eq!(stuck.await.unwrap(), Ok(true));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun() {
        let pool = Pool::new(1);
        let (let_go, hangs) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(move || hangs.recv().is_err()).await }
        });
        tokio::task::yield_now().await;
        let begun = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&begun);
        let late = pool.run(move || seen.store(true, Ordering::Relaxed));
        assert!(tokio::time::timeout(Duration::ZERO, late).await.is_err());
        drop(let_go);
        assert_eq!(first.await.unwrap(), Ok(true));
        assert_eq!(pool.run(|| 1).await, Ok(1));
        assert!(!begun.load(Ordering::Relaxed));
    }
}
