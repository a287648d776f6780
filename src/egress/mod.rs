//! The only way out of AAM: every request to a source goes through this module.
//!
//! - read-only guard: allows GET, HEAD, the POSTs that the source's list names exactly, and one PUT of a metadata service;
//!   refuses everything else before a socket opens
//! - SSRF guard: refuses private, loopback, link-local and metadata addresses unless the policy lists them; checks
//!   resolved addresses and IP literals, and checks again after every redirect
//! - redirects and bodies: follows redirects only to the same origin; limits the size of a body after decompression
//! - caps: limit rate, burst, concurrency and calls per day (durable) for each family and vendor account; when a source
//!   throttles, calls to the whole account stop for as long as the source asks
//! - circuit breaker: one for each host, with a single probe while it is half open
//! - replicas divide the caps of an account, and learn from each other which accounts and hosts are not called for now; what
//!   they learned outlives the process
//! - gate: refuses every call while this process cannot prove that it may call
//! - retries: repeats a call after a dropped connection, and after a gateway error for engines that do not handle
//!   errors themselves
//! - one dialer for HTTP: connects directly or through the policy's proxy; ignores proxy settings in the environment
//! - webhooks: sends messages only to the addresses of the policy's `notify`, which no connector can do
//! - call log: records method, host, path, status and bytes, but never a credential or a query string, in the log and, for
//!   the registry, with the attempt ([`CallRecorder`])
//!
//! A connector does not open sockets itself; it uses a [`Session`].

mod admission;
mod body;
mod breaker;
mod bucket;
mod caps;
mod client;
mod dial;
mod driver;
mod gate;
pub mod guard;
mod headers;
mod holders;
mod log;
mod marks;
pub mod metadata;
mod method;
mod pace;
mod pinned;
mod post;
mod recorder;
mod records;
mod redirect;
mod refusals;
pub mod resolve;
mod retry;
mod send;
mod shares;
mod signing;
pub mod statement;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;
mod webhook;

pub use crate::model::PlannedCall;
pub use body::{excerpt, is_too_long};
pub use driver::{AdmittedConnection, ConnectionTarget, DriverStatement};
pub use gate::CallPermission;
pub use holders::{AccountHolders, HeldAccount, OtherHolders};
pub use log::Traffic;
pub use marks::{AccountMark, MarkKind, MarkStore, MarkSubject};
pub use method::Method;
pub use post::encode_form;
pub use recorder::{BackgroundCalls, CallRecorder};
pub use records::ServiceRecords;
pub use retry::{MAX_WAIT, MIN_WAIT, WaitRequest, in_body as named_wait, moment, wait_request};
pub use shares::HOLD as HOLDER_LEASE;
pub use signing::Signing;
pub use webhook::WebhookPost;

use crate::clock::{Clock, SystemClock};
use crate::memory_budget::{AttemptMemory, MemoryBudget};
use crate::model::{CallPurpose, ConnectionId, Failure, Posts};
use crate::policy::{Cap, Policy};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The call budget of one UTC day. The registry implements it, so the budget survives a restart.
pub trait DayBudget: Send + Sync {
    /// Takes up to `wanted` calls from what is left of `limit` for `key` on `day`, and returns how many were granted.
    /// The grant is durable before this returns.
    ///
    /// # Errors
    /// Returns an error if the registry cannot write. The caller must not make the call in that case.
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>>;
}

/// A block of calls from one day's budget, reserved before the first of them is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetReservation {
    /// The key of the account's budget.
    pub account: String,
    pub day: i64,
    pub wanted: u64,
    pub limit: u64,
}

/// The connection and the vendor account that calls are made for, with the limits that apply to them.
#[derive(Clone, Debug)]
pub struct Caller {
    pub connection: ConnectionId,
    pub family: Arc<str>,
    pub purpose: CallPurpose,
    /// The vendor account that shares one quota, such as a host, a file or a tenant.
    pub account: String,
    pub cap: Cap,
    pub policy: Arc<Policy>,
    /// The POSTs that are allowed because they only read. This is empty for most sources.
    pub posts: Arc<Posts>,
}

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub method: Method,
    /// The URL has no user info and never holds a secret.
    pub url: url::Url,
    /// Values may be secret; they are never logged.
    pub headers: Vec<(String, crate::credentials::Secret)>,
    /// The maximum size of the response body in bytes. The call fails if the body is longer.
    pub max_bytes: u64,
    /// Whether to follow redirects to the same origin (scheme, host, port). Each target is checked again.
    pub follow_redirects: bool,
}

/// One HTTP response. 4xx and 5xx are responses too, because the connector decides what a status means.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    pub status: u16,
    /// Header names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: bytes::Bytes,
    /// The URL that sent this response, after any redirects.
    pub url: url::Url,
}

