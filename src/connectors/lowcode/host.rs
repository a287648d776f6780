//! Connects the interpreter to egress, for one attempt of the daemon or for one command on the command line.
//!
//! A failure of egress passes through the interpreter as a [`HostFailure`] and comes back unchanged. The last response
//! of each stream is kept, because grants are in headers and because manifests do not describe all error responses.

mod body;
mod request;
mod response;

pub use response::{KeptResponse, ReceivedResponse};

use super::family_spec::Limit;
use super::limits::Windows;
use super::reuse::{RequestKey, ReusableResponses, StoredResponse};
use crate::clock::Clock;
use crate::connectors::json_memory;
use crate::credentials::redact;
use crate::egress::{HttpResponse, Session, Traffic, WaitRequest, excerpt, wait_request};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure};
use ::lowcode::host::{Host, HostError, HostFailure, HostRequest, HostResponse, PauseReason, Purpose};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use url::Url;

/// The number of times that a call in [`CallerMode::Person`] is sent while the source rate-limits it.
const MAX_THROTTLED_SENDS: u32 = 5;
/// The longest wait before a job of the source is looked at again.
const MAX_JOB_PAUSE: Duration = Duration::from_secs(5);
/// The maximum number of bytes to keep of the body of a stream's last response.
const MAX_KEPT_BODY_BYTES: usize = 256 << 10;

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
    /// How to add a host to which calls are allowed.
    pub hosts_fix: String,
    /// The header `User-Agent`; empty for the one of AAM.
    pub user_agent: String,
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
    responses: ReusableResponses,
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
    /// does, and it returns throttled responses, because the family knows what they mean.
    #[must_use]
    pub fn new(session: Session, clock: Arc<dyn Clock>, rules: Rules) -> SessionHost {
        let origin_urls = rules.origins.iter().filter_map(|origin| Url::parse(origin).ok()).collect();
        let responses = ReusableResponses::new(session.memory().limit());
        let session = session.without_status_retries().leaving_waits();
        SessionHost { session, clock, rules, origin_urls, last: Mutex::default(), responses }
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

    /// Returns the number of calls and bytes so far, and what was used again instead of making a call.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let reused = self.responses.reused();
        Traffic { reused: reused.responses, reused_time: reused.took, ..self.session.traffic() }
    }

    /// Ensures that the last response of `stream`, and the last one overall, are not used again, because `stream` could
    /// not be read from them.
    pub fn forget(&self, stream: &str) {
        let last = self.locked();
        for kept in [last.by_stream.get(stream), last.overall.as_ref()].into_iter().flatten() {
            if let Some(key) = &kept.key {
                self.responses.remove(key);
            }
        }
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

    /// Stops all calls of the account, because `received` asks to wait. Returns the failure to report.
    #[must_use]
    pub fn stopped(&self, received: &ReceivedResponse, wait: WaitRequest) -> Failure {
        let HostResponse { status, body, url, .. } = &received.response;
        let host = Url::parse(url).ok().and_then(|url| super::address::host_of(&url)).unwrap_or_default();
        let reason = format!("{status} from {host}: {}", excerpt(body));
        let wait = wait.named.or_else(|| crate::egress::named_wait(body)).unwrap_or_else(|| wait.wait());
        self.throttled(wait, reason.trim_end_matches(": "))
    }

    /// Ensures that `received` is not used again, because it is not data.
    pub fn forget_received(&self, received: &ReceivedResponse) {
        if let Some(key) = &received.key {
            self.responses.remove(key);
        }
    }

    /// Returns the wait that the headers of a response name, if the family calls it throttled.
    #[must_use]
    pub fn named_wait(&self, headers: &[(String, String)]) -> Option<Duration> {
        wait_request(429, headers, self.clock.now())?.named
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
    /// asked for. The manifest's error handler cannot do this, because such a response is not passed on.
    async fn send_with_retry(&self, request: HostRequest) -> Result<(ReceivedResponse, bool), Failure> {
        if self.rules.mode == CallerMode::Daemon {
            return self.respond(request).await;
        }
        for turn in 1.. {
            let sent = self.respond(request.clone()).await.and_then(|(received, reused)| match received.wait {
                Some(wait) => Err(self.stopped(&received, wait)),
                None => Ok((received, reused)),
            });
            let Err(failure) = &sent else { return sent };
            let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(u64::MAX));
            if failure.class != Class::Throttled || wait > self.rules.mode.max_pause() || turn >= MAX_THROTTLED_SENDS {
                return sent;
            }
            // Waits slightly longer than asked, so that the account is free by then.
            tokio::time::sleep(wait + Duration::from_millis(5)).await;
        }
        Err(Failure::new(Class::Bug, "a request was never sent", "report this as a defect of AAM"))
    }

    /// Sends the request, unless the attempt already has the response to an equal one. Also returns whether a response was
    /// used again.
    async fn respond(&self, request: HostRequest) -> Result<(ReceivedResponse, bool), Failure> {
        let (stream, method, expects_json) = (request.stream.clone(), request.method.clone(), request.expects_json);
        let received =
            |response, key, wait| ReceivedResponse { stream: stream.clone(), method: method.clone(), response, wait, key };
        let may_reuse = self.rules.mode == CallerMode::Daemon && request.purpose == Purpose::Data;
        let key = may_reuse.then(|| RequestKey::new(&request));
        let (for_token, is_retry) = (request.purpose == Purpose::Token, request.is_retry);
        let request = self.http_request(request)?;
        let key = key.filter(|_| self.session.is_idempotent(&request));
        let _lock = match key {
            Some(key) => Some(self.responses.lock(key).await),
            None => None,
        };
        if let Some(key) = &key {
            if is_retry {
                self.responses.remove(key);
            }
            if let Some(response) = self.responses.reuse(key) {
                return Ok((received(response, Some(*key), None), true));
            }
        }
        let started = Instant::now();
        let response = self.session.http(request).await?;
        let wait = wait_request(response.status, &response.headers, self.clock.now());
        if for_token {
            learn_secrets(&response.body);
        }
        if wait.is_none() {
            self.count(&response);
        }
        let HttpResponse { status, headers, body, url } = response;
        let response = HostResponse { status, headers: headers.into(), body, url: url.into() };
        let response = if expects_json { body::in_utf8(response, self.rules.max_bytes) } else { response };
        if let Some(key) = key {
            self.responses.store(key, StoredResponse { response: response.clone(), took: started.elapsed() });
        }
        Ok((received(response, key, wait), false))
    }

    /// Sends the request and keeps the response. A throttled response is not kept: the caller stops the account, or passes
    /// the response to [`SessionHost::accept`].
    ///
    /// # Errors
    /// Returns the failures of egress, as the interpreter passes them on.
    pub async fn exchange(&self, request: HostRequest) -> Result<ReceivedResponse, HostError> {
        let (received, reused) = self.send_with_retry(request).await.map_err(|failure| self.host_error(failure))?;
        if received.wait.is_none() {
            self.accept(&received, reused).await?;
        }
        Ok(received)
    }

    /// Keeps a response that the interpreter is going to read.
    ///
    /// # Errors
    /// Returns an error if its values need more memory than there is.
    pub async fn accept(&self, received: &ReceivedResponse, reused: bool) -> Result<(), HostError> {
        let ReceivedResponse { stream, method, response, key, .. } = received;
        let memory = self.page_memory(stream, &response.body).await.map_err(|failure| self.host_error(failure))?;
        let (stream, method, response) = (stream.clone(), method.clone(), response.clone());
        self.keep(KeptResponse { stream, method, response, whole: true, reused, key: *key }, memory);
        Ok(())
    }

    /// Converts `failure` to an error for the interpreter. For a person, the message includes the fix; the daemon shows
    /// the fix next to the title.
    pub fn host_error(&self, failure: Failure) -> HostError {
        let detail = if failure.detail.is_empty() { String::new() } else { format!(" ({})", failure.detail) };
        let message = match self.rules.mode {
            CallerMode::Daemon => failure.title.clone(),
            CallerMode::Person => format!("{}{detail}; {}", failure.title, failure.fix),
        };
        // Egress has already made every retry that could help, so this error ends the command.
        HostError::refused(message).with_failure(failure.into())
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
        let bytes = json_memory::of_text(body);
        let mut reserved = self.session.memory().reserve(bytes).await;
        // The page itself is needed more than the responses that might be used again.
        if reserved.is_err() && self.responses.clear() {
            reserved = self.session.memory().reserve(bytes).await;
        }
        reserved.map_err(|bound| bound.failure(&format!("a response of {stream}")))
    }

    fn keep(&self, kept: KeptResponse, memory: Reservation) {
        let KeptResponse { stream, response, .. } = &kept;
        let whole = response.body.len() <= MAX_KEPT_BODY_BYTES;
        // Copies the beginning of the body, because a slice would keep the whole body in memory.
        let body = response.body.get(..MAX_KEPT_BODY_BYTES).map_or_else(|| response.body.clone(), Bytes::copy_from_slice);
        let (stream, response) = (stream.clone(), HostResponse { body, ..response.clone() });
        let kept = Arc::new(KeptResponse { response, whole, ..kept });
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
            let received = self.exchange(request).await?;
            match received.wait {
                Some(wait) => Err(self.host_error(self.stopped(&received, wait))),
                None => Ok(received.response),
            }
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
            let longest = if reason == PauseReason::Job { MAX_JOB_PAUSE } else { self.rules.mode.max_pause() };
            if wait <= longest {
                tokio::time::sleep(wait).await;
                return Ok(());
            }
            Err(match reason {
                PauseReason::Requested => self.host_error(self.session.throttled(wait, &self.requested(wait))),
                PauseReason::Budget => {
                    let reason = format!("the manifest's api_budget allows the next call in {} s", wait.as_secs());
                    self.host_error(self.session.share_used(wait, &reason))
                }
                PauseReason::Job => HostError::refused(format!(
                    "a job of the source would be looked at again in {} s, which is too long",
                    wait.as_secs()
                )),
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
