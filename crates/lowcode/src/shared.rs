//! Streams that the connections of one manifest share.
//!
//! A stream is shared only if it cannot contain anything that belongs to a customer. This is observed instead of
//! assumed. First, neither the config nor the clock nor random values were used while the stream was built
//! ([`RecordingHost`]). Second, no part of the stream stores anything while it reads: no login token, no cursor, and
//! no schema from a response ([`Stream::keeps_nothing`]). Everything that belongs to a customer is passed in by the
//! run, with each call.

use super::recording::RecordingHost;
use super::stream::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The index of a static stream in the manifest, and whether its responses are cached for its child streams.
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

    /// Stores `stream` if it may be shared. `recording` is the host with which the stream was built.
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
