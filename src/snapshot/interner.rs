//! Shares strings that many connections have in common.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Keeps one shared copy of each string. Copies that are no longer used are dropped from time to time.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    strings: BTreeSet<Arc<str>>,
    /// The number of strings at which unused ones are dropped.
    sweep_at: usize,
}

/// Which strings are shared does not affect the state, so all interners are equal.
impl PartialEq for Interner {
    fn eq(&self, _: &Interner) -> bool {
        true
    }
}

impl Interner {
    /// The shared copy of `text`.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.strings.get(text) {
            return Arc::clone(shared);
        }
        if self.strings.len() >= self.sweep_at {
            self.sweep();
        }
        let shared: Arc<str> = text.into();
        self.strings.insert(Arc::clone(&shared));
        shared
    }

    /// Drops the strings that are not used any more.
    pub fn sweep(&mut self) {
        self.strings.retain(|shared| Arc::strong_count(shared) > 1);
        self.sweep_at = (self.strings.len() * 2).max(MIN_SWEEP);
    }
}

/// The least number of strings at which [`Interner`] drops unused ones.
const MIN_SWEEP: usize = 1024;
