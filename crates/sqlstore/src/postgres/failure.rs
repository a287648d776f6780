//! What the errors of the client mean.

use crate::PostgresError;
use std::error::Error as StdError;
use tokio_postgres::error::Severity;

/// The end of the client's message if it has no password. A test fails when a newer version has another one.
const NO_PASSWORD: &str = "password missing";

/// What an error of an open session means.
pub(super) fn failure(error: &tokio_postgres::Error) -> PostgresError {
    let mut failure = described(error);
    failure.connection_lost = match error.as_db_error() {
        Some(db) => {
            let fatal = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
            fatal || ends_session(db.code().code())
        }
        None => error.is_closed() || has_io_cause(error),
    };
    failure
}

/// What an error while a session is opened means: a wrong password or database is the same at the next attempt.
pub(super) fn connect_failure(error: &tokio_postgres::Error) -> PostgresError {
    let mut failure = described(error);
    failure.connection_lost = match &failure.sqlstate {
        Some(state) => ends_session(state) || state.starts_with("53"),
        None => true,
    };
    // The client gives up by itself if the server asks for a password and it has none. The server would answer with this code.
    if failure.message.ends_with(NO_PASSWORD) {
        let message = "the server asks for a password, and the connection has none".to_string();
        return PostgresError { sqlstate: Some("28P01".to_string()), message, ..PostgresError::default() };
    }
    failure
}

/// An error of the connection itself.
pub(super) fn lost(message: impl Into<String>) -> PostgresError {
    PostgresError { message: message.into(), connection_lost: true, ..PostgresError::default() }
}

fn ends_session(state: &str) -> bool {
    state.starts_with("08") || matches!(state, "57P01" | "57P02" | "57P03" | "57P05" | "25P03")
}

fn has_io_cause(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

fn described(error: &tokio_postgres::Error) -> PostgresError {
    let Some(db) = error.as_db_error() else {
        return PostgresError { message: chain(error), ..PostgresError::default() };
    };
    let detail: Vec<&str> = [db.detail(), db.hint()].into_iter().flatten().collect();
    PostgresError {
        sqlstate: Some(db.code().code().to_string()),
        message: db.message().to_string(),
        detail: Some(detail.join("; ")).filter(|detail| !detail.is_empty()),
        constraint: db.constraint().map(str::to_string),
        connection_lost: false,
        commit_unknown: false,
    }
}

/// The message of an error with those of its causes.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    message
}
