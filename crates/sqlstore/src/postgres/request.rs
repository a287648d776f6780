//! What callers ask the thread of a session to do.

use super::BeginMode;
use super::in_flight::Permit;
use crate::{Error, Result, Value};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio_postgres::Row;

/// Where the answer goes. It has room for one answer, so that the session never waits for a caller.
pub(super) type Reply<T> = SyncSender<Result<T>>;

/// A statement with its parameters.
pub(super) struct Call {
    pub sql: Arc<str>,
    pub params: Vec<Value>,
}

/// Some rows of a result.
pub(super) struct Chunk {
    /// The number of the result.
    pub result: u64,
    pub rows: Vec<Row>,
    /// Whether the server has more of them.
    pub has_more: bool,
}

pub(super) enum Request {
    Begin {
        mode: BeginMode,
        reply: Reply<()>,
    },
    Commit {
        reply: Reply<()>,
    },
    /// Without `reply`, the caller does not wait.
    Rollback {
        reply: Option<Reply<()>>,
    },
    Query {
        call: Call,
        reply: Reply<Chunk>,
    },
    More {
        result: u64,
        reply: Reply<Chunk>,
    },
    CloseRows {
        result: u64,
    },
    FirstRow {
        call: Call,
        reply: Reply<Option<Row>>,
    },
    Execute {
        call: Call,
        reply: Reply<u64>,
    },
    ExecuteLater {
        call: Call,
        permit: Permit,
    },
    Batch {
        sql: String,
        reply: Reply<()>,
    },
}

impl Request {
    /// Answers with an error, if somebody waits.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Request::Begin { reply, .. }
            | Request::Commit { reply }
            | Request::Batch { reply, .. }
            | Request::Rollback { reply: Some(reply) } => answer(&reply, Err(error)),
            Request::Query { reply, .. } | Request::More { reply, .. } => answer(&reply, Err(error)),
            Request::FirstRow { reply, .. } => answer(&reply, Err(error)),
            Request::Execute { reply, .. } => answer(&reply, Err(error)),
            Request::Rollback { reply: None } | Request::CloseRows { .. } | Request::ExecuteLater { .. } => {}
        }
    }
}

/// Sends an answer. The caller may have given up waiting.
pub(super) fn answer<T>(reply: &Reply<T>, result: Result<T>) {
    let _ = reply.try_send(result);
}
