//! The only way out: everything that AAM sends to a source passes here.
//!
//! - read-only guard: GET and HEAD, and a POST that is on the exact list of its source; anything else
//!   is refused before a socket opens
//! - SSRF guard: private, loopback, link-local and metadata addresses are refused unless the policy
//!   lists them; the resolved address is checked, also for literals and after every redirect
//! - redirects are followed only to the same origin; bodies are bounded after decompression
//! - caps: per family and vendor account: rate, burst, concurrency, calls a day (durable); a source
//!   that throttles is left alone for as long as it asks, for the whole account
//! - circuit breaker: per host, with one probe while it is half open
//! - retries: a connection that was cut, and a gateway error for engines without an error handler of their own
//! - one dialer for HTTP: direct or through the policy's proxy, never through one of the environment
//! - call log: method, host, path, status and bytes; never a credential, never a query
//!
//! A connector never opens a socket of its own: it uses a [`Session`].

mod admission;
mod body;
mod breaker;
mod bucket;
mod caps;
mod client;
mod dial;
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

use crate::clock::{Clock, SystemClock};
use crate::model::{Class, ConnectionId, Failure, Posts};
use crate::policy::{Cap, Policy};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The call budget of one UTC day, kept where a restart cannot lose it. The registry implements it.
pub trait DayBudget: Send + Sync {
    /// Takes up to `wanted` calls from what is left of `limit` for `key` on `day`, and returns how many
    /// were granted. They are durable before this returns.
    ///
    /// # Errors
    /// If the registry cannot write. Then no call may be made.
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>>;
}

/// Calls of a day that are reserved together, before the first of them is made.
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
    /// The POSTs that only read. Most sources have none.
    pub posts: Arc<Posts>,
}

/// What a request does. There is no variant for a write.
#[derive(Clone, Debug)]
pub enum Method {
    Get,
    Head,
    /// A POST that only reads, with its body. It is refused before a socket opens unless the list of the caller names
    /// exactly this address and body. Redirects are not followed, and it is sent again only if its rule is idempotent.
    /// The body may hold a secret, as token requests do.
    ListedPost(Option<crate::credentials::Secret>),
}

impl Method {
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::ListedPost(_) => "POST",
        }
    }
}

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub method: Method,
    /// Without user info. It never holds a secret.
    pub url: url::Url,
    /// Values may be secret; they are never logged.
    pub headers: Vec<(String, crate::credentials::Secret)>,
    /// A longer body makes the call fail.
    pub max_bytes: u64,
    /// Follow redirects that stay on the same origin (scheme, host, port), each checked again.
    pub follow_redirects: bool,
}

/// One HTTP response, also for 4xx and 5xx: the connector decides what a status means.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: bytes::Bytes,
    /// The URL after redirects.
    pub url: url::Url,
}

impl HttpResponse {
    /// The first header called `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An address that passed the guard, and the permission to connect to it, for drivers that connect by themselves.
/// The concurrency slot is held until this is dropped.
pub struct AdmittedConnection {
    pub address: SocketAddr,
    /// Held for its `Drop`.
    pub slot: Option<tokio::sync::OwnedSemaphorePermit>,
    /// Gives the breaker's probe back if the call was never settled.
    _admission: Option<admission::Admission>,
}

/// Calls and received bytes so far, for the evidence of a step.
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
    /// See [`Session::without_status_retries`].
    retries_statuses: bool,
    /// See [`Session::concurrency`].
    concurrency: usize,
    /// The breaker's pass of the last admission of each host, for [`Session::settle`].
    passes: Mutex<HashMap<String, (String, breaker::Pass)>>,
}

impl Egress {
    /// An egress with the clock and the resolver of the machine.
    #[must_use]
    pub fn new(budget: Arc<dyn DayBudget>) -> Arc<Egress> {
        Egress::with(budget, Arc::new(SystemClock), Arc::new(resolve::SystemLookup))
    }

    /// An egress with another clock and resolver.
    #[must_use]
    pub fn with(budget: Arc<dyn DayBudget>, clock: Arc<dyn Clock>, lookup: Arc<dyn resolve::Lookup>) -> Arc<Egress> {
        let (accounts, breakers, clients) = Default::default();
        Arc::new(Egress { budget, clock, lookup, accounts, breakers, clients })
    }

    /// What must be recorded before `caller` can make a call today; `None` if enough calls are recorded. It can be
    /// recorded in the same transaction as the beginning of an attempt.
    #[must_use]
    pub fn lacking(&self, caller: &Caller) -> Option<BudgetReservation> {
        self.accounts.lacking(caller, self.clock.now())
    }

    /// Tells that `granted` calls of `reservation` were recorded.
    pub fn funded(&self, caller: &Caller, reservation: &BudgetReservation, granted: u64) {
        self.accounts.funded(caller, reservation, granted);
    }

    /// A session for one attempt on one resource.
    #[must_use]
    pub fn session(self: &Arc<Egress>, caller: Caller) -> Session {
        let account = self.accounts.account(&caller);
        let (counters, passes) = Default::default();
        let concurrency = caller.cap.concurrency as usize;
        Session { egress: Arc::clone(self), caller, account, counters, retries_statuses: true, concurrency, passes }
    }
}

