//! Streams that the connections of one manifest share.
//!
//! A stream is shared only if nothing of a customer can be in it, which is seen and not assumed: while it was built,
//! neither config nor clock nor chance was asked ([`Config`](super::context::Config), [`RecordingHost`]), and it has no part
//! that keeps something while it reads: no token of a login, no cursor, no schema that was asked for
//! ([`Stream::keeps_nothing`]). Whatever is a customer's comes in with each call, from the run.

use super::host::{Host, HostError, HostRequest, HostResponse};
use super::stream::Stream;
use super::value::Value;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A static stream by its place in the manifest, and whether its answers are kept for its children.
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

    /// Keeps `stream`, which was built with `noting`, if it may be shared.
    pub fn offer(&self, key: Key, stream: &Arc<Stream>, noting: &RecordingHost<'_>) {
        if !noting.looked.load(Ordering::Relaxed) && stream.keeps_nothing() {
            self.locked().insert(key, Arc::clone(stream));
        }
    }
}

/// A copy of a manifest may be changed: it shares nothing with the first.
impl Clone for SharedStreams {
    fn clone(&self) -> SharedStreams {
        SharedStreams::default()
    }
}

impl std::fmt::Debug for SharedStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedStreams({})", self.locked().len())
    }
}

/// A host that notes that it was asked.
pub struct RecordingHost<'a> {
    host: &'a dyn Host,
    pub(super) looked: AtomicBool,
}

impl<'a> RecordingHost<'a> {
    #[must_use]
    pub fn new(host: &'a dyn Host) -> RecordingHost<'a> {
        RecordingHost { host, looked: AtomicBool::new(false) }
    }

    fn asked(&self) -> &'a dyn Host {
        self.looked.store(true, Ordering::Relaxed);
        self.host
    }
}

impl Host for RecordingHost<'_> {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        self.asked().send(request)
    }

    fn now(&self) -> Timestamp {
        self.asked().now()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        self.asked().pause(wait)
    }

    fn uuid(&self) -> String {
        self.asked().uuid()
    }

    fn rotated(&self, config: &Value) {
        self.asked().rotated(config);
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
