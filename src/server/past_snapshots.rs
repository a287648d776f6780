//! The registry as of past instants, which are folds over the whole ledger, for the pages.

use super::app::App;
use super::problem::ApiProblem;
use crate::model::Timestamp;
use crate::snapshot::Snapshot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The number of snapshots in the cache. Each holds the state of all connections.
const CACHE_CAPACITY: usize = 2;

/// A cache of snapshots by the number of their last entry. One fold runs at a time.
pub struct PastSnapshots {
    folds: Semaphore,
    cache: Mutex<VecDeque<Arc<Snapshot>>>,
}

impl Default for PastSnapshots {
    fn default() -> PastSnapshots {
        PastSnapshots { folds: Semaphore::new(1), cache: Mutex::default() }
    }
}

impl PastSnapshots {
    fn get(&self, seq: u64) -> Option<Arc<Snapshot>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.iter().find(|snapshot| snapshot.seq == seq).cloned()
    }

    fn put(&self, snapshot: Arc<Snapshot>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_back(snapshot);
        while cache.len() > CACHE_CAPACITY {
            cache.pop_front();
        }
    }
}

/// Returns the registry as of `at`.
///
/// # Errors
/// 503 if the registry cannot be read.
pub async fn past_snapshot(app: &Arc<App>, at: Timestamp) -> Result<Arc<Snapshot>, ApiProblem> {
    let seq = app.blocking(move |app| Ok(app.handle.registry.reader().last_seq_at(at)?)).await?;
    if let Some(found) = app.past_snapshots.get(seq) {
        return Ok(found);
    }
    let busy = || ApiProblem::busy("Another page of the past is being computed; repeat the request.");
    let _fold = app.past_snapshots.folds.acquire().await.map_err(|_| busy())?;
    // Another request may have computed it in the meantime.
    if let Some(found) = app.past_snapshots.get(seq) {
        return Ok(found);
    }
    app.blocking(move |app| {
        let snapshot = Arc::new(app.handle.registry.reader().snapshot_at(at)?);
        app.past_snapshots.put(Arc::clone(&snapshot));
        Ok(snapshot)
    })
    .await
}
