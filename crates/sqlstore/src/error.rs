//! What can go wrong.

use rusqlite::ErrorCode;
use std::fmt;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with a statement or a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of SQLite.
    #[error("{0}")]
    Sqlite(rusqlite::Error),
    /// An error of the PostgreSQL server or of the connection to it.
    #[error("{0}")]
    Postgres(PostgresError),
    /// A query that must return a row returned none.
    #[error("the query returned no rows")]
    NoRows,
    /// The value of a column does not have the wanted type, or the column does not exist. Columns are numbered from 0.
    #[error("column {column}: {message}")]
    Column {
        /// The number of the column.
        column: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A value cannot be passed as this parameter. Parameters are numbered from 1.
    #[error("parameter {parameter}: {message}")]
    Parameter {
        /// The number of the parameter, or 0 if it is about all of them.
        parameter: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The connection is not in the state that the call needs, for example a transaction is already open.
    #[error("{0}")]
    State(String),
}

/// An error of the PostgreSQL server or of the connection to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresError {
    /// The five characters that PostgreSQL gives to this kind of error. `None` if the error did not come from the server.
    pub sqlstate: Option<String>,
    /// What the server says, or what happened to the connection.
    pub message: String,
    /// The details and the hint that the server added.
    pub detail: Option<String>,
    /// The constraint, for example the unique index, that a statement violated.
    pub constraint: Option<String>,
    /// Whether the session ended, or could not be opened because the server was not available. A new attempt may succeed.
    pub connection_lost: bool,
    /// Whether the connection was lost while the server was asked to commit. The transaction may have been committed.
    pub commit_unknown: bool,
}

impl fmt::Display for PostgresError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(out, " ({detail})")?;
        }
        match &self.sqlstate {
            Some(state) => write!(out, " [SQLSTATE {state}]"),
            None => Ok(()),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Error::NoRows,
            other => Error::Sqlite(other),
        }
    }
}

impl From<PostgresError> for Error {
    fn from(error: PostgresError) -> Error {
        Error::Postgres(error)
    }
}

impl Error {
    /// The kind of an error of SQLite.
    #[must_use]
    pub fn sqlite_code(&self) -> Option<ErrorCode> {
        match self {
            Error::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }

    /// The `SQLSTATE` of an error of the PostgreSQL server.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Postgres(error) => error.sqlstate.as_deref(),
            _ => None,
        }
    }

    /// Whether the disk of the database is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self.sqlite_code() {
            Some(ErrorCode::DiskFull) => true,
            // On some file systems, a write that fails because the disk is full is reported as an I/O error.
            Some(ErrorCode::SystemIoFailure) => self.to_string().contains("full"),
            _ => self.sqlstate() == Some("53100"),
        }
    }

    /// Whether a row with the same unique key exists.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        let sqlite = match self {
            Error::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => matches!(
                error.extended_code,
                rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                    | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                    | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID
            ),
            _ => false,
        };
        sqlite || self.sqlstate() == Some("23505")
    }

    /// Whether the session ended, or could not be opened because the server was not available.
    #[must_use]
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.connection_lost)
    }

    /// Whether the transaction may have been committed although the call failed.
    #[must_use]
    pub fn is_commit_unknown(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.commit_unknown)
    }

    /// Whether the database does not accept writes: a standby, a read-only transaction or a read-only file.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.sqlite_code() == Some(ErrorCode::ReadOnly) || self.sqlstate() == Some("25006")
    }

    /// Whether the server does not know a statement that this session prepared, or knows it from another session. A pooler between
    /// them has exchanged the session.
    #[must_use]
    pub fn is_unknown_statement(&self) -> bool {
        matches!(self.sqlstate(), Some("26000" | "42P05"))
    }

    /// Whether the server did not accept the role or its password.
    #[must_use]
    pub fn is_login_refused(&self) -> bool {
        self.sqlstate().is_some_and(|state| state.starts_with("28"))
    }

    /// Whether another transaction was in the way, so that the same transaction may succeed if it is repeated.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.sqlite_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
            || matches!(self.sqlstate(), Some("40001" | "40P01" | "55P03"))
    }

    /// Whether a column has a value that does not fit the type that was asked for.
    #[must_use]
    pub fn is_value(&self) -> bool {
        matches!(
            self,
            Error::Column { .. }
                | Error::Sqlite(
                    rusqlite::Error::IntegralValueOutOfRange(..)
                        | rusqlite::Error::FromSqlConversionFailure(..)
                        | rusqlite::Error::InvalidColumnType(..)
                )
        )
    }

    /// The same error once more, for each caller that waited for it. An error of SQLite is copied without its cause.
    #[must_use]
    pub fn copy(&self) -> Error {
        match self {
            Error::Sqlite(rusqlite::Error::SqliteFailure(code, message)) => {
                Error::Sqlite(rusqlite::Error::SqliteFailure(*code, message.clone()))
            }
            Error::Sqlite(other) => Error::State(other.to_string()),
            Error::Postgres(error) => Error::Postgres(error.clone()),
            Error::NoRows => Error::NoRows,
            Error::Column { column, message } => Error::Column { column: *column, message: message.clone() },
            Error::Parameter { parameter, message } => Error::Parameter { parameter: *parameter, message: message.clone() },
            Error::State(message) => Error::State(message.clone()),
        }
    }
}

/// Turns the error of a query without rows into `None`.
pub trait OptionalExtension<T> {
    /// `None` if the query returned no rows.
    ///
    /// # Errors
    /// All other errors.
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoRows) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
