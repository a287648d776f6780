//! Where the requests of a connector go: the proxy of its run hands each of them over, and this sends it through the
//! session of the attempt, like a request of AAM's own engines, or refuses it.

use super::hosts::Hosts;
use crate::credentials::Secret;
use crate::credentials::redact::{self, AttemptSecrets};
use crate::egress::{HttpRequest, HttpResponse, Method, Session, excerpt};
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use intercept::{HeaderMap, HeaderName, HeaderValue, Refusal, Request, Response, StatusCode, Upstream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use url::Url;

/// The maximum size of a response in bytes.
const MAX_RESPONSE_BYTES: u64 = 32 << 20;
/// The maximum number of refusals that are kept of one run.
const MAX_REFUSED: usize = 10;
/// The length from which a token in a request is a secret, in bytes.
const MIN_TOKEN_BYTES: usize = 8;
/// The maximum size of a response of a token endpoint that is searched for tokens, in bytes.
const MAX_TOKEN_BODY_BYTES: usize = 64 << 10;

/// The fields of a response that hold tokens.
const TOKEN_FIELDS: [&str; 4] = ["access_token", "refresh_token", "id_token", "token"];

/// Headers that AAM sets itself: how it compresses, and what belongs to one connection.
const OWN_HEADERS: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The error response of the vendor that the connector saw last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorError {
    pub status: u16,
    /// Method, host and path, for example `GET api.example.com/users`.
    pub call: String,
    /// The beginning of the body, scrubbed.
    pub body: String,
}

/// What the connector saw last of what did not work.
#[derive(Clone, Debug)]
pub enum Obstacle {
    Refused(Failure),
    Vendor(VendorError),
}

/// What happened to the requests of one run.
#[derive(Default)]
pub struct Observed {
    state: Mutex<State>,
    /// Wakes the run when a failure ends it.
    pub ended: Notify,
}

#[derive(Default)]
struct State {
    sent: u64,
    refused: Vec<Failure>,
    more_refused: u64,
    last: Option<Obstacle>,
    fatal: Option<Failure>,
    /// The requests that have not been answered yet.
    open: u64,
    /// What was answered or refused so far.
    answers: u64,
    /// Whether the last answer refused something.
    is_refused: bool,
}

/// A request that has not been answered yet. It counts until this is dropped.
struct OpenRequest(Arc<Observed>);

impl OpenRequest {
    fn new(observed: &Arc<Observed>) -> OpenRequest {
        observed.lock().open += 1;
        OpenRequest(Arc::clone(observed))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open = state.open.saturating_sub(1);
        state.answers += 1;
    }
}

impl Observed {
    /// Returns the number of answers so far if AAM refused the last one and the connector waits for none. A connector that
    /// does nothing from then on waits before it tries again.
    #[must_use]
    pub fn refused_last(&self) -> Option<u64> {
        let state = self.lock();
        (state.is_refused && state.open == 0).then_some(state.answers)
    }

    /// The number of requests that got a response.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// The titles of what was refused, and that there was more.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        let state = self.lock();
        let mut titles: Vec<String> = state.refused.iter().map(|failure| failure.title.clone()).collect();
        titles.extend((state.more_refused > 0).then(|| format!("{} more", state.more_refused)));
        titles
    }

    /// What did not work last.
    #[must_use]
    pub fn last(&self) -> Option<Obstacle> {
        self.lock().last.clone()
    }

    /// The failure that ended the run: no further request could succeed.
    #[must_use]
    pub fn fatal(&self) -> Option<Failure> {
        self.lock().fatal.clone()
    }

    fn refuse(&self, failure: Failure) {
        let mut state = self.lock();
        state.last = Some(Obstacle::Refused(failure.clone()));
        state.is_refused = true;
        state.answers += 1;
        if state.refused.iter().any(|known| known.title == failure.title) {
            return;
        }
        if state.refused.len() < MAX_REFUSED { state.refused.push(failure) } else { state.more_refused += 1 }
    }

    fn end(&self, failure: Failure) {
        self.lock().fatal.get_or_insert(failure);
        self.ended.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way out of one run.
#[derive(Clone)]
pub struct Gate {
    pub session: Arc<Session>,
    pub hosts: Arc<Hosts>,
    /// The source type, for messages.
    pub name: Arc<str>,
    pub observed: Arc<Observed>,
    /// The secrets of the attempt. The requests arrive on other tasks.
    pub secrets: Option<Arc<AttemptSecrets>>,
}

impl Upstream for Gate {
    fn forward(&self, request: Request) -> BoxFuture<'static, Response> {
        let gate = self.clone();
        Box::pin(async move {
            match gate.secrets.clone() {
                Some(secrets) => secrets.run(gate.answer(request)).await,
                None => gate.answer(request).await,
            }
        })
    }

    fn refused(&self, refusal: Refusal) {
        let name = &self.name;
        let failure = Failure::new(
            Class::EgressRefused,
            format!("a connection of {name} was refused: {refusal}"),
            "a connector may use HTTP and HTTPS through the proxy of AAM and nothing else; use a version that honours HTTPS_PROXY and SSL_CERT_FILE",
        );
        self.observed.refuse(failure);
    }
}

impl Gate {
    async fn answer(self, request: Request) -> Response {
        let shown = shown(&request);
        let _open = OpenRequest::new(&self.observed);
        match self.send(request).await {
            Ok(response) => {
                let mut state = self.observed.lock();
                state.sent += 1;
                state.is_refused = false;
                if response.status >= 400 {
                    let body = redact::scrub_and_cut(&excerpt(&response.body), 300);
                    state.last = Some(Obstacle::Vendor(VendorError { status: response.status, call: shown, body }));
                }
                if response.status < 400 && matches!(state.last, Some(Obstacle::Vendor(_))) {
                    state.last = None;
                }
                drop(state);
                passed_on(response)
            }
            Err(failure) => {
                let text = format!("AAM: {}", failure.title);
                match failure.class {
                    // The connector may go on without this request; what it was is reported.
                    Class::EgressRefused | Class::CredentialMissing => {
                        self.observed.refuse(failure);
                        Response::text(StatusCode::FORBIDDEN, &text)
                    }
                    _ => {
                        self.observed.end(failure);
                        Response::text(StatusCode::BAD_GATEWAY, &text)
                    }
                }
            }
        }
    }

    /// Sends the request.
    ///
    /// # Errors
    /// Returns `EgressRefused`, with method, host and path, for what is not allowed, and the failures of the session.
    async fn send(&self, request: Request) -> Result<HttpResponse, Failure> {
        let shown = shown(&request);
        let Gate { name, hosts, .. } = self;
        let refuse =
            |why: String, fix: String| Err(Failure::new(Class::EgressRefused, format!("{shown} was not sent: {why}"), fix));
        if !hosts.allow(&request.url) {
            return refuse(
                format!("the policy does not list this host for {name}"),
                format!("if {name} needs it, add the host to airbyte.connectors.{name}.hosts in the policy and have the change reviewed"),
            )
            .map_err(|failure| failure.detail(format!("hosts of {name}: {}", hosts.message())));
        }
        let fix = || {
            "use a version of the connector that only reads; AAM sends GET, HEAD and the POSTs that the policy lists".to_string()
        };
        let has_body = !request.body.is_empty();
        let method = match request.method.as_str() {
            "GET" | "HEAD" if has_body => {
                return refuse("it has a body, which AAM does not send with this method".to_string(), fix());
            }
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => {
                let Ok(body) = String::from_utf8(request.body.to_vec()) else {
                    return refuse("its body is not text, so it cannot be on the list of read-only POSTs".to_string(), fix());
                };
                Method::ListedPost(has_body.then(|| Secret::new(body)))
            }
            _ => return refuse("AAM only reads".to_string(), fix()),
        };
        // Many servers read `_` as `-`, so such a header could stand for one that is never sent.
        if let Some(name) = request.headers.keys().map(HeaderName::as_str).find(|name| name.contains('_')) {
            let why = format!("the name of its header {name} has an underscore");
            return refuse(why, "use a version of the connector whose headers have hyphens".to_string());
        }
        let is_post = matches!(method, Method::ListedPost(_));
        let headers = headers(&request.headers);
        learn_token(&headers);
        let sent = HttpRequest { method, url: request.url, headers, max_bytes: MAX_RESPONSE_BYTES, follow_redirects: false };
        let response = self.session.http(sent).await?;
        if is_post {
            learn_tokens(&response);
        }
        Ok(response)
    }
}

/// Returns method, host and path, without the query, for messages.
fn shown(request: &Request) -> String {
    let url = &request.url;
    let path = redact::scrub_and_cut(url.path(), 200);
    format!("{} {}{path}", request.method, origin_shown(url))
}

fn origin_shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn headers(sent: &HeaderMap) -> Vec<(String, Secret)> {
    let kept = sent.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str()));
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = String::from_utf8(value.as_bytes().to_vec()).ok()?;
        Some((name.as_str().to_string(), Secret::new(value)))
    };
    kept.filter_map(text).collect()
}

