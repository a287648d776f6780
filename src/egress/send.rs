//! Sends one HTTP request, from the guard to the response. Each try is admitted, charged, sent and logged separately.

use super::admission::Admission;
use super::body::{self, BodyBuffer, BodyError};
use super::breaker::HealthSignal;
use super::client::connect_timeout;
use super::headers::headers;
use super::transport::{self, Cause, NoResponse};
use super::webhook::{self, WebhookPost};
use super::{HttpRequest, HttpResponse, Method, Session, WaitRequest, guard, log, post, redirect, retry};
use crate::credentials::signer::UnsignedRequest;
use crate::memory_budget::Reservation;
use crate::model::{CallPurpose, Class, Failure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, Uri};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use url::Url;

/// How a try ended.
enum Try {
    /// Nothing was sent.
    NotSent(Failure),
    Done(Result<HttpResponse, Failure>),
    /// The try failed in a way that a retry may fix. Holds the result to return if no retry follows.
    Retryable(Result<HttpResponse, Failure>),
    /// The response was discarded, because this many bytes of memory were not free for it.
    NeedsMemory(u64),
    /// The server did not process the request, because it wants another signature.
    NeedsSignature(HttpResponse),
}

/// A request that passed the read-only guard, in the form in which it is sent.
struct JudgedRequest {
    method: hyper::Method,
    headers: HeaderMap,
    body: Bytes,
    max_bytes: u64,
    /// Whether the request may be sent again even though the server may have received it already.
    repeatable: bool,
    /// The rule that allows the request.
    rule: String,
    /// The statement in the body, without values.
    statement: String,
}

/// The rule for a GET or a HEAD.
const READ_ONLY_METHOD: &str = "GET and HEAD only read";

/// Sends `request` with retries, and follows redirects.
///
/// # Errors
/// Returns the errors of [`Session::http`].
pub async fn http(session: &Session, request: HttpRequest) -> Result<HttpResponse, Failure> {
    let method = match &request.method {
        Method::Get => hyper::Method::GET,
        Method::Head => hyper::Method::HEAD,
        Method::ListedPost(_) => return listed_post(session, &request).await,
        Method::MetadataToken => return metadata_token(session, &request).await,
    };
    let headers = headers(&request.headers)?;
    let (rule, statement) = (READ_ONLY_METHOD.to_string(), String::new());
    let (body, max_bytes) = (Bytes::new(), request.max_bytes);
    let judged = JudgedRequest { method, headers, body, max_bytes, repeatable: true, rule, statement };
    let mut url = request.url;
    for _ in 0..=redirect::MAX_REDIRECTS {
        let response = send_with_retry(session, &judged, &url).await?;
        let next =
            if request.follow_redirects { redirect::target(response.status, response.header("location"), &url)? } else { None };
        match next {
            Some(next) => url = next,
            None => return Ok(response),
        }
    }
    Err(redirect::too_many(&url))
}

/// Sends a POST that is on the list. It is retried only if its rule declares it idempotent.
async fn listed_post(session: &Session, request: &HttpRequest) -> Result<HttpResponse, Failure> {
    let permit = post::permit(&session.caller.posts, request)?;
    let mut headers = headers(&request.headers)?;
    if let Some(media) = permit.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    }
    if permit.body.is_empty() {
        // Many servers return 411 if this header is missing, and the HTTP client does not send it for an empty body.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let (body, max_bytes, repeatable) = (permit.body, request.max_bytes, permit.idempotent);
    let (method, rule, statement) = (hyper::Method::POST, permit.rule, permit.statement);
    let judged = JudgedRequest { method, headers, body, max_bytes, repeatable, rule, statement };
    let response = send_with_retry(session, &judged, &request.url).await?;
    match response.status {
        status @ (301 | 302 | 303 | 307 | 308) if response.header("location").is_some() => {
            Err(post::redirected(&session.caller.posts, &request.url, status))
        }
        _ => Ok(response),
    }
}

/// Sends the PUT that requests a token of a metadata service. Its redirects are not followed.
async fn metadata_token(session: &Session, request: &HttpRequest) -> Result<HttpResponse, Failure> {
    session.check_put(request)?;
    let mut headers = headers(&request.headers)?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    let (method, max_bytes) = (hyper::Method::PUT, request.max_bytes);
    let (rule, statement) = ("the token of the instance metadata service".to_string(), String::new());
    let judged = JudgedRequest { method, headers, body: Bytes::new(), max_bytes, repeatable: true, rule, statement };
    send_with_retry(session, &judged, &request.url).await
}

