//! One HTTP request from the guard to the answer: every try is admitted, charged, sent and logged anew.

use super::body::{self, Trouble};
use super::breaker::HealthSignal;
use super::client::connect_timeout;
use super::gate::Ticket;
use super::post::{self, Post};
use super::transport::{self, Broken, Cause};
use super::{Answer, Method, Request, Session, guard, log, redirect, retry};
use crate::model::{Class, Failure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, Uri};
use std::time::{Duration, Instant};
use url::Url;

/// How a try ended.
enum Tried {
    /// Nothing was sent.
    Held(Failure),
    Sent(Result<Answer, Failure>),
    /// The same call may pass a moment later.
    Again(Result<Answer, Failure>),
}

/// One request as it goes out.
struct Outgoing {
    method: hyper::Method,
    headers: HeaderMap,
    body: Bytes,
    max_bytes: u64,
    /// It may be sent again although the first one may have arrived.
    again: bool,
}

/// Sends, retries and follows redirects.
///
/// # Errors
/// Those of [`Session::http`].
pub async fn http(session: &Session, request: &Request) -> Result<Answer, Failure> {
    let method = match request.method {
        Method::Get => hyper::Method::GET,
        Method::Head => hyper::Method::HEAD,
    };
    let headers = headers(&request.headers)?;
    let out = Outgoing { method, headers, body: Bytes::new(), max_bytes: request.max_bytes, again: true };
    let mut url = request.url.clone();
    for _ in 0..=redirect::MOST {
        let answer = patiently(session, &out, &url).await?;
        let next =
            if request.follow_redirects { redirect::target(answer.status, answer.header("location"), &url)? } else { None };
        match next {
            Some(next) => url = next,
            None => return Ok(answer),
        }
    }
    Err(redirect::too_many(&url))
}

/// Sends a POST of the list, once; a second time only if its entry says that this does no harm.
///
/// # Errors
/// Those of [`Session::post`].
pub async fn post(session: &Session, post: &Post) -> Result<Answer, Failure> {
    let permit = post::permit(&session.caller.posts, post)?;
    let mut headers = headers(&post.headers)?;
    if let Some(media) = permit.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    }
    if permit.body.is_empty() {
        // Many servers answer 411 without it, and the client leaves it out.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let (body, max_bytes, again) = (permit.body, post.max_bytes, permit.idempotent);
    let out = Outgoing { method: hyper::Method::POST, headers, body, max_bytes, again };
    let answer = patiently(session, &out, &post.url).await?;
    match answer.status {
        status @ (301 | 302 | 303 | 307 | 308) if answer.header("location").is_some() => Err(post::redirected(&post.url, status)),
        _ => Ok(answer),
    }
}

async fn patiently(session: &Session, out: &Outgoing, url: &Url) -> Result<Answer, Failure> {
    let mut last = None;
    let retries = if out.again { retry::QUICK_RETRIES } else { 0 };
    for turn in 0..=retries {
        if turn > 0 {
            tokio::time::sleep(retry::quick_wait(turn - 1, fastrand::f64())).await;
        }
        match once(session, out, url).await {
            // What the source itself said tells more than why it was not asked again.
            Tried::Held(failure) => return last.unwrap_or(Err(failure)),
            Tried::Sent(result) => return result,
            Tried::Again(result) => last = Some(result),
        }
    }
    last.unwrap_or_else(|| Err(Failure::new(Class::Bug, "a call was never tried", "report this as a defect of AAM")))
}

