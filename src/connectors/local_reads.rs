//! Reads of local files and databases, on the runtime's pool of blocking threads.
//!
//! A read from a mount whose server is gone never returns and never releases its thread. The runtime has 512 blocking
//! threads for the whole process, so the reads below one root of the policy use at most `READS_PER_ROOT` of them. When
//! a root hangs, further reads below it wait until their step times out; other roots, the API and the folder scans
//! are not affected.

use crate::credentials::redact;
use crate::model::{Class, Failure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The number of simultaneous reads below one root.
const READS_PER_ROOT: usize = 32;

/// One entry for each root that any policy has named since the process started. The threads belong to the process, so
/// their limits do too and survive a change of the policy.
static ROOTS: LazyLock<Mutex<HashMap<PathBuf, LocalReads>>> = LazyLock::new(Mutex::default);

/// The reads below one root.
#[derive(Clone)]
pub struct LocalReads(Arc<Semaphore>);

impl LocalReads {
    /// Returns the limiter for the root in `roots` that is a prefix of `path`. `path` is compared as written, without
    /// resolving it. All paths outside `roots` share one limiter, because most of them are refused later anyway.
    #[must_use]
    pub fn for_path(path: &Path, roots: &[PathBuf]) -> LocalReads {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let path = absolute(path);
        let below = roots.iter().map(|root| absolute(root)).filter(|root| path.starts_with(root));
        let root = below.max_by_key(|root| root.components().count()).unwrap_or_default();
        let mut known = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(root).or_insert_with(|| LocalReads::new(READS_PER_ROOT)).clone()
    }

    fn new(reads: usize) -> LocalReads {
        LocalReads(Arc::new(Semaphore::new(reads)))
    }

    /// Runs `work` on a blocking thread. If the caller gives up while it waits for a permit, `work` is never started.
    ///
    /// # Errors
    /// Returns the error of `work`, or `Bug` if it panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
        // The semaphore is never closed, so there is always a permit to wait for.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok();
        let attempt = redact::attempt();
        let read = tokio::task::spawn_blocking(move || {
            // The permit is held until the read returns, even if the caller has stopped waiting for it.
            let _permit = permit;
            redact::with_attempt(attempt, work)
        });
        read.await.unwrap_or_else(|error| {
            let fix = "report it with the detail; the other connections are not affected";
            Err(Failure::new(Class::Bug, "reading a local file ended in a panic", fix).detail(error.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::task::JoinHandle;

    /// Starts a read that returns only after the sender is dropped.
    async fn hung(reads: &LocalReads) -> (mpsc::Sender<()>, JoinHandle<Result<bool, Failure>>) {
        let (release, held) = mpsc::channel::<()>();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let reads = reads.clone();
        let read = tokio::spawn(async move {
            let work = move || {
                let _ = begins.send(());
                Ok(held.recv().is_err())
            };
            reads.run(work).await
        });
        begun.await.unwrap();
        (release, read)
    }

    #[tokio::test]
    async fn answers_failures_and_panics_come_back() {
        let reads = LocalReads::new(2);
        let many = (0..500).map(|number| reads.run(move || Ok(number * 2)));
        let answers = futures_util::future::join_all(many).await;
        assert_eq!(answers, (0..500).map(|number| Ok(number * 2)).collect::<Vec<_>>());
        let failure = Failure::new(Class::NotFound, "no such file", "name another file");
        assert_eq!(
            reads
                .run({
                    let failure = failure.clone();
                    || Err::<(), _>(failure)
                })
                .await,
            Err(failure)
        );
        let bug = reads.run(|| -> Result<(), Failure> { std::panic::panic_any("asked for".to_string()) }).await.unwrap_err();
        assert_eq!(bug.class, Class::Bug);
        assert!(bug.detail.contains("asked for"), "{}", bug.detail);
        assert_eq!(reads.run(|| Ok(7)).await, Ok(7), "the permit came back");
    }

    #[tokio::test]
    async fn a_read_that_hangs_holds_nobody_up() {
        let roots = [PathBuf::from("/mnt/hung"), PathBuf::from("/mnt/well")];
        let hanging = LocalReads::for_path(Path::new("/mnt/hung/a.csv"), &roots);
        let mut held = Vec::new();
        for number in 1..=READS_PER_ROOT {
            held.push(hung(&hanging).await);
            if number < READS_PER_ROOT {
                assert_eq!(hanging.run(move || Ok(number)).await, Ok(number), "others below the same root go on");
            }
        }
        let (late, other) = (Path::new("/mnt/hung/b.csv"), Path::new("/mnt/well/b.csv"));
        let begun = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&begun);
        let waiting = LocalReads::for_path(late, &roots);
        let late = waiting.run(move || {
            seen.store(true, Ordering::Relaxed);
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::ZERO, late).await.is_err(), "a root that hangs altogether is waited for");
        assert_eq!(LocalReads::for_path(other, &roots).run(|| Ok(1)).await, Ok(1), "another root is not held up");
        assert!(tokio::task::spawn_blocking(|| true).await.unwrap(), "nor is anything else that blocks");
        for (release, read) in held {
            drop(release);
            assert_eq!(read.await.unwrap(), Ok(true));
        }
        assert_eq!(hanging.run(|| Ok(2)).await, Ok(2), "the root answers again");
        assert!(!begun.load(Ordering::Relaxed), "what was given up is never started");
    }

    #[test]
    fn a_path_belongs_to_the_deepest_root_it_is_below() {
        let roots = [PathBuf::from("/data"), PathBuf::from("/data/slow"), PathBuf::from("seeds/data")];
        let of = |path: &str| LocalReads::for_path(Path::new(path), &roots).0;
        assert!(Arc::ptr_eq(&of("/data/a.csv"), &of("/data/b/c.csv")));
        assert!(Arc::ptr_eq(&of("/data/slow/a.csv"), &of("/data/slow/b.csv")));
        assert!(!Arc::ptr_eq(&of("/data/a.csv"), &of("/data/slow/a.csv")));
        assert!(Arc::ptr_eq(&of("seeds/data/a.csv"), &of("./seeds/data/b.csv")));
        assert!(Arc::ptr_eq(&of("/elsewhere/a.csv"), &of("/data-too/a.csv")));
    }
}