/// Sends a message to a webhook, once. Its redirects are not followed.
///
/// # Errors
/// Returns the errors of [`Session::http`].
pub async fn webhook(session: &Session, post: WebhookPost, name: &str) -> Result<HttpResponse, Failure> {
    let mut headers = headers(&post.headers)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (method, max_bytes) = (hyper::Method::POST, webhook::MAX_RESPONSE_BYTES);
    let (body, rule, statement) = (post.body, format!("notify: {name}"), String::new());
    let judged = JudgedRequest { method, headers, body, max_bytes, repeatable: false, rule, statement };
    send_with_retry(session, &judged, &post.url).await
}

/// Sends the request and retries it after a dropped connection. Gateway errors are retried too, unless the session's
/// caller retries status codes itself, because two layers of retries would multiply.
async fn send_with_retry(session: &Session, request: &JudgedRequest, url: &Url) -> Result<HttpResponse, Failure> {
    let mut last = None;
    let mut memory = request.max_bytes.min(body::FIRST_BYTES);
    let mut may_sign_again = true;
    let retries = if request.repeatable { retry::MAX_RETRIES } else { 0 };
    for turn in 0..=retries {
        if turn > 0 {
            tokio::time::sleep(retry::wait_before(turn - 1, fastrand::f64())).await;
        }
        let sent = loop {
            match send_once(session, request, url, memory).await {
                // The next try waits for the memory before it asks for a slot of the account, so that no call of another
                // attempt waits for this one.
                Try::NeedsMemory(bytes) if request.repeatable => memory = bytes,
                Try::NeedsSignature(_) if may_sign_again => may_sign_again = false,
                other => break other,
            }
        };
        match sent {
            Try::NeedsMemory(_) => return Err(no_memory(url)),
            // The result of the previous try says more than the reason why there was no further try.
            Try::NotSent(failure) => return last.unwrap_or(Err(failure)),
            Try::Done(result) => return result,
            Try::NeedsSignature(response) => return Ok(response),
            Try::Retryable(result) => last = Some(result),
        }
    }
    last.unwrap_or_else(|| Err(Failure::new(Class::Bug, "a request was never tried", "report this as a defect of AAM")))
}

/// The failure of a call whose response did not find memory and that must not be sent twice.
fn no_memory(url: &Url) -> Failure {
    let title = format!("the response of {} was discarded: the memory of AAM is in use", url.host_str().unwrap_or_default());
    let fix = "AAM tries again; if this happens often, raise reconcile.memory in the policy";
    Failure::new(Class::Throttled, title, fix).after(MEMORY_RETRY_INTERVAL)
}

/// How long an attempt waits after [`no_memory`].
const MEMORY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Makes one try. `memory` is the number of bytes to reserve for the body before anything is sent.
async fn send_once(session: &Session, judged: &JudgedRequest, url: &Url, memory: u64) -> Try {
    let host = url.host_str().unwrap_or_default();
    if let Err(failure) = session.check_metadata(url).and_then(|()| check_proxied_name(session, url)) {
        return Try::NotSent(failure);
    }
    let target: Uri = match url.as_str().parse() {
        Ok(target) => target,
        Err(error) => return Try::NotSent(invalid_uri(url, &error)),
    };
    let tls = url.scheme() == "https";
    let client =
        match session.egress.clients.get(&session.caller.policy, &session.egress.lookup, tls, session.authorities.as_ref()) {
            Ok(client) => client,
            Err(failure) => return Try::NotSent(failure),
        };
    let reservation = match session.memory.reserve(memory).await {
        Ok(reservation) => reservation,
        Err(bound) => return Try::NotSent(bound.failure(&format!("the response of {host}"))),
    };
    let (admission, _slot) = match session.request_admission(host, url.port_or_known_default().unwrap_or(0)).await {
        Ok(admitted) => admitted,
        Err(failure) => return Try::NotSent(failure),
    };
    if let Err(failure) = session.charge().await {
        return Try::NotSent(failure);
    }
    let mut request = hyper::Request::new(Full::new(judged.body.clone()));
    *request.method_mut() = judged.method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = judged.headers.clone();
    if let Err(failure) = sign(session, judged, url, request.headers_mut()) {
        return Try::NotSent(failure);
    }
    let mut call = CallInFlight::start(session, admission, judged, url);
    let response = tokio::time::timeout_at(call.deadline, client.request(request)).await;
    match response.map_err(|_| NoResponse::TimedOut).and_then(|response| Ok(response?)) {
        Err(error) => call.without_response(&error),
        Ok(response) => {
            call.head_received = true;
            let ended = call.with_response(response, judged.max_bytes, reservation).await;
            match (ended, &session.signing) {
                (Try::Done(Ok(response)), Some(signing)) if signing.learn(url, &response, session.egress.clock.now()) => {
                    Try::NeedsSignature(response)
                }
                (ended, _) => ended,
            }
        }
    }
}

