//! The outside of the interpreter: the egress of one attempt of the daemon, or of one command of a person.
//!
//! A failure of egress travels through the interpreter in `NoReply::source` and comes back as it was. The
//! last answer of each stream is kept: grants stand in headers, and errors in shapes that no manifest knows.

use super::family_spec::Limit;
use super::limits::Windows;
use crate::clock::Clock;
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, Session};
use crate::model::{Class, Failure};
use ::lowcode::host::{Call, Host, NoReply, NoReplyKind, Purpose, Reply};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::{Position, Url};

/// How often a source may say "later" to one call of a person.
const LATERS: u32 = 5;
/// What is kept of the body of the last answer of a stream.
const KEPT: usize = 256 << 10;
/// Headers that the client itself writes.
const OWN: [&str; 5] = ["user-agent", "accept-encoding", "content-length", "host", "connection"];

/// An answer, kept for the verdicts after it.
#[derive(Clone, Debug)]
pub struct CachedResponse {
    pub status: u16,
    pub headers: Arc<[(String, String)]>,
    pub body: Bytes,
    pub url: String,
}

impl CachedResponse {
    /// The first header called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerMode {
    /// The daemon: it gives the attempt back instead of waiting, and comes again by itself.
    Daemon,
    /// A person at a terminal: waits for the source, and may send what the manifest puts into an address.
    Person,
}

impl CallerMode {
    /// A longer wait ends the command.
    fn longest_pause(self) -> Duration {
        match self {
            CallerMode::Daemon => Duration::from_secs(3),
            CallerMode::Person => Duration::from_secs(30),
        }
    }
}

/// What a host needs besides the session.
pub struct Rules {
    pub manner: CallerMode,
    /// Origins that data may come from. A POST goes by its own list.
    pub origins: BTreeSet<String>,
    pub limits: Vec<Limit>,
    pub windows: Arc<Windows>,
    /// Whose quota the calls use.
    pub account: String,
    /// The manifest's spec says what is secret; else every text of the credential is, but for known names.
    pub secrets_by_spec: bool,
    /// The most that is read of one answer.
    pub max_bytes: u64,
}

/// The host of one open resource.
pub struct SessionHost {
    session: Session,
    clock: Arc<dyn Clock>,
    rules: Rules,
    /// The origins of the rules, read.
    homes: Vec<Url>,
    kept: Mutex<Answers>,
}

/// The last answer of each stream, and the last of all.
#[derive(Default)]
struct Answers {
    streams: BTreeMap<String, Arc<CachedResponse>>,
    last: Option<Arc<CachedResponse>>,
}

impl SessionHost {
    /// A host over `session`. Statuses are retried by the manifest's error handler and not by egress as well.
    #[must_use]
    pub fn new(session: Session, clock: Arc<dyn Clock>, rules: Rules) -> SessionHost {
        let homes = rules.origins.iter().filter_map(|origin| Url::parse(origin).ok()).collect();
        SessionHost { session: session.without_status_retries(), clock, rules, homes, kept: Mutex::default() }
    }

    /// The last answer that `stream` got.
    #[must_use]
    pub fn kept(&self, stream: &str) -> Option<Arc<CachedResponse>> {
        self.locked().streams.get(stream).cloned()
    }

    /// The answer that made `stream` fail with `status`: its own, or the last one, which a token call of it got.
    #[must_use]
    pub fn cause(&self, stream: &str, status: Option<u16>) -> Option<Arc<CachedResponse>> {
        let all = self.locked();
        let fits = |kept: &&Arc<CachedResponse>| status.is_none_or(|status| kept.status == status);
        all.streams.get(stream).filter(fits).or_else(|| all.last.as_ref().filter(fits)).cloned()
    }

    /// Calls and bytes so far.
    #[must_use]
    pub fn traffic(&self) -> crate::egress::Traffic {
        self.session.traffic()
    }

    /// The source said "later" in its own words; parks the whole account.
    #[must_use]
    pub fn throttled(&self, wait: Duration, words: &str) -> Failure {
        self.session.throttled(wait, words)
    }