impl HttpResponse {
    /// Returns the value of the first header called `name`, which must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A PEM file with certificate authorities that only some calls trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherAuthorities {
    pub file: PathBuf,
    /// The key of the policy that names the file, for messages.
    pub policy_key: &'static str,
}

/// The egress state that all attempts in the process share.
pub struct Egress {
    pub budget: Arc<dyn DayBudget>,
    clock: Arc<dyn Clock>,
    lookup: Arc<dyn resolve::Lookup>,
    accounts: caps::Accounts,
    breakers: breaker::Breakers,
    clients: client::Clients,
    /// What outlives the process of accounts and breakers.
    marks: Arc<marks::Marks>,
    /// The accounts whose limits this process shares with others.
    holders: holders::Holders,
    /// Whether this process may make calls at all.
    gate: Arc<gate::Gate>,
    /// The bytes that all attempts of the process hold.
    pub memory: Arc<MemoryBudget>,
    /// The calls that no running attempt made, until they are recorded.
    pub background: BackgroundCalls,
}

/// Makes the calls of one attempt on one resource.
pub struct Session {
    pub egress: Arc<Egress>,
    pub caller: Caller,
    account: Arc<caps::Account>,
    counters: log::Counters,
    /// Whether a request was sent whose response did not arrive whole. See [`Session::lost_response`].
    lost_response: AtomicBool,
    /// Whether 502, 503 and 504 are retried. See [`Session::without_status_retries`].
    retries_statuses: bool,
    /// Whether a throttled response is returned. See [`Session::leaving_waits`].
    leaves_waits: bool,
    /// Whether a response whose body is too long or does not arrive whole is returned, with an empty body.
    optional_bodies: bool,
    /// The maximum number of concurrent calls. See [`Session::concurrency`].
    concurrency: usize,
    /// The bytes that the attempt holds.
    memory: Arc<AttemptMemory>,
    /// A file with certificate authorities that this session trusts in addition to those of the policy.
    authorities: Option<FurtherAuthorities>,
    /// Signs the requests, if the credential is not sent as it is.
    signing: Option<Arc<Signing>>,
    /// The breaker key and the pass of the latest admission, by host. [`Session::settle`] uses them.
    passes: Mutex<HashMap<String, (String, breaker::Pass)>>,
    /// The metadata service that this session was made for. It may call nothing else.
    metadata: Option<metadata::MetadataService>,
    /// Records the calls of the attempt that created the session.
    recorder: Option<Arc<CallRecorder>>,
    /// The bytes of the recorded statements, by host, which do not count again when their connection ends.
    statement_bytes: Mutex<HashMap<String, u64>>,
    /// The path of the local file that is read.
    local_path: Mutex<String>,
}

impl Egress {
    /// Creates an egress that uses the system clock and the system resolver.
    #[must_use]
    pub fn new(budget: Arc<dyn DayBudget>) -> Arc<Egress> {
        Egress::with(budget, Arc::new(SystemClock), Arc::new(resolve::SystemLookup))
    }

    /// Creates an egress with the given clock and resolver.
    #[must_use]
    pub fn with(budget: Arc<dyn DayBudget>, clock: Arc<dyn Clock>, lookup: Arc<dyn resolve::Lookup>) -> Arc<Egress> {
        let (marks, gate): (Arc<marks::Marks>, Arc<gate::Gate>) = Default::default();
        let (holders, memory, background) = Default::default();
        Arc::new(Egress {
            budget,
            clock,
            lookup,
            accounts: caps::Accounts::new(Arc::clone(&marks)),
            breakers: breaker::Breakers::new(Arc::clone(&marks)),
            clients: client::Clients::new(Arc::clone(&gate)),
            marks,
            holders,
            gate,
            memory,
            background,
        })
    }

    /// Returns the reservation that must be recorded before `caller` can make a call today, or `None` if enough calls
    /// are already recorded. The reservation can be recorded in the transaction that begins an attempt.
    #[must_use]
    pub fn lacking(&self, caller: &Caller) -> Option<BudgetReservation> {
        self.accounts.lacking(caller, self.clock.now())
    }

    /// Reports that `granted` calls of `reservation` have been recorded.
    pub fn funded(&self, caller: &Caller, reservation: &BudgetReservation, granted: u64) {
        self.accounts.funded(caller, reservation, granted);
    }

    /// Returns how long an attempt of `caller` that makes about `calls` calls has to wait, so that the attempts of one account
    /// begin at the pace that its rate limit allows. Nothing is called before the wait is over.
    #[must_use]
    pub fn turn(&self, caller: &Caller, calls: u32) -> Duration {
        self.accounts.account(caller).turn(caller, calls)
    }

