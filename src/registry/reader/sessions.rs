//! The connections with which a [`Reader`] reads: a small pool for short reads, and sessions of their own for long ones.

use super::super::{Location, PostgresLocation, RegistryError, database, postgres_schema};
use super::{Reader, connect_sqlite};
use sqlstore::{Connection, PostgresOptions};
use std::cell::Cell;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// The number of idle connections that the pool keeps.
const MAX_IDLE: usize = 4;
/// How long a read that recomputes or copies the whole registry waits for an answer of PostgreSQL. A server that is not there any
/// more is noticed much earlier.
const LONG_ANSWER: Duration = Duration::from_secs(86_400);
/// How long such a read may work on what it has read before it asks for more.
const LONG_PAUSE: Duration = Duration::from_secs(600);
/// How much later than the server itself this process gives up an answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

impl Reader {
    /// Runs `read` on a connection of the pool. If its session ended while it was idle, for example because the primary failed,
    /// `read` is repeated on a new one.
    pub(in super::super) fn with<T>(
        &self,
        read: impl FnMut(&Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.repeat(&Cell::new(false), read)
    }

    /// As [`Reader::with`], for a read that passes what it finds to `take`, until that returns false. It is not repeated after it
    /// has passed something.
    pub(in super::super) fn with_taker<T, I>(
        &self,
        mut take: impl FnMut(I) -> bool,
        mut read: impl FnMut(&Connection, &mut dyn FnMut(I) -> bool) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let is_final = Cell::new(false);
        let mut noted = |item| {
            is_final.set(true);
            take(item)
        };
        self.repeat(&is_final, |db| read(db, &mut noted))
    }

    /// Runs `read`, whose statements may take `limit`, or as long as they need: in a database on a session of its own, which has
    /// other limits than those of the pool. It is not repeated.
    pub(in super::super) fn with_long<T>(
        &self,
        limit: Option<Duration>,
        read: impl FnOnce(&Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        if let Some(place) = self.location.postgres() {
            return read(&connect_postgres(place, |options| allow_long(options, limit))?);
        }
        let db = match self.pooled() {
            Some(db) => db,
            None => self.connect()?,
        };
        let answer = read(&db);
        self.give_back(db);
        answer
    }

    /// Runs `read`, and once more on a new session if the one of the pool was lost before `is_final` was set.
    fn repeat<T>(
        &self,
        is_final: &Cell<bool>,
        mut read: impl FnMut(&Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        if let Some(db) = self.pooled() {
            let answer = read(&db);
            if answer.is_ok() || !db.is_lost() || is_final.get() {
                self.give_back(db);
                return answer;
            }
        }
        let db = self.connect()?;
        let answer = read(&db);
        self.give_back(db);
        answer
    }

    fn connect(&self) -> Result<Connection, RegistryError> {
        match self.location.postgres().filter(|_| self.is_patient) {
            Some(place) => connect_postgres(place, |options| allow_long(options, None)),
            None => connect(&self.location, self.earlier),
        }
    }

    /// A connection of the pool whose session has not ended.
    fn pooled(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(db) = idle.pop() {
            if !db.is_lost() {
                return Some(db);
            }
        }
        None
    }

    fn give_back(&self, db: Connection) {
        if db.is_lost() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(db);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the limits of a session for a long read. Zero means that the server has none.
fn allow_long(options: &mut PostgresOptions, limit: Option<Duration>) {
    options.statement_timeout = limit.unwrap_or(Duration::ZERO);
    options.answer_timeout = limit.map_or(LONG_ANSWER, |limit| limit.saturating_add(ANSWER_MARGIN)).min(LONG_ANSWER);
    options.idle_in_transaction_timeout = LONG_PAUSE;
}

/// Opens the registry at `location` for short reads.
pub(in super::super) fn connect(location: &Location, earlier: bool) -> Result<Connection, RegistryError> {
    match location.postgres() {
        None => Ok(connect_sqlite(location.local(), earlier)?.into()),
        Some(place) => connect_postgres(place, |_| ()),
    }
}

fn connect_postgres(place: &PostgresLocation, limit: impl FnOnce(&mut PostgresOptions)) -> Result<Connection, RegistryError> {
    let db = database::connect(place, |mut options| {
        options.application_name = "aam reader".to_string();
        limit(&mut options);
        options
    })?;
    db.execute_batch("SET default_transaction_read_only = on")?;
    postgres_schema::check_version(&db, place)?;
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_read_has_the_time_that_it_needs() {
        let usual = PostgresOptions::new("", 5432, "", "");
        let mut options = usual.clone();
        allow_long(&mut options, None);
        assert!(options.statement_timeout.is_zero() && options.answer_timeout == LONG_ANSWER);
        assert!(options.idle_in_transaction_timeout > usual.idle_in_transaction_timeout);
        assert_eq!(options.lock_timeout, usual.lock_timeout, "it still does not wait for ever for a table");
        // The server stops a statement that has a limit, and says so before the answer counts as lost.
        allow_long(&mut options, Some(Duration::from_secs(120)));
        assert_eq!((options.statement_timeout.as_secs(), options.answer_timeout.as_secs()), (120, 125));
        allow_long(&mut options, Some(Duration::MAX));
        assert_eq!(options.answer_timeout, LONG_ANSWER, "no instant is too far away");
    }
}
