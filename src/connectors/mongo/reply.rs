//! One response of a server, and the error in it.

use crate::credentials::redact;
use crate::memory_budget::Reservation;
use bson::RawDocument;
use bson::raw::{RawBsonRef, RawDocumentBuf};
use std::time::Duration;

/// Limit on the length of a message that is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 400;

/// A response with one document.
pub struct Reply {
    document: RawDocumentBuf,
    /// The memory of `document`.
    _memory: Option<Reservation>,
}

/// The error of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// The code (MongoDB source, `error_codes.yml`); 0 if the server sends none.
    pub code: i64,
    /// The name of the code; empty before MongoDB 3.4 and for other servers.
    pub name: String,
    pub message: String,
    /// How long the server asks to wait. Azure Cosmos DB says it in its message.
    pub wait: Option<Duration>,
}

/// Formats as the evidence shows it: `18 AuthenticationFailed: Authentication failed.`
impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code, self.name, self.message)
    }
}

impl Reply {
    /// A response, and the memory that is reserved for it.
    #[must_use]
    pub fn new(document: RawDocumentBuf, memory: Option<Reservation>) -> Reply {
        Reply { document, _memory: memory }
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &RawDocument {
        &self.document
    }

    /// The error, or `None` if the command succeeded.
    #[must_use]
    pub fn error(&self) -> Option<ServerError> {
        server_error(self.document())
    }

    /// The documents of the first batch of a cursor, and the cursor's identifier; 0 means that the server has closed it.
    #[must_use]
    pub fn batch(&self) -> Option<(Vec<&RawDocument>, i64)> {
        let cursor = self.document().get_document("cursor").ok()?;
        let batch = cursor.get_array("firstBatch").ok()?;
        let documents = batch.into_iter().map(|value| value.ok()?.as_document()).collect::<Option<Vec<_>>>()?;
        Some((documents, integer(cursor, "id").unwrap_or(0)))
    }
}

/// The error in `document`, or `None` if it says `ok`.
#[must_use]
pub fn server_error(document: &RawDocument) -> Option<ServerError> {
    let text = |name: &str| document.get_str(name).ok().map(shortened);
    // The form of `OP_REPLY` for a failed query.
    let query_error = text("$err");
    if query_error.is_none() && is_ok(document) {
        return None;
    }
    let message = text("errmsg").or(query_error).unwrap_or_default();
    let wait = integer(document, "retryAfterMS").or_else(|| retry_after(&message)).and_then(|ms| u64::try_from(ms).ok());
    Some(ServerError {
        code: integer(document, "code").unwrap_or(0),
        name: text("codeName").unwrap_or_default(),
        message,
        wait: wait.map(Duration::from_millis),
    })
}

/// `ok` is a double in MongoDB; other servers send an integer or true.
fn is_ok(document: &RawDocument) -> bool {
    match document.get("ok") {
        Ok(Some(RawBsonRef::Double(ok))) => ok == 1.0,
        Ok(Some(RawBsonRef::Int32(ok))) => ok == 1,
        Ok(Some(RawBsonRef::Int64(ok))) => ok == 1,
        Ok(Some(RawBsonRef::Boolean(ok))) => ok,
        _ => false,
    }
}

/// A whole number of any of the types that servers use.
#[must_use]
pub fn integer(document: &RawDocument, name: &str) -> Option<i64> {
    match document.get(name) {
        Ok(Some(RawBsonRef::Int32(number))) => Some(i64::from(number)),
        Ok(Some(RawBsonRef::Int64(number))) => Some(number),
        Ok(Some(RawBsonRef::Double(number))) if number.fract() == 0.0 && number.abs() < 9e15 => Some(number as i64),
        _ => None,
    }
}

/// `RetryAfterMs=34` in a message of Azure Cosmos DB (Microsoft, "Prevent rate-limiting errors for Azure Cosmos DB for MongoDB").
fn retry_after(message: &str) -> Option<i64> {
    let (_, rest) = message.split_once("RetryAfterMs=")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    redact::scrub_and_cut(text, MAX_MESSAGE_CHARS).chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn every_form_of_success_and_failure_is_read() {
        for ok in [rawdoc! {"ok": 1.0}, rawdoc! {"ok": 1}, rawdoc! {"ok": 1_i64}, rawdoc! {"ok": true}] {
            assert_eq!(server_error(&ok), None);
        }
        let error = server_error(&rawdoc! {"ok": 0.0, "errmsg": "no", "code": 13, "codeName": "Unauthorized"}).unwrap();
        assert_eq!(error.to_string(), "13 Unauthorized: no");
        assert_eq!(server_error(&rawdoc! {"$err": "old", "code": 10320_i64}).unwrap().code, 10320);
        assert_eq!(server_error(&rawdoc! {}).unwrap(), ServerError::default());
        let message = "Error=16500, RetryAfterMs=34, Details='Response status code does not indicate success'";
        let error = server_error(&rawdoc! {"ok": 0.0, "errmsg": message, "code": 16500}).unwrap();
        assert_eq!(error.wait, Some(Duration::from_millis(34)));
    }
}
