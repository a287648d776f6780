//! The side of a session that callers have.

use super::connect::Reports;
use super::failure::lost;
use super::fate::Fate;
use super::in_flight::InFlight;
use super::request::{Call, Chunk, Reply, Request};
use super::{BeginMode, Notification, PostgresOptions, serve};
use crate::{Error, PostgresError, Result, Value, dialect};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_postgres::Row;

/// The maximum number of notifications that wait to be received.
const MAX_NOTIFICATIONS: usize = 1024;

/// A session of PostgreSQL. Its thread ends with it.
pub(crate) struct Session {
    options: PostgresOptions,
    requests: UnboundedSender<Request>,
    fate: Arc<Fate>,
    kill: Arc<Notify>,
    notifications: RefCell<Option<mpsc::Receiver<Notification>>>,
    in_flight: Arc<InFlight>,
    is_in_transaction: Cell<bool>,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// What each server answered.
    pub(crate) fn open(options: PostgresOptions) -> Result<Session> {
        let (requests, inbox) = unbounded_channel();
        let (notify, notifications) = sync_channel(MAX_NOTIFICATIONS);
        let (started, ready) = sync_channel(1);
        let (fate, kill) = (Arc::new(Fate::default()), Arc::new(Notify::new()));
        let reports = Reports { fate: Arc::clone(&fate), notifications: notify };
        let (of_thread, killed) = (options.clone(), Arc::clone(&kill));
        let spawned = std::thread::Builder::new().name("postgres".to_string()).spawn(move || {
            serve::run(&of_thread, &reports, &killed, inbox, &started);
        });
        spawned.map_err(|error| lost(format!("could not start a thread for a session of PostgreSQL: {error}")))?;
        let session = Session {
            requests,
            fate,
            kill,
            notifications: RefCell::new(Some(notifications)),
            in_flight: Arc::default(),
            is_in_transaction: Cell::new(false),
            options,
        };
        let servers = u32::try_from(session.options.hosts.len()).unwrap_or(u32::MAX);
        let limit = session.options.connect_timeout.saturating_mul(servers).saturating_add(session.options.answer_timeout);
        session.wait(&ready, limit)?;
        Ok(session)
    }

    pub(crate) fn reconnect(&mut self, options: PostgresOptions) -> Result<()> {
        self.give_up(lost("it is opened anew"));
        *self = Session::open(options)?;
        Ok(())
    }

    pub(crate) fn query(&self, sql: &Arc<str>, params: Vec<Value>) -> Result<PostgresRows<'_>> {
        let call = Call { sql: Arc::clone(sql), params };
        let chunk = self.call(|reply| Request::Query { call, reply })?;
        Ok(PostgresRows { session: self, result: chunk.result, rows: chunk.rows.into_iter(), has_more: chunk.has_more })
    }

    pub(crate) fn query_row(&self, sql: &Arc<str>, params: Vec<Value>) -> Result<Option<Row>> {
        let call = Call { sql: Arc::clone(sql), params };
        self.call(|reply| Request::FirstRow { call, reply })
    }

    pub(crate) fn execute(&self, sql: &Arc<str>, params: Vec<Value>) -> Result<usize> {
        let call = Call { sql: Arc::clone(sql), params };
        let changed = self.call(|reply| Request::Execute { call, reply })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(crate) fn execute_later(&self, sql: &Arc<str>, params: Vec<Value>) -> Result<()> {
        if !self.is_in_transaction.get() {
            return self.execute(sql, params).map(drop);
        }
        if let Some(error) = self.fate.ended() {
            return Err(error.into());
        }
        let Some(permit) = self.in_flight.admit(self.options.answer_timeout) else {
            return Err(self.too_late(self.options.answer_timeout).into());
        };
        let call = Call { sql: Arc::clone(sql), params };
        self.send(Request::ExecuteLater { call, permit })
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        let sql = sql.to_string();
        self.call(|reply| Request::Batch { sql, reply })
    }

    pub(crate) fn begin(&self, mode: BeginMode) -> Result<()> {
        self.call(|reply| Request::Begin { mode, reply })?;
        self.is_in_transaction.set(true);
        Ok(())
    }

    pub(crate) fn commit(&self) -> Result<()> {
        self.is_in_transaction.set(false);
        if let Some(error) = self.fate.ended() {
            return Err(error.into());
        }
        self.call(|reply| Request::Commit { reply }).map_err(|error| match error {
            Error::Postgres(error) if error.connection_lost => PostgresError { commit_unknown: true, ..error }.into(),
            other => other,
        })
    }

    pub(crate) fn rollback(&self) -> Result<()> {
        if !self.is_in_transaction.replace(false) || self.is_lost() {
            // The server rolls back a transaction whose session ended.
            return Ok(());
        }
        self.call(|reply| Request::Rollback { reply: Some(reply) })
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.is_in_transaction.get()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.fate.ended().is_some() || self.requests.is_closed()
    }

    pub(crate) fn listen(&self, channel: &str) -> Result<()> {
        self.batch(&format!("LISTEN {}", dialect::quoted(channel)))
    }

    pub(crate) fn notifications(&self) -> Result<mpsc::Receiver<Notification>> {
        let taken = self.notifications.borrow_mut().take();
        taken.ok_or_else(|| Error::State("the notifications of this session are received already".to_string()))
    }

    fn send(&self, request: Request) -> Result<()> {
        self.requests.send(request).map_err(|_| self.fate.certainly_ended().into())
    }

    /// Sends a request and waits for its answer.
    fn call<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        if let Some(error) = self.fate.ended() {
            return Err(error.into());
        }
        let (reply, answer) = sync_channel(1);
        self.send(request(reply))?;
        self.wait(&answer, self.options.answer_timeout)
    }

    fn wait<T>(&self, answer: &mpsc::Receiver<Result<T>>, limit: Duration) -> Result<T> {
        let error = match answer.recv_timeout(limit) {
            // A request that was waiting when the session ended only learns that it ended. Why is known before that.
            Ok(Err(Error::Postgres(error))) if error.connection_lost && error.sqlstate.is_none() => {
                self.fate.ended().unwrap_or(error)
            }
            Ok(Err(Error::Postgres(error))) if error.connection_lost => error,
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(self.fate.certainly_ended().into()),
            Err(RecvTimeoutError::Timeout) => self.too_late(limit),
        };
        self.give_up(error.clone());
        Err(error.into())
    }

    fn too_late(&self, limit: Duration) -> PostgresError {
        let error = lost(format!("PostgreSQL did not answer within {} s", limit.as_secs_f64()));
        self.give_up(error.clone());
        error
    }

    /// Ends the thread of the session, which closes the connection.
    fn give_up(&self, why: PostgresError) {
        self.fate.end(why);
        self.kill.notify_one();
    }
}

/// The rows of a query. The server keeps those that were not read yet.
pub(crate) struct PostgresRows<'a> {
    session: &'a Session,
    result: u64,
    rows: std::vec::IntoIter<Row>,
    has_more: bool,
}

impl PostgresRows<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            if !self.has_more {
                return Ok(None);
            }
            self.has_more = false;
            let result = self.result;
            let Chunk { rows, has_more, .. } = self.session.call(|reply| Request::More { result, reply })?;
            (self.rows, self.has_more) = (rows.into_iter(), has_more);
        }
    }
}

impl Drop for PostgresRows<'_> {
    fn drop(&mut self) {
        if self.has_more {
            let _ = self.session.send(Request::CloseRows { result: self.result });
        }
    }
}
