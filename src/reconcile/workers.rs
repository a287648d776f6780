//! The threads that attempts run on: one for each core, each with a runtime of its own.
//!
//! An attempt waits for its source many times. On a shared runtime each wait may end on another thread than it
//! began on, and the attempt, its HTTP connection and its timers wake each other across cores: a sixth of the
//! processor of a thousand low-code connections. Here an attempt stays where it began, and so do the
//! connections that it opens. The HTTP server and the loop keep the shared runtime to themselves: an attempt that computes
//! for long holds up neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// More threads than this gain nothing: the registry has one writer.
const MOST: usize = 8;
/// Threads of one worker for work that blocks.
const BLOCKING: usize = 16;

/// The workers. Dropped, they end, and what still runs on them with them.
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    load: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A place on a worker; free again when it is dropped.
pub struct Seat {
    pub runtime: Handle,
    load: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// One for each core. Where the system gives no thread, attempts run on the runtime of the caller.
    #[must_use]
    pub fn start() -> Workers {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let mut workers: Vec<Worker> = (0..cores).map_while(|number| Worker::start(number).ok()).collect();
        if workers.is_empty() {
            workers.push(Worker { runtime: Handle::current(), load: Arc::default(), stop: None, thread: None });
        }
        Workers(workers)
    }

    /// A place on the worker that has the fewest attempts.
    #[must_use]
    pub fn seat(&self) -> Seat {
        let least = self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let (runtime, load) = match least {
            Some(worker) => (worker.runtime.clone(), Arc::clone(&worker.load)),
            None => (Handle::current(), Arc::default()),
        };
        load.fetch_add(1, Ordering::Relaxed);
        Seat { runtime, load }
    }
}

impl Worker {
    fn start(number: usize) -> std::io::Result<Worker> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(stopped);
            // Work that blocks is not waited for: it may hang on a disk that does.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(format!("attempts-{number}")).spawn(run)?;
        Ok(Worker { runtime: handle, load: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            drop(worker.stop.take());
        }
        for thread in self.0.iter_mut().filter_map(|worker| worker.thread.take()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_are_spread_and_end_with_their_worker() {
        let workers = Workers::start();
        let seats: Vec<Seat> = (0..4).map(|_| workers.seat()).collect();
        let busiest = workers.0.iter().map(|worker| worker.load.load(Ordering::Relaxed)).max();
        assert_eq!(busiest, Some(4usize.div_ceil(workers.0.len())));
        let (held, dropped) = oneshot::channel::<()>();
        let endless = seats[0].runtime.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let named = seats[0].runtime.spawn(async { std::thread::current().name().map(str::to_string) }).await.unwrap();
        assert!(named.is_some_and(|name| name.starts_with("attempts-")));
        drop(seats);
        assert!(workers.0.iter().all(|worker| worker.load.load(Ordering::Relaxed) == 0));
        drop(workers);
        assert!(dropped.await.is_err());
        assert!(endless.await.is_err_and(|error| error.is_cancelled()));
    }
}
