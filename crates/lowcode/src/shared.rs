//! Streams that the connections of one manifest share.
//!
//! A stream is shared only if it cannot hold anything of a customer, and that is observed, not assumed: while it was
//! built, neither config nor clock nor chance was used ([`RecordingHost`]), and it has no part that keeps something while
//! it reads: no token of a login, no cursor, no schema that a request returns ([`Stream::keeps_nothing`]). What belongs
//! to a customer comes in with each call, from the run.

use super::recording::RecordingHost;
use super::stream::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The index of a static stream in the manifest, and whether its responses are cached for its children.
pub type Key = (usize, bool);

/// The shared streams of a manifest.
#[derive(Default)]
pub struct SharedStreams(Mutex<HashMap<Key, Arc<Stream>>>);

impl SharedStreams {
    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Arc<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn get(&self, key: Key) -> Option<Arc<Stream>> {
        self.locked().get(&key).cloned()
    }

    /// Keeps `stream` if it may be shared. It was built with `recording`.
    pub fn offer(&self, key: Key, stream: &Arc<Stream>, recording: &RecordingHost<'_>) {
        if !recording.was_used() && stream.keeps_nothing() {
            self.locked().insert(key, Arc::clone(stream));
        }
    }
}

impl std::fmt::Debug for SharedStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedStreams({})", self.locked().len())
    }
}
