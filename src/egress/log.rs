//! The log event of each call, and the counters of a session.
//!
//! An event holds method, host, path, status and size. It never holds a header or a query. The path is scrubbed,
//! because some services put keys there.

use super::{Caller, Traffic};
use crate::credentials::redact;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Calls and bytes of one session.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    /// Counts a call.
    pub fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts received bytes.
    pub fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Both numbers.
    #[must_use]
    pub fn read(&self) -> Traffic {
        Traffic { calls: self.calls.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// The event of one call.
pub struct CallEvent<'a> {
    /// For example `GET`, `postgres` or `READ FILE`.
    pub method: &'a str,
    pub host: &'a str,
    /// Without query.
    pub path: &'a str,
    /// 0 if there was no response.
    pub status: u16,
    pub bytes: u64,
    pub took: Duration,
    /// The class of the failure; empty for none.
    pub error: &'a str,
}

/// Writes the event.
pub fn write(caller: &Caller, event: &CallEvent<'_>) {
    let ms = u64::try_from(event.took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "aam::egress",
        method = event.method,
        host = event.host,
        path = &*redact::scrub(event.path),
        status = event.status,
        bytes = event.bytes,
        ms,
        connection = %caller.connection,
        family = &*caller.family,
        error = event.error,
        "call"
    );
}
