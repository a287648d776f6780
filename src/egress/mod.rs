//! The only way out. Every byte that AAM sends to a source passes here.
//!
//! - read-only guard: GET and HEAD, and a POST that stands on the exact list of its source; anything else
//!   is refused before a socket opens
//! - SSRF guard: private, loopback, link-local and metadata addresses are refused unless the policy
//!   lists them; checked on the resolved address, for literals and after every redirect
//! - redirects by hand, on the same origin only; bodies bounded after decompression
//! - caps: per family and vendor account: rate, burst, concurrency, calls a day (durable); a source
//!   that says "later" is obeyed for the whole account
//! - breaker: per host, with one half-open probe
//! - one dialler for HTTP: straight or by the policy's proxy, never by one of the environment
//! - call log: method, host, path, status and bytes; never a credential, never a query
//!
//! A connector never opens a socket of its own: it asks a [`Session`].

mod body;
mod breaker;
mod bucket;
mod caps;
mod client;
mod dial;
mod gate;
pub mod guard;
mod log;
mod post;
mod redirect;
pub mod resolve;
mod retry;
mod send;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;

pub use crate::model::PlannedCall;
pub use post::Post;

use crate::clock::{Clock, SystemClock};
use crate::model::{Class, ConnectionId, Failure, Posts};
use crate::policy::{Cap, Policy};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Calls of one UTC day, kept where a restart cannot lose them. The registry implements it.
pub trait DayBudget: Send + Sync {
    /// Takes up to `wanted` calls from what is left of `limit` for `key` on `day`; answers how many
    /// were granted. They are durable before this returns.
    ///
    /// # Errors
    /// When the registry cannot write: then no call may happen.
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>>;
}

/// Calls of a day that are wanted at once, before the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetReservation {
    /// The key of the account's budget.
    pub account: String,
    pub day: i64,
    pub wanted: u64,
    pub limit: u64,
}

/// On whose behalf calls are made.
#[derive(Clone, Debug)]
pub struct Caller {
    pub connection: ConnectionId,
    pub family: Arc<str>,
    /// The vendor account that shares one quota: a host, a file, a tenant.
    pub account: String,
    pub cap: Cap,
    pub policy: Arc<Policy>,
    /// The POSTs that only read; for most sources none.
    pub posts: Arc<Posts>,
}

/// The methods of a [`Request`]. No variant for a write exists; for a POST see [`Session::post`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
}

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Without user info. Secrets never go into it.
    pub url: url::Url,
    /// Values may be secret; they are never logged.
    pub headers: Vec<(String, crate::credentials::Secret)>,
    /// The body is cut here and the call fails.
    pub max_bytes: u64,
    /// Follow redirects that stay on the same origin (scheme, host, port), each checked again.
    pub follow_redirects: bool,
}

/// One HTTP answer, also for 4xx and 5xx: what a status means is the connector's business.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: bytes::Bytes,
    /// The address after redirects.
    pub url: url::Url,
}

impl Answer {
    /// The first header called `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An address that passed the guard, for drivers that dial by themselves, and the right to do so.
/// The concurrency slot is held until this is dropped.
pub struct Admitted {
    pub address: SocketAddr,
    /// CachedResponse for its `Drop`.
    pub slot: Option<tokio::sync::OwnedSemaphorePermit>,
    /// Gives the breaker's probe back if the call was never settled.
    _ticket: Option<gate::Ticket>,
}

/// What went out so far, for the evidence of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    pub calls: u64,
    pub bytes: u64,
}

/// Shared by all attempts of a process.
pub struct Egress {
    pub budget: Arc<dyn DayBudget>,
    clock: Arc<dyn Clock>,
    lookup: Arc<dyn resolve::Lookup>,
    accounts: caps::Accounts,
    breakers: breaker::Breakers,
    clients: client::Clients,
}

/// The egress of one attempt.
pub struct Session {
    pub egress: Arc<Egress>,
    pub caller: Caller,
    account: Arc<caps::Account>,
    counters: log::Counters,
    /// The breaker's leave of the last admission for each host, for [`Session::settle`].
    passes: Mutex<HashMap<String, (String, breaker::Pass)>>,
}

impl Egress {
    /// One for the process, with the machine's clock and resolver.
    #[must_use]
    pub fn new(budget: Arc<dyn DayBudget>) -> Arc<Egress> {
        Egress::with(budget, Arc::new(SystemClock), Arc::new(resolve::SystemLookup))
    }

    /// One with another clock and resolver.
    #[must_use]
    pub fn with(budget: Arc<dyn DayBudget>, clock: Arc<dyn Clock>, lookup: Arc<dyn resolve::Lookup>) -> Arc<Egress> {
        let (accounts, breakers, clients) = Default::default();
        Arc::new(Egress { budget, clock, lookup, accounts, breakers, clients })
    }

    /// What must be written down before `caller` can make a call today; `None`: enough is. Who writes the
    /// beginning of an attempt down can write this in the same moment.
    #[must_use]
    pub fn lacking(&self, caller: &Caller) -> Option<BudgetReservation> {
        self.accounts.lacking(caller, self.clock.now())
    }

    /// Calls of `fund` that were written down.
    pub fn funded(&self, caller: &Caller, fund: &BudgetReservation, granted: u64) {
        self.accounts.funded(caller, fund, granted);
    }

