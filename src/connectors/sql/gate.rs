//! The seam between this engine and the way out.
//!
//! In production it is the [`Session`] of the attempt. A test that brings its own server on
//! loopback fills it with plain address resolution. It grants addresses and takes reports;
//! it carries no data, so it cannot simulate a source.

use super::uri::Server;
use crate::egress::{Admitted, Session, Traffic};
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the engine needs of the egress layer.
pub trait Gate: Send + Sync {
    /// As [`Session::admit`].
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Admitted, Failure>>;

    /// As [`Session::settle`].
    fn settle(&self, wire: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>);

    /// As [`Session::local`].
    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// As [`Session::traffic`].
    fn traffic(&self) -> Traffic;
}

impl Gate for Session {
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Admitted, Failure>> {
        Box::pin(Session::admit(self, host, port))
    }

    fn settle(&self, wire: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>) {
        Session::settle(self, wire, host, bytes, took, failure);
    }

    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(Session::local(self, path))
    }

    fn traffic(&self) -> Traffic {
        Session::traffic(self)
    }
}

/// One admitted connection. It is settled once, when it is dropped, with all its bytes and the
/// last failure, also when the attempt is cancelled in the middle of the login.
pub struct Call {
    gate: Arc<dyn Gate>,
    admitted: Admitted,
    wire: &'static str,
    host: String,
    started: Instant,
    bytes: Arc<AtomicU64>,
    last: Mutex<Option<Failure>>,
}

impl Call {
    /// Asks the gate for the address of `server`.
    ///
    /// # Errors
    /// The gate's.
    pub async fn admit(gate: &Arc<dyn Gate>, server: &Server) -> Result<Call, Failure> {
        let admitted = gate.admit(&server.host, server.port).await?;
        let unfinished = Failure::new(Class::Network, format!("{server}: the attempt ended before the server answered"), "");
        Ok(Call {
            gate: Arc::clone(gate),
            admitted,
            wire: server.wire.as_str(),
            host: server.host.clone(),
            started: Instant::now(),
            bytes: Arc::new(AtomicU64::new(0)),
            last: Mutex::new(Some(unfinished)),
        })
    }

    /// The address that passed the guard.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.admitted.address
    }

    /// The counter of this connection.
    #[must_use]
    pub fn bytes(&self) -> &Arc<AtomicU64> {
        &self.bytes
    }

    /// Remembers how the latest exchange ended, and hands it on.
    pub fn note<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().cloned();
        outcome
    }

    /// What the gate counted, and the bytes of this connection that it does not know yet.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let counted = self.gate.traffic();
        Traffic { calls: counted.calls, bytes: counted.bytes.saturating_add(self.bytes.load(Ordering::Relaxed)) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.gate.settle(self.wire, &self.host, self.bytes.load(Ordering::Relaxed), self.started.elapsed(), last.as_ref());
    }
}