async fn once(session: &Session, out: &Outgoing, url: &Url) -> Tried {
    let network = &session.caller.policy.network;
    let host = url.host_str().unwrap_or_default();
    if let Err(failure) = guard::check_url(url, &network.allow_private).and_then(|()| beyond_proxy(session, url)) {
        return Tried::Held(failure);
    }
    let target: Uri = match url.as_str().parse() {
        Ok(target) => target,
        Err(error) => return Tried::Held(unsendable(url, &error)),
    };
    let tls = url.scheme() == "https";
    let client = match session.egress.clients.get(&session.caller.policy, &session.egress.lookup, tls) {
        Ok(client) => client,
        Err(failure) => return Tried::Held(failure),
    };
    let (ticket, _slot) = match session.gate(host, url.port_or_known_default().unwrap_or(0)).await {
        Ok(admitted) => admitted,
        Err(failure) => return Tried::Held(failure),
    };
    if let Err(failure) = session.charge().await {
        return Tried::Held(failure);
    }
    let mut request = hyper::Request::new(Full::new(out.body.clone()));
    *request.method_mut() = out.method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = out.headers.clone();
    let mut flight = Flight::start(session, ticket, out.method.as_str(), url);
    let answer = tokio::time::timeout_at(flight.deadline, client.request(request)).await;
    match answer.map_err(|_| Broken::Late).and_then(|answer| Ok(answer?)) {
        Err(error) => flight.unanswered(&error),
        Ok(response) => {
            flight.heard = true;
            flight.answered(response, out.max_bytes).await
        }
    }
}

/// The URL standard lets more through than HTTP does.
fn unsendable(url: &Url, error: &hyper::http::uri::InvalidUri) -> Failure {
    let title = format!("an address of {} cannot be sent", url.host_str().unwrap_or_default());
    let fix =
        "it is too long or holds a sign that HTTP cannot carry: see where it comes from, most often a link of the answer before";
    Failure::new(Class::Remote, title, fix).detail(error.to_string())
}

/// A little less than a step may take, so that the failure names the host and not the step.
fn patience(session: &Session) -> Duration {
    session.caller.policy.safe_mode.step_timeout.mul_f64(0.75)
}

/// Behind a proxy nobody checks what a name resolves to, so names that mean "inside" are refused.
fn beyond_proxy(session: &Session, url: &Url) -> Result<(), Failure> {
    match url.host() {
        Some(url::Host::Domain(name)) if session.caller.policy.network.proxy.is_some() && guard::local_name(name) => {
            let title = format!("{name} was not called: it is a name inside the network, and calls go through network.proxy");
            Err(Failure::new(
                Class::EgressRefused,
                title,
                "write the address instead of the name and list it in the policy: network.allow_private",
            ))
        }
        _ => Ok(()),
    }
}

/// Headers that make another method or another message of a call than the one that was judged.
const FORGING: [&str; 9] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "proxy-authorization",
];

fn headers(pairs: &[(String, crate::credentials::Secret)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::with_capacity(pairs.len() + 3);
    for (name, value) in pairs {
        if FORGING.iter().any(|forging| name.eq_ignore_ascii_case(forging)) {
            let fix = "take the header out of the manifest or description: it could make a write of a read";
            return Err(Failure::new(Class::EgressRefused, format!("the header {name} is never sent"), fix));
        }
        let unusable = || {
            let fix =
                "the credential holds a character that no header can carry; most often it is a line break at its end: remove it";
            Failure::new(Class::CredentialMissing, format!("the value for the header {name} cannot be sent"), fix)
        };
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Failure::new(Class::Bug, format!("{name:?} is no header name"), "report this as a defect of AAM"))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| unusable())?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    map.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(concat!("AAM/", env!("CARGO_PKG_VERSION"))));
    map.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    if !map.contains_key(header::RANGE) {
        // A range of what is packed cannot be unpacked.
        map.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
    }
    Ok(map)
}

/// A call that is out. Ended exactly once: with its outcome, or, when the caller gives up, on drop.
struct Flight<'a> {
    session: &'a Session,
    ticket: Ticket,
    method: &'a str,
    url: &'a Url,
    started: Instant,
    /// How long head and body may take, from the start.
    whole: Duration,
    deadline: tokio::time::Instant,
    /// The head of an answer came.
    heard: bool,
    over: bool,
}

