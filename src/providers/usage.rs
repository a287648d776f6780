//! Counts what each provider did, for `/metrics`.

use super::ProvidedCredential;
use crate::model::{Failure, Locator};
use std::sync::atomic::{AtomicU64, Ordering};

/// The forms of locators that are counted.
const SCHEMES: [&str; 5] = ["env", "file", "vault", "sp", "consent"];

/// What one provider did since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageCount {
    pub provider: &'static str,
    pub lookups: u64,
    /// Lookups that were answered without a call.
    pub cache_hits: u64,
    pub failures: u64,
}

#[derive(Default)]
struct Counters {
    lookups: AtomicU64,
    cache_hits: AtomicU64,
    failures: AtomicU64,
}

/// The counters of all providers.
#[derive(Default)]
pub struct Usage([Counters; SCHEMES.len()]);

impl Usage {
    /// Counts one lookup of `locator`.
    pub fn count(&self, locator: &Locator, result: &Result<ProvidedCredential, Failure>) {
        let at = SCHEMES.iter().position(|scheme| *scheme == locator.scheme());
        let Some(counters) = at.and_then(|at| self.0.get(at)) else { return };
        counters.lookups.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(provided) if provided.facts.evidence.get("cached") == Some(&true.into()) => {
                counters.cache_hits.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => {
                counters.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns the counts of all providers.
    #[must_use]
    pub fn counts(&self) -> Vec<UsageCount> {
        let count = |(provider, counters): (&&'static str, &Counters)| UsageCount {
            provider,
            lookups: counters.lookups.load(Ordering::Relaxed),
            cache_hits: counters.cache_hits.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
        };
        SCHEMES.iter().zip(&self.0).map(count).collect()
    }
}
