//! Classifies SQLite errors. The codes are from sqlite.org/rescode.html.

use super::file::MAX_VALUE_BYTES;
use crate::memory_budget::size_text;
use crate::model::{Class, Failure};
use rusqlite::ErrorCode;

/// Whether the failure is the limit on the size of values.
#[must_use]
pub fn is_too_large(failure: &Failure) -> bool {
    failure.class == Class::Unsupported && failure.detail.starts_with(TOO_LARGE)
}

/// How the detail of such a failure begins: SQLITE_TOOBIG.
const TOO_LARGE: &str = "SQLite code 18:";

/// Classifies `error`. `path` is the path as it is written in the resource id, and `doing` names what was attempted.
#[must_use]
pub fn classify(path: &str, doing: &str, error: &rusqlite::Error) -> Failure {
    let (code, extended) = match error {
        rusqlite::Error::SqliteFailure(code, _) => (code.code, code.extended_code),
        rusqlite::Error::SqlInputError { error, .. } => (error.code, error.extended_code),
        _ => (ErrorCode::Unknown, 0),
    };
    let message = match extended {
        0 => error.to_string(),
        extended => format!("SQLite code {extended}: {error}"),
    };
    let failure = match code {
        ErrorCode::NotADatabase => Failure::new(
            Class::WrongService,
            format!("{path} is not a SQLite database"),
            "name a SQLite file; encrypted files cannot be read",
        ),
        ErrorCode::DatabaseCorrupt => Failure::new(
            Class::Remote,
            format!("{path} is damaged"),
            format!("restore it, or let its owner run: sqlite3 {path} 'PRAGMA integrity_check'"),
        ),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Failure::new(
            Class::Remote,
            format!("{path} is locked by another program"),
            "AAM retries automatically; look for a long-running write transaction",
        ),
        ErrorCode::OperationInterrupted => Failure::new(
            Class::Remote,
            format!("{path}: the time limit stopped the attempt to {doing}"),
            "look for a view that needs too much computation",
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Failure::new(
            Class::PermissionDenied,
            format!("{path} cannot be opened"),
            format!("allow the user of aam to read the file and its directory: chmod o+r {path}"),
        ),
        ErrorCode::ReadOnly => Failure::new(
            Class::Remote,
            format!("{path} was left by a crashed writer and needs a recovery, which would write to it"),
            "open it once with the program that owns it; AAM never writes",
        ),
        ErrorCode::AuthorizationForStatementDenied => Failure::new(
            Class::PermissionDenied,
            format!("{path}: AAM refused to {doing}, because it would do more than read"),
            "remove this view or virtual table, or accept that AAM does not read it",
        ),
        ErrorCode::TooBig => Failure::new(
            Class::Unsupported,
            format!(
                "{path}: a value is larger than {}, which AAM does not read",
                size_text(MAX_VALUE_BYTES.unsigned_abs().into())
            ),
            "leave the table or view out of this source, or accept that AAM does not read it",
        ),
        ErrorCode::SystemIoFailure => {
            Failure::new(Class::Remote, format!("{path} could not be read"), "check the disk and the mount")
        }
        _ => Failure::new(
            Class::Remote,
            format!("{path}: SQLite could not {doing}"),
            "see the detail, which is the message of SQLite",
        ),
    };
    failure.detail(message)
}
