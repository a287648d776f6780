//! The send loop: three nested layers of retries around one request, as in `_send_with_retry` of http_client.py.

use super::Requester;
use super::failure::no_adapter;
use super::prepare::has_adapter;
use crate::context::Run;
use crate::error::Failed;
use crate::errors::{Action, Outcome, Resolution};
use crate::host::{HostRequest, PauseReason};
use crate::response::Response;
use jiff::Timestamp;
use std::time::Duration;

/// The time after which no further try is made, in seconds (`HttpClient._DEFAULT_MAX_TIME`).
const MAX_TIME: f64 = 600.0;
/// The wait before a rate-limited request is sent again with another token, in seconds
/// (`HttpClient.TOKEN_ROTATION_BACKOFF`).
const ROTATION_WAIT: f64 = 0.1;
/// The longest wait that is requested from a host, in seconds.
const MAX_PAUSE: f64 = 86_400.0 * 365.0;

/// The layer that waits: `UserDefinedBackoffException`, `RateLimitBackoffException` or `DefaultBackoffException`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wait {
    /// A backoff strategy of the manifest gave the seconds. The flag is true if it read them from the response.
    Asked(f64, bool),
    RateLimited,
    Default,
}

impl Wait {
    fn reason(self) -> PauseReason {
        match self {
            Wait::Asked(_, true) | Wait::RateLimited => PauseReason::Requested,
            Wait::Asked(_, false) | Wait::Default => PauseReason::Retry,
        }
    }
}

/// One layer of the Python package `backoff`: how often its target was called, and when the first call began.
#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    tries: i64,
    started: Option<Timestamp>,
}

impl Layer {
    /// Counts a call that began at `now`. Returns the seconds since the first call.
    fn count(&mut self, now: Timestamp) -> f64 {
        self.tries += 1;
        now.duration_since(*self.started.get_or_insert(now)).as_secs_f64()
    }
}

/// The three layers. When an outer layer handles an exception, the inner layers start over.
#[derive(Debug)]
pub(super) struct Layers {
    max_tries: i64,
    asked: Layer,
    limited: Layer,
    default: Layer,
}

impl Layers {
    pub(super) fn new(max_retries: i64) -> Layers {
        let fresh = Layer::default();
        Layers { max_tries: max_retries.max(0).saturating_add(1), asked: fresh, limited: fresh, default: fresh }
    }

    /// Returns the seconds to wait before the next try, or `None` if no try is left. The failed try began at `now`.
    pub(super) fn next(&mut self, wait: Wait, now: Timestamp) -> Option<f64> {
        for layer in [&mut self.asked, &mut self.limited, &mut self.default] {
            layer.started.get_or_insert(now);
        }
        match wait {
            Wait::Asked(seconds, _) => {
                let elapsed = self.asked.count(now);
                // The CDK waits one second longer than requested.
                (self.asked.tries < self.max_tries && elapsed < MAX_TIME).then_some(seconds + 1.0)
            }
            Wait::RateLimited => {
                self.asked = Layer::default();
                self.limited.count(now);
                (self.limited.tries < self.max_tries).then(|| doubled(self.limited.tries))
            }
            Wait::Default => {
                self.asked = Layer::default();
                self.limited = Layer::default();
                let elapsed = self.default.count(now);
                let left = MAX_TIME - elapsed;
                (self.default.tries < self.max_tries && left > 0.0).then(|| doubled(self.default.tries).min(left))
            }
        }
    }
}

/// Returns 1, 2, 4, 8 … seconds.
fn doubled(tries: i64) -> f64 {
    2_f64.powf((tries - 1) as f64)
}

