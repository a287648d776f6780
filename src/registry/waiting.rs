//! Reads that may wait for a database for many seconds, away from the threads of the runtime.

use super::{Registry, RegistryError};
use tokio::sync::Semaphore;

/// The number of reads at a time, so that they do not need more sessions than the pool of a reader keeps.
static READS: Semaphore = Semaphore::const_new(4);

impl Registry {
    /// Runs `work`, which reads from this registry. A database may not answer for many seconds, and a thread of the runtime that
    /// waits for it would hold up everything else; so `work` runs on a thread that may block, at most four at a time.
    ///
    /// # Errors
    /// That of `work`, and [`RegistryError::Other`] if it panics.
    pub async fn waiting<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        if self.location.postgres().is_none() {
            return work();
        }
        let permit = READS.acquire().await.map_err(|_| RegistryError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            // Held by the work itself, because it goes on if the caller stops waiting.
            let _permit = permit;
            work()
        });
        task.await.unwrap_or_else(|error| Err(RegistryError::Other(format!("a read of the registry ended early: {error}"))))
    }
}
