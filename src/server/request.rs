//! A request that has been checked against the route table, and helpers with which handlers build responses.

use super::app::{App, CachedAnswer};
use super::auth::Caller;
use super::connections::ClientConnection;
use super::prefer::WaitPreference;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::query::QueryParams;
use super::representation::Rendered;
use super::routes::Route;
use super::session::{SignedIn, check_csrf};
use super::target::PathPrefix;
use crate::intake::Format;
use crate::model::ConnectionId;
use crate::model::text::printable_json;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;

/// The size up to which a body is small. Small bodies never wait for large ones.
const SMALL_BODY_BYTES: usize = 1 << 20;

/// The maximum size of a form.
const MAX_FORM_BYTES: usize = 64 << 10;

/// A body that is counted until it is dropped.
struct CountedBody {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The result of a handler.
pub type ApiResult = Result<Response, ApiProblem>;

/// The media type of most responses.
pub const JSON: &str = "application/json";

/// A request with a known route, a valid token and a valid query.
pub struct ApiRequest {
    pub app: Arc<App>,
    /// The connection that the request came on.
    pub client: Arc<ClientConnection>,
    /// The authenticated caller, or `None` on routes that do not need a token.
    pub caller: Option<Caller>,
    /// How the reader of a page was identified. `None` on routes that are not pages.
    pub session: Option<SignedIn>,
    pub method: Method,
    pub route: &'static Route,
    /// When the head of the request was read.
    pub arrived: Instant,
    /// The path without the prefix under which the client called it.
    pub path: String,
    pub prefix: PathPrefix,
    /// The query as the client sent it.
    pub raw_query: Option<String>,
    pub query: QueryParams,
    /// What the cache of responses stores the response under. Requests with the same response have the same key.
    pub cache_key: String,
    pub headers: HeaderMap,
    /// The request body. It is behind a lock only because `Body` is not `Sync`.
    pub body: Mutex<Body>,
    /// The body, if it was read before the handler was called. [`ApiRequest::receive`] returns it once.
    pub received: Option<Bytes>,
    pub wait: WaitPreference,
}

/// Returns the namespace that a client means. Names of namespaces are lower case, and UUIDs are written in any case.
#[must_use]
pub fn namespace_name(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

impl ApiRequest {
    /// Returns the authenticated caller.
    ///
    /// # Errors
    /// Returns 500 if the route table does not require a token for this route, which is a defect.
    pub fn caller(&self) -> Result<&Caller, ApiProblem> {
        self.caller.as_ref().ok_or_else(|| ApiProblem::defect("The request was admitted without a token."))
    }

    /// Returns the parameter `namespace`, or the policy's namespace if it is missing.
    ///
    /// # Errors
    /// Returns 403 if the token does not have access to the namespace.
    pub fn namespace(&self) -> Result<String, ApiProblem> {
        let namespace = self.query.get("namespace").map(namespace_name);
        let namespace = namespace.unwrap_or_else(|| self.app.handle.policy().namespace.clone());
        self.caller()?.require_namespace(&namespace)?;
        Ok(namespace)
    }

    /// Returns the part of the path at which the path of the route has `name`, for example `{id}`.
    #[must_use]
    pub fn path_param(&self, name: &str) -> &str {
        let parts = self.route.path.split('/').zip(self.path.split('/'));
        parts.into_iter().find(|(of_route, _)| *of_route == name).map_or("", |(_, part)| part)
    }

    /// Returns `path` as the client has to write it.
    #[must_use]
    pub fn address(&self, path: &str) -> String {
        self.prefix.join(path)
    }

    /// Returns the id of the connection in the path.
    ///
    /// # Errors
    /// Returns 404 if the connection does not exist. A caller without access to its namespace gets the same 404, which
    /// does not reveal that the connection exists.
    pub fn connection(&self) -> Result<ConnectionId, ApiProblem> {
        let text = self.path_param("{id}");
        let missing = || {
            ApiProblem::not_found(
                "No connection with this id, or the token is not allowed in its namespace. GET /connections lists the connections.",
            )
        };
        let id = ConnectionId::parse(text).map_err(|_| missing())?;
        let snapshot = self.app.handle.registry.snapshot();
        let known = snapshot.connections.get(&id).ok_or_else(missing)?;
        if self.caller()?.may_see(&known.namespace) { Ok(id) } else { Err(missing()) }
    }

    /// Returns the JSON body of at most `limit` bytes. Returns `None` for an empty body if it is `optional`.
    ///
    /// # Errors
    /// 400, 408, 413, 415, 503.
    pub async fn json(&mut self, limit: usize, optional: bool) -> Result<Option<Bytes>, ApiProblem> {
        let (is_json, name): (fn(Format) -> bool, _) = (|format| format == Format::Json, JSON);
        if self.announced_length().is_some_and(|length| length > 0) {
            // Refused before the body is read.
            self.require_type(is_json, name)?;
        }
        let bytes = self.receive(limit).await?;
        if optional && bytes.is_empty() {
            return Ok(None);
        }
        self.require_type(is_json, name)?;
        Ok(Some(bytes))
    }

    /// Reads intents of at most `limit` bytes, and their format, which the media type names.
    ///
    /// # Errors
    /// 400, 408, 413, 415, 503.
    pub async fn intents(&mut self, limit: usize) -> Result<(Format, Bytes), ApiProblem> {
        // Refused before the body is read.
        let format = self.require_type(|_| true, "application/json, application/yaml or application/x-ndjson")?;
        Ok((format, self.receive(limit).await?))
    }

    /// Reads the body, of at most `limit` bytes. Waits while the bodies of other requests occupy too much memory.
    ///
    /// # Errors
    /// 400, 408, 413, 503.
    pub async fn receive(&mut self, limit: usize) -> Result<Bytes, ApiProblem> {
        if let Some(received) = self.received.take() {
            return Ok(received);
        }
        let length = self.announced_length();
        if length.is_some_and(|length| length > limit as u64) {
            return Err(ApiProblem::too_large(limit));
        }
        let room = self.body_room(length, limit).await?;
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let read = Limited::new(body, limit).collect();
        let Ok(read) = tokio::time::timeout(self.app.limits.body_read, read).await else {
            return Err(ApiProblem::new(
                StatusCode::REQUEST_TIMEOUT,
                ProblemCode::BodyTooSlow,
                "Request timeout",
                format!("The body did not arrive within {} s; send the request again.", self.app.limits.body_read.as_secs()),
            )
            .header(header::CONNECTION, HeaderValue::from_static("close")));
        };
        let bytes = match read {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(ApiProblem::too_large(limit)),
            Err(_) => return Err(ApiProblem::bad_request("The connection ended in the middle of the body.")),
        };
        Ok(Bytes::from_owner(CountedBody { bytes, _room: room }))
    }

    fn announced_length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
    }

    /// Reads the fields of a form that a page sent, and checks that the form belongs to the session of the reader.
    ///
    /// # Errors
    /// 400, 403, 408, 413, 503.
    pub async fn form(&mut self) -> Result<Vec<(String, String)>, ApiProblem> {
        let bytes = self.receive(MAX_FORM_BYTES).await?;
        let fields: Vec<(String, String)> = url::form_urlencoded::parse(&bytes).into_owned().collect();
        let sent = fields.iter().find(|(name, _)| name == "csrf").map_or("", |(_, value)| value.as_str());
        let expected = self.session.as_ref().map_or("", |session| session.csrf.as_str());
        check_csrf(expected, sent)?;
        Ok(fields)
    }

    /// Waits until there is memory for a body of `length` bytes, or of `limit` bytes if its length is not known.
    async fn body_room(&self, length: Option<u64>, limit: usize) -> Result<OwnedSemaphorePermit, ApiProblem> {
        let bodies = if limit > SMALL_BODY_BYTES { &self.app.large_bodies } else { &self.app.small_bodies };
        let bytes = length.unwrap_or(limit as u64);
        let acquired = Arc::clone(bodies).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        match tokio::time::timeout(self.app.limits.body_read, acquired).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(ApiProblem::busy(
                "The bodies of other requests occupy all memory that is set aside for them; repeat the request.",
            )),
        }
    }

