//! `Idempotency-Key`: a request that is sent again gets the answer of the first one (draft-ietf-httpapi-idempotency-key-header).
//!
//! The answer is stored in the registry for a day, so a restart does not lose it. A key belongs to a token with its rights:
//! another token, or the same one after its rights changed, does not see the answer. What is pushed twice without a key has
//! the same effect anyway, because a connection is identified by its content; the key only makes the answers equal too.

use super::app::App;
use super::dispatch::refused;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::representation::gzip;
use super::request::{ApiRequest, ApiResult};
use super::routes::{Method, Route};
use crate::model::Digest;
use crate::registry::{AnswerKey, StoredAnswer};
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The request header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The response header of an answer that is given again.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The maximum length of a key.
const MAX_KEY_BYTES: usize = 255;
/// The number of requests with a key that are handled at the same time. They go on when their clients disconnect.
const MAX_IN_PROGRESS: usize = 512;
/// The size of a compressed body from which an answer is not stored.
const MAX_STORED_BYTES: usize = 4 << 20;
/// The size of a stored answer when it is decompressed again. No answer of AAM is larger.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
/// The value of the Retry-After header while the first request is in progress, in seconds.
const RETRY_AFTER_SECONDS: u64 = 2;

/// The response headers that are stored with an answer.
const STORED_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, HeaderName::from_static("preference-applied")];

/// The keys of the requests that are in progress, each with the digest of its request.
#[derive(Default)]
pub struct KeysInProgress(Mutex<HashMap<AnswerKey, Digest>>);

impl KeysInProgress {
    /// Marks a key as in progress until the guard is dropped.
    fn begin(self: &Arc<Self>, key: &AnswerKey, request: Digest) -> Result<KeyGuard, ApiProblem> {
        let mut keys = self.lock();
        match keys.get(key) {
            Some(other) if *other != request => return Err(reused()),
            Some(_) => {
                let detail =
                    "The first request with this Idempotency-Key is still in progress; repeat this one later to get its answer.";
                return Err(ApiProblem::new(
                    StatusCode::CONFLICT,
                    ProblemCode::IdempotencyKeyInProgress,
                    "Request in progress",
                    detail,
                )
                .header(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)));
            }
            None if keys.len() >= MAX_IN_PROGRESS => {
                return Err(ApiProblem::busy("Too many requests with an Idempotency-Key are in progress; repeat the request."));
            }
            None => {}
        }
        keys.insert(key.clone(), request);
        Ok(KeyGuard { keys: Arc::clone(self), key: key.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AnswerKey, Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct KeyGuard {
    keys: Arc<KeysInProgress>,
    key: AnswerKey,
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

/// Returns the key of the request. Returns `None` if it has none, or if its endpoint changes nothing.
///
/// # Errors
/// 400 if the key is not valid.
pub fn key(request: &ApiRequest) -> Result<Option<AnswerKey>, ApiProblem> {
    let mut values = request.headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), Some(caller)) = (values.next(), &request.caller) else {
        return Ok(None);
    };
    if request.route.method == Method::Get {
        return Ok(None);
    }
    let text = value.to_str().ok().and_then(parse).filter(|_| values.next().is_none());
    let key = text.ok_or_else(|| {
        ApiProblem::bad_request(format!(
            "Idempotency-Key must be given once, with 1 to {MAX_KEY_BYTES} printable ASCII characters, for example a UUID."
        ))
    })?;
    Ok(Some(AnswerKey { caller: caller.identity(), key: key.to_string() }))
}

/// Reads a key, which the draft writes as a quoted string and most clients write without quotes.
fn parse(text: &str) -> Option<&str> {
    let text = text.trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let fits = !key.is_empty() && key.len() <= MAX_KEY_BYTES && key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    fits.then_some(key)
}

/// Handles a request with a key: gives the stored answer again, or runs the handler and stores its answer.
///
/// # Errors
/// 409 if the first request with the key is in progress, and 422 if it had other content. Otherwise the errors of the
/// handler.
pub async fn handle(mut request: ApiRequest, key: AnswerKey) -> ApiResult {
    let app = Arc::clone(&request.app);
    let body = request.receive(request.route.max_body).await?;
    let digest = digest_of(&request, &body);
    request.received = Some(body);
    let guard = app.keys_in_progress.begin(&key, digest)?;
    let wanted = key.clone();
    let stored =
        app.blocking(move |app| Ok(app.handle.registry.reader().stored_answer(&wanted, app.handle.clock.now())?)).await?;
    if let Some(stored) = stored {
        return if stored.request == digest { replay(&stored) } else { Err(reused()) };
    }
    // A task of its own, so that the answer is stored even if the client disconnects: this is what the key is for.
    let task = tokio::spawn(async move {
        let _guard = guard;
        let route = request.route;
        let path = request.address(&request.path);
        let result = AssertUnwindSafe((route.handler)(request)).catch_unwind().await;
        let result = result.unwrap_or_else(|_| Err(defect()));
        let response = result.unwrap_or_else(|problem| refused(route, problem.at(&path)));
        match is_final(route, response.status()) {
            true => store(&app, key, digest, response).await,
            false => response,
        }
    });
    task.await.map_err(|_| defect())
}

fn defect() -> ApiProblem {
    ApiProblem::defect("The request failed with an internal error; see the log of aam serve.")
}

fn reused() -> ApiProblem {
    let detail = "An earlier request with this Idempotency-Key had other content or another path. Nothing was done; send this request with a new key.";
    ApiProblem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        ProblemCode::IdempotencyKeyReused,
        "Idempotency-Key was used before",
        detail,
    )
}

/// The digest of what the request asks for: method, path, query and body.
fn digest_of(request: &ApiRequest, body: &Bytes) -> Digest {
    let head = format!("{} {}\n{}", request.method, request.cache_key, Digest::from_bytes(body.trim_ascii()));
    Digest::from_bytes(head.as_bytes())
}

/// Whether a request has changed something: an intent of an unsupported type gets 409 although it was recorded. Other
/// refused requests may be corrected and sent again with the same key.
fn is_final(route: &Route, status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::CONFLICT && route.path == "/connections/onboard"
}

/// Stores the answer and returns it.
async fn store(app: &Arc<App>, key: AnswerKey, request: Digest, response: Response) -> Response {
    if response.body().size_hint().exact().is_none() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return Response::from_parts(parts, Body::empty());
    };
    let (status, headers, content) = (parts.status.as_u16(), stored_headers(&parts.headers), body.clone());
    let compressed = app.blocking(move |_| Ok(gzip(&content).ok().filter(|body| body.len() <= MAX_STORED_BYTES))).await;
    if let Ok(Some(body)) = compressed {
        let answer = StoredAnswer { request, status, headers, body };
        if let Err(error) = app.handle.registry.store_answer(key, answer).await {
            app.handle.report_error(&error);
        }
    }
    Response::from_parts(parts, Body::from(body))
}

