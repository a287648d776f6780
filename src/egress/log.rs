//! The log events for each call, and the counters of a session.
//!
//! One event is written before a call is sent, and one when it has ended, so that a call is in the log even if the process is
//! killed while it waits for the response. The events contain method, host, path, statement, status and size. They never
//! contain a header or a query string. Path and statement are scrubbed, because some services put keys into paths.

use super::{Caller, recorder};
use crate::credentials::redact;
use crate::meters::meters;
use crate::model::text::printable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The number of calls and received bytes so far, for the evidence of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    pub calls: u64,
    pub bytes: u64,
    /// The number of responses that were used again instead of making a call.
    #[serde(skip_serializing_if = "is_zero")]
    pub reused: u64,
    /// The time that the source took for these responses when they were received.
    #[serde(skip)]
    pub reused_time: Duration,
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Counts the calls and bytes of one session.
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

    /// Returns both counters.
    #[must_use]
    pub fn read(&self) -> Traffic {
        let (calls, bytes) = (self.calls.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        Traffic { calls, bytes, ..Traffic::default() }
    }
}

/// The event of one call, for the log and for the record of the attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallEvent<'a> {
    /// The HTTP method, protocol or operation, for example `GET`, `postgres` or `READ FILE`.
    pub method: &'a str,
    /// The host, with the port if it is not the one of the scheme or protocol.
    pub host: &'a str,
    /// The path without the query string.
    pub path: &'a str,
    /// The HTTP status, or 0 if there was no response.
    pub status: u16,
    /// The bytes of the response. For the connection of a database, the bytes in both directions.
    pub bytes: u64,
    /// The bytes that were sent, if they are not part of `bytes`.
    pub sent: Option<u64>,
    pub took: Duration,
    /// The class of the failure, or an empty string if the call succeeded.
    pub error: &'a str,
    /// The rule that allowed the call.
    pub rule: &'a str,
    /// The statement without values, if the call carried one.
    pub statement: &'a str,
}

/// The number of characters of a statement in the log. The record of the attempt has more of it.
const MAX_STATEMENT_CHARS: usize = 1000;

/// Writes to the log that a call is about to be sent. `aam::begun` has a target of its own, so that a filter can leave it out.
pub fn begun(caller: &Caller, event: &CallEvent<'_>) {
    tracing::info!(
        target: "aam::begun",
        method = event.method,
        host = event.host,
        path = path(event),
        statement = statement(event),
        connection = %caller.connection,
        family = &*caller.family,
        "call begins"
    );
}

/// Writes the event to the log, and counts the call.
pub fn write(caller: &Caller, event: &CallEvent<'_>) {
    meters().call(&caller.family, event.error);
    ended(caller, event);
}

/// Returns the path for the log, bounded as in the record of the attempt.
fn path(event: &CallEvent<'_>) -> String {
    redact::cut(&redact::scrub_all(event.path), recorder::MAX_PATH_CHARS)
}

/// Returns the statement for the log; `None` leaves the field out.
fn statement(event: &CallEvent<'_>) -> Option<String> {
    let text = redact::shortened(event.statement, MAX_STATEMENT_CHARS);
    (!text.is_empty()).then(|| printable(&text, &[]).into_owned())
}

/// Writes the event to the log without counting a call. It is for a statement on a connection that is counted itself.
pub fn ended(caller: &Caller, event: &CallEvent<'_>) {
    let ms = u64::try_from(event.took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "aam::egress",
        method = event.method,
        host = event.host,
        path = path(event),
        status = event.status,
        bytes = event.bytes,
        ms,
        connection = %caller.connection,
        family = &*caller.family,
        error = event.error,
        statement = statement(event),
        "call"
    );
}