    fn require_type(&self, is_allowed: fn(Format) -> bool, types: &str) -> Result<Format, ApiProblem> {
        let media_type = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        Format::from_media_type(&media_type).filter(|format| is_allowed(*format)).ok_or_else(|| {
            ApiProblem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ProblemCode::NotJsonType,
                "Unsupported media type",
                format!("Content-Type must be {types}."),
            )
        })
    }

    /// Responds from the cache, or with the result of `render` if the cache does not have a valid response. Handlers must
    /// check the caller's access before they call this.
    ///
    /// # Errors
    /// Returns the error of `render`.
    pub async fn cached(
        &self,
        media_type: &'static str,
        render: impl FnOnce(&App) -> Result<Vec<u8>, ApiProblem> + Send + 'static,
    ) -> ApiResult {
        Ok(rendered_response(StatusCode::OK, media_type, &self.rendered(render).await?))
    }

    /// As [`ApiRequest::cached`], but returns only the body.
    ///
    /// # Errors
    /// Returns the error of `render`.
    pub async fn rendered(
        &self,
        render: impl FnOnce(&App) -> Result<Vec<u8>, ApiProblem> + Send + 'static,
    ) -> Result<Arc<Rendered>, ApiProblem> {
        let cache = &self.app.cache;
        if let Some(rendered) = cache.get(&self.cache_key, &self.app.version()) {
            return Ok(rendered);
        }
        let arrived = Instant::now();
        let _render_lock = cache.lock_render(&self.cache_key).await;
        if let Some(rendered) = cache.rendered_since(&self.cache_key, arrived) {
            return Ok(rendered);
        }
        let (begun, version) = (Instant::now(), self.app.version());
        let rendered = Arc::new(Rendered::new(Bytes::from(self.app.blocking(render).await?)));
        cache.put(&self.cache_key, CachedAnswer { version, begun, rendered: Arc::clone(&rendered) });
        Ok(rendered)
    }
}