impl<'a> Flight<'a> {
    fn start(session: &'a Session, ticket: Ticket, method: &'a str, url: &'a Url) -> Flight<'a> {
        session.counters.call();
        let (started, whole) = (Instant::now(), patience(session));
        let deadline = tokio::time::Instant::from_std(started) + whole;
        Flight { session, ticket, method, url, started, whole, deadline, heard: false, over: false }
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn at(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_string(),
        }
    }

    fn end(&mut self, sign: HealthSignal, words: &str, status: u16, bytes: u64, error: &str) {
        self.over = true;
        self.ticket.leave(sign, words);
        self.session.counters.bytes(bytes);
        let (method, host, path, took) = (self.method, self.host(), self.url.path(), self.started.elapsed());
        log::write(&self.session.caller, &log::Line { method, host, path, status, bytes, took, error });
    }

    fn unanswered(&mut self, error: &Broken) -> Tried {
        let safe_mode = &self.session.caller.policy.safe_mode;
        let cause = transport::diagnose(error, connect_timeout(safe_mode), self.whole);
        let failure = cause.failure(&self.at(), &transport::words(error));
        let sign = match cause {
            Cause::Guard(_) => HealthSignal::Unknown,
            Cause::NotHttp => HealthSignal::Alive,
            _ => HealthSignal::Failing,
        };
        self.end(sign, &failure.title, 0, 0, failure.class.as_str());
        if cause.passes_by_itself() { Tried::Again(Err(failure)) } else { Tried::Sent(Err(failure)) }
    }

    async fn answered(&mut self, response: Response<Incoming>, max_bytes: u64) -> Tried {
        let (mut head, body) = response.into_parts();
        let status = head.status.as_u16();
        let gzip = gzip(&head.headers);
        if gzip {
            // They tell of what came, not of what is handed on.
            head.headers.remove(header::CONTENT_ENCODING);
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let read = |most| body::read(body, gzip, announced, most, self.deadline);
        let headers: Vec<(String, String)> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let now = self.session.egress.clock.now();
        if let Some(wait) = retry::throttled(status, &headers, now) {
            let body = read(body::WORDS).await.unwrap_or_else(|(_, _)| Bytes::new());
            let words = format!("{status} from {}: {}", self.at(), body::excerpt(&body));
            self.end(HealthSignal::Unknown, &words, status, body.len() as u64, Class::Throttled.as_str());
            return Tried::Sent(Err(self.session.account.park(&self.session.caller, wait, now, words.trim_end_matches(": "))));
        }
        let (sign, words) = match status {
            500.. => (HealthSignal::Failing, format!("{} answered {status}", self.at())),
            _ => (HealthSignal::Alive, String::new()),
        };
        match read(max_bytes).await {
            Err((bytes, trouble)) => {
                let failure = trouble.failure(&self.at(), bytes, self.whole);
                let sign = if matches!(trouble, Trouble::TooLong(_)) { sign } else { HealthSignal::Failing };
                self.end(sign, &failure.title, status, bytes, failure.class.as_str());
                Tried::Sent(Err(failure))
            }
            Ok(body) => {
                self.end(sign, &words, status, body.len() as u64, "");
                let answer = Ok(Answer { status, headers, body, url: self.url.clone() });
                if retry::passing_trouble(status) { Tried::Again(answer) } else { Tried::Sent(answer) }
            }
        }
    }
}

fn gzip(headers: &HeaderMap) -> bool {
    let word = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    word.eq_ignore_ascii_case(b"gzip") || word.eq_ignore_ascii_case(b"x-gzip")
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.over {
            // A host that lets its callers wait until they give up is not well; a slow body says less.
            let sign = if self.heard { HealthSignal::Unknown } else { HealthSignal::Failing };
            let words = format!("{} gave no answer before the step ended", self.at());
            self.end(sign, &words, 0, 0, "abandoned");
        }
    }
}
