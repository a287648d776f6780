//! Connects the interpreter to egress, for one attempt of the daemon or for one command on the command line.
//!
//! A failure of egress passes through the interpreter as a [`HostFailure`] and comes back unchanged. The last response
//! of each stream is kept, because grants are in headers and because manifests do not describe all error responses.

use super::errors::ResponseView;
use super::family_spec::Limit;
use super::limits::Windows;
use crate::clock::Clock;
use crate::connectors::json_memory;
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, Session};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure};
use ::lowcode::host::{Host, HostError, HostFailure, HostRequest, HostResponse, PauseReason, Purpose};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::{Position, Url};

/// The number of times that a call in [`CallerMode::Person`] is sent while the source rate-limits it.
const MAX_THROTTLED_SENDS: u32 = 5;
/// The maximum number of bytes to keep of the body of a stream's last response.
const MAX_KEPT_BODY_BYTES: usize = 256 << 10;
/// Headers that the HTTP client sets itself.
const CLIENT_HEADERS: [&str; 5] = ["user-agent", "accept-encoding", "content-length", "host", "connection"];

/// Who waits for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerMode {
    /// The daemon. It ends the attempt instead of waiting, and retries it later.
    Daemon,
    /// A person at a terminal. The command waits for the source, and may send a secret that the manifest puts into a URL.
    Person,
}

impl CallerMode {
    /// The longest wait that the source may ask for; a longer one ends the command.
    fn max_pause(self) -> Duration {
        match self {
            CallerMode::Daemon => Duration::from_secs(3),
            CallerMode::Person => Duration::from_secs(30),
        }
    }
}

/// What a host needs besides the session.
pub struct Rules {
    pub mode: CallerMode,
    /// The origins that data may be read from. POST requests have a separate list.
    pub origins: BTreeSet<String>,
    pub limits: Vec<Limit>,
    pub windows: Arc<Windows>,
    /// The account whose quota the calls use.
    pub account: String,
    /// True if the manifest's spec marks the secrets. Otherwise, every text of the credential is treated as a secret unless
    /// its field is known to be harmless.
    pub secrets_by_spec: bool,
    /// The largest body that is read, in bytes.
    pub max_bytes: u64,
}

/// The host of one open resource.
pub struct SessionHost {
    session: Session,
    clock: Arc<dyn Clock>,
    rules: Rules,
    /// `Rules::origins`, parsed.
    origin_urls: Vec<Url>,
    last: Mutex<LastResponses>,
}

/// A response that was received, and the request that it belongs to.
#[derive(Debug)]
pub struct KeptResponse {
    /// The stream for which the request was made. The login of a stream has a name of its own.
    pub stream: String,
    pub method: String,
    pub response: HostResponse,
    /// False if only the beginning of the body was kept.
    pub whole: bool,
}

impl KeptResponse {
    /// Returns the parts that classification uses.
    #[must_use]
    pub fn view(&self) -> ResponseView<'_> {
        let HostResponse { status, headers, body, url } = &self.response;
        ResponseView { method: &self.method, status: *status, headers, body, url }
    }
}

/// The last response of each stream, and the last response overall.
#[derive(Default)]
struct LastResponses {
    by_stream: BTreeMap<String, Arc<KeptResponse>>,
    overall: Option<Arc<KeptResponse>>,
    /// The memory of the values of the last response, by stream. The interpreter decodes one page of a stream at a time.
    memory: BTreeMap<String, Reservation>,
}

impl SessionHost {
    /// Creates a host that sends through `session`. Egress does not retry by status, because the manifest's error handler
    /// does.
    #[must_use]
    pub fn new(session: Session, clock: Arc<dyn Clock>, rules: Rules) -> SessionHost {
        let origin_urls = rules.origins.iter().filter_map(|origin| Url::parse(origin).ok()).collect();
        SessionHost { session: session.without_status_retries(), clock, rules, origin_urls, last: Mutex::default() }
    }

    /// Returns the last response of `stream`.
    #[must_use]
    pub fn last_response(&self, stream: &str) -> Option<Arc<KeptResponse>> {
        self.locked().by_stream.get(stream).cloned()
    }

