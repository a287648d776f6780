//! From an SQLite error to a failure. Codes: sqlite.org/rescode.html.

use crate::model::{Class, Failure};
use rusqlite::ErrorCode;

/// The failure of `error`; `path` as written in the resource id.
#[must_use]
pub fn of(path: &str, doing: &str, error: &rusqlite::Error) -> Failure {
    let (code, extended) = match error {
        rusqlite::Error::SqliteFailure(code, _) => (code.code, code.extended_code),
        rusqlite::Error::SqlInputError { error, .. } => (error.code, error.extended_code),
        _ => (ErrorCode::Unknown, 0),
    };
    let words = match extended {
        0 => error.to_string(),
        extended => format!("SQLite code {extended}: {error}"),
    };
    let failure = match code {
        ErrorCode::NotADatabase => Failure::new(
            Class::WrongService,
            format!("{path} is no SQLite database"),
            "name an SQLite file; an encrypted one cannot be read",
        ),
        ErrorCode::DatabaseCorrupt => Failure::new(
            Class::Remote,
            format!("{path} is damaged"),
            format!("restore it, or let its owner run: sqlite3 {path} 'PRAGMA integrity_check'"),
        ),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Failure::new(
            Class::Remote,
            format!("{path} is locked by another program"),
            "it is tried again by itself; look for a long write transaction",
        ),
        ErrorCode::OperationInterrupted => Failure::new(
            Class::Remote,
            format!("{path}: to {doing} took longer than the time limit"),
            "look for a view that computes too much",
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Failure::new(
            Class::PermissionDenied,
            format!("{path} cannot be opened"),
            format!("let the user of aam read the file and its directory: chmod o+r {path}"),
        ),
        ErrorCode::ReadOnly => Failure::new(
            Class::Remote,
            format!("{path} was left by a crashed writer and needs recovery, which is a write"),
            "open it once with its own program; AAM never writes",
        ),
        ErrorCode::AuthorizationForStatementDenied => Failure::new(
            Class::PermissionDenied,
            format!("{path}: to {doing} would do more than read"),
            "AAM does not run it; leave this view or virtual table out",
        ),
        ErrorCode::SystemIoFailure => {
            Failure::new(Class::Remote, format!("{path} could not be read"), "look at the disk and the mount")
        }
        _ => Failure::new(
            Class::Remote,
            format!("{path}: SQLite could not {doing}"),
            "read the detail: these are SQLite's own words",
        ),
    };
    failure.detail(words)
}
