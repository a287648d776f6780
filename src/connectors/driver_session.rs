//! The part of the egress layer that drivers with a protocol of their own use: the engines `sql` and `mongo`.
//!
//! In production this is the [`Session`] of the attempt. A test with its own server on loopback implements it with
//! plain address resolution. A driver asks for an address and reports how the connection ended; the data itself
//! does not pass through here.

use crate::egress::{AdmittedConnection, ConnectionTarget, DriverStatement, ServiceRecords, Session, Traffic};
use crate::memory_budget::AttemptMemory;
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether `rest`, the part of a connection string after `://` with an @, may hold a password. Without a colon in `USER@HOST` it is a
/// user only; an @ in another place can be part of a password that was not percent-encoded.
pub(super) fn has_password(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').is_none_or(|(user, _)| user.contains(':'))
}

/// A server that a driver connects to. It is displayed in messages.
pub trait DriverServer: Display {
    /// The name of the protocol in logs and evidence.
    fn protocol(&self) -> &'static str;
    /// The host. An IPv6 address has no brackets here.
    fn host(&self) -> &str;
    fn port(&self) -> u16;

    /// The port of the protocol. Records of calls leave it out.
    fn default_port(&self) -> u16;

    /// The name of the database; empty if a connection is to the server as a whole.
    fn database(&self) -> &str {
        ""
    }
}

/// The part of a [`Session`] that a driver uses.
pub trait DriverSession: Send + Sync {
    /// See [`Session::admit`].
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<AdmittedConnection, Failure>>;

    /// See [`Session::service_records`].
    fn service_records<'a>(&'a self, service: &'a str, host: &'a str) -> BoxFuture<'a, Result<ServiceRecords, Failure>>;

    /// See [`Session::settle`].
    fn settle(&self, wire: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>);

    /// See [`Session::settle_connection`].
    fn settle_connection(
        &self,
        wire: &str,
        target: &ConnectionTarget<'_>,
        bytes: u64,
        took: Duration,
        failure: Option<&Failure>,
    ) {
        self.settle(wire, target.host, bytes, took, failure);
    }

    /// See [`Session::statement_begins`].
    fn statement_begins(&self, _wire: &str, _target: &ConnectionTarget<'_>, _text: &str) {}

    /// See [`Session::statement`].
    fn statement(&self, _statement: &DriverStatement<'_>) {}

    /// See [`Session::local`].
    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// See [`Session::local_ended`].
    fn local_ended(&self, _path: &str, _bytes: u64, _took: Duration, _error: &str) {}

    /// See [`Session::traffic`].
    fn traffic(&self) -> Traffic;

    /// See [`Session::memory`].
    fn memory(&self) -> Arc<AttemptMemory> {
        AttemptMemory::alone()
    }
}

impl DriverSession for Session {
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<AdmittedConnection, Failure>> {
        Box::pin(Session::admit(self, host, port))
    }

    fn service_records<'a>(&'a self, service: &'a str, host: &'a str) -> BoxFuture<'a, Result<ServiceRecords, Failure>> {
        Box::pin(Session::service_records(self, service, host))
    }

    fn settle(&self, wire: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>) {
        Session::settle(self, wire, host, bytes, took, failure);
    }

    fn settle_connection(
        &self,
        wire: &str,
        target: &ConnectionTarget<'_>,
        bytes: u64,
        took: Duration,
        failure: Option<&Failure>,
    ) {
        Session::settle_connection(self, wire, target, bytes, took, failure);
    }

    fn statement_begins(&self, wire: &str, target: &ConnectionTarget<'_>, text: &str) {
        Session::statement_begins(self, wire, target, text);
    }

    fn statement(&self, statement: &DriverStatement<'_>) {
        Session::statement(self, statement);
    }

    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(Session::local(self, path))
    }

    fn local_ended(&self, path: &str, bytes: u64, took: Duration, error: &str) {
        Session::local_ended(self, path, bytes, took, error);
    }

    fn traffic(&self) -> Traffic {
        Session::traffic(self)
    }

    fn memory(&self) -> Arc<AttemptMemory> {
        Arc::clone(Session::memory(self))
    }
}

/// One read of a local file. When it is dropped, it is recorded exactly once, even if the attempt is cancelled.
pub struct LocalRead<'s> {
    session: &'s dyn DriverSession,
    path: &'s str,
    started: Instant,
    bytes: u64,
    error: &'static str,
}

impl<'s> LocalRead<'s> {
    /// Takes one call from the budgets for the file at `path`.
    ///
    /// # Errors
    /// Same as [`DriverSession::local`].
    pub async fn begin(session: &'s dyn DriverSession, path: &'s str) -> Result<LocalRead<'s>, Failure> {
        session.local(path).await?;
        Ok(LocalRead { session, path, started: Instant::now(), bytes: 0, error: "abandoned" })
    }

    /// Records how the read of `bytes` bytes ended, and returns that.
    ///
    /// # Errors
    /// The failure of `outcome`.
    pub fn ended<T>(mut self, bytes: u64, outcome: Result<T, Failure>) -> Result<T, Failure> {
        self.bytes = bytes;
        self.error = outcome.as_ref().err().map_or("", |failure| failure.class.as_str());
        outcome
    }
}