    /// Returns the response that made `stream` fail with `status`: the last one of the stream, or the last one overall if
    /// a token call failed.
    #[must_use]
    pub fn failed_response(&self, stream: &str, status: Option<u16>) -> Option<Arc<KeptResponse>> {
        let last = self.locked();
        let fits = |kept: &&Arc<KeptResponse>| status.is_none_or(|status| kept.response.status == status);
        last.by_stream.get(stream).filter(fits).or_else(|| last.overall.as_ref().filter(fits)).cloned()
    }

    /// Returns the number of calls and bytes so far.
    #[must_use]
    pub fn traffic(&self) -> crate::egress::Traffic {
        self.session.traffic()
    }

    /// Returns the number of independent calls that may run at the same time.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.session.concurrency()
    }

    /// Records that the source rate-limits the account. No call of the account is sent until `wait` is over.
    #[must_use]
    pub fn throttled(&self, wait: Duration, reason: &str) -> Failure {
        self.session.throttled(wait, reason)
    }

    /// Returns why the source asked to wait, with the response that asked for it.
    fn requested(&self, wait: Duration) -> String {
        let asked = format!("the source asked to wait {} s", wait.as_secs());
        let last = self.locked();
        let Some(kept) = &last.overall else { return asked };
        format!("{asked}: {}", super::errors::summary(&kept.view()))
    }

    fn locked(&self) -> MutexGuard<'_, LastResponses> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request. In [`CallerMode::Person`], a rate-limited request is sent again after the wait that the source
    /// asked for. The manifest's error handler cannot do this, because egress does not pass such a response on.
    async fn send_with_retry(&self, request: HostRequest) -> Result<HttpResponse, Failure> {
        if self.rules.mode == CallerMode::Daemon {
            return self.send_once(request).await;
        }
        for _ in 1..MAX_THROTTLED_SENDS {
            match self.send_once(request.clone()).await {
                Err(failure) if failure.class == Class::Throttled => {
                    let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(u64::MAX));
                    if wait > self.rules.mode.max_pause() {
                        return Err(failure);
                    }
                    // Waits slightly longer than asked, so that the account is free by then.
                    tokio::time::sleep(wait + Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
        self.send_once(request).await
    }

    /// Converts `failure` to an error for the interpreter. For a person, the message includes the fix; the daemon shows
    /// the fix next to the title.
    fn host_error(&self, failure: Failure) -> HostError {
        let detail = if failure.detail.is_empty() { String::new() } else { format!(" ({})", failure.detail) };
        let message = match self.rules.mode {
            CallerMode::Daemon => failure.title.clone(),
            CallerMode::Person => format!("{}{detail}; {}", failure.title, failure.fix),
        };
        // Egress has already made every retry that could help, so this error ends the command.
        HostError::refused(message).with_failure(failure.into())
    }

    async fn send_once(&self, request: HostRequest) -> Result<HttpResponse, Failure> {
        let known = self.origin_urls.iter().find_map(|origin| parse_below(origin, &request.url));
        let url = known.map_or_else(|| Url::parse(&request.url), Ok).map_err(|error| {
            Failure::new(Class::Misconfigured, "the manifest produced an invalid URL", "see url_base and path of its requester")
                .detail(redact::scrub(&format!("{error}: {}", request.url)))
        })?;
        let has_known_secret = !self.rules.secrets_by_spec && redact::scrub(url.as_str()) != url.as_str();
        if self.rules.mode == CallerMode::Daemon && (request.secret_in_url || has_known_secret) {
            return Err(secret_in_url(&url));
        }
        let headers = request
            .headers
            .into_iter()
            .filter(|(name, _)| !CLIENT_HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header)))
            .map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value)))
            .collect();
        let max_bytes = self.rules.max_bytes;
        let method = match request.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => {
                let body = request
                    .body
                    .map(String::from_utf8)
                    .transpose()
                    .map_err(|_| not_read_only(&url, "POST with a body that is not text"))?;
                let method = Method::ListedPost(body.map(Secret::new));
                return self.session.http(HttpRequest { method, url, headers, max_bytes, follow_redirects: false }).await;
            }
            other => return Err(not_read_only(&url, other)),
        };
        if request.body.is_some_and(|body| !body.is_empty()) {
            return Err(not_read_only(&url, &format!("{} with a body", request.method)));
        }
        if !self.is_allowed_origin(&url) {
            return Err(other_origin(&url, &self.rules.origins));
        }
        self.session.http(HttpRequest { method, url, headers, max_bytes, follow_redirects: true }).await
    }

    /// Returns true if data may be read from `url`.
    fn is_allowed_origin(&self, url: &Url) -> bool {
        let origins = &self.rules.origins;
        // If the URL has neither user name nor password, everything before the path is the origin.
        let plain = url.username().is_empty() && url.password().is_none();
        (plain && origins.contains(&url[..Position::BeforePath])) || origins.contains(&url.origin().ascii_serialization())
    }

    /// Counts the call against the vendor's own rate limit. Once AAM's share is used up, the next call of the account waits.
    fn count(&self, response: &HttpResponse) {
        for limit in &self.rules.limits {
            if let Some(spent) = self.rules.windows.count(limit, &self.rules.account, &response.headers, self.clock.now()) {
                // This response is still valid, so only the next call fails.
                let _ = match spent.by_source {
                    true => self.session.throttled(spent.wait, &spent.reason),
                    false => self.session.share_used(spent.wait, &spent.reason),
                };
            }
        }
    }

    /// Reserves the memory of the values of a page, in place of the page before it.
    async fn page_memory(&self, stream: &str, body: &[u8]) -> Result<Reservation, Failure> {
        drop(self.locked().memory.remove(stream));
        let reserved = self.session.memory().reserve(json_memory::of_text(body)).await;
        reserved.map_err(|bound| bound.failure(&format!("a response of {stream}")))
    }

    fn keep(&self, stream: String, method: String, response: &HostResponse, memory: Reservation) {
        let whole = response.body.len() <= MAX_KEPT_BODY_BYTES;
        // Copies the beginning of the body, because a slice would keep the whole body in memory.
        let body = response.body.get(..MAX_KEPT_BODY_BYTES).map_or_else(|| response.body.clone(), Bytes::copy_from_slice);
        let response = HostResponse { body, ..response.clone() };
        let kept = Arc::new(KeptResponse { stream: stream.clone(), method, response, whole });
        let mut last = self.locked();
        last.overall = Some(Arc::clone(&kept));
        last.memory.insert(stream.clone(), memory);
        match last.by_stream.get_mut(&stream) {
            Some(before) => *before = kept,
            None => drop(last.by_stream.insert(stream, kept)),
        }
    }
}