    /// Creates a session for one attempt on one resource.
    #[must_use]
    pub fn session(self: &Arc<Egress>, caller: Caller) -> Session {
        let account = self.accounts.account(&caller);
        let (counters, passes, lost_response, statement_bytes, local_path) = Default::default();
        let concurrency = caller.cap.concurrency as usize;
        let memory = self.memory.attempt(caller.policy.reconcile.memory);
        let (retries_statuses, leaves_waits, optional_bodies, authorities) = (true, false, false, None);
        Session {
            egress: Arc::clone(self),
            caller,
            account,
            counters,
            lost_response,
            retries_statuses,
            leaves_waits,
            optional_bodies,
            concurrency,
            memory,
            authorities,
            signing: None,
            metadata: None,
            recorder: CallRecorder::current(),
            statement_bytes,
            local_path,
            passes,
        }
    }
}

impl Session {
    /// Turns off retries of 502, 503 and 504, so that a caller with its own error handler receives those responses.
    /// Dropped connections are still retried, and calls to a throttled account are still stopped.
    #[must_use]
    pub fn without_status_retries(self) -> Session {
        Session { retries_statuses: false, ..self }
    }

    /// Returns throttled responses to the caller, who knows how the vendor names its limits. The caller has to report each of
    /// them, which [`wait_request`] recognizes, with [`Session::throttled`] before it makes another call. At most 64 KiB of
    /// their bodies are read.
    #[must_use]
    pub fn leaving_waits(self) -> Session {
        Session { leaves_waits: true, ..self }
    }

    /// Trusts the certificate authorities of `authorities` in addition to those of the machine and of `network.ca_file`.
    #[must_use]
    pub fn with_authorities(self, authorities: Option<FurtherAuthorities>) -> Session {
        Session { authorities, ..self }
    }

    /// Limits the connector to `concurrency` calls at the same time, because other connectors of the same attempt run
    /// concurrently.
    #[must_use]
    pub fn with_concurrency(self, concurrency: usize) -> Session {
        Session { concurrency, ..self }
    }

    /// Counts the memory of this session with that of the other resources of its attempt.
    #[must_use]
    pub fn with_memory(self, memory: Arc<AttemptMemory>) -> Session {
        Session { memory, ..self }
    }

    /// Signs every request to the origin of the signer.
    #[must_use]
    pub fn with_signing(self, signing: Option<Arc<Signing>>) -> Session {
        Session { signing, ..self }
    }

    /// Returns the account of the bytes that the attempt holds.
    #[must_use]
    pub fn memory(&self) -> &Arc<AttemptMemory> {
        &self.memory
    }

    /// Returns how many independent calls the connector may make at the same time. This is the account's cap unless it
    /// was lowered.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Checks one request against the guard, the breaker and the budget, sends it, and logs it. A dropped connection is
    /// retried up to twice. So are 502, 503 and 504, unless this session leaves status codes to its caller. A timeout
    /// is never retried. Each try uses one call of the budget. The memory of the body is reserved while it is received;
    /// if it is not free, the response is discarded, and the call is made again once it is.
    ///
    /// # Errors
    /// Returns `Network` if no response arrived; `EgressRefused` if the guard refuses the address or the POST is not on
    /// the list; `BreakerOpen`; `Throttled` if a budget is used up, or for 429, for 503 with `Retry-After`, and for 403
    /// with `Retry-After` or a used-up quota; `Remote` for a body that is cut off or too long and for a URL that is not
    /// valid in HTTP; `CredentialMissing` for a header value that is not valid; `Misconfigured` if the proxy or
    /// `ca_file` cannot be used, or if the response needs more memory than one attempt may use.
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        send::http(self, request).await
    }

    /// Whether a request of this session may have arrived at the server although its response did not arrive whole. For a
    /// caller that must not send the same request twice.
    #[must_use]
    pub fn lost_response(&self) -> bool {
        self.lost_response.load(Ordering::Relaxed)
    }

    /// Reports throttling that only the connector can recognize. No call is made to this account until `wait` (1 s to
    /// 24 h) has passed. Returns the failure to report, with `reason` as its detail.
    #[must_use]
    pub fn throttled(&self, wait: Duration, reason: &str) -> Failure {
        self.account.park(&self.caller, wait, self.egress.clock.now(), reason)
    }

    /// Reports that AAM has used its own share of the source's limit, which the source did not ask for. Otherwise like
    /// [`Session::throttled`].
    #[must_use]
    pub fn share_used(&self, wait: Duration, reason: &str) -> Failure {
        self.account.park_for_share(&self.caller, wait, self.egress.clock.now(), reason)
    }

    /// Whether `request` can be sent twice without changing anything: a GET, a HEAD, or a POST whose rule says so.
    #[must_use]
    pub fn is_idempotent(&self, request: &HttpRequest) -> bool {
        match request.method {
            Method::Get | Method::Head => true,
            Method::ListedPost(_) => post::permit(&self.caller.posts, request).is_ok_and(|permit| permit.idempotent),
            Method::MetadataToken => false,
        }
    }

    /// Returns the calls and bytes of this session so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counters.read()
    }
}

/// Locks `mutex` even if another holder panicked. This is safe because no critical section in this module leaves the
/// value inconsistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