impl Drop for LocalRead<'_> {
    fn drop(&mut self) {
        self.session.local_ended(self.path, self.bytes, self.started.elapsed(), self.error);
    }
}

/// A [`ConnectionTarget`] that owns its texts.
#[derive(Clone, Debug)]
struct OwnedTarget {
    host: String,
    port: Option<u16>,
    database: String,
}

impl OwnedTarget {
    fn new(server: &impl DriverServer) -> OwnedTarget {
        let port = Some(server.port()).filter(|port| *port != server.default_port());
        OwnedTarget { host: server.host().to_string(), port, database: server.database().to_string() }
    }

    fn as_target(&self) -> ConnectionTarget<'_> {
        ConnectionTarget { host: &self.host, port: self.port, database: &self.database }
    }
}

/// One admitted connection. When it is dropped, it reports its bytes and its last failure exactly once, even if the attempt
/// is cancelled during the login.
pub struct Call {
    session: Arc<dyn DriverSession>,
    admitted: AdmittedConnection,
    wire: &'static str,
    target: OwnedTarget,
    started: Instant,
    bytes: Arc<AtomicU64>,
    last: Mutex<Option<Failure>>,
    /// What is reported if the attempt ends while the server has not answered.
    unfinished: Failure,
}

impl Call {
    /// Asks the session for the address of `server`.
    ///
    /// # Errors
    /// Same as [`DriverSession::admit`].
    pub async fn admit(session: &Arc<dyn DriverSession>, server: &impl DriverServer) -> Result<Call, Failure> {
        let admitted = session.admit(server.host(), server.port()).await?;
        let unfinished = Failure::new(Class::Network, format!("{server}: the attempt ended before the server answered"), "");
        Ok(Call {
            session: Arc::clone(session),
            admitted,
            wire: server.protocol(),
            target: OwnedTarget::new(server),
            started: Instant::now(),
            bytes: Arc::new(AtomicU64::new(0)),
            last: Mutex::new(Some(unfinished.clone())),
            unfinished,
        })
    }

    /// The address that passed the guard.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.admitted.address
    }

    /// The memory of the attempt.
    #[must_use]
    pub fn memory(&self) -> Arc<AttemptMemory> {
        self.session.memory()
    }

    /// The byte counter of this connection.
    #[must_use]
    pub fn bytes(&self) -> &Arc<AtomicU64> {
        &self.bytes
    }

    /// Begins an exchange with the server. If the attempt is cancelled before [`Call::note`], for example by the timeout of a
    /// step, the exchange counts as one that the server did not answer.
    pub fn begin(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.unfinished.clone());
    }

    /// Remembers a failure before the first exchange, and returns `outcome`. A success says nothing about the server yet.
    ///
    /// # Errors
    /// The failure of `outcome`.
    pub fn note_failure<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if outcome.is_err() { self.note(outcome) } else { outcome }
    }

    /// Remembers how the latest exchange ended, and returns it.
    pub fn note<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().cloned();
        outcome
    }

    /// Begins a statement, which is logged now and recorded when the result is dropped. `text` has no values.
    pub fn statement(&self, text: String) -> StatementInFlight {
        self.session.statement_begins(self.wire, &self.target.as_target(), &text);
        StatementInFlight {
            session: Arc::clone(&self.session),
            wire: self.wire,
            target: self.target.clone(),
            text,
            started: Instant::now(),
            bytes: Arc::clone(&self.bytes),
            before: self.bytes.load(Ordering::Relaxed),
            error: "abandoned",
        }
    }

    /// The traffic that the session has counted, plus the bytes of this connection that have not been reported to it yet.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let counted = self.session.traffic();
        Traffic { bytes: counted.bytes.saturating_add(self.bytes.load(Ordering::Relaxed)), ..counted }
    }
}

/// A statement that was sent. When it is dropped, it is recorded exactly once, even if the attempt is cancelled.
pub struct StatementInFlight {
    session: Arc<dyn DriverSession>,
    wire: &'static str,
    target: OwnedTarget,
    text: String,
    started: Instant,
    bytes: Arc<AtomicU64>,
    /// The bytes of the connection before the statement.
    before: u64,
    error: &'static str,
}

impl StatementInFlight {
    /// Records that the statement has ended, with the class of its failure or an empty string.
    pub fn ended(mut self, error: &'static str) {
        self.error = error;
    }
}

impl Drop for StatementInFlight {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed).saturating_sub(self.before);
        self.session.statement(&DriverStatement {
            protocol: self.wire,
            target: self.target.as_target(),
            text: &self.text,
            bytes,
            took: self.started.elapsed(),
            error: self.error,
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (target, bytes) = (self.target.as_target(), self.bytes.load(Ordering::Relaxed));
        self.session.settle_connection(self.wire, &target, bytes, self.started.elapsed(), last.as_ref());
    }
}
