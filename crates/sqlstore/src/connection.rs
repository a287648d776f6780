//! A connection to either database, and its transactions.

use crate::postgres::{BeginMode, Notification, PostgresOptions, Session};
use crate::rows::Row;
use crate::statement::{Statement, values};
use crate::{Error, Params, Result};
use std::ops::Deref;
use std::sync::mpsc;

/// A SQLite connection or a PostgreSQL session.
pub struct Connection {
    store: Store,
}

enum Store {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
}

impl From<rusqlite::Connection> for Connection {
    fn from(db: rusqlite::Connection) -> Connection {
        Connection::sqlite(db)
    }
}

impl Connection {
    /// Uses a connection of SQLite.
    #[must_use]
    pub fn sqlite(db: rusqlite::Connection) -> Connection {
        Connection { store: Store::Sqlite(db) }
    }

    /// Opens a session of PostgreSQL: at the first of the hosts that answers and that accepts writes, if the options want that.
    ///
    /// # Errors
    /// What each host answered. [`Error::is_connection_lost`] says whether another attempt may succeed.
    pub fn postgres(options: PostgresOptions) -> Result<Connection> {
        Ok(Connection { store: Store::Postgres(Box::new(Session::open(options)?)) })
    }

    /// Whether this is a session of PostgreSQL.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.store, Store::Postgres(_))
    }

    /// The connection of SQLite, for what only SQLite has.
    #[must_use]
    pub fn as_sqlite(&self) -> Option<&rusqlite::Connection> {
        match &self.store {
            Store::Sqlite(db) => Some(db),
            Store::Postgres(_) => None,
        }
    }

    /// As [`Connection::as_sqlite`].
    #[must_use]
    pub fn as_sqlite_mut(&mut self) -> Option<&mut rusqlite::Connection> {
        match &mut self.store {
            Store::Sqlite(db) => Some(db),
            Store::Postgres(_) => None,
        }
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// If SQLite does not understand the statement. PostgreSQL says so when the statement is first used.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        match &self.store {
            Store::Sqlite(db) => Ok(Statement::sqlite(db.prepare(sql)?)),
            Store::Postgres(session) => Ok(Statement::postgres(session, sql)),
        }
    }

    /// As [`Connection::prepare`], and keeps the statement for the next time. A session of PostgreSQL keeps all statements, up to
    /// a limit.
    ///
    /// # Errors
    /// As [`Connection::prepare`].
    pub fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        match &self.store {
            Store::Sqlite(db) => Ok(Statement::sqlite_cached(db.prepare_cached(sql)?)),
            Store::Postgres(session) => Ok(Statement::postgres(session, sql)),
        }
    }

    /// Runs a query and passes its first row to `read`.
    ///
    /// # Errors
    /// As [`Statement::query_row`].
    pub fn query_row<T>(&self, sql: &str, params: impl Params, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        self.prepare(sql)?.query_row(params, read)
    }

    /// Runs a statement that returns no rows. Returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Statement::execute`].
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.prepare(sql)?.execute(params)
    }

    /// Runs a statement without waiting for its answer, if this is PostgreSQL and a transaction is open. Its error is returned by
    /// the next call that waits, at the latest by [`Connection::commit`], which then rolls back. Otherwise as
    /// [`Connection::execute`]. At most 256 statements are under way; the next one waits for the first of them.
    ///
    /// # Errors
    /// As [`Statement::execute`].
    pub fn execute_later(&self, sql: &str, params: impl Params) -> Result<()> {
        match &self.store {
            Store::Sqlite(db) => Statement::sqlite_cached(db.prepare_cached(sql)?).execute(params).map(drop),
            Store::Postgres(session) => session.execute_later(&sql.into(), values(params)?),
        }
    }

    /// Runs several statements without parameters. On PostgreSQL they must not begin or end a transaction.
    ///
    /// # Errors
    /// The first error of a statement.
    pub fn execute_batch(&self, sql: &str) -> Result<()> {
        match &self.store {
            Store::Sqlite(db) => Ok(db.execute_batch(sql)?),
            Store::Postgres(session) => session.batch(sql),
        }
    }

    /// Begins a transaction with the default settings of the database. It is rolled back if it is not committed.
    ///
    /// # Errors
    /// If a transaction is open already, or if the database cannot begin one.
    pub fn unchecked_transaction(&self) -> Result<Transaction<'_>> {
        self.begin("BEGIN DEFERRED", BeginMode::ReadCommitted)?;
        Ok(Transaction { connection: self, is_open: true })
    }

    /// Begins a transaction whose statements all see the database as it is at the first of them. On PostgreSQL it cannot write.
    ///
    /// # Errors
    /// As [`Connection::unchecked_transaction`].
    pub fn read_transaction(&self) -> Result<Transaction<'_>> {
        self.begin("BEGIN DEFERRED", BeginMode::ReadOnly)?;
        Ok(Transaction { connection: self, is_open: true })
    }

    /// Begins a transaction that writes: `BEGIN IMMEDIATE` on SQLite, `READ COMMITTED` on PostgreSQL.
    ///
    /// # Errors
    /// As [`Connection::unchecked_transaction`].
    pub fn begin_write(&self) -> Result<()> {
        self.begin("BEGIN IMMEDIATE", BeginMode::ReadCommitted)
    }

    fn begin(&self, sqlite: &str, postgres: BeginMode) -> Result<()> {
        match &self.store {
            Store::Sqlite(db) => Ok(db.execute_batch(sqlite)?),
            Store::Postgres(session) => session.begin(postgres),
        }
    }

    /// Commits the transaction. After an error it is rolled back, unless [`Error::is_commit_unknown`].
    ///
    /// # Errors
    /// If no transaction is open, if one of its statements failed on PostgreSQL, or if the database cannot commit.
    pub fn commit(&self) -> Result<()> {
        match &self.store {
            Store::Sqlite(db) => db.execute_batch("COMMIT").map_err(|error| {
                let _ = self.rollback();
                error.into()
            }),
            Store::Postgres(session) => session.commit(),
        }
    }

    /// Rolls the transaction back, if one is open.
    ///
    /// # Errors
    /// If the database cannot do that. A lost session is rolled back by the server.
    pub fn rollback(&self) -> Result<()> {
        match &self.store {
            Store::Sqlite(db) if db.is_autocommit() => Ok(()),
            Store::Sqlite(db) => Ok(db.execute_batch("ROLLBACK")?),
            Store::Postgres(session) => session.rollback(),
        }
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        match &self.store {
            Store::Sqlite(db) => !db.is_autocommit(),
            Store::Postgres(session) => session.is_in_transaction(),
        }
    }

    /// The number that the last inserted row got: the `rowid` of SQLite, or the last value that a sequence of PostgreSQL gave to
    /// this session.
    ///
    /// # Errors
    /// If a sequence has not given a value to this session of PostgreSQL yet.
    pub fn last_insert_id(&self) -> Result<i64> {
        match &self.store {
            Store::Sqlite(db) => Ok(db.last_insert_rowid()),
            Store::Postgres(_) => self.query_row("SELECT lastval()", [], |row| row.get(0)),
        }
    }

    /// Whether the session of PostgreSQL ended. Every call then returns an error until [`Connection::reconnect`] succeeds.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &self.store {
            Store::Sqlite(_) => false,
            Store::Postgres(session) => session.is_lost(),
        }
    }

    /// Ends the session of PostgreSQL and opens one with `options`, which may have a new password. What the old one listened to is
    /// forgotten. Does nothing on SQLite.
    ///
    /// # Errors
    /// As [`Connection::postgres`]. The old session has ended then, too.
    pub fn reconnect(&mut self, options: PostgresOptions) -> Result<()> {
        match &mut self.store {
            Store::Sqlite(_) => Ok(()),
            Store::Postgres(session) => session.reconnect(options),
        }
    }

    /// Asks PostgreSQL to send the notifications of `channel` to this session.
    ///
    /// # Errors
    /// [`Error::State`] on SQLite, which does not have notifications.
    pub fn listen(&self, channel: &str) -> Result<()> {
        match &self.store {
            Store::Sqlite(_) => Err(no_notifications()),
            Store::Postgres(session) => session.listen(channel),
        }
    }

    /// What receives the notifications of this session. It ends when the session is lost. If 1024 notifications wait to be
    /// received, further ones are dropped.
    ///
    /// # Errors
    /// [`Error::State`] on SQLite, and if it was taken before.
    pub fn notifications(&self) -> Result<mpsc::Receiver<Notification>> {
        match &self.store {
            Store::Sqlite(_) => Err(no_notifications()),
            Store::Postgres(session) => session.notifications(),
        }
    }

    /// Sends a notification to the sessions that listen to `channel`, when the transaction is committed. Does nothing on SQLite.
    ///
    /// # Errors
    /// If `payload` has more than 7999 bytes, or if the session is lost.
    pub fn notify(&self, channel: &str, payload: &str) -> Result<()> {
        match &self.store {
            Store::Sqlite(_) => Ok(()),
            Store::Postgres(_) => self.query_row("SELECT pg_notify(?1, ?2)", [channel, payload], |_| Ok(())),
        }
    }
}

fn no_notifications() -> Error {
    Error::State("SQLite does not have notifications".to_string())
}

/// An open transaction. It is rolled back when it is dropped, unless [`Transaction::commit`] ended it.
pub struct Transaction<'conn> {
    connection: &'conn Connection,
    is_open: bool,
}

impl Transaction<'_> {
    /// Commits the transaction.
    ///
    /// # Errors
    /// As [`Connection::commit`].
    pub fn commit(mut self) -> Result<()> {
        self.is_open = false;
        self.connection.commit()
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    /// As [`Connection::rollback`].
    pub fn rollback(mut self) -> Result<()> {
        self.is_open = false;
        self.connection.rollback()
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let _ = self.connection.rollback();
        }
    }
}
