//! Limits on the time and the data of one connection.

use super::uri::DatabaseServer;
use std::time::Duration;

/// Limit for TCP, TLS and login together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit that the server enforces for one statement.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long AAM waits for one batch. It is longer than [`STATEMENT_TIMEOUT`], so that the server reports its limit first.
pub const BATCH_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a statement may wait for a lock that another session holds.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit on the bytes read over one connection.
pub const MAX_BYTES: u64 = 64 << 20;
/// Limit on the number of tables that a tiny sync reads before it reports that they are empty.
pub const MAX_SAMPLED_TABLES: usize = 5;
/// Limit on the number of grants that a privilege verdict names. Further grants are only counted.
pub const MAX_NAMED_GRANTS: usize = 20;

/// The limit for connecting. The resource id can shorten it but not extend it.
#[must_use]
pub fn connect_timeout(server: &DatabaseServer) -> Duration {
    server.connect_timeout.map_or(CONNECT_TIMEOUT, |own| own.min(CONNECT_TIMEOUT))
}

/// The limit for one batch. The resource id can shorten it but not extend it.
#[must_use]
pub fn batch_timeout(server: &DatabaseServer) -> Duration {
    server.answer_timeout.map_or(BATCH_TIMEOUT, |own| own.min(BATCH_TIMEOUT))
}