impl Host for SessionHost {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async move {
            let (stream, method, for_token) = (request.stream.clone(), request.method.clone(), request.purpose == Purpose::Token);
            let response = self.send_with_retry(request).await.map_err(|failure| self.host_error(failure))?;
            if for_token {
                learn_secrets(&response.body);
            }
            self.count(&response);
            let HttpResponse { status, headers, body, url } = response;
            let response = HostResponse { status, headers: headers.into(), body, url: url.into() };
            let memory = self.page_memory(&stream, &response.body).await.map_err(|failure| self.host_error(failure))?;
            self.keep(stream, method, &response, memory);
            Ok(response)
        })
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.clock.now().0).unwrap_or_default()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        self.pause_for(wait, PauseReason::Requested)
    }

    fn pause_for(&self, wait: Duration, reason: PauseReason) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            if wait <= self.rules.mode.max_pause() {
                tokio::time::sleep(wait).await;
                return Ok(());
            }
            Err(match reason {
                PauseReason::Requested => self.host_error(self.session.throttled(wait, &self.requested(wait))),
                PauseReason::Budget => {
                    let reason = format!("the manifest's api_budget allows the next call in {} s", wait.as_secs());
                    self.host_error(self.session.share_used(wait, &reason))
                }
                // The source did not ask for this wait, so the failed response itself ends the request.
                PauseReason::Retry => {
                    HostError::refused(format!("the next retry would wait {} s, which is too long", wait.as_secs()))
                }
            })
        })
    }

    fn uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// Parses a `url` that starts with `origin` without parsing its host again. Returns `None` if the result might differ
/// from the result of `Url::parse`.
fn parse_below(origin: &Url, url: &str) -> Option<Url> {
    let path = url.strip_prefix(&origin[..Position::BeforePath])?;
    let mut bytes = path.bytes();
    // A path that starts with `//`, or with characters that the parser treats as `//`, could name another host.
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    let is_path = bytes.next() == Some(b'/') && bytes.next().is_none_or(plain);
    if is_path { origin.join(path).ok() } else { None }
}