/// Builds a response whose tag and compressed form are computed at most once, however often it is sent.
#[must_use]
pub fn rendered_response(status: StatusCode, media_type: &'static str, rendered: &Arc<Rendered>) -> Response {
    let mut answer = response(status, media_type, rendered.body().clone());
    answer.extensions_mut().insert(Arc::clone(rendered));
    answer
}

/// Serializes `value` as JSON. Characters that change how the text around them is shown are escaped as JSON does.
///
/// # Errors
/// Returns 500 if serialization fails, which is a defect.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiProblem> {
    let text = serde_json::to_string(value)
        .map_err(|error| ApiProblem::defect(format!("The response could not be serialized as JSON: {error}.")))?;
    Ok(match escaped(&text) {
        Cow::Borrowed(_) => text.into_bytes(),
        Cow::Owned(escaped) => escaped.into_bytes(),
    })
}

/// Returns a JSON text whose unprintable characters are escaped. Most texts have none, which is found out fast.
pub fn escaped(json: &str) -> Cow<'_, str> {
    if json.is_ascii() { Cow::Borrowed(json) } else { printable_json(json) }
}

/// Builds a JSON response from `value`.
///
/// # Errors
/// Returns the error of [`encode`].
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> ApiResult {
    Ok(response(status, JSON, encode(value)?.into()))
}

/// Builds a response with a body.
#[must_use]
pub fn response(status: StatusCode, media_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Adds a header. If `value` is not a valid header value, the header is left out.
pub fn insert_header(response: &mut Response, name: header::HeaderName, value: impl Into<Cow<'static, str>>) {
    if let Ok(value) = HeaderValue::from_str(&value.into()) {
        response.headers_mut().insert(name, value);
    }
}