    /// A session for one attempt on one resource.
    #[must_use]
    pub fn session(self: &Arc<Egress>, caller: Caller) -> Session {
        let account = self.accounts.account(&caller);
        Session { egress: Arc::clone(self), caller, account, counters: log::Counters::default(), passes: Mutex::default() }
    }
}

impl Session {
    /// Sends one request: guard, breaker, budget, send, log. Up to two quick retries after a cut
    /// connection or 502, 503, 504; never after a timeout. Each try uses a call of the budget.
    ///
    /// # Errors
    /// `Network`, `EgressRefused`, `BreakerOpen`, `Throttled` (also for 429, for 503 with `Retry-After` and
    /// for 403 with `Retry-After` or a spent quota), `Remote` for a body that is cut or too long and an address HTTP cannot carry,
    /// `CredentialMissing` for a header value that cannot be sent, `Misconfigured` for proxy or `ca_file`.
    pub async fn http(&self, request: Request) -> Result<Answer, Failure> {
        send::http(self, &request).await
    }

    /// Sends one POST that the list of this source names as reading only; refused before anything else
    /// happens if it does not. Redirects are not followed. It is sent again only if its entry is idempotent.
    ///
    /// # Errors
    /// `EgressRefused` for a POST off the list, with the list's name; else as [`Session::http`].
    pub async fn post(&self, post: Post) -> Result<Answer, Failure> {
        send::post(self, &post).await
    }

    /// Takes one call from the budgets, resolves `host` and checks the address, for a SQL driver.
    ///
    /// # Errors
    /// As [`Session::http`].
    pub async fn admit(&self, host: &str, port: u16) -> Result<Admitted, Failure> {
        let (mut ticket, slot) = self.gate(host, port).await?;
        let allowed = &self.caller.policy.network.allow_private;
        let resolving = tokio::time::timeout(
            client::connect_timeout(&self.caller.policy.safe_mode),
            resolve::resolve(self.egress.lookup.as_ref(), host, allowed),
        );
        let found = match resolving.await {
            Ok(Ok(found)) => found,
            Ok(Err(no)) => {
                let failure = transport::no_address(&no);
                ticket.leave(sign(Some(&failure)), &failure.title);
                return Err(failure);
            }
            Err(_) => {
                let failure = transport::Cause::NoSuchName.failure(host, "the resolver did not answer in time");
                ticket.leave(breaker::HealthSignal::Failing, &failure.title);
                return Err(failure);
            }
        };
        self.charge().await?;
        self.counters.call();
        locked(&self.passes).insert(host.to_string(), (ticket.key.clone(), ticket.pass));
        // No driver tries one address after the other; IPv4 is the one that is routed everywhere.
        match found.iter().find(|ip| ip.is_ipv4()).or(found.first()) {
            Some(ip) => Ok(Admitted { address: SocketAddr::new(*ip, port), slot: Some(slot), _ticket: Some(ticket) }),
            None => Err(transport::Cause::NoSuchName.failure(host, "the name has no address")),
        }
    }

    /// Tells breaker and log how a call that was admitted ended; `wire` is for example `postgres`.
    pub fn settle(&self, wire: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>) {
        let now = self.egress.clock.now();
        let pass = locked(&self.passes).get(host).cloned();
        if let Some((key, pass)) = pass {
            let words = failure.map(|failure| failure.title.as_str()).unwrap_or_default();
            self.egress.breakers.leave(&key, pass, sign(failure), words, now, &self.caller.policy.breaker);
        }
        self.counters.bytes(bytes);
        let error = failure.map(|failure| failure.class.as_str()).unwrap_or_default();
        log::write(&self.caller, &log::Line { method: wire, host, path: "", status: 0, bytes, took, error });
    }

    /// Takes one call from the budgets for a local file and logs it; no address is involved.
    ///
    /// # Errors
    /// `Throttled` when the day's budget of this file is spent.
    pub async fn local(&self, path: &str) -> Result<(), Failure> {
        self.account.free(&self.caller, self.egress.clock.now())?;
        let slot = self.account.enter(&self.caller).await?;
        self.charge().await?;
        self.counters.call();
        log::write(
            &self.caller,
            &log::Line { method: "READ FILE", host: "", path, status: 0, bytes: 0, took: Duration::ZERO, error: "" },
        );
        drop(slot);
        Ok(())
    }

    /// The source said "later" in words that only its connector understands: no further call goes to this
    /// account before `wait` (1 s to 24 h) has passed. Answers the failure to report.
    #[must_use]
    pub fn later(&self, wait: Duration, words: &str) -> Failure {
        self.account.park(&self.caller, wait, self.egress.clock.now(), words)
    }

    /// Calls and bytes of this session so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counters.read()
    }
}

/// What a failure says about the health of the host.
fn sign(failure: Option<&Failure>) -> breaker::HealthSignal {
    match failure.map(|failure| failure.class) {
        Some(Class::Network | Class::Remote) => breaker::HealthSignal::Failing,
        Some(Class::Throttled | Class::BreakerOpen | Class::EgressRefused | Class::Interrupted | Class::Bug) => {
            breaker::HealthSignal::Unknown
        }
        _ => breaker::HealthSignal::Alive,
    }
}

/// The value, also after a panic elsewhere: what is kept here stays whole between two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
