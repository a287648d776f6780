//! Sessions of PostgreSQL.
//!
//! Each session has a thread of its own, which runs the client of PostgreSQL. Callers send it requests and block until it
//! answers, so they may be plain threads as well as threads of an asynchronous runtime.

mod apart;
mod cache;
mod connect;
mod failure;
mod fate;
mod handle;
mod in_flight;
mod options;
mod request;
mod serve;
mod tls;
mod transaction;
mod types;

pub use apart::keeps_sessions_apart;
pub(crate) use handle::{PostgresRows, Session};
pub use options::{HostPort, PostgresOptions, TargetSession, TlsMode};
pub(crate) use types::read;

/// A notification of another session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel to which this session listens.
    pub channel: String,
    /// What the sender wrote.
    pub payload: String,
    /// The server process of the sender.
    pub process_id: i32,
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeginMode {
    /// It writes, and each statement sees what was committed before the statement.
    ReadCommitted,
    /// It only reads, and all statements see the same state.
    ReadOnly,
}
