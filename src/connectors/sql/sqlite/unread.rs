//! The warning for the tables and views of a SQLite file that cannot be read although others can.

use crate::model::{Class, Failure};
use rusqlite::ErrorCode;

/// Limit on the number of names in the title and of reasons in the detail.
const MAX_NAMED: usize = 10;

/// Whether the error is a limit of AAM, on time or on the size of values, and not a fault of the table.
#[must_use]
pub fn is_limit(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted | ErrorCode::TooBig))
}

/// The warning that names what could not be read; `None` if everything could. It is `Remote` if the file may be damaged and
/// `Misconfigured` if only its schema is not valid, such as a view of a table that does not exist.
#[must_use]
pub fn warning(path: &str, failures: &[(String, Failure)]) -> Option<Failure> {
    if failures.is_empty() {
        return None;
    }
    let (class, fix) = match failures.iter().find(|(_, failure)| !is_schema_error(failure)) {
        Some((_, failure)) => (failure.class, failure.fix.clone()),
        None => (
            Class::Misconfigured,
            "ask the owner of the file to correct or drop what the detail names; the other tables are read".to_owned(),
        ),
    };
    let named = || failures.iter().take(MAX_NAMED);
    let names: Vec<&str> = named().map(|(name, _)| name.as_str()).collect();
    let more = failures.len() - names.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let title = format!("{path}: {} cannot be read: {}{more}", objects(failures.len()), names.join(", "));
    let reasons: Vec<String> = named().map(|(name, failure)| format!("{name}: {}", failure.detail)).collect();
    Some(Failure::new(class, title, fix).detail(reasons.join("; ")))
}

fn objects(count: usize) -> String {
    if count == 1 { "1 table or view".to_owned() } else { format!("{count} tables and views") }
}

/// Whether the statement could not be compiled: SQLITE_ERROR (sqlite.org/rescode.html).
fn is_schema_error(failure: &Failure) -> bool {
    failure.detail.starts_with("SQLite code 1:")
}
