//! A request that has been checked against the route table, and helpers with which handlers build responses.

use super::app::{App, CachedAnswer};
use super::auth::Caller;
use super::connections::ClientConnection;
use super::prefer::WaitPreference;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::routes::QueryParam;
use crate::intake::Format;
use crate::model::text::printable_json;
use crate::model::{ConnectionId, State};
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
    pub method: Method,
    pub path: String,
    /// The path and the query as the client sent them.
    pub target: String,
    pub query: QueryParams,
    pub headers: HeaderMap,
    /// The request body. It is behind a lock only because `Body` is not `Sync`.
    pub body: Mutex<Body>,
    pub wait: WaitPreference,
}

/// The query parameters, all of which the route declares.
#[derive(Debug, Default)]
pub struct QueryParams(Vec<(String, String)>);

impl QueryParams {
    /// Parses the query string `text`.
    ///
    /// # Errors
    /// Returns 400 for a parameter that is repeated or that `allowed` does not contain.
    pub fn read(text: Option<&str>, allowed: &[QueryParam]) -> Result<QueryParams, ApiProblem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let text = text.unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !allowed.iter().any(|param| param.name == name) {
                let names: Vec<&str> = allowed.iter().map(|param| param.name).collect();
                let known = match names.is_empty() {
                    true => "This endpoint does not take query parameters.".to_string(),
                    false => format!("This endpoint accepts {}.", names.join(", ")),
                };
                // The message does not repeat the name, because the caller may have pasted a token there.
                return Err(ApiProblem::bad_request(format!("Unknown query parameter. {known}")));
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(ApiProblem::bad_request(format!("Query parameter {name} is given more than once.")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(QueryParams(pairs))
    }

    /// Returns the value of `name`. An empty value counts as missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the value of `name` as a whole number from 1 to `max`, or `default` if it is missing.
    ///
    /// # Errors
    /// Returns 400 for any other value.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, ApiProblem> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| ApiProblem::bad_request(format!("{name} must be a whole number from 1 to {max}.")))
    }

    /// Returns the parameter `state`.
    ///
    /// # Errors
    /// Returns 400 with the list of states if the value is not a state.
    pub fn state(&self) -> Result<Option<State>, ApiProblem> {
        let Some(text) = self.get("state") else {
            return Ok(None);
        };
        State::parse(text).map(Some).ok_or_else(|| {
            let states: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
            ApiProblem::bad_request(format!("state must be one of {}.", states.join(", ")))
        })
    }
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
        let namespace = match self.query.get("namespace") {
            // Names of namespaces are lower case, and UUIDs are written in any case.
            Some(name) => name.trim().to_ascii_lowercase(),
            None => self.app.handle.policy().namespace.clone(),
        };
        self.caller()?.require_namespace(&namespace)?;
        Ok(namespace)
    }

    /// Returns the id of the connection in the path.
    ///
    /// # Errors
    /// Returns 404 if the connection does not exist. A caller without access to its namespace gets the same 404, which
    /// does not reveal that the connection exists.
    pub fn connection(&self) -> Result<ConnectionId, ApiProblem> {
        let text = self.path.split('/').nth(2).unwrap_or_default();
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

    /// Reads a JSON body of at most `limit` bytes. Returns `None` for an empty body if it is `optional`. Waits while the
    /// bodies of other requests occupy too much memory.
    ///
    /// # Errors
    /// 400, 408, 413, 415, 503.
    pub async fn json(&mut self, limit: usize, optional: bool) -> Result<Option<Bytes>, ApiProblem> {
        let body = self.body(limit).await?;
        if optional && body.is_empty() {
            return Ok(None);
        }
        self.require_type(|format| format == Format::Json, "application/json")?;
        Ok(Some(body))
    }

    /// Reads intents of at most `limit` bytes, and their format, which the media type names.
    ///
    /// # Errors
    /// 400, 408, 413, 415, 503.
    pub async fn intents(&mut self, limit: usize) -> Result<(Format, Bytes), ApiProblem> {
        let body = self.body(limit).await?;
        let format = self.require_type(|_| true, "application/json, application/yaml or application/x-ndjson")?;
        Ok((format, body))
    }

    async fn body(&mut self, limit: usize) -> Result<Bytes, ApiProblem> {
        let length = self.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
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
        let cache = &self.app.cache;
        if let Some(body) = cache.get(&self.target, &self.app.version()) {
            return Ok(response(StatusCode::OK, media_type, body));
        }
        let arrived = Instant::now();
        let _render_lock = cache.lock_render(&self.target).await;
        if let Some(body) = cache.rendered_since(&self.target, arrived) {
            return Ok(response(StatusCode::OK, media_type, body));
        }
        let (begun, version) = (Instant::now(), self.app.version());
        let body = Bytes::from(self.app.blocking(render).await?);
        cache.put(&self.target, CachedAnswer { version, begun, body: body.clone() });
        Ok(response(StatusCode::OK, media_type, body))
    }
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
