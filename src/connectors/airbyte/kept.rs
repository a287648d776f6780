//! What connectors said earlier: their specifications, and the streams of attempts that are not at their end.
//!
//! The specification of a version does not change, so it is asked for once. The streams may change at any time. They are kept
//! only for the attempts that follow one which failed after it had discovered them, and for a short time.

use super::config::Described;
use crate::model::Digest;
use airbyte_protocol::Catalog;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the streams of an attempt that failed are kept.
const MAX_AGE: Duration = Duration::from_secs(600);
const MAX_SPECS: usize = 100;
const MAX_CATALOGS: usize = 32;
/// The maximum number of bytes of all catalogs that are kept.
const MAX_BYTES: usize = 16 << 20;

/// What is kept in memory.
#[derive(Default)]
pub struct Kept {
    /// By what identifies the program.
    specs: Mutex<HashMap<String, Arc<Described>>>,
    /// The oldest first.
    catalogs: Mutex<Vec<KeptCatalog>>,
}

struct KeptCatalog {
    /// The digest of program and config.
    key: Digest,
    at: Instant,
    bytes: usize,
    catalog: Arc<Catalog>,
}

impl Kept {
    /// Returns the specification of a program.
    #[must_use]
    pub fn spec(&self, program: &str) -> Option<Arc<Described>> {
        lock(&self.specs).get(program).cloned()
    }

    /// Keeps the specification of a program.
    pub fn keep_spec(&self, program: &str, spec: &Arc<Described>) {
        let mut specs = lock(&self.specs);
        if specs.len() >= MAX_SPECS {
            specs.clear();
        }
        specs.insert(program.to_string(), Arc::clone(spec));
    }

    /// Returns the streams that an earlier attempt with the same program and config discovered.
    #[must_use]
    pub fn catalog(&self, key: Digest) -> Option<Arc<Catalog>> {
        let mut catalogs = lock(&self.catalogs);
        catalogs.retain(|kept| kept.at.elapsed() < MAX_AGE);
        catalogs.iter().find(|kept| kept.key == key).map(|kept| Arc::clone(&kept.catalog))
    }

    /// Keeps the streams until [`Kept::forget_catalog`], or for a short time.
    pub fn keep_catalog(&self, key: Digest, catalog: &Arc<Catalog>) {
        let bytes = size(catalog);
        let mut catalogs = lock(&self.catalogs);
        catalogs.retain(|kept| kept.key != key && kept.at.elapsed() < MAX_AGE);
        if bytes > MAX_BYTES {
            return;
        }
        while catalogs.len() >= MAX_CATALOGS || catalogs.iter().map(|kept| kept.bytes).sum::<usize>() + bytes > MAX_BYTES {
            catalogs.remove(0);
        }
        catalogs.push(KeptCatalog { key, at: Instant::now(), bytes, catalog: Arc::clone(catalog) });
    }

    /// Forgets the streams, because an attempt came to its end.
    pub fn forget_catalog(&self, key: Digest) {
        lock(&self.catalogs).retain(|kept| kept.key != key);
    }
}

/// The bytes that a catalog takes, about.
#[must_use]
pub fn size(catalog: &Catalog) -> usize {
    catalog.streams.iter().map(|stream| stream.json_schema.as_str().len() + stream.name.len() + 200).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_a_config_are_kept_until_an_attempt_ends() {
        let kept = Kept::default();
        let key = |number: usize| Digest::from_bytes(number.to_string().as_bytes());
        let catalog = Arc::new(Catalog::default());
        for number in 0..2 * MAX_CATALOGS {
            kept.keep_catalog(key(number), &catalog);
        }
        assert!(kept.catalog(key(0)).is_none(), "the oldest are dropped");
        assert!(kept.catalog(key(2 * MAX_CATALOGS - 1)).is_some());
        kept.forget_catalog(key(2 * MAX_CATALOGS - 1));
        assert!(kept.catalog(key(2 * MAX_CATALOGS - 1)).is_none());
    }
}
