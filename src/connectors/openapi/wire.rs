//! The seam between this engine and the egress layer.

use crate::egress::{HttpRequest, HttpResponse, Session, Traffic};
use crate::model::Failure;
use futures_util::future::BoxFuture;

/// Sends requests. In the daemon it is the [`Session`] with all its guards.
pub trait Wire: Send + Sync {
    /// As [`Session::http`].
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>>;

    /// As [`Session::traffic`].
    fn traffic(&self) -> Traffic;
}

impl Wire for Session {
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        Box::pin(Session::http(self, request))
    }

    fn traffic(&self) -> Traffic {
        Session::traffic(self)
    }
}
