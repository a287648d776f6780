//! One event for each call, and the counters of a session.
//!
//! An event holds method, host, path, status and size. Never a header, never a query; the path goes
//! through the redactor, because some services put keys there.

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
    /// A call goes out.
    pub fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes came in.
    pub fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Both numbers.
    #[must_use]
    pub fn read(&self) -> Traffic {
        Traffic { calls: self.calls.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What the event of one call says.
pub struct Line<'a> {
    /// `GET`, `HEAD`, `postgres`, `READ FILE`.
    pub method: &'a str,
    pub host: &'a str,
    /// Without query.
    pub path: &'a str,
    /// 0 when there was none.
    pub status: u16,
    pub bytes: u64,
    pub took: Duration,
    /// The class of the failure, or empty.
    pub error: &'a str,
}

/// Writes the event.
pub fn write(caller: &Caller, line: &Line<'_>) {
    let ms = u64::try_from(line.took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "aam::egress",
        method = line.method,
        host = line.host,
        path = &*redact::scrub(line.path),
        status = line.status,
        bytes = line.bytes,
        ms,
        connection = %caller.connection,
        family = &*caller.family,
        error = line.error,
        "call"
    );
}
