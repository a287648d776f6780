//! The stored answers to requests with an idempotency key. They are working state beside the ledger.

use super::writer::Writer;
use super::{Reader, RegistryError};
use crate::model::{Digest, Timestamp};
use sqlstore::{OptionalExtension, params};

/// How long an answer is stored.
const MAX_AGE_MS: i64 = 24 * 3600 * 1000;
/// The number of answers of one caller that are stored. The oldest are deleted first.
const MAX_ANSWERS: usize = 1000;
/// The number of bytes of the bodies of one caller's answers.
const MAX_BYTES: usize = 64 << 20;

/// Whose key it is: the caller with its rights, and the key that it chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    pub caller: Digest,
    pub key: String,
}

/// An answer that is given again to the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The digest of the request.
    pub request: Digest,
    /// The HTTP status.
    pub status: u16,
    /// The response headers as a JSON object.
    pub headers: String,
    /// Compressed with gzip.
    pub body: Vec<u8>,
}

impl Reader {
    /// Returns the answer that is stored under `key` and is not older than a day at `now`.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn stored_answer(&self, key: &AnswerKey, now: Timestamp) -> Result<Option<StoredAnswer>, RegistryError> {
        self.with(|db| {
            let sql = "SELECT request, status, headers, body FROM idempotency_keys WHERE caller = ?1 AND key = ?2 AND at > ?3";
            let mut statement = db.prepare_cached(sql)?;
            let row = statement.query_row(params![key.caller.0, key.key, now.0.saturating_sub(MAX_AGE_MS)], |row| {
                Ok(StoredAnswer { request: Digest(row.get(0)?), status: row.get(1)?, headers: row.get(2)?, body: row.get(3)? })
            });
            Ok(row.optional()?)
        })
    }
}

impl Writer {
    /// Stores an answer, unless the key has one, and deletes those that are too old or too many.
    pub(super) fn store_answer(&mut self, key: &AnswerKey, answer: &StoredAnswer) -> Result<(), RegistryError> {
        let now = self.now();
        let db = &self.db;
        db.prepare_cached("DELETE FROM idempotency_keys WHERE at <= ?1")?.execute([now.0.saturating_sub(MAX_AGE_MS)])?;
        // Two replicas may have done a request with the same key at the same time. The first answer stays, and the other commands
        // of this transaction are not lost because of it.
        db.prepare_cached(
            "INSERT INTO idempotency_keys (caller, key, at, request, status, headers, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (caller, key) DO NOTHING",
        )?
        .execute(params![key.caller.0, key.key, now.0, answer.request.0, answer.status, answer.headers, answer.body])?;
        db.prepare_cached(
            "DELETE FROM idempotency_keys WHERE rowid IN (
               SELECT id FROM (
                 SELECT rowid AS id, row_number() OVER newest AS place, sum(length(body)) OVER newest AS bytes
                 FROM idempotency_keys WHERE caller = ?1
                 WINDOW newest AS (ORDER BY at DESC, rowid DESC)
               ) AS ranked WHERE place > ?2 OR bytes > ?3 AND place > 1
             )",
        )?
        .execute(params![key.caller.0, MAX_ANSWERS, MAX_BYTES])?;
        Ok(())
    }
}