impl From<Failure> for HostFailure {
    fn from(failure: Failure) -> HostFailure {
        let Failure { class, title, fix, detail, retry_after_ms } = failure;
        let retry_after = retry_after_ms.map(Duration::from_millis);
        HostFailure { class: class.as_str().to_string(), title, fix, detail, retry_after }
    }
}

/// Returns the failure of egress that caused `error`, or `None` if the error does not come from egress.
#[must_use]
pub fn failure_of(error: &HostError) -> Option<Failure> {
    let HostFailure { class, title, fix, detail, retry_after } = error.failure.as_deref()?;
    let failure = Failure::new(super::errors::class(class)?, title, fix).detail(detail);
    Some(match retry_after {
        Some(wait) => failure.after(*wait),
        None => failure,
    })
}

/// Registers the texts in the response to a token call as secrets, whatever their keys are called.
fn learn_secrets(body: &[u8]) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) else { return };
    for value in fields.values().filter_map(serde_json::Value::as_str) {
        // Texts such as `bearer` or a list of scopes are not secrets.
        if value.len() >= 16 && !value.contains(char::is_whitespace) && value.bytes().any(|byte| byte.is_ascii_digit()) {
            redact::learn_value(value);
        }
    }
}

fn secret_in_url(url: &Url) -> Failure {
    Failure::new(
        Class::EgressRefused,
        format!("{} was not called: the manifest puts a secret into the URL", url.host_str().unwrap_or_default()),
        "logs and proxies record URLs: change the manifest so that it sends the secret in a header or a body",
    )
}

fn not_read_only(url: &Url, what: &str) -> Failure {
    Failure::new(
        Class::EgressRefused,
        format!("{} {} was not sent: AAM only reads", redact::scrub_and_cut(what, 60), url.host_str().unwrap_or_default()),
        "remove the call from the manifest, or use GET",
    )
}

fn other_origin(url: &Url, origins: &BTreeSet<String>) -> Failure {
    let allowed: Vec<&str> = origins.iter().map(String::as_str).collect();
    Failure::new(
        Class::EgressRefused,
        format!("{} was not called: the credential is only for {}", url.origin().ascii_serialization(), allowed.join(", ")),
        "if the API has several hosts, list them as hosts of the source under manifests.sources in the policy; if not, correct the URL in the manifest",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// `parse_below` returns the same result as `Url::parse`.
        #[test]
        fn a_url_below_an_origin_is_parsed_as_a_whole_one(
            origin in "https?://(a\\.b|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]{2})?",
            path in "(/|\\\\|[a-z0-9.%?#@: \t\n]|\\.\\.){0,8}",
        ) {
            let origin = Url::parse(&origin).unwrap();
            let whole = format!("{}{path}", &origin[..Position::BeforePath]);
            if let Some(url) = parse_below(&origin, &whole) {
                prop_assert_eq!(Ok(url), Url::parse(&whole));
            }
        }
    }

    #[test]
    fn a_failure_crosses_the_seam_without_loss() {
        for class in Class::ALL {
            for wait in [None, Some(0), Some(u64::MAX)] {
                let failure = Failure { retry_after_ms: wait, ..Failure::new(class, "title", "fix").detail("detail") };
                let error = HostError::refused("message").with_failure(failure.clone().into());
                assert_eq!(failure_of(&error), Some(failure));
            }
        }
        assert_eq!(failure_of(&HostError::refused("message")), None);
    }

    #[test]
    fn another_host_is_not_below() {
        let origin = Url::parse("https://api.acme.example").unwrap();
        assert_eq!(
            parse_below(&origin, "https://api.acme.example/v1/x?y=1#z").unwrap().as_str(),
            "https://api.acme.example/v1/x?y=1#z"
        );
        assert_eq!(parse_below(&origin, "https://api.acme.example/").unwrap().as_str(), "https://api.acme.example/");
        for other in
            ["//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil", ".evil.example/", "@evil.example/", ":81/x", ""]
        {
            assert_eq!(parse_below(&origin, &format!("https://api.acme.example{other}")), None, "{other:?}");
        }
    }
}
