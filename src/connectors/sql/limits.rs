//! How long and how much one connection may take, whatever the server does.

use super::uri::Server;
use std::time::Duration;

/// TCP, TLS and login together.
pub const CONNECT: Duration = Duration::from_secs(5);
/// The server's own limit for one statement.
pub const STATEMENT: Duration = Duration::from_secs(5);
/// How long AAM waits for one batch: above [`STATEMENT`], so that the server's word comes first.
pub const ANSWER: Duration = Duration::from_secs(8);
/// How long a statement may wait for somebody else's lock.
pub const LOCK: Duration = Duration::from_secs(1);
/// Bytes read over one connection.
pub const BYTES: u64 = 64 << 20;
/// Tables that a tiny sync looks into before it says that all are empty.
pub const CANDIDATES: usize = 5;
/// Grants that a privilege verdict names; the rest is counted.
pub const GRANTS: usize = 20;

/// The resource id may only shorten a limit.
#[must_use]
pub fn connect(server: &Server) -> Duration {
    server.connect_timeout.map_or(CONNECT, |own| own.min(CONNECT))
}

/// As [`connect`], for one answer.
#[must_use]
pub fn answer(server: &Server) -> Duration {
    server.answer_timeout.map_or(ANSWER, |own| own.min(ANSWER))
}
