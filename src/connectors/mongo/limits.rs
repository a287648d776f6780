//! Limits on the time and the data of one attempt.

use super::options::Options;
use std::time::Duration;

/// Limit for TCP, TLS and handshake together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the login, which the iterations of SCRAM make slow on purpose.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(8);
/// How long AAM waits for one response. It is longer than the limit that the server enforces, so that the server reports its
/// limit first.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Limit on the bytes read over one connection.
pub const MAX_BYTES: u64 = 64 << 20;
/// Limit on the connections of one attempt: every seed and member costs one.
pub const MAX_CONNECTIONS: usize = 5;
/// Limit on the members that are tried in place of a primary that could be read.
pub const MAX_SECONDARIES_TRIED: usize = 2;
/// Limit on the collections that a tiny sync reads before it reports that they are empty.
pub const MAX_SAMPLED_COLLECTIONS: usize = 5;
/// Limit on the grants that a privilege verdict names, and on the names in a message. Further ones are only counted.
pub const MAX_NAMED: usize = 20;

/// The limit for connecting. The resource id can shorten it but not extend it.
#[must_use]
pub fn connect_timeout(options: &Options) -> Duration {
    options.connect_timeout.map_or(CONNECT_TIMEOUT, |own| own.min(CONNECT_TIMEOUT))
}

/// The limit for one response. The resource id can shorten it but not extend it.
#[must_use]
pub fn answer_timeout(options: &Options) -> Duration {
    options.answer_timeout.map_or(ANSWER_TIMEOUT, |own| own.min(ANSWER_TIMEOUT))
}