/// Remembers the token that a request carries, which the connector may have got from a token endpoint.
fn learn_token(headers: &[(String, Secret)]) {
    for (_, value) in headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        let token = value.expose().split_once(' ').map_or(value.expose(), |(_, token)| token).trim();
        redact::learn_long(token, MIN_TOKEN_BYTES);
    }
}

/// Remembers the tokens in the response of a token endpoint.
fn learn_tokens(response: &HttpResponse) {
    if response.body.len() > MAX_TOKEN_BODY_BYTES {
        return;
    }
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(&response.body) else { return };
    for token in TOKEN_FIELDS.iter().filter_map(|field| body.get(field)?.as_str()) {
        redact::learn_long(token, MIN_TOKEN_BYTES);
    }
}

fn passed_on(response: HttpResponse) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in &response.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
    Response { status, headers, body: response.body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_kept_once_and_bounded() {
        let observed = Observed::default();
        for number in 0..100 {
            observed.refuse(Failure::new(Class::EgressRefused, format!("POST {} was not sent", number % 20), ""));
        }
        let titles = observed.refused();
        assert_eq!(titles.len(), MAX_REFUSED + 1);
        assert!(titles.last().is_some_and(|last| last.ends_with("more")), "{titles:?}");
        assert!(matches!(observed.last(), Some(Obstacle::Refused(failure)) if failure.title == "POST 19 was not sent"));
    }

    #[test]
    fn a_connector_waits_after_a_refusal_only_if_no_request_is_open() {
        let observed = Arc::new(Observed::default());
        assert_eq!(observed.refused_last(), None);
        observed.refuse(Failure::new(Class::EgressRefused, "POST was not sent", ""));
        let first = observed.refused_last();
        assert!(first.is_some());
        let open = OpenRequest::new(&observed);
        assert_eq!(observed.refused_last(), None, "a request is open");
        drop(open);
        assert_ne!(observed.refused_last(), first, "the connector has done something");
        observed.lock().is_refused = false;
        assert_eq!(observed.refused_last(), None);
    }

    #[test]
    fn what_belongs_to_a_connection_is_not_passed_on() {
        let mut sent = HeaderMap::new();
        for (name, value) in [("authorization", "Bearer canary-77"), ("accept-encoding", "br"), ("te", "trailers"), ("x-a", "1")]
        {
            sent.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let names: Vec<String> = headers(&sent).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["authorization", "x-a"]);
    }
}