fn stored_headers(headers: &HeaderMap) -> String {
    let mut stored = BTreeMap::new();
    for name in STORED_HEADERS {
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            stored.insert(name.to_string(), value);
        }
    }
    serde_json::to_string(&stored).unwrap_or_default()
}

/// Builds the response that was given before.
fn replay(stored: &StoredAnswer) -> ApiResult {
    let mut body = Vec::new();
    let read = flate2::read::GzDecoder::new(&*stored.body).take(MAX_ANSWER_BYTES).read_to_end(&mut body);
    let headers: BTreeMap<String, String> = serde_json::from_str(&stored.headers).unwrap_or_default();
    let (Ok(_), Ok(status)) = (read, StatusCode::from_u16(stored.status)) else {
        return Err(ApiProblem::defect(
            "The stored answer to this Idempotency-Key cannot be read; send the request with a new key.",
        ));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_and_without_quotes() {
        let long = "k".repeat(MAX_KEY_BYTES);
        for (text, key) in [
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", Some("8e03978e-40d5-43dd-bc93-6894a57f9324")),
            ("\"8e03978e\"", Some("8e03978e")),
            (" run 7 ", Some("run 7")),
            (long.as_str(), Some(long.as_str())),
            ("\"", Some("\"")),
            ("", None),
            ("\"\"", None),
            ("a\u{7f}", None),
            ("ä", None),
        ] {
            assert_eq!(parse(text), key, "{text}");
        }
        assert_eq!(parse(&"k".repeat(MAX_KEY_BYTES + 1)), None);
    }

    #[test]
    fn a_key_in_progress_is_refused_until_its_request_ends() {
        let keys = Arc::new(KeysInProgress::default());
        let key = |key: &str| AnswerKey { caller: Digest::default(), key: key.to_string() };
        let (one, other) = (Digest::from_bytes(b"1"), Digest::from_bytes(b"2"));
        let guard = keys.begin(&key("a"), one).expect("begun");
        let code = |result: Result<KeyGuard, ApiProblem>| result.err().map(|problem| (problem.status, problem.code));
        assert_eq!(code(keys.begin(&key("a"), one)), Some((409, ProblemCode::IdempotencyKeyInProgress)));
        assert_eq!(code(keys.begin(&key("a"), other)), Some((422, ProblemCode::IdempotencyKeyReused)));
        let foreign = AnswerKey { caller: one, key: "a".to_string() };
        assert_eq!(code(keys.begin(&foreign, other)), None, "the key of another token");
        drop(guard);
        let guards: Vec<KeyGuard> = (0..MAX_IN_PROGRESS).filter_map(|n| keys.begin(&key(&n.to_string()), one).ok()).collect();
        assert_eq!(guards.len(), MAX_IN_PROGRESS);
        assert_eq!(code(keys.begin(&key("one more"), one)), Some((503, ProblemCode::Busy)));
    }
}