    fn locked(&self) -> MutexGuard<'_, Answers> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends; for a person again after the wait that the source asked for. Egress keeps such an answer to itself, so
    /// no error handler of the manifest sees it.
    async fn patiently(&self, call: Call) -> Result<HttpResponse, Failure> {
        if self.rules.manner == CallerMode::Daemon {
            return self.sent(call).await;
        }
        for _ in 1..LATERS {
            match self.sent(call.clone()).await {
                Err(failure) if failure.class == Class::Throttled => {
                    let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(u64::MAX));
                    if wait > self.rules.manner.longest_pause() {
                        return Err(failure);
                    }
                    // A little more: the account is free when the time is over.
                    tokio::time::sleep(wait + Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
        self.sent(call).await
    }

    /// What is told where no answer came: a person reads what to do next at once.
    fn no_reply(&self, failure: Failure) -> NoReply {
        let detail = if failure.detail.is_empty() { String::new() } else { format!(" ({})", failure.detail) };
        let message = match self.rules.manner {
            CallerMode::Daemon => failure.title.clone(),
            CallerMode::Person => format!("{}{detail}; {}", failure.title, failure.fix),
        };
        // Egress has tried what is worth another try: the command ends.
        NoReply { kind: NoReplyKind::Refused, message, source: Some(Arc::new(failure)) }
    }

    async fn sent(&self, call: Call) -> Result<HttpResponse, Failure> {
        let below = self.homes.iter().find_map(|home| below(home, &call.url));
        let url = below.map_or_else(|| Url::parse(&call.url), Ok).map_err(|error| {
            Failure::new(
                Class::Misconfigured,
                "the manifest makes an address that is none",
                "see url_base and path of its requester",
            )
            .detail(redact::scrub(&format!("{error}: {}", call.url)))
        })?;
        let known = !self.rules.secrets_by_spec && redact::scrub(url.as_str()) != url.as_str();
        if self.rules.manner == CallerMode::Daemon && (call.secret_in_url || known) {
            return Err(secret_in(&url));
        }
        let headers = call
            .headers
            .into_iter()
            .filter(|(name, _)| !OWN.iter().any(|own| name.eq_ignore_ascii_case(own)))
            .map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value)))
            .collect();
        let max_bytes = self.rules.max_bytes;
        let method = match call.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => {
                let body = call
                    .body
                    .map(String::from_utf8)
                    .transpose()
                    .map_err(|_| not_read_only(&url, "POST of bytes that are no text"))?;
                let method = Method::ListedPost(body.map(Secret::new));
                return self.session.http(HttpRequest { method, url, headers, max_bytes, follow_redirects: false }).await;
            }
            other => return Err(not_read_only(&url, other)),
        };
        if call.body.is_some_and(|body| !body.is_empty()) {
            return Err(not_read_only(&url, &format!("{} with a body", call.method)));
        }
        if !self.is_home(&url) {
            return Err(elsewhere(&url, &self.rules.origins));
        }
        self.session.http(HttpRequest { method, url, headers, max_bytes, follow_redirects: true }).await
    }

    /// Whether data may come from there.
    fn is_home(&self, url: &Url) -> bool {
        let origins = &self.rules.origins;
        // Without user info, what stands before the path is the origin as it is written.
        let plain = url.username().is_empty() && url.password().is_none();
        (plain && origins.contains(&url[..Position::BeforePath])) || origins.contains(&url.origin().ascii_serialization())
    }

    /// Counts the call against the vendor's own budget; a spent share parks the account for the next call.
    fn count(&self, answer: &HttpResponse) {
        for limit in &self.rules.limits {
            if let Some(spent) = self.rules.windows.count(limit, &self.rules.account, &answer.headers, self.clock.now()) {
                // This answer is good; the failure is for whoever comes next.
                let _ = self.session.throttled(spent.wait, &spent.words);
            }
        }
    }

    fn keep(&self, stream: String, reply: &Reply) {
        // A copy of the beginning: a slice would hold the whole answer.
        let body = reply.body.get(..KEPT).map_or_else(|| reply.body.clone(), Bytes::copy_from_slice);
        let kept = CachedResponse { status: reply.status, headers: Arc::clone(&reply.headers), body, url: reply.url.clone() };
        let kept = Arc::new(kept);
        let mut all = self.locked();
        all.last = Some(Arc::clone(&kept));
        match all.streams.get_mut(&stream) {
            Some(before) => *before = kept,
            None => drop(all.streams.insert(stream, kept)),
        }
    }
}

