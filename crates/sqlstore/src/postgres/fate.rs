//! Whether a session has ended, and why.

use super::failure::lost;
use crate::PostgresError;
use std::sync::{Mutex, PoisonError};

/// Why the session ended. The first reason stays.
#[derive(Debug, Default)]
pub(super) struct Fate(Mutex<Option<PostgresError>>);

impl Fate {
    /// Records why the session ended, if it has not ended yet.
    pub(super) fn end(&self, why: PostgresError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    /// The error for a call after the end, or `None` if the session goes on.
    pub(super) fn ended(&self) -> Option<PostgresError> {
        let why = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(PostgresError { message: format!("the connection to PostgreSQL was lost: {}", why.message), ..why })
    }

    /// As [`Fate::ended`], for a session whose thread has ended.
    pub(super) fn certainly_ended(&self) -> PostgresError {
        self.ended().unwrap_or_else(|| lost("the connection to PostgreSQL was closed"))
    }
}
