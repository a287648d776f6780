//! Funnels as of past instants, which are folds over the whole ledger.

use super::app::App;
use super::bounded::bounded_funnel;
use super::problem::ApiProblem;
use crate::funnel::{Funnel, funnel};
use crate::model::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The number of simultaneous folds. Each of them holds the state of all connections.
const MAX_FOLDS: usize = 2;
/// The number of requests that may wait for a fold.
const MAX_WAITING: usize = 16;
/// The number of funnels in the cache.
const CACHE_CAPACITY: usize = 64;

/// The limits of the folds, and a cache of their results.
pub struct PastFunnels {
    folds: Semaphore,
    waiting: Semaphore,
    cache: Mutex<VecDeque<(FunnelKey, Funnel)>>,
}

/// Everything that a past funnel depends on. All instants between two entries of the ledger have the same funnel.
#[derive(Clone, PartialEq)]
struct FunnelKey {
    /// The last entry of the ledger up to the instant.
    seq: u64,
    namespace: String,
    target: f64,
}

impl Default for PastFunnels {
    fn default() -> PastFunnels {
        PastFunnels {
            folds: Semaphore::new(MAX_FOLDS),
            waiting: Semaphore::new(MAX_FOLDS + MAX_WAITING),
            cache: Mutex::default(),
        }
    }
}

impl PastFunnels {
    /// Waits until a fold may begin.
    ///
    /// # Errors
    /// 503 if too many requests wait already.
    async fn enter(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), ApiProblem> {
        let busy =
            || ApiProblem::busy("The funnels of other requests for a past instant are being computed; repeat the request.");
        let waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        Ok((waiting, self.folds.acquire().await.map_err(|_| busy())?))
    }

    fn get(&self, key: &FunnelKey, at: Timestamp) -> Option<Funnel> {
        let cache = self.lock();
        let (_, found) = cache.iter().find(|(known, _)| known == key)?;
        Some(Funnel { as_of: at.rfc3339(), ..found.clone() })
    }

    fn put(&self, key: FunnelKey, folded: Funnel) {
        let mut cache = self.lock();
        cache.retain(|(known, _)| *known != key);
        cache.push_back((key, folded));
        while cache.len() > CACHE_CAPACITY {
            cache.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(FunnelKey, Funnel)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the funnel of `namespace` as of `at`, which is not in the future.
///
/// # Errors
/// 503 if the registry cannot be read, or if too many other requests wait for a fold.
pub async fn past_funnel(app: &Arc<App>, namespace: String, at: Timestamp) -> Result<Funnel, ApiProblem> {
    let target = app.handle.policy().slo.coverage;
    let seq = app.blocking(move |app| Ok(app.handle.registry.reader().last_seq_at(at)?)).await?;
    let key = FunnelKey { seq, namespace, target };
    if let Some(found) = app.past_funnels.get(&key, at) {
        return Ok(found);
    }
    let _permits = app.past_funnels.enter().await?;
    // Another request may have computed it in the meantime.
    if let Some(found) = app.past_funnels.get(&key, at) {
        return Ok(found);
    }
    app.blocking(move |app| {
        let snapshot = app.handle.registry.reader().snapshot_at(at)?;
        let folded = bounded_funnel(funnel(&snapshot, &key.namespace, target, at));
        // An entry of the same millisecond may have been appended after the key was made.
        if snapshot.seq == key.seq {
            app.past_funnels.put(key, folded.clone());
        }
        Ok(folded)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Snapshot;
    use futures_util::FutureExt;

    #[test]
    fn few_folds_run_at_once_and_few_requests_wait_for_them() {
        let past = PastFunnels::default();
        let folds: Vec<_> = (0..MAX_FOLDS).map(|_| past.enter().now_or_never().expect("at once").expect("a permit")).collect();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(past.enter())).collect();
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        let refused = past.enter().now_or_never().expect("at once").expect_err("refused");
        assert_eq!((refused.status, refused.code.as_str()), (503, "BUSY"));
        drop(folds);
        assert!(waiting.remove(0).now_or_never().is_some_and(|entered| entered.is_ok()));
    }

    #[test]
    fn the_cache_is_bounded_and_gives_each_instant_its_own_time() {
        let past = PastFunnels::default();
        let key = |seq: u64| FunnelKey { seq, namespace: "autonomy".to_string(), target: 0.9 };
        for seq in 0..3 * CACHE_CAPACITY as u64 {
            past.put(key(seq), funnel(&Snapshot::default(), "autonomy", 0.9, Timestamp(0)));
        }
        assert_eq!(past.lock().len(), CACHE_CAPACITY);
        assert!(past.get(&key(0), Timestamp(5)).is_none());
        let found = past.get(&key(3 * CACHE_CAPACITY as u64 - 1), Timestamp(5)).expect("cached");
        assert_eq!(found.as_of, Timestamp(5).rfc3339());
    }
}