impl Requester {
    /// Sends `request` until it succeeds or no try is left.
    pub(super) async fn deliver(&self, run: &Run<'_>, request: &mut HostRequest) -> Result<Option<Response>, Failed> {
        let mut layers = Layers::new(self.handler.max_retries());
        let mut refreshed = None;
        let mut attempt = 0_u32;
        loop {
            attempt = attempt.saturating_add(1);
            if attempt > 1 {
                request.is_retry = true;
                self.authenticate(run, request).await?;
            }
            let began = run.host.now();
            let sent = self.send_once(run, request).await?;
            let outcome = sent.outcome();
            let scope = run.scope();
            let resolution = self.handler.interpret(outcome, &scope)?;
            let wait = match resolution.action {
                Action::Success | Action::Ignore => return Ok(sent.into_response()),
                Action::Fail => return Err(self.failed(run, request, outcome, &resolution)),
                Action::ResetPagination => {
                    return Err(self.signal(run, "PaginationResetRequiredException", &resolution, outcome));
                }
                Action::ReducePageSize => {
                    return Err(self.signal(run, "PageSizeReductionRequiredException", &resolution, outcome));
                }
                Action::SplitRequestWindow => {
                    return Err(self.signal(run, "RequestWindowSplitRequiredException", &resolution, outcome));
                }
                Action::RefreshTokenThenRetry => {
                    self.refresh(run, request, outcome, &resolution, &mut refreshed).await?;
                    self.wait_for(outcome, attempt, run, &resolution)?
                }
                Action::RateLimited if self.auth.rate_limited().is_some_and(|it| it.has_alternative(run, request)) => {
                    Wait::Asked(ROTATION_WAIT, false)
                }
                Action::Retry | Action::RateLimited => self.wait_for(outcome, attempt, run, &resolution)?,
            };
            let Some(seconds) = layers.next(wait, began) else { return Err(self.exhausted(run, request, outcome, &resolution)) };
            let pause = Duration::from_secs_f64(seconds.clamp(0.0, MAX_PAUSE));
            if let Err(host_error) = run.host.pause_for(pause, wait.reason()).await {
                let mut failed = self.exhausted(run, request, outcome, &resolution);
                failed.host_error = Some(host_error);
                return Err(failed);
            }
        }
    }

    fn wait_for(&self, outcome: Outcome<'_>, attempt: u32, run: &Run<'_>, resolution: &Resolution) -> Result<Wait, Failed> {
        let scope = run.scope();
        for backoff in &self.backoffs {
            if let Some(wait) = backoff.wait(outcome, attempt, &scope)?.filter(|it| it.seconds != 0.0) {
                return Ok(Wait::Asked(wait.seconds, wait.requested || resolution.action == Action::RateLimited));
            }
        }
        Ok(if resolution.action == Action::RateLimited { Wait::RateLimited } else { Wait::Default })
    }

    /// Sends the request once. If the requester uses the cache, the response may come from there.
    async fn send_once(&self, run: &Run<'_>, request: &HostRequest) -> Result<Sent, Failed> {
        if !has_adapter(&request.url) {
            return Ok(Sent::Exception { class: "InvalidSchema", message: no_adapter(&request.url) });
        }
        let key = (self.options.use_cache && matches!(self.method.as_str(), "GET" | "HEAD")).then(|| cache_key(request));
        if let Some(response) = key.as_ref().and_then(|key| run.cache.get(key)) {
            return Ok(Sent::Response(Response::new(response, run.bounds)?));
        }
        self.budget.acquire(run, request).await?;
        match run.send(request.clone()).await? {
            Ok(response) => {
                if let Some(key) = key.filter(|_| response.status == 200) {
                    run.cache.put(key, response.clone());
                }
                let response = Response::new(response, run.bounds)?;
                if let Some(tokens) = self.auth.rate_limited() {
                    tokens.observe(run, request, &response);
                }
                Ok(Sent::Response(response))
            }
            Err(host_error) => Ok(Sent::Exception { class: "ConnectionError", message: host_error.message }),
        }
    }
}

/// Returns the method, URL, body and headers, without the headers that requests_cache ignores.
pub(super) fn cache_key(request: &HostRequest) -> String {
    let mut key = format!("{} {}", request.method, request.url);
    for (name, value) in &request.headers {
        if !["authorization", "x-api-key", "access_token", "api_key"].contains(&name.to_ascii_lowercase().as_str()) {
            key.push_str(&format!("\n{name}: {value}"));
        }
    }
    key.push_str("\n\n");
    key.push_str(&String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()));
    key
}

/// The result of sending a request once.
enum Sent {
    Response(Response),
    Exception { class: &'static str, message: String },
}

impl Sent {
    fn outcome(&self) -> Outcome<'_> {
        match self {
            Sent::Response(response) => Outcome::Response(response),
            Sent::Exception { class, message } => Outcome::Exception { class, message },
        }
    }

    fn into_response(self) -> Option<Response> {
        match self {
            Sent::Response(response) => Some(response),
            Sent::Exception { .. } => None,
        }
    }
}
