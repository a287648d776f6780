//! The only way out. Every byte that AAM sends to a source passes here.
//!
//! - read-only guard: GET and HEAD; anything else is refused before a socket opens
//! - SSRF guard: private, loopback, link-local and metadata addresses are refused unless the policy
//!   lists them; checked on the resolved address, for literals and after every redirect
//! - caps: per family and vendor account: rate, burst, concurrency, calls a day (durable)
//! - breaker: per host, with one half-open probe
//! - call log: method, host, path, status and bytes; never a credential, never a query
//!
//! A connector never opens a socket of its own: it asks a [`Session`].

use crate::model::{ConnectionId, Failure};
use crate::policy::{Cap, Policy};
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Calls of one UTC day, kept where a restart cannot lose them. The registry implements it.
pub trait DayBudget: Send + Sync {
    /// Takes up to `wanted` calls from what is left of `limit` for `key` on `day`; answers how many
    /// were granted. They are durable before this returns.
    ///
    /// # Errors
    /// When the registry cannot write: then no call may happen.
    fn take<'a>(
        &'a self,
        key: &'a str,
        day: i64,
        wanted: u64,
        limit: u64,
    ) -> BoxFuture<'a, Result<u64, String>>;
}

/// On whose behalf calls are made.
#[derive(Clone, Debug)]
pub struct Caller {
    pub connection: ConnectionId,
    pub family: &'static str,
    /// The vendor account that shares one quota: a host, a file, a tenant.
    pub account: String,
    pub cap: Cap,
    pub policy: Arc<Policy>,
}

/// The methods there are. No variant for a write exists.
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
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// An address that passed the guard, for drivers that dial by themselves, and the right to do so.
/// The concurrency slot is held until this is dropped.
pub struct Admitted {
    pub address: SocketAddr,
    /// Kept for its `Drop`.
    pub slot: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// What went out so far, for the evidence of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    pub calls: u64,
    pub bytes: u64,
}

/// A call that `aam plan` announces.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedCall {
    /// `GET`, `HEAD`, `SQL READ ONLY`, `READ FILE`.
    pub method: String,
    pub host: String,
    pub path: String,
}

/// Shared by all attempts of a process.
pub struct Egress {
    pub budget: Arc<dyn DayBudget>,
}

/// The egress of one attempt.
pub struct Session {
    pub egress: Arc<Egress>,
    pub caller: Caller,
}

impl Egress {
    /// One for the process.
    #[must_use]
    pub fn new(budget: Arc<dyn DayBudget>) -> Arc<Egress> {
        Arc::new(Egress { budget })
    }

    /// A session for one attempt on one resource.
    #[must_use]
    pub fn session(self: &Arc<Egress>, caller: Caller) -> Session {
        Session {
            egress: Arc::clone(self),
            caller,
        }
    }
}

impl Session {
    /// Sends one request: budget, guard, breaker, send, log.
    ///
    /// # Errors
    /// `Network`, `EgressRefused`, `BreakerOpen`, `Throttled` (also for 429 and 503 with `Retry-After`),
    /// `Remote` for a body that is cut or too long.
    pub async fn http(&self, request: Request) -> Result<Answer, Failure> {
        Err(unbuilt(&format!("{:?}", request.method)))
    }

    /// Takes one call from the budgets, resolves `host` and checks the address, for a SQL driver.
    ///
    /// # Errors
    /// As [`Session::http`].
    pub async fn admit(&self, host: &str, port: u16) -> Result<Admitted, Failure> {
        Err(unbuilt(&format!("{host}:{port}")))
    }

    /// Tells breaker and log how a call that was admitted ended; `wire` is for example `postgres`.
    pub fn settle(
        &self,
        wire: &str,
        host: &str,
        bytes: u64,
        took: Duration,
        failure: Option<&Failure>,
    ) {
        let _ = (wire, host, bytes, took, failure);
    }

    /// Takes one call from the budgets for a local file and logs it; no address is involved.
    ///
    /// # Errors
    /// `Throttled` when the day's budget of this file is spent.
    pub async fn local(&self, path: &str) -> Result<(), Failure> {
        Err(unbuilt(path))
    }

    /// Calls and bytes of this session so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

fn unbuilt(what: &str) -> Failure {
    Failure::new(
        crate::model::Class::Bug,
        format!("egress is not built yet: {what}"),
        "",
    )
}
