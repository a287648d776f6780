//! A host that records whether it was used.

use super::host::{Host, HostError, HostRequest, HostResponse, PauseReason};
use super::value::Value;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A host that records whether it was used. It shows whether a stream depends on the config, the clock or random
/// values when the config is recorded as well (see [`Config::recorded`](super::config::Config::recorded)).
pub struct RecordingHost<'a> {
    host: &'a dyn Host,
    used: AtomicBool,
}

impl<'a> RecordingHost<'a> {
    #[must_use]
    pub fn new(host: &'a dyn Host) -> RecordingHost<'a> {
        RecordingHost { host, used: AtomicBool::new(false) }
    }

    /// Whether this host was used, or a config that records into it.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the flag that a config sets when it is read.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.used
    }

    fn used(&self) -> &'a dyn Host {
        self.used.store(true, Ordering::Relaxed);
        self.host
    }
}

impl Host for RecordingHost<'_> {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        self.used().send(request)
    }

    fn now(&self) -> Timestamp {
        self.used().now()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        self.used().pause(wait)
    }

    fn pause_for(&self, wait: Duration, reason: PauseReason) -> BoxFuture<'_, Result<(), HostError>> {
        self.used().pause_for(wait, reason)
    }

    fn uuid(&self) -> String {
        self.used().uuid()
    }

    fn rotated(&self, config: &Value) {
        self.used().rotated(config);
    }
}