/// Adds the signature to the headers, if the session signs requests to `url`.
fn sign(session: &Session, judged: &JudgedRequest, url: &Url, headers: &mut HeaderMap) -> Result<(), Failure> {
    let Some(signing) = &session.signing else { return Ok(()) };
    let sent = headers.clone();
    let pairs: Vec<(&str, &str)> = sent.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let (method, body, now) = (judged.method.as_str(), &judged.body[..], session.egress.clock.now());
    signing.sign(headers, &UnsignedRequest { method, url, headers: &pairs, body, now })
}

/// The failure for a URL that the URL standard allows but HTTP does not.
fn invalid_uri(url: &Url, error: &hyper::http::uri::InvalidUri) -> Failure {
    let title = format!("a URL of {} is not valid in HTTP", url.host_str().unwrap_or_default());
    let fix = "the URL is too long or holds a character that HTTP does not allow; most often it is a link in the response before";
    Failure::new(Class::Remote, title, fix).detail(error.to_string())
}

/// The timeout for the head and body of a response. It is slightly shorter than the step timeout, so that the failure
/// names the host and not the step.
fn response_timeout(session: &Session) -> Duration {
    session.caller.policy.safe_mode(&session.caller.family).step_timeout.mul_f64(0.75)
}

/// Refuses internal names when a proxy is used. The proxy resolves names itself, so the guard cannot check the
/// addresses.
fn check_proxied_name(session: &Session, url: &Url) -> Result<(), Failure> {
    match url.host() {
        Some(url::Host::Domain(name)) if session.caller.policy.network.proxy.is_some() && guard::local_name(name) => {
            let title =
                format!("{name} was not called: it is a name of the internal network, and calls go through network.proxy");
            Err(Failure::new(
                Class::EgressRefused,
                title,
                "write the address instead of the name and list it in the policy: network.allow_private",
            ))
        }
        _ => Ok(()),
    }
}

/// A request that was sent. Its outcome is reported exactly once: when it ends, or on drop if the caller gave up.
struct CallInFlight<'a> {
    session: &'a Session,
    admission: Admission,
    judged: &'a JudgedRequest,
    url: &'a Url,
    started: Instant,
    /// The timeout for head and body together, measured from the start of the call.
    timeout: Duration,
    deadline: tokio::time::Instant,
    head_received: bool,
    ended: bool,
}