impl Host for SessionHost {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, NoReply>> {
        Box::pin(async move {
            let (stream, token) = (call.stream.clone(), call.purpose == Purpose::Token);
            let answer = self.patiently(call).await.map_err(|failure| self.no_reply(failure))?;
            if token {
                learn(&answer.body);
            }
            self.count(&answer);
            let HttpResponse { status, headers, body, url } = answer;
            let reply = Reply { status, headers: headers.into(), body, url: url.into() };
            self.keep(stream, &reply);
            Ok(reply)
        })
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.clock.now().0).unwrap_or_default()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), NoReply>> {
        Box::pin(async move {
            if wait > self.rules.manner.longest_pause() {
                return Err(self.no_reply(self.session.throttled(wait, "the source asked to wait")));
            }
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    fn uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// `address` read without its host, which is that of `home`; `None` where this might be another than `Url::parse` reads.
fn below(home: &Url, address: &str) -> Option<Url> {
    let path = address.strip_prefix(&home[..Position::BeforePath])?;
    let mut bytes = path.bytes();
    // After `//`, and what the parser takes for it, another host begins.
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    let is_path = bytes.next() == Some(b'/') && bytes.next().is_none_or(plain);
    if is_path { home.join(path).ok() } else { None }
}

/// The failure of egress that ended a command, as it was.
#[must_use]
pub fn failure_of(no_reply: &NoReply) -> Option<Failure> {
    no_reply.source.as_ref()?.downcast_ref::<Failure>().cloned()
}

/// The texts of a token's answer are secrets, whatever their keys are called.
fn learn(body: &[u8]) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) else { return };
    for value in fields.values().filter_map(serde_json::Value::as_str) {
        // Words such as `bearer` or a list of scopes hide nothing.
        if value.len() >= 16 && !value.contains(char::is_whitespace) && value.bytes().any(|byte| byte.is_ascii_digit()) {
            redact::learn_value(value);
        }
    }
}

fn secret_in(url: &Url) -> Failure {
    Failure::new(
        Class::EgressRefused,
        format!("{} was not called: the manifest puts a secret into the address", url.host_str().unwrap_or_default()),
        "logs and proxies keep addresses: change the manifest so that the secret goes into a header or a body",
    )
}

fn not_read_only(url: &Url, what: &str) -> Failure {
    Failure::new(
        Class::EgressRefused,
        format!(
            "{} {} was not sent: aam only reads",
            what.chars().take(60).collect::<String>(),
            url.host_str().unwrap_or_default()
        ),
        "take the call out of the manifest, or use GET",
    )
}

fn elsewhere(url: &Url, origins: &BTreeSet<String>) -> Failure {
    let home: Vec<&str> = origins.iter().map(String::as_str).collect();
    Failure::new(
        Class::EgressRefused,
        format!(
            "{} was not called: the source sends AAM there, and its credential is for {}",
            url.origin().ascii_serialization(),
            home.join(", ")
        ),
        "if the API really has several hosts, list them: hosts of the source under manifests.sources in the policy; else name the right address",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// The short way finds what the long way finds.
        #[test]
        fn an_address_below_home_is_read_as_a_whole_one(
            home in "https?://(a\\.b|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]{2})?",
            path in "(/|\\\\|[a-z0-9.%?#@: \t\n]|\\.\\.){0,8}",
        ) {
            let home = Url::parse(&home).unwrap();
            let address = format!("{}{path}", &home[..Position::BeforePath]);
            if let Some(url) = below(&home, &address) {
                prop_assert_eq!(Ok(url), Url::parse(&address));
            }
        }
    }

    #[test]
    fn another_host_is_not_below() {
        let home = Url::parse("https://api.acme.example").unwrap();
        assert_eq!(below(&home, "https://api.acme.example/v1/x?y=1#z").unwrap().as_str(), "https://api.acme.example/v1/x?y=1#z");
        assert_eq!(below(&home, "https://api.acme.example/").unwrap().as_str(), "https://api.acme.example/");
        for other in
            ["//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil", ".evil.example/", "@evil.example/", ":81/x", ""]
        {
            assert_eq!(below(&home, &format!("https://api.acme.example{other}")), None, "{other:?}");
        }
    }
}
