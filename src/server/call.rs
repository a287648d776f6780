//! One request, checked against its line of the route table, on its way to the handler.

use super::app::{App, Rendered};
use super::auth::Caller;
use super::prefer::Wait;
use super::problem::Problem;
use super::routes::Param;
use crate::model::{ConnectionId, State};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What a handler answers.
pub type Answer = Result<Response, Problem>;

/// The media type of answers.
pub const JSON: &str = "application/json";

/// One admitted request.
pub struct Call {
    pub app: Arc<App>,
    /// Nobody on the routes that need no token.
    pub caller: Option<Caller>,
    pub path: String,
    /// Path and query as they were sent.
    pub target: String,
    pub query: Query,
    pub headers: HeaderMap,
    /// Behind a lock only because a body may not be shared between threads.
    pub body: Mutex<Body>,
    pub wait: Wait,
}

/// The query, every name of which the route knows.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`; a name the route does not know, or one that is there twice, is an error.
    ///
    /// # Errors
    /// 400 that names the parameter and what is allowed.
    pub fn read(text: Option<&str>, allowed: &[Param]) -> Result<Query, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let text = text.unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !allowed.iter().any(|param| param.name == name) {
                let names: Vec<&str> = allowed.iter().map(|param| param.name).collect();
                let known = match names.is_empty() {
                    true => "This call takes no query.".to_string(),
                    false => format!("This call knows {}.", names.join(", ")),
                };
                // The name may be anything, a token among it: it is not repeated.
                return Err(Problem::bad_request(format!("The query has a parameter that is not known here. {known}")));
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Problem::bad_request(format!("The query parameter {name} is there twice.")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Query(pairs))
    }

    /// The value of `name`; an empty one counts as left out.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A whole number from 1 to `max`.
    ///
    /// # Errors
    /// 400 when it is anything else.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| Problem::bad_request(format!("{name} is a whole number from 1 to {max}.")))
    }

    /// A state's word.
    ///
    /// # Errors
    /// 400 that lists the words.
    pub fn state(&self) -> Result<Option<State>, Problem> {
        let Some(text) = self.get("state") else {
            return Ok(None);
        };
        State::parse(text).map(Some).ok_or_else(|| {
            let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
            Problem::bad_request(format!("state is one of {}.", words.join(", ")))
        })
    }
}

impl Call {
    /// Who calls.
    ///
    /// # Errors
    /// A defect when the route table lets this route be called without a token.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| Problem::defect("This call was admitted without a token."))
    }

    /// The namespace of the query, or the policy's, if the caller may see it.
    ///
    /// # Errors
    /// 403.
    pub fn namespace(&self) -> Result<String, Problem> {
        let namespace = match self.query.get("namespace") {
            Some(name) => name.to_string(),
            None => self.app.handle.policy().namespace.clone(),
        };
        self.caller()?.must_see(&namespace)?;
        Ok(namespace)
    }

    /// The connection of the path, if the caller may know that it exists.
    ///
    /// # Errors
    /// 404.
    pub fn connection(&self) -> Result<ConnectionId, Problem> {
        let text = self.path.split('/').nth(2).unwrap_or_default();
        let missing = || {
            Problem::not_found(
                "There is no connection of this id, or the token is not for its namespace; GET /connections lists them.",
            )
        };
        let id = ConnectionId::parse(text).map_err(|_| missing())?;
        let snapshot = self.app.handle.registry.snapshot();
        let known = snapshot.connections.get(&id).ok_or_else(missing)?;
        if self.caller()?.sees(&known.namespace) { Ok(id) } else { Err(missing()) }
    }

    /// The body, if it is JSON of at most `limit` bytes. An empty one is `None` where that is allowed.
    ///
    /// # Errors
    /// 400, 408, 413, 415.
    pub async fn json(&mut self, limit: usize, optional: bool) -> Result<Option<Bytes>, Problem> {
        let length = self.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit as u64) {
            return Err(Problem::too_large(limit));
        }
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let read = Limited::new(body, limit).collect();
        let Ok(read) = tokio::time::timeout(self.app.limits.body_read, read).await else {
            return Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "BODY_TOO_SLOW",
                "The body did not arrive",
                "The body was not there in time; send it again.",
            )
            .header(header::CONNECTION, HeaderValue::from_static("close")));
        };
        let bytes = match read {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Problem::too_large(limit)),
            Err(_) => return Err(Problem::bad_request("The body was cut off.")),
        };
        if optional && bytes.is_empty() {
            return Ok(None);
        }
        self.must_be_json()?;
        Ok(Some(bytes))
    }

    fn must_be_json(&self) -> Result<(), Problem> {
        let kind = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        if kind == JSON || (kind.starts_with("application/") && kind.ends_with("+json")) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "NOT_JSON_TYPE",
            "The body is not said to be JSON",
            "Send the header Content-Type: application/json.",
        ))
    }

    /// An answer that is rendered once for each state of the registry and kept until that state changes. Whether the
    /// caller may see it was decided before.
    ///
    /// # Errors
    /// Those of `make`.
    pub async fn cached(
        &self,
        kind: &'static str,
        make: impl FnOnce(&App) -> Result<Vec<u8>, Problem> + Send + 'static,
    ) -> Answer {
        let cache = &self.app.cache;
        if let Some(body) = cache.get(&self.target, &self.app.version()) {
            return Ok(answer(StatusCode::OK, kind, body));
        }
        let arrived = Instant::now();
        let _maker = cache.maker(&self.target).await;
        if let Some(body) = cache.made_since(&self.target, arrived) {
            return Ok(answer(StatusCode::OK, kind, body));
        }
        let (begun, version) = (Instant::now(), self.app.version());
        let body = Bytes::from(self.app.blocking(make).await?);
        cache.put(&self.target, Rendered { version, begun, body: body.clone() });
        Ok(answer(StatusCode::OK, kind, body))
    }
}

/// `value` as JSON.
///
/// # Errors
/// A defect when it cannot be written.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::defect(format!("The answer cannot be written as JSON: {error}.")))
}

/// `value` as a JSON answer.
///
/// # Errors
/// As [`encode`].
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    Ok(answer(status, JSON, encode(value)?.into()))
}

/// An answer with a body.
#[must_use]
pub fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Adds a header whose value is made here; one that cannot be a header is left out.
pub fn put(response: &mut Response, name: header::HeaderName, value: impl Into<Cow<'static, str>>) {
    if let Ok(value) = HeaderValue::from_str(&value.into()) {
        response.headers_mut().insert(name, value);
    }
}