impl Session {
    /// The same session without retries of 502, 503 and 504: they are returned as they are, for a caller that has an
    /// error handler of its own. A connection that was cut is still retried, and a throttled account is still left alone.
    #[must_use]
    pub fn without_status_retries(self) -> Session {
        Session { retries_statuses: false, ..self }
    }

    /// The same session for a connector that makes at most `concurrency` calls at the same time, because connectors of
    /// the same attempt run beside it.
    #[must_use]
    pub fn with_concurrency(self, concurrency: usize) -> Session {
        Session { concurrency, ..self }
    }

    /// How many calls that do not depend on each other the connector makes at the same time. Unless it was lowered, this
    /// is the cap of the account.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Sends one request: guard, breaker, budget, send, log. It is retried up to twice after a connection that was cut
    /// and, unless this session leaves statuses to its caller, after 502, 503 and 504; never after a timeout. Each try
    /// uses a call of the budget.
    ///
    /// # Errors
    /// `Network`; `EgressRefused`, also for a POST that is not on the list; `BreakerOpen`; `Throttled`, also for 429,
    /// for 503 with `Retry-After` and for 403 with `Retry-After` or a used-up quota; `Remote` for a body that is cut off
    /// or too long and for a URL that is not valid in HTTP; `CredentialMissing` for a header value that is not valid;
    /// `Misconfigured` for the proxy or `ca_file`.
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        send::http(self, request).await
    }

    /// Takes one call from the budgets, resolves `host` and checks the address, for a SQL driver.
    ///
    /// # Errors
    /// As [`Session::http`].
    pub async fn admit(&self, host: &str, port: u16) -> Result<AdmittedConnection, Failure> {
        let (mut admission, slot) = self.request_admission(host, port).await?;
        let allowed = &self.caller.policy.network.allow_private;
        let resolving = tokio::time::timeout(
            client::connect_timeout(&self.caller.policy.safe_mode),
            resolve::resolve(self.egress.lookup.as_ref(), host, allowed),
        );
        let found = match resolving.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let failure = transport::no_address(&error);
                admission.leave(health_signal(Some(&failure)), &failure.title);
                return Err(failure);
            }
            Err(_) => {
                let failure = transport::Cause::NoSuchName.failure(host, "the resolver did not answer in time");
                admission.leave(breaker::HealthSignal::Failing, &failure.title);
                return Err(failure);
            }
        };
        self.charge().await?;
        self.counters.call();
        locked(&self.passes).insert(host.to_string(), (admission.key.clone(), admission.pass));
        // The drivers try one address only, and IPv4 is routed everywhere.
        match found.iter().find(|ip| ip.is_ipv4()).or(found.first()) {
            Some(ip) => {
                Ok(AdmittedConnection { address: SocketAddr::new(*ip, port), slot: Some(slot), _admission: Some(admission) })
            }
            None => Err(transport::Cause::NoSuchName.failure(host, "the name has no address")),
        }
    }

    /// Tells breaker and log how an admitted call ended; `protocol` is for example `postgres`.
    pub fn settle(&self, protocol: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>) {
        let now = self.egress.clock.now();
        let pass = locked(&self.passes).get(host).cloned();
        if let Some((key, pass)) = pass {
            let reason = failure.map(|failure| failure.title.as_str()).unwrap_or_default();
            self.egress.breakers.leave(&key, pass, health_signal(failure), reason, now, &self.caller.policy.breaker);
        }
        self.counters.bytes(bytes);
        let error = failure.map(|failure| failure.class.as_str()).unwrap_or_default();
        log::write(&self.caller, &log::CallEvent { method: protocol, host, path: "", status: 0, bytes, took, error });
    }

    /// Takes one call from the budgets for a local file and logs it.
    ///
    /// # Errors
    /// `Throttled` if the budget of the day for this file is used up.
    pub async fn local(&self, path: &str) -> Result<(), Failure> {
        self.account.free(&self.caller, self.egress.clock.now())?;
        let slot = self.account.enter(&self.caller).await?;
        self.charge().await?;
        self.counters.call();
        log::write(
            &self.caller,
            &log::CallEvent { method: "READ FILE", host: "", path, status: 0, bytes: 0, took: Duration::ZERO, error: "" },
        );
        drop(slot);
        Ok(())
    }

    /// Tells that the source throttles, in a form that only its connector understands: no call goes to this account
    /// before `wait` (1 s to 24 h) has passed. Returns the failure to report, with `reason` as its detail.
    #[must_use]
    pub fn throttled(&self, wait: Duration, reason: &str) -> Failure {
        self.account.park(&self.caller, wait, self.egress.clock.now(), reason)
    }

    /// Calls and bytes of this session so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counters.read()
    }
}

/// What a failure says about the health of the host.
fn health_signal(failure: Option<&Failure>) -> breaker::HealthSignal {
    match failure.map(|failure| failure.class) {
        Some(Class::Network | Class::Remote) => breaker::HealthSignal::Failing,
        Some(Class::Throttled | Class::BreakerOpen | Class::EgressRefused | Class::Interrupted | Class::Bug) => {
            breaker::HealthSignal::Unknown
        }
        _ => breaker::HealthSignal::Alive,
    }
}

/// Locks `mutex`, also after a panic of another holder: no statement here leaves its value inconsistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
