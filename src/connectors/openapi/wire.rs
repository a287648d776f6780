//! The part of the egress layer that this engine uses.

use crate::egress::{HttpRequest, HttpResponse, Session, Traffic};
use crate::memory_budget::AttemptMemory;
use crate::model::Failure;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Sends requests. In production this is the [`Session`] of the attempt; tests record the requests.
pub trait HttpTransport: Send + Sync {
    /// See [`Session::http`].
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>>;

    /// See [`Session::traffic`].
    fn traffic(&self) -> Traffic;

    /// See [`Session::memory`].
    fn memory(&self) -> Arc<AttemptMemory> {
        AttemptMemory::alone()
    }
}

impl HttpTransport for Session {
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        Box::pin(Session::http(self, request))
    }

    fn traffic(&self) -> Traffic {
        Session::traffic(self)
    }

    fn memory(&self) -> Arc<AttemptMemory> {
        Arc::clone(Session::memory(self))
    }
}
