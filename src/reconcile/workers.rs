//! The threads that attempts run on: one for each core, each with a runtime of its own.
//!
//! An attempt waits for its source many times. On a shared runtime each wait may end on another thread than it
//! began on, and the attempt, its HTTP connection and its timers wake each other across cores: a sixth of the
//! processor of a thousand low-code connections. Here an attempt stays where it began, and so do the
//! connections that it opens. The HTTP server and the loop keep the shared runtime to themselves: an attempt that computes
//! for long holds up neither.
//!
//! Attempts that begin together walk together: each finds the code that the one before it has just fetched. An
//! attempt alone walks through more code than the inner caches hold, and waits for it two fifths of its time. So a
//! worker that is full takes no new attempt while its old ones are ending, and then a whole group at once: a sixth
//! of the processor of a thousand low-code connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// More threads than this gain nothing: the registry has one writer.
const MOST: usize = 8;
/// Threads of one worker for work that blocks.
const BLOCKING: usize = 16;
/// A full worker of which no attempt ended for so long fills its free places: what is left waits for slow sources,
/// and nobody waits for those.
const LULL: Duration = Duration::from_millis(3);

/// The workers. Dropped, they end, and what still runs on them with them.
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    load: Arc<Load>,
    /// It was full, and its attempts are ending.
    ebbing: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The attempts of one worker.
struct Load {
    attempts: AtomicUsize,
    began: Instant,
    /// When the last attempt ended, in microseconds since `began`.
    ended: AtomicU64,
}

impl Load {
    fn new() -> Arc<Load> {
        Arc::new(Load { attempts: AtomicUsize::new(0), began: Instant::now(), ended: AtomicU64::new(0) })
    }

    /// The attempts, and how long ago the last one ended.
    fn now(&self) -> (usize, Duration) {
        let ended = Duration::from_micros(self.ended.load(Ordering::Relaxed));
        (self.attempts.load(Ordering::Relaxed), self.began.elapsed().saturating_sub(ended))
    }
}

/// A place on a worker; free again when it is dropped.
pub struct WorkerSlot {
    pub runtime: Handle,
    load: Arc<Load>,
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        let now = u64::try_from(self.load.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.load.ended.store(now, Ordering::Relaxed);
        self.load.attempts.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a worker with so many attempts of `most`, the last one ended so long ago, takes no new ones. Pure.
fn ebbs(ebbing: bool, attempts: usize, most: usize, since: Duration) -> bool {
    match attempts {
        0 => false,
        _ if attempts >= most => true,
        _ => ebbing && since < LULL,
    }
}

impl Workers {
    /// One for each core. Where the system gives no thread, attempts run on the runtime of the caller.
    #[must_use]
    pub fn start() -> Workers {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let mut workers: Vec<Worker> = (0..cores).map_while(|number| Worker::start(number).ok()).collect();
        if workers.is_empty() {
            workers.push(Worker::on(Handle::current(), None, None));
        }
        Workers(workers)
    }

    /// A place on the worker that has the fewest attempts of those that take new ones, where all together run at
    /// most `most`; `None` when none does. One takes new ones `LULL` after the last end of one of its attempts at the latest.
    #[must_use]
    pub fn slot(&mut self, most: usize) -> Option<WorkerSlot> {
        let share = most.div_ceil(self.0.len());
        for worker in &mut self.0 {
            let (attempts, since) = worker.load.now();
            worker.ebbing = ebbs(worker.ebbing, attempts, share, since);
        }
        let open = self.0.iter().filter(|worker| !worker.ebbing);
        let worker = open.min_by_key(|worker| worker.load.attempts.load(Ordering::Relaxed))?;
        worker.load.attempts.fetch_add(1, Ordering::Relaxed);
        Some(WorkerSlot { runtime: worker.runtime.clone(), load: Arc::clone(&worker.load) })
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
        Ok(Worker::on(handle, Some(stop), Some(thread)))
    }

    fn on(runtime: Handle, stop: Option<oneshot::Sender<()>>, thread: Option<JoinHandle<()>>) -> Worker {
        Worker { runtime, load: Load::new(), ebbing: false, stop, thread }
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

    #[test]
    fn a_full_worker_takes_a_whole_group_or_what_fits_beside_slow_ones() {
        let (now, later) = (Duration::ZERO, LULL);
        assert!(!ebbs(false, 3, 4, now), "it fills without a pause");
        assert!(ebbs(false, 4, 4, later), "it is full");
        assert!(ebbs(true, 3, 4, now), "the others are about to end, too");
        assert!(!ebbs(true, 3, 4, later), "the others are slow");
        assert!(!ebbs(true, 0, 4, now), "all have ended");
        assert!(!ebbs(true, 0, 1, now), "one at a time");
    }

    #[tokio::test]
    async fn attempts_are_spread_and_end_with_their_worker() {
        let mut workers = Workers::start();
        let most = 2 * workers.0.len();
        let seats: Vec<WorkerSlot> = std::iter::from_fn(|| workers.slot(most)).collect();
        assert_eq!(seats.len(), most);
        assert!(workers.0.iter().all(|worker| worker.load.now().0 == 2));
        let endless_on = seats[0].runtime.clone();
        let (held, dropped) = oneshot::channel::<()>();
        let endless = endless_on.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let named = endless_on.spawn(async { std::thread::current().name().map(str::to_string) }).await.unwrap();
        assert!(named.is_some_and(|name| name.starts_with("attempts-")));
        drop(seats);
        assert!(workers.0.iter().all(|worker| worker.load.now().0 == 0));
        drop(workers);
        assert!(dropped.await.is_err());
        assert!(endless.await.is_err_and(|error| error.is_cancelled()));
    }
}
