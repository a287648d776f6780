//! The short way for answers that are kept: the same checks as the router's, without its boxes.

use super::app::App;
use super::auth;
use super::request::JSON;
use super::routes::SECURITY;
use crate::policy::TokenScope;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use bytes::Bytes;
use http_body_util::Full;

/// A kept answer that this caller may see. `None` sends the request through the router, which makes
/// the answer or says what is wrong: nothing is refused here.
#[must_use]
pub fn kept<B>(app: &App, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    if request.method() != Method::GET {
        return None;
    }
    let target = request.uri().path_and_query()?.as_str();
    let (namespace, body) = app.cache.with_namespace(target, &app.version())?;
    let policy = app.handle.policy();
    let caller = auth::caller(&policy, app.admin(&policy), request.headers(), false).ok()?;
    // Every route whose answers are kept needs this scope.
    caller.require_scope(TokenScope::RegistryRead).ok()?;
    if !caller.may_see(&namespace) {
        return None;
    }
    tracing::debug!(target: "aam::http", method = "GET", path = request.uri().path(), status = 200, "answered from what is kept");
    let mut response = Response::new(Full::new(body));
    let mut headers = HeaderMap::with_capacity(SECURITY.len() + 3);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    *response.headers_mut() = headers;
    Some(response)
}