impl<'a> CallInFlight<'a> {
    fn start(session: &'a Session, admission: Admission, judged: &'a JudgedRequest, url: &'a Url) -> CallInFlight<'a> {
        session.counters.call();
        let (started, timeout) = (Instant::now(), response_timeout(session));
        let deadline = tokio::time::Instant::from_std(started) + timeout;
        let call =
            CallInFlight { session, admission, judged, url, started, timeout, deadline, head_received: false, ended: false };
        let (host, method, path, statement) = (call.host_and_port(), judged.method.as_str(), url.path(), &*judged.statement);
        let path = if session.caller.purpose == CallPurpose::Webhook { "" } else { path };
        let event = log::CallEvent { method, host: &host, path, statement, ..log::CallEvent::default() };
        log::begun(&session.caller, &event);
        call
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn host_and_port(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_string(),
        }
    }

    /// Reports the outcome. The breaker shows `reason` while it is open; the call log records `error`, the class of the
    /// failure.
    fn end(&mut self, signal: HealthSignal, reason: &str, status: u16, bytes: u64, error: &str) {
        self.ended = true;
        self.admission.leave(signal, reason);
        self.session.counters.bytes(bytes);
        let (method, path, took) = (self.judged.method.as_str(), self.url.path(), self.started.elapsed());
        let (rule, statement, sent) = (self.judged.rule.as_str(), self.judged.statement.as_str(), self.judged.body.len() as u64);
        let host = &self.host_and_port();
        let event = log::CallEvent { method, host, path, status, bytes, sent: Some(sent), took, error, rule, statement };
        log::write(&self.session.caller, &event);
        self.session.record(&event);
    }

    fn without_response(&mut self, error: &NoResponse) -> Try {
        if !matches!(error, NoResponse::Client(error) if error.is_connect()) {
            self.session.lost_response.store(true, Ordering::Relaxed);
        }
        let safe_mode = &self.session.caller.policy.safe_mode;
        let cause = transport::diagnose(error, connect_timeout(safe_mode), self.timeout);
        let failure = cause.failure(&self.host_and_port(), &transport::message(error));
        let signal = match cause {
            Cause::Guard(_) | Cause::GateClosed => HealthSignal::Unknown,
            Cause::NotHttp => HealthSignal::Alive,
            _ => HealthSignal::Failing,
        };
        self.end(signal, &failure.title, 0, 0, failure.class.as_str());
        if cause.is_transient() { Try::Retryable(Err(failure)) } else { Try::Done(Err(failure)) }
    }

    async fn with_response(&mut self, response: Response<Incoming>, max_bytes: u64, memory: Reservation) -> Try {
        let (mut head, body) = response.into_parts();
        let status = head.status.as_u16();
        let gzip = gzip(&head.headers);
        if gzip {
            // Remove the headers that describe the compressed body, because the connector receives the decompressed
            // one.
            head.headers.remove(header::CONTENT_ENCODING);
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let read = |max_bytes| body::read(body, gzip, announced, BodyBuffer::new(max_bytes, memory), self.deadline);
        let headers: Vec<(String, String)> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let now = self.session.egress.clock.now();
        if let Some(asked) = retry::wait_request(status, &headers, now) {
            let body = read(body::MAX_THROTTLE_BODY_BYTES).await.unwrap_or_else(|(_, _)| Bytes::new());
            let has_header = headers.iter().any(|(name, _)| name == "retry-after");
            let in_body = retry::in_body(&body).filter(|_| !has_header);
            let asked = WaitRequest { named: in_body.or(asked.named), ..asked };
            let reason = format!("{status} from {}: {}", self.host_and_port(), body::excerpt(&body));
            self.end(HealthSignal::Unknown, &reason, status, body.len() as u64, Class::Throttled.as_str());
            if self.session.leaves_waits {
                return Try::Done(Ok(HttpResponse { status, headers, body, url: self.url.clone() }));
            }
            let reason = reason.trim_end_matches(": ");
            return Try::Done(Err(self.session.account.park(&self.session.caller, asked.wait(), now, reason)));
        }
        let (signal, reason) = match status {
            500.. => (HealthSignal::Failing, format!("{} answered {status}", self.host_and_port())),
            _ => (HealthSignal::Alive, String::new()),
        };
        match read(max_bytes).await {
            Err((bytes, _)) if self.session.optional_bodies => {
                self.end(signal, &reason, status, bytes, "");
                Try::Done(Ok(HttpResponse { status, headers, body: Bytes::new(), url: self.url.clone() }))
            }
            Err((bytes, BodyError::NeedsMemory(needed))) => {
                self.session.lost_response.store(true, Ordering::Relaxed);
                self.end(signal, &reason, status, bytes, "memory");
                Try::NeedsMemory(needed)
            }
            Err((bytes, error)) => {
                self.session.lost_response.store(true, Ordering::Relaxed);
                let failure = error.failure(&self.host_and_port(), bytes, self.timeout);
                let own_limit = matches!(error, BodyError::TooLong(_) | BodyError::TooMuchMemory(_));
                let signal = if own_limit { signal } else { HealthSignal::Failing };
                self.end(signal, &failure.title, status, bytes, failure.class.as_str());
                Try::Done(Err(failure))
            }
            Ok(body) => {
                self.end(signal, &reason, status, body.len() as u64, "");
                let response = Ok(HttpResponse { status, headers, body, url: self.url.clone() });
                let retry = self.session.retries_statuses && retry::is_gateway_error(status);
                if retry { Try::Retryable(response) } else { Try::Done(response) }
            }
        }
    }
}

fn gzip(headers: &HeaderMap) -> bool {
    let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    encoding.eq_ignore_ascii_case(b"gzip") || encoding.eq_ignore_ascii_case(b"x-gzip")
}

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // A host that sent no response head before the caller gave up is failing. A slow body does not prove that.
            let signal = if self.head_received { HealthSignal::Unknown } else { HealthSignal::Failing };
            let reason = format!("{} did not answer before the step ended", self.host_and_port());
            self.end(signal, &reason, 0, 0, "abandoned");
        }
    }
}
